"""Absences that are no faults: whatever libvirt, the operator, the guest or the host did, nobody is accused for it.

"No fault": none from the deed on, and none for threshold x interval + timeout after acks are back. Every absence here
lasts longer than the 4 s after which a guest that is to blame would have been accused.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Figure
from tests.functional.conftest import QUIET, Guests, Workers, acks, assert_quiet, faults
from tests.lab.guest import Guest
from tests.lab.node import Node
from tests.lab.processes import wait_until
from tests.stage.consumer import ConsumerProcess, Notification
from tests.stage.worker import WorkerProcess

#: Longer than threshold x interval + timeout.
LONG = 6.0

#: After a raise, the balloon's answer is known within this many seconds, and its period put back.
FINAL = 3.0

Three = tuple[Guest, Guest, Guest]


@pytest.fixture
def guest(guests: Guests) -> Guest:
    """Somebody whose heartbeats are going to stay away."""
    return guests.get()


@pytest.fixture
def three(guests: Guests) -> Three:
    """Three of them: what takes a while happens to all of them at a time."""
    return guests.get(), guests.get(), guests.get()


def known(daemon: WorkerProcess, *which: Guest) -> None:
    """Wait until all of them acknowledge."""
    for one in which:
        wait_until(lambda one=one: acks(daemon, one), 30, f"{one.name} acknowledges")  # type: ignore[misc]


def told_state(daemon: WorkerProcess, guest: Guest, state: str, within: float = 5) -> float:
    """Wait until the worker knows it to be in this state; when that was."""
    return wait_until(
        lambda: daemon.show(guest.uuid)["state"] == state, within, f"the worker knows {guest.name} to be {state}"
    )


# -- what is done to a domain


def test_pauses(three: Three, worker: Workers, consumer: ConsumerProcess) -> None:
    """Suspended and resumed; saved and started again: owed a full threshold when they go on."""
    suspended, saved, _ = three
    daemon = worker()
    known(daemon, *three)
    begun = suspended.suspend()
    saved.managedsave()
    told_state(daemon, saved, "gone")
    assert "paused" in daemon.show(suspended.uuid)["silences"]
    time.sleep(LONG)
    suspended.resume()
    saved.start()
    for guest in three:
        assert_quiet(daemon, consumer, guest, begun, seconds=QUIET / len(three))


def test_boots(three: Three, worker: Workers, consumer: ConsumerProcess) -> None:
    """Reset; rebooted from inside; and as systemd does it: the agent ends first, another service takes 8 s.

    At the default exit_settle_time.
    """
    orderly, reset, reboot = three
    daemon = worker()
    known(daemon, *three)
    begun = orderly.reboot(orderly=8)
    reset.reset()
    reboot.reboot()
    told_state(daemon, reset, "waiting")
    told_state(daemon, reboot, "waiting")
    assert daemon.show(orderly.uuid)["state"] == "alive"
    assert told_state(daemon, orderly, "waiting", 20) - begun > 8
    known(daemon, *three)
    for guest in three:
        assert_quiet(daemon, consumer, guest, begun, seconds=QUIET / len(three))


@contextlib.contextmanager
def read_slowly(path: pathlib.Path, mib_a_second: float) -> Iterator[None]:
    """Make this a fifo that is read so slowly that whatever libvirt writes into it lasts.

    Both of its ends stay open until the job is over. To finish a memory snapshot libvirt closes the file and opens it
    once more: with a reader who had left at the first end, it would wait for the next one with the domain's lock in its
    hand, and everybody who lists or defines domains with it.
    """
    os.mkfifo(path)
    fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    over = threading.Event()

    def run() -> None:
        begun, read, pause = time.monotonic(), 0, 0.0
        while not over.wait(pause):
            try:
                read += len(os.read(fifo, 1 << 16))
            except BlockingIOError:
                pause = 0.01
            else:
                pause = max(0.0, begun + read / (mib_a_second * 2**20) - time.monotonic())

    reader = threading.Thread(target=run)
    reader.start()
    try:
        yield
    finally:
        over.set()
        reader.join()
        os.close(fifo)


#: The first and the last stop the guest's vCPUs, the others don't.
JOBS = (
    "dump {name} {fifo} --memory-only",
    "dump {name} {fifo} --live",
    "snapshot-create-as {name} --memspec file={fifo} --no-metadata",
)


def test_jobs(three: Three, worker: Workers, consumer: ConsumerProcess, tmp_path: pathlib.Path, figure: Figure) -> None:
    """What libvirt itself does to a domain for longer than the threshold is nobody's fault."""
    daemon = worker()
    known(daemon, *three)
    begun = time.monotonic()

    def run(guest: Guest, job: str) -> None:
        fifo = tmp_path / guest.name
        with read_slowly(fifo, 10):
            guest.node.virsh(*job.format(name=guest.name, fifo=fifo).split(), timeout=120)
        took = time.monotonic() - begun
        figure(f"duration of {job.split(maxsplit=1)[0]}", took, "s")
        assert took > LONG

    with ThreadPoolExecutor(len(JOBS)) as pool:
        list(pool.map(run, three, JOBS))
    for guest in three:
        assert_quiet(daemon, consumer, guest, begun, seconds=QUIET / len(three))


