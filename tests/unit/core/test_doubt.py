"""Were we there, and did libvirtd pass on what we asked?"""

from __future__ import annotations

import math

import pytest

from tests.unit.core.scenario import policy, settled
from vmhb_common.model.policy import Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.beats import FRESH
from vmhb_worker.core.doubt import (
    AWAY,
    LATE,
    MUTE,
    QUIET,
    STALL,
    Doubt,
    Doubted,
    just_connected,
    late_beyond,
    stall_beyond,
    we_were_late,
)
from vmhb_worker.core.evidence import Reading
from vmhb_worker.core.host_pressure import Counted

AGENT, APPLICATION = policy(), policy(channel=Channel.APPLICATION)
#: The shortest time-out that there is.
HASTY = policy(interval=0.2, timeout=0.1, channel=Channel.APPLICATION)


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
        (110.0, 110.05, 0.0),
        (110.0, 110.125, 0.125),
        (110.0, 110.75, 0.75),
        (110.0, 105.0, 0.0),  # a report woke us
        (math.inf, 200.0, 0.0),
        (50.0, 101.0, 1.0),  # it was due when we last looked: since then we were busy with what there was
    ],
)
def test_late_is_who_was_not_there(deadline: float, now: float, late: float) -> None:
    """By more than can matter to anybody, beyond the deadline, and since everything was last known."""
    doubt = Doubt(100.0)
    assert doubt.late(deadline, now) == pytest.approx(late)
    assert doubt.looked_at == now


@pytest.mark.parametrize(
    ("timeout", "late", "stall"), [(0.1, 0.05, FRESH), (0.5, 0.25, 1.0), (1.0, LATE, STALL), (5.0, LATE, STALL)]
)
def test_how_long_matters_depends_on_the_timeout(timeout: float, late: float, stall: float) -> None:
    """Half of it for us, twice for libvirtd; from one second on, and so at the defaults, half a second and two."""
    assert late_beyond(timeout) == late
    assert stall_beyond(timeout) == stall


def test_a_short_delay_matters_to_short_timeouts_only() -> None:
    """80 ms are most of a tenth of a second, and nothing of five."""
    doubted = we_were_late(0.08, 100.0)
    assert [doubted.concerns(one) for one in (HASTY, AGENT, APPLICATION)] == [True, False, False]
    assert (doubted.event.since, doubted.event.lasted) == (99.92, 0.08)


def test_who_was_late_has_seen_nobody() -> None:
    """Whichever channel a guest answers by, we were not there to hear it."""
    doubted = we_were_late(1.23, 100.0)
    assert doubted.event == ev.Voided("the worker was 1.2 s late", 98.77, 1.23)
    assert [doubted.concerns(one) for one in (AGENT, APPLICATION)] == [True, True]


def test_a_silent_libvirtd_has_passed_nothing_on() -> None:
    """Its silence is no matter to whoever answers by a socket of its own."""
    doubt = connected()
    assert not silent(doubt.answered(STALL))
    doubted = doubt.answered(2 * STALL + 0.5)
    assert doubted is not None
    assert doubted.event == ev.Voided("libvirtd was silent for 2.5 s", STALL, 2.5)
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
    assert not silent(doubt.answered(201.0))


def stall(doubt: Doubt, until: float, lasted: float) -> None:
    """We were not there until then; libvirtd answers at once."""
    doubt.late(until - lasted, until)
    doubt.answered(until)


def test_the_third_doubt_in_a_row_makes_the_host_suspect_until_it_is_quiet() -> None:
    """Not the second; and it lasts until there was none for a minute."""
    doubt = connected()
    for at in (10.0, 40.0):
        stall(doubt, at, 1.0)
        assert doubt.at_bound(at) is None
    stall(doubt, 70.0, 1.0)
    suspect = "there was reason to doubt this host 3 times in a row, at last: the worker was 1.0 s late"
    assert doubt.at_bound(70.0) == suspect
    for second in range(70, 70 + int(QUIET)):
        doubt.answered(float(second))
    assert doubt.at_bound(70.0 + QUIET - 0.1) is not None
    assert doubt.at_bound(70.0 + QUIET) is None


def test_a_quiet_spell_begins_a_new_row() -> None:
    """Trouble now and then makes no host suspect."""
    doubt = connected()
    for number in range(1, 10):
        at = number * (QUIET + 1.0)
        stall(doubt, at, 1.0)
        assert doubt.at_bound(at) is None


def test_one_stall_is_one_doubt_whoever_noticed_it() -> None:
    """That libvirtd was not heard while we were not there says nothing against it."""
    doubt = connected()
    for at in (20.0, 40.0):
        stall(doubt, at, 15.0)
        assert doubt.at_bound(at) is None
    assert silent(doubt.answered(40.0 + STALL + 0.1)), "this time it was libvirtd"
    assert "3 times" in str(doubt.at_bound(43.0))


def test_what_is_short_says_nothing_against_the_host() -> None:
    """It matters to whoever has as short a time-out; a guest can wish for one, and must not hold up others by it."""
    doubt = connected()
    for number in range(1, 1000):
        assert doubt.late(number / 10, number / 10 + 0.08)
        doubt.answered(number / 10)
        assert doubt.at_bound(number / 10 + 0.08) is None


def test_a_libvirtd_that_stays_silent_makes_the_host_suspect() -> None:
    """Nobody can be asked through it, so that nobody is judged: that is told instead. Not while it is away."""
    doubt = connected()
    assert doubt.at_bound(MUTE) is None
    assert doubt.at_bound(MUTE + 1.0) == "libvirtd has been silent for 21 s"
    doubt.down()
    assert doubt.at_bound(MUTE + 1.0) is None


def test_its_own_absence_is_not_libvirtds_silence() -> None:
    """A worker that was stopped for a minute has heard nobody."""
    doubt = connected()
    doubt.late(1.0, 61.0)
    assert doubt.at_bound(61.0) is None
    assert doubt.at_bound(61.0 + MUTE + 1.0) is not None


def test_a_host_under_pressure_is_suspect() -> None:
    """From the third look on that saw too much of it."""
    doubt = connected()
    for number in range(5):
        at = 2.0 * number
        doubt.answered(at)
        doubt.counted(Counted(at, memory=Reading(1.8 * number, at)))
        assert (doubt.at_bound(at) is not None) is (number >= 3)
    assert doubt.host(8.0).since == 0.0
    assert str(doubt.at_bound(8.0)).endswith(
        " 4 times in a row, at last: 90% of the time everything stood still for want of memory"
    )


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


def test_a_wall_clock_that_is_set_is_seen() -> None:
    """A step, not what a clock is disciplined by: half a second in a minute is no step."""
    doubt = connected()
    doubt.clock(1000.0, 0.0)
    doubt.clock(1060.5, 60.0)
    assert doubt.clock_set == -math.inf
    doubt.clock(1180.0, 120.0)
    assert doubt.clock_set == 120.0
    doubt.clock(1182.0, 122.0)
    assert doubt.clock_set == 120.0


def test_a_clock_that_is_set_back_is_not_to_be_compared_with_for_as_long() -> None:
    """What was reported before looks that much younger; set forward, it looks older, and is known by that."""
    doubt = Doubt(0.0)
    for now, wall in ((0.0, 1000.0), (10.0, 1010.0), (20.0, 990.0), (22.0, 5000.0)):
        doubt.clock(wall, now)
    assert doubt.clock_set == 20.0 + 30.0
    doubt.clock(9000.0, 100.0)
    assert doubt.clock_set == 100.0
