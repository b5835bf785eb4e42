"""The stop button, whose permits are whose, who waits for one, and lines in which one comes after the other."""

from __future__ import annotations

import sqlalchemy as sa

from vmhb_consumer.migrations.steps import TEXT, TIME, create_table, set_generation

revision = "0003"
down_revision = "0002"
release = "0.1.0"
#: A consumer from before would not see the stop button.
contracts = 3


def upgrade() -> None:
    """All of them begin empty. The last one came later than the others, under the same version of before."""
    create_table(
        "vmhb_holders",
        sa.Column("fault_id", sa.String(36), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("project", sa.String(255)),
        sa.Column("target", sa.String(255)),
    )
    create_table(
        "vmhb_waiting",
        sa.Column("fault_id", sa.String(36), primary_key=True),
        sa.Column("target", sa.String(255), nullable=False),
        sa.Column("instance_uuid", sa.String(36)),
        sa.Column("project", sa.String(255)),
        sa.Column("since", TIME, nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.Column("why", TEXT, nullable=False),
    )
    create_table(
        "vmhb_pauses",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.Column("who", sa.String(255), nullable=False),
    )
    create_table(
        "vmhb_queues",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("fault_id", sa.String(36), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("instance_uuid", sa.String(36)),
        sa.Column("entered_at", TIME, nullable=False),
        sa.Column("until", TIME, nullable=False),
    )
    set_generation(3)
