"""Programs that are neither the worker's nor the consumer's."""
