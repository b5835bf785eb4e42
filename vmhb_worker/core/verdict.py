"""Is this instance dead, and of what? The evidence, the causes in the order in which they are judged, and the action.

To change how a cause is judged, change its row in `RULES`: first match wins. Nothing in here knows where the evidence
comes from or where the verdict goes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vmhb_common.model.causes import Cause, Confidence, Severity
from vmhb_common.model.policy import Action

#: QEMU's monitor is hung, not busy, once somebody has waited this long for it (seconds).
OCCUPIED_IS_HUNG = 5.0


class Recovery(enum.Enum):
    """When recovery is asked for."""

    NEVER = "never"
    IF_RECOVER = "when the policy says recover"
    IF_UNRESPONSIVE = "when the policy says recover_unresponsive"


class Trigger(enum.Enum):
    """What made us judge."""

    FAILED = "domain stopped as failed"
    POWER = "domain shut off by nobody known, and its host has booted since it ran"
    UNEXPLAINED = "domain shut off by nobody known"
    IO_ERROR = "domain paused by an I/O error"
    POSTCOPY = "domain paused by a failure, or by QEMU itself"
    WATCHDOG = "domain paused by its watchdog"
    PANIC = "panic, and no acknowledgement since"
    EXITED = "port closed for the settle time"
    SILENT = "threshold reached"
    OVERDUE = "grace over"
    UNHEALTHY = "unhealthy threshold times in a row"


#: What `panic` says of a guest that told that it saves a crash dump; True of one that merely panicked.
CRASH_DUMP = "crash_dump"


class Balloon(enum.Enum):
    """What the guest's balloon driver, a part of its kernel, said when it was asked."""

    ANSWERED = "answered"
    NO_ANSWER = "no answer"


@dataclass(frozen=True, slots=True)
class Reading:
    """One input of a verdict: what was seen, and when (monotonic seconds). Value None: not available, and `why`."""

    value: Any = None
    at: float | None = None
    why: str = "not looked at"

    def told(self, now: float) -> dict[str, Any]:
        """For the notification: value and age in seconds, or why there is none."""
        if self.value is None:
            return {"value": "unavailable", "reason": self.why}
        value = self.value.value if isinstance(self.value, enum.Enum) else self.value
        age = None if self.at is None else round(max(0.0, now - self.at), 1)
        return {"value": value, "age": age}


def unavailable(why: str) -> Reading:
    """A reading that there isn't."""
    return Reading(None, None, why)


