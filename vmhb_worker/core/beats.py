"""When an instance is challenged, and which of its beats have been missed.

A *beat* is a point on the instance's schedule. It ends acked, missed or skipped. Missed: for the whole of its time-out
one of our requests was with the guest and brought no answer. Skipped: we did not get to ask, or cannot be sure that we
did. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

from vmhb_common.model.policy import MIN_AGENT_INTERVAL

#: A request that ended without an answer and was followed by the next one this soon (seconds) counts as one long
#: request: so long it may take to pass through our lanes. No longer than half of the time-out, most of which it must
#: have been with the guest.
SAME_SPAN = 0.5
#: A beat is missed only if libvirtd answered a question put to it no longer ago than this (seconds): else nobody was
#: asked. libvirtd is heard twice a second at least when all is well, whatever the policy; and half as much again.
FRESH = 0.75
#: How long to wait for libvirtd to show that it lives (seconds), before the beat is skipped: until the next one, at the
#: shortest interval that an agent can have.
DOUBT = MIN_AGENT_INTERVAL
#: Meanwhile it is looked so often (seconds).
RECHECK = 0.1
#: A beat that is opened later than this (seconds) is none: with the next one it would count as two in a row too soon.
#: Nor one that is later than half of its interval, where that is less.
TARDY = 0.5
#: No request is with the guest for longer than this (seconds): one that is out for longer waits for somebody else's
#: command. The longest time-out that we give libvirt (10), its own for coming to terms with an agent (5), and 2 for us.
LONGEST_REQUEST = 17.0
#: Doubt saves so many beats of a guest in a row, then it is judged in spite of it, until it answers: trouble that comes
#: and goes is waited for, and trouble that stays hides nobody's death.
IN_A_ROW = 3

#: Silent instances are still challenged: every 2, 4, 8 … intervals, up to so many of them.
BACK_OFF_FACTOR = 10.0
#: And up to so many seconds.
BACK_OFF_CEILING = 60.0


def stagger(uuid: str, interval: float) -> float:
    """A first beat's delay, 0 … interval, the same for one instance at every start: no herd after a restart."""
    return interval * (zlib.crc32(uuid.encode()) / 2**32)


def back_off(interval: float, attempt: int) -> float:
    """Seconds until a silent instance is challenged again after the attempt of this number (0, 1, 2 …)."""
    return min(interval * 2.0 ** min(attempt + 1, 16), longest_back_off(interval))


def longest_back_off(interval: float) -> float:
    """Seconds between two challenges of a silent instance, at last."""
    return max(interval, min(BACK_OFF_FACTOR * interval, BACK_OFF_CEILING))


@dataclass(slots=True)
class Judged:
    """How many beats were found missed and skipped. in_spite: of a doubt that has saved enough of them. held: libvirt
    does not give a request back, though it answers otherwise.
    """

    missed: int = 0
    skipped: int = 0
    in_spite: bool = False
    held: bool = False


#: As it is nearly always.
NOTHING = Judged()


