"""The last word before a recovery is begun: every cause, state and answer, held against the table of the recovery."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from nova_vmhb import last_moment
from nova_vmhb.last_moment import Deed, Kind
from tests.fakes import a_fault
from tests.unit.consumer.fakes import standing
from vmhb_common.model.causes import RESTS_ON, Cause, Ground, rests_on
from vmhb_consumer.doubt_rules import Place, Told, Unknown, Whereabouts, Word
from vmhb_consumer.last_word import (
    NOVAS_TIME,
    STANDS,
    STATES,
    Go,
    Never,
    NotNow,
    Unclear,
    judge,
)
from vmhb_worker.core.caution import KINDS
from vmhb_worker.core.transitions import State

HUNG = a_fault(host="cn1", cause="guest_hung", recommended_action="recover")
ACTIVE = Place("cn1", vm_state="active")


def shown(cause: str = "guest_hung", state: str = "silent", answered: Any = False, **more: Any) -> Told:
    """As a worker of today says it of this very fault; more: of the fault by `fault_…`, else of the answer."""
    told = standing(replace(HUNG, cause=cause), state=state, answered_since_miss=answered)
    assert told.shown is not None
    values = dict(told.shown)
    values["fault"] = {
        **values["fault"],
        **{name.removeprefix("fault_"): value for name, value in more.items() if name.startswith("fault_")},
    }
    return Told(values | {name: value for name, value in more.items() if not name.startswith("fault_")})


# -- the tables are total, and say the same as the other one -----------------------------------------------------------


def test_every_cause_rests_on_something() -> None:
    """And on what the recovery's own table says: it can't import this one."""
    same = {
        Kind.GONE: {Ground.GONE},
        Kind.LOST: {Ground.LOST},
        Kind.DEAD: {Ground.SILENCE, Ground.TOLD},
        Kind.SILENT: {Ground.SILENCE},
        Kind.UNHEALTHY: {Ground.OWN_WORD},
        Kind.NO_RECOVERY: {Ground.NONE},
    }
    assert set(RESTS_ON) == set(Cause)
    for cause, kind in last_moment.CAUSES.items():
        assert rests_on(cause) in same[kind], cause
        assert STANDS[rests_on(cause)] == last_moment.STANDS.get(kind, frozenset()), cause
    assert rests_on("demons") is Ground.SILENCE


def test_every_ground_and_every_state_has_its_row() -> None:
    """The worker's own states."""
    assert set(STANDS) == set(Ground)
    assert {state.value for state in State} == STATES
    assert set().union(*STANDS.values()) <= STATES


EVERYTHING = list(product(Cause, sorted(STATES), (True, False, None), ({}, {"x": "reboot"}), (None, "brake")))


def test_nothing_is_begun_that_would_be_left_alone() -> None:
    """The whole table: whatever this lets through, a recovery at that moment would carry out; and what this refuses for
    good it would leave alone."""
    for cause, state, answered, silences, withheld in EVERYTHING:
        told = shown(cause, state, answered, silences=silences, fault_withheld=withheld)
        said, step = judge(HUNG, told, ACTIVE), last_moment.judge(told.shown)
        if isinstance(said, Go):
            assert step.deed in (Deed.REBOOT, Deed.STOP), (cause, state, answered)
        else:
            assert step.deed in (Deed.LEAVE, Deed.UNKNOWN), (cause, state, answered)
        if isinstance(said, Never):
            assert step.deed is Deed.LEAVE, (cause, state, answered)


def test_nobody_who_answers_is_stopped() -> None:
    """One acknowledgement since the last miss refutes every cause but the guest's own word."""
    for cause, state in product(Cause, STATES):
        goes = isinstance(judge(HUNG, shown(cause, state, True), None), Go)
        assert goes == (cause is Cause.APPLICATION_UNHEALTHY and state in STANDS[Ground.OWN_WORD]), (cause, state)


