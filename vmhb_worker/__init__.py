"""The per-compute-node worker of nova-vmhb. Never imports nova."""
