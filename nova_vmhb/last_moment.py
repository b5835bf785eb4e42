"""What a recovery is to do at its last moment, given what the worker says by then. Pure, and standard library only.

A report to Masakari may be minutes old when its engine comes to it: recoveries of one host are done one after the
other. Until then the guest may have answered, its user may have rebooted it, or another outage may have begun. So the
worker is asked once more, and whatever it says has a row here. What nobody knows is neither dead nor well: it is asked
again for a while, and then left alone, since a fault that stays open asks for its next recovery by itself.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: Who reported had another clock than whoever reads it, and dated the report after the first miss (seconds).
CLOCKS = 15.0


class Deed(enum.Enum):
    """What to do."""

    REBOOT = "reboot it hard: no clean shutdown gets an answer"
    STOP = "stop it cleanly, and start it"
    LEAVE = "leave it alone: what was reported is over, or not for a recovery to end"
    UNKNOWN = "nobody knows: ask again"
    UNWATCHED = "no worker of ours watches it: the report is somebody else's"


@dataclass(frozen=True, slots=True)
class Step:
    """why: one sentence, for the log, and for whoever reads how the recovery went."""

    deed: Deed
    why: str
    fault_id: str | None = None


class Kind(enum.Enum):
    """What a cause says of the guest, as far as it matters here."""

    DEAD = "its kernel or QEMU does not go on"
    SILENT = "it does not answer"
    UNHEALTHY = "it answers, and says itself that it is not well: only that word, and no answer, ends it"
    GONE = "its QEMU has failed: there is nobody to answer"
    LOST = "it ran when its host went down, and has not since, though Nova says that it should: nobody is there"
    NO_RECOVERY = "no recovery is ever asked for"


#: By cause: total over those that the worker has, a test says.
CAUSES: Mapping[str, Kind] = {
    "memory_failure": Kind.NO_RECOVERY,
    "qemu_failed": Kind.GONE,
    "host_lost_power": Kind.LOST,
    "stopped_unexplained": Kind.NO_RECOVERY,
    "paused_io_error": Kind.NO_RECOVERY,
    "paused_failed": Kind.NO_RECOVERY,
    "qemu_hung": Kind.DEAD,
    "asleep": Kind.NO_RECOVERY,
    "starved": Kind.NO_RECOVERY,
    "guest_panicked": Kind.DEAD,
    "guest_hung": Kind.DEAD,
    "agent_exited": Kind.NO_RECOVERY,
    "application_unhealthy": Kind.UNHEALTHY,
    "file_systems_frozen": Kind.NO_RECOVERY,
    "maintenance_overdue": Kind.NO_RECOVERY,
    "application_unresponsive": Kind.SILENT,
    "agent_unresponsive": Kind.SILENT,
    "guest_silent": Kind.SILENT,
    "not_established": Kind.NO_RECOVERY,
    "host_suspect": Kind.NO_RECOVERY,
    "worker_lost": Kind.NO_RECOVERY,
    "flapping": Kind.NO_RECOVERY,
}

#: In these states a fault of the kind stands. The worker's state machine leaves `silent` with the first
#: acknowledgement, whatever its version.
STANDS: Mapping[Kind, frozenset[str]] = {
    Kind.DEAD: frozenset({"silent"}),
    Kind.SILENT: frozenset({"silent"}),
    Kind.UNHEALTHY: frozenset({"alive", "missing", "silent"}),
    Kind.GONE: frozenset({"gone"}),
    Kind.LOST: frozenset({"gone"}),
}

#: What it means that a fault of silence, or of a domain that does not run, is met where it does not stand, by state.
OTHERWISE: Mapping[str, tuple[Deed, str]] = {
    "waiting": (Deed.LEAVE, "it has been booted since, and has its time to answer"),
    "gone": (Deed.LEAVE, "it does not run any more: somebody is at it, or has stopped it"),
    "alive": (Deed.UNKNOWN, "whether it has answered since its last miss is not known"),
    "missing": (Deed.UNKNOWN, "whether it has answered since its last miss is not known"),
    "silent": (Deed.UNKNOWN, "it is silent now, and that is not what was found"),
}


def unknown(why: str) -> Step:
    """Nobody could be asked."""
    return Step(Deed.UNKNOWN, why)


def judge(shown: Any, reported_age: float | None = None, before: str | None = None) -> Step:
    """shown: what the worker's `show` said, of any version. reported_age: how many seconds ago its recovery was asked
    for, None where that is not known. before: the fault that was open when the same recovery asked before."""
    if shown is None:
        return Step(Deed.UNWATCHED, "its worker does not watch it")
    if not isinstance(shown, Mapping):
        return unknown(f"its worker's answer makes no sense: {type(shown).__name__}")
    if "error" in shown:
        return Step(Deed.UNWATCHED, f"its worker does not watch it: {str(shown['error'])[:200]}")
    state, fault = shown.get("state"), shown.get("fault", "")
    if not isinstance(state, str) or not isinstance(fault, Mapping | None):
        return unknown("its worker's answer has no state, or no word of a fault")
    if fault is None:
        return _without_a_fault(state)
    step = _another(fault, reported_age, before) or _with_a_fault(shown, state, fault)
    fault_id = fault.get("fault_id")
    return Step(step.deed, step.why, fault_id if isinstance(fault_id, str) else None)


def _without_a_fault(state: str) -> Step:
    if state in ("missing", "silent"):
        # Somebody else's report, who was faster: it is being found out.
        return unknown(f"its worker has no fault of it, and it is {state}")
    return Step(Deed.LEAVE, f"its fault is over: its worker has none, and says {state[:40]}")


def _another(fault: Mapping[str, Any], reported_age: float | None, before: str | None) -> Step | None:
    """Is it another outage than the one that was reported? An older worker does not tell when a fault began."""
    if before is not None and fault.get("fault_id") != before:
        return Step(Deed.LEAVE, "the fault that it was reported for is over; another one has its own recovery")
    began = _number(fault.get("suspected_age"))
    if reported_age is not None and began is not None and began + CLOCKS < reported_age:
        return Step(
            Deed.LEAVE,
            f"its fault began {began:.0f} s ago, and it was reported {reported_age:.0f} s ago: that was an earlier one",
        )
    return None


def _with_a_fault(shown: Mapping[str, Any], state: str, fault: Mapping[str, Any]) -> Step:
    if not isinstance(fault.get("cause"), str):
        return unknown("its worker's answer has a fault without a cause")
    cause = str(fault["cause"])[:40]
    kind = CAUSES.get(cause)
    if kind is None and fault.get("recommended_action") == "recover":
        kind = Kind.SILENT  # a newer worker's cause, which asks for it: the gentle way, and only of one that is silent
    if kind is None:
        return unknown(f"its worker says {cause}, which is not known here, and asks for no recovery")
    return _against(shown, kind, cause, fault) or _by_state(shown, state, kind, cause)


def _against(shown: Mapping[str, Any], kind: Kind, cause: str, fault: Mapping[str, Any]) -> Step | None:
    if kind is Kind.NO_RECOVERY:
        return Step(Deed.LEAVE, f"its worker says {cause}, for which no recovery is asked for")
    if kind is not Kind.UNHEALTHY and shown.get("answered_since_miss") is True:
        return Step(Deed.LEAVE, f"it has answered since its last miss, for which its worker said {cause}")
    if shown.get("silences"):
        return unknown(f"its worker expects no answer at present: {_reasons(shown['silences'])}")
    if fault.get("withheld"):
        return unknown(f"its worker withholds the recovery for now: {str(fault['withheld'])[:40]}")
    if fault.get("recommended_action", "recover") != "recover":  # an older worker does not tell
        return Step(Deed.LEAVE, f"its worker says {cause}, and asks for no recovery, or not any more")
    return None


def _by_state(shown: Mapping[str, Any], state: str, kind: Kind, cause: str) -> Step:
    if state not in STANDS[kind]:
        deed, why = OTHERWISE.get(state, (Deed.UNKNOWN, f"its worker says {state[:40]}, which is not known here"))
        return Step(deed, why)
    # An older worker does not tell, and its state is enough. One that has just started may not know.
    if kind in (Kind.DEAD, Kind.SILENT) and shown.get("answered_since_miss", False) is not False:
        return unknown("its worker does not know whether it has answered since its last miss")
    return Step(Deed.REBOOT if kind is Kind.DEAD else Deed.STOP, f"its worker says {cause}, and {state}")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _reasons(silences: Any) -> str:
    values = silences.values() if isinstance(silences, Mapping) else [silences]
    return ", ".join(str(value)[:60] for value in values)[:200]


def insist(
    ask: Callable[[], Step],
    seconds: float,
    every: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Step:
    """Ask until somebody knows, for so many seconds; then the last word is that nobody does.

    An instance that no worker watches is asked for as long: a worker that has just started may not have met it yet.
    """
    end = clock() + seconds
    while True:
        step = ask()
        if step.deed not in (Deed.UNKNOWN, Deed.UNWATCHED) or clock() >= end:
            return step
        sleep(every)


# -- afterwards --------------------------------------------------------------------------------------------------------


class Heard(enum.Enum):
    """Has the guest answered after its recovery?"""

    ANSWERS = "it answers"
    NOT_YET = "it does not answer"
    UNKNOWN = "nobody knows"
    UNWATCHED = "no worker watches it: there is nothing to confirm"


#: By state, of one whose worker has a fault of it, or where it makes no difference.
CONFIRMED: Mapping[str, Heard] = {
    "alive": Heard.UNKNOWN,  # of a fault that it may have answered since, or not
    "missing": Heard.UNKNOWN,
    "waiting": Heard.NOT_YET,
    "silent": Heard.NOT_YET,
    "gone": Heard.NOT_YET,
}


def confirm(shown: Any) -> tuple[Heard, str]:
    """What the worker's `show` said of a guest that was recovered, and that in words."""
    step = judge(shown)
    if step.deed is Deed.UNWATCHED:
        return Heard.UNWATCHED, step.why
    state, fault = (shown.get("state"), shown.get("fault", "")) if isinstance(shown, Mapping) else (None, "")
    if not isinstance(state, str) or not isinstance(fault, Mapping | None):
        return Heard.UNKNOWN, step.why
    if fault is not None and CAUSES.get(str(fault.get("cause"))) is Kind.UNHEALTHY:
        return Heard.NOT_YET, f"{state[:40]}, and it says that it is not well"
    if state == "alive" and (fault is None or shown.get("answered_since_miss") is True):
        return Heard.ANSWERS, state
    if shown.get("silences"):
        return Heard.UNKNOWN, f"no answer is expected at present: {_reasons(shown['silences'])}"
    return CONFIRMED.get(state, Heard.UNKNOWN), state[:40]
