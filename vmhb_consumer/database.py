"""The consumer's database: connecting to it, may it be used, transactions. Knows no fault.

SQLite is for one consumer: a lock on a file beside the database keeps others out, and within the process transactions
come one after the other. A visitor (`nova-vmhb-manage`) reads and writes beside it, which SQLite's log (WAL) allows.
With MariaDB, MySQL and PostgreSQL any number of consumers share one database; there is no lock but what single
statements take, so whoever changes a row says in its WHERE what the row was (compare and set).

A consumer brings SQLite's tables to its own revision when it starts: nobody else is there. Those of a server are
everybody's, and are changed by `sync` only, which an operator runs; whoever finds them older than it needs refuses.

Threads: everything may be called from any.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import exception
from oslo_db.sqlalchemy import engines

from vmhb_consumer import standing, upgrade
from vmhb_consumer.library_errors import driver_codes, first_line
from vmhb_consumer.schema import META
from vmhb_consumer.standing import Found, Known, Standing
from vmhb_consumer.upgrade import Steps

LOG = logging.getLogger(__name__)

T = TypeVar("T")

#: SQLite's file, in [DEFAULT] state_path, unless [database] names another database.
FILE = "nova-vmhb-consumer.sqlite"
#: Of its files.
OWNERS = 0o600
#: Somebody else was at the same rows: worth another try at once, for so many times.
COLLISIONS = (exception.DBDeadlock, exception.DBDuplicateEntry)
TRIES = 20
#: What it is handed is at fault, not the database. SQLAlchemy wraps what a driver makes of a value before it asks.
VALUES = (exception.DBDataError, exception.DBInvalidUnicodeParameter, sa.exc.DataError, UnicodeError, OverflowError)
#: All that a statement within a transaction may raise that says nothing of the row at hand.
FAILURES = (*COLLISIONS, exception.DBError, sa.exc.SQLAlchemyError)
#: Seconds between two of them.
PAUSE = 0.02
#: Seconds without a failure until it is back: longer than anybody of ours waits between two tries.
SETTLED = 7.0
#: What SQLite says where another process has written since our transaction began: its writers don't wait for that.
LOCKED = "database is locked"


#: What a server says where a user is unknown, has the wrong password, or may not: MariaDB and MySQL by number (1044 a
#: database, 1045 and 1698 a login, 1142 and 1143 a table and a column, 1227 anything), PostgreSQL by SQLSTATE.
DENIED = {1044, 1045, 1142, 1143, 1227, 1698, "28000", "28P01", "42501"}
#: What is said in words only: by SQLite of a file, by PostgreSQL's driver of a login.
SHUT = ("readonly database", "unable to open database file", "password authentication failed", "permission denied")


class Refused(Exception):
    """This database must not be used by us. The text says why, and what to do."""


class Away(Exception):
    """The database can't be reached, or failed. Try again later."""


class Stuck(Away):
    """A step of the tables' failed. The text says which, why, and what to do; it can be done again at any time."""


class Unfit(Exception):
    """The database can't hold this value, however often it is tried. The text says what it says."""


class Changed(Exception):
    """For use within a transaction: a row was not what it was taken for. The transaction is begun anew."""


