"""Up to when all is heard: against a queue that is filled and read in any order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.guest.examples import EXAMPLES
from vmhb_guest.watermark import Watermark


def test_an_empty_socket() -> None:
    """All is heard that was sent until now."""
    mark = Watermark(2, 0.0)
    mark.begin(5.0)
    mark.read(5.0)
    assert mark.until == 0.0
    mark.empty(5.0)
    assert mark.until == 5.0


def test_a_flood() -> None:
    """The socket is never empty: when as many are read as it holds, all is heard that was sent when that began."""
    mark = Watermark(2, 0.0)
    for second in range(1, 10):
        mark.begin(float(second))
        mark.read(float(second))
    assert mark.until == 6.0, "three were read since 1, three since 3, and three since 6"


@EXAMPLES
@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=40))
def test_nothing_older_waits(holds: int, story: list[tuple[int, int]]) -> None:
    """Whatever is sent and read: what still waits was sent at `until` or later, and `until` never goes back."""
    mark, queue, before = Watermark(holds, 0.0), list[float](), 0.0
    for number, (sent, read) in enumerate(story, 1):
        now = float(number)
        queue += [now - 0.5] * min(sent, holds - len(queue))
        mark.begin(now)
        for _ in range(read):
            if not queue:
                mark.empty(now)
                break
            queue.pop(0)
            mark.read(now)
        assert all(one >= mark.until for one in queue), "nobody is judged for what has not been read"
        assert before <= mark.until <= now
        before = mark.until
