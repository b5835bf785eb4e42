"""When an application need not answer, because it said so: it leaves on purpose, or rests for a while.

Each is asked for, and granted or refused; what is granted is told, and stored. The operator's ceiling bounds how long
a guest may rest in a day, and `LEAVES` how often it may ask. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vmhb_common.model.fault import REASON_LIMIT
from vmhb_worker.core.instance_state import Absence, Spell
from vmhb_worker.core.protocol import Code, Error, Goodbye, Maintenance, Notice
from vmhb_worker.core.silences import Silence

#: The silences that an application asks for itself.
GOODBYE, MAINTENANCE = "goodbye", "maintenance"
#: Maintenance is counted over so many seconds.
DAY = 86400.0
#: A guest may leave or rest so often within an hour: each time is told, and stored.
LEAVES, HOUR = 10, 3600.0


@dataclass(frozen=True, slots=True)
class Leave:
    """Granted. told: for everybody; notice: for the guest."""

    key: str
    silence: Silence
    told: str
    notice: Notice | None = None


class Maintenances:
    """How long a guest was in maintenance of late, against the operator's ceiling."""

    __slots__ = ("_spells", "ceiling")

    def __init__(self, ceiling: float, spells: tuple[Spell, ...]) -> None:
        self.ceiling = ceiling
        self._spells = list(spells)

    @property
    def spells(self) -> tuple[Spell, ...]:
        """Those that count, oldest first."""
        return tuple(self._spells)

    @property
    def until(self) -> float:
        """When the last one ends, or has ended."""
        return self._spells[-1].until if self._spells else -math.inf

    def left(self, now: float) -> float:
        """Seconds that may be asked for now."""
        self._spells = [spell for spell in self._spells if spell.until > now - DAY]
        used = sum(min(spell.until, now) - max(spell.began, now - DAY) for spell in self._spells)
        return max(0.0, self.ceiling - used)

    def begin(self, seconds: float, now: float) -> float:
        """Asked for: how many seconds are granted, in place of what is left of an earlier one. 0: none."""
        granted = min(seconds, self.left(now))
        if granted > 0:
            self.end(now)
            self._spells.append(Spell(now, now + granted))
        return granted

    def end(self, now: float) -> None:
        """It is over before its time."""
        if self._spells:
            last = self._spells.pop()
            self._spells.append(replace(last, until=min(last.until, now)))
            if self._spells[-1].until <= self._spells[-1].began:
                self._spells.pop()


class Leaves:
    """Of one instance. left: its goodbye's reason, None where it is expected. away: it was told, for whatever reason,
    that it is not watched, and not yet that it is again. overrun: its maintenance is over, and it has not answered
    since.
    """

    __slots__ = ("_asked", "away", "left", "maintenance", "overrun")

    def __init__(self, ceiling: float, absence: Absence) -> None:
        """absence: what an earlier life of the worker had granted."""
        self.left = absence.left
        self.maintenance = Maintenances(ceiling, absence.spells)
        self.overrun, self.away = False, absence.away
        self._asked: list[float] = []  # when it left or rested, of late

    @property
    def absence(self) -> Absence:
        """What must outlive the worker."""
        return Absence(self.left, self.maintenance.spells, self.away)

    def resumed(self, now: float) -> dict[str, Silence]:
        """The silences that an earlier life of the worker had granted."""
        resumed = {}
        if self.left is not None:
            resumed[GOODBYE] = goodbye(self.left)
        if self.maintenance.until > now:
            resumed[MAINTENANCE] = _maintenance("", self.maintenance.until)
        self.away = self.away or bool(resumed)
        return resumed

    def goodbye(self, asked: Goodbye, now: float) -> Leave | Error:
        """It leaves on purpose."""
        refusal = self._too_often("goodbye", now)
        if refusal is not None:
            return refusal
        self.left, self.away = asked.reason, True
        silence = goodbye(asked.reason)
        return Leave(GOODBYE, silence, silence.reason)

    def rest(self, asked: Maintenance, now: float) -> Leave | Error:
        """It need not answer for so many seconds: as many as are left of the operator's ceiling."""
        refusal = self._too_often("maintenance", now)
        if refusal is not None:
            return refusal
        granted = self.maintenance.begin(asked.seconds, now)
        if granted <= 0:
            ceiling = self.maintenance.ceiling
            return refused("maintenance", f"all of [policy] max_maintenance ({ceiling:g} s) is used")
        self.away = True
        silence = _maintenance(asked.reason, now + granted)
        return Leave(MAINTENANCE, silence, f"{silence.reason}, for {granted:.0f} s", Notice(MAINTENANCE, granted))

    def back(self) -> None:
        """It has not left, or whoever said so is not there any more."""
        self.left = None

    def _too_often(self, what: str, now: float) -> Error | None:
        """A refusal, if it has asked too often of late. Counts."""
        self._asked = [at for at in self._asked if at > now - HOUR]
        if len(self._asked) >= LEAVES:
            return refused(what, f"asked for {LEAVES} times within the hour")
        self._asked.append(now)
        return None


def long_silence(lasted: float, reasons: Iterable[str]) -> str:
    """What is told of a silence that goes on and on."""
    return f"not judged for {lasted / 60:.0f} min by now: {'; '.join(reasons)}"[:REASON_LIMIT]


def refused(what: str, why: str) -> Error:
    """Understood, and not granted."""
    return Error(str(Code.REFUSED), f"{what}: {why}")


def goodbye(reason: str) -> Silence:
    """Of an application that has left."""
    return Silence(f"the application said goodbye: {reason!r}", None, ask=True)


def _maintenance(reason: str, until: float) -> Silence:
    return Silence(f"maintenance, asked for by the guest: {reason!r}", until, ask=True)
