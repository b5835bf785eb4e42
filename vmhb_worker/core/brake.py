"""The brake: many instances of one host falling silent together say more about the host than about themselves.

It trips on the first misses, before any recovery can leave, and says why; who is held back by it is `caution`'s. Pure:
times are monotonic seconds. It must not know what a fault is, or how an instance is asked.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Suspects are of one wave where they fell silent no further apart than this (seconds): a storage's time-outs, after
#: which guests stop one after the other, are half as long.
WAVE = 60.0
#: … or than so many of the longest interval: of guests that stop together, the last is asked one interval after the
#: first, and a beat or two may have been void.
WAVE_INTERVALS = 3.0
#: … however long the intervals are: who died ten minutes ago is no part of what happens now.
LONGEST_WAVE = 600.0
#: It ends when fewer than this share are suspects, or only one is, or all of them are one project's, …
RELEASE_RATIO = 0.25
#: … for this long (seconds): hosts that stalled once often stall again.
CALM = 60.0
#: After this long (seconds) the suspects are not coming back by themselves: they are recovered one by one.
LONGEST = 900.0
#: … and it ends for good after this (seconds), should one of them still wait for its turn.
LAST = 4500.0


class Braking(enum.Enum):
    """What it does."""

    OFF = "off"
    ON = "on"
    PACED = "one recovery at a time"


@dataclass(frozen=True, slots=True)
class Member:
    """One monitored instance, as the brake sees it.

    project: None where the domain does not tell. since: when the first challenge left that it did not answer, of one
    that is suspected or silent in a way that a host's trouble explains; None of one that is not. answered_at: its last
    acknowledgement. interval: seconds.
    """

    project: str | None
    since: float | None
    answered_at: float | None
    interval: float


@dataclass(frozen=True, slots=True)
class Crowd:
    """Those of one wave.

    judged: the suspects, and whoever has answered since the first of them was asked in vain. since: when that was.
    known: all there are.
    """

    suspects: int = 0
    judged: int = 0
    since: float = math.inf
    #: Those without the project that has the most suspects; None where there is one project only.
    others: tuple[int, int] | None = None
    known: int = 0

    def reaches(self, ratio: float, count: int) -> bool:
        """Is it a host's trouble? Not the doing of one project alone, unless the host has only one.

        A tenant can silence all that he has: so the ratio must hold among the others, too.
        """
        if self.suspects < count or self.suspects < ratio * self.judged:
            return False
        if self.others is None:
            return True
        suspects, judged = self.others
        return suspects > 0 and suspects >= ratio * judged

    @property
    def calm(self) -> bool:
        """Is it over, if that lasts?"""
        if not self.judged:
            return not self.known  # nobody is known to be well
        if self.suspects <= 1 or self.suspects < RELEASE_RATIO * self.judged:
            return True
        # As it takes more than one project to trip it, so it does to hold it.
        return self.others is not None and (self.others[0] == 0 or self.others[0] < RELEASE_RATIO * self.others[1])


class Brake:
    """Of one host. Belongs to one thread."""

    def __init__(self, ratio: float, count: int) -> None:
        """ratio, count: see the options `brake_ratio` and `brake_count`."""
        self._ratio = ratio
        self._count = count
        self._since: float | None = None  # when it tripped
        self._wave = -math.inf  # who fell silent before this is no part of it
        self._calm_since: float | None = None
        self.crowd = Crowd()

    def limit(self, ratio: float, count: int) -> None:
        """Other numbers, from the next look on. One that is on ends as it would have."""
        self._ratio, self._count = ratio, count

    def state(self, now: float) -> Braking:
        """What it does now."""
        if self._since is None:
            return Braking.OFF
        return Braking.ON if now < self._since + LONGEST else Braking.PACED

    def resume(self, since: float) -> None:
        """It was on when the worker ended: it has tripped then."""
        self._since = self._wave = since

    def release(self, now: float) -> None:
        """An operator ends it. Those who are suspects now do not trip it again."""
        self._since, self._calm_since, self._wave = None, None, now

    def look(self, members: Sequence[Member], now: float) -> bool:
        """Who is suspected now? True where it has tripped, or ended, just now. Once for each change will do, and once a
        second while it is on."""
        was_on = self._since is not None
        if was_on:
            self.crowd = crowd(members, self._wave)
            self._see_calm(now)
        else:
            self.crowd = crowd(members, max(self._wave, now - _wave_of(members)))
            if self.crowd.reaches(self._ratio, self._count):
                self._since, self._wave, self._calm_since = now, self.crowd.since, None
        return was_on is not (self._since is not None)

    def _see_calm(self, now: float) -> None:
        if self._since is None or now >= self._since + LAST:
            self.release(now)
        elif not self.crowd.calm:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now >= self._calm_since + CALM:
            self._since = self._calm_since = None
            self._wave = now


def crowd(members: Iterable[Member], wave: float) -> Crowd:
    """Count those that fell silent since `wave`, and whoever has answered since the first of them did."""
    members = list(members)
    silent = [(member.since, member.project) for member in members if member.since is not None and member.since >= wave]
    first = min((since for since, _ in silent), default=-math.inf)
    answer = Counter(member.project for member in members if _answered(member, first))
    suspects = Counter(project for _, project in silent)
    total, judged = suspects.total(), suspects.total() + answer.total()
    if not suspects:
        return Crowd(0, judged, known=len(members))
    biggest, most = suspects.most_common(1)[0]
    alone = len({member.project for member in members}) == 1
    others = None if alone else (total - most, judged - most - answer[biggest])
    return Crowd(total, judged, first, others, len(members))


def _answered(member: Member, first: float) -> bool:
    return member.since is None and member.answered_at is not None and member.answered_at >= first


def _wave_of(members: Iterable[Member]) -> float:
    longest = max((member.interval for member in members), default=0.0)
    return min(max(WAVE, WAVE_INTERVALS * longest), LONGEST_WAVE)
