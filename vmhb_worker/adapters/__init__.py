"""Everything that touches the outside of a compute node, one adapter each. None imports another."""
