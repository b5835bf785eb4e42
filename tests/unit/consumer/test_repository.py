"""What is kept of faults and workers, and what is to be delivered because of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.stage.tables import execute
from tests.unit.consumer.conftest import THEN, Desk, another
from vmhb_common.model import fault as life
from vmhb_common.model.fault import Change, Resolution
from vmhb_consumer import fault_rules
from vmhb_consumer.database import Away, Database, Refused
from vmhb_consumer.outbox import MEMBER_TTL, Outbox
from vmhb_consumer.repository import Records, Sign
from vmhb_consumer.schema import META

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)
A1 = another("a")
A2 = replace(A1, sequence=2, confidence="low")
A3 = life.reminded(A2, NOON)
A4 = life.cleared(A3, Resolution.RECOVERED, NOON)
B1 = another("b", host="cn2", raised_at=A1.raised_at + timedelta(seconds=5))
SIGN = Sign("cn1", THEN, 1, 60.0, 3)


def test_a_life(desk: Desk) -> None:
    """Each change goes to each target once, in order; what is over is not open any more."""
    assert desk.take(A1, A1, A2, A1, A3, A4, A4, life.reminded(A4, NOON), A3) == [
        *("new", "duplicate", "changed", "old", "reminded", "changed", "duplicate", "final", "final")
    ]
    assert desk.delivered("one") == ["a1 raised", "a2 updated", "a4 cleared"], "a reminder is for who has nothing"
    assert desk.delivered("two") == ["a1 raised", "a2 updated", "a4 cleared"]
    assert desk.delivered("topic:faults") == [], "the worker has published it"
    assert desk.open() == []


def test_one_change_at_a_time(desk: Desk) -> None:
    """The next of a fault comes after the one before was delivered or given up; another fault's does not wait."""
    desk.take(A1, A2, another("c", instance_uuid=None))
    first, other = desk.next(), desk.next()
    assert first is not None and other is not None
    assert (first.fault.sequence, first.latest.sequence, other.fault.fault_id[0]) == (1, 2, "c")
    assert desk.next() is None
    assert desk.outbox.again(first, "no", desk.clock() + 5, {"posted": 1})
    assert desk.next() is None
    desk.clock.now += 5
    first = desk.next()
    assert first is not None and (first.attempt, first.problem, first.memo) == (2, "no", {"posted": 1})
    assert desk.outbox.refuse(first, "given up", "nonsense", desk.clock())
    second = desk.next()
    assert second is not None and (second.fault.sequence, second.attempt, second.memo) == (2, 1, {"posted": 1})
    assert desk.outbox.undelivered() == {("one", "given up"): 1}


def test_reminders_collapse(desk: Desk) -> None:
    """Of those that wait only the newest is kept; one that is being delivered stays."""
    desk.to = ["one"]
    a4 = life.reminded(A3, NOON)
    a5 = life.reminded(a4, NOON)
    desk.take(A1)
    row = desk.next()
    assert row is not None
    desk.outbox.refuse(row, "given up", "no", desk.clock())
    desk.take(A2, A3)
    row = desk.next()
    assert row is not None
    desk.outbox.refuse(row, "given up", "no", desk.clock())
    taken = desk.next()
    assert taken is not None and taken.reminder and taken.fault.sequence == 3
    desk.take(a4)
    assert desk.outbox.waiting() == {"one": 2}
    desk.take(a5)
    assert desk.outbox.waiting() == {"one": 2}
    assert desk.outbox.refuse(taken, "given up", "no", desk.clock())
    assert desk.delivered() == ["a5 raised"]


def test_a_reporter_that_is_added_later(desk: Desk) -> None:
    """The next reminder is its raise; whoever has it is not reminded; and both are told of the clear."""
    desk.to = ["one"]
    desk.take(A1)
    assert desk.delivered() == ["a1 raised"]
    desk.to = ["one", "two"]
    desk.take(life.reminded(A1, NOON))
    assert desk.delivered("two") == ["a2 raised"]
    assert desk.delivered() == []
    desk.take(life.cleared(A2, Resolution.RECOVERED, NOON))
    assert desk.delivered() == desk.delivered("two") == ["a3 cleared"]


