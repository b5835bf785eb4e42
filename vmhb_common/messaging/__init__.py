"""Message brokers: sending, listening, and what is wrong with one."""
