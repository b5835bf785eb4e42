"""What is made of an event that could not be handled."""

from __future__ import annotations

from vmhb_worker.core import events as ev
from vmhb_worker.core.mishaps import instead_of
from vmhb_worker.core.protocol import Goodbye


def test_a_lost_answer_is_no_silence() -> None:
    """What takes its place says nothing against the guest."""
    for lost in (ev.Acked(0.1), ev.AskFailed(ev.Failure.NO_ANSWER, "4 s")):
        instead = instead_of(lost)
        assert isinstance(instead, ev.AskFailed)
        assert instead.failure is ev.Failure.UNREACHABLE
    for answers in (True, False):
        witness = instead_of(ev.OtherAnswered(answers))
        assert isinstance(witness, ev.OtherAnswered)
        assert witness.answers is None
    assert isinstance(instead_of(_said()), ev.Voided)


def test_it_is_tried_once() -> None:
    """What takes the place of an event may fail as well: nothing takes its place."""
    for event in (ev.Acked(0.1), ev.AskFailed(ev.Failure.CLOSED), ev.OtherAnswered(True), _said()):
        instead = instead_of(event)
        assert instead is not None
        assert instead_of(instead) is None


def test_what_the_guest_has_no_word_in_is_not_replaced() -> None:
    """It is tried again with the next description, look or tick."""
    for event in (ev.Tick(0.0), ev.Booted(), ev.PortChanged(True), ev.Voided("late")):
        assert instead_of(event) is None


def _said() -> ev.Said:
    return ev.Said(Goodbye("done"))
