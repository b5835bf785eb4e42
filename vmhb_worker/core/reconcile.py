"""What a domain that libvirt shows us must have been through: at the worker's start, after libvirtd was away, or when
an event was missed. Events are faster; this is what is left to go by where there was none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vmhb_common.model.policy import Channel
from vmhb_worker.core import lifecycle
from vmhb_worker.core.beats import stagger
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
    ShuttingDown,
    Silenced,
    Stopped,
    Unsilenced,
)
from vmhb_worker.core.instance_state import Absence, Memory, Standing
from vmhb_worker.core.transitions import State

#: Seen in the domain itself, so that it holds whether somebody announces it or not, and for a worker that restarts.
RESCUED = Silenced("rescued", "it is in rescue mode: it runs another image, which need not answer")
#: Of who is not simply alive libvirt is read again after so many seconds at the latest: its port, and its state.
READ_AGAIN = 60.0
#: What QEMU tells of a port stands in the live XML so many seconds later at the latest: libvirt waits for 30 s until
#: other jobs on the domain are over.
LIBVIRT_LAGS = 35.0
_POWER = Stopped(Exit.POWER, "its host went down while it ran")
_UNKNOWN_END = Stopped(Exit.UNKNOWN, "shut off")
#: State and reason of a domain that has come, or comes, from another host: another QEMU, the same life of its guest.
_FROM_ELSEWHERE = frozenset(
    {("paused", "migration"), ("running", "migrated"), ("running", "postcopy"), ("running", "postcopy_failed")}
)
#: Its QEMU is there, and whether it boots or waits for another host's memory, the event that follows says.
_STARTING = ("paused", "starting_up")
#: Another life of a QEMU begins.
_LIVES: frozenset[type[Any]] = frozenset({Booted, Restored, Arriving})


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the store has of an instance. waiting: seconds since the boot that it has not answered since, or None.

    host_boot: the boot of its host in which it was last seen to run, "" where that is not known.
    """

    established: bool
    boot: str
    balloon: bool
    waiting: float | None
    running: bool
    absence: Absence = field(default_factory=Absence)
    host_boot: str = ""


def first_memory(
    seen: DomainSeen, remembered: Remembered | None, travelled: Travelled, standing: Standing | None
) -> Memory:
    """What to start a monitor with, for a domain that is met for the first time in this worker's life."""
    running = bool(seen.boot) or _unseen_end(seen, remembered) is not None
    if remembered is None:
        # Established elsewhere: it came by migration while we were away, and goes on where it was.
        waited = None if travelled.established else 0.0
        return Memory(running, travelled.established, waited, False, standing)
    if seen.boot and remembered.boot != seen.boot and not _from_elsewhere(seen):
        # Another life of its: nobody has said goodbye in it yet.
        return Memory(running, remembered.established, 0.0, False, standing, replace(remembered.absence, left=None))
    waiting, balloon = remembered.waiting, remembered.balloon
    return Memory(running, remembered.established, waiting, balloon, standing, remembered.absence)


def first_events(seen: DomainSeen, remembered: Remembered | None) -> list[Event]:
    """What happened to that domain while nobody looked."""
    event = lifecycle.event_of_state(seen.state, seen.reason)
    if not seen.boot:
        end = _unseen_end(seen, remembered)
        return [] if end is None else [end]
    return [] if event is None or isinstance(event, Stopped) else [event]


def _unseen_end(seen: DomainSeen, remembered: Remembered | None) -> Stopped | None:
    """It ran when we last knew, does not any more, and by nobody's wish that libvirt knows of: the worker is to find it
    running, and then hear of it. None: there is nothing to be heard.

    What libvirt does not know, the host's own boot may explain: what ran in another one ended with that. Otherwise it
    stays unexplained: libvirtd forgets whose wish it was when it is restarted.
    """
    event = lifecycle.event_of_state(seen.state, seen.reason)
    if seen.boot or remembered is None or not remembered.running:
        return None
    if not isinstance(event, Stopped):
        return _UNKNOWN_END
    if event.exit is Exit.UNKNOWN:
        boots = {seen.host_boot, remembered.host_boot}
        return _POWER if len(boots) == 2 and "" not in boots else event
    return event if event.exit is Exit.FAILED else None


def missed_events(
    seen: DomainSeen,
    state: State,
    known_boot: str | None,
    paused: bool,
    orphaned: bool = False,
    was: tuple[str, str] | None = None,
) -> list[Event]:
    """What must have happened to a domain that we thought we knew. known_boot: None right after an event told.

    paused: so we know it; orphaned: without knowing why, so that a reason is news. was: state and reason that it was
    last seen in: what has a time of its own (powering off) gets it once.
    """
    event = lifecycle.event_of_state(seen.state, seen.reason)
    if not seen.boot:
        if state is State.GONE:
            return []
        return [event if isinstance(event, Stopped) else _UNKNOWN_END]
    if state is State.GONE and (seen.state, seen.reason) == _STARTING:
        return []
    events: list[Event] = []
    if state is State.GONE or known_boot not in (None, seen.boot):
        events.append(Arriving() if _from_elsewhere(seen) else Booted())
    if event in events:
        return events
    if isinstance(event, Paused | Arriving | InPostcopy):
        known = paused and not (orphaned and isinstance(event, Paused))
        events += [] if known and not events else [event]  # the pause that we know ended with the boot that we knew
    elif isinstance(event, ShuttingDown):
        events += [event] if events or was != (seen.state, seen.reason) else []
    elif event is not None and not isinstance(event, Stopped):
        events.append(event)
    elif paused or Arriving() in events:
        # A reason that is younger than a migration's end hides whether that has come.
        events.append(Resumed(arrived=seen.reason != "unpaused"))
    return events


def _from_elsewhere(seen: DomainSeen) -> bool:
    """Has it come by migration? Then its guest goes on where it was, and is owed no boot's grace."""
    return (seen.state, seen.reason) in _FROM_ELSEWHERE


def rescue_events(rescued: bool, silenced: bool) -> list[Event]:
    """Its domain runs Nova's rescue image, or not. silenced: it was seen to, when it was last looked at."""
    if rescued is silenced:
        return []
    return [RESCUED if rescued else Unsilenced(RESCUED.key)]


def port_events(
    channel: Channel, ports: Mapping[Channel, Port], known: bool | None, told_ago: float = math.inf
) -> list[Event]:
    """Does the guest hold open the port that it is judged by? A description that comes after an event was read after
    it, and counts. known: what we took it for; told_ago: seconds since the last event of a port of its.

    Of the application's port QEMU tells us itself, and libvirt writes it down once it has the domain to itself.
    """
    port = ports.get(channel)
    if port is None or port.open in (None, known):
        return []
    if channel is Channel.APPLICATION and told_ago < LIBVIRT_LAGS:
        return []
    return [PortChanged(bool(port.open), channel)]


def read_again_at(uuid: str, now: float) -> float:
    """When the description that was read now is due again, of one that is not simply alive: `READ_AGAIN` at the latest,
    where it is looked for every so often; and not of all of them in the same moment."""
    return now + READ_AGAIN / 2 + stagger(uuid, READ_AGAIN / 3)


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