class Database:
    """One database. Nothing is done with it before `open`."""

    def __init__(
        self,
        url: str,
        options: dict[str, Any] | None = None,
        steps: Steps | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """url: SQLAlchemy's. options: further arguments of oslo.db's create_engine. steps: other ones than ours."""
        self._clock = clock
        self._steps = steps or Steps()
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
        self._failed_at = -math.inf
        self._one: Any = threading.RLock() if self.alone else contextlib.nullcontext()

    def open(self) -> None:
        """BLOCKS. Connect, as a service: it brings SQLite's tables to our revision, a server's never. Raises Refused,
        Away. May be tried again after Away."""
        self._lock_out_others()
        with self._connected() as engine:
            if self.path is not None:
                _write_ahead(engine)
            if self.alone:
                self._bring(engine)
            self._admit(engine)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sa.Engine]:
        try:
            if self._engine is None:
                # A second try is ours: oslo.db's own waits 10 s between its tries, and can't be ended.
                self._engine = engines.create_engine(self.url, **{**self._options, "max_retries": 0})
                if self.alone:
                    sa.event.listen(self._engine, "connect", _take_any_text)
            yield self._engine
        except upgrade.Torn as error:
            raise Refused(
                f"{self.shown}: {error}: was it restored over another one? Restore the whole of a backup, into an "
                f"empty database"
            ) from error
        except sa.exc.NoSuchModuleError as error:
            raise Refused(f"{self.shown}: {error}: install that database's driver") from error
        except (exception.DBError, sa.exc.SQLAlchemyError, OSError) as error:
            if _may_not(error):
                raise Refused(
                    f"{self.shown} does not let us: {first_line(error)}: see to the user, the password and the rights "
                    f"in [database] connection, or to the file's owner"
                ) from error
            raise Away(first_line(error)) from error

    def visit(self, tables: Collection[sa.Table] = ()) -> None:
        """BLOCKS. Connect to what is there, beside consumers that run: changes no table, and keeps nobody out. tables:
        where these are whole, the database may be older than this program, as between the two halves of an upgrade.
        Raises Refused, Away."""
        with self._there() as engine:
            self._admit(engine, will_do=tables)

    @property
    def known(self) -> Known:
        """What we know of tables."""
        return self._steps.known

    def found(self) -> Found:
        """BLOCKS. Connect, and say what is there, whatever we think of it. Raises Refused, Away."""
        with self._there() as engine, engine.connect() as connection:
            return upgrade.look(connection)

    def sync(self) -> list[str]:
        """BLOCKS, for minutes where tables are large. Bring the tables to our revision. Which revisions were reached:
        none where they are ours already, or newer. Raises Refused, Away; may be run again after either."""
        if self.path is not None and not (_exists(self.path) and _exists(Path(f"{self.path}.lock"))):
            _make_as_folder(self.path)
        with self._connected() as engine:
            if self.alone and self._is_to_be_brought(engine):
                self._lock_out_others()
            applied = self._bring(engine)
            self._admit(engine, indexes=True)
            return applied

    @contextlib.contextmanager
    def _there(self) -> Iterator[sa.Engine]:
        """Not for making a file that is not there."""
        if self.path is not None and not _exists(self.path):
            raise Refused(
                f"there is no database {self.path}: is this the consumer's own configuration ([DEFAULT] state_path, "
                f"[database] connection)? The consumer makes it when it starts first"
            )
        with self._connected() as engine:
            yield engine

    def _is_to_be_brought(self, engine: sa.Engine) -> bool:
        with engine.connect() as connection:
            return standing.judge(upgrade.look(connection), self.known) in upgrade.BROUGHT

    def _bring(self, engine: sa.Engine) -> list[str]:
        try:
            return self._steps.bring(engine)
        except upgrade.Halted as error:
            raise Stuck(f"{self.shown}: {error}") from error

    def _admit(self, engine: sa.Engine, indexes: bool = False, will_do: Collection[sa.Table] = ()) -> None:
        """Raises Refused where these tables are not for us. will_do: with these whole, older ones are."""
        with engine.connect() as connection:
            found = upgrade.look(connection)
            where = standing.judge(found, self.known)
            if where is Standing.BEHIND and will_do and not upgrade.lacking(connection, tables=will_do):
                return
            why = standing.refusal(found, self.known, self.shown, server=not self.alone)
            why = why or standing.lacking(self.shown, upgrade.lacking(connection, indexes))
        if why:
            raise Refused(why)
        if where is Standing.AHEAD:
            LOG.info("%s has %s, newer than ours (%s), and fit for us", self.shown, found.text, self.known.head)

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
        if why is not None:
            self._failed_at = self._clock()
        if (why is None) == (self._why is None):  # as a rule: no lock
            return
        if why is None and self._clock() < self._failed_at + SETTLED:
            return  # it may read, and not write: a server that is read-only, or whose disk is full
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
                    raise Away(f"no way through after {tries} tries: {first_line(error)}") from error
                time.sleep(PAUSE * min(tries, 10))
            except VALUES as error:
                raise Unfit(first_line(error)) from error
            except (exception.DBError, sa.exc.SQLAlchemyError) as error:
                if self.alone and tries < TRIES and LOCKED in str(error):
                    time.sleep(PAUSE * min(tries, 10))
                    continue
                if isinstance(getattr(error, "orig", None) or error.__cause__, VALUES):
                    raise Unfit(first_line(error)) from error
                raise Away(first_line(error)) from error

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
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNERS)
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
        _keep_private(self.path)


def _make_as_folder(path: Path) -> None:
    """What root makes here would be closed to the consumer: the file, its lock too, are the folder's owner's."""
    try:
        owner = path.parent.stat()
        for one in (path, Path(f"{path}.lock")):
            os.close(os.open(one, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNERS))
            if os.geteuid() == 0:
                os.chown(one, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise Refused(f"{path} can't be made ({error.strerror}): see to [DEFAULT] state_path") from error


def _keep_private(path: Path) -> None:
    """All of SQLite's files are their owner's alone: whose instances fail, and why, is nobody else's affair. It gives
    those that it makes later the mode of the first, which is made here where there is none yet."""
    with contextlib.suppress(OSError):  # SQLite itself will say so
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNERS))
    for one in (path, *(Path(f"{path}{suffix}") for suffix in (".lock", "-wal", "-shm", "-journal"))):
        try:
            if one.exists() and one.stat().st_mode & 0o777 & ~OWNERS:
                one.chmod(OWNERS)
        except OSError as error:
            LOG.warning("%s can be read by others, and that can't be changed (%s): chmod 600", one, error.strerror)


def _exists(path: Path) -> bool:
    """Raises Refused where that can't be seen."""
    try:
        return path.exists()
    except PermissionError as error:
        raise Refused(
            f"{path} can't be looked at (permission denied): run this as root, or as the consumer's user (vmhb)"
        ) from error


def _take_any_text(raw: Any, _record: Any) -> None:
    """One text that is no UTF-8 would keep a whole answer from being read: it is one row's affair."""
    raw.text_factory = lambda text: text.decode(errors="replace")


def _write_ahead(engine: sa.Engine) -> None:
    """Stays so, in the file. Below SQLAlchemy, since oslo.db begins a transaction whenever it can."""
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        raw.close()


def _may_not(error: BaseException) -> bool:
    """Does it say that we have no right to, which no other try changes?"""
    text = str(error)
    return bool(driver_codes(error) & DENIED) or any(words in text for words in SHUT)


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