def test_an_older_worker_does_not_tell() -> None:
    """Neither whether it has answered, nor what is asked for: its state tells, which an acknowledgement ends."""
    for cause, state in product(Cause, STATES):
        word = Told({"state": state, "silences": {}, "fault": {"fault_id": HUNG.fault_id, "cause": str(cause)}})
        goes = isinstance(judge(HUNG, word, ACTIVE), Go)
        # What only Nova can say to be a fault must have an age, and older workers know of no such cause.
        told = state in STANDS[rests_on(cause)] and not rests_on(cause).is_novas_to_say
        assert goes == told, (cause, state)


# -- the rest ----------------------------------------------------------------------------------------------------------

AWAY = Unknown("it does not answer")
HERE = Place("cn1")


@pytest.mark.parametrize(
    ("word", "place", "says"),
    [
        (shown(), HERE, Go()),
        (shown(), None, Go()),
        (shown(answered=None), None, Unclear("the worker on cn1 does not know whether it has answered")),
        (shown(answered="yes"), None, Unclear("the worker on cn1 does not know whether it has answered")),
        (shown("application_unhealthy", "alive", None), None, Go()),
        (shown("qemu_failed", "gone", None), None, Go()),
        (shown(), Place("cn2"), Never("meanwhile the instance is on cn2 now, Nova says")),
        (AWAY, Place(None, exists=False), Never("meanwhile Nova has no such instance any more")),
        (AWAY, HERE, Unclear("it does not answer")),
        (shown(), AWAY, Unclear("it does not answer")),
        (Told(None), HERE, Unclear("the worker on cn1 does not watch the instance")),
        (Told({"error": "its policy makes no sense"}), HERE, Unclear("the worker on cn1 does not watch the instance")),
        (Told({"state": "alive", "fault": None}), None, Never("the worker on cn1 does not know of the fault any more")),
        (shown(fault_fault_id="c" * 36), None, Never("the worker on cn1 does not know of the fault any more")),
        (Told({"state": "silent"}), None, Unclear("the worker on cn1 says nothing of a fault that makes sense")),
        (shown("agent_exited"), None, Never("the worker on cn1 says agent_exited by now, for which no recovery is")),
        (shown(fault_withheld="brake"), None, NotNow("the worker on cn1 withholds it for now: brake")),
        (shown(fault_recommended_action="alarm"), None, Never("the worker on cn1 asks for no recovery any more")),
        (shown(answered=True), None, NotNow("it has answered since its last miss, the worker on cn1 says")),
        (shown(silences={"x": "reboot"}), None, NotNow("the worker on cn1 expects no answer at present")),
        (shown(state="asleep"), None, Unclear("the worker on cn1 says asleep, which is not known here")),
        (shown(state="waiting"), None, NotNow("its fault does not stand at present, the worker on cn1 says: waiting")),
        (shown("demons"), None, Go()),  # a newer worker's cause, for which it asks
        (shown("demons", "missing"), None, NotNow("its fault does not stand at present")),
    ],
)
def test_what_is_said(word: Word, place: Whereabouts, says: Any) -> None:
    """A row for each answer: begun, not now, never, or not known."""
    said = judge(HUNG, word, place)
    assert type(said) is type(says)
    assert getattr(said, "why", "").startswith(getattr(says, "why", ""))


# -- what only Nova can say --------------------------------------------------------------------------------------------


OFF = shown("host_lost_power", "gone", None)


