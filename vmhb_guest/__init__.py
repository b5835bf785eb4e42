"""vmhb-guest: answers for a virtual machine's applications. Standard library only, Python 3.8 or later.

Runs in the guest. Imports nothing else of nova-vmhb, and nothing of nova-vmhb imports it.
"""

__version__ = "1.0.0"
