"""Whose an instance is, and where: Nova's word, asked for once where it can't change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.consumer.conftest import another
from tests.unit.consumer.fakes import SetTime
from vmhb_consumer.doubt_rules import Place, Unknown
from vmhb_consumer.whose import MUTE, NOT_KNOWN, Whose

A, B = another("a"), another("b", instance_uuid="9d1f0e52-8d5a-4d0e-9d62-0f2f8f6f3b22")
OF_HOST = another("c", instance_uuid=None)


class Nova:
    """Says what it is told to say."""

    def __init__(self, said: Any) -> None:
        self.said = said
        self.asked = 0

    def __call__(self, instance_uuid: str) -> Any:
        self.asked += 1
        return self.said


def test_a_project_is_asked_for_once() -> None:
    """It never changes; the host is asked for each time."""
    nova = Nova(Place("cn1", project_id="acme"))
    whose = Whose(nova)
    assert whose.named(A) == whose.named(A) == replace(A, project_id="acme")
    assert nova.asked == 1
    assert whose.place(A) == whose.place(A) == nova.said
    assert nova.asked == 3


def test_what_nova_does_not_tell_is_not_known() -> None:
    """The instance is gone, or Nova too old: the worker's word does not take its place, and it is asked again."""
    nova = Nova(Place(None, exists=False))
    whose = Whose(nova)
    assert whose.named(A) == replace(A, project_id=None)
    nova.said = Place("cn1", project_id="acme")
    assert whose.named(A) == replace(A, project_id="acme")


def test_a_nova_that_does_not_answer_is_not_asked_by_the_next() -> None:
    """And what is said of it is the same for each of them."""
    clock, nova = SetTime(0.0), Nova(Unknown("Nova does not answer"))
    whose = Whose(nova, clock)
    unknown = Unknown(f"{NOT_KNOWN}: Nova does not answer")
    assert [whose.named(A), whose.place(A), whose.named(B)] == [unknown] * 3
    assert nova.asked == 1
    clock.now += MUTE
    nova.said = Place("cn1", project_id="acme")
    assert whose.named(B) == replace(B, project_id="acme")


def test_where_there_is_no_nova_the_worker_s_word_is_all_there_is() -> None:
    """Of a host's own fault there is nothing to ask: it is no project's, whatever it says."""
    nova = Nova(Place("cn1"))
    assert (Whose(None).place(A), Whose(None).named(A)) == (None, A)
    for whose in (Whose(None), Whose(nova)):
        assert (whose.place(OF_HOST), whose.named(OF_HOST)) == (None, replace(OF_HOST, project_id=None))
    assert nova.asked == 0
