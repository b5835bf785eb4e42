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
from tests.stage.worker import WorkerProcess

pytestmark = pytest.mark.patient

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


#: Lets a broker be away for so many seconds, and until what happens meanwhile is over. Returns when that was.
Trouble = Callable[[Broker, float, Callable[[], None]], float]


def stopped_broker(broker: Broker, seconds: float, meanwhile: Callable[[], None]) -> float:
    """An orderly stop, and a start."""
    until = broker.halt() + seconds
    meanwhile()
    ended = sleep_until(until)
    broker.boot()
    return ended


def frozen_broker(broker: Broker, seconds: float, meanwhile: Callable[[], None]) -> float:
    """Connections stay, nothing is answered."""
    until = broker.freeze() + seconds
    try:
        meanwhile()
        return sleep_until(until)
    finally:
        broker.thaw()


def full_broker(broker: Broker, seconds: float, meanwhile: Callable[[], None]) -> float:
    """Publishers are blocked by a memory alarm."""
    broker.memory_alarm(True)
    until = time.monotonic() + seconds
    try:
        assert "memory" in broker.alarms()
        meanwhile()
        return sleep_until(until)
    finally:
        broker.memory_alarm(False)


def sleep_until(moment: float) -> float:
    """Returns when it is over."""
    time.sleep(max(0.0, moment - time.monotonic()))
    return time.monotonic()


def an_outage(daemon: WorkerProcess, guest: Guest) -> float:
    """A whole one, as the worker's log tells: the agent stops, a fault is raised, it goes on, the fault is cleared.

    Returns when the agent was stopped.
    """
    raises, clears = daemon.said(" raised: "), daemon.said(" cleared: ")
    stopped = guest.stop_agent()
    wait_until(lambda: daemon.said(" raised: ") > raises, 2 * DETECTION, "the log has a raise", every=0.1)
    guest.continue_agent()
    wait_until(lambda: daemon.said(" cleared: ") > clears, 20, "the log has a clear", every=0.1)
    return stopped


#: The quick run, too, has the broker stopped for a whole minute: a short stop ends before the outbox tries again as
#: rarely as it ever does.
@pytest.mark.parametrize(
    ("trouble", "short", "long"), [(stopped_broker, 60, 60), (frozen_broker, 10, 60), (full_broker, 5, 60)]
)
def test_a_fault_while_the_broker_is_away(
    trouble: Trouble,
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
    stopped: list[float] = []

    def two_outages() -> None:
        stopped.extend(an_outage(daemon, sick) for _ in range(2))

    began = time.monotonic()
    ended = trouble(broker, repetitions(short, long), two_outages)
    back = time.monotonic()
    wait_until(lambda: len(told(consumer, sick, "cleared", began)) >= 2, BACK, "both clears are read", every=0.1)
    assert consumer.faults(sick.uuid, began)[0].at >= ended, "the broker was never away"
    figure(f"{name}: all read after its return", max(0.0, consumer.faults(sick.uuid, began)[-1].at - back), "s")
    figure(f"{name}: duplicates", duplicates(consumer.faults(since=began)), "")
    raises = told(consumer, sick, "raised", began)
    for raised, at in zip(raises, stopped, strict=True):
        took = daemon.moment_of(f"fault {raised.fault_id} raised") - at
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
    stopped = an_outage(daemon, guest)
    broker.boot()
    back = time.monotonic()
    raised = consumer.wait_fault("raised", guest.uuid, BACK, since=stopped)
    figure("started without broker: read after its return", raised.at - back, "s")
    took = daemon.moment_of(f"fault {raised.fault_id} raised") - stopped
    figure("started without broker: agent stopped to raise", took, "s", DETECTION)
    assert consumer.wait_fault("cleared", guest.uuid, BACK, since=stopped).fault_id == raised.fault_id
    with_rpc(lambda: daemon.show(guest.uuid)["state"] == "alive")
    assert_sound(consumer.read)
