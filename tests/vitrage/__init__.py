"""Inside a real Vitrage, in this process: its driver, transformer, processor and graph, over oslo.messaging's fake://."""
