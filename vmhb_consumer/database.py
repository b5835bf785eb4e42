"""The consumer's database: connecting to it, its version, transactions. Knows no fault.

SQLite is for one consumer: a lock on a file beside the database keeps others out, and within the process transactions
come one after the other. A visitor (`nova-vmhb-manage`) reads and writes beside it, which SQLite's log (WAL) allows.
With MariaDB, MySQL and PostgreSQL any number of consumers share one database; there is no lock but what single
statements take, so whoever changes a row says in its WHERE what the row was (compare and set).

Threads: everything may be called from any.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import exception
from oslo_db.sqlalchemy import engines

from vmhb_consumer.schema import META, METADATA, STEPS

LOG = logging.getLogger(__name__)

T = TypeVar("T")

#: SQLite's file, in [DEFAULT] state_path, unless [database] names another database.
FILE = "nova-vmhb-consumer.sqlite"
#: Somebody else was at the same rows: worth another try at once, for so many times.
COLLISIONS = (exception.DBDeadlock, exception.DBDuplicateEntry)
TRIES = 20
#: What it is handed is at fault, not the database. SQLAlchemy wraps what a driver makes of a value before it asks.
VALUES = (exception.DBDataError, exception.DBInvalidUnicodeParameter, sa.exc.DataError, UnicodeError, OverflowError)
#: Seconds between two of them.
PAUSE = 0.02
#: What SQLite says where another process has written since our transaction began: its writers don't wait for that.
LOCKED = "database is locked"


#: What a server says where a user is unknown, has the wrong password, or may not: MariaDB and MySQL by number (1044 a
#: database, 1045 and 1698 a login, 1142 and 1143 a table and a column, 1227 anything), PostgreSQL by SQLSTATE.
DENIED = (1044, 1045, 1142, 1143, 1227, 1698, "28000", "28P01", "42501")
#: What is said in words only: by SQLite of a file, by PostgreSQL's driver of a login.
SHUT = ("readonly database", "unable to open database file", "password authentication failed", "permission denied")


class Refused(Exception):
    """This database must not be used by us. The text says why, and what to do."""


class Away(Exception):
    """The database can't be reached, or failed. Try again later."""


class Unfit(Exception):
    """The database can't hold this value, however often it is tried. The text says what it says."""


class Changed(Exception):
    """For use within a transaction: a row was not what it was taken for. The transaction is begun anew."""


