"""Fuzzing, guided by coverage: `python -m tests.fuzz`."""
