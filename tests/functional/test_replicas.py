"""Two consumers on one database and one RabbitMQ, either killed at any time: each change delivered, in order.

MariaDB; the long run has the same on PostgreSQL."""

from __future__ import annotations

import itertools
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from tests.conftest import Figure
from tests.functional.sites import Site, database_server, new_database
from tests.functional.test_reporting import cleared, new, short, wait_for
from tests.lab.mariadb import MariaDB
from tests.lab.postgresql import PostgreSQL
from tests.lab.processes import wait_until
from tests.stage.control_plane import FaultConsumer, FaultWorkers
from vmhb_common.model.fault import Fault

pytestmark = pytest.mark.patient

#: A dead consumer's deliveries are another's after this time (seconds): `outbox.MEMBER_TTL`, and some.
TAKEN_OVER = 30.0
#: Seconds for 150 changes, on a processor that has others to serve first: less than MariaDB waits for a lock (50).
UNHELD = 45.0


@pytest.fixture(scope="module", params=["mariadb", pytest.param("postgresql", marks=pytest.mark.long)])
def server(request: pytest.FixtureRequest) -> Iterator[MariaDB | PostgreSQL]:
    """Of all tests here; each has a database of its own."""
    with database_server(request.param) as one:
        yield one


@pytest.fixture
def database(server: MariaDB | PostgreSQL, request: pytest.FixtureRequest) -> str:
    """An empty one: its URL."""
    return new_database(server, request)


def pair(site: Site, database: str) -> tuple[FaultConsumer, FaultConsumer]:
    """Two that are started at the same time."""
    limits = {"max_concurrent": 10000, "rate": 10000}
    both = [site.consumer(database, start=False, recovery=limits) for _ in range(2)]
    for one in both:
        one.start(wait=False)
    for one in both:
        wait_until(lambda one=one: one.said("reading faults from") > 0, 60, "it reads faults")  # type: ignore[misc]
    return both[0], both[1]


def outage(workers: FaultWorkers, number: int) -> list[Fault]:
    """A life of a fault: raised with a recovery, worse, over."""
    first = new(number)
    worse = replace(first, sequence=2, confidence="low")
    return [first, worse, cleared(worse)]


def test_two_share(site: Site, database: str, figure: Figure) -> None:
    """Each is told of each change once; both work."""
    workers = site.workers("cn1")
    both = pair(site, database)
    lives = [outage(workers, number) for number in range(1, 51)]
    began = time.time()
    workers.publish(*itertools.chain(*zip(*lives, strict=True)))
    wait_for(lambda: len(both[0].told()) >= 150, 60)
    figure("150 changes of 50 faults through two consumers", time.time() - began, "s", UNHELD)
    wait_for(lambda: site.messages() == 0)
    told = both[0].told()
    for life in lives:
        assert short(told, life[0]) == ["A1 raised", "A2 updated", "A3 cleared"]
    assert len({one["pid"] for one in told}) == 2
    assert site.api().active_faults() == []


