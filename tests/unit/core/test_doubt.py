"""Were we there, and did libvirtd pass on what we asked?"""

from __future__ import annotations

import math

import pytest

from tests.unit.core.scenario import policy, settled
from vmhb_common.model.policy import Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.doubt import AWAY, LATE, STALL, Doubt, Doubted, just_connected, we_were_late

AGENT, APPLICATION = policy(), policy(channel=Channel.APPLICATION)


def connected(at: float = 0.0) -> Doubt:
    doubt = Doubt(at)
    doubt.up(at)
    return doubt


def silent(doubted: Doubted | None) -> bool:
    return doubted is not None and doubted.concerns(AGENT)


@pytest.mark.parametrize(
    ("deadline", "now", "late"),
    [
        (110.0, 110.0, 0.0),
        (110.0, 110.0 + LATE, 0.0),
        (110.0, 110.75, 0.75),
        (110.0, 105.0, 0.0),  # a report woke us
        (math.inf, 200.0, 0.0),
        (50.0, 101.0, 1.0),  # it was due when we last looked: since then we were busy with what there was
    ],
)
def test_late_is_who_was_not_there(deadline: float, now: float, late: float) -> None:
    """By more than half a second, beyond the deadline, and since everything was last known."""
    doubt = Doubt(100.0)
    assert doubt.late(deadline, now) == late
    assert doubt.looked_at == now


def test_who_was_late_has_seen_nobody() -> None:
    """Whichever channel a guest answers by, we were not there to hear it."""
    doubted = we_were_late(1.23)
    assert doubted.event == ev.Voided("the worker was 1.2 s late")
    assert [doubted.concerns(one) for one in (AGENT, APPLICATION)] == [True, True]


def test_a_silent_libvirtd_has_passed_nothing_on() -> None:
    """Its silence is no matter to whoever answers by a socket of its own."""
    doubt = connected()
    assert doubt.answered(STALL) is None
    doubted = doubt.answered(2 * STALL + 0.5)
    assert doubted is not None
    assert doubted.event == ev.Voided("libvirtd was silent for 2.5 s")
    assert [doubted.concerns(one) for one in (AGENT, APPLICATION)] == [True, False]
    assert doubt.heard == 2 * STALL + 0.5


def test_an_older_answer_that_comes_late_takes_nothing_back() -> None:
    """What was heard stays heard."""
    doubt = connected(100.0)
    assert doubt.answered(99.0) is None
    assert doubt.heard == 100.0


def test_who_is_away_is_not_silent() -> None:
    """Nobody is asked meanwhile; from the moment that it is back, it counts again."""
    doubt = Doubt(0.0)
    assert doubt.heard == -math.inf
    assert doubt.answered(50.0) is None
    doubt.up(60.0)
    assert silent(doubt.answered(63.0))
    doubt.down()
    assert doubt.answered(90.0) is None
    doubt.up(200.0)
    assert doubt.answered(201.0) is None


def test_who_is_back_is_asked_before_it_is_judged() -> None:
    """One silence follows the other: nobody is judged in between, and everybody is asked as soon as it can be."""
    guest = settled(interval=10.0)
    guest.happens(AWAY)
    guest.agent_stops()
    guest.run(200.0)
    asked = len(guest.asks())
    assert guest.transcript == []
    guest.happens(just_connected(guest.monitor.policy, guest.host.now))
    assert guest.monitor.silences.told() == {"hypervisor": "libvirt has just been connected to"}
    guest.run(209.0)
    assert len(guest.asks()) > asked
    assert guest.transcript == []
    guest.run(300.0)
    assert guest.fault is not None
