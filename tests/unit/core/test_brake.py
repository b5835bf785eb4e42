"""The brake: when a host is suspected rather than its guests, and when that ends."""

from __future__ import annotations

import pytest

from vmhb_worker.core.brake import CALM, LAST, LONGEST, LONGEST_WAVE, Brake, Braking, Crowd, Member, crowd

#: An instance that answers, and one that has not since 100.0.
WELL = Member("a", None, 101.0, 10.0)
SILENT = Member("a", 100.0, 95.0, 10.0)


def members(*counts: tuple[str, int, int]) -> list[Member]:
    """(project, silent, well) of each."""
    made = []
    for project, silent, well in counts:
        made += [Member(project, 100.0, 95.0, 10.0)] * silent + [Member(project, None, 101.0, 10.0)] * well
    return made


@pytest.mark.parametrize(
    ("counts", "trips"),
    [
        ([("a", 2, 0)], False),  # fewer than brake_count
        ([("a", 3, 0)], True),  # one project has the host to itself
        ([("a", 3, 3)], True),  # half
        ([("a", 3, 4)], False),
        ([("a", 3, 0), ("b", 0, 1)], False),  # all of one project, and the other is well
        ([("a", 11, 0), ("b", 1, 0)], True),  # nearly all of one project, and the other is silent, too
        ([("a", 3, 0), ("b", 1, 2)], False),  # most of one project, and one that has died beside them
        ([("a", 4, 0), ("b", 2, 2)], True),
        ([("a", 2, 0), ("b", 1, 0), ("c", 1, 4)], False),
        ([("a", 1, 0), ("b", 1, 0), ("c", 1, 0)], True),
    ],
)
def test_when_it_trips(counts: list[tuple[str, int, int]], trips: bool) -> None:
    """Enough of those that are judged, and not one project's doing."""
    brake = Brake(0.5, 3)
    assert brake.look(members(*counts), 110.0) is trips
    assert brake.state(110.0) is (Braking.ON if trips else Braking.OFF)


def test_who_has_not_been_asked_since_says_nothing() -> None:
    """An hour's interval: whether it would answer is not known, and it does not count."""
    unasked = Member("b", None, 20.0, 3600.0)
    assert crowd([*[SILENT] * 3, *[unasked] * 50], 0.0).judged == 3
    assert crowd([*[SILENT] * 3, *[WELL] * 2, unasked], 0.0) == Crowd(3, 5, 100.0, (0, 0), 6)


def test_who_has_been_silent_for_long_is_no_part_of_it() -> None:
    """Three that died hours ago, with nobody to recover them, are no host's trouble of today."""
    dead = [Member("a", at, 1.0, 10.0) for at in (10.0, 20.0, 30.0)]
    brake = Brake(0.5, 3)
    assert not brake.look([*dead, WELL], 110.0)
    assert brake.look(dead, 60.0)


def test_a_wave_is_as_long_as_the_intervals_need() -> None:
    """Guests that are asked every two minutes are not found silent within one; and never longer than ten."""
    slow = [Member("a", at, 1.0, 120.0) for at in (100.0, 220.0, 300.0)]
    assert Brake(0.5, 3).look(slow, 400.0)
    slowest = [Member("a", at, 1.0, 3600.0) for at in (100.0, 220.0, 300.0)]
    assert not Brake(0.5, 3).look(slowest, 101.0 + LONGEST_WAVE)


def test_it_ends_when_calm_has_lasted() -> None:
    """Fewer than a quarter, for a minute; a suspect more in between begins that anew."""
    brake = Brake(0.5, 3)
    brake.look(members(("a", 12, 0)), 110.0)
    assert not brake.look(members(("a", 2, 10)), 120.0)
    assert not brake.look(members(("a", 3, 9)), 150.0)  # a quarter
    assert not brake.look(members(("a", 2, 10)), 160.0)
    assert not brake.look(members(("a", 2, 10)), 159.9 + CALM)
    assert brake.look(members(("a", 2, 10)), 160.0 + CALM)
    assert brake.state(160.0 + CALM) is Braking.OFF
    # Those two are known: it takes others to trip it.
    assert not brake.look(members(("a", 2, 1)), 161.0 + CALM)


def test_one_alone_is_no_crowd() -> None:
    """Of four that stalled, one has died: a quarter, and nobody but itself."""
    brake = Brake(0.5, 3)
    brake.look(members(("a", 4, 0)), 110.0)
    brake.look(members(("a", 1, 3)), 120.0)
    assert brake.look(members(("a", 1, 3)), 120.0 + CALM)


def test_after_a_quarter_of_an_hour_they_are_not_coming_back() -> None:
    """It lets them through one by one, and ends when there is calm."""
    brake = Brake(0.5, 3)
    brake.look(members(("a", 4, 0)), 110.0)
    assert brake.state(109.9 + LONGEST) is Braking.ON
    assert brake.state(110.0 + LONGEST) is Braking.PACED
    brake.look([], 2000.0)
    assert brake.look([], 2000.0 + CALM)
    assert brake.state(2000.0 + CALM) is Braking.OFF


def test_an_operator_ends_it() -> None:
    """And whoever is silent then does not trip it again; others do."""
    brake = Brake(0.5, 3)
    brake.look(members(("a", 4, 0)), 110.0)
    brake.release(120.0)
    assert brake.state(120.0) is Braking.OFF
    assert not brake.look(members(("a", 4, 0)), 121.0)
    assert brake.look([Member("a", 122.0, 110.0, 10.0)] * 3, 130.0)


def test_it_goes_on_after_a_restart() -> None:
    """From when it tripped, or a worker that is restarted again and again would hold recoveries back for ever."""
    brake = Brake(0.5, 3)
    brake.resume(-800.0)
    assert brake.state(99.0) is Braking.ON
    assert brake.state(100.0) is Braking.PACED


def test_ignorance_is_no_calm() -> None:
    """Nobody is known to be well: each is away, or expected to be silent. Without any instance there is nothing."""
    brake = Brake(0.5, 3)
    brake.look(members(("a", 4, 0)), 110.0)
    unseen = [Member("a", None, None, 10.0)] * 4
    assert not brake.look(unseen, 120.0)
    assert not brake.look(unseen, 130.0 + CALM)
    assert not brake.look([], 200.0)
    assert brake.look([], 200.0 + CALM)


def test_one_project_does_not_hold_it() -> None:
    """As it takes more than one to trip it: all others have come back."""
    brake = Brake(0.5, 3)
    brake.look(members(("a", 4, 0), ("b", 4, 0)), 110.0)
    brake.look(members(("a", 4, 0), ("b", 1, 3)), 120.0)
    assert not brake.look(members(("a", 4, 0), ("b", 1, 3)), 120.0 + CALM)  # a quarter
    brake.look(members(("a", 4, 0), ("b", 0, 4)), 200.0)
    assert brake.look(members(("a", 4, 0), ("b", 0, 4)), 200.0 + CALM)


def test_it_does_not_last_for_ever() -> None:
    """Whoever still waits for its turn then is asked for at once."""
    brake = Brake(0.5, 3)
    brake.look(members(("a", 4, 0)), 110.0)
    assert not brake.look(members(("a", 4, 0)), 109.0 + LAST)
    assert brake.look(members(("a", 4, 0)), 110.0 + LAST)
    assert brake.state(110.0 + LAST) is Braking.OFF
