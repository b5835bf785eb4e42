"""The faults that are over and still told again, for whoever missed that: a few of each instance.

A guest can make faults as fast as it misses beats. What was cleared has been told once, and that is delivered whatever
happens; only its repetitions are bounded here, and with them what the worker keeps in memory and on disk.
"""

from __future__ import annotations

from datetime import datetime

from vmhb_common.model.fault import Fault

#: So many of an instance are told again: the newest. More say nothing that these do not.
KEPT = 3


class ClearedFaults:
    """By instance; a fault of none, the host's, counts as one of an instance called "". Belongs to one thread."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, tuple[Fault, int]]] = {}

    def add(self, fault: Fault, owed: int) -> tuple[str, ...]:
        """Tell it so many times more. Returns the ids of those that are not told any more, in its place."""
        mine = self._of.setdefault(_whose(fault), {})
        mine[fault.fault_id] = (fault, owed)
        dropped = tuple(sorted(mine, key=lambda which: _cleared_at(mine[which][0]))[:-KEPT])
        for fault_id in dropped:
            del mine[fault_id]
        return dropped

    def take(self, uuid: str, fault_id: str) -> tuple[Fault, int] | None:
        """The fault, which is told now, and how often it is told after that; None where it is not told (any more)."""
        mine = self._of.get(uuid, {})
        found = mine.pop(fault_id, None)
        if found is None:
            return None
        if not mine:
            del self._of[uuid]
        return found[0], found[1] - 1

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))


def _whose(fault: Fault) -> str:
    return fault.instance_uuid or ""


def _cleared_at(fault: Fault) -> datetime:
    return fault.cleared_at or fault.raised_at
