"""Is this instance dead, and of what? The causes in the order in which they are judged, and the action.

To change how a cause is judged, change its row in `RULES`: first match wins. What it rests on is `evidence`'s table.
Nothing in here knows where the evidence comes from or where the verdict goes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from vmhb_common.model.causes import Cause, Confidence, Severity
from vmhb_common.model.policy import Action
from vmhb_worker.core.evidence import Balloon, Evidence, System

#: QEMU is hung, not busy, once its main thread has stood still, or somebody has waited for its monitor, for so long
#: (seconds).
OCCUPIED_IS_HUNG = 5.0
#: It may still go on: 45 s were seen of a host whose storage stalled, and two guests of a host of two are no crowd for
#: the brake. So a recovery is asked for when it has stood still for so long (seconds).
STANDS_STILL = 60.0
#: … and twice that where its vCPUs go on, or may: a main loop that waits for the server of a volume is blocked like
#: this, in a guest that works.
STANDS_STILL_WHILE_GUEST_RUNS = 2 * STANDS_STILL
#: The busiest vCPU of a kernel that spins has at least this share of its time; of one that is halted, at most that.
SPINS, HALTED = 0.95, 0.02
#: A guest that sleeps (s2idle) has been still for so long (seconds): an idle kernel's timers run more often.
ASLEEP_FOR = 5.0
#: Starved: the busiest vCPU ran for less than so long (seconds) during a probe, and waited for a processor for this
#: share of it. A halted vCPU does not wait, and a spinning one gets more even on a host at load 16.
STARVED_RAN, STARVED_WAITED = 0.1, 0.5
#: Frozen for longer than this (seconds), file systems are so by mistake. Nova's own quiesce lasts for as long as Cinder
#: needs to begin its snapshots: some seconds, minutes where storage is slow.
FROZEN_TOO_LONG = 900.0
#: Of what a starved guest waited, so much must be by quotas of its own for those to be the reason.
OWN_QUOTA = 0.5


_BROKEN = "memory of this host's that it works with is broken"


class Recovery(enum.Enum):
    """When recovery is asked for."""

    NEVER = "never"
    IF_RECOVER = "when the policy says recover"
    IF_UNRESPONSIVE = "when the policy says recover_unresponsive"


class Trigger(enum.Enum):
    """What made us judge."""

    FAILED = "domain stopped as failed"
    ENDED = "its QEMU has ended, and libvirt does not say so"
    POWER = "domain shut off by nobody known, and its host has booted since it ran"
    UNEXPLAINED = "domain shut off by nobody known"
    IO_ERROR = "domain paused by an I/O error"
    POSTCOPY = "domain paused by a failure, or by QEMU itself"
    WATCHDOG = "domain paused by its watchdog"
    PANIC = "panic, and no acknowledgement since"
    MEMORY = "memory of its own, or of QEMU's, is broken"
    EXITED = "port closed for the settle time"
    SILENT = "threshold reached"
    UNHEARD = "who is to acknowledge is excused, and the host was asked instead"
    OVERDUE = "grace over"
    UNHEALTHY = "unhealthy threshold times in a row"
    FROZEN = "frozen for longer than anybody can have meant it"


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged.

    overrun: the guest's maintenance is over, and it has not answered since. confirmed: where who is to acknowledge is
    excused, that its kernel is silent was found more than once. crash_loops: its agent has come and gone since the last
    acknowledgement.
    """

    trigger: Trigger
    channel: str
    evidence: Evidence
    overrun: bool = False
    confirmed: bool = True
    crash_loops: bool = False


