"""Who holds a place among the recoveries, who waits for one, and the stop button, in the database. Decides nothing.

All but `Board` is for use within somebody's transaction. Who lets one through locks first, and so does who presses the
stop button: what is let through is let through before it is pressed, or not at all. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from vmhb_common.model.fault import Fault
from vmhb_consumer import rows
from vmhb_consumer.database import Database
from vmhb_consumer.recovery_limits import FRESH, MINUTE, Known
from vmhb_consumer.schema import HOLDERS, META, PAUSES, PERMITS, WAITING
from vmhb_consumer.settings import RecoverySettings
from vmhb_consumer.stop_button import Pause

#: What is paused, in `vmhb_pauses`.
RECOVERIES = "recoveries"
#: Seconds until it is written down again that one waits: well within FRESH.
NOTED = FRESH / 5


def lock(connection: sa.Connection, by: str) -> None:
    """One row, until the commit: all others wait here."""
    connection.execute(sa.update(META).where(META.c.name == "permits").values(value=by[:255]))


# -- places ------------------------------------------------------------------------------------------------------------


def known(connection: sa.Connection, fault: Fault, limits: RecoverySettings, now: float) -> Known:
    """What speaks for and against this fault's recovery."""
    since = now - max(MINUTE, limits.recovery_time, limits.recovery_window)
    found = _sound(connection.execute(_permits().where(PERMITS.c.granted_at > since)).mappings().all(), now)
    others = [row for row in found if not _same(row, fault)]
    # An earlier attempt's place is this one's: one instance takes one place.
    held = [row for row in others if row["fault_id"] != fault.fault_id and _holds(row, limits, now)]
    return Known(
        running=len(held),
        of_project=sum(row["project"] == fault.project_id for row in held),
        recent=[now - row["granted_at"] for row in others if now - row["granted_at"] < MINUTE],
        spent=[
            now - row["granted_at"]
            for row in others
            if row["instance_uuid"] is not None
            and row["instance_uuid"] == fault.instance_uuid
            and now - row["granted_at"] < limits.recovery_window
        ],
        has_place=any(_same(row, fault) and _holds(row, limits, now) for row in found),
        others_wait=any(project != fault.project_id for project in _projects_that_wait(connection, now)),
        pause=pause_of(connection),
    )


def take(connection: sa.Connection, fault: Fault, target: str, has_place: bool, now: float) -> None:
    """It is let through. has_place: it was before, and keeps its place; it may be another reporter's."""
    leave(connection, fault.fault_id)
    if has_place:
        _share(connection, fault, target)
        return
    values = {"granted_at": now, "ended": False, "instance_uuid": fault.instance_uuid}
    holder = {"project": fault.project_id, "target": target}
    key = {"fault_id": fault.fault_id, "attempt": fault.recovery_attempt}
    connection.execute(sa.update(PERMITS).where(PERMITS.c.fault_id == fault.fault_id).values(ended=True))
    if connection.execute(sa.update(PERMITS).where(_is(PERMITS, fault)).values(**values)).rowcount == 0:
        connection.execute(sa.insert(PERMITS).values(**key, **values))
    if connection.execute(sa.update(HOLDERS).where(_is(HOLDERS, fault)).values(**holder)).rowcount == 0:
        connection.execute(sa.insert(HOLDERS).values(**key, **holder))


def _share(connection: sa.Connection, fault: Fault, target: str) -> None:
    """One place, two reporters: neither's end is the recovery's, so it is held until the fault is over, or its time."""
    other = sa.and_(_is(HOLDERS, fault), HOLDERS.c.target != target)
    connection.execute(sa.update(HOLDERS).where(other).values(target=None))


def end(connection: sa.Connection, fault: Fault, target: str) -> None:
    """This reporter's recovery is over: its place is free. Nothing where it had none, or another has it too."""
    ours = sa.exists().where(
        HOLDERS.c.fault_id == PERMITS.c.fault_id,
        HOLDERS.c.attempt == PERMITS.c.attempt,
        HOLDERS.c.target == target,
    )
    connection.execute(sa.update(PERMITS).where(_is(PERMITS, fault), ours).values(ended=True))


def end_all(connection: sa.Connection, fault_id: str) -> None:
    """The fault is over."""
    connection.execute(sa.update(PERMITS).where(PERMITS.c.fault_id == fault_id).values(ended=True))
    leave(connection, fault_id)


def prune(connection: sa.Connection, permits_before: float, waiting_before: float) -> None:
    """Forget what counts for nothing any more."""
    connection.execute(sa.delete(PERMITS).where(PERMITS.c.granted_at < permits_before))
    permit = sa.exists().where(PERMITS.c.fault_id == HOLDERS.c.fault_id, PERMITS.c.attempt == HOLDERS.c.attempt)
    connection.execute(sa.delete(HOLDERS).where(~permit))
    connection.execute(sa.delete(WAITING).where(WAITING.c.asked_at < waiting_before))


def _permits() -> Any:
    same = sa.and_(HOLDERS.c.fault_id == PERMITS.c.fault_id, HOLDERS.c.attempt == PERMITS.c.attempt)
    return sa.select(PERMITS, HOLDERS.c.project).select_from(PERMITS.outerjoin(HOLDERS, same))


