"""What each reporter has been told. Of the faults of version 1 nobody knows: all, as it was until then."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from vmhb_consumer.migrations.steps import create_table, remembered, set_generation

revision = "0002"
down_revision = "0001"
release = "0.1.0"
#: A consumer that does not keep what was told would leave gaps that nobody fills.
contracts = 2


def upgrade() -> None:
    """A database that is of version 2 already has its rows: those that it lacks are of newer faults."""
    create_table(
        "vmhb_told",
        sa.Column("target", sa.String(255), primary_key=True),
        sa.Column("fault_id", sa.String(36), primary_key=True),
        sa.Column("handed", sa.Boolean, nullable=False),
        sa.Column("known", sa.Boolean, nullable=False),
        sa.Column("remind", sa.Boolean, nullable=False),
        sa.Column("bugs", sa.Integer, nullable=False),
    )
    if remembered("schema_version") == "1":
        op.execute(
            "INSERT INTO vmhb_told (target, fault_id, handed, known, remind, bugs) "
            "SELECT '*', fault_id, TRUE, TRUE, FALSE, 0 FROM vmhb_faults "
            "WHERE NOT EXISTS (SELECT 1 FROM vmhb_told WHERE target = '*' AND fault_id = vmhb_faults.fault_id)"
        )
    set_generation(2)
