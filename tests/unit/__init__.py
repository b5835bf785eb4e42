"""No sleeping, no patching, no network: fakes are in tests/fakes.py."""
