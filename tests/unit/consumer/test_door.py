"""Whatever comes in costs its own message at most; whatever lies in the database already, its own row."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import fields, replace
from datetime import datetime, timezone
from typing import Any

import oslo_messaging
import pytest
import sqlalchemy as sa

from tests.fakes import a_fault
from tests.unit.consumer.conftest import Desk, another
from tests.unit.consumer.fakes import FlakyRecords
from vmhb_common.app.ration import MOST
from vmhb_common.model.fault import Fault
from vmhb_common.objects import FaultPayload, SignOfLife, fault_payload, worker_payload
from vmhb_consumer import door, fault_rules
from vmhb_consumer.counters import Tally
from vmhb_consumer.database import Unfit
from vmhb_consumer.fault_listener import Endpoint
from vmhb_consumer.fault_rules import BadFault
from vmhb_consumer.outbox import Row
from vmhb_consumer.reporters import aodh, masakari_rules, mistral
from vmhb_consumer.reporters.base import Case
from vmhb_consumer.schema import FAULTS, OUTBOX

HANDLED = oslo_messaging.NotificationResult.HANDLED
NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)
HONEST = another("f", instance_uuid=None)


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


EVIL: list[Any] = [
    *(
        None,
        True,
        False,
        "",
        " ",
        "a b",
        "\0",
        "\n",
        "h\ud800",
        "\u0130ex",
        "../../x' OR 1=1",
        "x" * 70_000,
        "brand_new",
    ),
    *(0, -1, 7, 2**31, 2**63, -(10**30), 10**300, 10**5000, "12", "9" * 5000, 0.5, 1e308, -1e308),
    *(math.nan, math.inf, -math.inf),
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"),
    *("1969-12-31T23:59:59Z", "2026-01-02T03:04:05.678901+05:30", "2026-01-02", "yesterday", "24:00"),
    *([], {}, [None], deep(40), deep(100_000), {"a": deep(100_000)}, ["x"] * 100_000),
    *({"\ud800": "\0"}, {"n": 10**400}, {"n": 10**5000}, {"x": math.nan}, {"x": [{"y": "\udfff"}]}, {"": None}),
]


class House:
    """A consumer's door, what it opens to, and how all that stands behind it is used."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.tally = Tally()
        self.endpoint = Endpoint(desk.records, self.tally, desk.clock, wait=lambda _seconds: True)

    def comes(self, event_type: Any, payload: Any) -> None:
        assert self.endpoint.info({}, "vmhb-worker:evil", event_type, payload, {}) == HANDLED

    def goes_on(self) -> list[Fault]:
        """Every reader reads; what each backend is told can be made. The faults that were delivered."""
        self.desk.clock.now += 1000
        json.dumps([fault_rules.primitive(fault) for fault in self.desk.records.active()], allow_nan=False)
        self.desk.records.doubtful(self.desk.clock(), 1000)
        self.desk.records.silent(self.desk.clock(), 1000)
        self.desk.records.set_aside(self.desk.clock())
        told = []
        while (row := self.desk.next()) is not None:
            tell(row)
            self.desk.outbox.done(row)
            told.append(row.fault)
        self.desk.records.prune(0.0, 0.0)
        return told


