"""From a row to a reporter, and what becomes of the row."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from tests.fakes import a_fault
from tests.unit.consumer.conftest import THEN, Desk, another
from tests.unit.consumer.fakes import ToldReporter
from vmhb_common.model import fault as life
from vmhb_common.model.fault import Change, Resolution
from vmhb_consumer.counters import Tally
from vmhb_consumer.delivery import MAX_PAUSE, UNNAMED, Delivery, Recipient
from vmhb_consumer.doubt_rules import Unknown
from vmhb_consumer.outbox import ALONE
from vmhb_consumer.report_queue import Turn
from vmhb_consumer.reporters.base import Again, Case, GiveUp, Permit, Withheld
from vmhb_consumer.reporters.outcomes import Done, Later, Outcome, Refused
from vmhb_consumer.reporters.telling import BUGS

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)
A1 = another("a")
A2 = life.cleared(A1, Resolution.RECOVERED, NOON)


class Line:
    """A delivery to one reporter, turned by hand."""

    def __init__(self, desk: Desk) -> None:
        desk.to = ["told"]
        self.desk = desk
        self.reporter = ToldReporter()
        self.tally = Tally()
        self.asked: list[str] = []
        target = Recipient("told", self.reporter.deliver)
        self.delivery = Delivery(
            *(target, desk.outbox, self.tally, self._permit, desk.clock),
            lambda fault: Turn(desk.database, fault, desk.clock),
        )

    def _permit(self, fault: life.Fault, target: str) -> Permit:
        assert target == "told"
        self.asked.append(fault.fault_id)
        return Permit(False, "held", 5.0, "share")

    def turns(self) -> list[str]:
        """Until nothing is due: what was tried."""
        before = len(self.reporter.cases)
        while self.delivery.turn():
            pass
        return [f"{case.fault.sequence} try {case.attempt}" for case in self.reporter.cases[before:]]


@pytest.fixture
def line(desk: Desk) -> Line:
    return Line(desk)


def test_what_a_reporter_is_handed(line: Line) -> None:
    """The change, the fault then and now, and when that was heard."""
    line.desk.take(A1, A2)
    assert line.turns() == ["1 try 1", "2 try 1"]
    first, second = line.reporter.cases
    assert (first.change, first.fault, first.latest.sequence) == (Change.RAISED, A1, 2)
    assert second.change is Change.CLEARED
    assert first.received_at == datetime.fromtimestamp(THEN, timezone.utc)
    assert first.permit() == Permit(False, "held", 5.0, "share")
    assert line.asked == [A1.fault_id]
    assert first.queue.enter("host", 9.0) is None and second.queue.ahead("host") is None, "it is this fault's turn"
    assert Turn(line.desk.database, another("b"), line.desk.clock).ahead("host") is not None
    assert line.tally.snapshot() == {"delivered.told": 2, "permits.held": 1, "permits.share": 1}


def test_backs_off(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    """1 s, 2 s, 4 s … at most MAX_PAUSE; said once; and the fault's next change waits, another fault's does not."""
    line.desk.take(A1, A2, another("b", instance_uuid=None))
    line.reporter.answers = [RuntimeError("down")] * 1
    assert line.turns() == ["1 try 1", "1 try 1"]
    pauses = []
    for _ in range(8):
        line.reporter.answers = [RuntimeError("down")]
        due = line.desk.outbox.due_at("told")
        assert due is not None
        at = min(row for row in [due] if row >= 0)
        while not line.turns():
            line.desk.clock.now += 0.5
        pauses.append(line.desk.clock.now)
        assert at >= 0
    waits = [round(b - a, 1) for a, b in zip([THEN, *pauses], pauses, strict=False)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, MAX_PAUSE, MAX_PAUSE]
    assert sum("down" in record.message for record in caplog.records) == 1
    line.desk.clock.now += MAX_PAUSE
    assert line.turns() == ["1 try 10", "2 try 1"]


def test_again_with_a_memo(line: Line) -> None:
    """When it says, with what it wanted to know; its next text is said as well."""
    line.desk.take(A1)
    line.reporter.answers = [*(Later(7.0, "busy", {"n": 1}), Later(0.0, "busy"), Later(None, "still", {"n": 2}))]
    assert line.turns() == ["1 try 1"]
    line.desk.clock.now += 6.9
    assert line.turns() == []
    line.desk.clock.now += 0.1
    assert line.turns() == ["1 try 2"]
    line.desk.clock.now += 0.1
    assert line.turns() == ["1 try 3"]
    line.desk.clock.now += 4.0
    assert line.turns() == ["1 try 4"]
    assert [dict(case.memo) for case in line.reporter.cases] == [{}, {"n": 1}, {"n": 1}, {"n": 2}]


def test_a_memo_outlives_its_change(line: Line) -> None:
    """A reporter knows at the clear what it did at the raise, however that ended."""
    line.desk.take(A1, A2)
    line.reporter.answers = [Refused("nobody wants it", rightly=True, memo={"posted": False}, known=True)]
    assert line.turns() == ["1 try 1", "2 try 1"]
    assert line.reporter.cases[1].memo == {"posted": False}


def test_given_up_and_withheld(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    """The first is an error, the second is not; both are counted and kept, and the next has its turn."""
    line.desk.take(A1, another("b", instance_uuid=None), another("c", instance_uuid=None))
    line.reporter.answers = [Refused("400"), Refused("too late", rightly=True)]
    with caplog.at_level(logging.INFO):
        line.turns()
    levels = {record.levelname for record in caplog.records if "given up: 400" in record.message}
    assert levels == {"ERROR"}
    assert line.desk.outbox.undelivered() == {("told", "given up"): 1, ("told", "withheld"): 1}
    assert line.tally.snapshot() == {"delivered.told": 1, "given_up.told": 1, "withheld.told": 1}


def test_a_memo_that_is_no_json(line: Line) -> None:
    """It is lost, and the delivery goes on."""
    line.desk.take(A1, A2)
    line.reporter.answers = [
        *(Later(1.0, "busy", {"x": object()}), Refused("no", memo={"x": object()}, known=True)),
        Done(memo={"x": object()}),
    ]
    assert line.turns() == ["1 try 1"]
    line.desk.clock.now += 1.0
    assert line.turns() == ["1 try 2", "2 try 1"]
    assert line.desk.outbox.undelivered() == {("told", "given up"): 1}


def test_done_with_a_memo(line: Line) -> None:
    """It is kept with the delivery, and comes back with the next change."""
    line.desk.take(A1, A2)
    line.reporter.answers = [Done(memo={"ticket": 7})]
    line.turns()
    assert line.reporter.cases[1].memo == {"ticket": 7}


def test_a_reporter_that_raises_is_given_up(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    """A bug is tried again for a while, and then the fault's next change has its turn: as its raise, for there was
    none."""
    line.desk.take(A1, replace(A1, sequence=2, cause="other"))
    line.reporter.answers = [KeyError("evidence") for _ in range(BUGS)]
    seen = []
    for _ in range(BUGS):
        seen += line.turns()
        line.desk.clock.now += MAX_PAUSE
    assert seen == [*(f"1 try {number}" for number in range(1, BUGS + 1)), "2 try 1"]
    assert line.reporter.cases[-1].change is Change.RAISED
    assert line.desk.outbox.undelivered() == {("told", "given up"): 1}
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2 and f"it raised {BUGS} times, and must not" in errors[1]
    assert any(record.exc_info for record in caplog.records), "with the line that raised"


def test_only_bugs_in_a_row_count(line: Line) -> None:
    """A backend that was away for long has nothing to do with them."""
    line.desk.take(A1)
    bugs: list[object] = [KeyError("x")] * (BUGS - 1)
    line.reporter.answers = [*bugs, Later(1.0, "away"), *bugs]
    for _ in range(2 * BUGS):
        line.turns()
        line.desk.clock.now += MAX_PAUSE
    assert line.desk.outbox.undelivered() == {}
    assert line.desk.outbox.waiting() == {}


def test_a_backend_that_is_away_is_said_once(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    """Loudly of the first that meets it; of each other a word, and none of its further tries, whatever differs by
    chance. Something else is news."""
    away = "recovery {} of instance 00000000-0000-4000-8000-00000000000{}: <object at 0x{}>: no route"
    tries = iter(range(100))
    line.desk.take(*(another(letter) for letter in "abc"))
    with caplog.at_level(logging.INFO, "vmhb_consumer.delivery"):
        for _ in range(3):
            line.reporter.answers = [Later(1.0, away.format(1 + n, n, f"{next(tries):x}ab")) for n in range(3)]
            assert len(line.turns()) == 3
            line.desk.clock.now += 2.0
        line.reporter.answers = [Later(1.0, "it answers 500")] * 3
        line.turns()
    said = [(record.levelname, record.getMessage().rpartition(": ")[2]) for record in caplog.records]
    assert said == [
        *[("WARNING", "no route"), ("INFO", "no route"), ("INFO", "no route")],
        *[("WARNING", "it answers 500"), ("INFO", "it answers 500"), ("INFO", "it answers 500")],
    ]


def test_a_first_that_it_does_not_want(desk: Desk) -> None:
    """It was queued as an update, behind a raise that was refused: is it wanted as the first?"""
    desk.to = ["told"]
    reporter = ToldReporter()
    target = Recipient("told", reporter.deliver, lambda change, fault: fault.sequence == 1)
    delivery = Delivery(target, desk.outbox, Tally(), lambda fault, target: Permit(True), desk.clock)
    reporter.answers = [Refused("no")]
    desk.take(A1, replace(A1, sequence=2, cause="other"))
    while delivery.turn():
        pass
    assert [case.fault.sequence for case in reporter.cases] == [1]
    assert desk.outbox.waiting() == {}


@pytest.mark.parametrize("wrong", [SystemExit(1), KeyboardInterrupt(), RecursionError(), "done", 0, False, Done])
def test_whatever_a_reporter_does_is_a_bug(line: Line, wrong: object) -> None:
    """It neither ends our thread nor counts as delivered, and other faults have their turn."""
    line.desk.take(A1, another("b", instance_uuid=None))
    line.reporter.answers = [wrong]
    assert line.turns() == ["1 try 1", "1 try 1"]
    assert line.desk.outbox.waiting() == {"told": 1}


def test_one_that_is_written_for_the_contract_before(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """What it raises, or that it returns nothing, means what it did, and is said once."""
    desk.to = ["old"]
    raises: list[Exception] = [Again("busy", 0.0, {"n": 1}), Withheld("nobody wants it", {"n": 2}), GiveUp("no")]
    memos = []

    def deliver(case: Case) -> Outcome:
        memos.append(dict(case.memo))
        if raises:
            raise raises.pop(0)
        return None  # type: ignore[return-value]

    delivery = Delivery(Recipient("old", deliver), desk.outbox, Tally(), lambda fault, target: Permit(True), desk.clock)
    desk.take(A1, A2, another("b", instance_uuid=None))
    for _ in range(4):
        desk.clock.now += 1
        while delivery.turn():
            pass
    assert memos == [{}, {}, {"n": 1}, {"n": 1}]
    assert desk.outbox.waiting() == {}
    assert sum("older contract" in record.message for record in caplog.records) == 1


def test_in_a_thread_of_its_own(desk: Desk) -> None:
    """It wakes when it is told, ends after what is under way, and what it has not begun is free."""
    desk.to = ["told"]
    reporter = ToldReporter()
    target = Recipient("told", reporter.deliver)
    delivery = Delivery(target, desk.outbox, Tally(), lambda fault, target: Permit(True), desk.clock)
    delivery.start()
    desk.take(A1)
    delivery.wake()
    until = time.monotonic() + 10
    while desk.outbox.waiting() and time.monotonic() < until:
        time.sleep(0.01)
    assert len(reporter.cases) == 1
    delivery.stop()
    assert delivery.join(10)
    desk.take(replace(A1, sequence=2, cause="other"))
    assert not delivery.turn()
    assert len(reporter.cases) == 1
    assert desk.next("told") is not None


def test_hosts_take_turns(desk: Desk) -> None:
    """One that has hundreds of changes delays another's by one."""
    desk.to = ["told"]
    flood = [a_fault(f"{number:08x}-5b7d-4d4b-9a57-0c8f5b1f7c11", instance_uuid=None) for number in range(50)]
    desk.take(*flood)
    order = []
    for number in range(10):
        if number == 3:
            desk.take(another("b", host="cn2"), another("c", host="cn2"), another("d", host="cn3"))
            desk.clock.now += ALONE  # others are looked for again
        row = desk.next("told")
        assert row is not None
        desk.outbox.done(row)
        order.append(row.fault.host)
    assert order[:3] == ["cn1"] * 3
    assert [host for host in order if host != "cn1"] == ["cn2", "cn3", "cn2"]
    assert order[3:8].count("cn1") == 2
    assert len(desk.delivered("told")) == 43


