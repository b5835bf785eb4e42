"""Ends told by QEMU's process or by the panic device of its guest wait for no threshold; an end by wish is no fault.

The guests are stand-ins for QEMU behind a real libvirtd, so that there may be a hundred of each.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.conftest import Figure
from tests.functional.conftest import ALONE, QUIET, Workers
from tests.lab import metadata
from tests.lab.node import Node
from tests.lab.stand_in import StandIn
from tests.stage.consumer import ConsumerProcess
from tests.stage.worker import WorkerProcess

NUMBERS = [12, pytest.param(100, marks=pytest.mark.long)]
POLICY = {"interval": 10.0, "timeout": 5.0, "threshold": 3}
#: From the end of QEMU's process until it is seen, and until it is a fault, in which libvirt says how it ended; from a
#: panic until it is told (seconds). Of a hundred, one may be later.
SEEN, FAULT, TOLD = 0.3, 2.5, 0.5
SHARE = 0.99
#: So long after each other (seconds): a host does not lose all at once, and libvirtd has something to do for each.
APART = 0.1

_NUMBERS = itertools.count()


@pytest.fixture
def make(node: Node) -> Iterator[Callable[[int], list[StandIn]]]:
    """So many that answer; gone with the test."""
    made: list[StandIn] = []

    def some(number: int) -> list[StandIn]:
        asked = [metadata.heartbeat(**POLICY)]
        new = [StandIn(node, f"ending-{next(_NUMBERS):03}", metadata=asked, on_crash="preserve") for _ in range(number)]
        for guest in new:
            guest.define()
            guest.boot()
        made.extend(new)
        return new

    yield some
    for guest in made:
        node.virsh("destroy", guest.name, check=False)
        guest.undefine()


def watched(worker: Workers, guests: Sequence[StandIn]) -> WorkerProcess:
    """A worker that knows them well."""
    daemon = worker(verdict=ALONE)
    for guest in guests:
        daemon.wait_known(guest.uuid, 180)
    return daemon


def share(seconds: Sequence[float]) -> float:
    """The time within which 99 of 100 were."""
    return sorted(seconds)[math.ceil(SHARE * len(seconds)) - 1]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_panic_that_is_told_waits_for_nothing(
    number: int, make: Callable[[int], list[StandIn]], worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """At the default policy, which takes 35 s for one that is not told."""
    guests = make(number)
    watched(worker, guests)
    took = []
    for guest in guests:
        panicked = guest.kernel_panics()
        raised = consumer.wait_fault("raised", guest.uuid, 30, since=panicked)
        assert raised.cause == "guest_panicked", raised
        took.append(raised.at - panicked)
        figure(f"{number} told panics: until raised", took[-1], "s")
    assert share(took) <= TOLD


@pytest.mark.parametrize("number", NUMBERS)
def test_the_end_of_a_qemu_is_seen_at_once(
    number: int, make: Callable[[int], list[StandIn]], worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """Killed: no word of it being alive from 0.3 s on, and a fault with what libvirt says of it."""
    guests = make(number)
    daemon = watched(worker, guests)
    seen, raised = [], []
    for guest in guests:
        killed = guest.kill_qemu()
        while daemon.show(guest.uuid).get("state") == "alive":
            assert time.monotonic() < killed + 10, "still alive"
        seen.append(time.monotonic() - killed)
        fault = consumer.wait_fault("raised", guest.uuid, 30, since=killed)
        assert fault.cause == "qemu_failed", fault
        raised.append(fault.at - killed)
        figure(f"{number} QEMUs killed: until that is seen", seen[-1], "s")
        figure(f"{number} QEMUs killed: until raised", raised[-1], "s")
    assert share(seen) <= SEEN
    assert share(raised) <= FAULT


@pytest.mark.parametrize("number", NUMBERS)
def test_an_end_by_wish_is_no_fault(
    number: int, make: Callable[[int], list[StandIn]], worker: Workers, consumer: ConsumerProcess
) -> None:
    """Half of them are destroyed, and half are shut down by ACPI, one right after the other."""
    guests = make(2 * number)
    daemon = watched(worker, guests)
    began = time.monotonic()
    for one, other in zip(guests[:number], guests[number:], strict=True):
        one.destroy()
        other.power_off()
        time.sleep(APART)
    time.sleep(QUIET + FAULT)
    assert [str(told) for told in consumer.faults(since=began)] == []
    assert {daemon.show(guest.uuid).get("state") for guest in guests} <= {"gone", None}  # or forgotten
