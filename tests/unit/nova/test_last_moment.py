"""What a recovery does at its last moment: every answer of a worker, of any version, and what is done about it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from nova_vmhb import last_moment
from nova_vmhb.last_moment import CAUSES, CONFIRMED, OTHERWISE, STANDS, Deed, Heard, Kind, Step, confirm, insist, judge
from vmhb_common.model.causes import Cause
from vmhb_worker.core.transitions import State
from vmhb_worker.core.verdict import RULES, Recovery

ACTS = {Deed.REBOOT, Deed.STOP}
STATES = [state.value for state in State]


def shown(state: Any = "silent", cause: Any = "guest_hung", **more: Any) -> dict[str, Any]:
    """As a worker of today says it; more: keys of the fault by `fault_…`, else of the answer."""
    fault = {"fault_id": "f1", "cause": cause, "recommended_action": "recover", "withheld": None, "suspected_age": 40.0}
    fault |= {name.removeprefix("fault_"): value for name, value in more.items() if name.startswith("fault_")}
    rest = {name: value for name, value in more.items() if not name.startswith("fault_")}
    return {"state": state, "answered_since_miss": False, "silences": {}, "fault": fault, **rest}


def older(state: Any = "silent", cause: Any = "guest_hung") -> dict[str, Any]:
    """As the first releases say it."""
    return {"state": state, "silences": {}, "fault": {"fault_id": "f1", "cause": cause}, "last_ack_age": 12.0}


# -- the tables are total ----------------------------------------------------------------------------------------------


def test_every_cause_has_a_kind() -> None:
    """And none is recovered for that the worker never asks to have recovered, whatever it rests on."""
    assert set(CAUSES) == set(Cause)
    asked = {str(rule.cause) for rule in RULES if rule.recovery is not Recovery.NEVER}
    never = {str(rule.cause) for rule in RULES} - asked
    assert {cause for cause in never if CAUSES[cause] is not Kind.NO_RECOVERY} == set()
    assert {cause for cause in asked if CAUSES[cause] is Kind.NO_RECOVERY} == set()


def test_every_state_has_its_row() -> None:
    """In which a fault stands, and what it means where it does not; and what it confirms afterwards."""
    assert set(STANDS) == set(Kind) - {Kind.NO_RECOVERY}
    assert set(OTHERWISE) == set(CONFIRMED) == set(STATES)
    assert {state for stands in STANDS.values() for state in stands} <= set(STATES)


@pytest.mark.parametrize(("say", "cause", "state"), list(product((shown, older), Cause, STATES)))
def test_who_is_touched(say: Callable[..., Any], cause: Cause, state: str) -> None:
    """Only a guest whose fault stands, whichever version its worker has: the whole table."""
    step = judge(say(state, str(cause)))
    kind = CAUSES[str(cause)]
    if kind is Kind.NO_RECOVERY:
        assert step.deed is Deed.LEAVE
    elif state in STANDS[kind]:
        assert step.deed is (Deed.REBOOT if kind is Kind.DEAD else Deed.STOP)
    else:
        assert step.deed is OTHERWISE[state][0]
    assert step.why and len(step.why) < 255


@pytest.mark.parametrize(("cause", "state"), list(product(Cause, STATES)))
def test_who_answers_is_never_stopped(cause: Cause, state: str) -> None:
    """Whatever else is said: but for one that says itself that it is not well, which does answer."""
    step = judge(shown(state, str(cause), answered_since_miss=True))
    if CAUSES[str(cause)] is Kind.UNHEALTHY:
        assert step.deed is judge(shown(state, str(cause))).deed
    else:
        assert step.deed is Deed.LEAVE


@pytest.mark.parametrize("answer", [None, "yes", 1, 0, [], {}])
def test_what_is_neither_yes_nor_no_is_not_known(answer: Any) -> None:
    """A worker that has just started does not know. Of one that does not speak of it, an older one, the state tells."""
    for cause in Cause:
        if CAUSES[cause] in (Kind.DEAD, Kind.SILENT):
            assert judge(shown(cause=cause, answered_since_miss=answer)).deed is Deed.UNKNOWN
            assert judge(older(cause=cause)).deed in ACTS
    assert judge(shown("alive", answered_since_miss=answer)).deed is Deed.UNKNOWN
    for word, state in (("qemu_failed", "gone"), ("application_unhealthy", "alive")):
        assert judge(shown(state, word, answered_since_miss=answer)).deed is Deed.STOP


# -- what else speaks against it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["alive", "waiting", "gone", "of the future"])
def test_a_fault_that_is_over(state: str) -> None:
    """Nothing is to be recovered from."""
    step = judge({**shown(state), "fault": None})
    assert step.deed is Deed.LEAVE and "its fault is over" in step.why


@pytest.mark.parametrize("state", ["missing", "silent"])
def test_a_report_that_came_before_the_workers_own_fault(state: str) -> None:
    """Somebody else's, who was faster: the worker is finding out."""
    assert judge({**shown(state), "fault": None}).deed is Deed.UNKNOWN


def test_another_fault() -> None:
    """It has its own recovery. By its id where it was seen before, by its age where not."""
    assert judge(shown(), before="f1").deed is Deed.REBOOT
    assert judge(shown(fault_fault_id="f2"), before="f1").deed is Deed.LEAVE
    assert judge(shown(fault_suspected_age=40), reported_age=30).deed is Deed.REBOOT
    assert judge(shown(fault_suspected_age=40), reported_age=50).deed is Deed.REBOOT, "clocks differ"
    step = judge(shown(fault_suspected_age=40), reported_age=60)
    assert step.deed is Deed.LEAVE and "that was an earlier one" in step.why
    assert judge(shown(fault_suspected_age=1e9), reported_age=None).deed is Deed.REBOOT
    assert judge(older(), reported_age=1e9).deed is Deed.REBOOT, "an older worker does not tell"


