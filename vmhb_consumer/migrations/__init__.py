"""The steps from one revision of the consumer's tables to the next, for alembic. `env.py` runs them; `steps.py` is what
they are made of."""
