"""Delivery: nothing is lost, order is kept, nobody waits for the broker or for a broken disk."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Disk, TakingBroker, a_fault, number_of, told
from vmhb_common.app.crashpoint import POINTS, VARIABLE
from vmhb_common.model.fault import Change, FaultState
from vmhb_worker.delivery.outbox import Limits, Outbox
from vmhb_worker.delivery.sqlite import FILE, Database, StoreError
from vmhb_worker.delivery.tables import Content
from vmhb_worker.interfaces import Commit, InstanceRow, Message

ROOT = Path(__file__).parent.parents[2]
QUICK = Limits(rows=1000, first_retry=0.001, last_retry=0.01, disk_retry=0.01)

Start = Callable[..., Outbox]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Ours: a library's thread that another test left behind may still complain of its broker."""
    ours = [one for one in caplog.records if one.name.startswith("vmhb_worker")]
    return [one.message for one in ours if one.levelno == logging.ERROR]


@pytest.fixture
def broker() -> TakingBroker:
    """Where everything goes."""
    return TakingBroker()


@pytest.fixture
def start(tmp_path: Path, broker: TakingBroker) -> Iterator[Start]:
    """start(topics, …): one more life of an outbox in the same folder, loaded."""
    boxes: list[Outbox] = []

    def _start(*topics: str, **more: Any) -> Outbox:
        box = Outbox(tmp_path, topics or ("t",), broker.send, **({"limits": QUICK} | more))
        boxes.append(box)
        box.load()
        return box

    yield _start
    broker.thaw()
    for box in boxes:
        box.close(10)


def stored(box: Outbox, commit: Commit) -> None:
    """Commit, and wait until that is done."""
    done = threading.Event()
    box.commit(commit, done.set)
    assert done.wait(20)


def on_disk(folder: Path) -> Content:
    """What the file says, after its owner let go of it."""
    database = Database(folder / FILE)
    content = database.load()
    database.close()
    return content


# -- sending -----------------------------------------------------------------------------------------------------------


def test_each_topic_gets_its_own_copy_in_order(start: Start, broker: TakingBroker) -> None:
    """One commit, one row for each message and topic; the id of the message is the same in all."""
    box = start("t", "u")
    for number in range(5):
        box.commit(told(number))
    broker.expect(0, 1, 2, 3, 4)
    broker.expect(0, 1, 2, 3, 4, topic="u")
    assert [row.message_id for row in broker.rows()] == [row.message_id for row in broker.rows("u")]


def test_order_survives_failures(start: Start, broker: TakingBroker) -> None:
    """A row that fails is tried again before any later one."""
    box = start()
    broker.fail_when(lambda attempt: attempt % 3 == 1)
    for number in range(50):
        box.commit(told(number))
    broker.expect(*range(50))


