"""Doubt in ourselves before anyone is accused: were we there, and did libvirtd pass on what we asked?

Whoever was not there has seen nothing: the beats that are open meanwhile do not count. Pure: time is an argument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vmhb_common.model.policy import Channel, HeartbeatPolicy
from vmhb_worker.core.events import Silenced, Voided

#: Later than this at a deadline (seconds), we were not there ourselves: the host stalled, or we were stopped.
LATE = 0.5
#: libvirtd that shows no life for longer than this (seconds) did not pass on our challenges either.
STALL = 2.0
#: libvirt is away: nothing is known, nothing is asked.
AWAY = Silenced("hypervisor", "libvirt is away")


@dataclass(frozen=True, slots=True)
class Doubted:
    """What was seen of late says nothing about some instances, and `event` is for the monitors of those."""

    event: Voided
    channels: frozenset[Channel]

    def concerns(self, policy: HeartbeatPolicy) -> bool:
        """Is an instance of this policy one of them?"""
        return policy.channel in self.channels


class Doubt:
    """Of one worker. Belongs to one thread; times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        #: When the newest question that libvirtd has answered was put to it.
        self.heard = -math.inf
        #: Since when we have known everything that was reported until then.
        self.looked_at = now
        self.connected = False

    def late(self, deadline: float, now: float) -> float:
        """We look again, and meant to at this deadline: so many seconds late, 0 where that is no matter."""
        late = now - max(deadline, self.looked_at)
        self.looked_at = now
        return late if late > LATE else 0.0

    def up(self, now: float) -> None:
        """libvirtd has just told all that there is."""
        self.connected = True
        self.heard = now

    def down(self) -> None:
        """It is not connected to: whether it is silent cannot be told, and is no matter."""
        self.connected = False

    def answered(self, asked_at: float) -> Doubted | None:
        """libvirtd answered the question put to it then: was it silent for too long before?"""
        silent = asked_at - self.heard
        self.heard = max(self.heard, asked_at)
        if not self.connected or silent <= STALL:
            return None
        # What was out meanwhile may not have reached its guest before now.
        return Doubted(Voided(f"libvirtd was silent for {silent:.1f} s"), frozenset({Channel.AGENT}))

    def at_bound(self, now: float) -> str | None:
        """Why this host is to be doubted as a whole; None: it is not."""
        return None


def we_were_late(late: float) -> Doubted:
    """By so many seconds: whatever came meanwhile, by whichever channel, nobody took."""
    return Doubted(Voided(f"the worker was {late:.1f} s late"), frozenset(Channel))


def just_connected(policy: HeartbeatPolicy, now: float) -> Silenced:
    """libvirt is back: its guests are asked again, and judged once each had the time to answer."""
    return Silenced(AWAY.key, "libvirt has just been connected to", now + policy.interval, ask=True)
