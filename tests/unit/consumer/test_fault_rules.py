"""What a notification means, given what is known: a table."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import jsonschema
import pytest

from tests.fakes import a_fault
from vmhb_common.model import fault as life
from vmhb_common.model.fault import Change, Fault, Resolution
from vmhb_common.objects import FaultPayload, fault_payload, parse_fault
from vmhb_common.objects.schema import schema
from vmhb_consumer import fault_rules
from vmhb_consumer.fault_rules import BadFault, Outcome, change_of, judge

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)
FIRST = a_fault()
SECOND = replace(FIRST, sequence=2, confidence="low")
REMINDER = life.reminded(SECOND, NOON)
OVER = life.cleared(REMINDER, Resolution.RECOVERED, NOON)


@pytest.mark.parametrize(
    ("known", "told", "outcome", "change"),
    [
        (None, FIRST, Outcome.NEW, Change.RAISED),
        (None, SECOND, Outcome.NEW, Change.RAISED),  # the first was missed: it is news all the same
        (None, OVER, Outcome.NEW, Change.CLEARED),
        (FIRST, FIRST, Outcome.DUPLICATE, None),
        (FIRST, SECOND, Outcome.CHANGED, Change.UPDATED),
        (SECOND, FIRST, Outcome.OLD, None),
        (SECOND, REMINDER, Outcome.REMINDED, Change.UPDATED),
        (FIRST, REMINDER, Outcome.CHANGED, Change.UPDATED),  # what it reminds of was missed
        (FIRST, OVER, Outcome.CHANGED, Change.CLEARED),
        (OVER, OVER, Outcome.DUPLICATE, None),
        (OVER, life.reminded(OVER, NOON), Outcome.FINAL, None),
        (OVER, SECOND, Outcome.FINAL, None),
        (OVER, replace(SECOND, sequence=99), Outcome.FINAL, None),  # whoever cleared it
        # Whose it is changes by the consumer alone: nobody clears, updates or moves another host's, or instance's.
        (FIRST, replace(OVER, host="cn2"), Outcome.FOREIGN, None),
        (FIRST, replace(SECOND, host="cn2"), Outcome.FOREIGN, None),
        (FIRST, replace(FIRST, host="cn2"), Outcome.FOREIGN, None),
        (OVER, replace(SECOND, host="cn2"), Outcome.FOREIGN, None),
        (FIRST, replace(SECOND, instance_uuid=str(uuid.UUID(int=7))), Outcome.FOREIGN, None),
        (FIRST, replace(SECOND, instance_uuid=None), Outcome.FOREIGN, None),
    ],
)
def test_outcomes(known: Fault | None, told: Fault, outcome: Outcome, change: Change | None) -> None:
    """Sequences only rise, and cleared is final."""
    assert judge(known, told) is outcome
    if change is not None:
        assert change_of(outcome, told) is change


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"fault_id": ""}, "fault_id"),
        ({"fault_id": "x" * 37}, "fault_id"),
        ({"sequence": 0}, "sequence"),
        ({"sequence": 2**31}, "sequence"),
        ({"host": ""}, "host"),
        ({"host": "h" * 256}, "host"),
        ({"instance_uuid": "u" * 37}, "instance"),
        ({"channel": "c" * 37}, "channel"),
        ({"evidence": {"x": "y" * fault_rules.MAX_SIZE}}, "bytes"),
        ({"fault_id": f"{{{FIRST.fault_id}}}"}, "a uuid is required"),  # one, and not as it is kept
        ({"reason": 5}, "a text is required"),
        ({"evidence": ["x"]}, "a JSON object is required"),
        ({"resolution": "mercy"}, "not the same"),
    ],
)
def test_what_cannot_be_kept(bad: dict[str, object], says: str) -> None:
    """It is refused before the database would cut it off, or fail for ever."""
    assert fault_rules.checked(FIRST) is FIRST
    with pytest.raises(BadFault, match=says):
        fault_rules.checked(replace(FIRST, **bad))  # type: ignore[arg-type]


def test_serialised_as_the_worker_does() -> None:
    """Whoever gets it from us sees no difference; words of a newer worker pass."""
    assert fault_rules.primitive(OVER) == fault_payload(OVER)
    newer = replace(FIRST, cause="demons", withheld="mercy")
    assert parse_fault(fault_rules.primitive(newer)) == newer


def test_a_worker_that_is_lost() -> None:
    """The fault is one of the host's, as our own schema has it, and asks for nothing."""
    heard = NOON - timedelta(seconds=185)
    fault = fault_rules.worker_lost("0b7f0b6e-5b7d-4d4b-9a57-0c8f5b1f7c11", "cn1", heard, 60.0, {"instances": 3}, NOON)
    jsonschema.validate(fault_rules.primitive(fault), schema(FaultPayload))
    assert (fault.cause, fault.recommended_action, fault.instance_uuid, fault.misses) == (
        "worker_lost",
        "alarm",
        None,
        3,
    )
    assert fault.reason == "the worker on cn1 has not been heard of for 185 s: its instances are not watched"
    closed = fault_rules.closed(fault, Resolution.UNMONITORED, "x" * 300, NOON)
    assert (closed.sequence, closed.resolution, len(closed.reason)) == (2, "unmonitored", 255)
