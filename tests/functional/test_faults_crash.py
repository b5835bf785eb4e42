"""The worker is killed at the worst moments: each fault is told, once, with one id from its raise to its clear."""

from __future__ import annotations

import itertools
import os
import random
import re
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Figure, Repetitions
from tests.functional.conftest import Guests, Workers
from tests.functional.story import assert_sound, duplicates
from tests.lab.guest import Guest
from tests.lab.node import Node
from tests.lab.processes import wait_until
from tests.stage.consumer import ConsumerProcess
from tests.stage.worker import WorkerProcess
from vmhb_common.app.crashpoint import POINTS, VARIABLE

pytestmark = pytest.mark.patient

#: Where a raise, and a clear, take the worker past.
RAISING = (
    *("verdict.accused", "probe.stored", "probe.set", "commit.before", "commit.after"),
    *("send.before", "send.confirmed", "send.deleted"),
)
CLEARING = ("verdict.acquitted", "commit.before", "commit.after", "send.before", "send.confirmed", "send.deleted")
#: A policy by which an outage takes little of the test's time.
QUICK = {"interval": 1, "timeout": 0.5, "threshold": 2}
#: The period of the balloon's statistics that Nova has asked for (seconds).
PERIOD = 10
#: A worker that was started again has this long (seconds) to put it back: the start, and a call.
PUT_BACK = 2.0
#: A restarted worker waits an interval for libvirt, then grants a full threshold; the start itself takes a while.
AGAIN = 20.0


def period(node: Node, guest: Guest) -> int:
    """The balloon's period as QEMU has it now."""
    found = re.search(r"<stats period='(\d+)'/>", node.virsh("dumpxml", guest.name))
    return int(found[1]) if found else 0


class Mortal:
    """A worker that dies where it is told to, and comes back."""

    def __init__(self, process: WorkerProcess, point: Path) -> None:
        self.process = process
        self._point = point

    def start(self) -> float:
        """A life in which nothing happens, until `die_at`."""
        self._point.write_text("")
        return self.process.start({VARIABLE: str(self._point)})

    def die_at(self, name: str) -> None:
        """Kill itself when it gets there next."""
        self._point.write_text(name)

    def die_and_return(self, at: float) -> None:
        """Be killed from outside at this moment, and start again at once."""
        time.sleep(max(0.0, at - time.monotonic()))
        self.process.kill()
        self.start()

    def died(self, timeout: float) -> float:
        """Wait for its end; when that was seen."""
        return wait_until(lambda: self.process.ended, timeout, "the worker killed itself")


@pytest.fixture
def mortal(worker: Workers, tmp_path: Path) -> Mortal:
    """Runs."""
    one = Mortal(worker(start=False), tmp_path / "point")
    one.start()
    return one


@pytest.fixture
def sound(consumer: ConsumerProcess) -> Iterator[None]:
    """After each test: the whole reading of the module makes sense."""
    yield
    assert_sound(consumer.read)


def test_every_point_is_used() -> None:
    """Whoever adds a crash point adds it here."""
    assert {*RAISING, *CLEARING} == {point.name for point in POINTS if not point.name.startswith("consumer.")}


@pytest.mark.usefixtures("sound")
@pytest.mark.parametrize(
    ("raising", "clearing"),
    # Points of the second half are in a clear's way as well: the short run meets them there.
    [
        pytest.param(raising, clearing, marks=[] if clearing else pytest.mark.long)
        for raising, clearing in itertools.zip_longest(RAISING, CLEARING)
    ],
)
def test_killed_at_each_point(
    raising: str,
    clearing: str | None,
    mortal: Mortal,
    guests: Guests,
    node: Node,
    consumer: ConsumerProcess,
    figure: Figure,
) -> None:
    """Killed on the way to a raise and again on the way to the clear: told once, by one id, nothing left over."""
    guest = guests.get(policy=QUICK)
    mortal.process.wait_known(guest.uuid)
    mortal.die_at(raising)
    stopped = guest.stop_agent()
    mortal.died(12)
    started = mortal.start()
    probed = raising.startswith("probe")
    if probed:
        wait_until(lambda: period(node, guest) == PERIOD, PUT_BACK, "the balloon's period is put back")
        figure("balloon's period put back after a start", time.monotonic() - started, "s")
    raised = consumer.wait_fault("raised", guest.uuid, AGAIN, since=stopped)
    figure("killed before a raise: raised after the next start", max(0.0, raised.at - started), "s")
    settle(mortal.process, consumer, guest, stopped)
    if clearing is not None:
        mortal.die_at(clearing)
    continued = guest.continue_agent()
    if clearing is not None:
        mortal.died(25)
        started = mortal.start()
    cleared = consumer.wait_fault("cleared", guest.uuid, AGAIN, since=continued)
    if clearing is not None:
        figure("killed before a clear: cleared after the next start", max(0.0, cleared.at - started), "s")
    told_once(consumer, guest, stopped, raised.fault_id)
    wait_until(lambda: period(node, guest) == PERIOD, PUT_BACK, "the balloon's period is Nova's")


@pytest.mark.usefixtures("sound")
def test_killed_at_random_moments(
    mortal: Mortal,
    guests: Guests,
    node: Node,
    consumer: ConsumerProcess,
    repetitions: Repetitions,
    figure: Figure,
) -> None:
    """Killed at any moment of an outage: told once, by one id, and nothing is left over."""
    guest = guests.get(policy=QUICK)
    mortal.process.wait_known(guest.uuid)
    seed = int(os.environ.get("VMHB_SEED", secrets.randbits(32)))
    print(f"VMHB_SEED={seed}")
    dice = random.Random(seed)
    for number in range(repetitions(3, 50)):
        moment, pause = dice.uniform(0.0, 10.0), dice.uniform(0.0, 2.0)
        print(
            f"{number}: killed {moment:.3f} s after the agent was stopped, which goes on {pause:.3f} s after the raise"
        )
        stopped = guest.stop_agent()
        death = threading.Thread(target=mortal.die_and_return, args=(stopped + moment,))
        death.start()
        raised = consumer.wait_fault("raised", guest.uuid, 10 + AGAIN, since=stopped)
        time.sleep(pause)
        continued = guest.continue_agent()
        consumer.wait_fault("cleared", guest.uuid, 10 + AGAIN, since=continued)
        death.join()
        settle(mortal.process, consumer, guest, stopped)
        told_once(consumer, guest, stopped, raised.fault_id)
        wait_until(lambda: period(node, guest) == PERIOD, PUT_BACK, "the balloon's period is Nova's")
    figure("notifications that were told twice", duplicates(consumer.read), "")


def settle(process: WorkerProcess, consumer: ConsumerProcess, guest: Guest, since: float) -> None:
    """Until all that is to be said for now of this guest's outage has been said, and nothing waits."""

    def still() -> bool:
        last = consumer.faults(guest.uuid, since)[-1]
        return bool(last.data["withheld"] != "evidence" or last.data["state"] == "cleared")

    wait_until(still, 12, f"nothing more is to be said of {guest.name}")
    wait_until(lambda: bool(process.show(guest.uuid)), 12, "the worker answers")
    time.sleep(0.3)  # the rows of what was sent are removed


def told_once(consumer: ConsumerProcess, guest: Guest, since: float, fault_id: str) -> None:
    """Since then this guest had this fault, and no other."""
    assert {one.fault_id for one in consumer.faults(guest.uuid, since)} == {fault_id}
