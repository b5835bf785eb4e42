"""Whatever lies in a table costs its own row at most: nobody else's fault, recovery or worker waits for it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from tests.fakes import a_fault
from tests.unit.consumer.conftest import Desk, another
from tests.unit.consumer.fakes import Witness
from vmhb_common.model.fault import Fault
from vmhb_common.model.moments import from_epoch
from vmhb_consumer import rows, stop_button
from vmhb_consumer.counters import Tally
from vmhb_consumer.database import Away
from vmhb_consumer.housekeeper import Ask, Rounds
from vmhb_consumer.outbox import AT_ONCE
from vmhb_consumer.recovery_permits import Permits, Witnesses
from vmhb_consumer.recovery_places import Board
from vmhb_consumer.report_queue import Turn
from vmhb_consumer.reporters.base import Permit
from vmhb_consumer.repository import Sign
from vmhb_consumer.schema import FAULTS, METADATA, OUTBOX, PAUSES, PERMITS, WORKERS
from vmhb_consumer.settings import FaultSettings, RecoverySettings

TABLES = METADATA.tables
LIMITS = RecoverySettings()
#: What SQLite holds in any column; servers hold less.
EVIL: list[Any] = ["abc", b"\xff\xfe", -1, 2**63 - 1, 0.5, 1e300, math.inf, sa.text("cast(x'ff00fe' as text)")]


def asking(number: int, **changed: Any) -> Any:
    """A fault of an instance of its own, that asks to be recovered."""
    guest = {"instance_uuid": f"{number:08x}-8d5a-4d0e-9d62-0f2f8f6f3b21", "project_id": str(number)}
    asks = {"recommended_action": "recover", "withheld": None, "recovery_attempt": 1}
    return a_fault(f"{number:08x}-5b7d-4d4b-9a57-0c8f5b1f7c11", **{**guest, **asks, **changed})


class House:
    """A consumer that does all that one does."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.tally = Tally()
        witness = Witness(alive=True)
        self.permits = Permits(desk.database, desk.records, LIMITS, Witnesses(witness.word, witness.place))
        settings = FaultSettings(host="here", recovery=LIMITS)
        ask = Ask(witness.word, witness.place, witness.answers)
        self.rounds = Rounds(settings, desk.records, desk.outbox, ask, self.tally, lambda: None, desk.clock)
        self.board = Board(desk.database)

    def fill(self, number: int) -> None:
        """A row in every table: of a fault of this number, or of its worker."""
        desk, a = self.desk, asking(number)
        desk.take(a)
        desk.records.heard(Sign(f"cn{number}", desk.clock(), 1, 60.0), desk.clock())
        row = desk.next()
        assert row is not None and desk.outbox.again(row, "no", desk.clock(), {"x": 1})
        row = desk.next()
        assert row is not None and desk.outbox.refuse(row, "given up", "no", desk.clock())
        assert self.permits.ask(a, "one", desk.clock).granted
        now = desk.clock()
        who = {"fault_id": a.fault_id, "instance_uuid": None, "project": "a", "target": "one", "why": "w"}
        waiting = sa.insert(TABLES["vmhb_waiting"]).values({**who, "since": now, "asked_at": now})
        desk.database.run(lambda c: c.execute(waiting))
        assert Turn(desk.database, a, desk.clock).enter(f"masakari:cn{number}", 100.0) is None
        self.board.press(stop_button.Pause("r", now, now - 1.0, "me"))

    def serves(self, number: int) -> None:
        """Another fault and its worker come, are told, looked into and recovered; people are shown how it is."""
        desk, b = self.desk, asking(number, host=f"cn{number}")
        desk.clock.now += 400.0
        for _ in range(2):
            self.rounds.round()
        self.board.release()
        desk.clock.now += LIMITS.recovery_time
        b = replace(b, occurred_at=from_epoch(float(int(desk.clock()))))
        assert desk.take(b) == ["new"]
        desk.records.heard(Sign(b.host, desk.clock(), 1, 60.0), desk.clock())
        assert b in desk.records.active()
        for target in ("one", "two"):
            assert b in self.told(target)
        assert self.permits.ask(b, "one", desk.clock) == Permit(True)
        turn = Turn(desk.database, b, desk.clock)
        assert turn.enter(f"masakari:{b.host}", 100.0) is None
        desk.records.heard(Sign(f"cn{number - 1}", desk.clock(), 9, 60.0), desk.clock())
        self.board.picture(LIMITS, desk.clock())
        desk.outbox.live("here", desk.clock())
        desk.outbox.undelivered()
        desk.clock.now += 400.0
        self.rounds.round()
        assert turn.enter(f"masakari:cn{number - 1}", 100.0) is None, "its time is over"
        assert turn.leave(f"masakari:cn{number - 1}")
        assert self.tally.snapshot().get("rounds.failed", 0) == 0

    def told(self, target: str) -> list[Fault]:
        """All that is to be delivered to this one."""
        found = []
        while (row := self.desk.next(target)) is not None:
            self.desk.outbox.done(row)
            found.append(row.fault)
        return found


@pytest.fixture
def house(desk: Desk) -> Iterator[House]:
    one = House(desk)
    yield one
    one.rounds.stop()


