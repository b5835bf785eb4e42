"""Shared by the tools: standard library only, since it runs before there is anything else."""
