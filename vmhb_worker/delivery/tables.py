"""How each value lies in its table; what could not be read back is not let in. No file, no SQL that is run.

A value that is spoilt, on the disk or in our hands, costs itself and nothing beside it: `Table.read` and
`Table.written` refuse it, and whoever asked leaves it out, counts it, and says so.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime, timezone
from typing import Any, Union, get_args, get_origin, get_type_hints

from vmhb_common.model.fault import Fault, FaultState, Resolution
from vmhb_worker.interfaces import InstanceRow, Saved


class Unreadable(Exception):
    """What is, or would be, in the file is no value of its table. The text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One message for one topic, as it waits for the broker.

    id: rows are sent in its order. message_id, created: of the message, the same at every attempt and for every topic;
    created in seconds since the epoch. payload: JSON.
    """

    id: int
    topic: str
    message_id: str
    event_type: str
    project_id: str | None
    fault_id: str
    collapse: str
    payload: str
    created: float


@dataclass(slots=True)
class Content:
    """What is in the file, by key; or a change to it, in which None means that the key goes."""

    instances: dict[str, InstanceRow | None] = field(default_factory=dict)
    faults: dict[str, Fault | None] = field(default_factory=dict)
    announce: dict[str, int | None] = field(default_factory=dict)
    probes: dict[str, int | None] = field(default_factory=dict)
    rows: dict[int, Row | None] = field(default_factory=dict)

    def table(self, name: str) -> dict[Any, Any]:
        """The part of this name."""
        part: dict[Any, Any] = getattr(self, name)
        return part

    def apply(self, changes: Content) -> None:
        """Make these changes, and keep nothing of what goes."""
        for table in TABLES:
            mine = self.table(table.name)
            for key, value in changes.table(table.name).items():
                if value is None:
                    mine.pop(key, None)
                else:
                    mine[key] = value

    def merge(self, newer: Content) -> None:
        """Of two changes one after the other, make one change."""
        for table in TABLES:
            self.table(table.name).update(newer.table(table.name))

    def difference(self, wanted: Content) -> Content:
        """The changes that make `wanted` of this."""
        changes = Content()
        for table in TABLES:
            mine, theirs = self.table(table.name), wanted.table(table.name)
            changed = changes.table(table.name)
            changed.update({key: value for key, value in theirs.items() if mine.get(key) != value})
            changed.update({key: None for key in mine if key not in theirs})
        return changes

    def saved(self) -> Saved:
        """For the engine: all but the rows."""
        return Saved(
            tuple(row for row in self.instances.values() if row is not None),
            tuple(fault for fault in self.faults.values() if fault is not None),
            {fault_id: owed for fault_id, owed in self.announce.items() if owed is not None},
            {uuid: period for uuid, period in self.probes.items() if period is not None},
        )

    def __bool__(self) -> bool:
        return any(self.table(table.name) for table in TABLES)


# -- what a value must be ----------------------------------------------------------------------------------------------


def _check(column: Any) -> None:
    """SQLite takes it, and gives it back. Raises ValueError."""
    if isinstance(column, str):
        column.encode()  # no lone surrogates, nor what is read as such for not being UTF-8
    elif isinstance(column, float):
        if not math.isfinite(column):  # a NaN would come back as NULL
            raise ValueError("not a number")
    elif isinstance(column, int):
        if not -(2**63) <= column < 2**63:
            raise ValueError("a number that is too large")
    elif column is not None:
        raise ValueError(f"of type {type(column).__name__}")


def _sound(value: Any) -> bool:
    """Is each of its fields what it is said to be? SQLite does not care, nor does JSON."""
    kind = type(value)
    if kind not in _RECORDS:
        return kind is int
    return all(_fits(getattr(value, name), hint) for name, hint in _RECORDS[kind].items())


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is tuple:
        inner = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint is datetime:
        return isinstance(value, datetime) and value.tzinfo is not None
    if hint is str:
        _check(value)
        return isinstance(value, str)  # also as one of our words
    return type(value) is (origin or hint)


# -- how each value lies in its table ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """One table: the columns after the key, and how a value becomes them and is read from key and columns."""

    name: str
    key: str
    columns: str
    pack: Callable[[Any], tuple[Any, ...]]
    unpack: Callable[[Any, tuple[Any, ...]], Any]

    def read(self, key: Any, columns: tuple[Any, ...]) -> Any:
        """The value that lies there. Raises Unreadable, whatever lies there."""
        try:
            for column in (key, *columns):
                _check(column)
            value = self.unpack(key, columns)
            if not _sound(value):
                raise ValueError(f"not of its type: {value!r:.200}")
        except Exception as error:  # JSON of any depth, numbers of any size, times of any year
            raise Unreadable(f"{type(error).__name__}: {error!s:.200}") from error
        return value

    def written(self, key: Any, value: Any) -> tuple[Any, ...]:
        """What is written for it, without the key. Raises Unreadable for what would not come back as it is."""
        try:
            columns = self.pack(value)
        except Exception as error:  # as above
            raise Unreadable(f"{type(error).__name__}: {error!s:.200}") from error
        if self.pack(self.read(key, columns)) != columns:
            raise Unreadable("it would come back as something else")
        return columns

    @property
    def names(self) -> list[str]:
        """Key and columns, without their types."""
        return [column.split()[0] for column in (self.key, *self.columns.split(", "))]

    @property
    def create(self) -> str:
        """SQL that makes it."""
        return f"CREATE TABLE {self.name} ({self.key} PRIMARY KEY, {self.columns})"

    @property
    def upsert(self) -> str:
        """SQL that writes one value."""
        return f"INSERT OR REPLACE INTO {self.name} VALUES ({', '.join('?' * len(self.names))})"  # noqa: S608

    @property
    def delete(self) -> str:
        """SQL that drops one key."""
        return f"DELETE FROM {self.name} WHERE {self.names[0]} = ?"  # noqa: S608

    @property
    def select(self) -> str:
        """SQL that reads everything, in the order of the keys: SQLite's own number of each row first."""
        return f"SELECT rowid, {', '.join(self.names)} FROM {self.name} ORDER BY 2"  # noqa: S608

    @property
    def quoted(self) -> str:
        """SQL of a row as SQLite writes values, whatever they are."""
        return " || ', ' || ".join(f"quote({name})" for name in self.names)


