"""What a step is made of. Each function looks first and does only what is not done yet.

MariaDB and MySQL alter nothing within a transaction: a step that fails, or is killed, in its middle leaves behind what
it has done so far, and the database keeps the revision from before. Run again, it passes over that, and goes on.

A module of `versions` says, besides alembic's `revision` and `down_revision`: `release`, the first that has it; and
where it takes anything away from what older programs use, `contracts`: the generation of the oldest program that does
without (schema.GENERATIONS). That must have been in a release before. tests/unit/consumer/test_steps.py holds each
step to this.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

#: MySQL's TEXT ends at 64 KiB, in silence.
TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
#: SQLite counts up by itself for INTEGER only.
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
#: Seconds since the epoch.
TIME = sa.Double

_MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
_META = sa.table("vmhb_meta", sa.column("name"), sa.column("value"))


def create_table(name: str, *parts: sa.schema.SchemaItem) -> None:
    """A table, and its indexes, which are statements of their own. parts: as sa.Table has them."""
    indexes = [part for part in parts if isinstance(part, sa.Index)]
    options: Any = _MYSQL
    if not _look().has_table(name):
        op.create_table(name, *(part for part in parts if not isinstance(part, sa.Index)), **options)
    for index in indexes:
        create_index(str(index.name), name, *(str(column) for column in index.expressions))


def create_index(name: str, table: str, *columns: str) -> None:
    """An index that allows what was allowed before: it is not unique."""
    if name not in {index["name"] for index in _look().get_indexes(table)}:
        op.create_index(name, table, list(columns))


def add_column(table: str, column: sa.Column[Any]) -> None:
    """A column: nullable, or with a server_default, since programs that don't know it go on to write rows."""
    if column.name not in {one["name"] for one in _look().get_columns(table)}:
        op.add_column(table, column)


def fill_in(name: str, value: str) -> None:
    """A row of vmhb_meta, unless it is there."""
    if remembered(name) is None:
        op.execute(sa.insert(_META).values(name=name, value=value))


def set_generation(number: int) -> None:
    """Programs older than this must not use the database any more. Never goes back."""
    if int(remembered("schema_version") or 0) < number:
        op.execute(sa.update(_META).where(_META.c.name == "schema_version").values(value=str(number)))


def remembered(name: str) -> str | None:
    """The value of a row of vmhb_meta."""
    found = op.get_bind().execute(sa.select(_META.c.value).where(_META.c.name == name)).scalar()
    return None if found is None else str(found)


def _look() -> sa.Inspector:
    """Anew each time: an inspector remembers."""
    return sa.inspect(op.get_bind())