def test_one_that_never_had_it(desk: Desk) -> None:
    """No clear of what it was not told of: it came later, or refused it, or did not want it."""
    desk.to = ["one"]
    desk.take(A1)
    row = desk.next()
    assert row is not None and desk.outbox.refuse(row, "given up", "no", desk.clock())
    desk.to = ["one", "two"]
    desk.take(life.cleared(A1, Resolution.RECOVERED, NOON))
    assert desk.outbox.waiting() == {}
    assert desk.take(life.cleared(another("c"), Resolution.RECOVERED, NOON)) == ["new"]
    assert desk.outbox.waiting() == {}


def test_a_clear_behind_a_raise_that_is_refused(desk: Desk) -> None:
    """It waited, and goes: who has it is known only then."""
    desk.take(A1, life.cleared(A1, Resolution.RECOVERED, NOON))
    row = desk.next()
    assert row is not None and desk.outbox.refuse(row, "given up", "no", desk.clock())
    assert desk.next() is None
    assert desk.outbox.waiting() == {"two": 2}


def test_the_first_that_it_wants(desk: Desk) -> None:
    """Asked about a raise for as long as it has nothing, and told of one, whatever the consumer has heard before."""
    asked: list[str] = []

    def route(change: Change, fault: life.Fault) -> list[str]:
        asked.append(f"{fault.sequence} {change.name.lower()}")
        return ["picky"] if fault.cause == "other" else []

    records = Records(desk.database, route, [], 300.0)
    a2 = replace(A1, sequence=2, cause="other")
    for fault in (A1, a2, replace(a2, sequence=3, confidence="low")):
        records.take(fault, desk.clock())
        assert all(line[0] == "a" for line in desk.delivered("picky"))
    assert asked == ["1 raised", "2 raised", "2 updated", "3 raised", "3 updated"]


def test_what_it_was_told_outlives_everybody(tmp_path: Path) -> None:
    """A consumer that is killed between a backend's answer and its own note tells the same again, as the same."""
    url = f"sqlite:///{tmp_path / 'x'}"
    database = Database(url)
    database.open()
    desk = Desk(database)
    desk.take(A1, A2)
    first = desk.next()
    database.close()
    database = Database(url)
    database.open()
    after = Outbox(database, "after")
    after.live("here", THEN + 1)
    again = after.take("one", THEN + 1)
    assert first is not None and again is not None
    assert (again.change, again.fault.sequence) == (first.change, first.fault.sequence) == (Change.RAISED, 1)
    assert after.done(again)
    database.close()
    database = Database(url)
    database.open()
    last = Outbox(database, "last")
    last.live("here", THEN + 2)
    row = last.take("one", THEN + 2)
    assert row is not None and (row.change, row.fault.sequence) == (Change.UPDATED, 2)
    assert last.done(row)
    database.close()


def test_faults_from_before_it_was_kept(tmp_path: Path) -> None:
    """Everybody is taken to have heard of them: a raise that waits is still one, and nobody is told anew."""
    url = f"sqlite:///{tmp_path / 'x'}"
    database = Database(url)
    database.open()
    desk = Desk(database)
    b1, c1 = another("b", instance_uuid=None), another("c", instance_uuid=None)
    desk.take(A1, b1)
    desk.delivered("one")
    database.close()
    execute(url, "DROP TABLE vmhb_told", "DROP TABLE vmhb_revisions")
    execute(url, "UPDATE vmhb_meta SET value = '1' WHERE name = 'schema_version'")
    database = Database(url)
    database.open()
    desk = Desk(database)
    desk.outbox.live("here", desk.clock())
    desk.take(life.reminded(A1, NOON), life.cleared(b1, Resolution.RECOVERED, NOON), c1)
    assert desk.delivered("one") == ["b2 cleared", "c1 raised"]
    assert desk.delivered("two") == ["a1 raised", "b1 raised", "b2 cleared", "c1 raised"]
    desk.records.prune(THEN + 1, THEN + 1)
    left = "SELECT target, fault_id FROM vmhb_told ORDER BY 1, 2"
    rows = database.run(lambda connection: connection.exec_driver_sql(left).all())
    assert [(target, fault_id[0]) for target, fault_id in rows] == [("*", "a"), ("one", "c"), ("two", "c")]
    database.close()


