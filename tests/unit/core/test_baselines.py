"""When the balloons of guests that are well are probed: a host that starts with hundreds is not busy with them."""

from __future__ import annotations

import pytest

from tests.unit.core.scenario import KNOWN, WELL, Guest, Host, told
from vmhb_common.model.policy import Action
from vmhb_worker.core import events as ev
from vmhb_worker.core.baselines import PROBES, PROBES_WITHIN, Baselines

#: What a host is to have at most in a minute without a crowd.
MOST = 50


def probes(*guests: Guest) -> list[float]:
    """When the balloon of one of them was told to report every second."""
    return sorted(at for guest in guests for at, look in guest.taken if look == ev.SetBalloonPeriod(1))


def most_within(times: list[float], seconds: float) -> int:
    """Of these, in any such time."""
    return max(sum(at <= other < at + seconds for other in times) for at in times)


def test_so_many_at_once_and_no_more_within_a_minute() -> None:
    """Whoever asks later is given the next turn, in order."""
    host = Baselines()
    assert [host.turn(5.0) for _ in range(PROBES)] == [5.0] * PROBES
    assert [host.turn(6.0), host.turn(64.9)] == [5.0 + PROBES_WITHIN] * 2
    assert host.turn(200.0) == 200.0


@pytest.mark.parametrize("number", [1, 100])
def test_a_host_that_starts(number: int) -> None:
    """One balloon is known at once, those of a hundred within three minutes, and never more than 50 a minute."""
    host = Host()
    guests = [host.guest(f"vm {n:03}", WELL, interval=1.0, timeout=1.0, threshold=3) for n in range(number)]
    host.run(5.0)
    assert sum(guest.monitor.balloon_seen for guest in guests) == min(number, PROBES)
    host.run(180.0)
    assert all(guest.monitor.balloon_seen for guest in guests)
    times = probes(*guests)
    assert len(times) == number
    assert most_within(times, 60.0) <= MOST
    assert not any(guest.transcript for guest in guests)


def test_who_is_suspected_does_not_wait_for_those() -> None:
    """It has its verdict as soon as if it were alone."""
    host = Host()
    suspect = host.guest("suspect", KNOWN, interval=1.0, timeout=1.0, threshold=3, action=Action.RECOVER)
    for n in range(100):
        host.guest(f"vm {n:03}", WELL, interval=1.0, timeout=1.0, threshold=3)
    host.run(5.0)
    suspect.kernel_dies()
    host.run(15.0)
    assert told(suspect) == ["raised guest_silent, withheld: evidence", "updated guest_hung, recover"]


def test_a_turn_that_comes_while_a_guest_is_not_well_is_kept() -> None:
    """It is used when it is, and no other is asked for."""
    host = Host()
    guests = [host.guest(f"vm {n:03}", WELL, interval=1.0, timeout=1.0, threshold=3) for n in range(PROBES + 1)]
    host.run(5.0)
    (waits,) = [guest for guest in guests if not guest.monitor.balloon_seen]
    waits.happens(ev.Silenced("request-1", "a live resize", 100.0, ask=True))
    host.run(99.0)
    assert not waits.monitor.balloon_seen
    host.run(200.0)
    assert waits.monitor.balloon_seen
    assert len(probes(waits)) == 1
