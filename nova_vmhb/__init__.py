"""What runs inside Nova (validators in nova-api, the driver hook in nova-compute) and beside it (the consumer).

Nova is the host's: it is imported, never installed with us. Of the worker, only its contracts are used.
"""
