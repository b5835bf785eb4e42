"""Inside a real Nova: its API, its scheduler, its compute manager and its libvirt driver, over its own fake of libvirt.

Runs in environments of its own (`tools/test nova nova-33 nova-32`), one for each release, since Nova wants other
releases of what we share than we do.
"""

import os
from importlib.metadata import version

# As this release's nova-compute does it: with native threads from 2026.2 on (34), with eventlet before.
# Nova's own tests ask the environment; 0 is eventlet.
_THREADS = int(version("nova").partition(".")[0]) >= 34
os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "1" if _THREADS else "0")

# Before anything else that Nova brings.
from nova import monkey_patch  # noqa: E402

monkey_patch.patch()
