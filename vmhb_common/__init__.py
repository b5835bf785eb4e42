"""What the worker, the consumer and the hooks in other services share. Imports none of them."""
