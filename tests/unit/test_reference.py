"""The docs' reference is the code's tables."""

from __future__ import annotations

from tools.lib import reference
from vmhb_worker.objects import WORKER_ALIVE, HeartbeatState, schema


def test_reference_is_current() -> None:
    """After a change of one of the tables, `tools/reference` writes the docs' page anew."""
    assert reference.RST.read_text(encoding="utf-8") == reference.text(), "run tools/reference"


def test_every_field_has_a_meaning() -> None:
    """The docs name exactly the fields that are sent, and the event types that they are sent in."""
    sent = {payload.obj_name(): set(payload.fields) for payload in schema.PAYLOADS}
    assert {name: set(meanings) for name, meanings in reference.MEANINGS.items()} == sent
    assert set(reference.EVENT_TYPES["HeartbeatPayload"]) == {state.event_type for state in HeartbeatState}
    assert reference.EVENT_TYPES["WorkerPayload"] == (WORKER_ALIVE,)
