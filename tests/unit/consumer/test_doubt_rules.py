"""What becomes of a doubtful fault, by what Nova and the worker say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes import a_fault
from vmhb_common.model.fault import Fault
from vmhb_consumer.doubt_rules import (
    Close,
    Keep,
    Place,
    Told,
    Unknown,
    Whereabouts,
    Word,
    among_rivals,
    when_quiet,
)

MINE = a_fault("a" * 36, host="cn1")
NEWER = replace(MINE, fault_id="b" * 36, host="cn2", raised_at=MINE.raised_at + timedelta(seconds=5))
SAME_HOST = replace(NEWER, host="cn1")
AWAY = Unknown("Nova does not answer")
MUTE = Unknown("the worker on cn1 does not answer")
STILL = Told({"state": "silent", "fault": {"fault_id": MINE.fault_id}})
ALIVE = Told({"state": "alive", "fault": None})
OTHER = Told({"state": "silent", "fault": {"fault_id": "c" * 36}})


def said(decision: object) -> str:
    """In one word."""
    return str(decision.resolution) if isinstance(decision, Close) else "keep"


@pytest.mark.parametrize(
    ("fault", "rival", "place", "outcome"),
    [
        (MINE, NEWER, Place("cn1"), "keep"),  # it came back, and Nova has it here
        (NEWER, MINE, Place("cn1"), "superseded"),
        (MINE, NEWER, Place("cn2"), "superseded"),
        (NEWER, MINE, Place("cn2"), "keep"),
        (MINE, NEWER, Place("cn3"), "superseded"),
        (MINE, NEWER, Place(None), "superseded"),
        (MINE, NEWER, Place(None, exists=False), "deleted"),
        (MINE, NEWER, AWAY, "keep"),  # both stay until Nova tells
        (NEWER, MINE, AWAY, "keep"),
        (MINE, NEWER, None, "superseded"),  # no Nova to ask: the newest raise is believed
        (NEWER, MINE, None, "keep"),
        (MINE, SAME_HOST, Place("cn1"), "superseded"),  # the worker lost its memory, and raised anew
        (SAME_HOST, MINE, Place("cn1"), "keep"),
        (MINE, SAME_HOST, AWAY, "superseded"),
    ],
)
def test_rivals(fault: Fault, rival: Fault, place: Whereabouts, outcome: str) -> None:
    """Nova decides between hosts; of one host's the newest stays."""
    assert said(among_rivals(fault, [rival], place)) == outcome


def test_of_two_that_are_as_old_one_stays() -> None:
    """Whatever clocks say."""
    twin = replace(MINE, fault_id="b" * 36)
    assert sorted([said(among_rivals(MINE, [twin], None)), said(among_rivals(twin, [MINE], None))]) == [
        "keep",
        "superseded",
    ]


@pytest.mark.parametrize(
    ("word", "place", "outcome"),
    [
        (STILL, Place("cn1"), "keep"),
        (STILL, None, "keep"),
        (STILL, AWAY, "keep"),
        (STILL, Place("cn2"), "superseded"),  # an evacuated-from host that does not know yet
        (MUTE, Place("cn2"), "superseded"),  # its host died, and the instance was evacuated
        (MUTE, Place("cn1"), "keep"),
        (MUTE, None, "keep"),
        (MUTE, Place(None, exists=False), "deleted"),
        (ALIVE, Place("cn1"), "recovered"),
        (ALIVE, None, "recovered"),
        (OTHER, Place("cn1"), "superseded"),
        (Told({"state": "waiting"}), None, "superseded"),  # not acked: not recovered
        (Told(None), Place("cn1"), "unmonitored"),
        (Told(None), None, "unmonitored"),
        (Told(None), AWAY, "keep"),
    ],
)
def test_reminders_stopped(word: Word, place: Whereabouts, outcome: str) -> None:
    """Nothing is closed unless somebody said so; only an acknowledgement is a recovery."""
    assert said(when_quiet(MINE, word, place)) == outcome


def test_what_is_confirmed() -> None:
    """Only by its own worker."""
    assert when_quiet(MINE, STILL, None) == Keep(confirmed=True)
    assert when_quiet(MINE, MUTE, None) == Keep(why=MUTE.why)


def test_a_hosts_own_fault() -> None:
    """Its worker lives, and has not spoken of it for long."""
    fault = replace(MINE, instance_uuid=None)
    assert said(when_quiet(fault, Told(None), None)) == "superseded"
    assert said(when_quiet(fault, MUTE, None)) == "keep"
