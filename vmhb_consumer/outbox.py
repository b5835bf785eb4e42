"""What is to be delivered: rows in the database, one for each change and each target that is to have it.

A target is a reporter, or a topic that the consumer's own faults are sent to. Any consumer may deliver any row; which
one does is written into the row (`owner`), and is free again once that consumer is not alive any more. Of one fault and
target only the row of the lowest sequence is ever handed out: so order is kept, whoever delivers.

Threads: any. Times are seconds since the epoch, by this host's clock: hosts that share a database keep their clocks
within a few seconds.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from vmhb_common.model.fault import Change, Fault
from vmhb_consumer.database import Changed, Database
from vmhb_consumer.fault_rules import packed, unpacked
from vmhb_consumer.schema import FAULTS, MEMBERS, MEMOS, OUTBOX, UNDELIVERED

LOG = logging.getLogger(__name__)

#: A consumer that has not said so for this long (seconds) is not alive: what it was at is another's. More than any
#: pause of a process that is well, and what a delivery is late by when a consumer dies.
MEMBER_TTL = 20.0


@dataclass(frozen=True, slots=True)
class Row:
    """One delivery, taken by us. latest: the newest of the fault; received_at: when that was heard."""

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


class Outbox:
    """As one consumer sees it. member: its name in the table of members."""

    def __init__(self, database: Database, member: str) -> None:
        self._database = database
        self._member = member

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

        def work(connection: sa.Connection) -> Row | None:
            aside.clear()
            while (found := self._due(connection, target, now)) is not None:
                mine = sa.update(OUTBOX).where(OUTBOX.c.id == found["id"], OUTBOX.c.owner == found["owner"])
                if connection.execute(mine.values(owner=self._member)).rowcount != 1:
                    raise Changed("taken by another consumer")
                query = sa.select(FAULTS).where(FAULTS.c.fault_id == found["fault_id"])
                known = connection.execute(query).mappings().first()
                memo = connection.execute(sa.select(MEMOS.c.memo).where(_memo(target, found["fault_id"]))).scalar()
                try:
                    return _row(found, known, memo)
                except ValueError as error:
                    _set_aside(connection, found, str(error), now)
                    aside.append(f"fault {found['fault_id']} ({found['sequence']}): {str(error)!a:.300}")
            return None

        row = self._database.run(work)
        for text in aside:
            LOG.error("%s: a row of vmhb_outbox can't be read, and is kept in vmhb_undelivered: %s", target, text)
        return row

    @staticmethod
    def _due(connection: sa.Connection, target: str, now: float) -> Any:
        earlier = OUTBOX.alias("earlier")
        before = sa.exists().where(
            earlier.c.target == OUTBOX.c.target,
            earlier.c.fault_id == OUTBOX.c.fault_id,
            earlier.c.sequence < OUTBOX.c.sequence,
        )
        due = sa.and_(OUTBOX.c.target == target, OUTBOX.c.next_at <= now, ~before, _free(now))
        query = sa.select(OUTBOX).where(due).order_by(OUTBOX.c.next_at, OUTBOX.c.id).limit(1)
        return connection.execute(query).mappings().first()

    def due_at(self, target: str) -> float | None:
        """When the next row of this target is due; None where there is none at all."""
        query = sa.select(sa.func.min(OUTBOX.c.next_at)).where(OUTBOX.c.target == target)
        value = self._database.run(lambda connection: connection.execute(query).scalar())
        return None if value is None else float(value)

    def done(self, row: Row) -> bool:
        """It was delivered. False where it was not ours any more: another consumer does it again."""
        return self._database.run(lambda c: c.execute(sa.delete(OUTBOX).where(self._ours(row))).rowcount == 1)

    def again(self, row: Row, why: str, next_at: float, memo: Mapping[str, Any] | None) -> bool:
        """It was not; next_at: when to try again. memo None: as it was. TypeError, ValueError: the memo is not JSON."""
        values = {"owner": "", "next_at": next_at, "problem": why[:2000], "attempt": row.attempt + 1}
        update = sa.update(OUTBOX).where(self._ours(row)).values(**values)
        text = None if memo is None else json.dumps(dict(memo))

        def work(connection: sa.Connection) -> bool:
            if connection.execute(update).rowcount != 1:
                return False
            _remember(connection, row, text)
            return True

        return self._database.run(work)

    def release(self, row: Row) -> None:
        """Somebody else is to do it: we end."""
        update = sa.update(OUTBOX).where(self._ours(row)).values(owner="")
        self._database.run(lambda connection: connection.execute(update))

    def refuse(self, row: Row, kind: str, why: str, now: float, memo: Mapping[str, Any] | None = None) -> bool:
        """It never will be. kind: `given up` or `withheld`. The record is kept. memo: as in `again`."""
        text = None if memo is None else json.dumps(dict(memo))

        def work(connection: sa.Connection) -> bool:
            if connection.execute(sa.delete(OUTBOX).where(self._ours(row))).rowcount != 1:
                return False
            fault = row.fault
            values = {"target": row.target, "fault_id": fault.fault_id, "sequence": fault.sequence, "at": now}
            values |= {"change": str(row.change), "kind": kind, "why": why[:2000], "payload": packed(fault)}
            connection.execute(sa.insert(UNDELIVERED).values(**values))
            _remember(connection, row, text)
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


def _remember(connection: sa.Connection, row: Row, text: str | None) -> None:
    """Only whoever has a row of this target and fault comes here, and that is one at a time."""
    if text is None:
        return
    update = sa.update(MEMOS).where(_memo(row.target, row.fault.fault_id)).values(memo=text)
    if connection.execute(update).rowcount == 0:
        values = {"target": row.target, "fault_id": row.fault.fault_id, "memo": text}
        connection.execute(sa.insert(MEMOS).values(**values))


def _row(found: Any, known: Any, memo: str | None) -> Row:
    """ValueError where what is to be delivered can't be read."""
    fault = unpacked(found["payload"])
    return Row(
        id=int(found["id"]),
        target=found["target"],
        change=Change(found["change"]),
        fault=fault,
        latest=_latest(fault, known),
        received_at=float(found["created"] if known is None else known["received_at"]),
        attempt=int(found["attempt"]),
        reminder=bool(found["reminder"]),
        problem=found["problem"],
        memo=_memo_of(memo),
    )


def _latest(fault: Fault, known: Any) -> Fault:
    """Where the newest can't be read, this one is the newest that is known."""
    try:
        return fault if known is None else unpacked(known["payload"])
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
    same = {name: found[name] for name in ("target", "fault_id", "sequence", "change", "payload")}
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
    rows = [{**values, "target": target} for target in targets]
    if rows:
        connection.execute(sa.insert(OUTBOX), rows)