@pytest.fixture
def other_node() -> Iterator[Node]:
    """Where a guest can be migrated to."""
    with Node("other-node") as one:
        yield one


def written(guest: Guest) -> None:
    """Wait until its domain says that it has been established: of that, what is written later does not travel."""
    mark = 'established="true"'
    wait_until(lambda: mark in guest.node.virsh("dumpxml", guest.name), 10, f"{guest.name}'s domain says {mark}")


def migrate(guest: Guest, to: Node, xml: pathlib.Path, *flags: str) -> Guest:
    """Move a running guest there, and leave nothing of it here. As Nova does, but for the disks, which it has none."""
    here = guest.node
    xml.write_text(here.virsh("dumpxml", guest.name, "--migratable").replace(str(here.folder), str(to.folder)))
    persistently = ("--persistent", "--undefinesource", "--xml", str(xml))
    here.virsh("migrate", "--live", "--p2p", *persistently, *flags, guest.name, to.uri, timeout=300)
    moved = Guest(to, guest.name)
    moved.uuid = guest.uuid
    return moved


def test_migration(
    guests: Guests,
    worker: Workers,
    consumer: ConsumerProcess,
    other_node: Node,
    tmp_path: pathlib.Path,
    figure: Figure,
) -> None:
    """A guest that is live migrated for longer than the threshold goes on, on the other host, as if nothing was."""
    guest = guests.get(fresh=True)
    source, target = worker(host="source"), worker(host="target", uri=other_node.uri)
    known(source, guest)
    written(guest)
    begun = time.monotonic()
    migrate(guest, other_node, tmp_path / "there.xml", "--bandwidth", "8")
    figure("duration of a migration", time.monotonic() - begun, "s")
    assert time.monotonic() - begun > LONG
    told_state(source, guest, "gone")
    assert_quiet(target, consumer, guest, begun)
    # It was established before, and nobody is told again.
    assert [n for n in consumer.read if n.at >= begun and n.event_type.startswith("vmhb.heartbeat")] == []


def test_migration_of_a_hung_guest(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, other_node: Node, tmp_path: pathlib.Path
) -> None:
    """Its fault here is closed as moved; there, a full threshold later, another one is raised.

    That it was once established travels with its domain: else it would have its grace, which is ten minutes.
    """
    guest = guests.get(fresh=True)
    source = worker(host="source")
    worker(host="target", uri=other_node.uri)
    known(source, guest)
    written(guest)
    stopped = guest.stop_agent()
    here = consumer.wait_fault("raised", guest.uuid, 10, since=stopped)
    time.sleep(FINAL)
    moving = time.monotonic()
    moved = migrate(guest, other_node, tmp_path / "there.xml")
    closed = consumer.wait_fault("cleared", guest.uuid, 5, since=moving)
    assert (closed.fault_id, closed.host, closed.resolution) == (here.fault_id, "source", "moved")
    there = consumer.wait_fault("raised", guest.uuid, 10, since=moving)
    assert there.host == "target" and there.misses == 3 and there.fault_id != here.fault_id
    healed = moved.continue_agent()
    cleared = consumer.wait_fault("cleared", guest.uuid, 15, since=healed)
    assert (cleared.fault_id, cleared.resolution) == (there.fault_id, "recovered")
    assert not source.show(guest.uuid) or source.show(guest.uuid)["state"] == "gone"


# -- what is done to libvirtd


