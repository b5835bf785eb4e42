"""What is to be delivered: rows in the database, one for each change and each target that is to have it.

A target is a reporter, or a topic that the consumer's own faults are sent to. Any consumer may deliver any row; which
one does is written into the row (`owner`), and is free again once that consumer is not alive any more. Of one fault and
target only the row of the lowest sequence is ever handed out: so order is kept, whoever delivers. Of what is due hosts
take turns: one that has thousands delays another's by one.

Threads: any. Times are seconds since the epoch, by this host's clock: hosts that share a database keep their clocks
within a few seconds.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from vmhb_common.model.fault import Change, Fault
from vmhb_consumer import recovery_places, rows
from vmhb_consumer.database import FAILURES, Changed, Database
from vmhb_consumer.fault_rules import packed, unpacked
from vmhb_consumer.reporters import telling
from vmhb_consumer.reporters.outcomes import Done, Refused
from vmhb_consumer.reporters.telling import Told
from vmhb_consumer.schema import EVERYBODY, FAULTS, MEMBERS, MEMOS, OUTBOX, TOLD, UNDELIVERED

LOG = logging.getLogger(__name__)

#: What a target's name begins with that is a topic of ours: it is sent everything, reminders too, as it is.
TOPIC = "topic:"
#: Rows that are looked at in one transaction, of which some may not be for this target, or not be readable.
AT_ONCE = 100
#: A consumer that has not said so for this long (seconds) is not alive: what it was at is another's. More than any
#: pause of a process that is well, and what a delivery is late by when a consumer dies.
MEMBER_TTL = 20.0
#: Where only one host has something, others are looked for again after this (seconds): with thousands of rows a look
#: takes some hundredths. And so many hosts are a round.
ALONE, ROUND = 0.25, 200


@dataclass(frozen=True, slots=True)
class Row:
    """One delivery, taken by us. latest: the newest of the fault; received_at: when that was heard. change, reminder:
    as this target is handed it; told: what it has been told of the fault before."""

    id: int
    target: str
    change: Change
    fault: Fault
    latest: Fault
    received_at: float
    attempt: int
    reminder: bool
    problem: str | None
    memo: Mapping[str, Any]
    told: Told = telling.NOTHING


@dataclass(slots=True)
class _Round:
    """served: the hosts that have had their turn. alone_at: when no other had anything."""

    served: set[str] = field(default_factory=set)
    alone_at: float = float("-inf")

    def has_had(self, host: str) -> None:
        if host in self.served or len(self.served) >= ROUND:
            self.served.clear()
        self.served.add(host)


class Outbox:
    """As one consumer sees it. member: its name in the table of members."""

    def __init__(self, database: Database, member: str) -> None:
        self._database = database
        self._member = member
        #: By target. Each target has one thread.
        self._rounds: dict[str, _Round] = {}

    # -- members ---------------------------------------------------------------------------------------------------

    def live(self, host: str, now: float) -> None:
        """We are alive, for another MEMBER_TTL. Those who were alone before us (SQLite) are not."""

        def work(connection: sa.Connection) -> None:
            until = now + MEMBER_TTL
            ours = MEMBERS.c.name == self._member
            if connection.execute(sa.update(MEMBERS).where(ours).values(alive_until=until)).rowcount == 0:
                connection.execute(sa.insert(MEMBERS).values(name=self._member, host=host[:255], alive_until=until))
            others = sa.and_(MEMBERS.c.name != self._member, MEMBERS.c.alive_until < now - 86400)
            if self._database.alone:
                others = MEMBERS.c.name != self._member
            connection.execute(sa.delete(MEMBERS).where(others))

        self._database.run(work)

    def leave(self) -> None:
        """We are going: what we were at is free."""
        self._database.run(lambda c: c.execute(sa.delete(MEMBERS).where(MEMBERS.c.name == self._member)))

    # -- deliveries ------------------------------------------------------------------------------------------------

    def take(self, target: str, now: float) -> Row | None:
        """The next one that is due, or None. It is ours until `done`, `again` or `refuse`."""

        aside: list[str] = []
        turns = self._rounds.setdefault(target, _Round())

        def work(connection: sa.Connection) -> Row | None:
            aside.clear()
            for _ in range(AT_ONCE):
                found = self._next(connection, target, now, turns)
                if found is None:
                    break
                mine = sa.and_(OUTBOX.c.id == found["id"], OUTBOX.c.owner == found["owner"])
                try:
                    row = self._row(connection, found, told_of(connection, target, found["fault_id"]))
                except FAILURES:
                    raise
                except Exception as error:  # whatever it is: the next row is another's
                    why = str(error) or type(error).__name__
                    _set_aside(connection, found, why, now)
                    aside.append(f"fault {ascii(found['fault_id'])[1:-1]} ({found['sequence']!r:.40}): {why!a:.300}")
                    continue
                settled = (
                    sa.update(OUTBOX).where(mine).values(owner=self._member) if row else sa.delete(OUTBOX).where(mine)
                )
                if connection.execute(settled).rowcount != 1:
                    raise Changed("taken by another consumer")
                if row is not None:
                    return row
            return None

        row = self._database.run(work)
        if row is not None:
            turns.has_had(row.fault.host)
        for text in aside:
            LOG.error("%s: a row of vmhb_outbox can't be read, and is kept in vmhb_undelivered: %s", target, text)
        return row

    @staticmethod
    def _row(connection: sa.Connection, found: Any, told: Told) -> Row | None:
        """None where this target is not to be handed it."""
        wrong = rows.wrong(OUTBOX, found)
        if wrong is not None:
            raise ValueError(wrong)
        target, fault_id = found["target"], found["fault_id"]
        change, reminder = Change(found["change"]), bool(found["reminder"])
        if not target.startswith(TOPIC):
            handed = telling.handed(told, change, reminder)
            if handed is None:
                return None
            change, reminder = handed.change, handed.reminder
        known = connection.execute(sa.select(FAULTS).where(FAULTS.c.fault_id == fault_id)).mappings().first()
        memo = connection.execute(sa.select(MEMOS.c.memo).where(_memo(target, fault_id))).scalar()
        return _row(found, known, memo, change, reminder, told)

    @classmethod
    def _next(cls, connection: sa.Connection, target: str, now: float, turns: _Round) -> Any:
        """The first that is due of a host that has not had its turn; of any, where all that have something had it."""
        if turns.served and not 0.0 <= now - turns.alone_at < ALONE:
            mine = sa.exists().where(FAULTS.c.fault_id == OUTBOX.c.fault_id, FAULTS.c.host.in_(sorted(turns.served)))
            found = cls._due(connection, target, now, ~mine)
            if found is not None:
                return found
            if len(turns.served) == 1:
                turns.alone_at = now
        return cls._due(connection, target, now, sa.true())

    @staticmethod
    def _due(connection: sa.Connection, target: str, now: float, among: sa.ColumnElement[bool]) -> Any:
        earlier = OUTBOX.alias("earlier")
        before = sa.exists().where(
            earlier.c.target == OUTBOX.c.target,
            earlier.c.fault_id == OUTBOX.c.fault_id,
            earlier.c.sequence < OUTBOX.c.sequence,
        )
        due = sa.and_(OUTBOX.c.target == target, OUTBOX.c.next_at <= now, ~before, _free(now), among)
        query = sa.select(OUTBOX).where(due).order_by(OUTBOX.c.next_at, OUTBOX.c.id).limit(1)
        return connection.execute(query).mappings().first()

    def due_at(self, target: str) -> float | None:
        """When the next row of this target is due; None where there is none at all."""
        query = sa.select(sa.func.min(OUTBOX.c.next_at)).where(OUTBOX.c.target == target)
        value = self._database.run(lambda connection: connection.execute(query).scalar())
        return None if value is None else float(value)

    def done(self, row: Row, outcome: Done | None = None) -> bool:
        """It was delivered. False where it was not ours any more: another consumer does it again. TypeError,
        ValueError: the memo is not JSON."""
        outcome = outcome or Done()
        text = None if outcome.memo is None else json.dumps(dict(outcome.memo))

        def work(connection: sa.Connection) -> bool:
            if connection.execute(sa.delete(OUTBOX).where(self._ours(row))).rowcount != 1:
                return False
            _remember(connection, row, text, telling.after(row.told, outcome))
            _recovery_is(connection, row, outcome.over)
            return True

        return self._database.run(work)

    def again(
        self,
        row: Row,
        why: str,
        next_at: float,
        memo: Mapping[str, Any] | None,
        told: Told | None = None,
        over: bool = False,
    ) -> bool:
        """It was not; next_at: when to try again. memo, told None: as it was. over: no recovery of it is under way.
        TypeError, ValueError: the memo is not JSON."""
        values = {"owner": "", "next_at": next_at, "problem": why[:2000], "attempt": row.attempt + 1}
        update = sa.update(OUTBOX).where(self._ours(row)).values(**values)
        text = None if memo is None else json.dumps(dict(memo))

        def work(connection: sa.Connection) -> bool:
            if connection.execute(update).rowcount != 1:
                return False
            _remember(connection, row, text, row.told if told is None else told)
            if over:
                _recovery_is(connection, row, over)
            return True

        return self._database.run(work)

    def release(self, row: Row) -> None:
        """Somebody else is to do it: we end."""
        update = sa.update(OUTBOX).where(self._ours(row)).values(owner="")
        self._database.run(lambda connection: connection.execute(update))

    def refuse(
        self,
        row: Row,
        kind: str,
        why: str,
        now: float,
        memo: Mapping[str, Any] | None = None,
        told: Told | None = None,
    ) -> bool:
        """It never will be. kind: `given up` or `withheld`. The record is kept. memo: as in `again`. told: what the
        target has been told by now."""
        text = None if memo is None else json.dumps(dict(memo))
        told = telling.after(row.told, Refused(why)) if told is None else told

        def work(connection: sa.Connection) -> bool:
            if connection.execute(sa.delete(OUTBOX).where(self._ours(row))).rowcount != 1:
                return False
            fault = row.fault
            values = {"target": row.target, "fault_id": fault.fault_id, "sequence": fault.sequence, "at": now}
            values |= {"change": str(row.change), "kind": kind, "why": why[:2000], "payload": packed(fault)}
            connection.execute(sa.insert(UNDELIVERED).values(**values))
            _remember(connection, row, text, told)
            _recovery_is(connection, row, over=True)
            return True

        return self._database.run(work)

    def waiting(self) -> dict[str, int]:
        """Target -> rows."""
        query = sa.select(OUTBOX.c.target, sa.func.count()).group_by(OUTBOX.c.target)
        return {str(target): int(count) for target, count in self._database.run(lambda c: c.execute(query).all())}

    def undelivered(self) -> dict[tuple[str, str], int]:
        """(target, kind) -> rows."""
        columns = (UNDELIVERED.c.target, UNDELIVERED.c.kind)
        query = sa.select(*columns, sa.func.count()).group_by(*columns)
        return {(str(t), str(k)): int(count) for t, k, count in self._database.run(lambda c: c.execute(query).all())}

    def _ours(self, row: Row) -> Any:
        return sa.and_(OUTBOX.c.id == row.id, OUTBOX.c.owner == self._member)


def _free(now: float) -> Any:
    alive = sa.select(MEMBERS.c.name).where(MEMBERS.c.alive_until > now)
    return sa.or_(OUTBOX.c.owner == "", OUTBOX.c.owner.not_in(alive))


def _memo(target: str, fault_id: str) -> Any:
    return sa.and_(MEMOS.c.target == target, MEMOS.c.fault_id == fault_id)


def _told(target: str, fault_id: str) -> Any:
    return sa.and_(TOLD.c.target == target, TOLD.c.fault_id == fault_id)


def told_of(connection: sa.Connection, target: str, fault_id: str) -> Told:
    """Within somebody's transaction: what this target has been told of this fault."""
    query = sa.select(TOLD).where(TOLD.c.target.in_([target, EVERYBODY]), TOLD.c.fault_id == fault_id)
    by_target = {row["target"]: row for row in connection.execute(query).mappings()}
    row = by_target.get(target) or by_target.get(EVERYBODY)
    if row is None:
        return Told()
    bugs = row["bugs"] if isinstance(row["bugs"], int) else 0
    return Told(bool(row["handed"]), bool(row["known"]), bool(row["remind"]), bugs, row["target"] == EVERYBODY)


