"""May a recovery be asked for now, of an instance that is found dead? What speaks against it is what this host, or the
instance's own past, says; that the instance is dead was decided before.

In this order, the first that has a word for it withholds the recovery: the brake (many at once, or a host that is
doubtful itself), the hold (whoever may come back by itself has a moment to do so), the budget. Positive evidence, that
is QEMU's end or a panic that was told, passes brake and hold: waiting does not revive those. Only a guest that panicked
and came back by itself within ten minutes is held: it boots anew after each panic.

Pure: times are monotonic seconds. It must not know how a fault is stored or told.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vmhb_common.model.causes import Cause, Ground, rests_on
from vmhb_worker.core.brake import Brake, Braking, Member
from vmhb_worker.core.flapping import RAISES, Flaps

#: The hold is the longest interval on the host, within these bounds (seconds): by then a host's trouble has shown in
#: others, too.
HOLD = (5.0, 60.0)
#: While the brake lets recoveries through one by one, this is between two of them (seconds).
PACE = 60.0
#: So often it is looked again at what is withheld (seconds).
LOOK = 1.0
#: What the evidence of a suspect host calls the number of suspects, where the brake has tripped.
BRAKED = "suspects"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a cause means to us. crowd: a host's trouble looks like this.

    grace: seconds that it must have lasted, where that is longer than the hold. waited: it did so before its verdict
    asked for a recovery. rank: 0, or how hard it is: such a one is told, and recovered once, in spite of flapping,
    unless one as hard was.
    """

    crowd: bool = False
    grace: float = 0.0
    waited: bool = False
    rank: int = 0


