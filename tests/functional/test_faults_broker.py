"""RabbitMQ stops, freezes or blocks around a fault: the fault is raised in time, and heard of afterwards, in order."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Figure, Repetitions
from tests.functional.conftest import DETECTION, Guests, Workers
from tests.functional.story import assert_sound, duplicates
from tests.lab.broker import Broker
from tests.lab.guest import Guest
from tests.lab.node import Node
from tests.lab.processes import wait_until
from tests.lab.tap import Tap
from tests.stage.consumer import ConsumerProcess, Notification

#: What is kept must be read this soon (seconds) after the broker is back: the consumer, too, has to notice that.
BACK = 45.0
#: Two acknowledgements of a guest that is asked every second are never further apart than this (seconds): a beat and a
#: time-out; later, and one was missed.
GAP = 2.0


@pytest.fixture
def tap(node: Node) -> Iterator[Tap]:
    """Sees the worker's guest-agent commands, also while nobody can ask it how it is."""
    with Tap(node.folder / "run") as one:
        yield one


def stopped_broker(broker: Broker, seconds: float, meanwhile: Callable[[], None]) -> None:
    """An orderly stop, and a start."""
    broker.halt()
    meanwhile()
    time.sleep(seconds)
    broker.boot()


def frozen_broker(broker: Broker, seconds: float, meanwhile: Callable[[], None]) -> None:
    """Connections stay, nothing is answered."""
    broker.freeze()
    try:
        meanwhile()
        time.sleep(seconds)
    finally:
        broker.thaw()


def full_broker(broker: Broker, seconds: float, meanwhile: Callable[[], None]) -> None:
    """Publishers are blocked by a memory alarm."""
    broker.memory_alarm(True)
    try:
        assert "memory" in broker.alarms()
        meanwhile()
        time.sleep(seconds)
    finally:
        broker.memory_alarm(False)


@pytest.mark.parametrize(
    ("trouble", "short", "long"), [(stopped_broker, 20, 60), (frozen_broker, 20, 60), (full_broker, 10, 60)]
)
def test_a_fault_while_the_broker_is_away(
    trouble: Callable[[Broker, float, Callable[[], None]], None],
    short: int,
    long: int,
    guests: Guests,
    worker: Workers,
    tap: Tap,
    broker: Broker,
    consumer: ConsumerProcess,
    repetitions: Repetitions,
    figure: Figure,
) -> None:
    """Raised in time, heard of afterwards with all that followed, in order; the neighbour is heard all along."""
    sick, well = guests.get(), guests.get()
    daemon = worker(uri=tap.uri)
    for guest in (sick, well):
        daemon.wait_known(guest.uuid)
    name = trouble.__name__.replace("_", " ")
    deeds: list[float] = []

    def an_outage() -> None:
        for _ in range(2):  # two outages: four notifications or more wait
            deeds.append(sick.stop_agent())
            time.sleep(DETECTION + 1)
            deeds.append(sick.continue_agent())
            time.sleep(6)

    began = time.monotonic()
    trouble(broker, max(0.0, repetitions(short, long) - 23), an_outage)
    back = time.monotonic()
    wait_until(lambda: len(told(consumer, sick, "cleared", began)) >= 2, BACK, "both clears are read", every=0.1)
    figure(f"{name}: read after its return", consumer.faults(sick.uuid, began)[-1].at - back, "s")
    figure(f"{name}: duplicates", duplicates(consumer.faults(since=began)), "")
    raises = told(consumer, sick, "raised", began)
    for raised, stopped in zip(raises, deeds[::2], strict=True):
        took = daemon.moment_of(f"fault {raised.fault_id} raised") - stopped
        figure(f"{name}: agent stopped to raise", took, "s", DETECTION)
    assert [one.fault_id for one in raises] == [one.fault_id for one in told(consumer, sick, "cleared", began)]
    assert_sound(consumer.read)
    figure(f"{name}: longest time without a neighbour's ack", tap.widest_gap(well.uuid, began, back), "s", GAP)
    assert consumer.faults(well.uuid, began) == []
    with_rpc(lambda: daemon.show(well.uuid)["state"] == "alive")


def told(consumer: ConsumerProcess, guest: Guest, change: str, since: float) -> list[Notification]:
    """The notifications of this change, duplicates dropped."""
    ours = [one for one in consumer.faults(guest.uuid, since) if one.event_type == f"vmhb.fault.{change}"]
    return list({(one.fault_id, one.sequence): one for one in reversed(ours)}.values())[::-1]


def with_rpc(condition: Callable[[], bool]) -> None:
    """Wait until the worker answers again, and so."""

    def holds() -> bool:
        with contextlib.suppress(Exception):  # whatever oslo.messaging says of a broker that comes back
            return condition()
        return False

    wait_until(holds, 60, "the worker answers RPC again", every=0.5)


def test_started_while_the_broker_is_down(
    guests: Guests, worker: Workers, broker: Broker, consumer: ConsumerProcess, tap: Tap, figure: Figure
) -> None:
    """A worker needs no broker to begin: it watches, and tells when there is one."""
    guest = guests.get()
    broker.halt()
    daemon = worker(uri=tap.uri)
    wait_until(lambda: tap.answered(guest.uuid) >= 3, 20, "the guest is heard of")
    time.sleep(4)  # its kernel is got to know
    stopped = guest.stop_agent()
    time.sleep(DETECTION)
    broker.boot()
    back = time.monotonic()
    raised = consumer.wait_fault("raised", guest.uuid, BACK, since=stopped)
    figure("started without broker: read after its return", raised.at - back, "s")
    took = daemon.moment_of(f"fault {raised.fault_id} raised") - stopped
    figure("started without broker: agent stopped to raise", took, "s", DETECTION)
    continued = guest.continue_agent()
    cleared = consumer.wait_fault("cleared", guest.uuid, 20, since=continued)
    assert cleared.fault_id == raised.fault_id
    with_rpc(lambda: daemon.show(guest.uuid)["state"] == "alive")
    assert_sound(consumer.read)
