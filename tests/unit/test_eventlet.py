"""Libraries of OpenStack may import eventlet, those of 2025.2 do: it patches nothing, and no hub of it ever runs.

In each set of versions that the unit tests run with. That our own imports keep even that out, where they can, stands in
`tests/unit/common/test_objects.py` and its like.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
#: Our programs, and a call over RPC from a client to a server, both in threads: then, what eventlet did of it.
PROGRAM = """
import importlib, json, select, socket, sys, threading, time, types

for name in sys.argv[1:]:
    importlib.import_module(name)
import nova_vmhb.cmd.driver, vmhb_consumer.cmd.consumer, vmhb_consumer.cmd.manage, vmhb_worker.cmd.worker
import oslo_db.sqlalchemy.enginefacade, oslo_messaging
from oslo_config import cfg

class Endpoint:
    def where(self, ctxt):
        return threading.current_thread().name

conf = cfg.CONF  # oslo.messaging registers some of its options there only
conf([], default_config_files=[], default_config_dirs=[])
transport = oslo_messaging.get_rpc_transport(conf, "fake:/")
target = oslo_messaging.Target(exchange="vmhb", topic="t", server="s")
server = oslo_messaging.get_rpc_server(transport, target, [Endpoint()], executor="threading")
server.start()
answered = oslo_messaging.get_rpc_client(transport, target).call({}, "where")
server.stop()
server.wait()

eventlet = sys.modules.get("eventlet")
hubs = sys.modules.get("eventlet.hubs")
native = (time.sleep, select.select, threading._start_new_thread)
print(json.dumps({
    "imported": eventlet is not None,
    "patched": sorted(sys.modules["eventlet.patcher"].already_patched) if eventlet else [],
    "hub": hubs is not None and getattr(hubs._threadlocal, "hub", None) is not None,
    "green": [one.__name__ for one in native if not isinstance(one, types.BuiltinFunctionType)]
    + [one.__module__ for one in (socket.socket, threading.Thread) if one.__module__ not in ("socket", "threading")],
    "elsewhere": answered != threading.current_thread().name,
}))
"""


def seen(program: str, *before: str) -> dict[str, Any]:
    """What the program tells of itself. before: what has been imported, in that process, before anything of ours."""
    command = [sys.executable, "-W", "ignore", "-c", program, *before]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("before", [(), ("eventlet", "oslo_messaging")])
def test_it_is_imported_at_most(before: tuple[str, ...]) -> None:
    """By ourselves not even that; where it was there before us, it is what everything of OpenStack finds."""
    found = seen(PROGRAM, *before)
    assert found.pop("imported") is bool(before)
    assert found == {"patched": [], "hub": False, "green": [], "elsewhere": True}


def test_one_that_patches_is_seen() -> None:
    """The test above can fail, in all that it asserts of eventlet."""
    patched = seen("import eventlet\neventlet.monkey_patch()\neventlet.sleep(0)\n" + PROGRAM)
    assert "socket" in patched["patched"] and "thread" in patched["patched"]
    assert patched["hub"] and "sleep" in patched["green"] and "eventlet.greenio.base" in patched["green"]
