"""The worker's book of faults: one open fault per instance, and the cleared ones that are still announced.

Pure: says which notifications are due; the engine stores and sends them in one go.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from vmhb_common.model import fault as life
from vmhb_common.model.causes import Cause, Confidence, Ground, Severity, rests_on
from vmhb_common.model.fault import Change, Fault, Finding, Identity, Resolution
from vmhb_common.model.policy import Action, HeartbeatPolicy
from vmhb_worker.core.brake import Braking
from vmhb_worker.core.caution import BRAKED, LOOK, Caution, kind_of
from vmhb_worker.core.cleared_faults import ClearedFaults
from vmhb_worker.core.host_faults import HostFaults
from vmhb_worker.core.verdict import recommend_still

#: A clear is told again with this many reminders, for those who missed it.
ANNOUNCEMENTS = 3
#: A recovery that was asked for so long ago (seconds), of a guest that is as it was, did not come about, or did not
#: help: whoever was to do it may have been away, or may not have known whether the guest still needed it.
RECOVERY_TIMEOUT = 300.0
#: A fault asks for so many recoveries in all. The consumer counts those of an instance, over its faults.
ATTEMPTS = 3
#: How a fault ends of an instance that is here, and watched as before: what it answers, or does not, brings that about.
_ITS_OWN = (Resolution.RECOVERED, Resolution.UNMONITORED)
_COMES_AND_GOES = (
    "it failed, and answered again, four times in ten minutes: until it has been well for five, this is one fault"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of the book: the fault as it is now, and why. owed: announcements left of a cleared one. dropped: ids of
    cleared ones that are not told again any more, in favour of this one."""

    change: Change
    fault: Fault
    owed: int = 0
    reminder: bool = False
    dropped: tuple[str, ...] = ()


class Watched(Protocol):
    """What must be known of an instance to end its fault, or to ask for a recovery that was withheld: its monitor."""

    @property
    def stands(self) -> bool:
        """Is what it was accused of still so?"""

    @property
    def last_miss(self) -> float | None:
        """When it was last found wanting."""

    def well(self, acks: int, now: float) -> bool:
        """Has it acknowledged so often in a row, and for long enough?"""

    def silent_since(self, asked: float, now: float) -> bool:
        """Was it asked anew since then, and has not answered in time?"""


#: One fault could not be looked at, for a fault of ours: its instance's uuid, or its own id, and what it was, within
#: that exception's handling. The others are looked at all the same.
Mishap = Callable[[str, Exception], None]


