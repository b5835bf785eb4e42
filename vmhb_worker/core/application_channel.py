"""The conversation on an instance's application channel: the challenges out, the times in force, its absences, and what
its guest says.

A guest's word changes nothing here but how often it is asked, and when it need not answer, and that within bounds.
What follows comes out: see `consequences`. When its word counts, and what its acknowledgements mean, is decided in
`monitor`. Belongs to a monitor; times are seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vmhb_common.model.policy import KNOB, Channel, HeartbeatPolicy
from vmhb_worker.core import events as ev
from vmhb_worker.core.absence import GOODBYE, MAINTENANCE, Leave, Leaves, refused
from vmhb_worker.core.codec import Objection
from vmhb_worker.core.consequences import Begin, ChallengeAtOnce, Consequence, End, Excuse, Quicken
from vmhb_worker.core.evidence import Reading, unavailable
from vmhb_worker.core.excuses import Excused
from vmhb_worker.core.guest_system import GuestSystem
from vmhb_worker.core.instance_state import Absence, Timing
from vmhb_worker.core.nonce_window import Window, size
from vmhb_worker.core.protocol import VERSION, Challenge, Error, Goodbye, Hello, Maintenance, Message, Welcome
from vmhb_worker.core.silences import Silences

#: A guest may wish for times as short as this share of its policy's: at a tenth, what it makes of itself (challenges,
#: faults, lines of the log) is at most ten times what its flavor was sold for.
WISH_SHARE = 0.1
#: And may change its mind so often (seconds): each change is another beginning of its beats.
WISH_EVERY = 60.0
#: Why nothing that a guest asks for is granted.
TROUBLED = "not while the guest is suspected, at fault, or stopped"


class Application:
    """policy: as the instance is to be watched. in_force: the same, with the times that the guest has wished for within
    its bounds. speaks: is it the application that must acknowledge? system: what runs in the guest, as it says as well.
    """

    __slots__ = (
        "_nonce",
        "_timing",
        "_wished",
        "_wished_at",
        "connected",
        "in_force",
        "leaves",
        "name",
        "policy",
        "speaks",
        "system",
        "why",
        "window",
    )

    def __init__(
        self, policy: HeartbeatPolicy, timing: Timing, absence: Absence, nonce: Callable[[], str], system: GuestSystem
    ) -> None:
        """nonce: makes a new one, that nobody can foresee, at each call."""
        self._timing = timing
        self._nonce = nonce
        self.system = system
        self.connected = False
        self.why = "not connected yet"
        self.name = ""
        self.leaves = Leaves(timing.max_maintenance, absence)
        self.policy = self.in_force = policy
        self.speaks = policy.channel is Channel.APPLICATION
        self._wished: tuple[float, float] | None = None  # the last one that was granted
        self._wished_at = -math.inf
        self.window = Window(size(policy.threshold, policy.interval, policy.timeout))

    def adopt(self, policy: HeartbeatPolicy) -> None:
        """It is to be watched like this from now on."""
        self.policy = policy
        self.speaks = policy.channel is Channel.APPLICATION
        self._enforce(policy)

    def rebooted(self) -> bool:
        """Another boot: nothing is out, it has not left, and the policy's own times hold again. Did they change?"""
        self.window.forget()
        self.leaves.back()
        if self.in_force == self.policy:
            return False
        self._enforce(self.policy)
        return True

    def _enforce(self, policy: HeartbeatPolicy) -> None:
        self.in_force = policy
        self.window.resize(size(policy.threshold, policy.interval, policy.timeout))

    # -- what it says --------------------------------------------------------------------------------------------

    def hear(self, message: Message | Objection, silences: Silences, untroubled: bool, now: float) -> list[Consequence]:
        """Anything but an acknowledgement. untroubled: only then does it mean anything that it asks to be left alone,
        or asked more often."""
        match message:
            case Hello():
                return self._hello(message, untroubled, now)
            case Goodbye():
                return self._goodbye(message, GOODBYE in silences, untroubled, now)
            case Maintenance():
                return self._maintenance(message, MAINTENANCE in silences, untroubled, now)
            case Objection(code, detail):
                return [ev.Say(Error(str(code), detail))]
        return []  # what only a host says

    def _hello(self, hello: Hello, untroubled: bool, now: float) -> list[Consequence]:
        """It introduces itself: that clears nothing and counts for nothing."""
        self.name = hello.name
        self.system.says(hello.system)
        quicken: list[Consequence] = [Quicken()] if untroubled and self._wish(hello, now) else []
        welcome = Welcome(VERSION, self.in_force.interval, self.in_force.timeout)
        return [*quicken, ev.Say(welcome), ChallengeAtOnce()]

    def _goodbye(self, asked: Goodbye, has_left: bool, untroubled: bool, now: float) -> list[Consequence]:
        if not untroubled:
            return [ev.Say(refused("goodbye", TROUBLED))]
        return [] if has_left else _let_go(self.leaves.goodbye(asked, now))

    def _maintenance(self, asked: Maintenance, rests: bool, untroubled: bool, now: float) -> list[Consequence]:
        if not untroubled:
            return [ev.Say(refused("maintenance", TROUBLED))]
        if asked.seconds != 0:
            return _let_go(self.leaves.rest(asked, now))
        if not rests:
            return []
        self.leaves.maintenance.end(now)
        return [End((MAINTENANCE,)), ev.Remember()]

    def _wish(self, hello: Hello, now: float) -> bool:
        """The times that are in force from now on: never longer than the policy's, nor as short as would be a burden.
        Did they change? One wish within WISH_EVERY changes them; but the same one again, after a boot, always does.
        """
        times = self._bounded(self.policy, hello)
        if times == (self.in_force.interval, self.in_force.timeout):
            return False
        if times != self._wished and now < self._wished_at + WISH_EVERY:
            return False
        self._wished, self._wished_at = times, now
        self._enforce(replace(self.policy, interval=times[0], timeout=times[1]))
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
        if not self.speaks:
            return unavailable("the agent is reached through libvirt")
        return Reading("connected", now) if self.connected else Reading(f"not connected: {self.why}", now)


def _let_go(answer: Leave | Error) -> list[Consequence]:
    """Where it is granted, it need not answer from now on, and everybody is told."""
    if isinstance(answer, Error):
        return [ev.Say(answer)]
    notice: list[Consequence] = [] if answer.notice is None else [ev.Say(answer.notice)]
    excuse: list[Consequence] = [Excuse(Excused.GOODBYE)] if answer.key == GOODBYE else []
    return [*notice, Begin(answer.key, answer.silence), *excuse, ev.Ended(answer.told), ev.Remember()]
