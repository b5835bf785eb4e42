"""Guests that hang, and those beside them: nobody is detected later for it, and other users of libvirtd don't notice.

The figures compare within one run: before, while, and after the neighbours hang, in turns.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.conftest import Figure, Repetitions
from tests.functional.conftest import ALONE, POLICY, Workers
from tests.functional.story import assert_sound
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.processes import wait_until
from tests.lab.tap import Tap
from tests.stage.consumer import ConsumerProcess, Notification
from tests.stage.crowd import crowd, stubs, together
from tests.stage.domstats import DomstatsLoop
from tests.stage.worker import WorkerProcess

#: threshold x interval + timeout: from the last acknowledgement to the fault.
JUDGED = 3 * 1 + 1
#: How much later a hang may be detected for ten others that are known to hang, or for a QEMU that does.
BESIDE = 1.05
#: How many times as long it may take when ten hang together.
TOGETHER = 2.0
#: How much slower another client's `domstats` may be.
SLOWER = 1.10
#: Agent commands in libvirtd at a time: [agent] workers + slow_workers, by default.
COMMANDS = 4 + 4
HUNG = 10
#: Those that hang one at a time take turns: the fourth fault of one within ten minutes would be kept open.
VICTIMS = 4
#: Once nothing holds a worker up, it trusts itself again within so many seconds.
TRUSTED = 60.0
#: Calls of `domstats` in one measurement: some 2.5 s. Pairs of them in the long run, and where there is doubt.
CALLS, PAIRS = 25, 15


@pytest.fixture(scope="module")
def everybody(node: Node, image: Image) -> list[Guest]:
    """Guests that answer: some to hang one at a time, one that never does, and ten more."""
    return crowd(node, image, VICTIMS + 1 + HUNG, **POLICY)


@pytest.fixture
def tap(node: Node) -> Iterator[Tap]:
    """Counts what the worker has in libvirtd at a time."""
    with Tap(node.folder / "run") as one:
        yield one


@dataclass
class Neighbourhood:
    """The guests, and what was seen of their outages."""

    daemon: WorkerProcess
    tap: Tap
    consumer: ConsumerProcess
    victims: list[Guest]
    witness: Guest
    others: list[Guest]
    outages: dict[str, int] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def know_all(self) -> None:
        """Until the worker knows each well."""
        for guest in (*self.victims, self.witness, *self.others):
            self.daemon.wait_known(guest.uuid)

    def hang(self, guests: list[Guest]) -> list[tuple[float, Notification]]:
        """All together; for each, when its agent was stopped, and its raise."""
        began = time.monotonic()
        stopped = together(lambda guest: guest.stop_agent(), guests)
        for guest in guests:
            self.outages[guest.uuid] = self.outages.get(guest.uuid, 0) + 1
        return [
            (at, self.consumer.wait_fault("raised", guest.uuid, 30, since=began))
            for at, guest in zip(stopped, guests, strict=True)
        ]

    def judged(self, raised: Notification) -> float:
        """Seconds from the last acknowledgement to the raise, as the tap and the log have them.

        Unlike the time since the agent was stopped, it is free of the beats' phase.
        """
        at = self.daemon.moment_of(f"fault {raised.fault_id} raised")
        return at - self.tap.last_answer(raised.instance_uuid, at)

    def heal(self, guests: list[Guest]) -> None:
        """All together; until each is cleared."""
        began = time.monotonic()
        together(lambda guest: guest.continue_agent(), guests)
        for guest in guests:
            self.consumer.wait_fault("cleared", guest.uuid, 40, since=began)

    def hang_one(self, times: int) -> list[float]:
        """So often, at any phase of its beats; seconds from its last acknowledgement to each fault."""
        took = []
        for _ in range(times):
            time.sleep(1.5 + random.random())
            victim = min(self.victims, key=lambda guest: self.outages.get(guest.uuid, 0))
            [(_, raised)] = self.hang([victim])
            took.append(self.judged(raised))
            self.heal([victim])
        return took

    def assert_fair(self) -> None:
        """Each had as many faults as outages, and the one that never hung had none."""
        told = self.consumer.faults(since=self.began)
        raises = [one.instance_uuid for one in told if one.event_type == "vmhb.fault.raised"]
        for guest in (*self.victims, self.witness, *self.others):
            assert raises.count(guest.uuid) == self.outages.get(guest.uuid, 0), guest
        self.wait_trusted()
        assert_sound(self.consumer.read)

    def wait_trusted(self) -> None:
        """Until the host is not suspect any more: a worker that was made to stand still doubts itself, and says so."""
        last = {one.fault_id: one for one in self.consumer.faults(since=self.began) if one.instance_uuid is None}
        for one in last.values():
            assert one.cause == "host_suspect" and "awareness" in one.evidence, one
            if one.event_type != "vmhb.fault.cleared":
                is_its_clear = partial(_clears, one.fault_id)
                self.consumer.wait_for("the host is trusted again", is_its_clear, TRUSTED, since=self.began)


def _clears(fault_id: str, one: Notification) -> bool:
    return one.event_type == "vmhb.fault.cleared" and one.fault_id == fault_id


@pytest.fixture
def street(worker: Workers, consumer: ConsumerProcess, everybody: list[Guest], tap: Tap) -> Iterator[Neighbourhood]:
    """A worker that knows them all, through the tap. Afterwards all are well again, and were treated fairly."""
    victims, (witness, *others) = everybody[:VICTIMS], everybody[VICTIMS:]
    one = Neighbourhood(worker(uri=tap.uri, verdict=ALONE), tap, consumer, victims, witness, others)
    one.know_all()
    yield one
    together(lambda guest: guest.continue_agent(), everybody)  # a test that failed may have left them hanging
    one.assert_fair()


def test_one_beside_ten_known_to_hang(
    street: Neighbourhood, tap: Tap, repetitions: Repetitions, figure: Figure
) -> None:
    """Detected as soon as without them. Ten that hang together take no more than twice as long as one."""
    times = repetitions(2, 4)
    alone = street.hang_one(times)

    for stopped, raised in street.hang(street.others):
        figure("ten hang together: last ack to fault", street.judged(raised), "s", TOGETHER * JUDGED)
        figure("ten hang together: agent stopped to notification read", raised.at - stopped, "s", TOGETHER * JUDGED)
    time.sleep(10)  # they are all asked in the slow lane by now, less and less often
    beside = street.hang_one(times)
    street.heal(street.others)

    alone += street.hang_one(times)
    for took in alone:
        figure("one hangs: last ack to fault", took, "s")
    for took in beside:
        figure("one hangs beside ten: last ack to fault", took, "s")
    figure("one hangs beside ten: median, relative", statistics.median(beside) / statistics.median(alone), "", BESIDE)
    figure("agent commands in libvirtd at a time", tap.most(), "", COMMANDS)
    figure("agent commands to one guest at a time", tap.most_to_one(), "", 1)


def test_one_beside_a_qemu_that_hangs(
    street: Neighbourhood, tap: Tap, repetitions: Repetitions, figure: Figure
) -> None:
    """QEMU's own silence delays nobody else."""
    times = repetitions(2, 4)
    alone = street.hang_one(times)
    stuck = street.others[0]
    stopped = stuck.stop_qemu()
    try:
        street.outages[stuck.uuid] = street.outages.get(stuck.uuid, 0) + 1
        hung = street.consumer.wait_for(
            "qemu_hung",
            lambda one: one.data.get("instance_uuid") == stuck.uuid and one.data.get("cause") == "qemu_hung",
            15,
            since=stopped,
        )
        figure("QEMU stopped to notification of qemu_hung read", hung.at - stopped, "s", 10)
        beside = street.hang_one(times)
    finally:
        stuck.continue_qemu()
    street.consumer.wait_fault("cleared", stuck.uuid, 40, since=stopped)
    alone += street.hang_one(times)
    relative = statistics.median(beside) / statistics.median(alone)
    figure("one hangs beside a stopped QEMU: median, relative", relative, "", BESIDE)
    figure("agent commands in libvirtd at a time", tap.most(), "", COMMANDS)


