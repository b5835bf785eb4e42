"""Alembic's environment: loaded by it, and by nobody else. Runs steps on the connection that `upgrade` hands over."""

from __future__ import annotations

from alembic import context

from vmhb_consumer.schema import METADATA, REVISIONS

_handed = context.config.attributes
# SQLite can undo what a step has done to tables, though alembic takes it that it can't: oslo.db begins transactions.
_can_undo = True if _handed["connection"].dialect.name == "sqlite" else None

context.configure(
    connection=_handed["connection"],
    target_metadata=METADATA,
    version_table=REVISIONS,
    transaction_per_migration=True,  # a step that is done stays done, whatever the next one meets
    on_version_apply=_handed["applied"],
    transactional_ddl=_can_undo,
)
with context.begin_transaction():
    context.run_migrations()
