"""Which instances flap, and until when."""

from __future__ import annotations

from vmhb_worker.core.flapping import QUIET, WINDOW, Flaps


def flapping(*raised: float) -> Flaps:
    """One that was accused at these times."""
    flaps = Flaps()
    for at in raised:
        flaps.raised("vm", at)
    return flaps


def test_four_within_ten_minutes() -> None:
    """Exactly so many, exactly so close."""
    assert not flapping(0.0, 100.0, 200.0).flaps("vm")
    assert flapping(0.0, 100.0, 200.0, WINDOW - 0.1).flaps("vm")
    assert not flapping(0.0, 100.0, 200.0, WINDOW).flaps("vm")
    assert not flapping(0.0).flaps("another")


def test_five_minutes_without_a_miss_end_it() -> None:
    """Counted from its last miss, or from when it was last accused without one."""
    flaps = flapping(0.0, 1.0, 2.0, 3.0)
    assert not flaps.quiet("vm", None, 2.9 + QUIET)
    assert flaps.quiet("vm", None, 3.0 + QUIET)
    assert not flaps.quiet("vm", 50.0, 3.0 + QUIET)
    flaps.found("vm", 100.0)
    assert not flaps.quiet("vm", 50.0, 60.0 + QUIET)
    assert flaps.quiet("vm", 50.0, 100.0 + QUIET)
    assert flaps.quiet("another", None, 0.0)


def test_when_it_is_over_its_past_counts_on() -> None:
    """The next fault within ten minutes of three others is one that flaps, at once."""
    flaps = flapping(0.0, 1.0, 2.0, 3.0)
    flaps.over("vm")
    assert not flaps.flaps("vm")
    flaps.raised("vm", 400.0)
    assert flaps.flaps("vm")
    flaps.over("another")


def test_one_that_came_back_once() -> None:
    """Then one answer does not say that it is well."""
    assert not flapping(0.0).again("vm", 1.0)
    assert flapping(0.0, 1.0).again("vm", 1.0)
    assert not flapping(0.0, 1.0).again("vm", WINDOW)
    assert not flapping(0.0, 1.0).again("another", 1.0)


def test_it_forgets_who_is_well() -> None:
    """What is remembered of guests does not grow with their faults, nor for ever."""
    flaps = flapping(*range(1000))
    flaps.raised("once", 1000.0)
    flaps.found("never", 1000.0)
    assert len(flaps) == 2
    flaps.tidy(1001.0 + WINDOW)
    assert len(flaps) == 1  # it flaps, until it is said to be over
    flaps.over("vm")
    flaps.tidy(1001.0 + WINDOW)
    assert len(flaps) == 0
    flaps.resume("vm", 0.0)
    assert flaps.flaps("vm")
    flaps.forget("vm")
    assert len(flaps) == 0
