"""What is made of an event that could not be handled, for a fault of ours: nobody is accused of what we lost.

Where the guest had a word in it, its monitor is told that something came of which nobody knows what it was. Every kind
of event has a row, so that whoever adds one decides.
"""

from __future__ import annotations

from typing import Any

from vmhb_worker.core import events as ev
from vmhb_worker.core.agent_lanes import Request

_NOBODY_KNOWS = "what came could not be handled, a fault of the worker's"
_NOT_ASKED = ev.AskFailed(ev.Failure.UNREACHABLE, _NOBODY_KNOWS)

#: None: nobody is accused for its loss.
INSTEAD: dict[type[Any], ev.Event | None] = {
    ev.Acked: _NOT_ASKED,
    ev.AskFailed: _NOT_ASKED,
    ev.OtherAnswered: ev.OtherAnswered(None, _NOBODY_KNOWS),
    ev.Said: ev.Voided(_NOBODY_KNOWS),
    ev.Asked: None,
    ev.ChannelUp: None,
    ev.ChannelDown: None,
    ev.AgentReplied: ev.AgentReplied(None, ev.Failure.UNREACHABLE, _NOBODY_KNOWS),
    ev.PortChanged: None,
    ev.Booted: None,
    ev.Restored: None,
    ev.Arriving: None,
    ev.ShuttingDown: None,
    ev.Stopped: None,
    ev.QemuEnded: None,
    ev.Paused: None,
    ev.Resumed: None,
    ev.InPostcopy: None,
    ev.Stuck: None,
    ev.Panicked: None,
    ev.WatchdogFired: None,
    ev.MemoryFailed: None,
    ev.Silenced: None,
    ev.Unsilenced: None,
    ev.Voided: None,
    ev.PolicyChanged: None,
    ev.Tick: None,
    ev.Looked: None,
    ev.Verify: None,
    ev.NoPlace: None,
}


def instead_of(event: ev.Event) -> ev.Event | None:
    """What its monitor is told in its place; None for nothing, also where this is what could not be handled."""
    instead = INSTEAD.get(type(event))
    return None if instead == event else instead


def not_started(request: Request, why: str) -> ev.AskEnded | ev.CommandEnded:
    """The end of a request that could not be handed on: nobody was asked."""
    if request.command is not None:
        replied = ev.AgentReplied(None, ev.Failure.UNREACHABLE, why)
        return ev.CommandEnded(request.uuid, request.nonce, replied)
    return ev.AskEnded(request.uuid, request.nonce, 0.0, ev.Failure.UNREACHABLE, why)
