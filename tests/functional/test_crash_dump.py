"""A kernel that dies and is saved by another one (kdump): whoever resets it meanwhile destroys what it would tell.

A real crash kernel in Debian, that reads the dead one's memory for longer than any policy here waits, and reboots.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Figure
from tests.functional.conftest import ALONE, Guests, Workers
from tests.functional.test_excuses import APPLICATION, DEFAULTS, QUICK, recovered, told
from tests.lab import crash
from tests.lab.guest import BOOT_TIMEOUT, Guest
from tests.lab.image import Image
from tests.lab.processes import wait_until
from tests.stage.consumer import ConsumerProcess
from tests.stage.worker import WorkerProcess

pytestmark = [pytest.mark.patient, pytest.mark.long]  # it boots, dies, is saved, and boots again

#: Seconds that saving takes.
SAVING = 90.0
#: Emulated, a boot of Debian's takes so long at most (seconds).
BOOT = 2 * BOOT_TIMEOUT
UNRESPONSIVE = {"action": "recover_unresponsive"}


@pytest.fixture(scope="module")
def crash_image() -> Image:
    """Debian, and the kernel that saves it."""
    return crash.build()


def watched(worker: Workers, *guests: Guest) -> WorkerProcess:
    """Each will be saved when it dies, and the worker knows it well."""
    for guest in guests:
        guest.run(crash.load(SAVING), 120)
    daemon = worker(start=False, verdict=ALONE)
    daemon.where = guests[0].node.inside
    daemon.start()
    for guest in guests:
        daemon.wait_known(guest.uuid, BOOT_TIMEOUT)
    return daemon


def said(guest: Guest, words: str, since: int) -> bool:
    """On its console, behind so many bytes."""
    return words.encode() in guest.console.read_bytes()[since:]


def test_a_guest_that_says_that_it_is_saved_is_left_alone(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, crash_image: Image, figure: Figure
) -> None:
    """With a panic device, and a kernel that tells of it before it starts the other one: an alarm at once, no recovery
    however long it takes, and all is over when it has booted. Over both channels."""
    options: dict[str, Any] = {
        "fresh": True,
        "panic": True,
        "on_crash": "preserve",
        "application": True,
        "guest_image": crash_image,
    }
    options |= {"memory": crash.MEMORY, "cmdline": crash.CMDLINE}
    dying = {
        "agent, 1/1/3": guests.get(policy={**QUICK, **UNRESPONSIVE}, **options),
        "application, 10/5/3": guests.get(policy={**DEFAULTS, **UNRESPONSIVE, **APPLICATION}, **options),
    }
    daemon = watched(worker, *dying.values())
    before = {name: guest.console.stat().st_size for name, guest in dying.items()}
    died = {name: guest.panic() for name, guest in dying.items()}
    for name, guest in dying.items():
        raised = consumer.wait_fault("raised", guest.uuid, 30, since=died[name])
        figure(f"{name}, a kernel that is saved: until told", raised.at - died[name], "s", 15)
        assert (raised.cause, raised.recommended_action, raised.withheld) == ("guest_panicked", "alarm", "hold")
        assert raised.evidence["panic"]["value"] == "crash_dump"
    for name, guest in dying.items():
        done = wait_until(
            lambda name=name, guest=guest: said(guest, "has saved", before[name]),  # type: ignore[misc]
            SAVING + BOOT_TIMEOUT,
            f"{guest.name} is saved",
            every=0.5,
        )
        assert done - died[name] > SAVING
        assert said(guest, "crash kernel: saves", before[name])
    for name, guest in dying.items():
        cleared = consumer.wait_fault("cleared", guest.uuid, BOOT, since=died[name])
        assert cleared.resolution == "recovered"
        assert {cause for cause, _ in told(consumer, guest, died[name])} == {"guest_panicked"}, name
        assert recovered(consumer, guest, died[name]) == []
        assert daemon.show(guest.uuid)["fault"] is None


def test_a_guest_that_says_nothing_of_it_is_a_dead_kernel(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, crash_image: Image, figure: Figure
) -> None:
    """As Nova makes it, without a panic device; or with one, and a kernel that starts the other one before it tells
    anybody, which is Linux's own order: nobody can tell that from a dead one."""
    options: dict[str, Any] = {"fresh": True, "guest_image": crash_image, "memory": crash.MEMORY, "policy": QUICK}
    silent = {
        "without a panic device": guests.get(cmdline=crash.CMDLINE, **options),
        "in Linux's own order": guests.get(
            panic=True, on_crash="preserve", cmdline=crash.CMDLINE.split()[0], **options
        ),
    }
    watched(worker, *silent.values())
    before = {name: guest.console.stat().st_size for name, guest in silent.items()}
    died = {name: guest.panic() for name, guest in silent.items()}
    for name, guest in silent.items():
        wait_until(
            lambda guest=guest, name=name: bool(recovered(consumer, guest, died[name])),  # type: ignore[misc]
            60,
            f"{name}: its recovery is asked for",
        )
        asked = recovered(consumer, guest, died[name])[0]
        figure(f"kdump, {name}: until recover", asked.at - died[name], "s")
        assert asked.cause == "guest_hung"
        assert said(guest, "crash kernel: saves", before[name]) and not said(guest, "has saved", before[name])
