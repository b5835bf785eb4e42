"""What the consumer knows of faults and workers, in its database. Decides nothing.

Every change of a fault goes through `_write`, which compares and sets: sequences only rise, `cleared` is final, and
what is to be delivered is written in the same transaction. Threads: any. Times are seconds since the epoch, by our
clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sqlalchemy as sa

from vmhb_common.model.fault import Change, Fault, FaultState, Resolution
from vmhb_common.model.moments import from_epoch
from vmhb_consumer import fault_rules, outbox, recovery_places, rows
from vmhb_consumer.database import Changed, Database
from vmhb_consumer.fault_rules import Outcome
from vmhb_consumer.reporters import telling
from vmhb_consumer.schema import FAULTS, MEMOS, OUTBOX, TOLD, UNDELIVERED, WORKERS

LOG = logging.getLogger(__name__)

#: Tells which reporters want a change, as it would be handed to them. Must not block.
Route = Callable[[Change, Fault], Sequence[str]]

#: A worker, and a fault, are doubted after this many of their intervals.
PATIENCE = 3
#: Seconds after a raise or a reminder until Nova is asked whether the instance is still where that came from.
SOON = 10.0
#: Until somebody else may look at what one consumer has begun to look into (seconds).
LOOK = 60.0
#: Open faults of one host: more than a host has instances, each with two channels, by far.
MAX_OPEN = 1000
#: Workers at most: where there is no Nova to say which hosts there are, somebody may make them up.
MAX_WORKERS = 10_000
RAISED = str(FaultState.RAISED)
#: Of a row that can't be read: nobody comes across it again, and the next notification of its fault takes its place.
UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Sign:
    """A worker's sign of life, as far as we look at it. started_at: of that life of it, seconds since the epoch."""

    host: str
    started_at: float
    sequence: int
    interval: float
    instances: int = 0


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A fault to look into. quiet: its reminders stopped; own: we raised it; rivals: open ones of the same guest."""

    fault: Fault
    own: bool
    quiet: bool
    rivals: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Silent:
    """A worker that has not been heard of. fault_id: of the worker_lost that is open."""

    host: str
    heard_at: float
    interval: float
    instances: int
    fault_id: str | None


class Records:
    """The faults' and workers' tables."""

    def __init__(self, database: Database, route: Route, topics: Sequence[str], reminder_interval: float) -> None:
        """route: to reporters. topics: the targets that our own words are sent to."""
        self._database = database
        self._route = route
        self._topics = tuple(topics)
        self._patience = PATIENCE * reminder_interval
        self._reminder_interval = reminder_interval
        #: fault_id -> why: rows that were come across since the last `set_aside`. A dict's steps are atomic.
        self._unreadable: dict[str, str] = {}

    # -- what is heard ---------------------------------------------------------------------------------------------

    def take(self, told: Fault, now: float, old: bool = False) -> Outcome:
        """A notification. What it changes is committed when this returns. old: it may be of a fault that was here, and
        is forgotten."""

        def work(connection: sa.Connection) -> Outcome:
            known = _known(connection, told.fault_id)
            if known is None:
                outcome = Outcome.STALE if old else self._admitted(connection, told)
            else:
                outcome = self._judged(known, told)
            if outcome in fault_rules.TAKEN:
                self._write(connection, known, told, outcome, now, check_at=now + min(SOON, self._patience))
            return outcome

        return self._database.run(work)

    @staticmethod
    def _admitted(connection: sa.Connection, told: Fault) -> Outcome:
        """Of a fault that is not known: whoever speaks for one host fills no more than its part."""
        open_ones = sa.and_(FAULTS.c.state == RAISED, FAULTS.c.host == told.host)
        of_host = sa.select(FAULTS.c.fault_id).where(open_ones).limit(MAX_OPEN)
        if told.state is FaultState.RAISED and len(connection.execute(of_host).all()) >= MAX_OPEN:
            return Outcome.CROWDED
        return fault_rules.judge(None, told)

    def heard(self, sign: Sign, now: float) -> bool:
        """A worker's sign of life; ends its worker_lost. False where it is not newer than the last."""

        def work(connection: sa.Connection) -> bool:
            row = connection.execute(sa.select(WORKERS).where(WORKERS.c.host == sign.host)).mappings().first()
            values: dict[str, Any] = {
                "started_at": sign.started_at,
                "sequence": sign.sequence,
                "interval": sign.interval,
                "instances": sign.instances,
                "heard_at": now,
                "check_at": now + PATIENCE * sign.interval,
                "fault_id": None,
            }
            if row is None:
                known = sa.select(sa.func.count()).select_from(WORKERS)
                if int(connection.execute(known).scalar() or 0) >= MAX_WORKERS:
                    return False
                connection.execute(sa.insert(WORKERS).values(host=sign.host, **values))
                return True
            # Lives aren't compared: a host's clock may have been set back.
            readable = rows.wrong(WORKERS, row) is None
            if readable and row["started_at"] == sign.started_at and row["sequence"] >= sign.sequence:
                return False
            same = sa.and_(WORKERS.c.host == sign.host, WORKERS.c.sequence == row["sequence"])
            if connection.execute(sa.update(WORKERS).where(same).values(**values)).rowcount != 1:
                raise Changed("heard of by another consumer")
            self._end_loss(connection, row["fault_id"], now)
            return True

        return self._database.run(work)

    def answered(self, host: str, now: float) -> None:
        """This worker was asked, and answered: as good as a sign."""

        def work(connection: sa.Connection) -> None:
            row = connection.execute(sa.select(WORKERS).where(WORKERS.c.host == host)).mappings().first()
            if row is not None and rows.wrong(WORKERS, row) is None:
                values = {"heard_at": now, "check_at": now + PATIENCE * row["interval"], "fault_id": None}
                connection.execute(sa.update(WORKERS).where(WORKERS.c.host == host).values(**values))
                self._end_loss(connection, row["fault_id"], now)

        self._database.run(work)

    def _end_loss(self, connection: sa.Connection, fault_id: str | None, now: float) -> None:
        known = _known(connection, fault_id) if fault_id else None
        fault = self._read(known) if known is not None and known["state"] == RAISED else None
        if fault is not None:
            over = fault_rules.closed(fault, Resolution.RECOVERED, "its worker is heard of again", from_epoch(now))
            self._write(connection, known, over, Outcome.CHANGED, now, own=True)

    # -- what we say -----------------------------------------------------------------------------------------------

    def close(self, fault: Fault, resolution: Resolution, reason: str, now: float) -> bool:
        """End it, and publish that. False where it was changed meanwhile: it is to be looked into again."""

        def work(connection: sa.Connection) -> bool:
            known = _known(connection, fault.fault_id)
            if known is None or known["sequence"] != fault.sequence or known["state"] != RAISED:
                return False
            over = fault_rules.closed(fault, resolution, reason, from_epoch(now))
            self._write(connection, known, over, Outcome.CHANGED, now, own=True, flag=bool(known["own"]))
            return True

        return self._database.run(work)

    def lose(self, silent: Silent, fault: Fault, now: float) -> bool:
        """Raise worker_lost, unless the worker was heard of meanwhile, or another consumer has raised it."""

        def work(connection: sa.Connection) -> bool:
            same = sa.and_(
                WORKERS.c.host == silent.host, WORKERS.c.heard_at <= silent.heard_at, WORKERS.c.fault_id.is_(None)
            )
            if connection.execute(sa.update(WORKERS).where(same).values(fault_id=fault.fault_id)).rowcount != 1:
                return False
            self._write(connection, None, fault, Outcome.NEW, now, own=True)
            return True

        return self._database.run(work)

    def remind(self, fault: Fault, now: float) -> None:
        """One of our own is still open: say so again."""

        def work(connection: sa.Connection) -> None:
            known = _known(connection, fault.fault_id)
            if known is not None and known["sequence"] == fault.sequence and known["state"] == RAISED:
                again = replace(fault, sequence=fault.sequence + 1, occurred_at=from_epoch(now))
                self._write(connection, known, again, Outcome.REMINDED, now, own=True)

        self._database.run(work)

    def forget_worker(self, host: str) -> None:
        """It is not missed any more."""
        self._database.run(lambda connection: connection.execute(sa.delete(WORKERS).where(WORKERS.c.host == host)))

    # -- what is to be looked into -----------------------------------------------------------------------------------

    def doubtful(self, now: float, limit: int) -> list[Doubtful]:
        """Open faults whose time has come, of as many hosts as there are; each is handed to one consumer only, for LOOK
        seconds."""

        def work(connection: sa.Connection) -> list[Doubtful]:
            due = sa.and_(FAULTS.c.state == RAISED, FAULTS.c.check_at <= now)
            found = []
            for row in _by_turns(connection, due, limit):
                taken = sa.update(FAULTS).where(due, FAULTS.c.fault_id == row["fault_id"])
                if connection.execute(taken.values(check_at=now + LOOK)).rowcount == 1:
                    found += self._doubtful(connection, row, now)
            return found

        return self._database.run(work)

    def _doubtful(self, connection: sa.Connection, row: Any, now: float) -> list[Doubtful]:
        fault = self._read(row)
        if fault is None:
            return []
        quiet = now - row["received_at"] >= self._patience
        return [Doubtful(fault, bool(row["own"]), quiet, tuple(self._readable(_rivals(connection, fault))))]

    def keep(self, fault: Fault, confirmed: bool, check_at: float, now: float) -> None:
        """It was looked into, and stays. confirmed: its worker said so."""
        values: dict[str, Any] = {"check_at": check_at, **({"confirmed_at": now} if confirmed else {})}
        same = sa.and_(FAULTS.c.fault_id == fault.fault_id, FAULTS.c.sequence == fault.sequence)
        self._database.run(lambda connection: connection.execute(sa.update(FAULTS).where(same).values(**values)))

    def silent(self, now: float, limit: int) -> list[Silent]:
        """Workers that should have been heard of; each is handed to one consumer only, for LOOK seconds."""

        def work(connection: sa.Connection) -> list[Silent]:
            due = WORKERS.c.check_at <= now
            # Those that are lost already come last: they are many where somebody makes hosts up.
            order = (WORKERS.c.fault_id.is_not(None), WORKERS.c.check_at)
            query = sa.select(WORKERS).where(due).order_by(*order).limit(limit)
            found = []
            for row in connection.execute(query).mappings().all():
                taken = sa.update(WORKERS).where(due, WORKERS.c.host == row["host"])
                mine = connection.execute(taken.values(check_at=now + LOOK)).rowcount == 1
                if mine and rows.wrong(WORKERS, row) is None:
                    found.append(
                        Silent(row["host"], row["heard_at"], row["interval"], row["instances"], row["fault_id"])
                    )
            return found

        return self._database.run(work)

    def look_again(self, one: Silent, check_at: float) -> None:
        """At this worker, then. Does nothing where it was heard of meanwhile."""
        same = sa.and_(WORKERS.c.host == one.host, WORKERS.c.heard_at <= one.heard_at)
        update = sa.update(WORKERS).where(same).values(check_at=check_at)
        self._database.run(lambda connection: connection.execute(update))

    # -- questions ---------------------------------------------------------------------------------------------------

    def active(self) -> list[Fault]:
        """All open faults, the oldest first; of one guest and channel all that there are, until it is known which."""
        query = sa.select(FAULTS).where(FAULTS.c.state == RAISED).order_by(FAULTS.c.received_at)
        return self._readable(self._database.run(lambda c: c.execute(query).mappings().all()))

    def known(self, fault_id: str) -> tuple[Fault, float] | None:
        """The newest of this fault, and when it was confirmed."""
        row = self._database.run(lambda connection: _known(connection, fault_id))
        fault = None if row is None else self._read(row)
        return None if row is None or fault is None else (fault, float(row["confirmed_at"]))

    def counts(self) -> dict[str, int]:
        """For the log."""

        def work(connection: sa.Connection) -> dict[str, int]:
            faults = sa.select(sa.func.count()).select_from(FAULTS).where(FAULTS.c.state == RAISED)
            workers = sa.select(sa.func.count()).select_from(WORKERS)
            lost = workers.where(WORKERS.c.fault_id.is_not(None))
            return {
                "open_faults": int(connection.execute(faults).scalar() or 0),
                "workers": int(connection.execute(workers).scalar() or 0),
                "workers_lost": int(connection.execute(lost).scalar() or 0),
            }

        return self._database.run(work)

    def prune(self, before: float, permits_before: float) -> int:
        """Forget faults that were cleared, and records that were kept, before then."""

        def work(connection: sa.Connection) -> int:
            waiting = sa.select(OUTBOX.c.fault_id)
            old = sa.and_(FAULTS.c.state != RAISED, FAULTS.c.received_at < before, FAULTS.c.fault_id.not_in(waiting))
            number = connection.execute(sa.delete(FAULTS).where(old)).rowcount
            known = sa.select(FAULTS.c.fault_id)
            connection.execute(sa.delete(MEMOS).where(MEMOS.c.fault_id.not_in(known)))
            connection.execute(sa.delete(TOLD).where(TOLD.c.fault_id.not_in(known)))
            number += connection.execute(sa.delete(UNDELIVERED).where(UNDELIVERED.c.at < before)).rowcount
            recovery_places.prune(connection, permits_before, before)
            return number

        return self._database.run(work)

    # -- rows that can't be read -------------------------------------------------------------------------------------

    def put_right(self, now: float) -> None:
        """Numbers that are none, of all tables: so that what they belong to is found again. Said once for each that was
        found."""
        for column, number in self._database.run(lambda connection: rows.put_right(connection, now)).items():
            LOG.error("%s was no number of ours in %d rows: it is put right", column, number)

    def set_aside(self, now: float) -> None:
        """Take those that were come across out of everybody's way, and say so: once, whichever consumer does it. What
        they hold stays, for whoever looks into it."""
        while self._unreadable:
            fault_id, why = self._unreadable.popitem()
            same = sa.and_(FAULTS.c.fault_id == fault_id, FAULTS.c.state == RAISED)
            aside = sa.update(FAULTS).where(same).values(state=UNREADABLE, received_at=now)
            if self._database.run(partial(_changed, aside)) == 1:
                LOG.error("fault %s is set aside, its row of vmhb_faults can't be read: %.300s", fault_id, ascii(why))

    def _judged(self, known: Any, told: Fault) -> Outcome:
        fault = self._read(known)
        if fault is not None:
            return fault_rules.judge(fault, told)
        # What its columns say still holds: cleared is final, and sequences only rise.
        if known["state"] == str(FaultState.CLEARED):
            return Outcome.FINAL
        sequence = known["sequence"] if isinstance(known["sequence"], int) else 0
        return Outcome.NEW if told.sequence > sequence else Outcome.OLD

    def _readable(self, found: Sequence[Any]) -> list[Fault]:
        return [fault for row in found if (fault := self._read(row)) is not None]

    def _read(self, row: Any) -> Fault | None:
        """None where it can't be: then it is as if it were not there, until `set_aside`."""
        try:
            wrong = rows.wrong(FAULTS, row)
            if wrong is not None:
                raise ValueError(wrong)
            return fault_rules.unpacked(row["payload"])
        except ValueError as error:
            if row["state"] == RAISED:
                self._unreadable[row["fault_id"]] = str(error)
            return None

    # -- the one way in ------------------------------------------------------------------------------------------------

    def _write(  # noqa: PLR0913, PLR0917 - what a change consists of
        self,
        connection: sa.Connection,
        known: Any | None,
        fault: Fault,
        outcome: Outcome,
        now: float,
        check_at: float | None = None,
        own: bool = False,
        flag: bool | None = None,
    ) -> None:
        """own: said by us, and so to be published; flag: whether we raised it, where that is something else."""
        check_at = now + self._reminder_interval if check_at is None else check_at
        rivals = _rivals(connection, fault) if fault.state is FaultState.RAISED else []
        if rivals and outcome is not Outcome.REMINDED:  # somebody must find out which of them is right, now
            check_at = now
            ids = [row["fault_id"] for row in rivals]
            connection.execute(sa.update(FAULTS).where(FAULTS.c.fault_id.in_(ids)).values(check_at=now))
        values: dict[str, Any] = {
            "sequence": fault.sequence,
            "state": str(fault.state),
            "host": fault.host,
            "instance_uuid": fault.instance_uuid,
            "channel": fault.channel,
            "received_at": now,
            "confirmed_at": min(now, fault.occurred_at.timestamp()),
            "check_at": check_at,
            "payload": fault_rules.packed(fault),
        }
        if known is None:
            own_one = own if flag is None else flag
            connection.execute(sa.insert(FAULTS).values(fault_id=fault.fault_id, own=own_one, **values))
        else:
            same = sa.and_(
                FAULTS.c.fault_id == fault.fault_id,
                FAULTS.c.sequence == known["sequence"],
                FAULTS.c.state == known["state"],
            )
            if connection.execute(sa.update(FAULTS).where(same).values(**values)).rowcount != 1:
                raise Changed("changed by another consumer")
        if fault.state is FaultState.CLEARED:
            recovery_places.end_all(connection, fault.fault_id)
        reminder = outcome is Outcome.REMINDED
        change = fault_rules.change_of(outcome, fault)
        outbox.put(connection, self._recipients(connection, change, fault, known is None), change, fault, reminder, now)
        if own:
            outbox.put(connection, self._topics, change, fault, reminder, now)

    def _recipients(self, connection: sa.Connection, change: Change, fault: Fault, new: bool) -> list[str]:
        first = [] if change is Change.CLEARED else self._route(Change.RAISED, fault)
        wanted = first if change is Change.RAISED else self._route(change, fault)
        has = set() if new else outbox.who_has(connection, fault.fault_id, {*wanted, *first})
        return telling.recipients(change, wanted, first, has)