#: The fields of a fault that JSON does not know; they are written as ISO 8601 with microseconds.
_TIMES = frozenset(one.name for one in fields(Fault) if "datetime" in str(one.type))


def _pack_fault(fault: Fault) -> tuple[str]:
    values = {one.name: getattr(fault, one.name) for one in fields(Fault)}
    values |= {name: _in_utc(values[name]).isoformat() for name in _TIMES if values[name] is not None}
    return (json.dumps(values, default=str),)


def _unpack_fault(_key: str, columns: tuple[Any, ...]) -> Fault:
    stored = json.loads(columns[0])
    # A field that is newer than the record has its default, or None: better a gap than a worker that can't start.
    values = {one.name: stored.get(one.name, None if one.default is MISSING else one.default) for one in fields(Fault)}
    values |= {name: _in_utc(datetime.fromisoformat(values[name])) for name in _TIMES if values[name] is not None}
    values["state"] = FaultState(values["state"])
    values["resolution"] = None if values["resolution"] is None else Resolution(values["resolution"])
    return Fault(**values)


def _in_utc(when: datetime) -> datetime:
    """Raises OverflowError for one that is in no year there, ValueError for one that has no zone."""
    if when.tzinfo is None:
        raise ValueError("a time without its zone")
    return when.astimezone(timezone.utc)


def _flag(column: Any) -> bool:
    if column in (0, 1, None):
        return bool(column)
    raise ValueError("neither yes nor no")


def _unpack_spells(text: str | None) -> tuple[tuple[float, float], ...]:
    return tuple((float(began), float(until)) for began, until in json.loads(text or "[]"))


def _count(_key: Any, columns: tuple[Any, ...]) -> int:
    """A whole number that is none below nothing, and no larger than libvirt's own."""
    (count,) = columns
    if type(count) is int and 0 <= count < 2**31:
        return count
    raise ValueError("not a count")


def _unpack_row(key: Any, columns: tuple[Any, ...]) -> Row:
    row = Row(key, *columns)
    # What can't be made a message of would be tried for ever, and hold up all that come after it.
    json.loads(row.payload)
    datetime.fromtimestamp(row.created, timezone.utc)
    return row


TABLES: tuple[Table, ...] = (
    Table(
        "instances",
        "uuid TEXT",
        "established INTEGER, boot TEXT, balloon INTEGER, waiting_wall REAL, running INTEGER, departed TEXT, "
        "maintenance TEXT",
        lambda r: (
            *(r.established, r.boot, r.balloon, r.waiting_wall, r.running, r.left),
            json.dumps(r.maintenance),
        ),
        lambda key, c: InstanceRow(key, _flag(c[0]), c[1], _flag(c[2]), c[3], _flag(c[4]), c[5], _unpack_spells(c[6])),
    ),
    Table("faults", "fault_id TEXT", "record TEXT", _pack_fault, _unpack_fault),
    Table("announce", "fault_id TEXT", "owed INTEGER", lambda owed: (owed,), _count),
    Table("probes", "uuid TEXT", "period INTEGER", lambda period: (period,), _count),
    Table(
        "rows",
        "id INTEGER",
        "topic TEXT, message_id TEXT, event_type TEXT, project_id TEXT, fault_id TEXT, collapse TEXT, payload TEXT, "
        "created REAL",
        lambda r: (r.topic, r.message_id, r.event_type, r.project_id, r.fault_id, r.collapse, r.payload, r.created),
        _unpack_row,
    ),
)

#: Whose fields are looked at, and of which types they are; what is else in a table is a whole number.
_RECORDS: dict[type[Any], dict[str, Any]] = {kind: get_type_hints(kind) for kind in (InstanceRow, Fault, Row)}