class Database:
    """One database. Nothing is done with it before `open`."""

    def __init__(self, url: str, options: dict[str, Any] | None = None, steps: Sequence[Sequence[str]] = STEPS) -> None:
        """url: SQLAlchemy's. options: further arguments of oslo.db's create_engine. steps: see `schema`."""
        self._steps = steps
        self.url = url
        self._options = options or {}
        self._engine: sa.Engine | None = None
        self._file: int | None = None
        parsed = sa.engine.make_url(url)
        self.shown = parsed.render_as_string(hide_password=True)
        self.alone = parsed.get_backend_name() == "sqlite"
        self.path = Path(parsed.database) if self.alone and parsed.database not in (None, "", ":memory:") else None
        #: Told when it goes away, and why, and None when it is back. Any thread; returns at once.
        self.tell: Callable[[str | None], object] = lambda _why: None
        self._noticing = threading.Lock()
        self._why: str | None = None
        self._one: Any = threading.RLock() if self.alone else contextlib.nullcontext()

    def open(self) -> None:
        """BLOCKS. Connect, and bring the tables to our version. Raises Refused, Away. May be tried again after Away."""
        self._lock_out_others()
        with self._connected() as engine:
            if self.path is not None:
                _write_ahead(engine)
            self._make_tables(engine)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sa.Engine]:
        try:
            if self._engine is None:
                # A second try is ours: oslo.db's own waits 10 s between its tries, and can't be ended.
                self._engine = engines.create_engine(self.url, **{**self._options, "max_retries": 0})
            yield self._engine
        except sa.exc.NoSuchModuleError as error:
            raise Refused(f"{self.shown}: {error}: install that database's driver") from error
        except (exception.DBError, sa.exc.SQLAlchemyError, OSError) as error:
            if _may_not(error):
                raise Refused(
                    f"{self.shown} does not let us: {_first_line(error)}: see to the user, the password and the rights "
                    f"in [database] connection, or to the file's owner"
                ) from error
            raise Away(_first_line(error)) from error

    def visit(self) -> None:
        """BLOCKS. Connect to what a consumer has made, beside those that run: makes and changes no table, and keeps
        nobody out. Raises Refused, Away."""
        if self.path is not None and not _exists(self.path):
            raise Refused(
                f"there is no database {self.path}: is this the consumer's own configuration ([DEFAULT] state_path, "
                f"[database] connection)? The consumer makes it when it starts first"
            )
        try:
            with self._connected():
                found = int(self.run(lambda connection: _value(connection, "schema_version")) or 0)
        except Away as error:
            if isinstance(error.__cause__, exception.DBNonExistentTable):
                raise Refused(
                    f"{self.shown} has none of our tables: is it the consumers' own database ([database] connection)? "
                    f"The first consumer that starts makes them"
                ) from error
            raise
        ours = 1 + len(self._steps)
        if found < ours:
            raise Refused(
                f"{self.shown} has tables of version {found}, and this program knows {ours}: start the consumers of "
                f"this version, which bring it up to date"
            )
        if found > ours:
            raise Refused(
                f"{self.shown} has tables of version {found}, and this program knows {ours}: upgrade it, as the "
                f"consumers are"
            )

    def run(self, work: Callable[[sa.Connection], T]) -> T:
        """BLOCKS. `work` in a transaction, as often as it takes: it must do nothing else. Raises Away, Unfit,
        and its own."""
        if self._engine is None:
            raise Away("it is not open yet")
        try:
            value = self._run(self._engine, work)
        except Away as error:
            self.notice(str(error))
            raise
        self.notice(None)
        return value

    def notice(self, why: str | None) -> None:
        """It is away, and why, or it is not: told once, whoever meets it."""
        if (why is None) == (self._why is None):  # as a rule: no lock
            return
        with self._noticing:
            if (why is None) == (self._why is None):
                return
            self._why = why
            self.tell(why)

    def _run(self, engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
        tries = 0
        while True:
            tries += 1
            try:
                with self._one, engine.begin() as connection:
                    return work(connection)
            except (*COLLISIONS, Changed) as error:
                if tries >= TRIES:
                    raise Away(f"no way through after {tries} tries: {_first_line(error)}") from error
                time.sleep(PAUSE * min(tries, 10))
            except VALUES as error:
                raise Unfit(_first_line(error)) from error
            except (exception.DBError, sa.exc.SQLAlchemyError) as error:
                if self.alone and tries < TRIES and LOCKED in str(error):
                    time.sleep(PAUSE * min(tries, 10))
                    continue
                if isinstance(getattr(error, "orig", None) or error.__cause__, VALUES):
                    raise Unfit(_first_line(error)) from error
                raise Away(_first_line(error)) from error

    @property
    def identity(self) -> str:
        """Of the database: the same for all who share it."""
        value = self.run(lambda c: c.execute(sa.select(META.c.value).where(META.c.name == "database_id")).scalar())
        return str(value)

    def close(self) -> None:
        """Let go of it."""
        if self._engine is not None:
            self._engine.dispose()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock_out_others(self) -> None:
        if self.path is None or self._file is not None:
            return
        name = f"{self.path}.lock"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise Refused(f"{name} can't be written ({error.strerror}): see to [DEFAULT] state_path") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            raise Refused(
                f"another consumer uses {self.path}: SQLite is for one. Stop that one, or give both one MariaDB, MySQL "
                f"or PostgreSQL by [database] connection, or run this one with [consumer] halves = instances"
            ) from error
        self._file = file

    # -- versions --------------------------------------------------------------------------------------------------

    def _make_tables(self, engine: sa.Engine) -> None:
        for tries in range(TRIES):
            try:
                METADATA.create_all(engine)
                break
            except (exception.DBError, sa.exc.SQLAlchemyError):
                # Another consumer is making them at this moment.
                if tries + 1 == TRIES:
                    raise
                time.sleep(10 * PAUSE)
        version = 1 + len(self._steps)
        self.run(lambda connection: _fill_in(connection, version))
        found = int(self.run(lambda c: _value(c, "schema_version")) or 0)
        if found > version:
            raise Refused(
                f"{self.shown} has tables of version {found}, and this consumer knows {version}: upgrade it, as "
                f"others are"
            )
        for number in range(found, version):
            self.run(partial(_step, number, self._steps[number - 1]))


def _exists(path: Path) -> bool:
    """Raises Refused where that can't be seen."""
    try:
        return path.exists()
    except PermissionError as error:
        raise Refused(
            f"{path} can't be looked at (permission denied): run this as root, or as the consumer's user (vmhb)"
        ) from error


def _write_ahead(engine: sa.Engine) -> None:
    """Stays so, in the file. Below SQLAlchemy, since oslo.db begins a transaction whenever it can."""
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        raw.close()


def _value(connection: sa.Connection, name: str) -> Any:
    return connection.execute(sa.select(META.c.value).where(META.c.name == name)).scalar()


def _fill_in(connection: sa.Connection, version: int) -> None:
    """The rows that are always there. Fails, and is tried again, where another consumer does the same."""
    for name, value in (("schema_version", str(version)), ("database_id", str(uuid.uuid4())), ("permits", "")):
        if connection.execute(sa.select(META.c.name).where(META.c.name == name)).first() is None:
            connection.execute(sa.insert(META).values(name=name, value=value))


def _step(version: int, statements: Sequence[str], connection: sa.Connection) -> None:
    """From this version to the next, unless somebody else was faster."""
    ours = sa.and_(META.c.name == "schema_version", META.c.value == str(version))
    if connection.execute(sa.update(META).where(ours).values(value=str(version + 1))).rowcount == 1:
        for statement in statements:
            connection.execute(sa.text(statement))
        LOG.info("the database's tables are of version %d now", version + 1)


def _may_not(error: BaseException) -> bool:
    """Does it say that we have no right to, which no other try changes?"""
    original: Any = error
    while (inner := getattr(original, "inner_exception", None) or getattr(original, "orig", None)) is not None:
        original = inner  # oslo.db wraps what SQLAlchemy wraps
    code = next(iter(original.args), None)
    state = str(getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or "")
    text = str(error)
    return code in DENIED or state in DENIED or any(words in text for words in SHUT)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def of(conf: cfg.ConfigOpts, folder: Path) -> Database:
    """The database that [database] names. folder: of our file, where it names none. Raises ValueError."""
    group = conf.database
    url = group.connection or f"sqlite:///{folder / FILE}"
    options = {
        "mysql_sql_mode": group.mysql_sql_mode,
        "connection_recycle_time": group.connection_recycle_time,
        "max_pool_size": group.max_pool_size,
        "max_overflow": group.max_overflow,
        "pool_timeout": group.pool_timeout,
        "connection_debug": group.connection_debug or 0,
        "connection_parameters": group.connection_parameters,
    }
    try:
        return Database(url, options)
    except sa.exc.ArgumentError as error:
        raise ValueError("say a URL such as mysql+pymysql://user:password@host/vmhb?charset=utf8mb4") from error
