"""Who holds a place, who waits for one, and when a place ends: a delivery's outcome, a clear, or its time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.fakes import a_fault
from tests.stage.tables import execute
from tests.unit.consumer.conftest import Desk
from tests.unit.consumer.fakes import Witness
from vmhb_common.model import fault as life
from vmhb_common.model.fault import Fault, Resolution
from vmhb_consumer.database import Database
from vmhb_consumer.doubt_rules import Told, Unknown
from vmhb_consumer.outbox import Row
from vmhb_consumer.recovery_limits import FRESH, OBSERVE, PAUSE, PAUSED, SHARE
from vmhb_consumer.recovery_permits import MUTE, Permits, Witnesses
from vmhb_consumer.recovery_places import Board, Picture
from vmhb_consumer.reporters.base import Permit
from vmhb_consumer.reporters.outcomes import Done, Later, Outcome, Refused
from vmhb_consumer.schema import HOLDERS, PERMITS, WAITING
from vmhb_consumer.settings import RecoverySettings
from vmhb_consumer.stop_button import Pause

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)
#: A worker that says yes.
LIMITS = RecoverySettings(rate=1000, recoveries=1000, action_ttl=86400.0)


def asks(number: int, project: str | None = "acme", **changed: object) -> Fault:
    """A fault of a guest of its own that asks for recovery."""
    values: dict[str, object] = {
        "instance_uuid": f"{number:08d}-8d5a-4d0e-9d62-0f2f8f6f3b21",
        "recommended_action": "recover",
    }
    values |= {"withheld": None, "recovery_attempt": 1, "project_id": project, "channel": None, "host": f"cn{number}"}
    return a_fault(f"{number:08d}-5b7d-4d4b-9a57-0c8f5b1f7c11", **{**values, **changed})


def permits(desk: Desk, limits: RecoverySettings = LIMITS, witness: Witness | None = None) -> Permits:
    """Of one consumer."""
    witness = witness or Witness()
    return Permits(desk.database, desk.records, limits, Witnesses(witness.word, witness.place))


def picture(desk: Desk, limits: RecoverySettings = LIMITS) -> Picture:
    """As an operator sees it."""
    return Board(desk.database).picture(limits, desk.clock())


def held(desk: Desk) -> dict[str | None, int]:
    """Project -> places."""
    return dict(picture(desk).places)


def pause(desk: Desk, seconds: float, reason: str = "storage") -> None:
    """Press the stop button."""
    Board(desk.database).press(Pause(reason, desk.clock(), desk.clock() + seconds, "root on ctl"))


def rows_of(table: Any, connection: sa.Connection) -> list[Any]:
    """All of it."""
    return list(connection.execute(sa.select(table)).all())


def taken(desk: Desk, fault: Fault, target: str = "one") -> Row:
    """Its delivery, as that reporter's thread has it."""
    desk.take(fault)
    row = desk.next(target)
    assert row is not None
    return row


# -- fairness ----------------------------------------------------------------------------------------------------------


def test_ten_silent_guests_of_one_tenant(desk: Desk) -> None:
    """They hold all places but one for as long as they last; another tenant's guest has that one at once."""
    desk.to = ["one"]
    one, tenant, other = permits(desk), [asks(number) for number in range(10)], asks(99, "other", cause="qemu_failed")
    desk.take(*tenant, other)
    said = [one.ask(fault, "one", desk.clock) for fault in tenant]
    assert [permit.granted for permit in said] == [True] * 9 + [False]
    assert (said[9].withheld, said[9].seconds) == (SHARE, PAUSE)
    assert one.ask(other, "one", desk.clock) == Permit(True)
    assert held(desk) == {"acme": 9, "other": 1}