class Ledger:
    """Belongs to one thread. `now`: monotonic seconds."""

    def __init__(
        self,
        host: str,
        reminder_interval: float,
        new_id: Callable[[], str],
        caution: Caution | None = None,
        mishap: Mishap | None = None,
    ) -> None:
        """caution: what withholds recoveries; by default nothing does. mishap: see there; by default it is raised."""
        self._host = host
        self._interval = reminder_interval
        self._new_id = new_id
        self._caution = caution or Caution()
        self._mishap = mishap or _raised
        self.open: dict[str, Fault] = {}
        #: Of this host itself.
        self.of_host = HostFaults(host, new_id)
        #: uuids of those whose fault is open though they answer, until they have for long enough; and how it ends then.
        self._answering: dict[str, Resolution] = {}
        #: … and of those whose fault is not told of each time that they do, since they flap.
        self._kept: set[str] = set()
        #: … and of those whose next recovery is another attempt: it was well in between, or the last did not help.
        self._anew: set[str] = set()
        #: How hard what a recovery was asked for is: of open faults.
        self._ranks: dict[str, int] = {}
        #: The causes that each open fault has had. One that comes back is as good as a fault of its own.
        self._had: dict[str, set[str]] = {}
        self._cleared = ClearedFaults()
        #: fault_id -> when its latest recovery attempt was asked for: of open faults.
        self._asked_at: dict[str, float] = {}
        #: fault_id -> when its next reminder is due, and its instance; those that are due first come first.
        self._remind_at: OrderedDict[str, tuple[float, str]] = OrderedDict()
        #: When `reconsider` is due.
        self.reconsider_at = math.inf

    def load(
        self, faults: Iterable[Fault], owed: Mapping[str, int], now: float, wall: datetime | None = None
    ) -> tuple[str, ...]:
        """What an earlier life of the worker left open, or had not told often enough. wall: now, for their ages.

        Returns the ids of those that are not told again any more, since there were too many of one instance.
        """
        dropped: tuple[str, ...] = ()
        for fault in faults:
            if fault.state is life.FaultState.RAISED and self.of_host.load(fault, now):
                self._load_host(fault, now, now if wall is None else now - (wall - fault.raised_at).total_seconds())
            elif fault.state is life.FaultState.RAISED and fault.instance_uuid is not None:
                self.open[fault.instance_uuid] = fault
                self._asked(None, fault, now)
                if fault.withheld in ("brake", "budget") or _waits_for_nova(fault):
                    self._caution.resume(fault.instance_uuid, fault.cause, fault.withheld == "brake", now)
                    self.reconsider_at = now
                if fault.cause == Cause.FLAPPING or fault.withheld == "flapping":
                    self._caution.flaps.resume(fault.instance_uuid, now)
            elif owed.get(fault.fault_id):
                dropped += self._cleared.add(fault, owed[fault.fault_id])
            else:
                continue
            self._told(fault.fault_id, fault.instance_uuid or "", now)
        self._tell_no_more(dropped)
        return dropped

    def _load_host(self, fault: Fault, now: float, raised_at: float) -> None:
        self.reconsider_at = now
        if BRAKED in fault.evidence:
            self._caution.brake.resume(min(now, raised_at))

    def accuse(
        self, who: Identity, policy: HeartbeatPolicy, finding: Finding, *, now: float, wall: datetime
    ) -> Entry | None:
        """Raise a fault, or update the one that is open. None: that it flaps is known, and this adds nothing. What is
        its host's fault takes the place of one of its own; `reconsider`, which is due then, tells it."""
        uuid = who.instance_uuid
        was = self.open.get(uuid)
        if finding.of_host and (was is None or not was.recovery_was_asked_for):
            self.of_host.starves(uuid)
            self.reconsider_at = now
            return None if was is None else self._clear(uuid, was, Resolution.SUPERSEDED, now, wall)
        self.of_host.starves_no_more(uuid, now)
        answered = self._answering.pop(uuid, None) is not None
        if was is None or answered or self._comes_back(uuid, was, finding):
            self._caution.flaps.raised(uuid, now)
        else:
            self._caution.flaps.found(uuid, now)
        flapping = self._caution.flaps.flaps(uuid)
        if answered or (flapping and kind_of(finding.cause).rank > self._ranks.get(uuid, 0)):
            self._anew.add(uuid)
        # It was told that it answers: that is not so any more.
        stale = answered and was is not None and was.recovery_was_asked_for and was.withheld == "hold"
        finding = self._weighed(uuid, was, finding, now)
        if was is not None and uuid in self._kept and not stale and not _harder(finding, was):
            return None
        if flapping:
            self._kept.add(uuid)
            finding = _flapping(finding)
        if was is None:
            fault = life.raised(self._new_id(), self._host, who, policy, finding, wall)
        else:
            fault = life.updated(was, finding, wall)
            if fault.recommended_action == "recover":
                fault = self._numbered(uuid, was, fault)
        return self._changed(uuid, was, fault, now)

    def _numbered(self, uuid: str, was: Fault, fault: Fault) -> Fault:
        """With the number of its attempt: reporters act once for each."""
        another = uuid in self._anew and was.recovery_was_asked_for and was.recovery_attempt < ATTEMPTS
        self._anew.discard(uuid)
        return life.asked_again(fault) if another else fault

    def _comes_back(self, uuid: str, was: Fault, finding: Finding) -> bool:
        had = self._had.setdefault(uuid, {was.cause})
        back = finding.cause != was.cause and finding.cause in had and finding.withheld != "evidence"
        had.add(finding.cause)
        return back

    def _weighed(self, uuid: str, was: Fault | None, finding: Finding, now: float) -> Finding:
        barred = self._barred(uuid, was, finding.cause)
        if finding.recommended_action != "recover" or barred:
            self._caution.unwant(uuid)
            withheld = "flapping" if finding.recommended_action == "recover" else None
        else:
            withheld = self._want(uuid, finding.cause, now)
        return finding if withheld is None else replace(finding, recommended_action="alarm", withheld=withheld)

    def _want(self, uuid: str, cause: str, now: float, again: bool = False) -> str | None:
        withheld = self._caution.want(uuid, cause, now, again)
        self.reconsider_at = min(self.reconsider_at, self._caution.deadline(now))
        return withheld

    def _barred(self, uuid: str, was: Fault | None, cause: str) -> bool:
        """Whoever flaps is recovered only of what is harder than what was asked for before: of each such, once."""
        if not self._caution.flaps.flaps(uuid):
            return False
        before = self._ranks.get(uuid, 0) if was is not None and was.recovery_was_asked_for else 0
        return kind_of(cause).rank <= before

    def _changed(self, uuid: str, was: Fault | None, fault: Fault, now: float) -> Entry:
        self.open[uuid] = fault
        self._asked(was, fault, now)
        self._told(fault.fault_id, uuid, now)
        return Entry(Change.RAISED if was is None else Change.UPDATED, fault)

    def recommend_still(
        self, uuid: str, action: Action, observe_only: bool, *, now: float, wall: datetime
    ) -> Entry | None:
        """Take back a recovery that its policy, or the operator, would not ask for by now. None: there is none."""
        was = self.open.get(uuid)
        if was is None or not (was.recommended_action == "recover" or self._caution.wanted(uuid)):
            return None
        recommended, withheld = recommend_still(was.cause, action, observe_only)
        if recommended == "recover":
            return None
        self._caution.unwant(uuid)
        return self._changed(uuid, was, life.no_longer_asked(was, recommended, withheld, wall), now)

    def acquit(
        self, uuid: str, resolution: Resolution, *, now: float, wall: datetime, well: bool = True, gone: bool = False
    ) -> Entry | None:
        """Clear the open fault, if there is one.

        Unless its instance is `gone` from here, it is kept open while that flaps; and where its recovery was asked for,
        or it came back, until its guest is certainly `well`.
        """
        self.of_host.starves_no_more(uuid, now)
        was = self.open.get(uuid)
        if was is None:
            return None
        if not gone and resolution in _ITS_OWN:
            flapping = self._caution.flaps.flaps(uuid)
            doubtful = was.recovery_was_asked_for or self._caution.flaps.again(uuid, now)
            if flapping or (doubtful and not well):
                self._answering[uuid] = resolution
                return self._keep_open(uuid, was, now, wall)
        if gone or resolution not in _ITS_OWN:
            self._caution.flaps.forget(uuid)
        return self._clear(uuid, was, resolution, now, wall)

    def _keep_open(self, uuid: str, was: Fault, now: float, wall: datetime) -> Entry | None:
        """It answers: from now on no recovery is asked for."""
        self._caution.unwant(uuid)
        self.reconsider_at = min(self.reconsider_at, now + LOOK)
        if was.recommended_action != "recover":
            return None
        return self._changed(uuid, was, life.answering(was, wall), now)

    def _clear(self, uuid: str, was: Fault, resolution: Resolution, now: float, wall: datetime) -> Entry:
        del self.open[uuid]
        self._answering.pop(uuid, None)
        self._kept.discard(uuid)
        self._anew.discard(uuid)
        self._had.pop(uuid, None)
        self._ranks.pop(uuid, None)
        self._caution.unwant(uuid)
        return self._ended(life.cleared(was, resolution, wall), uuid, now)

    def _ended(self, fault: Fault, uuid: str, now: float) -> Entry:
        self._asked_at.pop(fault.fault_id, None)
        dropped = self._cleared.add(fault, ANNOUNCEMENTS)
        self._tell_no_more(dropped)
        self._told(fault.fault_id, uuid, now)
        return Entry(Change.CLEARED, fault, ANNOUNCEMENTS, dropped=dropped)

    # -- what was put off ------------------------------------------------------------------------------------------

    def release_brake(self, now: float) -> bool:
        """An operator ends it; `reconsider` is due. Was it on?"""
        was_on = self._caution.brake.state(now) is not Braking.OFF
        self._caution.brake.release(now)
        self.reconsider_at = now
        return was_on

    def to_verify(self, now: float) -> list[str]:
        """See `Caution.to_verify`: uuids of those whose monitors are to ask anew, before `reconsider`."""
        return self._caution.to_verify(now)

    def reconsider(self, watched: Callable[[str], Watched | None], now: float, wall: datetime) -> list[Entry]:
        """What is different by now: faults of those that have answered for long enough, recoveries that were withheld,
        and whether this host is suspect."""
        entries: list[Entry | None] = [*self._see_host(now, wall)]
        for uuid in sorted(self._answering):
            try:
                entries.append(self._see_answering(uuid, watched(uuid), now, wall))
            except Exception as error:
                self._mishap(uuid, error)
        free = dict(self._caution.released(now))
        for uuid, was in list(self.open.items()):
            try:
                if self._caution.wanted(uuid):
                    entries.append(self._see_wanted(uuid, was, watched(uuid), free, now, wall))
            except Exception as error:
                self._mishap(uuid, error)
        busy = self._answering or self.of_host.open
        self.reconsider_at = min(now + LOOK if busy else math.inf, self._caution.deadline(now))
        return [entry for entry in entries if entry is not None]

    def _see_host(self, now: float, wall: datetime) -> Iterator[Entry]:
        suspect = self._caution.suspect(now)
        evidence = {} if suspect is None else self._caution.host_evidence(now)
        for change, fault in self.of_host.see(suspect, evidence, now, wall):
            if change is Change.CLEARED:
                yield self._ended(fault, "", now)
            else:
                self._told(fault.fault_id, "", now)
                yield Entry(change, fault)

    def _see_answering(self, uuid: str, monitor: Watched | None, now: float, wall: datetime) -> Entry | None:
        if monitor is None or not monitor.well(self._caution.acks, now):
            return None
        if self._caution.flaps.flaps(uuid):
            if not self._caution.flaps.quiet(uuid, monitor.last_miss, now):
                return None
            self._caution.flaps.over(uuid)
        return self._clear(uuid, self.open[uuid], self._answering[uuid], now, wall)

    def _see_wanted(
        self,
        uuid: str,
        was: Fault,
        monitor: Watched | None,
        free: Mapping[str, float | None],
        now: float,
        wall: datetime,
    ) -> Entry | None:
        if was.recommended_action == "recover" or was.withheld == "late":
            return None  # asked for; or it does not run at present: its reminders see to it
        if uuid not in free or self._caution.weigh(uuid, now) is not None:  # another one's turn was just now
            withheld = self._caution.weigh(uuid, now) or "brake"
            if withheld == was.withheld:
                return None
            return self._changed(uuid, was, life.no_longer_asked(was, "alarm", withheld, wall), now)
        asked = free[uuid]
        if monitor is None or not monitor.stands or (asked is not None and not monitor.silent_since(asked, now)):
            return None
        return self._changed(uuid, was, self._numbered(uuid, was, life.asked_now(was, wall)), now)

    # -- reminders -------------------------------------------------------------------------------------------------

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
            try:
                entry = self._remind(fault_id, uuid, now, wall, gone, stands)
            except Exception as error:
                self._mishap(uuid or fault_id, error)
                self._told(fault_id, uuid, now)  # not now; it is still owed
                continue
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

    def _tell_no_more(self, fault_ids: Iterable[str]) -> None:
        for fault_id in fault_ids:
            self._remind_at.pop(fault_id, None)

    def _asked(self, was: Fault | None, fault: Fault, now: float) -> None:
        if fault.recovery_attempt > (0 if was is None else was.recovery_attempt):
            uuid = str(fault.instance_uuid)
            self._asked_at[fault.fault_id] = now
            self._ranks[uuid] = max(self._ranks.get(uuid, 0), kind_of(fault.cause).rank)
            self._caution.asked(uuid, fault.cause, now)

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
        over = self._cleared.take(uuid, fault_id)
        if over is not None:
            fault, owed = life.reminded(over[0], wall), over[1]
            if owed:
                self._cleared.add(fault, owed)
                self._told(fault_id, uuid, now)
            return Entry(Change.CLEARED, fault, owed, reminder=True)
        of_host = self.of_host.reminded(fault_id, wall)
        if of_host is not None:
            self._told(fault_id, "", now)
            return Entry(Change.UPDATED, of_host, reminder=True)
        was = self.open.get(uuid)
        if was is None or was.fault_id != fault_id:  # another fault of the same instance took its page
            return None
        died = rests_on(was.cause).does_not_run  # that is what is wrong
        fault = life.reminded(was, wall, late=(gone(uuid) and not died) or uuid in self._answering)
        due = self._again(fault, now) and stands(uuid)
        withheld = self._withheld(uuid, fault, due, now)
        if withheld is not None:
            if due:
                self._anew.add(uuid)
            fault = replace(fault, recommended_action="alarm", withheld=withheld)
        elif due:
            fault = life.asked_again(fault)
        return replace(self._changed(uuid, was, fault, now), reminder=not due and withheld is None)

    def _withheld(self, uuid: str, fault: Fault, due: bool, now: float) -> str | None:
        """What speaks against a recovery that a reminder would ask for: one that was `late`, or the next attempt."""
        asks = fault.recommended_action == "recover" and (due or self.open[uuid].recommended_action != "recover")
        if not asks:
            return None
        if self._barred(uuid, fault, fault.cause):
            return "flapping"
        return self._want(uuid, fault.cause, now, again=True)


