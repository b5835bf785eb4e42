"""Measurements that are compared within one run. How to run them: README.rst."""
