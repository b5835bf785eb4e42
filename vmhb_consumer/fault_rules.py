"""What a notification of a fault means, given what is known of that fault. Pure: no database, no clock.

Notifications come at least once, and a broker that was restarted may hand them out again, and out of order. So each is
judged by its `sequence`, and only what is newer than all before changes anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from vmhb_common.model.causes import Cause
from vmhb_common.model.fault import Change, Fault, FaultState, Resolution, of_host
from vmhb_common.model.fault import cleared as as_cleared
from vmhb_common.model.words import StrEnum
from vmhb_common.objects import fault_as_told, parse_fault
from vmhb_consumer import door

#: A fault as JSON, in bytes: evidence and health are of free form. The worker's own are below 8 KiB.
MAX_SIZE = 256 * 1024


class Outcome(StrEnum):
    """What became of one notification. The first three change what is known."""

    NEW = "new"
    CHANGED = "changed"
    REMINDED = "reminded"  # newer, and nothing in it that counts is new
    DUPLICATE = "duplicate"
    OLD = "old"  # a newer one was here before
    FINAL = "final"  # the fault was cleared before, whatever this one says
    FOREIGN = "foreign"  # another host speaks of it: whose it is changes by the consumer alone
    STALE = "stale"  # of a fault that may have been forgotten by now: it may be an old one, sent again
    CROWDED = "crowded"  # its host has more open faults than any has instances


#: Of these something is written down.
TAKEN = (Outcome.NEW, Outcome.CHANGED, Outcome.REMINDED)
#: Of these no worker that is well sends any: what is said of them.
SUSPICIOUS: Mapping[Outcome, str] = {
    Outcome.FOREIGN: "it is another host's, or another instance's, and only a consumer changes that",
    Outcome.STALE: "it was signed so long ago that it may have been forgotten: is the clock of its host slow?",
    Outcome.CROWDED: "its host has too many open faults: see to its worker",
}


class BadFault(ValueError):
    """It can't be kept. The text names the field and is fit for a log."""


def judge(known: Fault | None, told: Fault) -> Outcome:
    """known: the newest of this fault_id."""
    if known is None:
        return Outcome.NEW
    if (told.host, told.instance_uuid) != (known.host, known.instance_uuid):
        return Outcome.FOREIGN
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
    """As it will be read back from the database: what every later step relies on. Raises BadFault."""
    try:
        harmless = replace(fault, **door.kept(fault))
        text = packed(harmless)
        back = unpacked(text)
        stable = packed(back) == text
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise BadFault(f"fault {door.quoted(fault.fault_id)}: {error}") from error
    if len(text) > MAX_SIZE:
        raise BadFault(f"fault {fault.fault_id}: it has {len(text)} bytes, and {MAX_SIZE} are taken at most")
    if not stable:
        raise BadFault(f"fault {fault.fault_id}: it is not the same when it is read back")
    return fault if back == fault else back


def primitive(fault: Fault) -> dict[str, Any]:
    """For whoever is told of it by us: words of a newer sender pass as they are."""
    return fault_as_told(fault)


def packed(fault: Fault) -> str:
    """For the database; read back with `unpacked`. ValueError where it holds what JSON has not."""
    return json.dumps(primitive(fault), allow_nan=False)


def unpacked(text: str) -> Fault:
    """From the database. ValueError where it can't be read, or would not be let in today, whoever wrote it."""
    try:
        fault = parse_fault(json.loads(text))
        door.kept(fault)
        return fault
    except (TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


# -- what the consumer says itself -------------------------------------------------------------------------------------


def closed(fault: Fault, resolution: Resolution, reason: str, now: datetime) -> Fault:
    """The end that the consumer gives it."""
    return replace(as_cleared(fault, resolution, now), reason=reason[:255])


def worker_lost(
    fault_id: str, host: str, heard_at: datetime, interval: float, evidence: Mapping[str, Any], now: datetime
) -> Fault:
    """A worker stopped announcing itself: nobody knows how the instances there are. Never a reason to recover them."""
    silent = (now - heard_at).total_seconds()
    reason = f"the worker on {host[:150]} has not been heard of for {silent:.0f} s: its instances are not watched"
    return replace(
        of_host(fault_id, host, Cause.WORKER_LOST, reason, evidence, now),
        misses=max(0, int(silent // interval)),
        threshold=3,
        interval=interval,
        last_ack_at=heard_at,
        suspected_at=heard_at,
    )
