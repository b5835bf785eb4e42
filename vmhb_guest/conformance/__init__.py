"""The conformance kit: plays the host against any guest agent, and says rule by rule what passed."""