def test_what_a_dead_consumer_was_at(tmp_path: Path) -> None:
    """It is another's once it has not been alive for a while; the dead one's word does not count any more."""
    database = Database(f"sqlite:///{tmp_path / 'x'}")
    database.open()
    database.alone = False  # as if several could share it
    desk = Desk(database)
    desk.take(A1)
    row = desk.next()
    assert row is not None
    other = Outbox(database, "other")
    other.live("there", THEN)
    assert other.take("one", THEN + MEMBER_TTL - 1) is None
    other.live("there", THEN + MEMBER_TTL)
    again = other.take("one", THEN + MEMBER_TTL)
    assert again is not None and again.id == row.id
    assert not desk.outbox.done(row) and not desk.outbox.again(row, "no", THEN, None)
    assert not desk.outbox.refuse(row, "given up", "no", THEN)
    assert other.done(again)
    database.close()


def test_sqlite_has_one_consumer(tmp_path: Path) -> None:
    """So whoever was at something before is dead, and nobody waits for it; a second one is refused."""
    url = f"sqlite:///{tmp_path / 'x'}"
    database = Database(url)
    database.open()
    before = Desk(database)
    before.take(A1)
    assert before.next() is not None
    with pytest.raises(Refused, match="another consumer uses"):
        Database(url).open()
    database.close()
    database = Database(url)
    database.open()
    after = Outbox(database, "after")
    after.live("here", THEN + 1)
    assert after.take("one", THEN + 1) is not None
    database.close()


def test_a_visitor_writes_in_between(tmp_path: Path) -> None:
    """SQLite refuses a transaction that has read what another process has changed since: it is begun anew."""
    ours, visitor = Database(f"sqlite:///{tmp_path / 'db'}"), Database(f"sqlite:///{tmp_path / 'db'}")
    ours.open()
    visitor.visit()
    tries: list[str] = []

    def set_to(value: str, connection: sa.Connection) -> None:
        connection.execute(sa.update(META).where(META.c.name == "permits").values(value=value))

    def work(connection: sa.Connection) -> None:
        tries.append(str(connection.execute(sa.select(META.c.value).where(META.c.name == "permits")).scalar()))
        if len(tries) == 1:
            visitor.run(partial(set_to, "theirs"))
        set_to("ours", connection)

    ours.run(work)
    assert tries == ["", "theirs"]
    visitor.close()
    ours.close()


def test_not_open_yet() -> None:
    """Nothing is done with it before."""
    with pytest.raises(Away):
        Database("sqlite://").run(lambda c: None)


def test_a_driver_that_is_not_there() -> None:
    """What to install is said."""
    with pytest.raises(Refused, match="install that database's driver"):
        Database("nonsense+driver://host/x").open()


# -- what the consumer says itself -------------------------------------------------------------------------------------


def test_closed_by_us(desk: Desk) -> None:
    """It is published, numbered on; what its worker says of it afterwards changes nothing."""
    desk.take(A1)
    assert desk.records.close(A1, Resolution.SUPERSEDED, "it moved", THEN)
    assert not desk.records.close(A1, Resolution.SUPERSEDED, "it moved", THEN), "once"
    assert desk.take(A2, A4) == ["duplicate", "final"]
    assert desk.delivered() == ["a1 raised", "a2 cleared"]
    assert desk.delivered("topic:faults") == ["a2 cleared"]


def test_closed_too_late(desk: Desk) -> None:
    """Its worker said something new meanwhile: the doubt was about something else."""
    desk.take(A1, A2)
    assert not desk.records.close(A1, Resolution.SUPERSEDED, "it moved", THEN)
    assert desk.open() == ["a2"]


def test_rivals_are_looked_into_at_once(desk: Desk) -> None:
    """Both, with each other; by one consumer; a fault that nobody doubts waits for its reminders."""
    desk.take(another("c", instance_uuid="c" * 8 + "-5b7d-4d4b-9a57-0c8f5b1f7c11"), A1)
    assert desk.records.doubtful(THEN, 10) == []
    desk.take(B1)
    both = desk.records.doubtful(THEN, 10)
    assert sorted((one.fault.fault_id[0], one.rivals[0].fault_id[0], one.quiet) for one in both) == [
        ("a", "b", False),
        ("b", "a", False),
    ]
    assert desk.records.doubtful(THEN, 10) == []
    desk.records.keep(A1, True, THEN + 5, THEN)
    assert [one.fault for one in desk.records.doubtful(THEN + 5, 10)] == [A1]


