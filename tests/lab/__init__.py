"""The lab: a real libvirtd, real QEMU guests and a real RabbitMQ, private to whoever starts them.

Functional tests, the demo and the benchmarks share it. It needs nothing but Python's standard
library, root, and Debian packages (``requirements.py`` names them); it knows nothing of the worker
or the consumer, so it can't agree with their mistakes.

Two rules hold for everything here:

* nothing outlives its owner, the Python process that started it, however that process ends
  (``keeper.py``);
* nothing that we did not start is signalled, configured or written to: a libvirtd or RabbitMQ of
  the machine's own may run beside the lab.
"""
