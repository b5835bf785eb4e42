"""What waits for the broker: its order, what replaces what, and what goes when there is too much."""

from __future__ import annotations

from tests.fakes import a_row, number_of
from vmhb_common.model.fault import Change
from vmhb_worker.delivery.tables import Row
from vmhb_worker.delivery.topic_queue import Backlog, drop_excess

RAISED, UPDATED, CLEARED = Change.RAISED, Change.UPDATED, Change.CLEARED


def waiting(*rows: Row) -> Backlog:
    """A backlog of these."""
    backlog = Backlog("t")
    for row in rows:
        backlog.add(row)
    return backlog


def numbers(backlog: Backlog) -> list[int]:
    """What waits, by number."""
    return [number_of(row) for row in backlog.rows.values()]


def test_oldest_first() -> None:
    """Rows leave in the order in which they came."""
    backlog = waiting(a_row(1), a_row(2))
    assert [backlog.take(), backlog.remove(1), backlog.take(), backlog.remove(2), backlog.take()] == [
        *(a_row(1), a_row(1), a_row(2), a_row(2), None),
    ]


def test_newer_reminder_replaces_the_unsent_one() -> None:
    """Of two rows with the same word the newer stays, at the end."""
    backlog = waiting(a_row(1, collapse="f1"), a_row(2))
    assert backlog.add(a_row(3, collapse="f1")) == a_row(1, collapse="f1")
    assert numbers(backlog) == [2, 3]


def test_other_words_and_no_words_replace_nothing() -> None:
    """Only the same, non-empty word collapses."""
    assert numbers(waiting(a_row(1, collapse="f1"), a_row(2, collapse="f2"), a_row(3), a_row(4))) == [1, 2, 3, 4]


def test_row_that_is_being_sent_is_not_replaced() -> None:
    """The broker may have it by now; the newer one follows it."""
    backlog = waiting(a_row(1, collapse="f1"))
    backlog.take()
    assert backlog.add(a_row(2, collapse="f1")) is None
    assert backlog.add(a_row(3, collapse="f1")) == a_row(2, collapse="f1")
    assert numbers(backlog) == [1, 3]


def test_row_may_be_replaced_after_its_attempt_failed() -> None:
    """Between two attempts nobody has it."""
    backlog = waiting(a_row(1, collapse="f1"))
    backlog.take()
    backlog.put_back()
    backlog.add(a_row(2, collapse="f1"))
    assert numbers(backlog) == [2]


def test_nothing_goes_below_the_limit() -> None:
    """The limit itself may be reached."""
    assert drop_excess([waiting(a_row(1)), waiting(a_row(2))], 2) == []


def test_closed_pairs_go_first_and_whole() -> None:
    """A fault that the topic has never heard of, and that is over, is missed by nobody: not its raise alone, though."""
    backlog = waiting(
        a_row(1, "open", RAISED),
        *(a_row(2, "over", RAISED), a_row(3, "open", UPDATED), a_row(4, "over", UPDATED), a_row(5, "over", CLEARED)),
        a_row(6, "open", UPDATED),
    )
    assert [number_of(row) for row in drop_excess([backlog], 5)] == [2, 4, 5]
    assert numbers(backlog) == [1, 3, 6]


def test_clear_stays_where_the_raise_has_left() -> None:
    """A topic that heard the raise must hear the clear: then the oldest goes."""
    backlog = waiting(a_row(1, "f1", RAISED), a_row(2), a_row(3), a_row(4, "f1", CLEARED))
    backlog.take()
    backlog.remove(1)
    assert [number_of(row) for row in drop_excess([backlog], 2)] == [2]
    assert numbers(backlog) == [3, 4]


def test_pair_stays_once_its_raise_was_tried() -> None:
    """An attempt that failed may have reached somebody all the same."""
    backlog = waiting(a_row(1, "f1", RAISED), a_row(2), a_row(3, "f1", CLEARED))
    backlog.take()
    backlog.put_back()
    assert not backlog.has_pair


def test_oldest_goes_where_no_pair_is_left_but_not_the_one_being_sent() -> None:
    """The limit is hard."""
    backlog = waiting(a_row(1), a_row(2), a_row(3))
    backlog.take()
    assert [number_of(row) for row in drop_excess([backlog], 1)] == [2, 3]
    assert drop_excess([backlog], 0) == []


def test_the_longest_backlog_pays() -> None:
    """A topic that flows loses nothing because another one is stuck."""
    stuck, flowing = waiting(a_row(1), a_row(2), a_row(3)), waiting(a_row(4))
    drop_excess([flowing, stuck], 2)
    assert (numbers(stuck), numbers(flowing)) == ([3], [4])
