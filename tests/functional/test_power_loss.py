"""A host loses power and comes back: libvirt knows no more than that its domains are off, and Nova which of them
should run. Whoever was stopped, moved, or is started by Nova itself, is recovered by nobody."""

from __future__ import annotations

import pathlib
import shutil
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Figure
from tests.functional.acting import Acting, acting
from tests.functional.conftest import Guests
from tests.functional.test_excuses import APPLICATION, DEFAULTS, QUICK
from tests.lab.broker import Broker
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.processes import wait_until

pytestmark = pytest.mark.unhurried

#: Seconds that Nova has to start by itself what ran (resume_guests_state_on_host_boot).
NOVAS_TIME = 120.0
#: Seconds that a worker, the broker and the consumer's rounds (15 s) may take.
SLACK = 25.0
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def pull_the_plug(node: Node, host: Acting, *guests: Guest) -> float:
    """All that runs on the host (guests: their QEMUs) ends at once, and nothing is left of /run. Returns when."""
    if not host.worker.ended:
        host.worker.pause()
    moment = node.halt_libvirtd(kill=True)
    for guest in guests:
        guest.kill_qemu()
    if not host.worker.ended:
        host.worker.kill()
    for path in (node.folder / "run").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return moment


def in_another_boot(node: Node, folder: pathlib.Path) -> Callable[..., list[str]]:
    """What begins a command line, so that the host has booted since to whatever it runs."""
    told = folder / "boot_id"
    told.write_text(f"{uuid.uuid4()}\n")
    program = f'mount --bind "$0" {BOOT_ID} && exec "$@"'

    def where(*argv: str) -> list[str]:
        own = ("unshare", "--mount", "--propagation", "private", "--")
        return node.inside(*own, "sh", "-c", program, str(told), *argv)

    return where


def off(guest: Guest) -> None:
    """libvirt knows no more of it."""
    assert guest.node.virsh("domstate", "--reason", guest.name).strip() == "shut off (unknown)"


@pytest.mark.long  # Nova has two minutes
def test_whoever_ran_is_recovered_if_nova_wants_it(
    guests: Guests,
    broker: Broker,
    node: Node,
    application_image: Image,
    tmp_path: pathlib.Path,
    figure: Figure,
) -> None:
    """Of five that ran one is recovered, once: not those that were stopped by their user while the worker was off,
    evacuated, started by Nova itself, or are being."""
    kind: dict[str, Any] = {"application": True, "memory": 160, "guest_image": application_image}
    wanted = guests.get(fresh=True, policy=DEFAULTS)
    stopped = guests.get(fresh=True, policy=QUICK)
    evacuated = guests.get(fresh=True, policy={**QUICK, **APPLICATION}, **kind)
    resumed = guests.get(fresh=True, policy={**DEFAULTS, **APPLICATION}, **kind)
    at_it = guests.get(fresh=True, policy=QUICK)
    all_of_them = (wanted, stopped, evacuated, resumed, at_it)
    with acting(broker, node, "power-loss", tmp_path / "host") as host:
        host.know(all_of_them)
        host.worker.kill()
        stopped.destroy()
        pull_the_plug(node, host, wanted, evacuated, resumed, at_it)
        host.server(stopped).vm_state = "stopped"
        host.server(evacuated).host = "compute-2"
        host.server(at_it).task_state = "powering-on"
        node.boot_libvirtd()
        for guest in all_of_them:
            off(guest)
        host.worker.where = in_another_boot(node, tmp_path)
        began = host.worker.start()

        for guest in all_of_them:
            wait_until(lambda guest=guest: bool(host.told(guest, began)), 60, f"{guest.name} is told")  # type: ignore[misc]
            raised = host.told(guest, began)[0]
            assert (raised.cause, raised.confidence) == ("host_lost_power", "medium"), raised
            assert (raised.recommended_action, raised.withheld) == ("alarm", "hold"), raised
        time.sleep(20)
        host.server(resumed).task_state = "powering-on"
        resumed.start()
        host.server(resumed).task_state = None

        posted = host.masakari.wait(wanted.uuid, began + NOVAS_TIME + SLACK + 60 - time.monotonic())
        assert posted is not None, [str(one) for one in host.told(wanted, began)]
        figure("host lost power: from the worker's start until Masakari is told", posted.at - began, "s", 160)
        assert posted.at - began >= NOVAS_TIME, "Nova has its time"
        time.sleep(45)  # three rounds of the consumer: so often it asks about the others
        assert {guest.name: len(host.posted(guest)) for guest in all_of_them} == {
            wanted.name: 1,
            **dict.fromkeys((one.name for one in (stopped, evacuated, resumed, at_it)), 0),
        }
        assert host.open(resumed) == [], "it answers"
        assert host.told(resumed, began)[-1].resolution == "recovered"


def test_on_a_host_that_has_not_booted_nobody_is_recovered(
    guests: Guests, broker: Broker, node: Node, tmp_path: pathlib.Path
) -> None:
    """libvirtd forgets how a domain ended, and whose wish it was: an alarm, and no more."""
    guest = guests.get(fresh=True, policy=QUICK)
    with acting(broker, node, "no-power-loss", tmp_path / "host") as host:
        host.know([guest])
        pull_the_plug(node, host, guest)
        node.boot_libvirtd()
        off(guest)
        began = host.worker.start()
        wait_until(lambda: bool(host.told(guest, began)), 60, "it is told")
        time.sleep(10)
        told = {(one.cause, one.recommended_action) for one in host.told(guest, began)}
        assert told == {("stopped_unexplained", "alarm")}
        assert host.posted(guest) == []
