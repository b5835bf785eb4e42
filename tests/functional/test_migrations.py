"""Live migrations that are cancelled, and many at a host under load: no false fault, and no dead guest excused by them.

libvirt tells nothing of a job that was cancelled, so what excuses everybody must end by itself.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import Figure
from tests.functional.conftest import ALONE, Guests, Workers, faults
from tests.functional.test_excuses import APPLICATION, DEFAULTS, FOUND, QUICK, SLACK, of_cause, recovered
from tests.functional.test_silences import migrate
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.processes import LabError, wait_until
from tests.stage.consumer import ConsumerProcess
from tests.stage.worker import WorkerProcess
from vmhb_common.messaging.limited import NoEnd
from vmhb_common.worker_api import WorkerBusy, WorkerFailed

pytestmark = pytest.mark.unhurried

#: MiB a second: at this a guest's memory takes minutes, and whoever does not want to wait cancels it.
FOR_MINUTES = "1"
#: Seconds: longer than any time-out of 1/1/3, and than one interval of 10/5/3.
A_WHILE = 15.0
#: What one is judged after, from its last answer (threshold x interval + timeout), of both policies.
JUDGED = {"10/5/3": 35.0, "1/1/3": 4.0}
#: [verdict] hold, and the look at a kernel: a recovery is asked for so much later than the fault is found.
HELD = 25.0
#: Processes that never wait for anything: the load of the host that is asked for, and what the guests themselves need.
LOAD, LOOPS = 16.0, 17
#: Migrations that go through.
MANY = 50


@pytest.fixture
def other_node() -> Iterator[Node]:
    """Where a guest can be migrated to."""
    with Node("other-node") as one:
        yield one


def on(node: Node, worker: Workers, host: str) -> WorkerProcess:
    """A worker of this node's, in its namespaces: application channels are seen from in there only."""
    daemon = worker(start=False, host=host, uri=node.uri, verdict=ALONE)
    daemon.where = node.inside
    daemon.start()
    return daemon


@dataclass
class Migration:
    """One that is under way, until it is cancelled or has come to its end."""

    guest: Guest
    to: Node
    folder: pathlib.Path
    bandwidth: str
    moved: Guest | None = None
    refused: LabError | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._go)
        self.thread.start()

    def _go(self) -> None:
        xml = self.folder / f"{self.guest.name}-to-{self.to.name}.xml"
        try:
            self.moved = migrate(self.guest, self.to, xml, "--bandwidth", self.bandwidth)
        except LabError as error:
            self.refused = error

    def begun(self) -> None:
        """libvirt is at it."""
        wait_until(
            lambda: "Outgoing migration" in self.guest.node.virsh("domjobinfo", self.guest.name, check=False),
            30,
            f"the migration of {self.guest.name} has begun",
            every=0.2,
        )

    def cancel(self) -> float:
        """Whether it is in time or not; returns when."""
        moment = time.monotonic()
        self.guest.node.virsh("domjobabort", self.guest.name, check=False)
        self.thread.join(60)
        assert not self.thread.is_alive()
        return moment


CASES = [*itertools.product(("agent", "application"), JUDGED)]


