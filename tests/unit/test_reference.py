"""The docs' reference is the code's tables."""

from __future__ import annotations

import json

import jsonschema
import pytest

from tools.lib import reference
from vmhb_common.model.silences import LONG_SILENCE, MAX_SILENCE
from vmhb_common.objects import WORKER_ALIVE, FaultPayload, HeartbeatState, fault_payload, parse_fault, schema
from vmhb_worker.core.application_channel import WISH_EVERY, WISH_SHARE
from vmhb_worker.core.beats import FRESH
from vmhb_worker.core.cleared_faults import KEPT
from vmhb_worker.engine.instance import LINE_EVERY, LINES


def test_reference_is_current() -> None:
    """After a change of one of the tables, `tools/reference` writes the docs' page anew."""
    assert reference.RST.read_text(encoding="utf-8") == reference.text(), "run tools/reference"


@pytest.mark.parametrize("page", reference.PARTS)
def test_tables_in_other_pages_are_current(page: str) -> None:
    """The tables of evidence and of excuses, and the example of a notification, are those of the code."""
    written = (reference.RST.parent / page).read_text(encoding="utf-8")
    assert written == reference.with_parts(page, written), "run tools/reference"
    with pytest.raises(ValueError, match="put the marks back"):
        reference.with_parts(page, "another page")


def test_every_field_has_a_meaning() -> None:
    """The docs name exactly the fields that are sent, and the event types that they are sent in."""
    sent = {payload.obj_name(): set(payload.fields) for payload in schema.PAYLOADS}
    assert {name: set(meanings) for name, meanings in reference.MEANINGS.items()} == sent
    assert set(reference.EVENT_TYPES["HeartbeatPayload"]) == {state.event_type for state in HeartbeatState}
    assert reference.EVENT_TYPES["WorkerPayload"] == (WORKER_ALIVE,)


def test_the_times_of_silences_are_those_of_the_code() -> None:
    """What the pages say of how long one may last, and when it is told, is what is done."""
    pages = {
        name: (reference.RST.parent / f"{name}.rst").read_text(encoding="utf-8") for name in ("verdicts", "consumer")
    }
    ceiling, told = f"{MAX_SILENCE / 3600:g} h", f"{LONG_SILENCE / 60:g} min"
    assert f"holds for {ceiling} at most" in pages["verdicts"]
    assert f"A silence of any kind that has lasted for {told}" in pages["verdicts"]
    assert f"<operation>_timeout``, {ceiling} at most" in pages["consumer"]
    notifications = (reference.RST.parent / "notifications.rst").read_text(encoding="utf-8")
    assert f"a silence of any kind has lasted for {told}" in notifications


def test_how_much_is_logged_and_told_again_is_as_the_pages_say() -> None:
    """Whoever reads a log knows what is not in it."""
    operator, notifications = (
        " ".join((reference.RST.parent / f"{name}.rst").read_text(encoding="utf-8").split())
        for name in ("operator", "notifications")
    )
    assert (LINES, LINE_EVERY, KEPT) == (20, 60.0, 3)
    assert "Of one instance 20 lines are logged at once, and then one a minute" in operator
    assert "if it is one of the three newest of its instance" in notifications


def test_the_bounds_of_a_wish_are_those_of_the_code() -> None:
    """Authors of agents read them in the protocol's page."""
    page = " ".join((reference.RST.parent / "protocol.rst").read_text(encoding="utf-8").split())
    assert WISH_SHARE == 1 / 10
    assert "to no less than a tenth of each (nor less than what the operator bounds)" in page
    assert f"and to another wish once in {WISH_EVERY:g} s" in page


def test_every_number_says_what_it_is_and_why() -> None:
    """What the core decides by, and no operator can change: a number without a reason is none that can be judged."""
    told = {name: (value, why) for name, value, why in reference.numbers()}
    assert not [name for name, (_, why) in told.items() if not why]
    assert told["beats.FRESH"][0] == FRESH
    assert "twice a second" in told["beats.FRESH"][1]


def test_the_example_is_a_notification() -> None:
    """What the docs show to authors of consumers is what they get."""
    page = (reference.RST.parent / "notifications.rst").read_text(encoding="utf-8")
    shown = page.split(".. code-block:: json\n", 1)[1].split("\nWithout ", 1)[0]
    payload = json.loads(shown)
    jsonschema.validate(payload, schema.schema(FaultPayload))
    assert fault_payload(parse_fault(payload)) == payload