def test_either_is_killed_at_any_time(site: Site, database: str, figure: Figure) -> None:
    """kill -9 of one, then of the other, again and again: all is delivered in order, each recovery posted once."""
    workers = site.workers("cn1")
    both = pair(site, database)
    lives = [outage(workers, number) for number in range(1, 61)]
    chance = random.Random(4)

    def told() -> set[tuple[str, int]]:
        return {(one["fault_id"], one["sequence"]) for one in both[0].told()}

    for step, faults in enumerate(zip(*lives, strict=True)):
        for at, fault in enumerate(faults):
            workers.publish(fault)
            if at % 20 == 10:
                victim = both[(step + at // 20) % 2]
                time.sleep(chance.uniform(0.0, 0.3))
                victim.kill()
                victim.start(wait=False)
        # A broker hands a dead consumer's messages out after later ones: of one fault those would be news of yesterday.
        step_told = {(fault.fault_id, fault.sequence) for fault in faults}
        wait_for(lambda step_told=step_told: step_told <= told(), 2 * TAKEN_OVER)  # type: ignore[misc]
    wait_for(lambda: site.messages() == 0, 30)
    lines = both[0].told()
    for life in lives:
        first_told = list(dict.fromkeys(short(lines, life[0])))
        assert first_told == ["A1 raised", "A2 updated", "A3 cleared"]
    figure("told twice, of 180, with nine kills", len(lines) - 180, "changes")
    keys = [tuple(one["key"]) for one in both[0].told("recovering")]
    assert len(keys) == len(set(keys)), "none is recovered twice"


@pytest.mark.parametrize("point", ["consumer.taken", "consumer.claimed", "consumer.granted", "consumer.delivered"])
def test_killed_at(site: Site, database: str, point: str, figure: Figure) -> None:
    """One dies there and stays dead: the other one takes over what it was at."""
    workers = site.workers("cn1")
    dies = site.consumer(database, start=False)
    dies.start({"VMHB_CRASH_AT": point})
    fault = new(1)
    workers.publish(fault)
    assert dies.wait(20) == -9
    died = time.time()
    lives = site.consumer(database)
    wait_for(lambda: len(lives.told("recovering")) == 1 and len(lives.told()) >= 1, TAKEN_OVER)
    figure(f"dead at {point} to the other's recovery", lives.told("recovering")[0]["at"] - died, "s", TAKEN_OVER)
    workers.publish(cleared(fault))
    wait_for(lambda: any(one["change"] == "cleared" for one in lives.told()), TAKEN_OVER)
    assert list(dict.fromkeys(short(lives.told(), fault))) == ["A1 raised", "A2 cleared"]
    time.sleep(1)
    assert len(lives.told("recovering")) == 1


def test_the_brake_is_of_both(site: Site, database: str) -> None:
    """Permits are counted in the database: two that ask at the same moment don't get the last place both."""
    workers = site.workers("cn1")
    limits = {"max_concurrent": 7, "rate": 10000}
    both = [site.consumer(database, recovery=limits) for _ in range(2)]
    workers.publish(*(new(number, cause="qemu_failed", project_id=f"p{number % 2}") for number in range(1, 61)))
    wait_for(lambda: len(both[0].told()) == 60, 30)
    wait_for(lambda: len(both[0].told("recovering")) == 7, 30)
    time.sleep(12)  # each of those that are held has asked again
    assert len(both[0].told("recovering")) == 7
    assert all(one.said("recoveries are held") == 1 for one in both)


def manage(consumer: FaultConsumer, *arguments: str) -> str:
    """What `nova-vmhb-manage recoveries` says, with that consumer's configuration."""
    command = [sys.executable, "-m", "vmhb_consumer.cmd.manage", "--config-file", str(consumer.config), "recoveries"]
    done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stopped(site: Site, both: Sequence[FaultConsumer], figure: Figure) -> None:
    """Pressed, obeyed by all and said by all; released, and gone on."""
    workers = site.workers("cn1")
    workers.publish(new(1, cause="qemu_failed"))
    wait_for(lambda: len(both[0].told("recovering")) == 1)
    assert "paused until" in manage(both[0], "pause", "--reason", "storage is being moved", "--for", "1h")
    pressed = time.time()
    workers.publish(*(new(number, cause="qemu_failed") for number in range(2, 7)))
    wait_for(lambda: all(one.said("recoveries are paused until") == 1 for one in both), 10)
    figure("pressed, to all saying so", time.time() - pressed, "s", 5.0)
    wait_for(lambda: len(both[0].told()) == 6)
    time.sleep(11)  # those that wait have asked again
    assert len(both[0].told("recovering")) == 1
    assert site.api().about()["paused"]["reason"] == "storage is being moved"
    shown = manage(both[0], "show")
    assert "places: 1 of 10 are held" in shown and "waiting: 5" in shown
    # Each once by whoever had it; by both, where one took long and the other took over.
    held = [
        re.findall(r"recovering: (instance .*) not delivered yet: paused until", one.log.read_text()) for one in both
    ]
    assert all(len(lines) == len({*lines}) for lines in held), held
    assert len({*itertools.chain(*held)}) == 5
    assert "recoveries are begun as they are asked for" in manage(both[-1], "resume")
    wait_for(lambda: len(both[0].told("recovering")) == 6, 20)
    assert all(one.said("recoveries are not paused any more: they were resumed") == 1 for one in both)
    assert site.api().about()["paused"] is None


def test_the_stop_button(site: Site, database: str, figure: Figure) -> None:
    """It is one for all consumers, wherever it is pressed."""
    stopped(site, [site.consumer(database) for _ in range(2)], figure)


def test_the_stop_button_of_one(site: Site, figure: Figure) -> None:
    """The same on SQLite, beside the consumer that runs."""
    stopped(site, [site.consumer()], figure)


def test_database_away(site: Site, server: MariaDB | PostgreSQL, database: str, figure: Figure) -> None:
    """What comes meanwhile waits in the broker; once it is back, all goes on by itself."""
    workers = site.workers("cn1")
    consumer = site.consumer(database)
    first, second = new(1, action="alarm"), new(2, action="alarm")
    workers.publish(first)
    wait_for(lambda: len(consumer.told()) == 1)
    server.halt()
    workers.publish(cleared(first), second)
    wait_for(lambda: consumer.said("notifications wait in the broker") == 1)
    assert site.messages() == 2
    server.boot()
    back = time.time()
    wait_for(lambda: len(consumer.told()) == 3, 60)
    figure("database back to the reporter told", consumer.told()[-1]["at"] - back, "s", 15.0)
    assert short(consumer.told(), first, second) == ["A1 raised", "A2 cleared", "B1 raised"]
    wait_for(lambda: site.messages() == 0)
    assert consumer.stop() < 2.0
