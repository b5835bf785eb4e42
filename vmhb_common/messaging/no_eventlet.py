"""Importing OpenStack's libraries without eventlet. Knows nothing of what they are then used for.

oslo.messaging, and oslo.versionedobjects with it, import eventlet wherever it is installed: oslo.service loads its
eventlet backend unless another one was chosen before, futurist and oslo.utils try it, and with that oslo.log (of
2025.2 and 2026.1). Nothing of ours runs on
eventlet, and Nova refuses processes that mix it with threads.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: These look for eventlet once, while they are imported. Afterwards they are in `sys.modules` and look no more.
_CURIOUS = ("oslo_messaging", "oslo_messaging._drivers.impl_rabbit", "oslo_messaging._drivers.impl_fake")


@contextmanager
def without_eventlet() -> Iterator[None]:
    """Import what stands in the block, and oslo.messaging, with eventlet out of sight. At import time only.

    Changes nothing in a process that has imported eventlet before us, since it made its choice: we are guests there.
    Nor where oslo.service has no threading backend to offer (before 4.2, or without its extra `threading`): then the
    libraries find eventlet, which is harmless as long as nobody monkey-patches.
    """
    if "eventlet" in sys.modules or not _threads_available():
        yield
        return
    sys.modules["eventlet"] = None  # type: ignore[assignment] # documented: makes `import eventlet` an ImportError
    try:
        for name in _CURIOUS:
            importlib.import_module(name)
        yield
    finally:
        del sys.modules["eventlet"]


def _threads_available() -> bool:
    """Ask oslo.service for threads, if it has them and nobody asked for anything else."""
    if importlib.util.find_spec("cotyledon") is None or importlib.util.find_spec("oslo_service") is None:
        return False
    try:
        backend = importlib.import_module("oslo_service.backend")
    except ImportError:
        return False
    # A hook, not init_backend(): it yields to a choice made before, and costs nothing until oslo.service is used.
    backend.register_backend_default_hook(lambda: backend.BackendType.THREADING)
    return True
