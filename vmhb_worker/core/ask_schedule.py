"""When an instance is challenged, in what order of urgency, and what its answers tell of its pace.

Living instances are challenged by their `beats`; silent ones ever more rarely. Belongs to a monitor.
"""

from __future__ import annotations

import math

from vmhb_common.model.policy import HeartbeatPolicy
from vmhb_worker.core.beats import back_off
from vmhb_worker.core.events import Ask, Pace
from vmhb_worker.core.transitions import State

#: An answer slower than this makes its instance a slow one (seconds).
SLOW_RTT = 0.25
#: Once slow, it is quick again after so many quick answers in a row, and after twice as many each time that it turns
#: out to be slow again, up to the second. Or whoever answers at once and slowly in turns would have a place of the
#: quick for every other beat; as it is, for one in seventy.
QUICK_AGAIN = (4, 64)
#: After so many times as many it is trusted as one that never was slow.
TRUSTED = 4
#: libvirt's time-out for one agent command is at most this (seconds), so that Nova never waits long for the agent.
REQUEST_CEILING = 10
#: libvirt resynchronises with an agent that once kept silent, with a time-out of its own (seconds).
RESYNC_TIME = 5


class Challenges:
    """At most one is queued or on its way."""

    __slots__ = ("_attempt", "_proof", "_quick", "_slow", "left_at", "next_at", "out")

    def __init__(self, now: float) -> None:
        self.out = False  # queued, or on its way
        self.left_at = -math.inf  # when the last one left
        self.next_at = now  # when a silent instance is asked again
        self._slow = False
        self._proof = 0  # so many quick answers in a row make it quick again; 0: it never was slow
        self._quick = 0  # so many there were
        self._attempt = 0

    def ask(self, policy: HeartbeatPolicy, state: State, pace: Pace | None = None) -> Ask | None:
        """A challenge, unless one is out."""
        if self.out:
            return None
        self.out = True
        if state in (State.ALIVE, State.MISSING):
            # Back with or without an answer soon after the verdict that may have to wait for it.
            timeout = math.ceil((policy.threshold - 1) * policy.interval + policy.timeout) + 1
        else:  # nothing depends on when the answer comes
            timeout = max(RESYNC_TIME, math.ceil(policy.timeout))
        return Ask(min(timeout, REQUEST_CEILING), pace or self._pace(state))

    def answered(self, rtt: float) -> None:
        """An acknowledgement came."""
        self.out = False
        self._attempt = 0
        if rtt > SLOW_RTT:
            self._is_slow()
        elif self._proof:
            self._quick += 1
            self._slow = self._quick < self._proof
            if self._quick >= TRUSTED * self._proof:
                self._proof = 0

    def failed(self, silent: bool) -> None:
        """It ended without one. silent: the guest kept silent for all of its time."""
        self.out = False
        if silent:
            self._is_slow()

    def back_off(self, interval: float, now: float) -> None:
        """Ask a silent instance more rarely from time to time."""
        self.next_at = now + back_off(interval, self._attempt)
        self._attempt += 1

    def soon(self, now: float) -> None:
        """Something happened that may have brought it back: ask now, and often again."""
        self._attempt = 0
        self.next_at = now

    def _is_slow(self) -> None:
        if not self._slow:
            first, most = QUICK_AGAIN
            self._proof = min(2 * self._proof, most) or first
        self._slow, self._quick = True, 0

    def _pace(self, state: State) -> Pace:
        if state is State.MISSING:
            return Pace.SUSPECT
        if state is State.ALIVE:
            return Pace.SLOW if self._slow else Pace.QUICK
        return Pace.SILENT if self._slow or state is State.SILENT else Pace.QUICK


def full_threshold(policy: HeartbeatPolicy) -> float:
    """From the first unanswered beat's opening to the verdict, at most, and an interval more: seconds."""
    return policy.threshold * policy.interval + policy.timeout
