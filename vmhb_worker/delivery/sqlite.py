"""The worker's SQLite file: its schema, its transactions, and the lock around it. No thread, no sending, no policy.

One process owns the file, and one thread at a time a `Database`. Everything here blocks, as long as the disk does.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from vmhb_common.app.crashpoint import reach
from vmhb_common.model.fault import Fault, FaultState, Resolution
from vmhb_worker.interfaces import InstanceRow, Saved

LOG = logging.getLogger(__name__)

FILE = "vmhb.sqlite"
LOCK = "vmhb.lock"
#: So many broken files are kept for whoever wants to look at them; a disk that breaks every file is not to be filled.
KEPT_BROKEN = 9

#: The layout below. A file of a newer layout is refused: an older worker would lose what it does not know.
SCHEMA_VERSION = 2

#: What goes wrong with a file or a disk.
TROUBLE = (sqlite3.Error, OSError)


class StoreError(Exception):
    """The worker can't start with this store; the text says why, and what to do."""


class StoreInUseError(StoreError):
    """Another process uses it: a worker that runs, most likely."""


class Corrupt(Exception):
    """The file's content makes no sense. The text is SQLite's."""


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


# -- how each value lies in its table ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """One table: the columns after the key, and how a value becomes them and is read from key and columns."""

    name: str
    key: str
    columns: str
    pack: Callable[[Any], tuple[Any, ...]]
    unpack: Callable[[Any, tuple[Any, ...]], Any]

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
        """SQL that reads everything, in the order of the keys."""
        return f"SELECT {', '.join(self.names)} FROM {self.name} ORDER BY 1"  # noqa: S608


#: The fields of a fault that JSON does not know; they are written as ISO 8601 with microseconds.
_TIMES = frozenset(one.name for one in fields(Fault) if "datetime" in str(one.type))


def _pack_fault(fault: Fault) -> tuple[str]:
    values = {one.name: getattr(fault, one.name) for one in fields(Fault)}
    values |= {name: values[name].isoformat() for name in _TIMES if values[name] is not None}
    return (json.dumps(values, default=str),)


def _unpack_fault(_key: str, columns: tuple[Any, ...]) -> Fault:
    stored = json.loads(columns[0])
    # A field that is newer than the record has its default, or None: better a gap than a worker that can't start.
    values = {one.name: stored.get(one.name, None if one.default is MISSING else one.default) for one in fields(Fault)}
    values |= {name: datetime.fromisoformat(values[name]) for name in _TIMES if values[name] is not None}
    values["state"] = FaultState(values["state"])
    values["resolution"] = None if values["resolution"] is None else Resolution(values["resolution"])
    return Fault(**values)


def _unpack_spells(text: str | None) -> tuple[tuple[float, float], ...]:
    return tuple((float(began), float(until)) for began, until in json.loads(text or "[]"))


def _unpack_row(key: Any, columns: tuple[Any, ...]) -> Row:
    row = Row(key, *columns)
    json.loads(row.payload)  # a payload that is none would be tried for ever, and hold up all that come after it
    return row


TABLES: tuple[_Table, ...] = (
    _Table(
        "instances",
        "uuid TEXT",
        "established INTEGER, boot TEXT, balloon INTEGER, waiting_wall REAL, running INTEGER, departed TEXT, "
        "maintenance TEXT",
        lambda r: (
            *(r.established, r.boot, r.balloon, r.waiting_wall, r.running, r.left),
            json.dumps(r.maintenance),
        ),
        lambda key, c: InstanceRow(key, bool(c[0]), c[1], bool(c[2]), c[3], bool(c[4]), c[5], _unpack_spells(c[6])),
    ),
    _Table("faults", "fault_id TEXT", "record TEXT", _pack_fault, _unpack_fault),
    _Table("announce", "fault_id TEXT", "owed INTEGER", lambda owed: (owed,), lambda _key, c: c[0]),
    _Table("probes", "uuid TEXT", "period INTEGER", lambda period: (period,), lambda _key, c: c[0]),
    _Table(
        "rows",
        "id INTEGER",
        "topic TEXT, message_id TEXT, event_type TEXT, project_id TEXT, fault_id TEXT, collapse TEXT, payload TEXT, "
        "created REAL",
        lambda r: (r.topic, r.message_id, r.event_type, r.project_id, r.fault_id, r.collapse, r.payload, r.created),
        _unpack_row,
    ),
)