def spoil(desk: Desk, column: Any, value: Any) -> None:
    """All that there is of it. Below SQLAlchemy, which would refuse most; SQLite refuses some."""
    what, values = (value.text, ()) if isinstance(value, sa.TextClause) else ("?", (value,))
    update = f"update or replace {column.table.name} set {column.name} = {what}"  # noqa: S608 - names of ours
    with contextlib.suppress(Away):
        desk.database.run(lambda c: c.exec_driver_sql(update, values))


@pytest.mark.parametrize("table", [table for table in TABLES.values() if table.name != "vmhb_meta"], ids=str)
def test_any_value_in_any_column(house: House, table: Any, caplog: pytest.LogCaptureFixture) -> None:
    """All goes on, and no error of our own is met."""
    others = itertools.cycle(EVIL)
    for number, (column, value) in enumerate(
        (column, value) for column in table.columns for value in (EVIL[0], next(others))
    ):
        for one in TABLES.values():
            if one.name not in ("vmhb_meta", "vmhb_members"):
                house.desk.database.run(partial(sa.Connection.execute, statement=sa.delete(one)))
        house.fill(2 * number)
        spoil(house.desk, column, value)
        try:
            house.serves(2 * number + 1)
        except Exception as error:
            raise AssertionError(f"with {value!r} in {column}") from error
    assert not [record for record in caplog.records if "of our own" in record.getMessage()]


def test_every_number_is_put_right_or_read_with_its_row() -> None:
    """A column that is new has no row yet: say what a number of it becomes that is none, or that its row isn't read."""
    numbers = {column for table in TABLES.values() for column in table.columns if isinstance(column.type, sa.Double)}
    numbers |= {column for table in TABLES.values() for column in table.columns if isinstance(column.type, sa.Integer)}
    assert set(rows.PUT_RIGHT) | rows.READ_WITH_ITS_ROW == numbers
    assert not set(rows.PUT_RIGHT) & rows.READ_WITH_ITS_ROW
    kinds = {type(column.type) for table in TABLES.values() for column in table.columns}
    assert kinds <= set(rows._KINDS)


def test_what_errs_errs_on_the_side_of_holding_back(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """A permit counts from now on, a pause holds, nothing is taken for confirmed; each is said once."""
    desk = house.desk
    house.fill(1)
    house.board.press(stop_button.Pause("stop", desk.clock(), desk.clock() + 600.0, "me"))
    for column in (PERMITS.c.granted_at, PAUSES.c.until, FAULTS.c.confirmed_at):
        spoil(desk, column, "abc")
    pause = house.board.pause()
    assert pause is not None
    assert stop_button.in_force(pause, desk.clock()) and "can't be read" in pause.text
    assert sum(house.board.picture(LIMITS, desk.clock()).places.values()) == 1
    desk.clock.now += 5000.0
    desk.records.put_right(desk.clock())
    desk.records.put_right(desk.clock())
    assert sum(house.board.picture(LIMITS, desk.clock()).places.values()) == 1
    assert stop_button.in_force(house.board.pause(), desk.clock() + 6 * 86400.0)
    known = desk.records.known(asking(1).fault_id)
    assert known is not None and known[1] == 0.0
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert said == [
        "vmhb_faults.confirmed_at was no number of ours in 1 rows: it is put right",
        "vmhb_permits.granted_at was no number of ours in 1 rows: it is put right",
        "vmhb_pauses.until was no number of ours in 1 rows: it is put right",
    ]


def test_many_are_set_aside_a_few_at_a_time(desk: Desk) -> None:
    """Of one target, in one transaction: others write meanwhile."""
    desk.take(another("a"))
    columns = "target, sequence, change, reminder, created, next_at, attempt, owner"
    copy = (
        f"with recursive n(i) as (select 1 union all select i + 1 from n where i < ?) "  # noqa: S608 - names of ours
        f"insert into vmhb_outbox (fault_id, payload, {columns}) "
        f"select 'f' || i, '{{', {columns.replace('next_at', 'next_at - 1')} from vmhb_outbox, n where target = 'one'"
    )
    desk.database.run(lambda c: c.exec_driver_sql(copy, (AT_ONCE + 50,)))
    assert desk.next() is None
    row = desk.next()
    assert row is not None and row.fault == another("a")
    assert desk.outbox.undelivered() == {("one", "unreadable"): AT_ONCE + 50}


def test_a_worker_whose_row_cannot_be_read_is_missed_all_the_same(desk: Desk) -> None:
    """Once it is put right; its next sign counts at once."""
    desk.records.heard(Sign("cn1", desk.clock(), 5, 60.0), desk.clock())
    for column in (WORKERS.c.check_at, WORKERS.c.sequence, WORKERS.c.interval):
        spoil(desk, column, "abc")
    desk.records.answered("cn1", desk.clock())
    assert desk.records.silent(desk.clock() + 1e6, 8) == []
    desk.records.put_right(desk.clock())
    assert [one.host for one in desk.records.silent(desk.clock() + 1e6, 8)] == ["cn1"]
    spoil(desk, WORKERS.c.sequence, "abc")
    assert desk.records.heard(Sign("cn1", desk.clock(), 1, 60.0), desk.clock())


def test_a_row_of_the_outbox_that_is_never_due(desk: Desk) -> None:
    """Is due as soon as that is found."""
    desk.take(another("a"))
    spoil(desk, OUTBOX.c.next_at, "abc")
    assert desk.next() is None
    desk.records.put_right(desk.clock())
    assert desk.delivered() == ["a1 raised"]
