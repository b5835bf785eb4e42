"""From a verdict to a fault, and from a stored fault to the verdict that it stands for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes import a_fault
from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Action
from vmhb_worker.core.findings import standing_of
from vmhb_worker.core.instance_state import Panic, Standing
from vmhb_worker.core.verdict import recommend_still

FAULT = replace(a_fault("f1"), cause="guest_hung", withheld=None)


def test_what_a_fault_stands_for() -> None:
    """Its cause, and what is still to come."""
    assert standing_of(None, FAULT.occurred_at) is None
    assert standing_of(FAULT, FAULT.occurred_at) == Standing(Cause.GUEST_HUNG)
    assert standing_of(replace(FAULT, withheld="evidence"), FAULT.occurred_at) == Standing(
        Cause.GUEST_HUNG, pending=True
    )


@pytest.mark.parametrize(("value", "saves_dump"), [(True, False), ("crash_dump", True)])
def test_when_its_guest_panicked_is_known_from_it(value: Any, saves_dump: bool) -> None:
    """The evidence's age when it was written, and the time since."""
    fault = replace(FAULT, withheld="hold", evidence={"panic": {"value": value, "age": 2.5}})
    standing = standing_of(fault, fault.occurred_at + timedelta(seconds=10))
    assert standing is not None
    assert (standing.held, standing.panic) == (True, Panic(12.5, saves_dump))


@pytest.mark.parametrize("panic", [None, 7, "yes", [], {}, {"value": False, "age": 1}, {"value": True, "age": "old"}])
def test_evidence_that_makes_no_sense_is_no_panic(panic: Any) -> None:
    """A newer worker may have written it."""
    standing = standing_of(replace(FAULT, evidence={"panic": panic}), FAULT.occurred_at)
    assert standing is not None
    assert standing.panic is None


def test_a_cause_of_a_newer_worker_is_found_out_again() -> None:
    """That one ran here before: its instance is watched all the same."""
    assert standing_of(replace(FAULT, cause="brand_new"), FAULT.occurred_at) == Standing(
        Cause.GUEST_SILENT, pending=True
    )


@pytest.mark.parametrize(
    ("cause", "action", "observe_only", "asked"),
    [
        ("guest_hung", Action.RECOVER, False, ("recover", None)),
        ("guest_hung", Action.RECOVER, True, ("alarm", "observe")),
        ("guest_hung", Action.ALARM, False, ("alarm", None)),
        ("guest_hung", Action.ALARM, True, ("alarm", None)),
        ("agent_unresponsive", Action.RECOVER, False, ("alarm", None)),
        ("agent_unresponsive", Action.RECOVER_UNRESPONSIVE, False, ("recover", None)),
        ("agent_exited", Action.RECOVER_UNRESPONSIVE, False, ("alarm", None)),
        ("brand_new", Action.RECOVER_UNRESPONSIVE, False, ("alarm", None)),
    ],
)
def test_what_was_asked_for_is_asked_for_still(cause: str, action: Action, observe_only: bool, asked: Any) -> None:
    """By the policy as it is now, and the operator."""
    assert recommend_still(cause, action, observe_only) == asked
