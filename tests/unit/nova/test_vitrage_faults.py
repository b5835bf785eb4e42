"""Vitrage's half that needs no Vitrage: what a notification says, and what has been overtaken."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from nova_vmhb.vitrage.faults import ON_ITS_WAY, Board, entity
from tests.fakes import a_fault
from vmhb_common.model.fault import FaultState
from vmhb_common.objects import fault_payload


def one(sequence: int, state: FaultState = FaultState.RAISED, **changed: Any) -> dict[str, Any]:
    made = entity(fault_payload(replace(a_fault(**changed), sequence=sequence, state=state)))
    assert made is not None
    return made


def test_a_clear_is_final() -> None:
    """Whatever order they come in, the highest sequence counts, and nothing after a clear."""
    board = Board()
    assert board.take(one(2), 0)
    assert board.take(one(1), 0) is None
    assert board.take(one(2), 0)  # a duplicate does no harm
    assert board.take(one(3, FaultState.CLEARED), 0)
    assert board.take(one(1), 0) is None
    assert board.take(one(4), 0) is None
    assert board.confirm(one(4), 0) is None


def test_a_consumer_that_lags_clears_nothing() -> None:
    """An older sequence confirms what is newer here; a fault just raised is not missed yet."""
    board = Board()
    board.take(one(5), 0)
    confirmed = board.confirm(one(4), 1)
    assert confirmed is not None and confirmed["sequence"] == 5
    assert [fault["sequence"] for fault in board.on_their_way(set(), 1)] == [5]
    assert board.on_their_way({confirmed["fault_id"]}, 1) == []
    assert board.on_their_way(set(), ON_ITS_WAY) == []


def test_it_forgets_the_oldest() -> None:
    """Its memory is bounded."""
    board = Board(limit=1)
    board.take(one(1), 0)
    board.take(one(1, fault_id="1b7f0b6e-5b7d-4d4b-9a57-0c8f5b1f7c11"), 0)
    assert len(board.on_their_way(set(), 0)) == 1


def test_drills_are_no_alarms() -> None:
    """Templates act on alarms."""
    assert entity(fault_payload(replace(a_fault(), drill=True))) is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sequence": True}, "sequence True"),
        ({"sequence": "1"}, "sequence '1'"),
        ({"severity": 7}, "severity of type int: a text"),
        ({"reason": {"a": "b"}}, "reason of type dict: a text"),
        ({"host": ["cn1"]}, "host of type list: a text"),
        ({"occurred_at": "yesterday"}, "occurred_at 'yesterday': an ISO 8601 time"),
    ],
)
def test_what_vitrage_would_stumble_over(changed: dict[str, Any], says: str) -> None:
    """In the middle of its graph, where nobody knows any more what it was: it is said at the door."""
    payload = fault_payload(a_fault())
    with pytest.raises(ValueError, match=says):
        entity({**payload, "vmhb_object.data": {**payload["vmhb_object.data"], **changed}})


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (None, "not a FaultPayload"),
        ({"vmhb_object.name": "WorkerPayload", "vmhb_object.data": {}}, "not a FaultPayload"),
        ({**fault_payload(a_fault()), "vmhb_object.version": "2.0"}, "version 2.0"),
        ({**fault_payload(a_fault()), "vmhb_object.data": {"fault_id": "x"}}, "without sequence"),
    ],
)
def test_what_is_none_of_ours(payload: Any, says: str) -> None:
    """Said in one sentence."""
    with pytest.raises(ValueError, match=says):
        entity(payload)


def test_it_loads_alone() -> None:
    """Where only Vitrage is installed there is nothing else of ours, and no oslo.versionedobjects."""
    program = (
        "import sys, nova_vmhb.vitrage.faults\n"
        "print([m for m in sys.modules if m.startswith(('vmhb_worker', 'oslo'))"
        " or m.startswith('nova_vmhb.') and not m.startswith('nova_vmhb.vitrage')])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
