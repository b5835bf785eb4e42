"""Faults, workers, what is to be delivered, and permits. Version 1, of before there were revisions, is found done."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from vmhb_consumer.migrations.steps import SERIAL, TEXT, TIME, create_table, fill_in

revision = "0001"
down_revision = None
release = "0.1.0"


def upgrade() -> None:
    """Make what is not there."""
    create_table("vmhb_meta", sa.Column("name", sa.String(64), primary_key=True), sa.Column("value", sa.String(255)))
    _what_is_known()
    _what_is_to_be_done()
    for name, value in (("schema_version", "1"), ("database_id", str(uuid.uuid4())), ("permits", "")):
        fill_in(name, value)


def _what_is_known() -> None:
    create_table(
        "vmhb_members",
        sa.Column("name", sa.String(36), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("alive_until", TIME, nullable=False),
    )
    create_table(
        "vmhb_faults",
        sa.Column("fault_id", sa.String(36), primary_key=True),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("instance_uuid", sa.String(36)),
        sa.Column("channel", sa.String(36)),
        sa.Column("own", sa.Boolean, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("confirmed_at", TIME, nullable=False),
        sa.Column("check_at", TIME, nullable=False),
        sa.Column("payload", TEXT, nullable=False),
        sa.Index("vmhb_faults_check", "state", "check_at"),
        sa.Index("vmhb_faults_instance", "instance_uuid", "state"),
    )
    create_table(
        "vmhb_workers",
        sa.Column("host", sa.String(255), primary_key=True),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("interval", TIME, nullable=False),
        sa.Column("heard_at", TIME, nullable=False),
        sa.Column("check_at", TIME, nullable=False),
        sa.Column("instances", sa.Integer, nullable=False),
        sa.Column("fault_id", sa.String(36)),
        sa.Index("vmhb_workers_check", "check_at"),
    )


def _what_is_to_be_done() -> None:
    create_table(
        "vmhb_outbox",
        sa.Column("id", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("target", sa.String(255), nullable=False),
        sa.Column("fault_id", sa.String(36), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("change", sa.String(32), nullable=False),
        sa.Column("reminder", sa.Boolean, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("owner", sa.String(36), nullable=False),
        sa.Column("problem", TEXT),
        sa.Column("payload", TEXT, nullable=False),
        sa.UniqueConstraint("target", "fault_id", "sequence", name="vmhb_outbox_once"),
        sa.Index("vmhb_outbox_due", "target", "next_at"),
    )
    create_table(
        "vmhb_memos",
        sa.Column("target", sa.String(255), primary_key=True),
        sa.Column("fault_id", sa.String(36), primary_key=True),
        sa.Column("memo", TEXT, nullable=False),
    )
    create_table(
        "vmhb_undelivered",
        sa.Column("id", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("target", sa.String(255), nullable=False),
        sa.Column("fault_id", sa.String(36), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("change", sa.String(32), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("why", TEXT, nullable=False),
        sa.Column("payload", TEXT, nullable=False),
    )
    create_table(
        "vmhb_permits",
        sa.Column("fault_id", sa.String(36), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("instance_uuid", sa.String(36)),
        sa.Column("granted_at", TIME, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.Index("vmhb_permits_granted", "granted_at"),
    )
