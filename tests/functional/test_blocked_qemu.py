"""QEMU's main loop waits for the server of a volume that is being attached: its guest stands still, or works on.

Nobody knows when such a server comes back. A reset does not help, and loses what a guest has that would have gone on.
"""

from __future__ import annotations

import pathlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Figure
from tests.functional.conftest import ALONE, QUIET, Guests, Workers
from tests.functional.test_excuses import APPLICATION, DEFAULTS, QUICK, of_cause, recovered
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.processes import wait_until
from tests.stage.consumer import ConsumerProcess
from tests.stage.worker import WorkerProcess

pytestmark = pytest.mark.unhurried

VOLUME = """\
<disk type='network' device='disk'>
  <driver name='qemu' type='raw'/>
  <source protocol='nbd' name='volume'><host transport='unix' socket='{socket}'/></source>
  <target dev='vda' bus='virtio'/>
</disk>
"""
#: Seconds that QEMU must have stood still before a recovery is asked for; and where its guest may go on.
STANDS_STILL, WHILE_GUEST_RUNS = 60.0, 120.0
#: Seconds in which it is told, on a machine that others use, too.
SLACK = 5.0
#: A guest that works on: nothing but the processor, so that it needs nothing of QEMU's main loop.
WORKS = "setsid sh -c 'while :; do :; done' </dev/null >/dev/null 2>&1 &"


class VolumeServer:
    """Of one volume. While it hangs it takes connections, and says nothing."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.socket = node.folder / "volume.sock"
        self.socket.unlink(missing_ok=True)
        self._pid = node.spawn(
            [
                *("qemu-storage-daemon", "--blockdev", "driver=null-co,node-name=disk,size=67108864"),
                *("--nbd-server", f"addr.type=unix,addr.path={self.socket},max-connections=0"),
                *("--export", "type=nbd,id=export,node-name=disk,name=volume,writable=on"),
            ],
            log=node.folder / "volume.log",
        )
        wait_until(self.socket.exists, 30, "the server of the volume listens")

    def hang(self) -> float:
        """SIGSTOP; returns when."""
        return self._node.processes.signal(self._pid, signal.SIGSTOP)

    def come_back(self) -> float:
        """SIGCONT; returns when."""
        return self._node.processes.signal(self._pid, signal.SIGCONT)

    def end(self) -> None:
        """Whoever waits for it, is told."""
        self._node.processes.signal(self._pid, signal.SIGKILL)


@pytest.fixture
def server(node: Node) -> Iterator[VolumeServer]:
    """It serves."""
    one = VolumeServer(node)
    yield one
    one.end()


def attach(guest: Guest, server: VolumeServer, folder: pathlib.Path) -> tuple[float, threading.Thread]:
    """Begin it; when that was, and who waits for its end."""
    path = folder / f"{guest.name}-volume.xml"
    path.write_text(VOLUME.format(socket=server.socket))

    def wait() -> None:
        guest.node.virsh("attach-device", guest.name, str(path), "--live", timeout=600, check=False)

    moment = time.monotonic()
    thread = threading.Thread(target=wait)
    thread.start()
    return moment, thread


def is_blocked(guest: Guest) -> bool:
    """Is a call of libvirt's waiting for its QEMU? Asking this never blocks."""
    return "occupied" in guest.node.virsh("domcontrol", guest.name, check=False)


def well(daemon: WorkerProcess, guest: Guest) -> bool:
    """Does it answer, and is no fault of it known?"""
    shown = daemon.show(guest.uuid)
    age = shown.get("last_ack_age")
    return shown.get("state") == "alive" and shown["fault"] is None and age is not None and age < 12


def watched(worker: Workers, *guests: Guest) -> WorkerProcess:
    """A worker that knows them well."""
    daemon = worker(start=False, verdict=ALONE)
    daemon.where = guests[0].node.inside
    daemon.start()
    for guest in guests:
        daemon.wait_known(guest.uuid)
    return daemon


