"""The causes, in the order in which they are judged, and what follows from each."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product

import pytest

from vmhb_common.model.causes import Cause, Confidence, Severity
from vmhb_common.model.policy import Action
from vmhb_worker.core.evidence import TABLE, Balloon, Evidence, Reading, System, unavailable
from vmhb_worker.core.verdict import OCCUPIED_IS_HUNG, RULES, Case, Recovery, Trigger, judge, recommend

NOTHING = Evidence()
ANSWERED = Evidence(balloon=Reading(Balloon.ANSWERED, 0.0))
NO_ANSWER = Evidence(
    balloon=Reading(Balloon.NO_ANSWER, 0.0), balloon_fresh=Reading(True, 0.0), system=Reading(System.LINUX, 0.0)
)
OCCUPIED = Evidence(occupied=Reading(OCCUPIED_IS_HUNG, 0.0))
PANICKED = Evidence(panic=Reading(True, 0.0))
OTHER = Evidence(other_channel=Reading(True, 0.0))
#: Everything that points at a dead guest at once.
WORST = replace(NO_ANSWER, occupied=OCCUPIED.occupied, panic=PANICKED.panic)


def cause(trigger: Trigger, evidence: Evidence = NOTHING, channel: str = "agent") -> str:
    return str(judge(Case(trigger, channel, evidence)).cause)


@pytest.mark.parametrize(
    ("trigger", "alone", "at_worst"),
    [
        (Trigger.FAILED, "qemu_failed", "qemu_failed"),
        (Trigger.ENDED, "qemu_failed", "qemu_failed"),
        (Trigger.POWER, "host_lost_power", "host_lost_power"),
        (Trigger.UNEXPLAINED, "stopped_unexplained", "stopped_unexplained"),
        (Trigger.IO_ERROR, "paused_io_error", "paused_io_error"),
        (Trigger.POSTCOPY, "paused_failed", "paused_failed"),
        (Trigger.WATCHDOG, "guest_hung", "guest_hung"),
        (Trigger.PANIC, "guest_panicked", "qemu_hung"),
        (Trigger.MEMORY, "memory_failure", "memory_failure"),
        (Trigger.EXITED, "agent_exited", "agent_exited"),
        (Trigger.SILENT, "guest_silent", "qemu_hung"),
        (Trigger.OVERDUE, "not_established", "not_established"),
        (Trigger.UNHEARD, "guest_silent", "qemu_hung"),
    ],
)
def test_every_trigger_has_a_cause(trigger: Trigger, alone: str, at_worst: str) -> None:
    """Total: with no evidence at all, and with all that there can be."""
    assert {cause(trigger, channel=channel) for channel in ("agent", "application")} == {alone}
    assert cause(trigger, WORST) == at_worst


def test_no_trigger_is_forgotten() -> None:
    """Whatever the evidence and the channel, there is a verdict."""
    readings = [unavailable("why"), Reading(Balloon.ANSWERED, 0.0), Reading(Balloon.NO_ANSWER, 0.0)]
    flags = [unavailable("why"), Reading(False, 0.0), Reading(True, 0.0)]
    seconds = [unavailable("why"), Reading(0.0, 0.0), Reading(9.0, 0.0)]
    for trigger, channel, balloon, other, panic, occupied in product(
        Trigger, ("agent", "application"), readings, flags, flags, seconds
    ):
        evidence = Evidence(balloon=balloon, other_channel=other, panic=panic, occupied=occupied)
        assert judge(Case(trigger, channel, evidence)).cause in Cause


@pytest.mark.parametrize(
    ("evidence", "channel", "expected"),
    [
        (NOTHING, "agent", "guest_silent"),
        (ANSWERED, "agent", "agent_unresponsive"),
        (ANSWERED, "application", "application_unresponsive"),
        (OTHER, "agent", "agent_unresponsive"),
        (OTHER, "application", "application_unresponsive"),
        (NO_ANSWER, "agent", "guest_hung"),
        (NO_ANSWER, "application", "guest_hung"),
        (replace(NO_ANSWER, other_channel=OTHER.other_channel), "application", "application_unresponsive"),
        (replace(NO_ANSWER, panic=PANICKED.panic), "agent", "guest_panicked"),
        (replace(ANSWERED, occupied=OCCUPIED.occupied), "agent", "qemu_hung"),
        (replace(WORST, process=Reading(True, 0.0)), "agent", "qemu_hung"),
        (replace(ANSWERED, port=Reading(False, 0.0)), "agent", "agent_unresponsive"),
    ],
)
def test_what_a_silent_guest_is_accused_of(evidence: Evidence, channel: str, expected: str) -> None:
    """DESIGN 6.2: the first row that matches; a live kernel is never called hung."""
    assert cause(Trigger.SILENT, evidence, channel) == expected


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, "guest_silent"), (4.9, "guest_silent"), (5.0, "qemu_hung")])
def test_a_busy_monitor_is_no_hung_one(seconds: float, expected: str) -> None:
    """Somebody waits for QEMU's monitor now and then; only five seconds of it are proof."""
    assert cause(Trigger.SILENT, Evidence(occupied=Reading(seconds, 0.0))) == expected