def test_other_channels_are_no_rivals(desk: Desk) -> None:
    """An instance may have a fault on each."""
    desk.take(A1, replace(B1, channel="application"))
    assert desk.records.doubtful(THEN, 10) == []


def test_reminders_stopped(desk: Desk) -> None:
    """Three intervals after the last word of it."""
    desk.take(A1)
    desk.clock.now += 300
    desk.take(life.reminded(A1, NOON))
    (one,) = desk.records.doubtful(THEN + 310, 10)
    assert not one.quiet, "only where the instance is, is asked"
    desk.records.keep(one.fault, False, THEN + 1200, THEN + 310)
    assert desk.records.doubtful(THEN + 1199, 10) == []
    (one,) = desk.records.doubtful(THEN + 1200, 10)
    assert (one.quiet, one.own, one.rivals) == (True, False, ())


def test_a_worker_is_lost_and_found(desk: Desk) -> None:
    """worker_lost is raised once, repeated, and over with the next sign of life."""
    assert desk.records.heard(SIGN, THEN)
    assert not desk.records.heard(SIGN, THEN + 1), "the same again"
    assert desk.records.silent(THEN + 179, 10) == []
    (one,) = desk.records.silent(THEN + 180, 10)
    assert desk.records.silent(THEN + 180, 10) == [], "one consumer looks"
    fault = fault_rules.worker_lost(another("e").fault_id, "cn1", NOON, 60.0, {}, NOON)
    assert desk.records.lose(one, fault, THEN + 180)
    assert not desk.records.lose(one, replace(fault, fault_id="x"), THEN + 180)
    (doubt,) = desk.records.doubtful(THEN + 480, 10)
    assert doubt.own
    desk.records.remind(doubt.fault, THEN + 480)
    assert desk.records.counts() == {"open_faults": 1, "workers": 1, "workers_lost": 1}
    assert desk.records.heard(replace(SIGN, sequence=2), THEN + 500)
    desk.clock.now = THEN + 500
    assert desk.delivered("topic:faults") == ["e1 raised", "e2 updated", "e3 cleared"]
    assert desk.delivered() == ["e1 raised", "e3 cleared"]
    assert desk.records.silent(THEN + 679, 10) == []


def test_heard_of_meanwhile(desk: Desk) -> None:
    """A sign that comes while the worker is looked into: it is not lost."""
    desk.records.heard(SIGN, THEN)
    (one,) = desk.records.silent(THEN + 180, 10)
    desk.records.heard(replace(SIGN, started_at=THEN + 181, sequence=1), THEN + 181)
    assert not desk.records.lose(one, another("e"), THEN + 182)
    desk.records.look_again(one, THEN + 200)
    assert desk.records.silent(THEN + 200, 10) == []


def test_answered_is_heard(desk: Desk) -> None:
    """A worker that answers is not lost, and one that nobody knows is not made up."""
    desk.records.heard(SIGN, THEN)
    (one,) = desk.records.silent(THEN + 180, 10)
    desk.records.lose(one, fault_rules.worker_lost(another("e").fault_id, "cn1", NOON, 60.0, {}, NOON), THEN + 180)
    desk.records.answered("cn1", THEN + 200)
    desk.records.answered("nobody", THEN + 200)
    desk.clock.now = THEN + 200
    assert desk.delivered() == ["e1 raised", "e2 cleared"]
    desk.records.forget_worker("cn1")
    assert desk.records.counts()["workers"] == 0


def test_prune(desk: Desk) -> None:
    """What is over and delivered is forgotten after a while; what is open, or waits, never."""
    desk.take(A1, A4, B1)
    desk.records.prune(THEN + 1, THEN)
    assert desk.records.known(A1.fault_id) is not None, "it waits for somebody"
    desk.delivered("one"), desk.delivered("two")
    desk.records.prune(THEN + 1, THEN)
    assert desk.records.known(A1.fault_id) is None
    assert desk.open() == ["b1"]


def test_who_gets_what(desk: Desk) -> None:
    """Asked for every change, as what a reporter is told."""
    asked: list[tuple[Change, int]] = []

    def route(change: Change, fault: life.Fault) -> list[str]:
        asked.append((change, fault.sequence))
        return []

    records = Records(desk.database, route, [], 300.0)
    records.take(A2, THEN)
    records.take(A4, THEN)
    assert asked == [(Change.RAISED, 2), (Change.CLEARED, 4)]
    assert desk.outbox.waiting() == {}
