"""The worker's end, as its parts are given time for it."""

from __future__ import annotations

from vmhb_common.app.ending import LIMIT
from vmhb_worker import service
from vmhb_worker.engine import loop


def test_limits_add_up() -> None:
    """Broker, disk and libvirt hang, all of them: each is given up in time, and the process ends in order."""
    assert loop.LEAVING + max(service.STORE_END, service.RPC_END) + service.HYPERVISOR_END < LIMIT
