"""Guests that answer again while their recovery is on its way through a real Masakari: who of them is stopped?

With our tasks nobody whose answer came before the last question to its worker; with Masakari's own the last question is
the consumer's, and comes before Masakari is told.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from tests.conftest import Figure, Repetitions
from tests.lab.broker import Broker
from tests.lab.processes import wait_until
from tests.stage.cloud import FakeServer
from tests.stage.masakari import Masakari
from tests.stage.recovery import TASKS, Delivery, Desk, Guest, Race, Worker, now, race_of, reporter

pytestmark = pytest.mark.patient

#: The engine does one instance of a host after the other, and those of two hosts at once.
HOSTS = ("cpt1", "cpt2")
ENDED = ("finished", "failed", "ignored")
#: A clean stop of a guest whose kernel lives, and a boot (seconds).
QUICK = {"shutdown_time": 0.2, "boot_time": 0.1}
#: From the last question to Nova's power-off (seconds), in 99 of 100.
WINDOW = 1.0


def hosts(masakari: Masakari) -> None:
    """All that are raced on; cpt1 is there."""
    for host in HOSTS[1:]:
        masakari.register(host)


def seen_through(masakari: Masakari, guests: dict[str, tuple[FakeServer, Guest]]) -> None:
    """A guest that was recovered answers."""

    def done(one: FakeServer, what: str) -> None:
        if what in ("os-start", "reboot") and one.uuid in guests:
            guests[one.uuid][1].booted = True

    masakari.cloud.on_done = done


def ended(masakari: Masakari, one: FakeServer) -> bool:
    """Is Masakari done with it?"""
    return any(told["status"] in ENDED for told in masakari.notifications(one.uuid))


def wait_ended(masakari: Masakari, notification: str) -> None:
    """Asked rarely: API and engine are one process here, and each question takes time from what is measured."""

    def done() -> bool:
        return masakari.ask("GET", f"/notifications/{notification}")["notification"]["status"] in ENDED

    time.sleep(1.0)
    wait_until(done, 60, "Masakari is done with it", every=1.0)


def race_all(number: int, race: Callable[[int, str], Race]) -> list[Race]:
    """So many, those of one host one after the other."""
    with ThreadPoolExecutor(len(HOSTS)) as pool:
        rows = pool.map(
            lambda lane: [race(which, HOSTS[lane]) for which in range(lane, number, len(HOSTS))], range(len(HOSTS))
        )
        return [one for row in rows for one in row]


def p99(values: list[float]) -> float:
    """The value that 99 of 100 do not exceed; of fewer, the largest."""
    return sorted(values)[max(0, -(-99 * len(values) // 100) - 1)]


@pytest.fixture(scope="module")
def tasked() -> Iterator[tuple[Masakari, Worker]]:
    """A Masakari whose engine has our tasks, and workers beside it on one RabbitMQ."""
    with Broker() as broker:
        worker = Worker(broker.transport_url, HOSTS)
        with Masakari(broker.transport_url, TASKS) as masakari:
            hosts(masakari)
            yield masakari, worker
        worker.close()


def test_with_our_tasks_nobody_is_stopped_who_answered_before_the_last_question(
    tasked: tuple[Masakari, Worker], figure: Figure, repetitions: Repetitions
) -> None:
    """Half of them answer at any time after their report, half in the window between the last question and Nova's
    power-off, which nobody can close: it is short."""
    masakari, worker = tasked
    number, chance = repetitions(6, 100), random.Random(1)
    guests: dict[str, tuple[FakeServer, Guest]] = {}
    seen_through(masakari, guests)

    def race(which: int, host: str) -> Race:
        one = masakari.cloud.server(host=host, **QUICK)
        guest = Guest(cause=("guest_hung", "agent_unresponsive")[which // 4 % 2])
        if which // len(HOSTS) % 2:
            guest.aim = lambda: chance.uniform(0.0, 0.3)
        else:
            guest.answers_at = time.monotonic() + chance.uniform(0.0, 1.5)
        guests[one.uuid], worker.shown[one.uuid] = (one, guest), guest.show
        told = {"type": "VM", "hostname": host, "generated_time": now().isoformat()}
        payload = {"event": "QEMU_GUEST_AGENT_ERROR", "instance_uuid": one.uuid, "vir_domain_event": "STOPPED_FAILED"}
        taken = masakari.ask("POST", "/notifications", notification={**told, "payload": payload})
        wait_ended(masakari, taken["notification"]["notification_uuid"])
        return race_of(one, guest)

    races = race_all(number, race)
    windows = [one.window for one in races if one.window is not None]
    assert len(races) == number and windows, "some must have been recovered, or it says nothing"
    assert [one for one in races if one.wrong] == []
    figure("Masakari, our tasks: recoveries raced", number, "")
    figure("Masakari, our tasks: of these stopped or rebooted", len(windows), "")
    figure("Masakari, our tasks: stopped, and answered before the last question", 0, "", 0)
    figure("Masakari, our tasks: stopped, and answered after it", sum(one.inside for one in races), "")
    for window in windows:
        figure("Masakari, our tasks: last question to Nova's power-off", window, "s")
    figure("Masakari, our tasks: last question to Nova's power-off, p99", p99(windows), "s", WINDOW)


# -- Masakari's own tasks ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stock() -> Iterator[Masakari]:
    """A Masakari with its own."""
    with Masakari() as one:
        hosts(one)
        yield one


IDS = count(1)


def a_guest(
    masakari: Masakari, guests: dict[str, tuple[FakeServer, Guest]], host: str, cause: str = "guest_hung"
) -> tuple[FakeServer, Guest]:
    """With a fault of its own, by default silent."""
    one = masakari.cloud.server(host=host, **QUICK)
    guests[one.uuid] = one, Guest(cause, f"{next(IDS):08d}-5b7d-4d4b-9a57-0c8f5b1f7c11")
    return guests[one.uuid]


def test_with_masakaris_own_tasks_the_window_is_the_way_through_masakari(
    stock: Masakari, figure: Figure, repetitions: Repetitions
) -> None:
    """They stop whatever they are told of. The last question is asked right before Masakari is told: nobody is stopped
    who had answered by then, and how long after it Nova is asked is the figure."""
    number, chance = repetitions(4, 40), random.Random(2)
    guests: dict[str, tuple[FakeServer, Guest]] = {}
    seen_through(stock, guests)

    def race(which: int, host: str) -> Race:
        one, guest = a_guest(stock, guests, host)
        if which // len(HOSTS) % 2:
            guest.aim = lambda: chance.uniform(0.0, 0.5)
        desk = Desk(lambda uuid: guests[uuid][1].show())
        delivery = Delivery(reporter(stock.cloud), one, desk, fault_id=guest.fault_id)
        delivery.run(60, until=lambda: delivery.posted)
        wait_ended(stock, delivery.memo["notification"])
        return race_of(one, guest)

    races = race_all(number, race)
    windows = [one.window for one in races if one.window is not None]
    assert [one for one in races if one.wrong] == [] and len(windows) == number
    figure("Masakari's own tasks: recoveries raced", number, "")
    figure("Masakari's own tasks: stopped, and answered after the last question", sum(one.inside for one in races), "")
    for window in windows:
        figure("Masakari's own tasks: last question to Nova's power-off", window, "s")
    figure("Masakari's own tasks: last question to Nova's power-off, p99", p99(windows), "s")


def test_the_second_guest_of_a_host_waits_for_the_first_ones_report(stock: Masakari) -> None:
    """Two consumers, one database, three silent guests of one host: one is reported at a time, each is asked about
    right before, and who answered meanwhile is not reported at all. One whose QEMU failed waits for nobody."""
    guests: dict[str, tuple[FakeServer, Guest]] = {}
    seen_through(stock, guests)
    (first, _), (second, _), (third, healed) = (a_guest(stock, guests, "cpt1") for _ in range(3))
    first.shutdown_time = 4.0
    one = Desk(lambda uuid: guests[uuid][1].show())
    other = Desk(lambda uuid: guests[uuid][1].show(), one.database)
    a, b, c = (
        Delivery(reporter(stock.cloud), server, desk, fault_id=guests[server.uuid][1].fault_id)
        for server, desk in ((first, one), (second, other), (third, other))
    )
    crashed, its_worker = a_guest(stock, guests, "cpt1", "qemu_failed")
    d = Delivery(reporter(stock.cloud), crashed, one, cause="qemu_failed", fault_id=its_worker.fault_id)
    assert [delivery.step() for delivery in (a, b, c, d)] == [None] * 4
    assert [len(stock.notifications(server.uuid)) for server in (first, second, third, crashed)] == [1, 0, 0, 1]
    assert f"instance {first.uuid} is under way there" in b.said[-1]
    healed.answers_at = time.monotonic()
    while not ended(stock, first):
        assert (b.step(), c.step()) == (None, None)
        assert stock.notifications(second.uuid) == stock.notifications(third.uuid) == []
        time.sleep(0.2)
    a.run(10, until=lambda: b.step() is None and b.posted)
    c.step()
    assert guests[third.uuid][1].asked == [], "not its turn"
    b.run(30, until=lambda: ended(stock, second))
    wait_until(lambda: b.step() is None and c.step() is None and bool(healed.asked), 20, "it has its turn", every=0.2)
    assert "it has answered since its last miss" in c.said[-1]
    c.clear()
    assert c.run(10).startswith("withheld: ")
    assert (second.actions(), third.actions()) == (["os-stop", "os-start"], [])
    assert stock.notifications(third.uuid) == []
