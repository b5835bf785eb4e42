"""A fault's life, from raised to cleared: the record that goes into the store and out as a notification.

Wall-clock times, since they are for people. Pure: identities and times are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from vmhb_common.model.causes import Cause, Confidence, Severity
from vmhb_common.model.policy import HeartbeatPolicy
from vmhb_common.model.words import StrEnum


class FaultState(StrEnum):
    """Raised covers every change up to the clear."""

    RAISED = "raised"
    CLEARED = "cleared"


class Resolution(StrEnum):
    """Why a fault is over. Only RECOVERED says that the guest answers again."""

    RECOVERED = "recovered"
    DELETED = "deleted"
    MOVED = "moved"
    UNMONITORED = "unmonitored"
    SUPERSEDED = "superseded"
    OPERATOR = "operator"


class Change(StrEnum):
    """The event types of a fault's notifications."""

    RAISED = "vmhb.fault.raised"
    UPDATED = "vmhb.fault.updated"
    CLEARED = "vmhb.fault.cleared"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom it is about, as Nova names it; None where the domain does not tell."""

    instance_uuid: str
    instance_name: str | None = None
    display_name: str | None = None
    project_id: str | None = None
    flavor_name: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """The payload of a fault notification, field by field: see the notification reference in the docs.

    Immutable: each change makes the next one, with `sequence` one higher. Datetimes are aware, in UTC.
    """

    fault_id: str
    sequence: int
    state: FaultState
    severity: str
    occurred_at: datetime
    cause: str
    confidence: str
    recommended_action: str
    withheld: str | None
    recovery_attempt: int
    drill: bool
    resolution: Resolution | None
    host: str
    instance_uuid: str | None
    instance_name: str | None
    display_name: str | None
    project_id: str | None
    flavor_name: str | None
    channel: str | None
    misses: int
    skipped: int
    threshold: int
    interval: float
    timeout: float
    last_ack_at: datetime | None
    suspected_at: datetime | None
    raised_at: datetime
    cleared_at: datetime | None
    reason: str
    evidence: dict[str, Any]
    health: dict[str, Any] | None = None

    @property
    def recovery_was_asked_for(self) -> bool:
        """Was a recovery ever asked for, of this fault? Stays so to its end, the clear included.

        `recommended_action` does not tell: a clear says `none`, and nearly every fault that asks for a recovery begins
        as `alarm`, with `withheld` saying what is waited for.
        """
        return self.recovery_attempt > 0

    @property
    def subject(self) -> str:
        """Whom it is about, as a part of a sentence."""
        return f"host {self.host}" if self.instance_uuid is None else f"instance {self.instance_uuid} on {self.host}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the monitor found, ready to be written down. of_host: its host is to blame, and is told of instead."""

    cause: str
    severity: str
    confidence: str
    recommended_action: str
    withheld: str | None
    reason: str
    evidence: dict[str, Any]
    misses: int
    skipped: int
    last_ack_at: datetime | None
    suspected_at: datetime | None
    health: dict[str, Any] | None = None
    of_host: bool = False


def raised(fault_id: str, host: str, who: Identity, policy: HeartbeatPolicy, finding: Finding, wall: datetime) -> Fault:
    """A new fault."""
    return Fault(
        fault_id=fault_id,
        sequence=1,
        state=FaultState.RAISED,
        occurred_at=wall,
        recovery_attempt=int(finding.recommended_action == "recover"),
        drill=False,
        resolution=None,
        host=host,
        instance_uuid=who.instance_uuid,
        instance_name=who.instance_name,
        display_name=who.display_name,
        project_id=who.project_id,
        flavor_name=who.flavor_name,
        channel=str(policy.channel),
        threshold=policy.threshold,
        interval=policy.interval,
        timeout=policy.timeout,
        raised_at=wall,
        cleared_at=None,
        **_found(finding),
    )