@pytest.mark.long
@pytest.mark.parametrize(("channel", "policy"), CASES)
def test_a_migration_that_is_cancelled(
    channel: str,
    policy: str,
    guests: Guests,
    worker: Workers,
    consumer: ConsumerProcess,
    node: Node,
    other_node: Node,
    application_image: Image,
    tmp_path: pathlib.Path,
    figure: Figure,
) -> None:
    """Of a guest that is well; of some whose kernels died before it, while it was on, and right after it was cancelled.

    The first is left alone. The others are found dead, since their balloon can be asked: no later than `probe_interval`
    and 5 s after what excused them was over, and no recovery is asked for while it was on.
    """
    knobs = {**(DEFAULTS if policy == "10/5/3" else QUICK), "channel": channel}
    kind: dict[str, Any] = {}
    if channel == "application":
        kind = {"application": True, "memory": 160, "guest_image": application_image}
    well, before, during, after = (guests.get(fresh=True, policy=knobs, **kind) for _ in range(4))
    daemon, _ = on(node, worker, "source"), on(other_node, worker, "target")
    for guest in (well, before, during, after):
        daemon.wait_known(guest.uuid)
    began = time.monotonic()
    before.panic()
    migrations = [Migration(guest, other_node, tmp_path, FOR_MINUTES) for guest in (well, before, during, after)]
    for migration in migrations:
        migration.begun()
    time.sleep(A_WHILE / 2)
    during.panic()
    time.sleep(A_WHILE)
    assert all(migration.thread.is_alive() for migration in migrations), "none of them is over yet"
    assert recovered(consumer, before, began) == recovered(consumer, during, began) == []
    cancelled = [migration.cancel() for migration in migrations][-1]
    assert all(migration.refused for migration in migrations), "none of them went through"
    died = after.panic()
    for name, guest in {"before": before, "during": during, "right after": after}.items():
        found = of_cause(consumer, guest, "guest_hung", began, died + FOUND + SLACK)
        # One that was found before the excuse began is not found anew.
        figure(f"{channel}, {policy}: dies {name} it, from the cancel until found", found.at - cancelled, "s", FOUND)

    def all_asked_for() -> bool:
        return all(recovered(consumer, guest, began) for guest in (before, during, after))

    wait_until(all_asked_for, FOUND + HELD, "their recoveries are asked for", every=0.5)
    time.sleep(max(0.0, cancelled + JUDGED[policy] + 10.0 - time.monotonic()))
    assert faults(consumer, well, began) == []
    wait_until(lambda: answers(daemon, well), 30, "it answers as ever")


def test_a_guest_that_dies_on_its_way_back(
    guests: Guests,
    worker: Workers,
    consumer: ConsumerProcess,
    node: Node,
    other_node: Node,
    tmp_path: pathlib.Path,
    figure: Figure,
) -> None:
    """To a host that still remembers it: it has not booted there, and is owed a threshold, not a boot's grace."""
    guest = guests.get(fresh=True, policy=QUICK)
    here, there = on(node, worker, "here"), on(other_node, worker, "there")
    here.wait_known(guest.uuid)
    away = Migration(guest, other_node, tmp_path, "64")
    away.thread.join(120)
    assert away.moved is not None, away.refused
    wait_until(lambda: answers(there, guest), 60, "it answers there", every=0.5)
    back = Migration(away.moved, node, tmp_path, "4")
    back.begun()
    died = away.moved.panic()
    back.thread.join(120)
    assert back.moved is not None, back.refused
    arrived = time.monotonic()
    raised = consumer.wait_fault("raised", guest.uuid, 30, since=died)
    figure("dies on its way back: from its arrival until raised", raised.at - arrived, "s", 15)
    assert (raised.host, raised.cause in ("guest_silent", "guest_hung")) == ("here", True), raised
    assert here.show(guest.uuid)["state"] == "silent"


def answers(daemon: WorkerProcess, guest: Guest) -> bool:
    """Does it, and nothing is expected to keep it from that? A worker at load may not say so in time."""
    try:
        shown = daemon.show(guest.uuid)
    except (NoEnd, WorkerFailed, WorkerBusy):
        return False
    age = shown.get("last_ack_age")
    return bool(shown.get("state") == "alive" and not shown["silences"] and age is not None and age < 12)


@contextlib.contextmanager
def busy_loops(node: Node, number: int) -> Iterator[None]:
    """So many, as nice as the guests; until the host's load is what they make it."""
    loops = [
        subprocess.Popen(["sh", "-c", "while :; do :; done"], stdin=subprocess.DEVNULL, start_new_session=True)
        for _ in range(number)
    ]
    assert len({os.getpriority(os.PRIO_PROCESS, pid) for pid in (node.pid, *(loop.pid for loop in loops))}) == 1
    try:
        wait_until(lambda: os.getloadavg()[0] >= LOAD, 300, f"the load is {LOAD:g}", every=1.0)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


