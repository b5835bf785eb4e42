"""A guest that fails and answers over and over is one trouble, not one after the other: one fault, kept open.

The fourth raise within ten minutes keeps its fault open, and says `flapping`, until five minutes have passed without a
miss. What is worse than what flaps (QEMU's end) is still told, and its recovery is asked for, once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.functional.acting import Acting, acting
from tests.lab import metadata
from tests.lab.application import Application
from tests.lab.broker import Broker
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.processes import LabError, wait_until
from tests.stage.consumer import Notification
from tests.stage.crowd import AGENT_MEMORY, APPLICATION_MEMORY

pytestmark = pytest.mark.unhurried

POLICY: dict[str, object] = {"interval": 1, "timeout": 1, "threshold": 3}
#: Raises within ten minutes, of which the last begins to flap.
RAISES = 4
#: [verdict] recoveries.
RECOVERIES = 3
#: What may be said of one instance while it flaps for five minutes.
NOTIFICATIONS = 12
FIVE_MINUTES = 300.0
#: Seconds that a clear may be told after its time.
SLACK = 30.0

#: Hurts the guest, and heals it; each takes its time.
Flap = Callable[[Guest, threading.Event], None]


def stop_and_go(hurt: Callable[[Guest], float], heal: Callable[[Guest], float], each: float) -> Flap:
    """So many seconds one, so many the other, until it ends: well, in any case."""

    def flap(guest: Guest, ended: threading.Event) -> None:
        while not ended.is_set():
            hurt(guest)
            ended.wait(each)
            heal(guest)
            ended.wait(each)

    return flap


def boot_and_die(guest: Guest, ended: threading.Event) -> None:
    """It panics some seconds after it has come up, is silent for five, and reboots by itself (`panic=5`); in the end it
    is up."""
    while not ended.is_set():
        guest.wait_agent()
        ended.wait(6.0)  # long enough to be well again
        if not ended.is_set():
            guest.panic()
            ended.wait(6.0)  # until it boots
    guest.wait_agent()


def sicken_and_heal(guest: Guest, ended: threading.Event) -> None:
    """Its application says that it is unhealthy for 8 s, and well for 8 s."""
    application = Application(guest, "web")
    sicken = stop_and_go(lambda _: application.say("unhealthy", "disk full"), lambda _: application.say("healthy"), 8)
    sicken(guest, ended)


#: What flaps: how, whether over the application channel, and what is appended to the kernel's command line.
FLAPS: dict[str, tuple[Flap, bool, str]] = {
    "health": (sicken_and_heal, True, ""),
    "agent": (stop_and_go(Guest.stop_agent, Guest.continue_agent, 10), False, ""),
    "application": (stop_and_go(Guest.stop_vmhb_guest, Guest.continue_vmhb_guest, 10), True, ""),
    "boots": (boot_and_die, False, "panic=5"),
}


@pytest.fixture
def other_node() -> Iterator[Node]:
    """Two guests on each host: never so many at a time that the host is called a suspect."""
    with Node("other-node") as one:
        yield one


@pytest.fixture
def make(image: Image, application_image: Image) -> Callable[[Node, str, bool, str, str], Guest]:
    """make(node, name, application, cmdline, action): a guest that answers."""

    def guest(node: Node, name: str, application: bool, cmdline: str, action: str) -> Guest:
        knobs = {**POLICY, "action": action, "channel": "application" if application else "agent"}
        one = Guest(
            node,
            name,
            metadata=[metadata.heartbeat(**knobs, health_check=application)],
            application=application,
            memory=APPLICATION_MEMORY if application else AGENT_MEMORY,
            guest_image=application_image if application else image,
            cmdline=cmdline,
        )
        one.define()
        one.boot()
        if application:
            Application(one, "web").start()
        return one

    return guest


@contextmanager
def flapping(flap: Flap, guest: Guest) -> Iterator[None]:
    """It flaps, in a thread; afterwards it is well."""
    ended, trouble = threading.Event(), []

    def work() -> None:
        try:
            flap(guest, ended)
        except LabError as error:
            trouble.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(200)
    assert not trouble and not thread.is_alive(), trouble


def attempts(told: list[Notification]) -> set[tuple[str, int]]:
    """The recoveries that were recommended: reminders repeat their number."""
    return {(one.fault_id, one.recovery_attempt) for one in told if one.recommended_action == "recover"}


def of_kind(told: list[Notification], change: str) -> list[Notification]:
    return [one for one in told if one.event_type == f"vmhb.fault.{change}"]


def flaps(one: Notification) -> bool:
    """Is it said so?"""
    return "flapping" in (one.withheld, one.cause)


def wrong_with(host: Acting, guest: Guest, since: float) -> list[str]:
    """What must not have been said of one that flaps, so far."""
    told = host.told(guest, since)
    wrong = []
    raised = of_kind(told, "raised")
    if len(raised) > RAISES:
        wrong.append(f"{len(raised)} faults were raised")
    if len(told) > NOTIFICATIONS:
        wrong.append(f"{len(told)} notifications")
    if len(attempts(told)) > RECOVERIES:
        wrong.append(f"{len(attempts(told))} recoveries were recommended")
    if len(host.posted(guest)) > RECOVERIES:
        wrong.append(f"Masakari was told {len(host.posted(guest))} times")
    if len(raised) >= RAISES:
        last = [one for one in told if one.fault_id == raised[RAISES - 1].fault_id]
        if of_kind(last, "cleared"):
            wrong.append("the fault that flaps was cleared")
        if not any(flaps(one) for one in last):
            wrong.append("nobody said that it flaps")
    else:
        wrong.append(f"only {len(raised)} faults were raised: it can't be told whether the rule holds")
    return [f"{guest.name}: {sentence}" for sentence in wrong]


def show(host: Acting, guest: Guest, since: float) -> None:
    """Print all that was said of it."""
    for one in host.told(guest, since):
        print(f"{one.at - since:7.1f} {guest.name} {one}")
    for posted in host.posted(guest):
        print(f"{posted.at - since:7.1f} {guest.name} POST {posted.event}")


def test_the_fourth_fault_of_a_flapping_agent_stays_open_and_still_takes_what_is_worse(
    broker: Broker, node: Node, make: Callable[..., Guest], tmp_path: Path
) -> None:
    """7 s silent, 7 s well: from the fourth raise on nothing is cleared or raised. Then its QEMU is killed: that is
    told in the same fault, and its recovery is asked for once, within the budget that nothing has used so far."""
    guest = make(node, "flapper", False, "", "recover")
    with acting(broker, node, "flapper", tmp_path / "host") as host:
        host.know([guest])
        began = time.monotonic()
        with flapping(stop_and_go(Guest.stop_agent, Guest.continue_agent, 7), guest):
            # The fourth raise, one more time well, one more time silent.
            wait_until(
                lambda: len(of_kind(host.told(guest, began), "raised")) >= RAISES or time.monotonic() > began + 75,
                80,
                "it was raised four times",
            )
            time.sleep(16)
        wrong = wrong_with(host, guest, began)
        assert attempts(host.told(guest, began)) == set()
        killed = guest.kill_qemu()
        with suppress(LabError):
            host.watch.wait_for(
                "qemu_failed", lambda one: one.data.get("cause") == "qemu_failed" and one.at >= killed, 10
            )
        host.masakari.wait(guest.uuid, killed + 20 - time.monotonic())
        time.sleep(3)
        show(host, guest, began)
        told = [one for one in host.told(guest, killed) if one.cause == "qemu_failed"]
        assert told, "its end was not told"
        assert len(attempts(told)) == 1
        assert len(host.posted(guest)) == 1
        assert wrong == []


@pytest.mark.long
def test_five_minutes_of_each(
    broker: Broker, node: Node, other_node: Node, make: Callable[..., Guest], tmp_path: Path
) -> None:
    """Health, agent, application and boots, for five minutes each, side by side: one fault from the fourth on, at most
    three recoveries recommended, at most twelve notifications in all. Five minutes after the last miss it is over."""
    places = dict(zip(FLAPS, (node, node, other_node, other_node), strict=True))
    guests = {
        name: make(places[name], name, application, cmdline, "recover_unresponsive")
        for name, (_, application, cmdline) in FLAPS.items()
    }
    with (
        acting(broker, node, "flaps-here", tmp_path / "here") as here,
        acting(broker, other_node, "flaps-there", tmp_path / "there") as there,
    ):
        hosts = {name: here if places[name] is node else there for name in FLAPS}
        for host in (here, there):
            host.know(guest for name, guest in guests.items() if hosts[name] is host)
        began = time.monotonic()
        threads = [flapping(FLAPS[name][0], guest) for name, guest in guests.items()]
        for one in threads:
            one.__enter__()
        time.sleep(FIVE_MINUTES)
        wrong = [sentence for name, guest in guests.items() for sentence in wrong_with(hosts[name], guest, began)]
        for one in threads:
            one.__exit__(None, None, None)
        healed = time.monotonic()
        deadline = healed + FIVE_MINUTES + SLACK
        while time.monotonic() < deadline and any(hosts[name].open(guest) for name, guest in guests.items()):
            time.sleep(1)
        for name, guest in guests.items():
            show(hosts[name], guest, began)
            wrong += [f"{name} is still open: {one}" for one in hosts[name].open(guest)]
            cleared = [one.at for one in hosts[name].told(guest, began) if one.resolution == "recovered"]
            if cleared and max(cleared) < healed + FIVE_MINUTES - SLACK:
                wrong.append(f"{name}: cleared {max(cleared) - healed:.0f} s after its last miss")
        assert wrong == []