class Named:
    """Nova, which says whose an instance is, or does not answer."""

    def __init__(self, said: str | None) -> None:
        self.said = said

    def __call__(self, fault: life.Fault) -> life.Fault | Unknown:
        return Unknown("Nova does not answer") if self.said is None else replace(fault, project_id=self.said)


@pytest.mark.parametrize("by_project", [False, True])
def test_its_project_is_what_nova_says(desk: Desk, by_project: bool) -> None:
    """Whatever the worker says: who may write to the broker could tell another project of it. Where Nova does not
    answer it is nobody's, and who is chosen by it waits."""
    desk.to, nova, reporter = ["told"], Named(None), ToldReporter()
    delivery = Delivery(
        *(Recipient("told", reporter.deliver, by_project=by_project), desk.outbox, Tally()),
        *(lambda fault, name: Permit(True), desk.clock),
        named=nova,
    )
    desk.take(replace(A1, project_id="mallory"))
    delivery.turn()
    assert [case.fault.project_id for case in reporter.cases] == ([] if by_project else [None])
    nova.said = "acme"
    desk.take(replace(A2, project_id="mallory"))
    desk.clock.now += UNNAMED
    while delivery.turn():
        pass
    said = [(case.fault.project_id, case.latest.project_id) for case in reporter.cases]
    assert said == [("acme", "acme")] * 2 if by_project else [(None, None), ("acme", "acme")]
