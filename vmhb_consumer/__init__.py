"""The control plane's half: what Nova says, and what workers say, brought to whom it concerns."""