def test_domstats_of_another_client(
    street: Neighbourhood, node: Node, repetitions: Repetitions, figure: Figure
) -> None:
    """With ten hung guests: no slower, in pairs, beside a worker that runs than beside one that stands still.

    Where a few pairs say "slower", all are measured: what else this machine does moves one by a fifth either way.
    """
    street.hang(street.others)
    client = DomstatsLoop(node.uri)
    few, ratios = repetitions(3, PAIRS), list[float]()
    try:
        client.calls(20)
        while len(ratios) < few or (len(ratios) < PAIRS and statistics.median(ratios) > SLOWER):
            street.daemon.pause()
            time.sleep(5.5)  # what it has in libvirtd comes to its end
            without = statistics.median(client.calls(CALLS))
            street.daemon.go_on()
            time.sleep(2)
            beside = statistics.median(client.calls(CALLS))
            figure("domstats of 12 domains, worker stopped", 1000 * without, "ms")
            figure("domstats of 12 domains, beside the worker", 1000 * beside, "ms")
            ratios.append(beside / without)
    finally:
        client.close()
    figure("domstats beside the worker: median, relative", statistics.median(ratios), "", SLOWER)
    street.heal(street.others)


def test_memory(street: Neighbourhood, node: Node, image: Image, figure: Figure) -> None:
    """Twenty instances: those that answer, of which three hang meanwhile, and others that run and never answer."""
    more = stubs(node, image, 20 - (VICTIMS + 1 + HUNG), **POLICY)
    wait_until(lambda: len(street.daemon.api.list("lab-node")) == 20, 20, "twenty instances are watched")
    street.hang(street.others[:3])
    time.sleep(5)
    figure("worker's resident memory with 20 instances", street.daemon.rss / 2**20, "MiB", 100)
    street.heal(street.others[:3])
    for one in more:
        one.destroy()