_UNSEEN = Reading()


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a suspect. Every field is always told, the unavailable ones too.

    domain: "state (reason)" of libvirt; process: is QEMU's process alive; occupied: seconds that somebody has been
    waiting for QEMU's monitor, 0 when nobody is; port: is the channel's port open; balloon: `Balloon`;
    connection: is the application channel's socket connected to QEMU; other_channel: does the instance's other channel
    answer; vcpu: share of one CPU that the guest's vCPUs used during
    the probe; io: requests and packets during the probe; panic, watchdog: was the event seen this boot (panic: or
    `CRASH_DUMP`); host: how hard pressed the host itself is.
    """

    domain: Reading = _UNSEEN
    process: Reading = _UNSEEN
    occupied: Reading = _UNSEEN
    port: Reading = _UNSEEN
    balloon: Reading = _UNSEEN
    connection: Reading = _UNSEEN
    other_channel: Reading = _UNSEEN
    vcpu: Reading = _UNSEEN
    io: Reading = _UNSEEN
    panic: Reading = _UNSEEN
    watchdog: Reading = _UNSEEN
    host: Reading = _UNSEEN
    #: True while something that can change the verdict is still on its way.
    pending: bool = False

    def told(self, now: float) -> dict[str, Any]:
        """Every input with its age in seconds."""
        return {
            name: getattr(self, name).told(now)
            for name in (
                *("domain", "process", "occupied", "port", "balloon"),
                *("connection", "other_channel", "vcpu", "io", "panic", "watchdog"),
                "host",
            )
        }


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged. overrun: the guest's maintenance is over, and it has not answered since."""

    trigger: Trigger
    channel: str
    evidence: Evidence
    overrun: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: a cause, when it is the one, and what follows."""

    cause: Cause
    matches: Callable[[Case], bool]
    severity: Severity
    recovery: Recovery
    confidence: Confidence
    reason: str  # one sentence for people


def _silent(case: Case) -> bool:
    return case.trigger is Trigger.SILENT


def _occupied(case: Case) -> bool:
    seconds = case.evidence.occupied.value
    return seconds is not None and seconds >= OCCUPIED_IS_HUNG


def _balloon(case: Case, said: Balloon) -> bool:
    return case.evidence.balloon.value is said


def _other_channel_answers(case: Case) -> bool:
    return bool(case.evidence.other_channel.value)


def _kernel_lives(case: Case) -> bool:
    return _balloon(case, Balloon.ANSWERED) or _other_channel_answers(case)


RULES: tuple[Rule, ...] = (
    Rule(
        Cause.QEMU_FAILED,
        lambda case: case.trigger is Trigger.FAILED,
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        Confidence.HIGH,
        "QEMU crashed or was killed",
    ),
    Rule(
        Cause.HOST_LOST_POWER,
        lambda case: case.trigger is Trigger.POWER,
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        Confidence.MEDIUM,
        "it ran when its host went down, and has not since that is up again",
    ),
    Rule(
        Cause.STOPPED_UNEXPLAINED,
        lambda case: case.trigger is Trigger.UNEXPLAINED,
        Severity.WARNING,
        Recovery.NEVER,
        Confidence.LOW,
        "it ran when the worker last knew, does not any more, and libvirt does not know why",
    ),
    Rule(
        Cause.PAUSED_IO_ERROR,
        lambda case: case.trigger is Trigger.IO_ERROR,
        Severity.CRITICAL,
        Recovery.NEVER,
        Confidence.HIGH,
        "QEMU paused the guest because of an I/O error of its storage",
    ),
    Rule(
        Cause.PAUSED_FAILED,
        lambda case: case.trigger is Trigger.POSTCOPY,
        Severity.CRITICAL,
        Recovery.NEVER,
        Confidence.HIGH,
        "the guest is paused, and by nobody's wish: its post-copy migration or a call of libvirt's failed, or QEMU "
        "stopped it by itself",
    ),
    Rule(
        Cause.QEMU_HUNG,
        lambda case: case.trigger in (Trigger.SILENT, Trigger.PANIC) and _occupied(case),
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        Confidence.HIGH,
        "QEMU does not answer libvirt, which answers otherwise",
    ),
    Rule(
        Cause.GUEST_PANICKED,
        lambda case: case.trigger is Trigger.PANIC or (_silent(case) and bool(case.evidence.panic.value)),
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        Confidence.HIGH,
        "the guest's kernel panicked",
    ),
    Rule(
        Cause.GUEST_HUNG,
        lambda case: _silent(case) and _balloon(case, Balloon.NO_ANSWER) and not _other_channel_answers(case),
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        Confidence.HIGH,
        "the guest's kernel no longer answers: its balloon driver, which did before, is silent too",
    ),
    Rule(
        Cause.GUEST_HUNG,
        lambda case: case.trigger is Trigger.WATCHDOG,
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        Confidence.HIGH,
        "the guest no longer fed its watchdog, and QEMU paused it as it was told to",
    ),
    Rule(
        Cause.AGENT_EXITED,
        lambda case: case.trigger is Trigger.EXITED,
        Severity.WARNING,
        Recovery.NEVER,
        Confidence.HIGH,
        "nothing in the guest holds the channel's port open any more",
    ),
    Rule(
        Cause.APPLICATION_UNHEALTHY,
        lambda case: case.trigger is Trigger.UNHEALTHY,
        Severity.CRITICAL,
        Recovery.IF_UNRESPONSIVE,
        Confidence.HIGH,
        "the application says that it is unhealthy",
    ),
    Rule(
        Cause.MAINTENANCE_OVERDUE,
        lambda case: _silent(case) and case.overrun,
        Severity.WARNING,
        Recovery.NEVER,
        Confidence.HIGH,
        "the maintenance that the guest asked for is over, and it has not come back",
    ),
    Rule(
        Cause.APPLICATION_UNRESPONSIVE,
        lambda case: _silent(case) and case.channel == "application" and _kernel_lives(case),
        Severity.CRITICAL,
        Recovery.IF_UNRESPONSIVE,
        Confidence.HIGH,
        "the application is silent while its guest lives",
    ),
    Rule(
        Cause.AGENT_UNRESPONSIVE,
        lambda case: _silent(case) and case.channel == "agent" and _kernel_lives(case),
        Severity.CRITICAL,
        Recovery.IF_UNRESPONSIVE,
        Confidence.HIGH,
        "the guest's kernel lives, but its agent does not answer: user space or its I/O is not scheduled",
    ),
    Rule(
        Cause.GUEST_SILENT,
        _silent,
        Severity.CRITICAL,
        Recovery.IF_UNRESPONSIVE,
        Confidence.LOW,
        "the guest does not answer, and there is no evidence either way",
    ),
    Rule(
        Cause.NOT_ESTABLISHED,
        lambda case: case.trigger is Trigger.OVERDUE,
        Severity.WARNING,
        Recovery.NEVER,
        Confidence.HIGH,
        "the guest has not answered since it started",
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Cause, confidence, and the evidence that they rest on. held: its guest has time, before recovery is asked for."""

    cause: Cause
    confidence: Confidence
    severity: Severity
    recovery: Recovery
    reason: str
    evidence: Evidence
    held: bool = False


def judge(case: Case) -> Verdict:
    """The first rule that matches. Total: every trigger has a rule that takes it without evidence."""
    rule = next(rule for rule in RULES if rule.matches(case))
    return Verdict(rule.cause, rule.confidence, rule.severity, rule.recovery, rule.reason, case.evidence)


def recommend(verdict: Verdict, action: Action, observe_only: bool) -> tuple[str, str | None]:
    """What to ask reporters for, and why not more: `recommended_action` and `withheld` of the notification. What the
    host, or its past, says against it is `caution`'s."""
    asked = _asked(verdict.recovery, action)
    if verdict.evidence.pending and verdict.recovery is not Recovery.NEVER:
        return "alarm", "evidence"
    if not asked:
        return "alarm", None
    if verdict.held:
        return "alarm", "hold"
    if observe_only:
        return "alarm", "observe"
    return "recover", None


def recommend_still(cause: str, action: Action, observe_only: bool) -> tuple[str, str | None]:
    """The same for a recovery that was asked for before, by a policy or an operator that may say otherwise by now."""
    if not any(_asked(rule.recovery, action) for rule in RULES if rule.cause == cause):
        return "alarm", None
    return ("alarm", "observe") if observe_only else ("recover", None)


def _asked(recovery: Recovery, action: Action) -> bool:
    return {
        Recovery.NEVER: False,
        Recovery.IF_RECOVER: action in (Action.RECOVER, Action.RECOVER_UNRESPONSIVE),
        Recovery.IF_UNRESPONSIVE: action is Action.RECOVER_UNRESPONSIVE,
    }[recovery]