def test_the_rows_are_those_of_the_design() -> None:
    """DESIGN 6.2, row by row, in its order: severity and class of recovery. Others raise the causes not in here."""
    rows = list(dict.fromkeys((str(rule.cause), str(rule.severity), rule.recovery.name) for rule in RULES))
    assert rows == [
        ("memory_failure", "critical", "NEVER"),
        ("qemu_failed", "critical", "IF_RECOVER"),
        ("host_lost_power", "critical", "IF_RECOVER"),
        ("stopped_unexplained", "warning", "NEVER"),
        ("paused_io_error", "critical", "NEVER"),
        ("paused_failed", "critical", "NEVER"),
        ("qemu_hung", "critical", "IF_RECOVER"),
        ("asleep", "info", "NEVER"),
        ("starved", "warning", "NEVER"),
        ("guest_panicked", "critical", "IF_RECOVER"),
        ("guest_hung", "critical", "IF_RECOVER"),
        ("agent_exited", "warning", "NEVER"),
        ("application_unhealthy", "critical", "IF_UNRESPONSIVE"),
        ("file_systems_frozen", "warning", "NEVER"),
        ("maintenance_overdue", "warning", "NEVER"),
        ("application_unresponsive", "critical", "IF_UNRESPONSIVE"),
        ("agent_unresponsive", "critical", "IF_UNRESPONSIVE"),
        ("guest_silent", "critical", "IF_UNRESPONSIVE"),
        ("guest_silent", "critical", "NEVER"),  # nobody can be asked
        ("not_established", "warning", "NEVER"),
    ]
    judged = [cause for cause in Cause if any(rule.cause is cause for rule in RULES)]
    assert judged == list(dict.fromkeys(rule.cause for rule in RULES))


@pytest.mark.parametrize(
    ("trigger", "evidence", "alarm", "recover", "recover_unresponsive"),
    [
        (Trigger.FAILED, NOTHING, "alarm", "recover", "recover"),
        (Trigger.POWER, NOTHING, "alarm", "recover", "recover"),
        (Trigger.UNEXPLAINED, NOTHING, "alarm", "alarm", "alarm"),
        (Trigger.IO_ERROR, NOTHING, "alarm", "alarm", "alarm"),
        (Trigger.SILENT, NO_ANSWER, "alarm", "recover", "recover"),
        (Trigger.SILENT, ANSWERED, "alarm", "alarm", "recover"),
        (Trigger.SILENT, NOTHING, "alarm", "alarm", "recover"),
        (Trigger.EXITED, NOTHING, "alarm", "alarm", "alarm"),
        (Trigger.OVERDUE, NOTHING, "alarm", "alarm", "alarm"),
        (Trigger.UNHEALTHY, NOTHING, "alarm", "alarm", "recover"),
    ],
)
def test_recovery_is_asked_for_as_the_policy_says(
    trigger: Trigger, evidence: Evidence, alarm: str, recover: str, recover_unresponsive: str
) -> None:
    """A dead agent is not a dead VM; and an operator who asked for alarms gets alarms."""
    verdict = judge(Case(trigger, "agent", evidence))
    actions = (Action.ALARM, Action.RECOVER, Action.RECOVER_UNRESPONSIVE)
    assert [recommend(verdict, action, False) for action in actions] == [
        (alarm, None),
        (recover, None),
        (recover_unresponsive, None),
    ]