@pytest.mark.long
def test_a_volume_whose_server_comes_back(
    guests: Guests,
    worker: Workers,
    consumer: ConsumerProcess,
    server: VolumeServer,
    application_image: Image,
    tmp_path: pathlib.Path,
    figure: Figure,
) -> None:
    """Away for 40 s: an alarm, withheld for want of evidence, that is over when the volume is there; no recovery."""
    kind: dict[str, Any] = {"application": True, "memory": 160, "guest_image": application_image}
    blocked = {
        "agent": guests.get(fresh=True, policy=QUICK),
        "application": guests.get(fresh=True, policy={**QUICK, **APPLICATION}, **kind),
    }
    daemon = watched(worker, *blocked.values())
    server.hang()
    attached = {name: attach(guest, server, tmp_path) for name, guest in blocked.items()}
    began = min(moment for moment, _ in attached.values())
    for name, guest in blocked.items():
        found = of_cause(consumer, guest, "qemu_hung", began, began + 30)
        figure(f"{name}, attach to a dead server: until qemu_hung", found.at - attached[name][0], "s", 12)
        assert (found.recommended_action, found.withheld) == ("alarm", "evidence"), found
        assert is_blocked(guest)
    time.sleep(max(0.0, began + 40 - time.monotonic()))
    for guest in blocked.values():
        shown = daemon.show(guest.uuid)
        assert (shown["state"], shown["fault"]["cause"]) == ("silent", "qemu_hung"), shown
    back = server.come_back()
    for name, guest in blocked.items():
        attached[name][1].join(60)
        assert "volume" in guest.node.virsh("domblklist", guest.name), "it was a volume that came back"
        cleared = consumer.wait_fault("cleared", guest.uuid, 30, since=back)
        figure(f"{name}, the server is back: until cleared", cleared.at - back, "s", 15)
        assert cleared.resolution == "recovered"
    time.sleep(QUIET)
    assert [recovered(consumer, guest, began) for guest in blocked.values()] == [[], []]
    assert all(well(daemon, guest) for guest in blocked.values())


@pytest.mark.long  # a recovery is asked for after two minutes
@pytest.mark.parametrize("policy", ["10/5/3", "1/1/3"])
def test_a_volume_whose_server_stays_away(
    policy: str,
    guests: Guests,
    worker: Workers,
    consumer: ConsumerProcess,
    server: VolumeServer,
    application_image: Image,
    tmp_path: pathlib.Path,
    figure: Figure,
) -> None:
    """A recovery is asked for once QEMU has stood still for a minute; for two, where its guest goes on. Over both
    channels."""
    knobs = DEFAULTS if policy == "10/5/3" else QUICK
    kind: dict[str, Any] = {"application": True, "memory": 160, "guest_image": application_image}
    blocked = {
        "agent, idle": guests.get(fresh=True, policy=knobs),
        "agent, works": guests.get(fresh=True, policy=knobs),
        "application, idle": guests.get(fresh=True, policy={**knobs, **APPLICATION}, **kind),
        "application, works": guests.get(fresh=True, policy={**knobs, **APPLICATION}, **kind),
    }
    daemon = watched(worker, *blocked.values())
    for name, guest in blocked.items():
        if "works" in name:
            guest.begin(WORKS)
    server.hang()
    attached = {name: attach(guest, server, tmp_path) for name, guest in blocked.items()}
    began = min(moment for moment, _ in attached.values())
    asked: dict[str, float] = {}
    while len(asked) < len(blocked) and time.monotonic() < began + WHILE_GUEST_RUNS + 60:
        for name, guest in blocked.items():
            told = recovered(consumer, guest, began)
            if told and name not in asked:
                asked[name] = told[0].at - attached[name][0]
                runs = told[0].evidence["guest_runs"]["value"]
                least = STANDS_STILL if runs is False else WHILE_GUEST_RUNS
                figure(f"{policy}, {name} (guest_runs: {runs}): until recover", asked[name], "s", least + 15 + SLACK)
                assert asked[name] >= least - 1, told[0]
                assert told[0].cause == "qemu_hung"
        time.sleep(0.2)
    assert asked.keys() == blocked.keys(), daemon.show(blocked["agent, works"].uuid)
    back = server.come_back()
    for name, guest in blocked.items():
        attached[name][1].join(60)
        assert consumer.wait_fault("cleared", guest.uuid, 60, since=back).resolution == "recovered"