def test_whoever_waits_comes_before_whoever_has_half(desk: Desk) -> None:
    """While a third one waits, what ends of the first tenant's is the third one's, however often the first asks."""
    one, tenant = permits(desk), [asks(number) for number in range(20)]
    second, third = asks(98, "second"), asks(99, "third")
    desk.take(*tenant, second, third)
    assert sum(one.ask(fault, "one", desk.clock).granted for fault in (*tenant, second)) == 10
    assert one.ask(third, "one", desk.clock).why == "held: 10 recoveries are under way ([recovery] max_concurrent)"
    desk.take(life.cleared(tenant[0], Resolution.RECOVERED, NOON))
    again = [one.ask(fault, "one", desk.clock) for fault in tenant[9:]]
    assert {permit.withheld for permit in again} == {SHARE}
    assert one.ask(third, "one", desk.clock).granted
    desk.take(*(life.cleared(fault, Resolution.RECOVERED, NOON) for fault in tenant[1:3]))
    assert sum(one.ask(fault, "one", desk.clock).granted for fault in tenant[9:]) == 1, "nobody else waits any more"
    assert held(desk) == {"acme": 7, "second": 1, "third": 1}


@pytest.mark.parametrize("then", ["cleared", "refused", "done", "late", "unverified", "forgotten"])
def test_who_waits_no_more_holds_nobody(desk: Desk, then: str) -> None:
    """Its fault is over, its reporter doesn't ask any more, it waits for its worker, or it has not asked for long."""
    desk.to = ["one"]
    limits = replace(LIMITS, max_concurrent=4, action_ttl=50.0, recovery_time=4000.0)
    witness = Witness()
    one = permits(desk, limits, witness)
    other = asks(99, "other")
    row = taken(desk, other)
    tenant = [asks(number) for number in range(4)]
    desk.take(*tenant)
    pause(desk, 5.0)
    assert one.ask(other, "one", desk.clock).withheld == PAUSED
    desk.clock.now += 5.0
    assert [one.ask(fault, "one", desk.clock).withheld for fault in tenant] == ["", "", SHARE, SHARE]
    match then:
        case "cleared":
            desk.take(life.cleared(other, Resolution.RECOVERED, NOON))
        case "refused":
            desk.outbox.refuse(row, "withheld", "nobody wants it", desk.clock())
        case "done":
            desk.outbox.done(row, Done())
        case "late" | "unverified":
            desk.clock.now += 50.0
            witness.said_word = Unknown("no answer") if then == "unverified" else Told({"fault": None})
            assert one.ask(other, "one", desk.clock).withheld == then
            witness.said_word = None
            desk.clock.now += MUTE
        case "forgotten":
            desk.clock.now += FRESH - 6.0
            assert [waiter.project for waiter in picture(desk).waiting] == ["other", "acme", "acme"]
            desk.clock.now += 6.0
            desk.take(replace(tenant[2], sequence=2, occurred_at=datetime.fromtimestamp(desk.clock(), timezone.utc)))
    assert one.ask(tenant[2], "one", desk.clock).granted


def test_projects_that_nobody_knows(desk: Desk) -> None:
    """They are one project, as are all that were let through before projects were kept."""
    limits = replace(LIMITS, max_concurrent=4)
    one = permits(desk, limits)
    desk.take(*(asks(number, None) for number in range(4)))
    assert [one.ask(asks(number, None), "one", desk.clock).granted for number in range(4)] == [True] * 3 + [False]
    desk.database.run(lambda connection: connection.exec_driver_sql("DELETE FROM vmhb_holders"))
    assert not one.ask(asks(3, None), "one", desk.clock).granted
    assert held(desk) == {None: 3}


