"""What a row of our tables must be like to be read, and what is made of one that is not. Knows no fault.

Only programs of ours write these tables, and each checks what it writes: this is for what was restored, repaired by
hand, or torn. A row that can't be read costs itself: whoever reads many leaves it out, and says so. A number that rows
are found by, or reckoned with, is put right where it is: one that is never due would never be found at all. Unknown is
never fine, and never for ever: it is put right to whatever errs on the side of asking again, and of holding back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from vmhb_consumer import schema, stop_button
from vmhb_consumer.door import MAX_NUMBER, quoted

#: Seconds since the epoch, or of an interval: nothing that we write is further away than the year 2286.
FURTHEST = 1e10

#: What a number becomes that is none, or out of bounds. Times: of the moment at which it was found.
Right = Callable[[float], float]


def _now(now: float) -> float:
    return now


def _never(_now: float) -> float:
    return 0.0


def _in_a_minute(_now: float) -> float:
    return 60.0


#: Every number of every table is in here, or in READ_WITH_ITS_ROW: a test says so.
PUT_RIGHT: Mapping[Any, Right] = {
    # Never alive: what it was at is free.
    schema.MEMBERS.c.alive_until: _never,
    schema.FAULTS.c.received_at: _now,
    # Not confirmed: its worker is asked before anything is done.
    schema.FAULTS.c.confirmed_at: _never,
    schema.FAULTS.c.check_at: _now,
    # As if heard of just now: it is missed from now on.
    schema.WORKERS.c.started_at: _never,
    schema.WORKERS.c.sequence: _never,
    schema.WORKERS.c.interval: _in_a_minute,
    schema.WORKERS.c.heard_at: _now,
    schema.WORKERS.c.check_at: _now,
    schema.WORKERS.c.instances: _never,
    schema.OUTBOX.c.created: _now,
    schema.OUTBOX.c.next_at: _now,
    schema.OUTBOX.c.attempt: lambda _now: 1,
    schema.TOLD.c.bugs: _never,
    schema.UNDELIVERED.c.at: _now,
    # As if let through just now: it holds its place for its time, and counts for its instance's budget.
    schema.PERMITS.c.granted_at: _now,
    schema.WAITING.c.since: _now,
    schema.WAITING.c.asked_at: _now,
    schema.PAUSES.c.since: _now,
    # Somebody pressed the button: it holds for as long as it can, unless somebody ends it.
    schema.PAUSES.c.until: lambda now: now + stop_button.CEILING,
    schema.QUEUES.c.entered_at: _now,
    # The turn is over: Masakari itself is asked what is under way there.
    schema.QUEUES.c.until: _now,
}

#: Numbers that make no other number, and name a row or its place: where one of them is none, the row can't be read.
READ_WITH_ITS_ROW = frozenset(
    {
        *(schema.FAULTS.c.sequence, schema.OUTBOX.c.id, schema.OUTBOX.c.sequence),
        *(schema.UNDELIVERED.c.id, schema.UNDELIVERED.c.sequence),
        *(schema.PERMITS.c.attempt, schema.HOLDERS.c.attempt, schema.QUEUES.c.attempt),
    }
)


def put_right(connection: sa.Connection, now: float) -> Mapping[str, int]:
    """Within somebody's transaction: each number that is none. Column -> rows, of those in which there were any."""
    found = {}
    for column, right in PUT_RIGHT.items():
        furthest = MAX_NUMBER if isinstance(column.type, sa.Integer) else FURTHEST
        wrong = sa.not_(column.between(-furthest, furthest))
        number = connection.execute(sa.update(column.table).where(wrong).values({column: right(now)})).rowcount
        if number:
            found[f"{column.table.name}.{column.name}"] = number
    return found


def wrong(table: Any, row: Mapping[Any, Any]) -> str | None:
    """What it is of this row that can't be read; None: nothing."""
    for column in table.columns:
        if column.name in row:
            value = row[column.name]
            if not (column.nullable if value is None else _KINDS[type(column.type)](value)):
                return f"{column.name} is {quoted(value)}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= FURTHEST  # not so of what is no number


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and abs(value) <= MAX_NUMBER


def _is_name(value: Any) -> bool:
    """What rows are compared by: what stands for bytes that are no text equals nothing in the database."""
    return isinstance(value, str) and "\ufffd" not in value


#: By a column's type: every one that a column of ours has.
_KINDS: Mapping[type, Callable[[Any], bool]] = {
    sa.Double: _is_number,
    sa.Integer: _is_integer,
    sa.BigInteger: lambda value: isinstance(value, int),
    sa.Boolean: lambda value: isinstance(value, int),
    sa.String: _is_name,
    sa.Text: lambda value: isinstance(value, str),
}
