"""What a domain that libvirt shows us must have been through: at the worker's start, after libvirtd was away, or when
an event was missed. Events are faster; this is what is left to go by where there was none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vmhb_common.model.policy import Channel
from vmhb_worker.core import lifecycle
from vmhb_worker.core.domain_xml import Port, Travelled
from vmhb_worker.core.events import (
    Arriving,
    Booted,
    DomainSeen,
    Event,
    Exit,
    InPostcopy,
    Paused,
    PortChanged,
    Restored,
    Resumed,
    Silenced,
    Stopped,
    Unsilenced,
)
from vmhb_worker.core.instance_state import Absence, Memory, Standing
from vmhb_worker.core.transitions import State

#: Seen in the domain itself, so that it holds whether somebody announces it or not, and for a worker that restarts.
RESCUED = Silenced("rescued", "it is in rescue mode: it runs another image, which need not answer")
#: Another life of a QEMU begins.
_LIVES: frozenset[type[Any]] = frozenset({Booted, Restored, Arriving})


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the store has of an instance. waiting: seconds since the boot that it has not answered since, or None."""

    established: bool
    boot: str
    balloon: bool
    waiting: float | None
    running: bool
    absence: Absence = field(default_factory=Absence)


def first_memory(
    seen: DomainSeen, remembered: Remembered | None, travelled: Travelled, standing: Standing | None
) -> Memory:
    """What to start a monitor with, for a domain that is met for the first time in this worker's life."""
    running = bool(seen.boot) or _died_unseen(seen, remembered)
    if remembered is None:
        # Established elsewhere: it came by migration while we were away, and goes on where it was.
        waited = None if travelled.established else 0.0
        return Memory(running, travelled.established, waited, False, standing)
    if seen.boot and remembered.boot != seen.boot:
        # Another life of its: nobody has said goodbye in it yet.
        return Memory(running, remembered.established, 0.0, False, standing, replace(remembered.absence, left=None))
    waiting, balloon = remembered.waiting, remembered.balloon
    return Memory(running, remembered.established, waiting, balloon, standing, remembered.absence)


def first_events(seen: DomainSeen, remembered: Remembered | None) -> list[Event]:
    """What happened to that domain while nobody looked."""
    event = lifecycle.event_of_state(seen.state, seen.reason)
    if event is None or (seen.boot and isinstance(event, Stopped)):
        return []
    return [event] if seen.boot or _died_unseen(seen, remembered) else []


def _died_unseen(seen: DomainSeen, remembered: Remembered | None) -> bool:
    """Its QEMU crashed while the worker was away: the worker is to find it running, and then hear of it."""
    event = lifecycle.event_of_state(seen.state, seen.reason)
    died = isinstance(event, Stopped) and event.exit is Exit.FAILED
    return not seen.boot and died and remembered is not None and remembered.running


def missed_events(
    seen: DomainSeen, state: State, known_boot: str | None, paused: bool, orphaned: bool = False
) -> list[Event]:
    """What must have happened to a domain that we thought we knew. known_boot: None right after an event told.

    paused: so we know it; orphaned: without knowing why, so that a reason is news.
    """
    event = lifecycle.event_of_state(seen.state, seen.reason)
    if not seen.boot:
        if state is State.GONE:
            return []
        return [event if isinstance(event, Stopped) else Stopped(Exit.INTENT, "shut off")]
    events: list[Event] = []
    if state is State.GONE or known_boot not in (None, seen.boot):
        events.append(Booted())
    if isinstance(event, Paused | Arriving | InPostcopy):
        known = paused and not (orphaned and isinstance(event, Paused))
        events += [] if known and not events else [event]  # the pause that we know ended with the boot that we knew
    elif event is not None and not isinstance(event, Stopped):
        events.append(event)
    elif paused:
        # A reason that is younger than a migration's end hides whether that has come.
        events.append(Resumed(arrived=seen.reason != "unpaused"))
    return events


def rescue_events(rescued: bool, silenced: bool) -> list[Event]:
    """Its domain runs Nova's rescue image, or not. silenced: it was seen to, when it was last looked at."""
    if rescued is silenced:
        return []
    return [RESCUED if rescued else Unsilenced(RESCUED.key)]


def port_events(channel: Channel, ports: Mapping[Channel, Port], known: bool | None) -> list[Event]:
    """Does the guest hold open the port that it is judged by? known: what events have told. Those are newer."""
    port = ports.get(channel)
    return [] if known is not None or port is None or port.open is None else [PortChanged(port.open, channel)]


def undefined_events(state: State) -> list[Event]:
    """libvirt no longer knows the domain: it was stopped by whoever undefined it."""
    return [] if state is State.GONE else [Stopped(Exit.INTENT, "undefined")]


def begins_another_life(event: Event, state: State) -> bool:
    """Does another QEMU run it from now on, so that the next description's boot is no news?"""
    return state is State.GONE and type(event) in _LIVES


def has_witness(channel: Channel, ports: Mapping[Channel, Port]) -> bool:
    """Can somebody else in the guest be asked about the one who is to acknowledge?"""
    return channel is Channel.APPLICATION and Channel.AGENT in ports


def socket_of(state: State, channel: Channel, ports: Mapping[Channel, Port]) -> str | None:
    """Where to be connected to its application channel: as long as it runs, and is to acknowledge there."""
    port = ports.get(Channel.APPLICATION)
    return None if state is State.GONE or channel is not Channel.APPLICATION or port is None else port.path
