"""What becomes of a fault that is doubtful: several hosts claim the instance, or its reminders stopped. Pure.

A fault belongs to an instance on a host. Which host has the instance, Nova says; whether the fault is still there, the
worker of its host. Neither is asked here: what they said is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vmhb_common.model.fault import Fault, Resolution


@dataclass(frozen=True, slots=True)
class Place:
    """What Nova says. host: None where it is on no host (shelved). exists False: Nova has no such instance.

    vm_state: None where Nova does not tell; task_state: what Nova is at with it, None: nothing. project_id: whose it
    is, None where Nova does not tell.
    """

    host: str | None
    exists: bool = True
    vm_state: str | None = None
    task_state: str | None = None
    project_id: str | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Who was asked did not say. why: one sentence. again: it is being asked, and may have said in so many seconds."""

    why: str
    again: float | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker's `show` said: None where it does not watch the instance."""

    shown: Mapping[str, Any] | None


#: None: not asked, since there is no Nova to ask.
Whereabouts = Place | Unknown | None
Word = Told | Unknown


@dataclass(frozen=True, slots=True)
class Keep:
    """It stays. confirmed: its worker says that it is still there. why: what was in the way, if anything. again: it is
    being asked, look again in so many seconds."""

    confirmed: bool = False
    why: str | None = None
    again: float | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """It is over."""

    resolution: Resolution
    reason: str


Decision = Keep | Close


def by_place(fault: Fault, place: Whereabouts) -> Close | None:
    """Is it closed by where Nova says that the instance is?"""
    if not isinstance(place, Place) or fault.instance_uuid is None:
        return None
    if not place.exists:
        return Close(Resolution.DELETED, "Nova has no such instance any more")
    if place.host is None:
        return Close(Resolution.SUPERSEDED, "the instance is on no host any more, Nova says")
    if place.host != fault.host:
        return Close(Resolution.SUPERSEDED, f"the instance is on {place.host} now, Nova says")
    return None


def among_rivals(fault: Fault, rivals: Sequence[Fault], place: Whereabouts) -> Decision:
    """Of several open faults of one instance and channel, is this one to stay?

    Nova decides between hosts. What Nova leaves open, or where there is none to ask, the newest raise decides: of one
    host's faults it is the one that its worker still knows; a host that comes back tells of old ones.
    """
    closed = by_place(fault, place)
    if closed is not None:
        return closed
    elsewhere = [rival for rival in rivals if rival.host != fault.host]
    if elsewhere and isinstance(place, Unknown):
        return Keep(why=f"hosts {fault.host} and {elsewhere[0].host} both have a fault of it, and {place.why}")
    against = [rival for rival in rivals if rival.host == fault.host] if isinstance(place, Place) else rivals
    newer = [rival for rival in against if (rival.raised_at, rival.fault_id) > (fault.raised_at, fault.fault_id)]
    if newer:
        return Close(Resolution.SUPERSEDED, f"a newer fault of the instance took its place, on {newer[0].host}")
    return Keep()


def when_quiet(  # noqa: PLR0911 - a table
    fault: Fault, word: Word, place: Whereabouts
) -> Decision:
    """Its reminders stopped. word: of the worker of its host; place: of the instance."""
    closed = by_place(fault, place)
    if closed is not None:
        return closed
    if isinstance(word, Unknown):
        return Keep(why=word.why, again=word.again)
    if still_there(fault, word):
        return Keep(confirmed=True)
    if fault.instance_uuid is None:
        return Close(Resolution.SUPERSEDED, f"the worker on {fault.host} lives, and does not speak of it any more")
    if word.shown is None:
        if isinstance(place, Unknown):
            return Keep(why=place.why)
        return Close(Resolution.UNMONITORED, f"the worker on {fault.host} does not watch the instance any more")
    if word.shown.get("state") == "alive":
        return Close(Resolution.RECOVERED, "the guest answers, its worker says when asked")
    return Close(Resolution.SUPERSEDED, f"the worker on {fault.host} knows nothing of this fault any more")


def still_there(fault: Fault, word: Told) -> bool:
    """Does the worker have this very fault open?"""
    known = word.shown.get("fault") if word.shown is not None else None
    return isinstance(known, Mapping) and known.get("fault_id") == fault.fault_id
