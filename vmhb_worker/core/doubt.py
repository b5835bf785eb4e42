"""Doubt in ourselves before anyone is accused: were we there, did libvirtd pass on what we asked, could the host?

Whoever was not there has seen nothing: the beats that are open meanwhile do not count. But doubt saves a guest's beats
three times in a row at most (`beats.IN_A_ROW`), and doubt that does not end is told (`Doubt.at_bound`): a host that is
always in trouble still reports its dead. Pure: time is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from vmhb_common.model.policy import KNOB, Channel, HeartbeatPolicy
from vmhb_worker.core.beats import FRESH, IN_A_ROW
from vmhb_worker.core.events import Silenced, Voided
from vmhb_worker.core.host_pressure import Counted, HostPressure, Strain

#: Later than this at a deadline (seconds), we were not there ourselves: the host stalled, or we were stopped. Half of
#: the time-out, where that is less: so much of it at least must be left for whoever is to answer and for us to hear it.
LATE = 0.5
#: libvirtd that shows no life for longer than this (seconds) did not pass on our challenges either. Twice the time-out,
#: where that is less, since it may have held the challenge back on its way there and the answer on its way back; but no
#: sooner than `FRESH`: it is heard twice a second at least when all is well.
STALL = 2.0
#: Without any doubt for so long (seconds), it is over: the longest that a challenge and its evidence take under the
#: default policy, and so what a guest is judged by is all from after it.
QUIET = 60.0
#: A libvirtd that is connected and has been silent for so long (seconds) stays so: one that is frozen is found to be
#: away after 16 s (keepalive), this one has all its workers taken.
MUTE = 20.0
#: A clock that is disciplined gains or loses less than this (seconds) between two looks at the host: more is a step.
CLOCK_SET = 1.0
#: libvirt is away: nothing is known, nothing is asked.
AWAY = Silenced("hypervisor", "libvirt is away")


def late_beyond(timeout: float) -> float:
    """To be late by more than this (seconds) matters to an instance with this time-out."""
    return min(LATE, timeout / 2)


def stall_beyond(timeout: float) -> float:
    """That libvirtd was silent for longer than this (seconds) matters to an instance with this time-out."""
    return min(STALL, max(FRESH, 2 * timeout))


#: The least of each that can matter to anybody.
_LEAST_LATE = late_beyond(KNOB["timeout"].minimum or 0.0)
_LEAST_STALL = stall_beyond(KNOB["timeout"].minimum or 0.0)


@dataclass(frozen=True, slots=True)
class Doubted:
    """What was seen of late says nothing about some instances, and `event` is for the monitors of those.

    beyond: from the time-out of an instance, how long it must have lasted to matter to that one.
    """

    event: Voided
    channels: frozenset[Channel]
    beyond: Callable[[float], float]

    def concerns(self, policy: HeartbeatPolicy) -> bool:
        """Is an instance of this policy one of them?"""
        return policy.channel in self.channels and self.event.lasted > self.beyond(policy.timeout)


class Doubt:
    """Of one worker. Belongs to one thread; times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        #: When the newest question that libvirtd has answered was put to it.
        self.heard = -math.inf
        #: Since when we have known everything that was reported until then.
        self.looked_at = now
        self.connected = False
        self._there_since = -math.inf  # before, we were not: what libvirtd did meanwhile cannot be told
        self._host = HostPressure()
        #: When the host's wall clock was last seen to have been set.
        self.clock_set = -math.inf
        self._clock: float | None = None  # what it says when ours says 0
        self._row = 0  # of doubts, with no quiet spell between any two
        self._last_at = -math.inf
        self._last_why = ""

    def late(self, deadline: float, now: float) -> float:
        """We look again, and meant to at this deadline: so many seconds late, 0 where that matters to nobody."""
        late = now - max(deadline, self.looked_at)
        self.looked_at = now
        if late <= _LEAST_LATE:
            return 0.0
        if late > LATE:  # what matters only to those with the shortest time-outs says nothing against the host
            self._there_since = now
            self._again(f"the worker was {late:.1f} s late", now)
        return late

    def up(self, now: float) -> None:
        """libvirtd has just told all that there is."""
        self.connected = True
        self.heard = now

    def down(self) -> None:
        """It is not connected to: whether it is silent cannot be told, and is no matter."""
        self.connected = False

    def answered(self, asked_at: float) -> Doubted | None:
        """libvirtd answered the question put to it then: was it silent for too long before?"""
        since = self.heard
        silent = asked_at - since
        self.heard = max(self.heard, asked_at)
        if not self.connected or silent <= _LEAST_STALL:
            return None
        reason = f"libvirtd was silent for {silent:.1f} s"
        if asked_at - max(since, self._there_since) > STALL:  # else it was us, which has been counted
            self._again(reason, asked_at)
        # What was out meanwhile may not have reached its guest before now.
        return Doubted(Voided(reason, since, silent), frozenset({Channel.AGENT}), stall_beyond)

    def counted(self, counts: Counted) -> Strain:
        """The host was looked at: how hard pressed is it?"""
        strain = self._host.counted(counts)
        if strain.why:
            self._again(strain.why, counts.at)
        return strain

    def clock(self, wall: float, now: float) -> None:
        """What the host's wall clock says now (seconds)."""
        was, self._clock = self._clock, wall - now
        step = 0.0 if was is None else self._clock - was
        if abs(step) > CLOCK_SET:
            self.clock_set = max(self.clock_set, now) + max(0.0, -step)

    def host(self, now: float) -> Strain:
        """How hard pressed the host is now, as far as is known."""
        return self._host.strain(now)

    def at_bound(self, now: float) -> str | None:
        """Why this host is suspect now, in one sentence; None while it is not.

        It is from the third doubt in a row on, until there has been none for `QUIET`; and while libvirtd has been
        silent for longer than `MUTE`. Nobody is to be recovered meanwhile: who is judged dead is told, as an alarm.
        """
        silent = now - max(self.heard, self._there_since)
        if self.connected and silent > MUTE:
            return f"libvirtd has been silent for {silent:.0f} s"
        if self._row < IN_A_ROW or now - self._last_at >= QUIET:
            return None
        return f"there was reason to doubt this host {self._row} times in a row, at last: {self._last_why}"

    def _again(self, why: str, now: float) -> None:
        self._row = self._row + 1 if now - self._last_at < QUIET else 1
        self._last_at, self._last_why = max(now, self._last_at), why


def we_were_late(late: float, now: float) -> Doubted:
    """By so many seconds: whatever came meanwhile, by whichever channel, nobody took."""
    return Doubted(Voided(f"the worker was {late:.1f} s late", now - late, late), frozenset(Channel), late_beyond)


def just_connected(policy: HeartbeatPolicy, now: float) -> Silenced:
    """libvirt is back: its guests are asked again, and judged once each had the time to answer."""
    return Silenced(AWAY.key, "libvirt has just been connected to", now + policy.interval, ask=True)
