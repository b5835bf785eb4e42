"""What tests, demo and benchmarks put on the lab's stage: a real worker process, and a consumer beside it.

Needs the project's environment, unlike `tests.lab`, which knows nothing of heartbeats.
"""