# -- the end of a place ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "over"),
    [
        (Done(over=True), True),
        (Done(), False),  # begun, and nobody follows it
        (Refused("the backend failed"), True),
        (Refused("ignored", rightly=True), True),
        (Later(5.0, "Masakari has it: running", {"posted": 1}, known=True), False),
        (Later(60.0, "the host is on maintenance", over=True), True),
    ],
)
def test_a_place_ends_with_its_recovery(desk: Desk, outcome: Outcome, over: bool) -> None:
    """Done, failed, refused or ignored: as its reporter says, and not only once the fault is over."""
    desk.to = ["one"]
    one, fault = permits(desk, replace(LIMITS, max_concurrent=1)), asks(1)
    row = taken(desk, fault)
    assert one.ask(fault, "one", desk.clock).granted
    match outcome:
        case Done():
            desk.outbox.done(row, outcome)
        case Later():
            desk.outbox.again(row, outcome.why, desk.clock(), outcome.memo, None, outcome.over)
        case Refused():
            desk.outbox.refuse(row, "given up", outcome.why, desk.clock())
    assert held(desk) == ({} if over else {"acme": 1})
    desk.take(asks(2))
    assert one.ask(asks(2), "one", desk.clock).granted is over
    desk.clock.now += LIMITS.recovery_time
    assert held(desk) == {}, "it has its time, whatever its reporter says"
    assert one.ask(asks(2), "one", desk.clock).granted


def test_of_another_reporter(desk: Desk) -> None:
    """One that refuses a recovery which another was let through with does not end that one's place."""
    one, fault = permits(desk), asks(1)
    row = taken(desk, fault, "two")
    assert one.ask(fault, "one", desk.clock).granted
    desk.outbox.refuse(row, "withheld", "not HA-enabled", desk.clock())
    assert held(desk) == {"acme": 1}


def test_of_two_reporters(desk: Desk) -> None:
    """Both were let through with the one place: it is held until the fault is over, as neither knows of the other."""
    one, fault = permits(desk), asks(1)
    row = taken(desk, fault, "one")
    assert one.ask(fault, "one", desk.clock).granted and one.ask(fault, "two", desk.clock).granted
    desk.outbox.refuse(row, "given up", "Masakari could not", desk.clock())
    assert held(desk) == {"acme": 1}
    desk.take(life.cleared(fault, Resolution.RECOVERED, NOON))
    assert held(desk) == {}


def test_asked_for_again(desk: Desk) -> None:
    """A place that has ended is not held for ever: the same recovery, tried again, waits its turn like any other. Of
    its instance's budget it takes one all the same."""
    desk.to = ["one"]
    limits = replace(LIMITS, max_concurrent=1, recoveries=1)
    one, fault, other = permits(desk, limits), asks(1), asks(2)
    row = taken(desk, fault)
    assert one.ask(fault, "one", desk.clock).granted
    desk.outbox.again(row, "the host is on maintenance", desk.clock(), None, None, over=True)
    desk.take(other)
    assert one.ask(other, "one", desk.clock).granted
    assert one.ask(fault, "one", desk.clock).why.startswith("held: 1 recoveries are under way")
    desk.take(life.cleared(other, Resolution.RECOVERED, NOON))
    assert one.ask(fault, "one", desk.clock).granted
    assert held(desk) == {"acme": 1}


def test_a_later_attempt_takes_the_place_of_the_one_before(desk: Desk) -> None:
    """One instance, one place; the end of the earlier one, told late, does not end it."""
    desk.to = ["one"]
    one, first = permits(desk), asks(1)
    row = taken(desk, first)
    second = replace(first, sequence=2, recovery_attempt=2)
    assert one.ask(first, "one", desk.clock).granted
    desk.take(second)
    assert one.ask(second, "one", desk.clock).granted
    assert held(desk) == {"acme": 1}
    desk.outbox.refuse(row, "given up", "it did not help", desk.clock())
    assert held(desk) == {"acme": 1}


def test_forgotten(desk: Desk) -> None:
    """Old permits, whose they were, and who waited."""
    one = permits(desk, replace(LIMITS, max_concurrent=1))
    desk.take(asks(1), asks(2))
    assert one.ask(asks(1), "one", desk.clock).granted and not one.ask(asks(2), "one", desk.clock).granted
    desk.records.prune(desk.clock() + 1.0, desk.clock() + 1.0)
    for table in (PERMITS, HOLDERS, WAITING):
        left = desk.database.run(partial(rows_of, table))
        assert left == [], table.name


