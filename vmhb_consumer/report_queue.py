"""Lines in which one goes at a time, in the database: so it holds for all consumers together. Knows no reporter.

A line has one row, of whoever's turn it is; there is no order among those that wait. Who finds no row, or one that
is over, writes himself into it, and says in the statement whose row it was: of two that try, one is too late.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from vmhb_common.model.fault import Fault
from vmhb_consumer import rows
from vmhb_consumer.database import Away, Changed, Database, Unfit
from vmhb_consumer.schema import QUEUES

LOG = logging.getLogger(__name__)

#: Two ends of a turn that differ by less are one (seconds): databases round.
SAME = 0.001


class Turn:
    """One fault's place in lines: implements `reporters.base.Queue`. Threads: any."""

    def __init__(self, database: Database, fault: Fault, now: Callable[[], float]) -> None:
        """now: seconds since the epoch."""
        self._database = database
        self._fault = fault
        self._now = now

    def ahead(self, name: str) -> str | None:
        """See there."""
        return self._run(lambda connection: self._said(_row(connection, name)))

    def enter(self, name: str, seconds: float) -> str | None:
        """See there."""
        return self._run(lambda connection: self._enter(connection, name, seconds))

    def leave(self, name: str) -> bool:
        """See there."""
        mine = sa.and_(QUEUES.c.name == name[:255], QUEUES.c.fault_id == self._fault.fault_id)
        try:
            self._database.run(lambda connection: connection.execute(sa.delete(QUEUES).where(mine)))
        except (Away, Unfit) as error:
            LOG.debug("a turn in %s is not ended yet: %s", name, error)
            return False
        return True

    def _run(self, work: Callable[[sa.Connection], str | None]) -> str | None:
        try:
            return self._database.run(work)
        except (Away, Unfit) as error:
            return f"the database is away: {error}"

    def _said(self, row: Any | None) -> str | None:
        """Who is in the way."""
        if row is None or row["fault_id"] == self._fault.fault_id or row["until"] <= self._now():
            return None
        return f"recovery {row['attempt']} of instance {row['instance_uuid']} is under way there"

    def _enter(self, connection: sa.Connection, name: str, seconds: float) -> str | None:
        row, now = _row(connection, name), self._now()
        said = self._said(row)
        if said is not None:
            return said
        mine = {"fault_id": self._fault.fault_id, "attempt": self._fault.recovery_attempt}
        values = {**mine, "instance_uuid": self._fault.instance_uuid, "entered_at": now, "until": now + seconds}
        if row is None:
            # Of two at once, the second finds the first one's row with its next try: `Database.run`.
            connection.execute(sa.insert(QUEUES).values(name=name[:255], **values))
        elif {key: row[key] for key in mine} != mine or row["until"] <= now:
            whose = sa.and_(
                QUEUES.c.name == name[:255],
                QUEUES.c.fault_id == row["fault_id"],
                QUEUES.c.attempt == row["attempt"],
                QUEUES.c.until < row["until"] + SAME,  # it may just have been renewed
            )
            if connection.execute(sa.update(QUEUES).where(whose).values(**values)).rowcount != 1:
                raise Changed("somebody else's turn by now")
        return None


def _row(connection: sa.Connection, name: str) -> Any | None:
    row = connection.execute(sa.select(QUEUES).where(QUEUES.c.name == name[:255])).mappings().first()
    if row is None or rows.wrong(QUEUES, row) is None:
        return row
    # Nobody knows whose turn it is, or until when: it is over, as `rows` says, and the next one's.
    connection.execute(sa.delete(QUEUES).where(QUEUES.c.name == name[:255]))
    return None
