"""What a guest is found to be by what witnesses say, and whether that is final: no beats, no guest, no host."""

from __future__ import annotations

from tests.unit.core.parts import Parts
from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.absence import GOODBYE, goodbye
from vmhb_worker.core.consequences import Accuse, AskSoon, Begin, Consequence, Drop, Found
from vmhb_worker.core.domain_life import Known
from vmhb_worker.core.evidence import Balloon, Reading, System
from vmhb_worker.core.excuses import Excused
from vmhb_worker.core.silences import Silence
from vmhb_worker.core.transitions import Input, State
from vmhb_worker.core.verdict import Trigger


def accused(follows: list[Consequence]) -> tuple[Cause, bool, bool]:
    """Of what, is it pending, is it held? The guest is asked again soon."""
    accuse, soon = follows
    assert isinstance(accuse, Accuse) and soon == AskSoon()
    return accuse.verdict.cause, accuse.verdict.evidence.pending, accuse.verdict.held


def test_a_verdict_is_pending_until_a_challenge_came_back_without_an_answer() -> None:
    """Before, it may never have reached the agent. Then it is final, and told; and what is no news is not told."""
    parts = Parts()
    assert accused(parts.case.judge(State.SILENT, 35.0)) == (Cause.GUEST_SILENT, True, False)
    assert not parts.case.stands(State.SILENT)
    parts.answers.unheard = True
    assert accused(parts.case.judge(State.SILENT, 36.0)) == (Cause.GUEST_SILENT, False, False)
    assert parts.case.stands(State.SILENT)
    assert parts.case.judge(State.SILENT, 37.0) == []


def test_nothing_is_final_while_evidence_is_on_its_way_or_a_silence_is_on() -> None:
    """A verdict that was final stays so meanwhile: the outcome of a further look counts, not its beginning."""
    parts = Parts()
    parts.answers.unheard = True
    parts.witnesses.say(pending=True)
    assert accused(parts.case.judge(State.SILENT, 35.0)) == (Cause.GUEST_SILENT, True, False)
    parts.witnesses.say(pending=False)
    parts.silences.begin("job", Silence("libvirt job: save", None))
    assert parts.case.judge(State.SILENT, 36.0) == []
    parts.silences.end("job")
    assert accused(parts.case.judge(State.SILENT, 37.0)) == (Cause.GUEST_SILENT, False, False)
    parts.witnesses.say(pending=True)
    assert parts.case.judge(State.SILENT, 38.0) == []
    assert parts.case.stands(State.SILENT)


def test_whoever_panicked_is_held_for_as_long_as_it_has_time() -> None:
    """It is told at once and for good that it panicked; a recovery may be asked for when its time is over."""
    parts = Parts()
    parts.case.trigger = Trigger.PANIC
    parts.life.told(ev.Panicked(), parts_known(parts), 10.0)
    assert accused(parts.case.judge(State.SILENT, 10.0)) == (Cause.GUEST_PANICKED, False, True)
    parts.graces.panic_at = None
    assert accused(parts.case.judge(State.SILENT, 20.0)) == (Cause.GUEST_PANICKED, False, False)


def test_a_dead_kernel_is_found_behind_an_excuse_and_a_living_one_ends_that() -> None:
    """The application said goodbye, and then its guest died; it lives after all: then it is as it was when it left."""
    parts = Parts(Channel.APPLICATION)
    parts.application.leaves.left = "for today"
    parts.witnesses.in_place.begin(Excused.GOODBYE, 0.0, 0.0)
    parts.witnesses.say(system=Reading(System.LINUX), balloon_fresh=Reading(True, 1.0), io=Reading(0, 70.0))
    parts.witnesses.balloon(Balloon.NO_ANSWER, 70.0)
    dead = [Drop((GOODBYE,)), Found(Input.FOUND_DEAD, Trigger.UNHEARD)]
    assert parts.case.hear_host(State.ALIVE, 70.0) == dead
    assert parts.witnesses.host.confirming, "its kernel may have been replaced by another"

    parts.case.trigger = Trigger.UNHEARD
    assert accused(parts.case.judge(State.SILENT, 70.0)) == (Cause.GUEST_HUNG, False, False)
    parts.witnesses.balloon(Balloon.ANSWERED, 85.0)
    as_it_left = Begin(GOODBYE, goodbye("for today"))
    lives = [ev.ClearFault("recovered"), Found(Input.GO_ON), as_it_left]
    assert parts.case.hear_host(State.SILENT, 85.0) == lives
    assert parts.case.standing is None


def test_who_was_dead_and_is_not_any_more_is_asked_anew() -> None:
    """That its agent had been silent meanwhile had that reason: it is owed a full threshold."""
    parts = Parts()
    parts.answers.unheard = True
    parts.witnesses.balloon(Balloon.NO_ANSWER, 35.0)
    assert accused(parts.case.judge(State.SILENT, 36.0))[0] is Cause.GUEST_HUNG
    parts.witnesses.balloon(Balloon.ANSWERED, 96.0)
    assert parts.case.judge(State.SILENT, 97.0) == [AskSoon()]
    assert not parts.answers.unheard
    assert parts.case.standing is not None and parts.case.standing.cause is Cause.GUEST_HUNG
    parts.answers.unheard = True
    assert accused(parts.case.judge(State.SILENT, 140.0)) == (Cause.AGENT_UNRESPONSIVE, False, False)


def parts_known(parts: Parts) -> Known:
    return Known(parts.case.is_stuck(State.ALIVE), established=True, waited=False)