def test_no_recovery_while_decisive_evidence_is_outstanding() -> None:
    """It is withheld, and said so, also where the policy asks for none: the verdict is not final. Not where none is."""
    pending = replace(NOTHING, pending=True)
    silent = judge(Case(Trigger.SILENT, "agent", pending))
    assert recommend(silent, Action.RECOVER_UNRESPONSIVE, False) == ("alarm", "evidence")
    assert recommend(silent, Action.RECOVER, False) == ("alarm", "evidence")
    assert recommend(silent, Action.ALARM, False) == ("alarm", "evidence")
    never = judge(Case(Trigger.IO_ERROR, "agent", pending))
    assert recommend(never, Action.RECOVER, False) == ("alarm", None)


def test_observe_only_recommends_nothing_but_alarms() -> None:
    """And says what would have been."""
    dead = judge(Case(Trigger.FAILED, "agent", NOTHING))
    assert recommend(dead, Action.RECOVER, True) == ("alarm", "observe")
    assert recommend(dead, Action.ALARM, True) == ("alarm", None)


@pytest.mark.parametrize("trigger", Trigger)
def test_nobody_is_recovered_onto_broken_memory(trigger: Trigger) -> None:
    """Every recovery begins on the host where it was: whatever else is wrong, this goes first."""
    verdict = judge(Case(trigger, "agent", replace(WORST, memory=Reading("guest, reset", 0.0))))
    assert (verdict.cause, verdict.recovery) == (Cause.MEMORY_FAILURE, Recovery.NEVER)
    ended = trigger in (Trigger.FAILED, Trigger.ENDED, Trigger.POWER, Trigger.UNEXPLAINED)
    assert ("does not run any more" in verdict.reason) is ended


def test_every_input_is_told_with_its_age_also_those_that_there_were_not() -> None:
    """Whoever reads the notification sees what the verdict rests on, and what it does not."""
    evidence = Evidence(
        domain=Reading("running (booted)", 90.0),
        balloon=Reading(Balloon.NO_ANSWER, 98.76),
        process=unavailable("QEMU's process cannot be seen from here"),
        watchdog=Reading(False, None),
        io=Reading(3, 101.0),
    )
    told = evidence.told(100.0)
    assert list(told) == list(TABLE) == [line.name for line in fields(Evidence) if line.name != "pending"]
    assert told["domain"] == {"value": "running (booted)", "age": 10.0}
    assert told["balloon"] == {"value": "no answer", "age": 1.2}
    assert told["process"] == {"value": "unavailable", "reason": "QEMU's process cannot be seen from here"}
    assert told["vcpu"] == {"value": "unavailable", "reason": "not looked at"}
    assert told["watchdog"] == {"value": False, "age": None}
    assert told["io"] == {"value": 3, "age": 0.0}


def test_a_verdict_carries_what_it_rests_on() -> None:
    """Cause, how sure, how bad, and a sentence for people."""
    verdict = judge(Case(Trigger.SILENT, "agent", NO_ANSWER))
    assert (verdict.cause, verdict.confidence, verdict.severity) == (
        Cause.GUEST_HUNG,
        Confidence.HIGH,
        Severity.CRITICAL,
    )
    assert verdict.recovery is Recovery.IF_RECOVER
    assert verdict.evidence is NO_ANSWER
    assert "kernel no longer answers" in verdict.reason