def test_libvirtd_restarted(three: Three, worker: Workers, consumer: ConsumerProcess, node: Node) -> None:
    """Ended in order, or killed, and started again: its guests are found to be alive as ever."""
    daemon = worker()
    known(daemon, *three)
    begun = node.restart_libvirtd()
    time.sleep(3)
    node.restart_libvirtd(kill=True)
    for guest in three:
        assert_quiet(daemon, consumer, guest, begun, seconds=QUIET / len(three))
    assert daemon.said("libvirt is away, no instance is judged") == 2


# 8: it was never noticed; 20: keepalive has given up after 16; 30: and there were attempts to connect.
@pytest.mark.parametrize(
    "seconds", [pytest.param(8, marks=pytest.mark.long), 20, pytest.param(30, marks=pytest.mark.long)]
)
def test_libvirtd_frozen(
    three: Three, worker: Workers, consumer: ConsumerProcess, node: Node, figure: Figure, seconds: int
) -> None:
    """It accepts questions and answers none: no guest is blamed, neither meanwhile nor when it goes on."""
    daemon = worker()
    known(daemon, *three)
    begun = node.freeze()
    time.sleep(seconds)
    assert [faults(consumer, guest, begun) for guest in three] == [[], [], []]
    thawed = node.thaw()
    known(daemon, *three)
    figure(f"libvirtd frozen for {seconds} s: thawed until all acknowledge", time.monotonic() - thawed, "s", 7)
    for guest in three:
        assert_quiet(daemon, consumer, guest, begun, seconds=QUIET / len(three))


# -- what is done to the worker


def test_worker_paused(three: Three, worker: Workers, consumer: ConsumerProcess) -> None:
    """A host that stalls for longer than the threshold: who did not listen accuses nobody."""
    daemon = worker()
    known(daemon, *three)
    begun = daemon.pause()
    time.sleep(LONG)
    daemon.go_on()
    for guest in three:
        assert_quiet(daemon, consumer, guest, begun, seconds=QUIET / len(three))
    assert daemon.said("s late") == 1


def test_worker_restarted(three: Three, worker: Workers, consumer: ConsumerProcess) -> None:
    """Away for longer than the threshold, in order or not: everybody is owed a full threshold from then on."""
    daemon = worker()
    known(daemon, *three)
    begun = time.monotonic()
    for end in (daemon.stop, daemon.kill):
        end()
        time.sleep(LONG - 1)
        daemon.start()
        known(daemon, *three)
    for guest in three:
        assert_quiet(daemon, consumer, guest, begun, seconds=QUIET / len(three))


# -- a fault that was there before


def test_an_open_fault_outlives_them_all(guest: Guest, worker: Workers, consumer: ConsumerProcess, node: Node) -> None:
    """Neither a pause, nor libvirtd or the worker being away for a while, clears a fault or raises another."""
    daemon = worker()
    daemon.wait_known(guest.uuid)
    stopped = guest.stop_agent()
    raised = consumer.wait_fault("raised", guest.uuid, 10, since=stopped)

    def told() -> set[str]:
        read = consumer.faults(guest.uuid, stopped)
        assert {n.fault_id for n in read} == {raised.fault_id}
        return {n.event_type.rpartition(".")[2] for n in read[1:]}

    guest.suspend()
    time.sleep(1)
    guest.resume()
    time.sleep(QUIET)
    node.restart_libvirtd()
    time.sleep(QUIET)
    daemon.kill()
    daemon.start()
    time.sleep(QUIET)
    assert told() <= {"updated"}
    assert daemon.show(guest.uuid)["fault"]["fault_id"] == raised.fault_id
    healed = guest.continue_agent()
    cleared: Notification = consumer.wait_fault("cleared", guest.uuid, 30, since=healed)
    assert (cleared.fault_id, cleared.resolution) == (raised.fault_id, "recovered")
    assert told() <= {"updated", "cleared"}


# -- the end


def test_ends(three: Three, worker: Workers, consumer: ConsumerProcess) -> None:
    """Destroyed; powered off from inside, at once and after a service that takes 8 s: intent, and no fault."""
    destroyed, poweroff, orderly = three
    daemon = worker()
    known(daemon, *three)
    begun = destroyed.destroy()
    poweroff.poweroff()
    orderly.poweroff(orderly=8)
    for guest in three:
        told_state(daemon, guest, "gone", 20)
    time.sleep(QUIET)
    assert [faults(consumer, guest, begun) for guest in three] == [[], [], []]