def who_has(connection: sa.Connection, fault_id: str, targets: Iterable[str]) -> set[str]:
    """Within somebody's transaction: those of these targets that know of this fault, or for whom a change of it
    waits."""
    names = sorted(targets)
    waiting = sa.select(OUTBOX.c.target).where(OUTBOX.c.target.in_(names), OUTBOX.c.fault_id == fault_id)
    told = sa.and_(TOLD.c.target.in_([*names, EVERYBODY]), TOLD.c.fault_id == fault_id, TOLD.c.known.is_(True))
    found = {
        *connection.execute(waiting).scalars(),
        *connection.execute(sa.select(TOLD.c.target).where(told)).scalars(),
    }
    return {*names} if EVERYBODY in found else found


def _remember(connection: sa.Connection, row: Row, text: str | None, told: Told) -> None:
    """Only whoever has a row of this target and fault comes here, and that is one at a time."""
    key = {"target": row.target, "fault_id": row.fault.fault_id}
    if text is not None:
        update = sa.update(MEMOS).where(_memo(**key)).values(memo=text)
        if connection.execute(update).rowcount == 0:
            connection.execute(sa.insert(MEMOS).values(memo=text, **key))
    if told != row.told and not row.target.startswith(TOPIC):
        values = {"handed": told.handed, "known": told.known, "remind": told.remind, "bugs": told.bugs}
        if connection.execute(sa.update(TOLD).where(_told(**key)).values(**values)).rowcount == 0:
            connection.execute(sa.insert(TOLD).values(**key, **values))


