"""The consumer's tables, as this program uses them, and its generation. Knows no connection.

To change them: change the table here, and add a step to `migrations/versions` for databases that there are already;
never change a step. Within a release only what is added: what is to go, first goes from here, with a new generation,
and from the databases with a step of a later release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

#: Generations of programs, and the first release of each: those of one generation can do with the same tables. A new
#: one begins when the program stops using something that a later step is to take away.
GENERATIONS: Mapping[int, str] = {
    1: "0",  # before there were releases
    2: "0",  # keeps what reporters were told
    3: "0",  # obeys the stop button
}
#: Ours. In a database: the oldest that can do with it (the row schema_version of vmhb_meta).
GENERATION = max(GENERATIONS)
#: Alembic's own table: under our name, since the database may be another service's as well.
REVISIONS = "vmhb_revisions"

METADATA = sa.MetaData()
_MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}

#: MySQL's TEXT ends at 64 KiB, in silence.
_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
#: SQLite counts up by itself for INTEGER only.
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
#: Seconds since the epoch: the databases' own times lose fractions, or zones.
_TIME = sa.Double


def _table(name: str, *columns: sa.schema.SchemaItem) -> Any:
    options: Any = _MYSQL
    return sa.Table(name, METADATA, *columns, **options)


#: schema_version (see GENERATION), database_id, and a row that is locked by whoever counts permits.
META = _table("vmhb_meta", sa.Column("name", sa.String(64), primary_key=True), sa.Column("value", sa.String(255)))

#: Consumers that run. What one of them has taken is free again once it is not alive any more.
MEMBERS = _table(
    "vmhb_members",
    sa.Column("name", sa.String(36), primary_key=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("alive_until", _TIME, nullable=False),
)

#: The newest of each fault. own: we raised it. check_at: when to have doubts. confirmed_at: when its worker last said
#: that it is there, by the worker's clock or by ours.
FAULTS = _table(
    "vmhb_faults",
    sa.Column("fault_id", sa.String(36), primary_key=True),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("instance_uuid", sa.String(36)),
    sa.Column("channel", sa.String(36)),
    sa.Column("own", sa.Boolean, nullable=False),
    sa.Column("received_at", _TIME, nullable=False),
    sa.Column("confirmed_at", _TIME, nullable=False),
    sa.Column("check_at", _TIME, nullable=False),
    sa.Column("payload", _TEXT, nullable=False),
    sa.Index("vmhb_faults_check", "state", "check_at"),
    sa.Index("vmhb_faults_instance", "instance_uuid", "state"),
)

#: Workers that announced themselves. fault_id: of the worker_lost that is open.
WORKERS = _table(
    "vmhb_workers",
    sa.Column("host", sa.String(255), primary_key=True),
    sa.Column("started_at", _TIME, nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("interval", _TIME, nullable=False),
    sa.Column("heard_at", _TIME, nullable=False),
    sa.Column("check_at", _TIME, nullable=False),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("fault_id", sa.String(36)),
    sa.Index("vmhb_workers_check", "check_at"),
)

#: What is to be delivered, one row for each change and each target. owner: the consumer that is at it, or "".
OUTBOX = _table(
    "vmhb_outbox",
    sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
    sa.Column("target", sa.String(255), nullable=False),
    sa.Column("fault_id", sa.String(36), nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("change", sa.String(32), nullable=False),
    sa.Column("reminder", sa.Boolean, nullable=False),
    sa.Column("created", _TIME, nullable=False),
    sa.Column("next_at", _TIME, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("owner", sa.String(36), nullable=False),
    sa.Column("problem", _TEXT),
    sa.Column("payload", _TEXT, nullable=False),
    sa.UniqueConstraint("target", "fault_id", "sequence", name="vmhb_outbox_once"),
    sa.Index("vmhb_outbox_due", "target", "next_at"),
)

#: What a reporter wants to know again of a fault.
MEMOS = _table(
    "vmhb_memos",
    sa.Column("target", sa.String(255), primary_key=True),
    sa.Column("fault_id", sa.String(36), primary_key=True),
    sa.Column("memo", _TEXT, nullable=False),
)

#: What each reporter has been told of each fault: `reporters.telling.Told`. target EVERYBODY: of faults that were here
#: before this was kept.
TOLD = _table(
    "vmhb_told",
    sa.Column("target", sa.String(255), primary_key=True),
    sa.Column("fault_id", sa.String(36), primary_key=True),
    sa.Column("handed", sa.Boolean, nullable=False),
    sa.Column("known", sa.Boolean, nullable=False),
    sa.Column("remind", sa.Boolean, nullable=False),
    sa.Column("bugs", sa.Integer, nullable=False),
)
EVERYBODY = "*"

#: What was not delivered, and never will be: given up, or rightly withheld.
UNDELIVERED = _table(
    "vmhb_undelivered",
    sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
    sa.Column("target", sa.String(255), nullable=False),
    sa.Column("fault_id", sa.String(36), nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("change", sa.String(32), nullable=False),
    sa.Column("at", _TIME, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("why", _TEXT, nullable=False),
    sa.Column("payload", _TEXT, nullable=False),
)

#: Recoveries that were let through. ended: it holds no place any more.
PERMITS = _table(
    "vmhb_permits",
    sa.Column("fault_id", sa.String(36), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("instance_uuid", sa.String(36)),
    sa.Column("granted_at", _TIME, nullable=False),
    sa.Column("ended", sa.Boolean, nullable=False),
    sa.Index("vmhb_permits_granted", "granted_at"),
)

#: Whose a permit is; of those from before this was kept there is no row. project: None: not known. target: the reporter
#: that was let through; None: several were. (A table of its own, since MariaDB alters none within a transaction: who is
#: killed in between leaves it neither old nor new.)
HOLDERS = _table(
    "vmhb_holders",
    sa.Column("fault_id", sa.String(36), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("project", sa.String(255)),
    sa.Column("target", sa.String(255)),
)

#: Faults whose recovery is held, one row each, until it is let through or not asked for any more. asked_at: the last
#: time; target: by which reporter; since: the first time; why: what it was told.
WAITING = _table(
    "vmhb_waiting",
    sa.Column("fault_id", sa.String(36), primary_key=True),
    sa.Column("target", sa.String(255), nullable=False),
    sa.Column("instance_uuid", sa.String(36)),
    sa.Column("project", sa.String(255)),
    sa.Column("since", _TIME, nullable=False),
    sa.Column("asked_at", _TIME, nullable=False),
    sa.Column("why", _TEXT, nullable=False),
)

#: The stop button: one row at most, while it is pressed, and after its time until it is pressed again. name: what is
#: paused. who: said so.
PAUSES = _table(
    "vmhb_pauses",
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("reason", _TEXT, nullable=False),
    sa.Column("since", _TIME, nullable=False),
    sa.Column("until", _TIME, nullable=False),
    sa.Column("who", sa.String(255), nullable=False),
)

#: Whose turn it is in a line of a reporter's: see `reporters.base.Queue`. until: then it is over, left or not.
QUEUES = _table(
    "vmhb_queues",
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("fault_id", sa.String(36), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("instance_uuid", sa.String(36)),
    sa.Column("entered_at", _TIME, nullable=False),
    sa.Column("until", _TIME, nullable=False),
)
