"""The loop that owns the state of all instances, and what belongs to its thread."""
