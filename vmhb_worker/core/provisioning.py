"""What a running domain lacks of what was asked for it, and whether it can be given that while it runs.

A policy that came by RPC is written only into a domain that says nothing by itself: our element, or else the flavor's
extra specs that Nova (2025.2 and later) writes, be there a heartbeat among them or not. What came by RPC earlier is no
word of the domain's own: the element says when it was seen, and a newer one replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vmhb_common.model.policy import PORT_NAMES, Channel, HeartbeatPolicy
from vmhb_worker.core.domain_xml import DomainView, policy_element
from vmhb_worker.core.events import PlugChannel, Step, WritePolicy
from vmhb_worker.core.pending_policies import Wish

_NAME = PORT_NAMES[Channel.APPLICATION]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something is missing, and cannot be had while the domain runs: why, and what to do."""

    why: str


NO_CONTROLLER = Obstacle(
    "it cannot be given its application channel: its domain has no virtio-serial controller, and none can be plugged "
    "into a running guest: install nova-vmhb's driver in nova-compute here (nova-vmhb-driver install) and hard reboot "
    "the instance, or rebuild it from an image with hw_qemu_guest_agent=yes"
)
NAME_TAKEN = Obstacle(
    f"it cannot be given its application channel: its domain has a channel {_NAME} that is no unix socket: take that "
    "out of its definition, then stop and start the instance"
)


def missing(view: DomainView, policy: HeartbeatPolicy | None, wish: Wish | None) -> Step | Obstacle | None:
    """The next thing that a running domain lacks, None when it has all. What comes after that is seen once it is done.

    policy: what it asks for now, None where that makes no sense; wish: what was sent for it by RPC.
    """
    if wish is not None and yields(view, wish.observed_at):
        return WritePolicy(policy_element(wish.knobs, wish.observed_at), wish.observed_at)
    if policy is None or not wants_application_channel(policy) or Channel.APPLICATION in view.ports:
        return None
    if _NAME in view.channels:
        return NAME_TAKEN
    return PlugChannel() if view.serial_controller else NO_CONTROLLER


def yields(view: DomainView, observed_at: datetime) -> bool:
    """Does it say nothing but what was sent by RPC, and seen before this?"""
    return not view.decided or (view.observed_at is not None and view.observed_at < observed_at)


def wants_application_channel(policy: HeartbeatPolicy) -> bool:
    """Health is asked for over the channel that the policy names, and needs no other."""
    return policy.heartbeat and policy.channel is Channel.APPLICATION


def lacks(view: DomainView, step: Step) -> bool:
    """Does this description, the live or the defined one, lack what the step brings? Asked right before it."""
    return yields(view, step.observed_at) if isinstance(step, WritePolicy) else _NAME not in view.channels
