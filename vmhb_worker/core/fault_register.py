"""The worker's book of faults: one open fault per instance, and the cleared ones that are still announced.

Pure: says which notifications are due; the engine stores and sends them in one go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from vmhb_common.model import fault as life
from vmhb_common.model.causes import Cause
from vmhb_common.model.fault import Change, Fault, Finding, Identity, Resolution
from vmhb_common.model.policy import Action, HeartbeatPolicy
from vmhb_worker.core.verdict import recommend_still

#: A clear is told again with this many reminders, for those who missed it.
ANNOUNCEMENTS = 3
#: A recovery that was asked for so long ago (seconds), of a guest that is as it was, did not come about, or did not
#: help: whoever was to do it may have been away, or may not have known whether the guest still needed it.
RECOVERY_TIMEOUT = 300.0
#: A fault asks for so many recoveries in all. The consumer counts those of an instance, over its faults.
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of the book: the fault as it is now, and why. owed: announcements left of a cleared one."""

    change: Change
    fault: Fault
    owed: int = 0
    reminder: bool = False


class Ledger:
    """Belongs to one thread. `now`: monotonic seconds."""

    def __init__(self, host: str, reminder_interval: float, new_id: Callable[[], str]) -> None:
        self._host = host
        self._interval = reminder_interval
        self._new_id = new_id
        self.open: dict[str, Fault] = {}
        self._cleared: dict[str, tuple[Fault, int]] = {}
        #: fault_id -> when its latest recovery attempt was asked for: of open faults.
        self._asked_at: dict[str, float] = {}
        #: fault_id -> when its next reminder is due, and its instance; those that are due first come first.
        self._remind_at: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def load(self, faults: Iterable[Fault], owed: Mapping[str, int], now: float) -> None:
        """What an earlier life of the worker left open, or had not told often enough."""
        for fault in faults:
            if fault.state is life.FaultState.RAISED and fault.instance_uuid is not None:
                self.open[fault.instance_uuid] = fault
                self._asked(None, fault, now)
            elif owed.get(fault.fault_id):
                self._cleared[fault.fault_id] = (fault, owed[fault.fault_id])
            else:
                continue
            self._told(fault.fault_id, fault.instance_uuid or "", now)

    def accuse(self, who: Identity, policy: HeartbeatPolicy, finding: Finding, *, now: float, wall: datetime) -> Entry:
        """Raise a fault, or update the one that is open."""
        was = self.open.get(who.instance_uuid)
        if was is None:
            fault = life.raised(self._new_id(), self._host, who, policy, finding, wall)
        else:
            fault = life.updated(was, finding, wall)
        self.open[who.instance_uuid] = fault
        self._asked(was, fault, now)
        self._told(fault.fault_id, who.instance_uuid, now)
        return Entry(Change.RAISED if was is None else Change.UPDATED, fault)

    def recommend_still(
        self, uuid: str, action: Action, observe_only: bool, *, now: float, wall: datetime
    ) -> Entry | None:
        """Take back a recovery that its policy, or the operator, would not ask for by now. None: there is none."""
        was = self.open.get(uuid)
        if was is None or was.recommended_action != "recover":
            return None
        recommended, withheld = recommend_still(was.cause, action, observe_only)
        if recommended == "recover":
            return None
        self.open[uuid] = fault = life.no_longer_asked(was, recommended, withheld, wall)
        self._told(fault.fault_id, uuid, now)
        return Entry(Change.UPDATED, fault)

    def acquit(self, uuid: str, resolution: Resolution, *, now: float, wall: datetime) -> Entry | None:
        """Clear the open fault, if there is one."""
        was = self.open.pop(uuid, None)
        if was is None:
            return None
        self._asked_at.pop(was.fault_id, None)
        fault = life.cleared(was, resolution, wall)
        self._cleared[fault.fault_id] = (fault, ANNOUNCEMENTS)
        self._told(fault.fault_id, uuid, now)
        return Entry(Change.CLEARED, fault, ANNOUNCEMENTS)

    def remind(
        self, now: float, wall: datetime, gone: Callable[[str], bool], stands: Callable[[str], bool] = lambda _: False
    ) -> list[Entry]:
        """The reminders that are due. gone: does the instance of this uuid no longer run here? stands: is what it was
        accused of still so?

        A recovery that was asked for is not asked for again while the instance does not run: somebody is at it, or
        stopped it. One that did not come about, or not help, is asked for once more: that is a change, no reminder.
        """
        entries = []
        while now >= self.deadline():
            fault_id, (_, uuid) = self._remind_at.popitem(last=False)
            entry = self._remind(fault_id, uuid, now, wall, gone, stands)
            if entry is not None:
                entries.append(entry)
        return entries

    def deadline(self) -> float:
        """When the next reminder is due."""
        for at, _ in self._remind_at.values():
            return at
        return float("inf")

    def _told(self, fault_id: str, uuid: str, now: float) -> None:
        """It was told just now, and will be again after all others."""
        self._remind_at[fault_id] = (now + self._interval, uuid)
        self._remind_at.move_to_end(fault_id)

    def _asked(self, was: Fault | None, fault: Fault, now: float) -> None:
        if fault.recovery_attempt > (0 if was is None else was.recovery_attempt):
            self._asked_at[fault.fault_id] = now

    def _again(self, fault: Fault, now: float) -> bool:
        """Has its recovery been waited for in vain?"""
        waited = now - self._asked_at.get(fault.fault_id, now)
        return (
            fault.recommended_action == "recover" and waited >= RECOVERY_TIMEOUT and fault.recovery_attempt < ATTEMPTS
        )

    def _remind(
        self,
        fault_id: str,
        uuid: str,
        now: float,
        wall: datetime,
        gone: Callable[[str], bool],
        stands: Callable[[str], bool],
    ) -> Entry | None:
        if fault_id in self._cleared:
            fault, owed = self._cleared[fault_id]
            fault = life.reminded(fault, wall)
            self._cleared[fault_id] = (fault, owed - 1)
            if owed == 1:
                del self._cleared[fault_id]
            else:
                self._told(fault_id, uuid, now)
            return Entry(Change.CLEARED, fault, owed - 1, reminder=True)
        was = self.open.get(uuid)
        if was is None or was.fault_id != fault_id:  # another fault of the same instance took its page
            return None
        died = was.cause == Cause.QEMU_FAILED  # does not run: that is what is wrong
        fault = life.reminded(was, wall, late=gone(uuid) and not died)
        again = self._again(fault, now) and stands(uuid)
        self.open[uuid] = fault = life.asked_again(fault) if again else fault
        self._asked(was, fault, now)
        self._told(fault_id, uuid, now)
        return Entry(Change.UPDATED, fault, reminder=not again)


def in_words(entry: Entry) -> str:
    """A change of a fault as a line of the log. Display names are tenants' text: escaped."""
    fault = entry.fault
    name = f" ({fault.display_name[:64]!r})" if fault.display_name else ""
    what = f"instance {fault.instance_uuid}{name}: fault {fault.fault_id} {entry.change.name.lower()}"
    if fault.resolution is not None:
        return f"{what}: was {fault.cause}; {fault.reason} ({fault.resolution})"
    withheld = f" (withheld: {fault.withheld})" if fault.withheld else ""
    asked = f"recommended: {fault.recommended_action}{withheld}"
    return f"{what}: {fault.cause} ({fault.confidence} confidence), {fault.reason}; {asked}"
