"""Who is told of faults: one module for each backend. `base` is the contract, `log` the simplest that keeps it."""
