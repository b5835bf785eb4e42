"""Databases as older consumers have made them, steps as newer ones will have, and what a step has changed in tables."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from vmhb_consumer import upgrade
from vmhb_consumer.database import Database
from vmhb_consumer.schema import METADATA, REVISIONS
from vmhb_consumer.standing import Found
from vmhb_consumer.upgrade import FOLDER, Steps

SAMPLES = Path(__file__).parent.parent / "samples/databases"
#: As older consumers left databases behind. The stop button came before the lines, under the same version.
OLD = ("1", "2", "3-stop-button", "3")
_KINDS = {"mysql": "mariadb", "postgresql": "postgresql", "sqlite": "sqlite"}


def lay(url: str, version: str) -> None:
    """Fill an empty database with what the consumer of that time would have, one open fault in it."""
    kind = _KINDS[sa.make_url(url).get_backend_name()]
    text = (SAMPLES / f"version-{version}.{kind}.sql").read_text(encoding="utf-8")
    execute(url, *(statement for statement in text.split(";\n") if statement.strip()))


def sync(url: str) -> None:
    """As `nova-vmhb-manage db sync`."""
    database = Database(url)
    database.sync()
    database.close()


def execute(url: str, *statements: str) -> None:
    """Each by itself."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def steps_with(folder: Path, **upgrades: str) -> Steps:
    """Ours, and more: revision -> what its upgrade does, in the words of `migrations.steps`. No table is waited for."""
    copy = folder / f"migrations-{'-'.join(upgrades)}-{len(list(folder.glob('migrations-*')))}"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = Steps(copy).known.head
    for name, body in upgrades.items():
        revision = name.removeprefix("r")
        (copy / f"versions/{name}.py").write_text(
            "import os\nimport sqlalchemy as sa\nfrom alembic import op\n"
            "from vmhb_consumer.migrations.steps import *\n"
            f'revision, down_revision, release = "{revision}", "{before}", "99.0.0"\n\n\n'
            "def upgrade():\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n",
            encoding="utf-8",
        )
        before = revision
    return Steps(copy, table_wait=1)


def found_in(url: str) -> Found:
    """What is there."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = upgrade.look(connection)
    engine.dispose()
    return found


def differences(url: str) -> list[Any]:
    """Between the tables that are there and those that the program uses."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": REVISIONS, "compare_type": True})
        found = compare_metadata(context, METADATA)
    engine.dispose()
    return list(found)


# -- what a step has changed -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """Of a database: its tables, and the rows that were put there to be looked after."""

    columns: Mapping[str, Mapping[str, Any]]
    keys: Mapping[str, Any]
    demands: Mapping[str, Any]
    rows: Mapping[str, list[dict[str, Any]]]


def picture(engine: sa.Engine) -> Picture:
    """Of what is there."""
    inspector = sa.inspect(engine)
    tables = [name for name in inspector.get_table_names() if name != REVISIONS]
    columns = {
        table: {one["name"]: {**one, "type": str(one["type"])} for one in inspector.get_columns(table)}
        for table in tables
    }
    with engine.connect() as connection:
        rows = {
            table: [
                dict(row)
                for row in connection.execute(sa.select(sa.literal_column("*")).select_from(sa.table(table))).mappings()
            ]
            for table in tables
        }
    return Picture(
        columns,
        {table: inspector.get_pk_constraint(table)["constrained_columns"] for table in tables},
        {table: sorted(_demands(inspector, table)) for table in tables},
        rows,
    )


def _demands(inspector: sa.Inspector, table: str) -> Iterator[str]:
    """What rows must obey, besides their columns' types."""
    unique = {str(one["name"]): [*map(str, one["column_names"])] for one in inspector.get_unique_constraints(table)}
    unique |= {
        str(one["name"]): [*map(str, one["column_names"])] for one in inspector.get_indexes(table) if one["unique"]
    }
    yield from (f"unique {', '.join(columns)}" for columns in unique.values())
    yield from (f"foreign key {', '.join(one['constrained_columns'])}" for one in inspector.get_foreign_keys(table))
    yield from (f"check {one['sqltext']}" for one in inspector.get_check_constraints(table))


def fill(engine: sa.Engine) -> None:
    """A row in each table that has none, of nothing in particular."""
    metadata = sa.MetaData()
    metadata.reflect(engine, only=lambda name, _: name != REVISIONS)
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            if connection.execute(sa.select(table).limit(1)).first() is None:
                connection.execute(sa.insert(table).values({one.name: _value(one) for one in table.columns}))


def _value(column: sa.Column[Any]) -> Any:
    kind = column.type.python_type
    return {str: "1", int: 1, float: 1.5, Decimal: 1.5, bool: True}[kind]


def contractions(before: Picture, after: Picture) -> Iterator[str]:
    """What a program that knows the tables from before can't do any more."""
    for table, columns in before.columns.items():
        if table not in after.columns:
            yield f"the table {table} is gone"
            continue
        yield from _of_columns(table, columns, after.columns[table])
        if before.keys[table] != after.keys[table]:
            yield f"{table} has another primary key"
        for demand in after.demands[table]:
            if demand not in before.demands[table]:
                yield f"{table} demands more of a row: {demand}"
        yield from _of_rows(table, before.rows[table], after.rows[table], {*columns} & {*after.columns[table]})


def _of_columns(table: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name, column in before.items():
        if name not in after:
            yield f"the column {table}.{name} is gone"
        elif column["type"] != after[name]["type"]:
            yield f"{table}.{name} was {column['type']}, and is {after[name]['type']}"
        elif column["nullable"] and not after[name]["nullable"]:
            yield f"{table}.{name} must not be NULL any more"
        elif column["default"] is not None and after[name]["default"] is None:
            yield f"{table}.{name} has no default any more"
    for name, column in after.items():
        if name not in before and not column["nullable"] and column["default"] is None:
            yield f"the new column {table}.{name} must be written, by who does not know it"


def _of_rows(table: str, before: list[dict[str, Any]], after: list[dict[str, Any]], kept: set[str]) -> Iterator[str]:
    """kept: columns that are still there; of the others something is said elsewhere."""
    for row in before:
        same = {name: row[name] for name in kept}
        if not any(same.items() <= one.items() for one in after):
            yield f"a row of {table} is gone, or another: {row}"


def undeclared(url: str, steps: Steps) -> list[str]:
    """What a step takes away that does not say so, from tables with a row in each; step by step."""
    found, engine = [], sa.create_engine(url)
    scripts = {step.revision: step.module for step in steps.scripts}
    for revision in steps.known.revisions:
        before = picture(engine)
        steps.bring(engine, revision)
        taken = list(contractions(before, picture(engine)))
        with engine.connect() as connection:
            generation = upgrade.look(connection).generation
        needs = getattr(scripts[revision], "contracts", None)
        if needs is None:
            found += [f"{revision}: {one}" for one in taken]
        elif needs != generation:
            found.append(
                f"{revision}: contracts = {needs}, and the generation is {generation}: set_generation({needs})"
            )
        fill(engine)
    engine.dispose()
    return found
