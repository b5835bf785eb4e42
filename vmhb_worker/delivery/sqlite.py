"""The worker's SQLite file: its transactions, and the lock around it. No thread, no sending, no policy.

One process owns the file, and one thread at a time a `Database`. Everything here blocks, as long as the disk does.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vmhb_common.app.crashpoint import reach
from vmhb_worker.core.bounded import keep
from vmhb_worker.delivery.tables import TABLES, Content, Table, Unreadable

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
    """The file itself makes no sense. The text is SQLite's."""


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
#: And: rows that could not be read, as SQLite writes values, for whoever wants to look at them; no more than so many.
_ASIDE, _KEPT_ASIDE = "set_aside", 1000
_MAKE_ASIDE = (
    f"CREATE TABLE IF NOT EXISTS {_ASIDE} (id INTEGER PRIMARY KEY, of_table TEXT, at REAL, why TEXT, row TEXT)"
)
_BOUND_ASIDE = f"DELETE FROM {_ASIDE} WHERE id <= (SELECT max(id) FROM {_ASIDE}) - {_KEPT_ASIDE}"  # noqa: S608
#: So many are named in the log, for each table.
_NAMED = 3


# -- the file ----------------------------------------------------------------------------------------------------------


class Database:
    """The open file. Not thread-safe. Raises `TROUBLE` for what may pass, `Corrupt` and `StoreError` for what won't."""

    def __init__(self, path: Path) -> None:
        """Open the file, and make it where there is none: nobody else may read it."""
        self.path = path
        #: How many values of it could not be read, and how many were not written since they could not be read again.
        self.unreadable = 0
        self.refused: dict[tuple[str, Any], str] = {}
        _make_private(path)
        # An owner of its own threads may hand the connection on; never two at a time.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
        self._connection.text_factory = _as_text
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
        sql(_MAKE_ASIDE)
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
        """All that can be read. SQLite checks pages, not what is in them: a row of nonsense is set aside, and the rest
        is as good as it was."""
        content = Content()
        with _corruption(missing=True):
            for table in TABLES:
                found, spoilt = content.table(table.name), []
                for number, key, *columns in self._connection.execute(table.select):
                    try:
                        found[key] = table.read(key, tuple(columns))
                    except Unreadable as error:
                        spoilt.append((number, f"{key!r:.80}", str(error)))
                self._set_aside(table, spoilt)
            for (uuid,) in self._connection.execute(f"SELECT uuid FROM {_AWAY}"):  # noqa: S608
                row = content.instances.get(uuid)
                if row is not None:
                    content.instances[uuid] = replace(row, away=True)
            for uuid, boot, host_boot in self._connection.execute(f"SELECT * FROM {_HOSTS}"):  # noqa: S608
                row = content.instances.get(uuid)
                if row is not None and row.boot == boot:
                    content.instances[uuid] = replace(row, host_boot=str(host_boot))
        return content

    def _set_aside(self, table: Table, spoilt: list[tuple[int, str, str]]) -> None:
        """These rows are nobody's: each by its number, its key, and what is wrong with it."""
        if not spoilt:
            return
        self.unreadable += len(spoilt)
        named = "; ".join(f"{key}: {why}" for _, key, why in spoilt[:_NAMED])
        LOG.error(
            "%s: %d rows of %s could not be read, and are set aside in its table %s; all others are as they were. %s",
            *(self.path, len(spoilt), table.name, _ASIDE, named),
        )

        # A disk that is full is found so by others: they are left out all the same.
        self._move_aside(table, [(number, why) for number, _, why in spoilt])

    def put_aside(self, rows: Mapping[int, str]) -> None:
        """These rows are nobody's, each for the reason given."""
        (table,) = [table for table in TABLES if table.name == "rows"]
        self._move_aside(table, list(rows.items()))

    def _move_aside(self, table: Table, spoilt: list[tuple[int, str]]) -> None:
        def move() -> None:
            sql = self._connection.execute
            for number, why in spoilt[-_KEPT_ASIDE:]:
                sql(
                    f"INSERT INTO {_ASIDE} (of_table, at, why, row) "  # noqa: S608
                    f"SELECT ?, ?, ?, {table.quoted} FROM {table.name} WHERE rowid = ?",
                    (table.name, time.time(), why.encode("utf-8", "backslashreplace").decode(), number),
                )
            self._connection.executemany(f"DELETE FROM {table.name} WHERE rowid = ?", [(one[0],) for one in spoilt])  # noqa: S608
            sql(_BOUND_ASIDE)

        with suppress(sqlite3.Error):
            self._transaction(move)

    @property
    def set_aside(self) -> int:
        """How many values are so, since the file was opened: not read, or not written."""
        return self.unreadable + len(self.refused)

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
            self._connection.executemany(table.upsert, self._rows(table, changed))
        if changes.instances:
            self._connection.executemany(_NOT_AWAY, [(uuid,) for uuid in changes.instances])
            away = [(uuid,) for uuid, row in changes.instances.items() if row is not None and row.away]
            self._connection.executemany(_IS_AWAY, away)
            self._connection.executemany(_RAN_NOWHERE, [(uuid,) for uuid in changes.instances])
            ran = [(one.uuid, one.boot, one.host_boot) for one in changes.instances.values() if one and one.host_boot]
            self._connection.executemany(_RAN_ON, ran)
        if durable:
            reach("commit.before")

    def _rows(self, table: Table, changed: Mapping[Any, Any]) -> Iterator[tuple[Any, ...]]:
        """What is to be written, but for what could not be read again: that stays in memory."""
        for key, value in changed.items():
            if value is None:
                continue
            try:
                yield (key, *table.written(key, value))
            except Unreadable as error:
                if (table.name, key) not in self.refused:
                    LOG.error(
                        "%s: a value of %s could not be read again, is not written, and is lost if the worker stops: "
                        "%.80r: %s. Please report this",
                        *(self.path, table.name, key, error),
                    )
                keep(self.refused, (table.name, key), str(error), _KEPT_ASIDE)

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


class _corruption:
    """Turns SQLite's words for a broken file into `Corrupt`. missing: and those for a table that is not there."""

    def __init__(self, missing: bool = False) -> None:
        self._missing = missing

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.Error) and self._tells(error):
            raise Corrupt(str(error)) from error

    def _tells(self, error: sqlite3.Error) -> bool:
        name = getattr(error, "sqlite_errorname", None) or _SAID.get(str(error), "")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return True
        return self._missing and name in ("", "SQLITE_ERROR")


def _as_text(raw: bytes) -> str:
    """Also what is no UTF-8, so that it is one row's trouble: see `tables`."""
    return raw.decode("utf-8", "surrogateescape")


def _make_private(path: Path) -> None:
    """The file, and with it what SQLite keeps beside it, is for its owner only. Raises OSError."""
    made = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(made)
        if status.st_uid == os.geteuid() and status.st_mode & 0o077:
            os.fchmod(made, 0o600)
    finally:
        os.close(made)


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
