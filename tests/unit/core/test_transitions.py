"""The table of an instance's life."""

from __future__ import annotations

import pytest

from vmhb_worker.core import course
from vmhb_worker.core.transitions import TRANSITIONS, Act, Input, State


def test_the_table_is_total() -> None:
    """Every state has an entry for every input, and there is nothing else in it."""
    assert set(TRANSITIONS) == set(State)
    assert {state: set(row) for state, row in TRANSITIONS.items()} == {state: set(Input) for state in State}


def test_every_act_is_carried_out_by_somebody() -> None:
    """And every act is needed."""
    assert set(course._ACTS) == set(Act)
    assert {act for row in TRANSITIONS.values() for _, act in row.values()} == set(Act)


def test_an_acknowledgement_makes_every_running_instance_alive() -> None:
    """Whatever it was accused of."""
    assert {state: TRANSITIONS[state][Input.ACK][0] for state in State} == {
        State.WAITING: State.ALIVE,
        State.ALIVE: State.ALIVE,
        State.MISSING: State.ALIVE,
        State.SILENT: State.ALIVE,
        State.GONE: State.GONE,
    }


def test_only_a_verdict_makes_silent() -> None:
    """There is no way into `silent` on which nobody was accused."""
    into = {act for row in TRANSITIONS.values() for state, act in row.values() if state is State.SILENT}
    assert into == {Act.ACCUSE, Act.NOTHING}
    assert all(
        state is State.SILENT
        for state, row in TRANSITIONS.items()
        for to, act in row.values()
        if to is State.SILENT and act is Act.NOTHING
    )


@pytest.mark.parametrize("found", [Input.MISS, Input.LAST_MISS, Input.EXITED])
def test_who_has_not_answered_since_the_boot_is_not_accused_of_silence(found: Input) -> None:
    """A booting guest has its grace; a domain that does not run has nothing to answer with."""
    assert TRANSITIONS[State.WAITING][found] == (State.WAITING, Act.NOTHING)
    assert TRANSITIONS[State.GONE][found] == (State.GONE, Act.NOTHING)


def test_a_silence_voids_suspicion_and_keeps_a_verdict() -> None:
    """It grants a full threshold to whoever is suspected, and neither accuses nor acquits anybody."""
    assert {state: TRANSITIONS[state][Input.HUSH] for state in State} == {
        State.WAITING: (State.WAITING, Act.NOTHING),
        State.ALIVE: (State.ALIVE, Act.RENEW),
        State.MISSING: (State.ALIVE, Act.RENEW),
        State.SILENT: (State.SILENT, Act.NOTHING),
        State.GONE: (State.GONE, Act.NOTHING),
    }


def test_a_domain_that_does_not_run_comes_back_by_starting_only() -> None:
    """Late answers, late ports and late timers of its former life wake nobody."""
    out = {found for found, (state, _) in TRANSITIONS[State.GONE].items() if state is not State.GONE}
    assert out == {Input.BOOT, Input.GO_ON}
