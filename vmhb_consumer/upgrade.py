"""Which revision a database has, and bringing it to ours: alembic's steps, one `db sync` at a time.

A step that fails leaves the revision as it was, whatever it has done before that: it is run again from its beginning,
and passes over what is done (`migrations/steps.py`). Nobody waits for a table for longer than TABLE_WAIT: whoever wants
it after us would have to wait as long.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from oslo_db import exception

from vmhb_consumer.library_errors import driver_codes, first_line
from vmhb_consumer.schema import GENERATION, META, METADATA, REVISIONS
from vmhb_consumer.standing import SYNC, Found, Known, Standing, judge

LOG = logging.getLogger(__name__)
#: What it tells of each step, we do.
logging.getLogger("alembic").setLevel(logging.WARNING)

#: What vmhb_meta has from the first step on: without the last one permits would lock nothing.
ROWS = ("schema_version", "database_id", "permits")
#: What is brought to our revision.
BROUGHT = (Standing.EMPTY, Standing.BEHIND)
#: Our steps.
FOLDER = Path(__file__).parent / "migrations"
#: Seconds until another `db sync` must have ended, and until a table must be free.
SYNC_WAIT = 60
TABLE_WAIT = 10
#: Where it has not.
BUSY = f"another `{SYNC}` has been at it for {SYNC_WAIT} s: see what that one says"
#: The number of PostgreSQL's lock, of its kind: "vmhb".
_LOCK_NUMBER = 0x766D6862
#: Alembic's `op` and `context` are one for the process.
_one_at_a_time = threading.Lock()
#: What MariaDB and MySQL, and PostgreSQL, call it where the user may not, and where somebody else has what we want.
_FORBIDDEN = {1044, 1142, 1143, 1227, 1370, 1410, "42501"}
_HELD = {1205, 3572, "55P03"}


class Torn(Exception):
    """The mark of the revision itself makes no sense. The text says what alembic thinks of it."""


class Halted(Exception):
    """A step failed. The text says which, why, and what to do."""


class Steps:
    """Those in a folder: ours, but for tests."""

    def __init__(self, folder: Path = FOLDER, table_wait: int = TABLE_WAIT) -> None:
        self.folder = folder
        self._table_wait = table_wait
        self._config = Config(attributes={})
        self._config.set_main_option("script_location", str(folder).replace("%", "%%"))
        #: From the first to the last.
        self.scripts = [*ScriptDirectory.from_config(self._config).walk_revisions()][::-1]
        self.known = Known(tuple(step.revision for step in self.scripts), GENERATION)

    def bring(self, engine: sa.Engine, to: str = "head") -> list[str]:
        """BLOCKS. To our revision, from whatever it has. The revisions that were reached, one by one: none where there
        is nothing to do, as somebody else may have seen to. Raises Halted, Torn."""
        applied: list[str] = []

        def tell(step: Any, **_rest: Any) -> None:
            applied.append(step.up_revision_id)
            LOG.info("the database's tables are of revision %s now", step.up_revision_id)

        with _one_at_a_time:
            before = None
            try:
                with engine.connect() as connection, _alone(connection, self._table_wait):
                    found = look(connection)
                    before = found.revision
                    connection.rollback()  # alembic wants to begin for itself
                    if judge(found, self.known) in BROUGHT:
                        self._config.attributes.update(connection=connection, applied=tell)
                        command.upgrade(self._config, to)
            except (exception.DBError, sa.exc.SQLAlchemyError, OSError) as error:
                raise Halted(self._halted(applied[-1] if applied else before, error)) from error
            finally:
                self._config.attributes.clear()
        return applied

    def _halted(self, at: str | None, error: BaseException) -> str:
        """at: the revision that it has."""
        revisions = self.known.revisions
        following = revisions[revisions.index(at) + 1 :] if at in revisions else revisions
        step = f"the step to revision {following[0]}" if following else "the look at it"
        stays = f"it stays at revision {at}" if at else "it has no revision yet"
        return f"{step} failed, {stays}: {first_line(error)}: {_remedy(error)}"


def look(connection: sa.Connection) -> Found:
    """What is there. Changes nothing. Raises Torn."""
    options = {"version_table": REVISIONS}
    try:
        revision = MigrationContext.configure(connection, opts=options).get_current_revision()
    except CommandError as error:
        raise Torn(str(error)) from error
    generation = None
    if sa.inspect(connection).has_table(META.name):
        query = sa.select(META.c.value).where(META.c.name == "schema_version")
        generation = connection.execute(query).scalar()
    return Found(revision, None if generation is None else int(generation))


def lacking(connection: sa.Connection, indexes: bool = False, tables: Collection[sa.Table] = ()) -> list[str]:
    """Tables, their columns, and rows of ours that are not there, whatever the revision says. indexes: those, too.
    tables: of these alone."""
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    found = []
    for table in tables or METADATA.sorted_tables:
        if table.name not in there:
            found.append(f"the table {table.name}")
            continue
        columns = {column["name"] for column in inspector.get_columns(table.name)}
        found += [f"the column {table.name}.{column.name}" for column in table.columns if column.name not in columns]
        if indexes:
            names = {index["name"] for index in inspector.get_indexes(table.name)}
            found += [f"the index {index.name}" for index in table.indexes if index.name not in names]
    if META.name in there:
        rows = {*connection.execute(sa.select(META.c.name)).scalars()}
        found += [f"the row {name} of {META.name}" for name in ROWS if name not in rows]
    return found


@contextlib.contextmanager
def _alone(connection: sa.Connection, table_wait: int) -> Iterator[None]:
    """No other `db sync`, and no waiting for ever: on MariaDB that would be a day. SQLite has a lock of its own."""
    kind = connection.dialect.name
    if kind == "sqlite":
        yield
        return
    try:
        if kind == "postgresql":
            connection.execute(sa.text(f"SET lock_timeout = '{SYNC_WAIT}s'"))
            _wait_for_others(connection)
            connection.execute(sa.text(f"SET lock_timeout = '{table_wait}s'"))
        else:
            waits = f"lock_wait_timeout = {table_wait}, innodb_lock_wait_timeout = {table_wait}"
            connection.execute(sa.text(f"SET SESSION {waits}"))
            asked = sa.text(f"SELECT GET_LOCK(CONCAT('vmhb.', LEFT(DATABASE(), 50)), {SYNC_WAIT})")
            if connection.execute(asked).scalar() != 1:
                raise Halted(BUSY)
        connection.commit()
        yield
    finally:
        connection.invalidate()  # with its locks and times, whatever became of it


def _wait_for_others(connection: sa.Connection) -> None:
    try:
        connection.execute(sa.text(f"SELECT pg_advisory_lock({_LOCK_NUMBER})"))
    except (exception.DBError, sa.exc.SQLAlchemyError) as error:
        if driver_codes(error) & _HELD:
            raise Halted(BUSY) from error
        raise


def _remedy(error: BaseException) -> str:
    codes = driver_codes(error)
    if codes & _FORBIDDEN or "readonly database" in str(error):
        return (
            "it takes a user who may create, alter and index tables, and write: grant that, or name one by a further "
            "--config-file with [database] connection"
        )
    if codes & _HELD or "database is locked" in str(error):
        return "somebody holds a table: see SHOW PROCESSLIST or pg_stat_activity, end that, and run it again"
    return "mend that and run it again: it goes on where it stopped"
