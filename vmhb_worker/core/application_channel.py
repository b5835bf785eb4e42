"""What a monitor knows of an instance's application channel: the challenges out, the times in force, and its absences.

A guest's word changes nothing here but how often it is asked, and when it need not answer, and that within bounds.
When its word counts is decided in `monitor`. Belongs to a monitor; times are seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from vmhb_common.model.policy import KNOB, Channel, HeartbeatPolicy
from vmhb_worker.core.absence import Leaves
from vmhb_worker.core.evidence import Reading, unavailable
from vmhb_worker.core.instance_state import Absence, Timing
from vmhb_worker.core.nonce_window import Window, size
from vmhb_worker.core.protocol import Challenge, Hello

#: The agent is given this long to show that the guest lives (seconds). libvirt counts whole ones; agents answer in
#: milliseconds, and a verdict waits for this one: it comes about as soon as the balloon's answer, whatever the policy.
OTHER_TIMEOUT = 3
#: It is waited for no longer than this (seconds): it may have to wait for a place, or for somebody else's command.
OTHER_PATIENCE = 15.0
#: A guest may wish for times as short as this share of its policy's: at a tenth, what it makes of itself (challenges,
#: faults, lines of the log) is at most ten times what its flavor was sold for.
WISH_SHARE = 0.1
#: And may change its mind so often (seconds): each change is another beginning of its beats.
WISH_EVERY = 60.0
_NO_OTHER = unavailable("the instance has no other channel")


@dataclass(slots=True)
class OtherChannel:
    """What the agent channel of an instance is asked when its application is silent. present: there is one."""

    present: bool = False
    out: bool = False
    until: float = math.inf  # its answer is waited for until then
    said: Reading = _NO_OTHER

    def ask(self, now: float) -> bool:
        """To be asked now? Not while an earlier question is out."""
        if not self.present or self.out:
            return False
        self.out, self.until = True, now + OTHER_PATIENCE
        return True

    def answered(self, answers: bool | None, why: str, now: float) -> None:
        """It came to an end. answers: None where that tells nothing."""
        self.out, self.until = False, math.inf
        self.said = unavailable(why) if answers is None else Reading(answers, now)

    def overdue(self, now: float) -> bool:
        """Has it been waited for long enough? True once."""
        if now < self.until:
            return False
        self.until = math.inf
        self.said = unavailable("there was no chance to ask")
        return True

    @property
    def pending(self) -> bool:
        """Is its answer still waited for?"""
        return self.until < math.inf

    def forget(self) -> None:
        """What it said is no evidence any more."""
        self.said = unavailable("not asked") if self.present else _NO_OTHER


class Application:
    """`in_force`: the policy, with the times that the guest has wished for within its bounds."""

    __slots__ = (
        "_nonce",
        "_timing",
        "_wished",
        "_wished_at",
        "connected",
        "in_force",
        "leaves",
        "name",
        "other",
        "why",
        "window",
    )

    def __init__(self, policy: HeartbeatPolicy, timing: Timing, absence: Absence, nonce: Callable[[], str]) -> None:
        """nonce: makes a new one, that nobody can foresee, at each call."""
        self._timing = timing
        self._nonce = nonce
        self.connected = False
        self.why = "not connected yet"
        self.name = ""
        self.leaves = Leaves(timing.max_maintenance, absence)
        self.other = OtherChannel()
        self.in_force = policy
        self._wished: tuple[float, float] | None = None  # the last one that was granted
        self._wished_at = -math.inf
        self.window = Window(size(policy.threshold, policy.interval, policy.timeout))

    def adopt(self, policy: HeartbeatPolicy) -> None:
        """Another policy is in force, or its own times again."""
        self.in_force = policy
        self.window.resize(size(policy.threshold, policy.interval, policy.timeout))

    def wish(self, policy: HeartbeatPolicy, hello: Hello, now: float) -> bool:
        """The times that are in force from now on: never longer than the policy's, nor as short as would be a burden.
        Did they change? One wish within WISH_EVERY changes them; but the same one again, after a boot, always does.
        """
        times = self._bounded(policy, hello)
        if times == (self.in_force.interval, self.in_force.timeout):
            return False
        if times != self._wished and now < self._wished_at + WISH_EVERY:
            return False
        self._wished, self._wished_at = times, now
        self.adopt(replace(policy, interval=times[0], timeout=times[1]))
        return True

    def _bounded(self, policy: HeartbeatPolicy, hello: Hello) -> tuple[float, float]:
        """Interval and timeout, of what it asks for as much as may be granted. What it does not say is the policy's."""
        least_interval = max(self._timing.min_interval, WISH_SHARE * policy.interval)
        least_timeout = max(KNOB["timeout"].minimum or 0.0, WISH_SHARE * policy.timeout)
        interval = policy.interval if hello.interval is None else max(hello.interval, least_interval)
        timeout = policy.timeout if hello.timeout is None else max(hello.timeout, least_timeout)
        return min(interval, policy.interval), min(timeout, policy.timeout)

    def challenge(self, now: float) -> Challenge | None:
        """The next one, unless as many as are remembered are out; beats then count against those."""
        interval = self.in_force.interval
        if not self.window.room(now, interval):
            return None
        nonce = self._nonce()
        return Challenge(self.window.challenge(nonce, now), nonce, self.in_force.health_check)

    def told(self, now: float) -> dict[str, Any]:
        """For people."""
        window = self.window
        return {
            "connected": self.connected or self.why,
            "name": self.name,
            "interval": self.in_force.interval,
            "timeout": self.in_force.timeout,
            "unanswered": window.unanswered,
            "rtt": None if window.rtt is None else round(window.rtt, 4),
            "mean_rtt": None if window.mean_rtt is None else round(window.mean_rtt, 4),
            "stale": window.stale,
            "forged": window.forged,
            "left": self.leaves.left,
            "maintenance_left": round(self.leaves.maintenance.left(now), 1),
        }

    def connection(self, now: float) -> Reading:
        """For the evidence."""
        if self.in_force.channel is not Channel.APPLICATION:
            return unavailable("the agent is reached through libvirt")
        return Reading("connected", now) if self.connected else Reading(f"not connected: {self.why}", now)