def test_a_mistake_of_ours_about_a_row_ends_no_topic(
    start: Start, broker: TakingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again, and the others go their way."""
    box, failures = start(), [ZeroDivisionError("a bug"), KeyError("another")]
    real = box._sent

    def failing(*arguments: Any) -> bool:
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(box, "_sent", failing)
    for number in range(3):
        box.commit(told(number))
    broker.expect(0, 1, 2)
    assert not failures


def test_identity_is_the_same_at_every_attempt(start: Start, broker: TakingBroker) -> None:
    """A receiver can recognise what it has had before."""
    broker.fail_when(lambda attempt: attempt < 4)
    start().commit(told(1))
    broker.expect(1)
    assert broker.refused == broker.rows() * 3


def test_broken_topic_does_not_hold_up_another(start: Start, broker: TakingBroker) -> None:
    """Topics fail alone, and health names the one that does."""
    box = start("t", "u")
    broker.go_down("u")
    box.commit(told(1))
    box.commit(told(2))
    broker.expect(1, 2)
    broker.wait_until(lambda: broker.attempts >= 5)
    assert box.health() | {"oldest": 0} == {
        "waiting": 2,
        "oldest": 0,
        "degraded": None,
        "dropped": 0,
        "set_aside": 0,
        "failing": {"u": "ConnectionError: the broker is down"},
    }
    broker.come_up()
    broker.expect(1, 2, topic="u")


def test_reminders_collapse_while_the_broker_is_away(start: Start, broker: TakingBroker) -> None:
    """The newest reminder is enough, and the file holds no other."""
    box = start()
    broker.freeze()
    box.commit(told(0))
    broker.wait_until(lambda: broker.held == 1)
    for number in range(1, 20):
        box.commit(told(number, fault_id="f1", collapse="f1"))
    stored(box, Commit())
    assert box.health()["waiting"] == 2
    broker.thaw()
    broker.expect(0, 19)


def test_cap_drops_closed_pairs_and_says_so_once(
    start: Start, broker: TakingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit is the one exception to "nothing is lost": counted, and one line for each episode."""
    box = start(limits=Limits(rows=4, first_retry=0.001, last_retry=0.01))
    broker.freeze()
    box.commit(told(0))
    broker.wait_until(lambda: broker.held == 1)
    for number in range(1, 9, 2):
        box.commit(told(number, fault_id=f"f{number}", change=Change.RAISED))
        box.commit(told(number + 1, fault_id=f"f{number}", change=Change.CLEARED))
        stored(box, Commit())  # one at a time: what is dropped makes room, and nothing has left
    assert (box.health()["waiting"], box.health()["dropped"]) == (3, 6)
    assert len([one for one in caplog.records if "are dropped" in one.message]) == 1
    broker.thaw()
    broker.expect(0, 7, 8)
    stored(box, Commit())
    assert [one.message.partition(";")[0] for one in caplog.records if "again;" in one.message] == [
        "Notifications leave again"
    ]


def test_topic_that_left_the_configuration_is_dropped_and_said(
    start: Start, broker: TakingBroker, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Rows that nobody is meant to get any more don't stay for ever."""
    broker.go_down("t", "u")
    first = start("t", "u")
    stored(first, told(1))
    first.close(10)
    broker.come_up()
    second = start("t")
    broker.expect(1)
    second.close(10)
    assert "1 notifications for u are dropped" in caplog.text
    assert on_disk(tmp_path).rows == {}


def test_payload_that_is_no_json_does_no_harm(
    start: Start, broker: TakingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake of ours costs the one message, not the thread that all others need."""
    ring: dict[str, Any] = {}
    ring["self"] = ring
    box = start()
    box.commit(Commit(messages=[Message("broken", ring)]))
    box.commit(told(1))
    broker.expect(1)
    assert "A broken is lost" in caplog.text


# -- storing -----------------------------------------------------------------------------------------------------------


def test_next_life_goes_on(start: Start, broker: TakingBroker) -> None:
    """State comes back, and what was not sent is sent, before anything newer."""
    broker.go_down("t")
    first = start()
    fault = a_fault("f1")
    first.commit(Commit(instances=[InstanceRow("i1", True)], faults=[fault], probes={"i1": 10, "i2": 5}))
    first.commit(Commit(instances=[InstanceRow("i2")], probes={"i2": None}))
    first.commit(told(1))
    first.close(10)
    broker.come_up()
    second = Outbox(first._state_path, ("t",), broker.send, limits=QUICK)
    saved = second.load()
    second.commit(told(2))
    broker.expect(1, 2)
    second.close(10)
    assert {row.uuid for row in saved.instances} == {"i1", "i2"}
    assert (saved.faults, saved.probes) == ((fault,), {"i1": 10})


def test_cleared_fault_is_kept_while_reminders_are_owed(start: Start, tmp_path: Path) -> None:
    """Three, two, one, gone."""
    over = a_fault("f1", state=FaultState.CLEARED)
    box = start()
    box.commit(Commit(faults=[a_fault("f1"), a_fault("f2")]))
    box.commit(Commit(faults=[over], announce={"f1": 3}))
    box.commit(Commit(announce={"f1": 1}))
    box.close(10)
    assert (on_disk(tmp_path).announce, on_disk(tmp_path).faults["f1"]) == ({"f1": 1}, over)
    box = start()
    box.commit(Commit(faults=[over], announce={"f1": 0}))
    box.close(10)
    assert (on_disk(tmp_path).announce, list(on_disk(tmp_path).faults)) == ({}, ["f2"])


def test_forgotten_instance_is_gone(start: Start, tmp_path: Path) -> None:
    """`forget` drops rows."""
    box = start()
    box.commit(Commit(instances=[InstanceRow("i1"), InstanceRow("i2")]))
    box.commit(Commit(forget=["i1"]))
    box.close(10)
    assert list(on_disk(tmp_path).instances) == ["i2"]


def test_done_is_called_in_order_after_the_disk(start: Start) -> None:
    """Whoever waits for a commit is told when it is safe."""
    disk, order, ended = Disk(), list[tuple[int, bool]](), threading.Event()
    box = start(open_database=disk.open)

    def note(number: int) -> None:
        written = {number_of(row) for changes, _ in disk.writes for row in changes.rows.values() if row}
        order.append((number, number in written))

    for number in range(10):
        box.commit(told(number), partial(note, number))
    box.commit(Commit(), ended.set)
    assert ended.wait(20)
    assert order == [(number, True) for number in range(10)]


def test_waiting_commits_share_a_transaction_and_removals_cost_no_fsync(start: Start, broker: TakingBroker) -> None:
    """Cheap: what waits goes together, and only what must survive a loss of power waits for the disk."""
    disk = Disk()
    broker.freeze()
    box = start(open_database=disk.open)
    disk.block.clear()
    for number in range(100):
        box.commit(told(number))
    disk.block.set()
    stored(box, Commit())
    durable = [changes for changes, durable in disk.writes if durable]
    assert len(durable) <= 2
    broker.thaw()
    broker.expect(*range(100))
    box.close(10)
    removals = [changes for changes, durable in disk.writes if not durable]
    assert sorted(key for changes in removals for key in changes.rows) == sorted(
        key for changes in durable for key in changes.rows
    )


def test_idle_outbox_writes_nothing(start: Start, broker: TakingBroker) -> None:
    """A commit without content touches no disk."""
    disk = Disk()
    box = start(open_database=disk.open)
    stored(box, Commit())
    assert disk.writes == []
    assert broker.attempts == 0


# -- closing -----------------------------------------------------------------------------------------------------------


def test_close_does_not_wait_for_a_broker_that_hangs(start: Start, broker: TakingBroker, tmp_path: Path) -> None:
    """What was committed is on disk, and a sender that is stuck stays behind."""
    broker.freeze()
    box = start()
    box.commit(told(1))
    broker.wait_until(lambda: broker.held == 1)
    box.commit(told(2))
    before = time.monotonic()
    box.close(10)
    assert time.monotonic() - before < 5
    assert [number_of(row) for row in on_disk(tmp_path).rows.values() if row] == [1, 2]


def test_close_does_not_wait_for_a_disk_that_hangs(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """SIGTERM ends in bounded time, and what is lost by that is said."""
    disk = Disk()
    box = start(open_database=disk.open)
    disk.block.clear()
    box.commit(told(1))
    box.close(0.05)
    assert "the disk does not answer" in caplog.text
    disk.block.set()


def test_commit_after_close_is_refused_without_raising(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """`commit` never raises, whatever the order in which things end."""
    box = start()
    box.close(10)
    box.commit(told(1))
    assert "after the store was closed" in caplog.text


def test_close_gives_the_store_back(start: Start, tmp_path: Path, broker: TakingBroker) -> None:
    """One owner at a time; a second one is refused as long as the first lives."""
    first = start()
    with pytest.raises(StoreError, match=f"is held by process {os.getpid()}"):
        Outbox(tmp_path, ("t",), broker.send).load()
    first.close(10)
    start()


# -- trouble with the disk ---------------------------------------------------------------------------------------------


def test_full_disk_delays_nothing_and_is_caught_up_in_order(
    start: Start, broker: TakingBroker, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Rows of the file first, then those in memory; one ERROR; and the file is complete once there is room."""
    disk = Disk()
    broker.freeze()
    box = start(open_database=disk.open)
    stored(box, told(1))
    disk.fill()
    for number in (2, 3):
        stored(box, told(number, fault_id=f"f{number}"))
    stored(box, Commit(instances=[InstanceRow("i1")], faults=[a_fault("f2")]))
    sentence = box.health()["degraded"]
    assert str(tmp_path / FILE) in sentence and "full" in sentence and "free space" in sentence
    assert errors(caplog) == [sentence]
    disk.mend()
    box.close(10)
    assert box.health()["degraded"] is None
    content = on_disk(tmp_path)
    assert [number_of(row) for row in content.rows.values() if row] == [1, 2, 3]
    assert (list(content.instances), list(content.faults)) == (["i1"], ["f2"])


def test_what_was_sent_during_trouble_is_not_written_afterwards(
    start: Start, broker: TakingBroker, tmp_path: Path
) -> None:
    """From memory in order, and gone for good."""
    disk = Disk()
    broker.go_down("t")
    box = start(open_database=disk.open)
    stored(box, told(1))
    disk.fill()
    stored(box, told(2))
    broker.come_up()
    broker.expect(1, 2)
    disk.mend()
    box.close(10)
    assert on_disk(tmp_path).rows == {}


def test_disk_that_is_full_at_start_is_read_later(start: Start, broker: TakingBroker, tmp_path: Path) -> None:
    """Monitoring starts all the same; the rows of the earlier life go first once they can be read."""
    broker.go_down("t")
    first = start()
    stored(first, told(1))
    first.close(10)
    disk = Disk()
    disk.fill()
    second = start(open_database=disk.open)
    assert "full" in second.health()["degraded"]
    stored(second, told(2))
    disk.mend()
    assert disk.written.wait(20)  # of 2, after 1 was read
    broker.come_up()
    broker.expect(1, 2)


def test_corrupt_file_at_start_is_moved_aside(
    start: Start, broker: TakingBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fresh one takes its place, and an ERROR says where the old one is."""
    (tmp_path / FILE).write_text("not a database, " * 500)
    box = start()
    assert box.health()["degraded"] is None
    box.commit(told(1))
    broker.expect(1)
    aside = tmp_path / f"{FILE}.broken-1"
    assert aside.read_text().startswith("not a database")
    assert [str(aside) in said for said in errors(caplog)] == [True]


def test_nonsense_in_the_file_costs_itself(start: Start, broker: TakingBroker, tmp_path: Path) -> None:
    """A good SQLite file, one of whose records is none of ours: the worker starts with the others, and that is told."""
    with closing(Database(tmp_path / FILE)) as database:
        database.write(Content(faults={"f2": a_fault("f2")}))
        database._connection.execute("INSERT INTO faults VALUES ('f1', '{}')")
    box = Outbox(tmp_path, ("t",), broker.send, limits=QUICK)
    saved = box.load()
    assert [fault.fault_id for fault in saved.faults] == ["f2"]
    assert (box.health()["degraded"], box.health()["set_aside"]) == (None, 1)
    box.commit(told(1))
    broker.expect(1)
    box.close(10)
    assert not (tmp_path / f"{FILE}.broken-1").exists()


def test_what_cannot_be_stored_is_sent(start: Start, broker: TakingBroker, tmp_path: Path) -> None:
    """One value that could not be read back: the disk is as good as it was, for all others."""
    broker.go_down("t")
    box = start()
    bad = Message("vmhb.fault.updated", {"number": 1}, "p\ud800")
    stored(box, Commit(instances=[InstanceRow("i1"), InstanceRow("i2", boot="\ud800")], messages=[bad]))
    stored(box, told(2))
    assert (box.health()["degraded"], box.health()["set_aside"], box.health()["waiting"]) == (None, 2, 2)
    broker.come_up()
    broker.expect(1, 2)
    box.close(10)
    assert list(on_disk(tmp_path).instances) == ["i1"]


class Unheard(dict[str, int]):
    """Announcements that cannot be looked at."""

    def items(self) -> Any:
        raise RuntimeError("a bug about one commit")


def test_a_commit_that_nothing_can_be_made_of_costs_itself(start: Start, broker: TakingBroker) -> None:
    """Those that are written with it are; whoever waits for it need not wait for ever."""
    box = start()
    stored(box, Commit(announce=Unheard(), messages=told(1).messages))
    stored(box, told(2))
    broker.expect(2)
    assert (box.health()["set_aside"], box.health()["waiting"]) == (1, 0)


def test_a_notification_that_the_broker_never_takes_holds_up_nobody(
    start: Start, broker: TakingBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Others go beside it, in their order; when that was so time and again it is set aside, counted, and said."""
    box = start()
    broker.never_take(lambda row: number_of(row) == 0)
    for number in range(30):
        box.commit(told(number, fault_id=f"f{number % 3}"))
    broker.wait_until(lambda: len(broker.rows()) == 29)
    for which in range(3):
        taken = [number_of(row) for row in broker.rows() if row.fault_id == f"f{which}"]
        assert taken == [number for number in range(which, 30, 3) if number]
    assert box.health()["set_aside"] == 1
    assert [text for text in errors(caplog) if "is set aside" in text]
    box.close(10)
    assert on_disk(tmp_path).rows == {}
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        ((table, why, row),) = connection.execute("SELECT of_table, why, row FROM set_aside").fetchall()
    assert (table, "the broker took others" in why, '{"number": 0}' in row) == ("rows", True, True)


def test_a_broker_that_is_away_is_no_rows_fault(start: Start, broker: TakingBroker) -> None:
    """Nothing is set aside while nothing is taken, nor by one that comes and goes."""
    broker.go_down("t")
    box = start()
    for number in range(20):
        box.commit(told(number, fault_id=f"f{number}"))
    broker.wait_until(lambda: len(broker.refused) > 100)
    broker.fail_when(lambda attempt: attempt % 3 != 0)
    broker.come_up()
    broker.wait_until(lambda: len(broker.rows()) == 20)
    assert sorted(number_of(row) for row in broker.rows()) == list(range(20))
    assert box.health()["set_aside"] == 0


def test_file_that_turns_out_corrupt_is_written_anew(start: Start, broker: TakingBroker, tmp_path: Path) -> None:
    """Everything that is known is in the new file."""
    disk = Disk()
    broker.go_down("t")
    box = start(open_database=disk.open)
    stored(box, Commit(instances=[InstanceRow("i1", True)], faults=[a_fault("f1")]))
    stored(box, told(1))
    _break(disk)
    stored(box, told(2))
    disk.mend()
    box.close(10)
    content = on_disk(tmp_path)
    assert [number_of(row) for row in content.rows.values() if row] == [1, 2]
    assert (list(content.instances), list(content.faults)) == (["i1"], ["f1"])
    assert (tmp_path / f"{FILE}.broken-1").exists()


def test_an_error_that_nobody_thought_of_loses_nothing(start: Start, broker: TakingBroker, tmp_path: Path) -> None:
    """A write that fails in another way than disks do: what it was about is sent, and is in the file later."""
    disk = Disk()
    box = start(open_database=disk.open)
    disk.error = UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
    stored(box, Commit(faults=[a_fault("f1")], messages=told(1).messages))
    broker.expect(1)
    assert "surrogates" in box.health()["degraded"]
    disk.mend()
    stored(box, told(2))
    box.close(10)
    assert list(on_disk(tmp_path).faults) == ["f1"]


def _break(disk: Disk) -> None:
    """As SQLite says it when it meets a page that makes no sense."""
    from vmhb_worker.delivery.sqlite import Corrupt  # noqa: PLC0415 # told apart from what the test is about

    disk.error = Corrupt("database disk image is malformed")


def test_really_full_file_system(start: Start, broker: TakingBroker, tmp_path: Path) -> None:
    """On a real file system without room, SQLite neither raises at us nor kills us."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        broker.go_down("t")
        box = Outbox(mounted, ("t",), broker.send, limits=QUICK)
        box.load()
        stored(box, told(0))
        _fill(mounted)
        payload = {"text": "x" * 4096}
        for number in range(1, 10):
            stored(box, Commit(messages=[Message("e", payload | {"number": number})]))
        assert "full" in box.health()["degraded"]
        broker.come_up()
        broker.expect(*range(10))
        (mounted / "ballast").unlink()
        box.close(10)
        assert box.health()["degraded"] is None
        assert on_disk(mounted).rows == {}
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


def _fill(folder: Path) -> None:
    """To the last byte."""
    with (folder / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(b"x" * 1024)


# -- death at any instruction ------------------------------------------------------------------------------------------

CHILD = """
import json, os, sys, threading
from pathlib import Path
from vmhb_worker.interfaces import Commit, InstanceRow, Message
from vmhb_common.model.fault import Change
from vmhb_worker.delivery.outbox import Outbox

folder = Path(sys.argv[1])
log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def send(topic, row):
    os.write(log, f"sent {json.loads(row.payload)['number']}\\n".encode())

box = Outbox(folder / "state", ("t",), send)
saved = box.load()
os.write(log, f"loaded {len(saved.instances)}\\n".encode())
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    done = threading.Event()
    message = Message(Change.UPDATED, {"number": number})
    box.commit(Commit(instances=[InstanceRow(f"i{number}")], messages=[message]), done.set)
    done.wait()
    os.write(log, f"promised {number}\\n".encode())
box.close(10)
"""


@pytest.mark.parametrize("point", [point.name for point in POINTS if point.name.startswith(("commit.", "send."))])
def test_nothing_promised_is_lost_when_the_process_dies(point: str, tmp_path: Path, broker: TakingBroker) -> None:
    """SIGKILL at each point: instance and message are both there or both not, all that was promised is, in order."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), "0", "5"],
        cwd=ROOT,
        env=os.environ | {VARIABLE: point},
        check=False,
        timeout=60,
    )
    assert child.returncode == -signal.SIGKILL
    log = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    promised = [int(number) for word, number in log if word == "promised"]
    sent = [int(number) for word, number in log if word == "sent"]
    box = Outbox(tmp_path / "state", ("t",), broker.send, limits=QUICK)
    known = {int(row.uuid[1:]) for row in box.load().instances}
    box.commit(told(100))
    broker.wait_until(lambda: [number_of(row) for row in broker.rows()][-1:] == [100])
    box.close(10)
    resent = [number_of(row) for row in broker.rows()][:-1]
    assert known == {*sent, *resent}
    assert set(promised) <= known
    assert resent == sorted(resent) and sent == sorted(sent)


def test_random_failures_lose_nothing(start: Start, broker: TakingBroker) -> None:
    """Broker and disk fail as they like; each topic gets everything, in order."""
    dice = random.Random(4)
    disk = Disk()
    broker.fail_when(lambda _attempt: dice.random() < 0.2)
    box = start("t", "u", open_database=disk.open)
    for number in range(200):
        (disk.fill if dice.random() < 0.1 else disk.mend)()
        box.commit(told(number))
    disk.mend()
    broker.expect(*range(200))
    broker.expect(*range(200), topic="u")


def test_payload_on_disk_is_the_payload(start: Start, broker: TakingBroker) -> None:
    """What reaches the broker is what was committed."""
    payload = {"text": "ünïcödé \u2603", "nested": {"a": [1, None, True]}}
    start().commit(Commit(messages=[Message("e", payload, None)]))
    broker.wait_until(lambda: bool(broker.rows()))
    assert json.loads(broker.rows()[0].payload) == payload