def test_what_is_only_for_now() -> None:
    """A silence, and what the worker withholds, may be over soon: it is asked again."""
    step = judge(shown(silences={"hint:req-1": "resize"}))
    assert step == Step(Deed.UNKNOWN, "its worker expects no answer at present: resize", "f1")
    step = judge(shown(fault_withheld="brake"))
    assert step.deed is Deed.UNKNOWN and "brake" in step.why


@pytest.mark.parametrize("cause", [cause for cause, kind in CAUSES.items() if kind is not Kind.NO_RECOVERY])
def test_one_for_which_its_worker_asks_no_recovery_any_more(cause: str) -> None:
    """Its verdict, or its policy, has become another one since the report."""
    for state in STANDS[CAUSES[cause]]:
        assert judge(shown(state, cause, fault_recommended_action="alarm")).deed is Deed.LEAVE


def test_a_cause_of_a_newer_worker() -> None:
    """Gently, and only where that worker asks for a recovery, and says that it is silent."""
    assert judge(shown(cause="demons")).deed is Deed.STOP
    assert judge(shown("alive", cause="demons")).deed is Deed.UNKNOWN
    assert judge(shown(cause="demons", fault_recommended_action="alarm")).deed is Deed.UNKNOWN
    assert judge(older(cause="demons")).deed is Deed.UNKNOWN


@pytest.mark.parametrize("answer", [None, {"instance_uuid": "x", "error": "its policy makes no sense"}])
def test_one_that_is_not_watched(answer: Any) -> None:
    """Known, and told apart from what nobody knows."""
    assert judge(answer).deed is Deed.UNWATCHED
    assert confirm(answer)[0] is Heard.UNWATCHED


NONSENSE: list[Any] = [
    *("", "dead", 0, 7, True, [], [{}], {}, {"state": "silent"}, {"fault": None}),
    *({"state": None, "fault": None}, {"state": 7, "fault": {}}, {"state": "silent", "fault": "guest_hung"}),
    *({"state": "silent", "fault": []}, {"state": "silent", "fault": {}}, shown("dead"), shown(cause=None)),
    *(shown(cause=["guest_hung"]), shown(silences="all"), shown(silences=[1]), shown(fault_withheld={"x": 1})),
]


@pytest.mark.parametrize("answer", NONSENSE, ids=repr)
def test_what_makes_no_sense_is_not_known(answer: Any) -> None:
    """Neither dead nor well."""
    assert judge(answer, 10.0, "f1").deed not in ACTS
    assert confirm(answer)[0] is not Heard.ANSWERS
    assert judge(answer).deed is Deed.UNKNOWN
    fault = answer.get("fault") if isinstance(answer, dict) else None
    assert confirm(answer)[0] is (Heard.NOT_YET if isinstance(fault, dict) and _silent(answer) else Heard.UNKNOWN)


def _silent(answer: dict[str, Any]) -> bool:
    """For whoever waits for an answer that is all that counts."""
    return answer["state"] == "silent" and not answer.get("silences")


# -- afterwards --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cause", "state"), list(product([None, *Cause], STATES)))
def test_what_is_confirmed(cause: Cause | None, state: str) -> None:
    """An answer, that there is none, or that nobody can tell."""
    answer = {**shown(state, str(cause)), **({"fault": None} if cause is None else {})}
    heard = confirm(answer)[0]
    if cause is Cause.APPLICATION_UNHEALTHY:
        assert heard is Heard.NOT_YET
    elif cause is None and state == "alive":
        assert heard is Heard.ANSWERS
    else:
        assert heard is CONFIRMED[state]
    if cause is not Cause.APPLICATION_UNHEALTHY:
        healed = confirm({**answer, "answered_since_miss": True})[0]
        assert healed is (Heard.ANSWERS if state == "alive" else CONFIRMED[state])


def test_one_that_need_not_answer_has_not_failed_to() -> None:
    """During a silence nobody knows."""
    assert confirm(shown("waiting", silences={"hint:req-1": "reboot"}))[0] is Heard.UNKNOWN


# -- asking again ------------------------------------------------------------------------------------------------------


class Talk:
    """A clock, and what is said at each question; the last of it for ever."""

    def __init__(self, *steps: Step) -> None:
        self.now = 100.0
        self.steps = list(steps)
        self.asked: list[float] = []

    def ask(self) -> Step:
        self.asked.append(self.now - 100.0)
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def insist(self, seconds: float = 30.0) -> Deed:
        return insist(self.ask, seconds, 10.0, lambda: self.now, self.sleep).deed


UNKNOWN, UNWATCHED = last_moment.unknown("no answer"), judge(None)


@pytest.mark.parametrize("deed", [Deed.REBOOT, Deed.STOP, Deed.LEAVE])
def test_it_is_asked_until_somebody_knows(deed: Deed) -> None:
    """At once where that is so; and it is the last word that counts."""
    assert Talk(Step(deed, "")).insist() is deed
    talk = Talk(UNKNOWN, UNWATCHED, Step(deed, ""))
    assert (talk.insist(), talk.asked) == (deed, [0, 10, 20])


@pytest.mark.parametrize("step", [UNKNOWN, UNWATCHED])
def test_it_is_not_asked_for_ever(step: Step) -> None:
    """Then that nobody knows, or watches it, is what there is to say."""
    talk = Talk(step)
    assert (talk.insist(), talk.asked) == (step.deed, [0, 10, 20, 30])
    assert Talk(step).insist(0.0) is step.deed