def _by_turns(connection: sa.Connection, due: sa.ColumnElement[bool], limit: int) -> list[Any]:
    """The oldest of each host first: one that has thousands delays no other's."""
    oldest = sa.func.min(FAULTS.c.check_at)
    hosts = sa.select(FAULTS.c.host).where(due).group_by(FAULTS.c.host).order_by(oldest).limit(limit)
    names = connection.execute(hosts).scalars().all()
    found: list[Any] = []
    for left, name in zip(range(len(names), 0, -1), names, strict=True):
        part = -(-(limit - len(found)) // left)
        query = sa.select(FAULTS).where(due, FAULTS.c.host == name).order_by(FAULTS.c.check_at).limit(part)
        found += connection.execute(query).mappings().all()
    return found


def _changed(statement: Any, connection: sa.Connection) -> int:
    return connection.execute(statement).rowcount


def _known(connection: sa.Connection, fault_id: str) -> Any | None:
    return connection.execute(sa.select(FAULTS).where(FAULTS.c.fault_id == fault_id)).mappings().first()


def _rivals(connection: sa.Connection, fault: Fault) -> list[Any]:
    if fault.instance_uuid is None:
        return []
    same = sa.and_(
        FAULTS.c.instance_uuid == fault.instance_uuid,
        FAULTS.c.state == RAISED,
        FAULTS.c.fault_id != fault.fault_id,
        FAULTS.c.channel == fault.channel if fault.channel is not None else FAULTS.c.channel.is_(None),
    )
    return [dict(row) for row in connection.execute(sa.select(FAULTS).where(same)).mappings().all()]
