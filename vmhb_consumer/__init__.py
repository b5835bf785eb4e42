"""The control plane: what Nova says, and what workers say, brought to whom it concerns."""