def _recovery_is(connection: sa.Connection, row: Row, over: bool) -> None:
    """It asks for no place, at present or any more. over: nor is a recovery of its under way."""
    if row.fault.recovery_attempt and not row.target.startswith(TOPIC):
        recovery_places.leave(connection, row.fault.fault_id, row.target)
        if over:
            recovery_places.end(connection, row.fault, row.target)


def _row(found: Any, known: Any, memo: str | None, change: Change, reminder: bool, told: Told) -> Row:
    """ValueError where what is to be delivered can't be read."""
    fault = unpacked(found["payload"])
    return Row(
        id=int(found["id"]),
        target=found["target"],
        change=change,
        fault=fault,
        latest=_latest(fault, known),
        received_at=float(found["created"] if known is None or rows.wrong(FAULTS, known) else known["received_at"]),
        attempt=int(found["attempt"]),
        reminder=reminder,
        problem=found["problem"],
        memo=_memo_of(memo),
        told=told,
    )


def _latest(fault: Fault, known: Any) -> Fault:
    """Where the newest can't be read, this one is the newest that is known."""
    try:
        return fault if known is None or rows.wrong(FAULTS, known) else unpacked(known["payload"])
    except ValueError:
        return fault


def _memo_of(memo: str | None) -> Mapping[str, Any]:
    """As after a reporter that had none, where it can't be read: whoever delivers looks at what is there already."""
    try:
        value = json.loads(memo) if memo else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _set_aside(connection: sa.Connection, found: Any, why: str, now: float) -> None:
    """As `Outbox.refuse`, as it is: others' rows, the next of this fault among them, need not wait for it."""
    connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id == found["id"]))
    same: dict[str, Any] = {name: str(found[name]) for name in ("target", "fault_id", "change", "payload")}
    same["sequence"] = found["sequence"] if isinstance(found["sequence"], int) else 0
    connection.execute(sa.insert(UNDELIVERED).values(at=now, kind="unreadable", why=ascii(why)[:2000], **same))


def put(
    connection: sa.Connection, targets: Iterable[str], change: Change, fault: Fault, reminder: bool, now: float
) -> None:
    """Within somebody's transaction: this change is to be delivered to all of these."""
    if reminder:  # those that still wait, and nobody is at, say nothing that this one does not
        connection.execute(
            sa.delete(OUTBOX).where(
                OUTBOX.c.fault_id == fault.fault_id,
                OUTBOX.c.reminder.is_(True),
                OUTBOX.c.owner == "",
                OUTBOX.c.target.in_(list(targets)),
            )
        )
    values = {"fault_id": fault.fault_id, "sequence": fault.sequence, "change": str(change), "reminder": reminder}
    values |= {"created": now, "next_at": now, "attempt": 1, "owner": "", "payload": packed(fault)}
    new = [{**values, "target": target} for target in targets]
    if new:
        connection.execute(sa.insert(OUTBOX), new)