def test_a_database_from_before(tmp_path: Path) -> None:
    """What is under way in it goes on, and holds its places: nobody knows whose."""
    url = f"sqlite:///{tmp_path / 'db'}"
    before = Database(url)
    before.open()
    desk = Desk(before)
    desk.take(*(asks(number) for number in range(5)))
    one = permits(desk, replace(LIMITS, max_concurrent=4))
    assert one.ask(asks(0), "one", desk.clock).granted and one.ask(asks(1), "one", desk.clock).granted
    before.close()
    gone = ("DROP TABLE " + name for name in ("vmhb_holders", "vmhb_waiting", "vmhb_pauses", "vmhb_revisions"))
    execute(url, *gone, "UPDATE vmhb_meta SET value = '2' WHERE name = 'schema_version'")
    after = Database(url)
    after.open()
    desk = Desk(after)
    one = permits(desk, replace(LIMITS, max_concurrent=4))
    assert held(desk) == {None: 2}
    assert [one.ask(asks(number), "one", desk.clock).granted for number in range(5)] == [True] * 4 + [False]
    desk.take(life.cleared(asks(0), Resolution.RECOVERED, NOON))
    assert held(desk) == {None: 1, "acme": 2}
    after.close()


# -- the stop button, and observing ------------------------------------------------------------------------------------


def test_pressed_and_released(desk: Desk) -> None:
    """All consumers obey it with their next question, also for what was let through and is asked for again; what waits
    says so, and goes on afterwards."""
    both = permits(desk), permits(desk)
    desk.take(asks(1), asks(2))
    assert both[0].ask(asks(1), "one", desk.clock).granted
    pause(desk, 3600.0, "storage is being moved")
    for one in both:
        said = one.ask(asks(2), "one", desk.clock)
        assert (said.withheld, said.seconds) == (PAUSED, PAUSE)
        assert said.why.startswith("paused until ") and said.why.endswith(": storage is being moved")
    assert both[1].ask(asks(1), "one", desk.clock).withheld == PAUSED
    assert held(desk) == {"acme": 1}, "what is under way goes on"
    assert [waiter.why for waiter in picture(desk).waiting] == [said.why, said.why]
    assert both[0].held is None, "that is said by the watch"
    assert Board(desk.database).release() is not None
    assert Board(desk.database).release() is None
    assert both[1].ask(asks(2), "one", desk.clock).granted
    assert both[1].ask(asks(1), "one", desk.clock).granted


def test_pressed_again(desk: Desk) -> None:
    """The last one counts, also where it ends sooner; at its end all goes on by itself."""
    one = permits(desk)
    desk.take(asks(1))
    pause(desk, 3600.0)
    pause(desk, 60.0, "sooner")
    assert one.ask(asks(1), "one", desk.clock).why.endswith("sooner")
    desk.clock.now += 60.0
    assert one.ask(asks(1), "one", desk.clock).granted


def test_observed(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is let through, for good; what would have been is said, once all else speaks for it."""
    witness = Witness()
    one = permits(desk, replace(LIMITS, observe_only=True, action_ttl=60.0), witness)
    a, b = asks(1), asks(2)
    desk.take(a)
    permit = one.ask(a, "masakari", desk.clock)
    assert (permit.granted, permit.seconds, permit.withheld) == (False, None, OBSERVE)
    assert [record.message for record in caplog.records if record.name.startswith("vmhb_consumer")] == [
        f"recovery 1 of instance {a.instance_uuid} on cn1 would have been begun by masakari: observe_only"
    ]
    assert held(desk) == {} and not picture(desk).waiting
    desk.take(b)
    desk.clock.now += 61.0
    witness.said_word = Told({"fault": None})
    assert one.ask(b, "masakari", desk.clock).withheld == "late", "it would not have been begun"
