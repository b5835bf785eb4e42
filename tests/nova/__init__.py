"""Inside a real Nova: its API, its scheduler, its compute manager and its libvirt driver, over its own fake of libvirt.

Runs in an environment of its own (`tools/test nova`), since Nova wants other releases than we do.
"""

import os

# As nova-compute of 2026.2 does it, with native threads; Nova's own tests ask the environment. 0 would be eventlet.
os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "1")

# Before anything else that Nova brings.
from nova import monkey_patch

monkey_patch.patch()
