"""From a verdict to what is written down of it, and back: the action that is asked for, and the times for people.

What a fault asks reporters for is decided here and in `verdict.recommend`. Pure: `now` is in monotonic seconds, `wall`
the same moment for people, aware, in UTC.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from vmhb_common.model.causes import Cause, Confidence
from vmhb_common.model.fault import Fault, Finding
from vmhb_worker.core.events import RaiseFault
from vmhb_worker.core.evidence import CRASH_DUMP
from vmhb_worker.core.instance_state import Panic, Standing
from vmhb_worker.core.verdict import recommend

_CAUSES = frozenset(map(str, Cause))
_CONFIDENCES = frozenset(map(str, Confidence))


def finding(found: RaiseFault, observe_only: bool, now: float, wall: datetime) -> Finding:
    """A verdict, ready to be written down. observe_only: the operator wants no recovery at all, see the option."""
    verdict = found.verdict
    action, withheld = recommend(verdict, found.action, observe_only)
    return Finding(
        cause=str(verdict.cause),
        severity=str(verdict.severity),
        confidence=str(verdict.confidence),
        recommended_action=action,
        withheld=withheld,
        reason=verdict.reason,
        evidence=verdict.evidence.told(now),
        misses=found.misses,
        skipped=found.skipped,
        last_ack_at=_wall_of(found.last_ack, now, wall),
        suspected_at=_wall_of(found.suspected_at, now, wall),
        health=None if found.health is None else found.health.told(),
        of_host=verdict.of_host,
    )


def standing_of(fault: Fault | None, wall: datetime) -> Standing | None:
    """The verdict that an open fault stands for, for a worker that meets its instance."""
    if fault is None:
        return None
    pending, held = fault.withheld == "evidence", fault.withheld == "hold"
    if fault.cause not in _CAUSES:  # a newer worker's, which ran here before: it is to be found out again
        return Standing(Cause.GUEST_SILENT, pending=True)
    confidence = Confidence(fault.confidence) if fault.confidence in _CONFIDENCES else Confidence.LOW
    return Standing(Cause(fault.cause), pending, held, confidence=confidence, panic=_panic_of(fault, wall))


def _panic_of(fault: Fault, wall: datetime) -> Panic | None:
    """What its guest told of a panic. A reminder repeats old evidence: the panic may seem later, never sooner."""
    told = fault.evidence.get("panic")
    if not isinstance(told, dict):
        return None
    age = told.get("age")
    if told.get("value") not in (True, CRASH_DUMP) or not isinstance(age, int | float):
        return None
    ago = age + max(0.0, (wall - fault.occurred_at).total_seconds())
    return Panic(ago, told["value"] == CRASH_DUMP)


def _wall_of(at: float | None, now: float, wall: datetime) -> datetime | None:
    return None if at is None else wall - timedelta(seconds=now - at)
