"""What cannot grow for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmhb_worker.core.bounded import Ration, keep


def test_a_book_forgets_what_was_written_first() -> None:
    """What is written again is new again."""
    book = {"a": 1, "b": 2, "c": 3}
    keep(book, "a", 4, 3)
    keep(book, "d", 5, 3)
    assert book == {"c": 3, "a": 4, "d": 5}


def test_so_many_at_once_and_then_one_now_and_then() -> None:
    """What there was none left for is counted, and said with the next one that there is."""
    ration = Ration(3, 10.0)
    assert [ration.take(0.0) for _ in range(5)] == [0, 0, 0, None, None]
    assert ration.left_out == 2
    assert ration.take(9.9) is None
    assert not ration.ready(9.99)
    assert ration.ready(10.0)
    assert ration.left_out == 3, "to look costs nothing"
    assert ration.take(10.0) == 3
    assert ration.take(19.9) is None
    assert ration.take(20.1) == 1


def test_it_is_whole_again_in_the_end_and_never_more() -> None:
    """However long nothing was taken."""
    ration = Ration(3, 10.0)
    for _ in range(3):
        ration.take(0.0)
    assert [ration.take(1e6) for _ in range(5)] == [0, 0, 0, None, None]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Nor does it take anything away."""
    ration = Ration(1, 10.0)
    assert ration.take(100.0) == 0
    assert ration.take(0.0) is None
    assert ration.take(100.5) is None
    assert ration.take(110.0) == 2


@given(st.lists(st.floats(0.0, 30.0), max_size=200), st.integers(1, 5), st.sampled_from([0.5, 7.0, 60.0]))
def test_in_any_time_no_more_than_that(delays: list[float], burst: int, every: float) -> None:
    """From any one on: the burst, and one for each `every` since; and nothing is lost uncounted."""
    ration, now, taken, said, asked = Ration(burst, every), 0.0, [], 0, 0
    for delay in delays:
        now += delay
        asked += 1
        left_out = ration.take(now)
        if left_out is not None:
            taken.append(now)
            said += left_out
    assert len(taken) + said + ration.left_out == asked
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - taken[first]) / every + 1e-6


@pytest.mark.parametrize("asked", [1, 20])
def test_whoever_takes_little_is_never_refused(asked: int) -> None:
    """As often as there is one more."""
    ration = Ration(20, 60.0)
    for hour in range(100):
        assert [ration.take(hour * asked * 60.0) for _ in range(asked)] == [0] * asked