def _sound(found: Sequence[Any], now: float) -> list[Mapping[str, Any]]:
    """As `rows.put_right` will make them: one of which is not known when it was let through was so just now."""
    return [dict(row) if rows.wrong(PERMITS, row) is None else {**row, "granted_at": now} for row in found]


def _is(table: Any, fault: Fault) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.fault_id == fault.fault_id, table.c.attempt == fault.recovery_attempt)


def _same(row: Any, fault: Fault) -> bool:
    return bool(row["fault_id"] == fault.fault_id and row["attempt"] == fault.recovery_attempt)


def _holds(row: Any, limits: RecoverySettings, now: float) -> bool:
    return not row["ended"] and bool(now - row["granted_at"] < limits.recovery_time)


# -- who waits ---------------------------------------------------------------------------------------------------------


def wait(connection: sa.Connection, fault: Fault, target: str, why: str, now: float) -> None:
    """It was held, and asks again. Not written down with each try: hundreds may wait, and each write is on disk."""
    mine = WAITING.c.fault_id == fault.fault_id
    row = connection.execute(sa.select(WAITING).where(mine)).mappings().first()
    values = {"target": target, "asked_at": now, "why": why}
    if row is None:
        who = {"fault_id": fault.fault_id, "instance_uuid": fault.instance_uuid, "project": fault.project_id}
        connection.execute(sa.insert(WAITING).values(**who, since=now, **values))
    elif (
        rows.wrong(WAITING, row) is not None
        or (row["target"], row["why"]) != (target, why)
        or not row["asked_at"] <= now < row["asked_at"] + NOTED
    ):
        connection.execute(sa.update(WAITING).where(mine).values(**values))


def leave(connection: sa.Connection, fault_id: str, target: str | None = None) -> None:
    """It waits for a place no more. target: as far as this reporter goes; None: at all."""
    mine = WAITING.c.fault_id == fault_id
    connection.execute(sa.delete(WAITING).where(mine if target is None else sa.and_(mine, WAITING.c.target == target)))


def _projects_that_wait(connection: sa.Connection, now: float) -> Sequence[str | None]:
    query = sa.select(WAITING.c.project).where(WAITING.c.asked_at > now - FRESH).distinct()
    return connection.execute(query).scalars().all()


# -- the stop button ---------------------------------------------------------------------------------------------------


def pause_of(connection: sa.Connection) -> Pause | None:
    """The last that was asked for, in force or over."""
    row = connection.execute(sa.select(PAUSES).where(PAUSES.c.name == RECOVERIES)).mappings().first()
    if row is None:
        return None
    if rows.wrong(PAUSES, row) is not None:  # somebody pressed it: it holds, until its row is put right, or replaced
        return Pause("its row of vmhb_pauses can't be read", 0.0, rows.FURTHEST, "somebody")
    return Pause(row["reason"], float(row["since"]), float(row["until"]), row["who"])


# -- for people --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiter:
    """One that waits for a place. since: when it was held first."""

    instance_uuid: str | None
    project: str | None
    since: float
    why: str


@dataclass(frozen=True, slots=True)
class Picture:
    """How things are. places: project -> how many it holds; None: not known whose."""

    pause: Pause | None
    places: Mapping[str | None, int]
    waiting: Sequence[Waiter]


#: What `Board` reads and writes: with these whole, recoveries can be stopped.
OF_THE_BOARD = (META, PERMITS, HOLDERS, PAUSES, WAITING)


class Board:
    """The same for whoever has no transaction: all of it BLOCKS, and raises Away. Threads: any."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pause(self) -> Pause | None:
        """As `pause_of`."""
        return self._database.run(pause_of)

    def press(self, pause: Pause) -> None:
        """Nothing is let through any more once this has returned, by no consumer."""

        def work(connection: sa.Connection) -> None:
            lock(connection, "pause")
            connection.execute(sa.delete(PAUSES).where(PAUSES.c.name == RECOVERIES))
            values = {"reason": pause.reason, "since": pause.since, "until": pause.until, "who": pause.by[:255]}
            connection.execute(sa.insert(PAUSES).values(name=RECOVERIES, **values))

        self._database.run(work)

    def release(self) -> Pause | None:
        """Go on. What was in force, or over."""

        def work(connection: sa.Connection) -> Pause | None:
            lock(connection, "resume")
            was = pause_of(connection)
            connection.execute(sa.delete(PAUSES).where(PAUSES.c.name == RECOVERIES))
            return was

        return self._database.run(work)

    def picture(self, limits: RecoverySettings, now: float) -> Picture:
        """Of this moment."""

        def work(connection: sa.Connection) -> Picture:
            recent = _permits().where(PERMITS.c.granted_at > now - limits.recovery_time)
            found = _sound(connection.execute(recent).mappings().all(), now)
            query = sa.select(WAITING).where(WAITING.c.asked_at > now - FRESH).order_by(WAITING.c.since)
            waiting = connection.execute(query).mappings().all()
            return Picture(
                pause_of(connection),
                Counter(row["project"] for row in found if _holds(row, limits, now)),
                [
                    Waiter(row["instance_uuid"], row["project"], row["since"], row["why"])
                    for row in waiting
                    if rows.wrong(WAITING, row) is None
                ],
            )

        return self._database.run(work)
