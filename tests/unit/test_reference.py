"""The docs' reference is the code's tables."""

from __future__ import annotations

import json

import jsonschema

from tools.lib import reference
from vmhb_common.objects import WORKER_ALIVE, FaultPayload, HeartbeatState, fault_payload, parse_fault, schema


def test_reference_is_current() -> None:
    """After a change of one of the tables, `tools/reference` writes the docs' page anew."""
    assert reference.RST.read_text(encoding="utf-8") == reference.text(), "run tools/reference"


def test_every_field_has_a_meaning() -> None:
    """The docs name exactly the fields that are sent, and the event types that they are sent in."""
    sent = {payload.obj_name(): set(payload.fields) for payload in schema.PAYLOADS}
    assert {name: set(meanings) for name, meanings in reference.MEANINGS.items()} == sent
    assert set(reference.EVENT_TYPES["HeartbeatPayload"]) == {state.event_type for state in HeartbeatState}
    assert reference.EVENT_TYPES["WorkerPayload"] == (WORKER_ALIVE,)


def test_the_example_is_a_notification() -> None:
    """What the docs show to authors of consumers is what they get."""
    page = (reference.RST.parent / "notifications.rst").read_text(encoding="utf-8")
    shown = page.split(".. code-block:: json\n", 1)[1].split("\nWithout ", 1)[0]
    payload = json.loads(shown)
    jsonschema.validate(payload, schema.schema(FaultPayload))
    assert fault_payload(parse_fault(payload)) == payload