@dataclass(frozen=True, slots=True)
class Weight:
    """How much the evidence carries. unproven: why no recovery is asked for yet, "": nothing more is wanted."""

    confidence: Confidence
    unproven: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: a cause, when it is the one, and what follows.

    weigh: of one that matches, how sure that is; its docstring says so in the docs' table. of_host: it is the host's
    fault, and told of that.
    """

    cause: Cause
    matches: Callable[[Case], bool]
    severity: Severity
    recovery: Recovery
    weigh: Callable[[Case], Weight]
    reason: str  # one sentence for people
    of_host: bool = False


def _certain(_case: Case) -> Weight:
    """high"""
    return Weight(Confidence.HIGH)


def _likely(_case: Case) -> Weight:
    """medium"""
    return Weight(Confidence.MEDIUM)


def _guessed(_case: Case) -> Weight:
    """low"""
    return Weight(Confidence.LOW)


def _weigh_qemu(case: Case) -> Weight:
    """high; no recovery before it has stood still for 60 s, or 120 s where its guest may go on"""
    still = case.evidence.guest_runs.value is False
    enough = STANDS_STILL if still else STANDS_STILL_WHILE_GUEST_RUNS
    if hung_for(case.evidence) >= enough:
        return Weight(Confidence.HIGH)
    how = "" if still else ", since its guest may go on"
    return Weight(Confidence.HIGH, f"it may go on: a recovery is asked for after {enough:.0f} s{how}")


def _weigh_kernel(case: Case) -> Weight:
    """high of a Linux whose balloon reported until the end; else medium, and no recovery without a second sign"""
    evidence = case.evidence
    works = bool(evidence.io.value)
    sure = evidence.system.value is System.LINUX and bool(evidence.balloon_fresh.value) and not works
    confidence = Confidence.HIGH if sure else Confidence.MEDIUM
    if not case.confirmed:
        return Weight(confidence, "whoever was to acknowledge is excused: its kernel is asked once more")
    if evidence.port.value is False and evidence.outlived_port.value is None and not _spins(evidence):
        return Weight(confidence, "it may be asleep: whether its balloon outlived its agent is not known")
    if sure or _still_or_spinning(evidence):
        return Weight(confidence)
    return Weight(
        confidence, "a balloon's driver can leave a kernel that lives, and there is no second sign that this one died"
    )


def _weigh_untold(_case: Case) -> Weight:
    """medium; no recovery"""
    return Weight(Confidence.MEDIUM, "whose wish that was, if anybody's, only libvirt can tell")


def _still_or_spinning(evidence: Evidence) -> bool:
    """The second sign: no I/O, and a vCPU that spins or is halted."""
    vcpu = evidence.vcpu.value
    return evidence.io.value == 0 and vcpu is not None and (_spins(evidence) or vcpu <= HALTED)


def _spins(evidence: Evidence) -> bool:
    return evidence.vcpu.value is not None and evidence.vcpu.value >= SPINS


def _silent(case: Case) -> bool:
    return case.trigger is Trigger.SILENT


def _no_word(case: Case) -> bool:
    """Nobody answers: whoever was asked, or the host in place of one who need not."""
    return case.trigger in (Trigger.SILENT, Trigger.UNHEARD)


def _dead_kernel(case: Case) -> bool:
    return _no_word(case) and _balloon(case, Balloon.NO_ANSWER) and not _other_channel_answers(case)


def _asleep(case: Case) -> bool:
    evidence = case.evidence
    left = evidence.port.value is False and evidence.outlived_port.value is False
    still = evidence.vcpu.value is not None and evidence.vcpu.value < HALTED and not evidence.io.value
    return _dead_kernel(case) and left and still and (evidence.counted.value or 0.0) >= ASLEEP_FOR


def _starved(case: Case) -> bool:
    return _no_word(case) and starved(case.evidence)


def _throttled(case: Case) -> bool:
    throttled, waited = case.evidence.throttled.value, case.evidence.delayed.value
    return _starved(case) and throttled is not None and throttled >= OWN_QUOTA * waited


def starved(evidence: Evidence) -> bool:
    """Did it want to run, and was not let? What it did not do meanwhile says nothing about it."""
    counted, share, waited = evidence.counted.value, evidence.vcpu.value, evidence.delayed.value
    if counted is None or share is None or waited is None:
        return False
    return bool(share * counted < STARVED_RAN and waited >= STARVED_WAITED)


def _hung(case: Case) -> bool:
    return hung_for(case.evidence) >= OCCUPIED_IS_HUNG


def hung_for(evidence: Evidence) -> float:
    """For how many seconds QEMU is known to have done nothing: whoever waits for its monitor only confirms it."""
    return max(evidence.main_thread.value or 0.0, evidence.occupied.value or 0.0)


def _memory_failed(case: Case) -> bool:
    return bool(case.evidence.memory.value)


def _ended(case: Case) -> bool:
    return case.trigger in (Trigger.FAILED, Trigger.ENDED, Trigger.POWER, Trigger.UNEXPLAINED)


def _balloon(case: Case, said: Balloon) -> bool:
    return case.evidence.balloon.value is said


def _other_channel_answers(case: Case) -> bool:
    return bool(case.evidence.other_channel.value)


def _kernel_lives(case: Case) -> bool:
    return _balloon(case, Balloon.ANSWERED) or _other_channel_answers(case)


RULES: tuple[Rule, ...] = (
    # First, whatever else is found: all that asks for a recovery asks for one on this host.
    Rule(
        Cause.MEMORY_FAILURE,
        lambda case: _memory_failed(case) and _ended(case),
        Severity.CRITICAL,
        Recovery.NEVER,
        _certain,
        f"{_BROKEN}, and it does not run any more: start it on another host",
    ),
    Rule(
        Cause.MEMORY_FAILURE,
        lambda case: _memory_failed(case) and case.trigger not in (Trigger.MEMORY, Trigger.UNHEALTHY),
        Severity.CRITICAL,
        Recovery.NEVER,
        _certain,
        f"{_BROKEN}, and it does not go on as it should: bring it to another host",
    ),
    Rule(
        Cause.MEMORY_FAILURE,
        lambda case: _memory_failed(case) or case.trigger is Trigger.MEMORY,
        Severity.CRITICAL,
        Recovery.NEVER,
        _certain,
        f"{_BROKEN}: bring it to another host, whether or not it still answers",
    ),
    Rule(
        Cause.QEMU_FAILED,
        lambda case: case.trigger is Trigger.FAILED and bool(case.evidence.panic.value),
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        _certain,
        "the guest's kernel panicked, and its QEMU was ended for that, as on_crash of its domain says",
    ),
    Rule(
        Cause.QEMU_FAILED,
        lambda case: case.trigger is Trigger.FAILED,
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        _certain,
        "QEMU crashed or was killed",
    ),
    Rule(
        Cause.QEMU_FAILED,
        lambda case: case.trigger is Trigger.ENDED,
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        _weigh_untold,
        "QEMU's process has ended, and libvirt takes the domain for one that runs",
    ),
    Rule(
        Cause.HOST_LOST_POWER,
        lambda case: case.trigger is Trigger.POWER,
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        _likely,
        "it ran when its host went down, and has not since that is up again",
    ),
    Rule(
        Cause.STOPPED_UNEXPLAINED,
        lambda case: case.trigger is Trigger.UNEXPLAINED,
        Severity.WARNING,
        Recovery.NEVER,
        _guessed,
        "it ran when the worker last knew, does not any more, and libvirt does not know why",
    ),
    Rule(
        Cause.PAUSED_IO_ERROR,
        lambda case: case.trigger is Trigger.IO_ERROR,
        Severity.CRITICAL,
        Recovery.NEVER,
        _certain,
        "QEMU paused the guest because of an I/O error of its storage",
    ),
    Rule(
        Cause.PAUSED_FAILED,
        lambda case: case.trigger is Trigger.POSTCOPY,
        Severity.CRITICAL,
        Recovery.NEVER,
        _certain,
        "the guest is paused, and by nobody's wish: its post-copy migration or a call of libvirt's failed, or QEMU "
        "stopped it by itself",
    ),
    Rule(
        Cause.QEMU_HUNG,
        lambda case: (case.trigger is Trigger.PANIC or _no_word(case)) and _hung(case),
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        _weigh_qemu,
        "QEMU stands still, or does not answer libvirt",
    ),
    Rule(
        Cause.ASLEEP,
        _asleep,
        Severity.INFO,
        Recovery.NEVER,
        _likely,
        "its agent and its balloon left together, and it does nothing: it looks asleep (s2idle)",
    ),
    Rule(
        Cause.STARVED,
        _throttled,
        Severity.WARNING,
        Recovery.NEVER,
        _likely,
        "it is to run, and has used up its CPU quota: its vCPUs wait for the next turn",
    ),
    Rule(
        Cause.STARVED,
        _starved,
        Severity.WARNING,
        Recovery.NEVER,
        _likely,
        "it is to run, and is not let: its vCPUs wait for a processor of the host's",
        of_host=True,
    ),
    Rule(
        Cause.GUEST_PANICKED,
        lambda case: case.trigger is Trigger.PANIC or (_no_word(case) and bool(case.evidence.panic.value)),
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        _certain,
        "the guest's kernel panicked",
    ),
    Rule(
        Cause.GUEST_HUNG,
        _dead_kernel,
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        _weigh_kernel,
        "the guest's kernel no longer answers: its balloon driver, which did before, is silent too",
    ),
    Rule(
        Cause.GUEST_HUNG,
        lambda case: case.trigger is Trigger.WATCHDOG,
        Severity.CRITICAL,
        Recovery.IF_RECOVER,
        _certain,
        "the guest no longer fed its watchdog, and QEMU paused it as it was told to",
    ),
    Rule(
        Cause.AGENT_EXITED,
        lambda case: case.trigger is Trigger.EXITED or (_silent(case) and case.crash_loops),
        Severity.WARNING,
        Recovery.NEVER,
        _certain,
        "nothing in the guest holds the channel's port open for long",
    ),
    Rule(
        Cause.APPLICATION_UNHEALTHY,
        lambda case: case.trigger is Trigger.UNHEALTHY,
        Severity.CRITICAL,
        Recovery.IF_UNRESPONSIVE,
        _certain,
        "the application says that it is unhealthy",
    ),
    Rule(
        Cause.FILE_SYSTEMS_FROZEN,
        lambda case: case.trigger is Trigger.FROZEN,
        Severity.WARNING,
        Recovery.NEVER,
        _certain,
        f"its file systems have been frozen for {FROZEN_TOO_LONG / 60:.0f} minutes: nobody has thawed them",
    ),
    Rule(
        Cause.MAINTENANCE_OVERDUE,
        lambda case: _silent(case) and case.overrun,
        Severity.WARNING,
        Recovery.NEVER,
        _certain,
        "the maintenance that the guest asked for is over, and it has not come back",
    ),
    Rule(
        Cause.APPLICATION_UNRESPONSIVE,
        lambda case: _silent(case) and case.channel == "application" and _kernel_lives(case),
        Severity.CRITICAL,
        Recovery.IF_UNRESPONSIVE,
        _certain,
        "the application is silent while its guest lives",
    ),
    Rule(
        Cause.AGENT_UNRESPONSIVE,
        lambda case: _silent(case) and case.channel == "agent" and _kernel_lives(case),
        Severity.CRITICAL,
        Recovery.IF_UNRESPONSIVE,
        _certain,
        "the guest's kernel lives, but its agent does not answer: user space or its I/O is not scheduled",
    ),
    Rule(
        Cause.GUEST_SILENT,
        _silent,
        Severity.CRITICAL,
        Recovery.IF_UNRESPONSIVE,
        _guessed,
        "the guest does not answer, and there is no evidence either way",
    ),
    Rule(
        Cause.GUEST_SILENT,
        lambda case: case.trigger is Trigger.UNHEARD,
        Severity.CRITICAL,
        Recovery.NEVER,
        _guessed,
        "nobody can be asked: who is to acknowledge is excused, and nothing else tells how the guest is",
    ),
    Rule(
        Cause.NOT_ESTABLISHED,
        lambda case: case.trigger is Trigger.OVERDUE,
        Severity.WARNING,
        Recovery.NEVER,
        _certain,
        "the guest has not answered since it started",
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Cause, confidence, and the evidence that they rest on. held: its guest has time, before recovery is asked for.
    unproven: why what was found is not enough for one yet, "": it is. of_host: see `Rule`."""

    cause: Cause
    confidence: Confidence
    severity: Severity
    recovery: Recovery
    reason: str
    evidence: Evidence
    held: bool = False
    unproven: str = ""
    of_host: bool = False


def judge(case: Case) -> Verdict:
    """The first rule that matches. Total: every trigger has a rule that takes it without evidence."""
    rule = next(rule for rule in RULES if rule.matches(case))
    weight = rule.weigh(case)
    return Verdict(
        rule.cause,
        weight.confidence,
        rule.severity,
        rule.recovery,
        rule.reason,
        case.evidence,
        unproven=weight.unproven if rule.recovery is not Recovery.NEVER else "",
        of_host=rule.of_host,
    )


def recommend(verdict: Verdict, action: Action, observe_only: bool) -> tuple[str, str | None]:
    """What to ask reporters for, and why not more: `recommended_action` and `withheld` of the notification. What the
    host, or its past, says against it is `caution`'s."""
    asked = _asked(verdict.recovery, action)
    if verdict.evidence.pending and verdict.recovery is not Recovery.NEVER:
        return "alarm", "evidence"
    if not asked:
        return "alarm", None
    if verdict.unproven:
        return "alarm", "evidence"
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