def tell(row: Row) -> None:
    """As the reporters do."""
    case = Case(row.change, row.fault, row.latest, NOON, 1)
    json.dumps(aodh.event(row.change, row.fault, "p"), allow_nan=False)
    json.dumps(mistral.told("w", case).input, allow_nan=False).encode()
    masakari_rules.since(row.fault, masakari_rules.Memo())
    f"{row.fault.host} {row.fault.instance_uuid} {row.fault.project_id} {row.fault.display_name}".encode()
    json.dumps(row.fault.evidence, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("name", [field.name for field in fields(Fault)])
def test_any_value_of_any_field(desk: Desk, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is taken, made harmless or refused, said once then; and everybody goes on with what came before and after."""
    house = House(desk)
    for number, value in enumerate(EVIL):
        payload = fault_payload(a_fault(f"{number:08x}-5b7d-4d4b-9a57-0c8f5b1f7c11"))
        payload["vmhb_object.data"][name] = value
        house.comes("vmhb.fault.raised", payload)
    house.comes("vmhb.fault.raised", fault_payload(HONEST))
    counted = house.tally.snapshot()
    assert sum(counted.values()) == len(EVIL) + 1
    refusals = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(refusals) == min(counted.get("refused", 0), MOST) + (counted.get("refused", 0) >= MOST)
    assert all(len(said) < 500 and said.isprintable() and "error of our own" not in said for said in refusals)
    assert HONEST in house.goes_on()
    assert len(desk.open()) == counted["faults.new"]


def sign_of(host: str) -> dict[str, Any]:
    return worker_payload(SignOfLife(host, "1", NOON, NOON, 7, 60.0, 3, {}, 0, True, {}))


@pytest.mark.parametrize("name", [field.name for field in fields(SignOfLife)])
def test_any_value_of_any_field_of_a_sign_of_life(desk: Desk, name: str) -> None:
    """The same."""
    house = House(desk)
    for value in EVIL:
        payload = sign_of("evil")
        payload["vmhb_object.data"][name] = value
        house.comes("vmhb.worker.alive", payload)
    house.comes("vmhb.worker.alive", sign_of("cn1"))
    desk.clock.now += 1e6
    assert "cn1" in [one.host for one in desk.records.silent(desk.clock(), 1000)]


@pytest.mark.parametrize(
    "event_type", ["vmhb.fault.raised", "vmhb.fault.", "vmhb.worker.alive", "vmhb.heartbeat.ended"]
)
def test_anything_at_all(event_type: str) -> None:
    """Acknowledged, and nothing is raised, whatever stands where a notification should."""
    endpoint = Endpoint(FlakyRecords(), Tally(), NOON.timestamp)  # type: ignore[arg-type]
    for evil in EVIL:
        assert endpoint.info(evil, evil, event_type, evil, evil) == HANDLED
        assert endpoint.info({}, "vmhb-worker:cn1", evil, fault_payload(a_fault()), {}) == HANDLED
        around = {"vmhb_object.namespace": "vmhb", "vmhb_object.version": "1.1", "vmhb_object.data": evil}
        for name in ("FaultPayload", "WorkerPayload", evil):
            assert endpoint.info({}, "x", event_type, {**around, "vmhb_object.name": name}, {}) == HANDLED


def test_every_field_has_a_rule() -> None:
    """A field that is new has none yet: say what is kept of it."""
    assert set(door.KEPT) == {field.name for field in fields(Fault)}


def test_a_guest_cannot_hide_its_own_fault() -> None:
    """What it may have had a say in is made harmless, not refused."""
    evil = "\0\ud800" + "x" * 1000
    fault = fault_rules.checked(
        replace(a_fault(), display_name=evil, reason=evil, evidence={evil: [evil, math.inf]}, health={"status": evil})
    )
    assert fault.display_name == fault.reason == "\ufffd\ufffd" + "x" * 253
    assert fault.evidence == {"\ufffd\ufffd" + "x" * 1000: ["\ufffd\ufffd" + "x" * 1000, "inf"]}


def test_what_is_let_in_is_what_is_read_back() -> None:
    """Whole seconds, lower case: the next reminder of the same fault has nothing new in it."""
    fine = replace(a_fault(), occurred_at=NOON.replace(microsecond=5), interval=7)
    kept = fault_rules.checked(fine)
    assert kept == fault_rules.unpacked(fault_rules.packed(kept)) == replace(fine, occurred_at=NOON, interval=7.0)
    assert fault_rules.checked(kept) is kept


def test_years_have_four_digits() -> None:
    """Not on every platform do they by themselves."""
    early = replace(a_fault(), raised_at=datetime(1, 1, 1, tzinfo=timezone.utc))
    assert fault_rules.primitive(early)["vmhb_object.data"]["raised_at"] == "0001-01-01T00:00:00Z"
    with pytest.raises(BadFault, match="raised_at is 0001-01-01"):
        fault_rules.checked(early)


def test_a_value_that_the_database_cannot_hold() -> None:
    """It is the message's own fault: the database is not away, and is not asked for ever."""
    tally = Tally()
    endpoint = Endpoint(FlakyRecords(1, Unfit("Data too long")), tally, NOON.timestamp, wait=lambda _: True)  # type: ignore[arg-type]
    assert endpoint.info({}, "w", "vmhb.fault.raised", fault_payload(a_fault()), {}) == HANDLED
    assert tally.snapshot() == {"refused": 1}


@pytest.mark.parametrize("value", ["h\ud800", 2**70])
def test_the_database_tells_a_value_from_a_failure(desk: Desk, value: Any) -> None:
    """Whatever driver says it, and however."""
    column = FAULTS.c.host if isinstance(value, str) else FAULTS.c.sequence
    with pytest.raises(Unfit):
        desk.database.run(lambda c: c.execute(sa.update(FAULTS).values({column: value})))


# -- what lies there already -------------------------------------------------------------------------------------------

GOOD = fault_rules.packed(another("a"))
SPOILT = [
    *("", "{", "null", "[]", "7", '{"vmhb_object.name": "FaultPayload"}', "[" * 100_000, "\ufffd"),
    GOOD.replace('"occurred_at": "2026', '"occurred_at": "1'),
    GOOD.replace('"interval": 10.0', '"interval": NaN'),
    GOOD.replace('"state": "raised"', '"state": "half"'),
    GOOD.replace('"misses": 3', f'"misses": {"9" * 5000}'),
    GOOD.replace(f'"{FaultPayload.VERSION}"', '"2.0"'),
]


def spoil(desk: Desk, table: Any, text: str) -> None:
    spoilt = sa.update(table).where(table.c.fault_id == another("a").fault_id).values(payload=text)
    desk.database.run(lambda c: c.execute(spoilt))


@pytest.mark.parametrize("text", SPOILT, ids=lambda text: text[:20])
@pytest.mark.parametrize("table", [FAULTS, OUTBOX], ids=lambda table: str(table.name))
def test_a_row_that_cannot_be_read(desk: Desk, table: Any, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is set aside, and said once; others' faults are told of, and the next word of its own fault counts."""
    assert text != GOOD
    a = another("a")
    desk.take(a, another("b"))
    spoil(desk, table, text)
    house = House(desk)
    told = [fault.fault_id[0] for fault in house.goes_on()]
    assert told == (["a", "b"] if table is FAULTS else ["b"])
    assert house.goes_on() == []
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(said) == 1 and a.fault_id in said[0] and "can't be read" in said[0] and said[0].isprintable()
    assert desk.outbox.undelivered() == ({} if table is FAULTS else {("one", "unreadable"): 1})
    assert desk.take(replace(a, sequence=2, confidence="low")) == ["new" if table is FAULTS else "changed"]
    assert [fault.fault_id[0] for fault in house.goes_on()] == ["a"]
    assert {one[0] for one in desk.open()} == {"a", "b"}


def test_what_its_columns_say_still_holds(desk: Desk) -> None:
    """Sequences only rise, and cleared is final, whether the rest can be read or not."""
    a = replace(another("a"), sequence=2)
    desk.take(a)
    spoil(desk, FAULTS, "{")
    assert desk.take(replace(a, sequence=1), a) == ["old", "old"]
    over = sa.update(FAULTS).values(state="cleared")
    desk.database.run(lambda c: c.execute(over))
    assert desk.take(replace(a, sequence=3)) == ["final"]


def test_a_rival_that_cannot_be_read_is_none(desk: Desk) -> None:
    """Nor does a row keep another from being looked into."""
    desk.take(another("a"), another("b", host="cn2"))
    spoil(desk, FAULTS, "{")
    (one,) = desk.records.doubtful(desk.clock() + 1000, 8)
    assert (one.fault.host, one.rivals) == ("cn2", ())


@pytest.mark.parametrize("memo", ["{", "[]", "[" * 100_000])
def test_a_memo_that_cannot_be_read(desk: Desk, memo: str) -> None:
    """Its fault is delivered as if there were none yet."""
    desk.take(another("a"))
    row = desk.next()
    assert row is not None and desk.outbox.again(row, "no", desk.clock(), {"x": 1})
    desk.database.run(lambda c: c.execute(sa.text("update vmhb_memos set memo = :memo"), {"memo": memo}))
    row = desk.next()
    assert row is not None and row.memo == {}