class Beats:
    """The beats of one instance. Pure; belongs to its monitor."""

    __slots__ = (
        "_asked_since",
        "_doubted_at",
        "_doubts",
        "_ended",
        "_late",
        "_left",
        "_longest_request",
        "_open",
        "_recheck",
        "interval",
        "next_at",
        "timeout",
    )

    def __init__(self, interval: float, timeout: float, first: float, longest_request: float = LONGEST_REQUEST) -> None:
        """first: when the first beat is due. longest_request: what is out for longer waits for somebody else."""
        self._longest_request = longest_request
        self.interval = interval
        self.timeout = timeout
        self.next_at = first
        self._open: list[float] = []  # few: a deque would take half a kilobyte of each instance
        self._asked_since: float | None = None  # since when requests of ours have been out without an answer
        self._left = 0.0  # when the last of them left
        self._ended: float | None = None  # when the last of them ended, None while one is out
        self._recheck: float | None = None
        self._late = 0  # beats that we slept through ourselves
        self._doubts = 0  # that have saved a beat since the guest answered
        self._doubted_at = -math.inf

    def open_due(self, now: float) -> bool:
        """Open the beat that has come due; True if one did: the guest is to be asked. The belated are skipped."""
        if now < self.next_at:
            return False
        if not self._tardy(now):
            self._open.append(self.next_at)
            self.next_at += self.interval
        elif self._doubtful(self.next_at, now):
            behind = self._next_after(now)
            self._late += behind
            self.next_at += behind * self.interval
        else:  # the next one comes a whole interval later, so that the two are not too soon
            self._open.append(now)
            self.next_at = now + self.interval
        return True

    def asked(self, now: float) -> None:
        """A request left."""
        if self._asked_since is None or self._gap(now):
            self._asked_since = now
        self._left = now
        self._ended = None

    def unanswered(self, now: float) -> None:
        """The request ended: the guest was silent through all of it."""
        self._ended = now

    def not_asked(self) -> None:
        """The request ended without telling anything about the guest."""
        self._asked_since = self._ended = None

    def acked(self) -> None:
        """The guest answered: every open beat is saved, however late the answer came."""
        self._doubts = 0
        self._open.clear()
        self.not_asked()

    def void(self, now: float) -> None:
        """What was seen so far does not count; a request that is out counts from now on."""
        self._open.clear()
        self._recheck = None
        self._late = 0
        if self._asked_since is not None:
            if self._ended is None:
                self._asked_since = now
            else:
                self.not_asked()

    def doubt(self, since: float, now: float) -> bool:
        """Between these times, we or libvirtd were not there: void. False: not any more, what is open counts."""
        saved = self._doubtful(since, now) if self._open else self._doubts < IN_A_ROW
        if saved:
            self.void(now)
        return saved

    def catch_up(self, now: float) -> None:
        """Beats that came due while nobody was to be judged are none, neither missed nor skipped."""
        if self._tardy(now):
            self.next_at += self._next_after(now) * self.interval

    def refused(self) -> int:
        """The guest answered, but not with an acknowledgement: its open beats are missed. How many those are."""
        missed = len(self._open)
        self._open.clear()
        self.not_asked()
        return missed

    def quicken(self, interval: float, timeout: float, now: float) -> None:
        """Other times are in force; the next beat is no further off than they say."""
        self.interval, self.timeout = interval, timeout
        self.next_at = min(self.next_at, now + interval)

    def due(self, now: float) -> bool:
        """Is the time of a beat over? Then everything that can be known is to be known."""
        return bool(self._open) and now >= self._due(self._open[0])

    @property
    def owed(self) -> bool:
        """Is there a beat that waits for its answer?"""
        return bool(self._open)

    def restart(self, now: float, delay: float) -> None:
        """Void, and let the next beat be `delay` seconds from now."""
        self.void(now)
        self.next_at = now + delay

    def judge(self, now: float, heard: float, pressed: float = math.inf) -> Judged:
        """Find the beats whose time is over. heard: see `Tick`. pressed: since when the host is under pressure."""
        self._recheck = None
        if self._gap(now):
            self.not_asked()
        if not self._late and not self.due(now):
            return NOTHING
        judged = Judged(skipped=self._late)
        self._late = 0
        while self._open:
            due = self._due(self._open[0])
            if now < due:
                break
            if self._asked_since is None or (self._ended is None and due > self._left + self._longest_request):
                judged.skipped += 1
                judged.held = self._asked_since is not None and heard >= due - FRESH
            elif heard >= due - FRESH:
                covered = pressed <= due - self.timeout
                if covered and self._doubtful(now, now):
                    judged.skipped += 1
                else:
                    judged.missed += 1
                    judged.in_spite = judged.in_spite or covered
            elif now < due + DOUBT or not self._doubtful(heard, now):
                self._recheck = now + RECHECK
                break
            else:
                judged.skipped += 1
            del self._open[0]
        return judged

    def deadline(self) -> float:
        """When to look again."""
        if not self._open:
            return self.next_at
        return min(self.next_at, self._recheck or self._due(self._open[0]))

    def _doubtful(self, since: float, now: float) -> bool:
        """May a beat be saved once more by a doubt that began then? One is as good as long as it lasts."""
        if since < self._doubted_at:
            return True
        if self._doubts >= IN_A_ROW:
            return False
        self._doubts += 1
        self._doubted_at = now
        return True

    def _tardy(self, now: float) -> bool:
        late = now - self.next_at
        return late > TARDY or late > self.interval / 2

    def _gap(self, now: float) -> bool:
        """Has nobody been asked for too long to go on counting as one request?"""
        return self._ended is not None and now - self._ended > min(SAME_SPAN, self.timeout / 2)

    def _next_after(self, now: float) -> int:
        """How many beats are due before the first one that is not."""
        return int((now - self.next_at) / self.interval) + 1

    def _due(self, beat: float) -> float:
        since = beat if self._asked_since is None else max(beat, self._asked_since)
        return since + self.timeout
