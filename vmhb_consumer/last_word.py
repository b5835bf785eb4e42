"""Is a recovery still wanted in the moment in which it is begun? By what the fault's worker says then. Pure.

A notification is only somebody's word, and may be anybody's: so the worker of the instance's host confirms each
recovery, and Nova says where the instance is, however young the fault is. Nobody who answers is ever stopped: one
acknowledgement since the last miss refutes every cause but the guest's own word that it is not well. What nobody knows
is neither dead nor well: it is not recovered, and asked about again for as long as its fault is open.

Masakari's engine asks once more where it has our tasks, by `nova_vmhb.last_moment`, which must not import this; a test
holds one against the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmhb_common.model.causes import Ground, rests_on
from vmhb_common.model.fault import Fault
from vmhb_consumer.doubt_rules import Place, Unknown, Whereabouts, Word, by_place

#: Nova itself starts again what ran when its host went down, where it is told to (resume_guests_state_on_host_boot): it
#: has so long for that (seconds), since the fault began. The worker gives it as much.
NOVAS_TIME = 120.0
#: The vm_state of an instance that is to run.
ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Go:
    """Nothing speaks against it."""


@dataclass(frozen=True, slots=True)
class Never:
    """It is over, as far as this attempt goes."""

    why: str


@dataclass(frozen=True, slots=True)
class NotNow:
    """Known, and not for now: the fault is there, and does not stand. Ask again."""

    why: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """Nobody knows. Ask again, for as long as the fault is open."""

    why: str


LastWord = Go | Never | NotNow | Unclear

#: In these states of its worker's a fault stands. The worker leaves `silent` with the first acknowledgement, whatever
#: its version: an older one does not tell `answered_since_miss`.
STANDS: Mapping[Ground, frozenset[str]] = {
    Ground.GONE: frozenset({"gone"}),
    Ground.LOST: frozenset({"gone"}),
    Ground.TOLD: frozenset({"silent"}),
    Ground.SILENCE: frozenset({"silent"}),
    Ground.OWN_WORD: frozenset({"alive", "missing", "silent"}),
    Ground.NONE: frozenset(),
}


def judge(fault: Fault, word: Word, place: Whereabouts) -> LastWord:
    """word: of the worker of its host. place: of the instance, None where Nova was not asked."""
    closed = by_place(fault, place)
    if closed is not None:
        return Never(f"meanwhile {closed.reason}")
    if isinstance(word, Unknown):
        return Unclear(word.why)
    if isinstance(place, Unknown):
        return Unclear(place.why)
    worker = f"the worker on {fault.host}"
    if not isinstance(word.shown, Mapping) or "error" in word.shown:
        # One that has just started may not have met it yet.
        return Unclear(f"{worker} does not watch the instance")
    return _by_fault(fault, word.shown, place, worker)


def _by_fault(fault: Fault, shown: Mapping[str, Any], place: Place | None, worker: str) -> LastWord:
    known = shown.get("fault", "")
    if known is None or (isinstance(known, Mapping) and known.get("fault_id") != fault.fault_id):
        return Never(f"{worker} does not know of the fault any more")
    if not isinstance(known, Mapping):
        return Unclear(f"{worker} says nothing of a fault that makes sense")
    ground = rests_on(str(known.get("cause", fault.cause)))
    if ground is Ground.NONE:
        return Never(f"{worker} says {str(known['cause'])[:40]} by now, for which no recovery is asked for")
    if known.get("withheld"):
        return NotNow(f"{worker} withholds it for now: {str(known['withheld'])[:40]}")
    if known.get("recommended_action", "recover") != "recover":  # an older worker does not tell
        return Never(f"{worker} asks for no recovery any more")
    said = _by_nova(place, known.get("suspected_age")) if ground.is_novas_to_say else None
    return said or _by_state(ground, shown, worker)


def _by_nova(place: Place | None, age: Any) -> LastWord | None:
    """What speaks against it, of one that only Nova can say should run. None: nothing. age: of its fault, seconds."""
    if place is None:
        return Unclear("only Nova can say whether it should run, and there is none to ask: see [nova]")
    if place.vm_state is None:
        return Unclear("Nova does not tell its vm_state: the user of [nova] needs the role admin")
    if place.task_state is not None:
        return NotNow(f"Nova is at it: task_state {place.task_state[:40]}")
    if place.vm_state != ACTIVE:
        return Never(f"Nova says {place.vm_state[:40]}: it is not to run, or Nova knows that it does not")
    if isinstance(age, bool) or not isinstance(age, int | float) or not age >= NOVAS_TIME:
        return NotNow(f"Nova has {NOVAS_TIME:.0f} s to start it again by itself")
    return None


def _by_state(ground: Ground, shown: Mapping[str, Any], worker: str) -> LastWord:
    state = str(shown.get("state"))[:40]
    if ground.refuted_by_an_answer and shown.get("answered_since_miss") is True:
        return NotNow(f"it has answered since its last miss, {worker} says")
    if shown.get("silences"):
        return NotNow(f"{worker} expects no answer at present")
    if state not in STATES:
        return Unclear(f"{worker} says {state}, which is not known here")
    if state not in STANDS[ground]:
        return NotNow(f"its fault does not stand at present, {worker} says: {state}")
    # An older worker does not tell, and its state is enough. One that has just started may not know.
    if ground in (Ground.SILENCE, Ground.TOLD) and shown.get("answered_since_miss", False) is not False:
        return Unclear(f"{worker} does not know whether it has answered")
    return Go()


#: Of a worker's `show`: a test holds them against the worker's own.
STATES = frozenset({"waiting", "alive", "missing", "silent", "gone"})
