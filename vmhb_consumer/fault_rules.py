"""What a notification of a fault means, given what is known of that fault. Pure: no database, no clock.

Notifications come at least once, and a broker that was restarted may hand them out again, and out of order. So each is
judged by its `sequence`, and only what is newer than all before changes anything.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from vmhb_common.model.causes import Cause, Confidence, Severity
from vmhb_common.model.fault import Change, Fault, FaultState, Resolution
from vmhb_common.model.fault import cleared as as_cleared

#: What fits into the database's columns, and more than anybody sends.
MAX_ID = 36
MAX_HOST = 255
MAX_SEQUENCE = 2**31 - 1
#: A fault as JSON, in bytes: evidence and health are of free form. The worker's own are below 8 KiB.
MAX_SIZE = 256 * 1024


class Outcome(enum.StrEnum):
    """What became of one notification. The first three change what is known."""

    NEW = "new"
    CHANGED = "changed"
    REMINDED = "reminded"  # newer, and nothing in it that counts is new
    DUPLICATE = "duplicate"
    OLD = "old"  # a newer one was here before
    FINAL = "final"  # the fault was cleared before, whatever this one says


class BadFault(ValueError):
    """It can't be kept. The text names the field and is fit for a log."""


def judge(known: Fault | None, told: Fault) -> Outcome:
    """known: the newest of this fault_id."""
    if known is None:
        return Outcome.NEW
    if told.sequence == known.sequence:
        return Outcome.DUPLICATE
    if known.state is FaultState.CLEARED:
        return Outcome.FINAL
    if told.sequence < known.sequence:
        return Outcome.OLD
    same = replace(told, sequence=known.sequence, occurred_at=known.occurred_at) == known
    return Outcome.REMINDED if same else Outcome.CHANGED


def change_of(outcome: Outcome, told: Fault) -> Change:
    """As what a reporter is told of it: the first word of a fault is its raise, however it was sent."""
    if told.state is FaultState.CLEARED:
        return Change.CLEARED
    return Change.RAISED if outcome is Outcome.NEW else Change.UPDATED


def checked(fault: Fault) -> Fault:
    """The same, or BadFault: what every later step relies on."""
    if not 0 < len(fault.fault_id) <= MAX_ID:
        raise BadFault(f"fault_id {fault.fault_id!r:.80} is no uuid")
    if not 1 <= fault.sequence <= MAX_SEQUENCE:
        raise BadFault(f"fault {fault.fault_id}: sequence {fault.sequence} is not 1 to {MAX_SEQUENCE}")
    if not 0 < len(fault.host) <= MAX_HOST or (fault.instance_uuid is not None and len(fault.instance_uuid) > MAX_ID):
        raise BadFault(f"fault {fault.fault_id}: host {fault.host!r:.80} or instance is not a name that there can be")
    if fault.channel is not None and len(fault.channel) > MAX_ID:
        raise BadFault(f"fault {fault.fault_id}: channel {fault.channel!r:.80} is not a name that there can be")
    size = len(packed(fault))
    if size > MAX_SIZE:
        raise BadFault(f"fault {fault.fault_id}: it has {size} bytes, and {MAX_SIZE} are taken at most")
    return fault


def primitive(fault: Fault, version: str = "1.1") -> dict[str, Any]:
    """As `objects.fault_payload` makes it, except that words of a newer sender pass as they are."""
    data = {field.name: _plain(getattr(fault, field.name)) for field in fields(Fault)}
    name, prefix = "FaultPayload", "vmhb_object"
    return {f"{prefix}.name": name, f"{prefix}.namespace": "vmhb", f"{prefix}.version": version, f"{prefix}.data": data}


def packed(fault: Fault) -> str:
    """For the database; read back with `objects.parse_fault`."""
    return json.dumps(primitive(fault))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")  # as oslo.versionedobjects: whole seconds
    return str(value) if isinstance(value, str) else value


# -- what the consumer says itself -------------------------------------------------------------------------------------


def closed(fault: Fault, resolution: Resolution, reason: str, now: datetime) -> Fault:
    """The end that the consumer gives it."""
    return replace(as_cleared(fault, resolution, now), reason=reason[:255])


def worker_lost(
    fault_id: str, host: str, heard_at: datetime, interval: float, evidence: Mapping[str, Any], now: datetime
) -> Fault:
    """A worker stopped announcing itself: nobody knows how the instances there are. Never a reason to recover them."""
    silent = (now - heard_at).total_seconds()
    return Fault(
        fault_id=fault_id,
        sequence=1,
        state=FaultState.RAISED,
        severity=str(Severity.CRITICAL),
        occurred_at=now,
        cause=str(Cause.WORKER_LOST),
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
        misses=max(0, int(silent // interval)),
        skipped=0,
        threshold=3,
        interval=interval,
        timeout=0.0,
        last_ack_at=heard_at,
        suspected_at=heard_at,
        raised_at=now,
        cleared_at=None,
        reason=f"the worker on {host[:150]} has not been heard of for {silent:.0f} s: its instances are not watched",
        evidence=dict(evidence),
    )