#: Beside the layout, for another of which an older worker would refuse the whole file: who has a row here is
#: `InstanceRow.away`. An older worker leaves it alone, and a row that is out of date then costs one notification.
_AWAY = "away"
_MAKE_AWAY = f"CREATE TABLE IF NOT EXISTS {_AWAY} (uuid TEXT PRIMARY KEY)"
_IS_AWAY, _NOT_AWAY = f"INSERT OR REPLACE INTO {_AWAY} VALUES (?)", f"DELETE FROM {_AWAY} WHERE uuid = ?"  # noqa: S608
#: For the same reason: `InstanceRow.host_boot`, and in which life of its QEMU that was. An older worker writes the next
#: life of an instance into its row, and not here: what is here of another life counts for nothing.
_HOSTS = "host_boots"
_MAKE_HOSTS = f"CREATE TABLE IF NOT EXISTS {_HOSTS} (uuid TEXT PRIMARY KEY, boot TEXT, host_boot TEXT)"
_RAN_ON, _RAN_NOWHERE = f"INSERT OR REPLACE INTO {_HOSTS} VALUES (?, ?, ?)", f"DELETE FROM {_HOSTS} WHERE uuid = ?"  # noqa: S608


# -- the file ----------------------------------------------------------------------------------------------------------


class Database:
    """The open file. Not thread-safe. Raises `TROUBLE` for what may pass, `Corrupt` and `StoreError` for what won't."""

    def __init__(self, path: Path) -> None:
        """Open the file, and make it where there is none."""
        self.path = path
        # An owner of its own threads may hand the connection on; never two at a time.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
        try:
            with _corruption():
                self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        sql = self._connection.execute
        # Exclusive: nobody else opens the file, and SQLite keeps the index of the WAL on its heap. Mapped from a
        # file, on a full disk it would end the process with SIGBUS.
        sql("PRAGMA locking_mode = EXCLUSIVE")
        sql("PRAGMA journal_mode = WAL")
        sql("PRAGMA journal_size_limit = 4194304")  # the WAL shrinks again after a burst
        version = sql("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has layout {version}, and this version of the worker knows {SCHEMA_VERSION}: run the "
                f"newer version that wrote it, or move the file away and lose what it holds"
            )
        if version == 0:
            self._transaction(self._create)
        elif version < SCHEMA_VERSION:
            self._transaction(self._upgrade)
        sql(_MAKE_AWAY)
        sql(_MAKE_HOSTS)
        verdict = sql("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise Corrupt(verdict)

    def _create(self) -> None:
        for table in TABLES:
            self._connection.execute(table.create)
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _upgrade(self) -> None:
        """From layout 1: there was no application that could leave."""
        self._connection.execute("ALTER TABLE instances ADD COLUMN departed TEXT")
        self._connection.execute("ALTER TABLE instances ADD COLUMN maintenance TEXT")
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def load(self) -> Content:
        """Everything. SQLite checks pages, not what is in them: nonsense in there is `Corrupt` as well."""
        content = Content()
        with _corruption(_NONSENSE):
            for table in TABLES:
                found = content.table(table.name)
                for key, *columns in self._connection.execute(table.select):
                    found[key] = table.unpack(key, tuple(columns))
            for (uuid,) in self._connection.execute(f"SELECT uuid FROM {_AWAY}"):  # noqa: S608
                row = content.instances.get(uuid)
                if row is not None:
                    content.instances[uuid] = replace(row, away=True)
            for uuid, boot, host_boot in self._connection.execute(f"SELECT * FROM {_HOSTS}"):  # noqa: S608
                row = content.instances.get(uuid)
                if row is not None and row.boot == boot:
                    content.instances[uuid] = replace(row, host_boot=str(host_boot))
        return content

    def write(self, changes: Content, *, durable: bool = True) -> None:
        """All of it, or nothing, in one transaction. durable: on disk when this returns.

        What is not durable survives the death of the process, and comes to the disk with the next transaction that is.
        """
        with _corruption():
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._transaction(lambda: self._change(changes, durable))

    def _change(self, changes: Content, durable: bool) -> None:
        for table in TABLES:
            changed = changes.table(table.name)
            self._connection.executemany(table.delete, [(key,) for key, value in changed.items() if value is None])
            self._connection.executemany(
                table.upsert, [(key, *table.pack(value)) for key, value in changed.items() if value is not None]
            )
        if changes.instances:
            self._connection.executemany(_NOT_AWAY, [(uuid,) for uuid in changes.instances])
            away = [(uuid,) for uuid, row in changes.instances.items() if row is not None and row.away]
            self._connection.executemany(_IS_AWAY, away)
            self._connection.executemany(_RAN_NOWHERE, [(uuid,) for uuid in changes.instances])
            ran = [(one.uuid, one.boot, one.host_boot) for one in changes.instances.values() if one and one.host_boot]
            self._connection.executemany(_RAN_ON, ran)
        if durable:
            reach("commit.before")

    def _transaction(self, work: Callable[[], None]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            work()
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite itself rolls back on some errors
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Let go of the file, whatever state it is in."""
        with suppress(sqlite3.Error):
            self._connection.close()


#: SQLite's own words for its codes, by which Python 3.10 alone tells them.
_SAID = {
    "attempt to write a readonly database": "SQLITE_READONLY",
    "database disk image is malformed": "SQLITE_CORRUPT",
    "database is locked": "SQLITE_BUSY",
    "database or disk is full": "SQLITE_FULL",
    "database table is locked": "SQLITE_LOCKED",
    "disk I/O error": "SQLITE_IOERR",
    "file is not a database": "SQLITE_NOTADB",
    "out of memory": "SQLITE_NOMEM",
    "unable to open database file": "SQLITE_CANTOPEN",
}
#: What reading raises where a value is not what we write.
_NONSENSE = (ValueError, TypeError, AttributeError)


class _corruption:
    """Turns SQLite's words for a broken file into `Corrupt`, and these exceptions."""

    def __init__(self, nonsense: tuple[type[Exception], ...] = ()) -> None:
        self._nonsense = nonsense

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, self._nonsense) or (isinstance(error, sqlite3.Error) and self._tells(error)):
            raise Corrupt(str(error)) from error

    def _tells(self, error: sqlite3.Error) -> bool:
        name = getattr(error, "sqlite_errorname", None) or _SAID.get(str(error), "")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return True
        # A table that is not there, and text that is not UTF-8, of which SQLite itself says nothing.
        return bool(self._nonsense) and name in ("", "SQLITE_ERROR")


def set_aside(path: Path) -> Path:
    """Move a broken file, and its WAL, out of the way. Returns where it is now."""
    places = [path.with_name(f"{path.name}.broken-{number}") for number in range(1, KEPT_BROKEN + 1)]
    aside = next((place for place in places if not place.exists()), places[-1])
    path.replace(aside)
    for suffix in ("-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    return aside


# -- one owner ---------------------------------------------------------------------------------------------------------


class Lock:
    """Exclusive ownership of a state folder, for as long as the process lives or until `release`."""

    def __init__(self, state_path: Path) -> None:
        """Take it. StoreError when another process has it, or when the folder can't be used."""
        self.path = state_path / LOCK
        try:
            state_path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"{self.path} can't be opened ({error.strerror}): state_path must be a folder that this user may write"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise StoreInUseError(
                f"{self.path} is held by process {holder}: two workers can't share one state_path; stop that process, "
                f"or give this one another state_path"
            ) from error
        with suppress(OSError):  # for people only, and a full disk is no reason not to start
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give it back. The file stays: removing it would race with the next owner."""
        os.close(self._fd)