class Traveller:
    """A guest that goes from one host to the other and back; another one, where the emulator does not let it live.

    QEMU 7.2 loses a guest in some of the longer migrations that it emulates, whoever watches or not: its kernel panics,
    or hangs, as it arrives. So whether one lives is asked of its user space, by a port that no worker of ours knows.
    """

    def __init__(self, make: Callable[[], Guest], nodes: Sequence[Node], folder: pathlib.Path) -> None:
        self._make = make
        self._nodes = nodes
        self._folder = folder
        self.guest = make()
        self.seconds: list[float] = []
        self.cancelled = 0
        self.lost: list[str] = []
        self.uuids = [self.guest.uuid]

    def go(self, bandwidth: str, cancel_after: float | None = None) -> None:
        """Once; or be called back on the way, where it is not quicker."""
        there = next(node for node in self._nodes if node is not self.guest.node)
        began = time.monotonic()
        migration = Migration(self.guest, there, self._folder, bandwidth)
        if cancel_after is not None:
            migration.thread.join(cancel_after)
            migration.cancel()
        migration.thread.join()
        if migration.moved is not None:
            self.guest = migration.moved
            self.seconds.append(time.monotonic() - began)
        else:
            assert cancel_after is not None, migration.refused
            self.cancelled += 1

    def lives(self) -> bool:
        """Does its user space answer, on a machine at load?"""
        try:
            return self.guest.run("echo lives", 60) == "lives\n"
        except LabError:
            return False

    def replace(self) -> None:
        """By another like it."""
        self.lost.append(self.guest.uuid)
        self.guest.destroy()
        self.guest.undefine()
        self.guest = self._make()
        self.uuids.append(self.guest.uuid)


@pytest.mark.long
def test_fifty_migrations_at_load(
    guests: Guests,
    worker: Workers,
    consumer: ConsumerProcess,
    node: Node,
    other_node: Node,
    application_image: Image,
    tmp_path: pathlib.Path,
    figure: Figure,
) -> None:
    """To and fro, of guests of both channels under both policies, some cancelled on the way, at a load of 16 and more:
    no recovery of one that lives, and at the defaults not a word. (Of one at load 16 a recovery was asked for once.)"""
    daemons = {one: on(one, worker, one.name) for one in (node, other_node)}
    making = threading.Lock()

    def maker(knobs: dict[str, object], kind: dict[str, Any]) -> Callable[[], Guest]:
        def make() -> Guest:
            policy = {**knobs, **(APPLICATION if kind else {}), "action": "recover_unresponsive"}
            with making:
                guest = guests.get(fresh=True, policy=policy, **kind)
                wait_until(lambda: answers(daemons[node], guest), 300, f"{guest.name} is known", every=2.0)
            return guest

        return make

    applications: dict[str, Any] = {"application": True, "memory": 160, "guest_image": application_image}
    nodes = (node, other_node)
    quick = [Traveller(maker(QUICK, kind), nodes, tmp_path) for kind in ({}, applications)]
    usual = [Traveller(maker(DEFAULTS, kind), nodes, tmp_path) for kind in ({}, applications)]
    travellers, loads = quick + usual, list[float]()

    def travel(number: int, traveller: Traveller) -> None:
        if number % 3 == 2:
            traveller.go("2", cancel_after=8.0 + 2 * (number % 5))
        traveller.go(("6", "12", "64")[number % 3])
        loads.append(os.getloadavg()[0])
        if not traveller.lives():
            traveller.replace()
            return
        daemon = daemons[traveller.guest.node]
        wait_until(lambda: answers(daemon, traveller.guest), 300, f"{traveller.guest.name} answers there", every=2.0)

    with busy_loops(node, LOOPS):
        began = time.monotonic()
        for number in itertools.count():
            with ThreadPoolExecutor(len(travellers)) as pool:
                list(pool.map(lambda one, number=number: travel(number, one), travellers))
            if sum(len(one.seconds) for one in travellers) >= MANY:
                break
        time.sleep(JUDGED["10/5/3"] + 10)  # nothing is being found out any more
    told = consumer.faults(since=began)
    for each in (each for one in travellers for each in one.seconds):
        figure("migrations at load: each took", each, "s")
    figure("migrations at load: went through", sum(len(one.seconds) for one in travellers), "")
    figure("migrations at load: cancelled", sum(one.cancelled for one in travellers), "")
    figure("migrations at load: load of the host, at its least", min(loads), "")
    figure("migrations at load: guests that did not outlive one", sum(len(one.lost) for one in travellers), "")
    living = {uuid for one in travellers for uuid in one.uuids if uuid not in one.lost}
    words = [n for n in told if n.instance_uuid in living]
    figure("migrations at load: faults of guests that lived", len({n.fault_id for n in words}), "")
    print(*(f"{n.at - began:.1f} {n}" for n in told), sep="\n")
    assert min(loads) >= LOAD
    assert [str(n) for n in words if n.recommended_action == "recover"] == []
    defaults = {uuid for one in usual for uuid in one.uuids}
    assert [str(n) for n in words if n.instance_uuid in defaults] == []
