"""From a verdict to what a fault says, and from an open fault to the verdict that it stands for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.core.scenario import policy
from vmhb_common.model.causes import Cause, Confidence, Severity
from vmhb_common.model.fault import Fault, Identity, raised
from vmhb_common.model.policy import Action
from vmhb_worker.core.events import RaiseFault
from vmhb_worker.core.findings import finding, standing_of
from vmhb_worker.core.instance_state import Panic, Standing
from vmhb_worker.core.protocol import Check, Health, Status
from vmhb_worker.core.verdict import CRASH_DUMP, Evidence, Reading, Recovery, Verdict

WALL = datetime(2026, 1, 1, tzinfo=UTC)
PANICKED = Evidence(panic=Reading(True, 90.0))
VERDICT = Verdict(
    Cause.GUEST_PANICKED, Confidence.HIGH, Severity.CRITICAL, Recovery.IF_RECOVER, "its kernel panicked", PANICKED
)
FOUND = RaiseFault(VERDICT, 3, 1, 80.0, 75.0, Action.RECOVER)


def fault(found: RaiseFault = FOUND, **changed: Any) -> Fault:
    """As it is written down at 100.0."""
    who = Identity("uuid-1")
    return replace(raised("f", "host", who, policy(), finding(found, False, 100.0, WALL), WALL), **changed)


def test_what_was_found_is_written_down_for_people() -> None:
    """Monotonic times become times of the wall clock, and each reading has its age."""
    found = finding(FOUND, False, 100.0, WALL)
    assert (found.cause, found.severity, found.confidence) == ("guest_panicked", "critical", "high")
    assert (found.recommended_action, found.withheld) == ("recover", None)
    assert (found.misses, found.skipped, found.health) == (3, 1, None)
    assert found.suspected_at == WALL - timedelta(seconds=20)
    assert found.last_ack_at == WALL - timedelta(seconds=25)
    assert found.evidence["panic"] == {"value": True, "age": 10.0}


def test_what_there_was_not_has_no_time() -> None:
    """A guest that never answered, and was never suspected."""
    found = finding(replace(FOUND, last_ack=None, suspected_at=None), False, 100.0, WALL)
    assert (found.last_ack_at, found.suspected_at) == (None, None)


def test_the_last_report_goes_with_it() -> None:
    """Whoever is to mend the application reads which check failed."""
    report = Health(Status.UNHEALTHY, (Check("db", Status.UNHEALTHY, "away"),))
    found = finding(replace(FOUND, health=report), False, 100.0, WALL)
    assert found.health == report.told()


@pytest.mark.parametrize(
    ("action", "observe_only", "asked"),
    [
        (Action.RECOVER, False, ("recover", None)),
        (Action.RECOVER, True, ("alarm", "observe")),
        (Action.ALARM, False, ("alarm", None)),
        (Action.ALARM, True, ("alarm", None)),
    ],
)
def test_the_action_is_the_policys_unless_the_operator_only_observes(
    action: Action, observe_only: bool, asked: tuple[str, str | None]
) -> None:
    """What nobody asked for is not withheld."""
    found = finding(replace(FOUND, action=action), observe_only, 100.0, WALL)
    assert (found.recommended_action, found.withheld) == asked


def test_an_open_fault_stands_for_its_verdict() -> None:
    """After a restart the worker goes on where it was: what it waits for is read off what it withheld."""
    assert standing_of(None, WALL) is None
    assert standing_of(fault(), WALL) == Standing(Cause.GUEST_PANICKED)
    assert standing_of(fault(withheld="evidence"), WALL) == Standing(Cause.GUEST_PANICKED, pending=True)
    assert standing_of(fault(withheld="hold"), WALL) == Standing(Cause.GUEST_PANICKED, held=True)


@pytest.mark.parametrize(
    ("panic", "later", "known"),
    [
        ({"value": True, "age": 10.0}, 5.0, Panic(15.0, False)),
        ({"value": CRASH_DUMP, "age": 10}, 5.0, Panic(15.0, True)),
        ({"value": True, "age": 10.0}, -5.0, Panic(10.0, False)),  # the clock was set back
        ({"value": True, "age": None}, 5.0, None),
        ({"value": "unavailable", "reason": "not looked at"}, 5.0, None),
        (None, 5.0, None),
    ],
)
def test_a_panic_is_remembered_by_its_fault(panic: dict[str, Any] | None, later: float, known: Panic | None) -> None:
    """Its age goes on counting while the worker is away, and is never less than it was."""
    evidence = {} if panic is None else {"panic": panic}
    standing = standing_of(fault(evidence=evidence), WALL + timedelta(seconds=later))
    assert standing is not None
    assert standing.panic == known