@pytest.mark.parametrize(
    ("word", "place", "says"),
    [
        (OFF, ACTIVE, Go()),
        # Evacuated meanwhile, deleted, shelved.
        (OFF, Place("cn2", vm_state="active"), Never("meanwhile the instance is on cn2 now, Nova says")),
        (OFF, Place(None, exists=False), Never("meanwhile Nova has no such instance any more")),
        (OFF, Place(None, vm_state="shelved_offloaded"), Never("meanwhile the instance is on no host any more")),
        # Stopped by its user, while the worker was off; or by Nova, which found it so.
        (OFF, Place("cn1", vm_state="stopped"), Never("Nova says stopped: it is not to run")),
        # Nova starts it by itself, or does anything else to it.
        (OFF, replace(ACTIVE, task_state="reboot_started_hard"), NotNow("Nova is at it: task_state reboot_started_ha")),
        (OFF, replace(ACTIVE, task_state="powering-off"), NotNow("Nova is at it: task_state powering-off")),
        (shown("host_lost_power", "waiting", None), ACTIVE, NotNow("its fault does not stand at present")),
        (shown("host_lost_power", "alive", True), ACTIVE, NotNow("it has answered since its last miss")),
        (Told({"state": "alive", "fault": None}), ACTIVE, Never("the worker on cn1 does not know of the fault")),
        # Nova may yet.
        (shown("host_lost_power", "gone", fault_suspected_age=NOVAS_TIME - 0.1), ACTIVE, NotNow("Nova has 120 s")),
        (shown("host_lost_power", "gone", fault_suspected_age=-3600.0), ACTIVE, NotNow("Nova has 120 s")),
        (shown("host_lost_power", "gone", fault_suspected_age=float("nan")), ACTIVE, NotNow("Nova has 120 s")),
        (shown("host_lost_power", "gone", fault_suspected_age=True), ACTIVE, NotNow("Nova has 120 s")),
        (shown("host_lost_power", "gone", fault_suspected_age=None), ACTIVE, NotNow("Nova has 120 s")),
        # Nova cannot be asked, or does not tell.
        (OFF, AWAY, Unclear("it does not answer")),
        (OFF, None, Unclear("only Nova can say whether it should run, and there is none to ask")),
        (OFF, HERE, Unclear("Nova does not tell its vm_state")),
        (AWAY, ACTIVE, Unclear("it does not answer")),
        # Its worker does not ask for it any more.
        (shown("host_lost_power", "gone", fault_withheld="hold"), ACTIVE, NotNow("the worker on cn1 withholds it")),
        (shown("host_lost_power", "gone", fault_recommended_action="alarm"), ACTIVE, Never("the worker on cn1 asks")),
        (shown("host_lost_power", "gone", silences={"x": "start"}), ACTIVE, NotNow("the worker on cn1 expects no")),
        (shown("stopped_unexplained", "gone"), ACTIVE, Never("the worker on cn1 says stopped_unexplained by now")),
    ],
)
def test_one_whose_host_went_down(word: Word, place: Whereabouts, says: Any) -> None:
    """It is started only where Nova says that it is to run, here, and has not started it itself in its time."""
    said = judge(replace(HUNG, cause="host_lost_power"), word, place)
    assert type(said) is type(says)
    assert getattr(said, "why", "").startswith(getattr(says, "why", ""))


STATES_OF_NOVA = [
    *("active", "building", "paused", "suspended", "stopped", "rescued", "resized", "soft-delete", "deleted"),
    *("error", "shelved", "of the future", None),
]


@pytest.mark.parametrize("vm_state", STATES_OF_NOVA)
def test_only_an_active_one_is_started(vm_state: str | None) -> None:
    """Whatever else Nova says of it, and whatever a newer Nova may."""
    assert isinstance(judge(HUNG, OFF, Place("cn1", vm_state=vm_state)), Go) is (vm_state == "active")


def test_what_its_worker_says_by_now_counts() -> None:
    """It was another cause when it was told, or is one by now: Nova is asked next time."""
    assert isinstance(judge(HUNG, OFF, None), Unclear)
    assert isinstance(judge(replace(HUNG, cause="host_lost_power"), shown("qemu_failed", "gone"), None), Go)


def test_nova_has_the_same_time_by_the_worker_and_by_us() -> None:
    """An older consumer only asks the worker, and a newer one need not wait again."""
    assert KINDS[Cause.HOST_LOST_POWER].grace == NOVAS_TIME


def test_a_consumer_that_does_not_know_the_cause_begins_nothing() -> None:
    """So an older one takes it: a cause of a newer worker's, whose domain does not run. So does an older engine."""
    word = shown("host_lost_power_of_the_future", "gone")
    assert isinstance(judge(HUNG, word, ACTIVE), NotNow)
    assert last_moment.judge(word.shown).deed is Deed.LEAVE