def of_host(fault_id: str, host: str, cause: Cause, reason: str, evidence: Mapping[str, Any], wall: datetime) -> Fault:
    """Of a host, not of an instance: nobody is recovered for it."""
    return Fault(
        fault_id=fault_id,
        sequence=1,
        state=FaultState.RAISED,
        severity=str(Severity.CRITICAL),
        occurred_at=wall,
        cause=str(cause),
        confidence=str(Confidence.MEDIUM),
        recommended_action="alarm",
        withheld=None,
        recovery_attempt=0,
        drill=False,
        resolution=None,
        host=host,
        instance_uuid=None,
        instance_name=None,
        display_name=None,
        project_id=None,
        flavor_name=None,
        channel=None,
        misses=0,
        skipped=0,
        threshold=1,
        interval=0.0,
        timeout=0.0,
        last_ack_at=None,
        suspected_at=wall,
        raised_at=wall,
        cleared_at=None,
        reason=reason[:REASON_LIMIT],
        evidence=dict(evidence),
    )


def updated(fault: Fault, finding: Finding, wall: datetime) -> Fault:
    """New evidence, or another verdict. The first `recover` of a fault is its first recovery attempt."""
    found = _found(finding)
    found["suspected_at"] = fault.suspected_at or finding.suspected_at
    attempt = max(fault.recovery_attempt, int(finding.recommended_action == "recover"))
    return replace(fault, sequence=fault.sequence + 1, occurred_at=wall, recovery_attempt=attempt, **found)


def reminded(fault: Fault, wall: datetime, late: bool = False) -> Fault:
    """The same fault again, so that anyone who missed it can catch up. Of a cleared one, too.

    late: a recovery makes no sense now; what was asked for is withheld until the next reminder finds otherwise.
    """
    again = replace(fault, sequence=fault.sequence + 1, occurred_at=wall)
    if late and again.recommended_action == "recover":
        return replace(again, recommended_action="alarm", withheld="late")
    if not late and again.withheld == "late":
        return replace(again, recommended_action="recover", withheld=None)
    return again


def no_longer_asked(fault: Fault, action: str, withheld: str | None, wall: datetime) -> Fault:
    """Its recovery is not asked for any more, though nothing about the guest has changed."""
    return replace(fault, sequence=fault.sequence + 1, occurred_at=wall, recommended_action=action, withheld=withheld)


def asked_now(fault: Fault, wall: datetime) -> Fault:
    """Its recovery was withheld until now, and is asked for from now on."""
    asked = no_longer_asked(fault, "recover", None, wall)
    return replace(asked, recovery_attempt=max(asked.recovery_attempt, 1))


def answering(fault: Fault, wall: datetime) -> Fault:
    """Its guest answers again: no recovery is asked for. Whether that lasts is to be seen."""
    return replace(
        no_longer_asked(fault, "alarm", "hold", wall), reason="it answers again, and whether that lasts is waited for"
    )


def asked_again(fault: Fault) -> Fault:
    """Its next recovery attempt, as a part of the change that it comes with: reporters act once for each number."""
    return replace(fault, recovery_attempt=fault.recovery_attempt + 1)


def cleared(fault: Fault, resolution: Resolution, wall: datetime) -> Fault:
    """The end. Severity and cause stay those that it had; nothing is asked for any more."""
    return replace(
        fault,
        sequence=fault.sequence + 1,
        state=FaultState.CLEARED,
        occurred_at=wall,
        cleared_at=wall,
        resolution=resolution,
        recommended_action="none",
        withheld=None,
        reason=_CLEARED[resolution],
    )


_CLEARED = {
    Resolution.RECOVERED: "the guest answers again",
    Resolution.DELETED: "the instance is gone from this host",
    Resolution.MOVED: "the instance runs on another host",
    Resolution.UNMONITORED: "the instance is no longer monitored",
    Resolution.SUPERSEDED: "another fault took its place",
    Resolution.OPERATOR: "an operator closed it",
}

#: `reason` is at most this long on the wire.
REASON_LIMIT = 255


def _found(finding: Finding) -> dict[str, Any]:
    return {
        "cause": finding.cause,
        "severity": finding.severity,
        "confidence": finding.confidence,
        "recommended_action": finding.recommended_action,
        "withheld": finding.withheld,
        "reason": finding.reason[:REASON_LIMIT],
        "evidence": finding.evidence,
        "misses": finding.misses,
        "skipped": finding.skipped,
        "last_ack_at": finding.last_ack_at,
        "suspected_at": finding.suspected_at,
        "health": finding.health,
    }