#: Every cause has a row. Those that never ask for a recovery have one for the crowd's sake.
KINDS: dict[Cause, Kind] = {
    Cause.QEMU_FAILED: Kind(rank=3),
    # Nova itself starts again what ran, where resume_guests_state_on_host_boot says so: it has its time for that.
    Cause.HOST_LOST_POWER: Kind(grace=120.0, rank=3),
    Cause.GUEST_PANICKED: Kind(rank=2),
    Cause.QEMU_HUNG: Kind(crowd=True, waited=True, rank=1),  # `verdict.STANDS_STILL`
    Cause.GUEST_HUNG: Kind(crowd=True, rank=1),
    Cause.AGENT_UNRESPONSIVE: Kind(crowd=True),
    Cause.GUEST_SILENT: Kind(crowd=True),
    # These are about one application: many of one image fail together, on a host that is well.
    Cause.APPLICATION_UNHEALTHY: Kind(),
    Cause.APPLICATION_UNRESPONSIVE: Kind(),
    Cause.AGENT_EXITED: Kind(),
    Cause.FILE_SYSTEMS_FROZEN: Kind(),
    Cause.MAINTENANCE_OVERDUE: Kind(),
    Cause.NOT_ESTABLISHED: Kind(),
    Cause.ASLEEP: Kind(),
    # Its host's trouble, if any is.
    Cause.STARVED: Kind(crowd=True),
    Cause.FLAPPING: Kind(),
    # It is told in spite of flapping: whoever comes and goes on broken memory is no mere flapper.
    Cause.MEMORY_FAILURE: Kind(rank=4),
    # QEMU says so itself; no recovery is asked for.
    Cause.PAUSED_IO_ERROR: Kind(),
    Cause.PAUSED_FAILED: Kind(),
    # libvirt does not know, and so it is nobody's to recover.
    Cause.STOPPED_UNEXPLAINED: Kind(),
    # About a host.
    Cause.HOST_SUSPECT: Kind(),
    Cause.WORKER_LOST: Kind(),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator decided: see the options of the same names, in seconds.

    hold: the least and the longest. raises: see `flapping`. acks: so many in a row, over two intervals at least, end a
    fault that asked for a recovery, or came back.
    """

    brake_ratio: float = 0.5
    brake_count: int = 3
    recoveries: int = 3
    recovery_window: float = 3600.0
    hold: tuple[float, float] = HOLD
    raises: int = RAISES
    acks: int = 3


#: Nothing is withheld, and one answer is enough: whoever asks about verdicts alone.
NONE = Limits(brake_ratio=1.0, brake_count=10**9, recoveries=10**6, hold=(0.0, 0.0), raises=10**9, acks=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A recovery that an instance's verdict asks for. since: when it first did, for this cause.

    turn: its place in the line of those that the brake lets through one by one. asked: it was asked for. braked: it was
    held back by the brake: what was found before is to be found again. verifying_since: it is being. again: its
    instance came back by itself of late, and may again.
    """

    cause: str
    since: float
    turn: float
    asked: bool = False
    again: bool = False
    braked: bool = False
    verifying_since: float | None = None


def kind_of(cause: str) -> Kind:
    """Its row. A cause that only a newer worker knows is no crowd, and not hard."""
    return KINDS[Cause(cause)] if cause in set(Cause) else Kind()


def revives(cause: str) -> bool:
    """May its guest come back by itself? Not one of which there is positive evidence that it is dead."""
    return rests_on(cause) not in (Ground.GONE, Ground.TOLD)


def to_be_asked_anew(cause: str) -> bool:
    """Does its guest not answer, so that another challenge can tell whether that is still so?"""
    ground = rests_on(cause)
    return not (ground.does_not_run or ground is Ground.OWN_WORD)


class Caution:
    """Of one host. Belongs to one thread."""

    def __init__(self, limits: Limits = NONE) -> None:
        self._limits = limits
        self.acks = limits.acks
        self.flaps = Flaps(limits.raises)
        self.brake = Brake(limits.brake_ratio, limits.brake_count)
        self._doubtful: str | None = None
        self._hold = limits.hold[0]
        self._paced_at = -math.inf
        self._wanted: dict[str, Wanted] = {}
        self._spent: dict[str, deque[float]] = {}

    def limit(self, limits: Limits) -> None:
        """What the operator decided meanwhile. What was asked for counts, as far as that is remembered: `recoveries` of
        each."""
        self._limits, self.acks = limits, limits.acks
        self.brake.limit(limits.brake_ratio, limits.brake_count)
        self._spent = {uuid: deque(spent, maxlen=limits.recoveries) for uuid, spent in self._spent.items()}

    # -- the host ------------------------------------------------------------------------------------------------

    def look(self, members: Sequence[Member], doubtful: str | None, now: float) -> None:
        """How the instances are, and why we should not be believed at all, if so: see `Doubt.at_bound`."""
        least, longest = self._limits.hold
        self._hold = min(max(least, max((member.interval for member in members), default=least)), longest)
        self._doubtful = doubtful
        self.brake.look(members, now)

    def suspect(self, now: float) -> str | None:
        """Why this host is suspect now, as a sentence; None: it is not."""
        if self.brake.state(now) is not Braking.OFF:
            crowd = self.brake.crowd
            return f"{crowd.suspects} of its {crowd.judged} instances that are judged fell silent together"
        return self._doubtful

    def host_evidence(self, now: float) -> dict[str, Any]:
        """What that rests on, as the evidence of a notification."""
        if self.brake.state(now) is Braking.OFF:
            return {"awareness": {"value": self._doubtful, "age": 0.0}}
        crowd = self.brake.crowd
        return {BRAKED: {"value": crowd.suspects, "age": 0.0}, "judged": {"value": crowd.judged, "age": 0.0}}

    # -- an instance ---------------------------------------------------------------------------------------------

    def want(self, uuid: str, cause: str, now: float, again: bool = False) -> str | None:
        """Its verdict asks for a recovery, for this cause. `withheld` of the notification; None: ask for it now.

        again: one that was asked for did not come about, or did not help. A cause that is new
        begins its own hold: a QEMU that goes on is no dead one any more.
        """
        was = self._wanted.get(uuid)
        if was is None or was.cause != cause:
            back = self.flaps.again(uuid, now)
            was = Wanted(cause, now, now, again=back, braked=was is not None and was.braked and to_be_asked_anew(cause))
        self._wanted[uuid] = replace(was, asked=was.asked and not again)
        return self.weigh(uuid, now)

    def resume(self, uuid: str, cause: str, braked: bool, now: float) -> None:
        """Its recovery was withheld when the worker ended."""
        self._wanted[uuid] = Wanted(cause, now, now, braked=braked and to_be_asked_anew(cause))

    def unwant(self, uuid: str) -> None:
        """None is asked for any more."""
        self._wanted.pop(uuid, None)

    def wanted(self, uuid: str) -> bool:
        """Does its verdict ask for a recovery, whether or not that is withheld?"""
        return uuid in self._wanted

    def weigh(self, uuid: str, now: float) -> str | None:
        """What withholds the recovery that is wanted now; None: nothing does, of us."""
        wanted = self._wanted[uuid]
        if wanted.asked:
            return None
        if revives(wanted.cause) and self._braked(now):
            self._wanted[uuid] = replace(wanted, braked=to_be_asked_anew(wanted.cause), verifying_since=None)
            return "brake"
        if now < self._held_until(wanted):
            return "hold"
        return "budget" if self._used_up(uuid, now) else None

    def to_verify(self, now: float) -> list[str]:
        """Whose recovery was held back by the brake, and is not any more: they are to be asked anew, from now on."""
        paced = self.brake.state(now) is Braking.PACED
        begun: list[str] = []
        for uuid, wanted in sorted(self._wanted.items(), key=lambda item: item[1].turn):
            if not wanted.braked or wanted.asked or self.weigh(uuid, now) is not None:
                continue
            since = wanted.verifying_since
            if since is None:
                self._wanted[uuid] = replace(wanted, verifying_since=now)
                begun.append(uuid)
            elif paced and now >= since + PACE:  # who cannot be asked keeps nobody else from it
                self._wanted[uuid] = replace(wanted, turn=now, verifying_since=None)
                continue
            if paced:  # one at a time
                break
        return begun

    def released(self, now: float) -> list[tuple[str, float | None]]:
        """Whose recovery nothing of ours withholds; since when it has been asked anew, where it has to be."""
        free = [(uuid, wanted) for uuid, wanted in self._wanted.items() if self.weigh(uuid, now) is None]
        free = [(uuid, wanted) for uuid, wanted in free if not wanted.braked or wanted.verifying_since is not None]
        return [(uuid, wanted.verifying_since) for uuid, wanted in free]

    def deadline(self, now: float) -> float:
        """When it is to be looked again at those that wait."""
        waiting = [wanted for wanted in self._wanted.values() if not wanted.asked]
        if not waiting:
            return math.inf
        return min([now + LOOK, *(at for at in map(self._held_until, waiting) if at > now)])

    def _braked(self, now: float) -> bool:
        braking = self.brake.state(now)
        if braking is Braking.OFF:
            return self._doubtful is not None
        return braking is Braking.ON or now < self._paced_at + PACE

    def _held_until(self, wanted: Wanted) -> float:
        longest = self._limits.hold[1]
        if not longest:
            return wanted.since
        if kind_of(wanted.cause).waited:
            return wanted.since
        hold = max(self._hold, kind_of(wanted.cause).grace) if revives(wanted.cause) else 0.0
        return wanted.since + max(hold, longest if wanted.again and wanted.cause != Cause.QEMU_FAILED else 0.0)

    def _used_up(self, uuid: str, now: float) -> bool:
        spent = self._spent.get(uuid, ())
        return sum(at > now - self._limits.recovery_window for at in spent) >= self._limits.recoveries

    def asked(self, uuid: str, cause: str, now: float) -> None:
        """A recovery of it was asked for, by this life of the worker or the one before."""
        if revives(cause):
            self._paced_at = now
        if uuid in self._wanted:
            self._wanted[uuid] = replace(self._wanted[uuid], asked=True, braked=False, verifying_since=None)
        self._spent.setdefault(uuid, deque(maxlen=self._limits.recoveries)).append(now)

    def remembers(self, uuid: str) -> bool:
        """Is it known that its recovery was asked for?"""
        return uuid in self._spent

    def tidy(self, now: float) -> None:
        """Forget what is out of its window."""
        self.flaps.tidy(now)
        window = now - self._limits.recovery_window
        self._spent = {uuid: spent for uuid, spent in self._spent.items() if spent[-1] > window}