def _flapping(finding: Finding) -> Finding:
    """What is told of an instance that flaps: that it does, unless what was found is harder."""
    if kind_of(finding.cause).rank and finding.withheld != "evidence":
        return finding
    withheld = "flapping" if finding.withheld or finding.recommended_action == "recover" else None
    return replace(
        finding,
        cause=str(Cause.FLAPPING),
        severity=str(Severity.WARNING),
        confidence=str(Confidence.HIGH),
        recommended_action="alarm",
        withheld=withheld,
        reason=f"{_COMES_AND_GOES}; now: {finding.reason}",
    )


def _harder(finding: Finding, was: Fault) -> bool:
    """Is it worth a word of whoever is known to flap?"""
    worse = kind_of(finding.cause).rank > kind_of(was.cause).rank and finding.withheld != "evidence"
    return worse or finding.recommended_action == "recover" != was.recommended_action


def _raised(_which: str, error: Exception) -> None:
    raise error


def _waits_for_nova(fault: Fault) -> bool:
    """Is its recovery held so that Nova has its time? Nobody finds it anew after a restart: it does not run."""
    return fault.withheld == "hold" and rests_on(fault.cause) is Ground.LOST


def in_words(entry: Entry) -> str:
    """A change of a fault as a line of the log. Display names are tenants' text: escaped."""
    fault = entry.fault
    if fault.instance_uuid is None:
        return f"host {fault.host}: fault {fault.fault_id} {entry.change.name.lower()}: {fault.cause}, {fault.reason}"
    name = f" ({fault.display_name[:64]!r})" if fault.display_name else ""
    what = f"instance {fault.instance_uuid}{name}: fault {fault.fault_id} {entry.change.name.lower()}"
    if fault.resolution is not None:
        return f"{what}: was {fault.cause}; {fault.reason} ({fault.resolution})"
    withheld = f" (withheld: {fault.withheld})" if fault.withheld else ""
    asked = f"recommended: {fault.recommended_action}{withheld}"
    return f"{what}: {fault.cause} ({fault.confidence} confidence), {fault.reason}; {asked}"
