"""Policies that came by RPC, and wait for their domains."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from vmhb_worker.core.pending_policies import LIFE, LIMIT, SETTLE, Wish, Wishes

A, B = "instance-a", "instance-b"
NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
WISH = Wish({"heartbeat": "true", "interval": "2"}, NOON)
LATER = Wish({"heartbeat": "true", "interval": "5"}, NOON + timedelta(seconds=30))


def test_a_wish_waits_for_its_domain_for_an_hour() -> None:
    """Nova tells of an instance before libvirt does; one that never comes is not waited for for ever."""
    wishes = Wishes()
    wishes.keep(A, WISH, now=100.0)
    assert wishes.of(A, now=100.0 + LIFE - 1) == WISH
    assert wishes.of(B, now=100.0) is None
    assert wishes.of(A, now=100.0 + LIFE) is None
    wishes.tidy(now=100.0 + LIFE - 1)
    assert wishes.of(A, now=100.0) == WISH
    wishes.tidy(now=100.0 + LIFE)
    assert wishes.of(A, now=100.0) is None


def test_the_newest_wish_counts_and_has_its_own_hour() -> None:
    """A resize changes the flavor."""
    wishes = Wishes()
    wishes.keep(A, WISH, now=0.0)
    wishes.keep(A, LATER, now=3000.0)
    assert wishes.of(A, now=LIFE + 1) == LATER


def test_an_older_wish_is_refused() -> None:
    """Two consumers, or a backlog: the flavor from before a resize comes last, also when the newer has been applied."""
    wishes = Wishes()
    assert wishes.keep(A, LATER, now=0.0)
    assert not wishes.keep(A, WISH, now=1.0)
    assert wishes.of(A, now=2.0) == LATER
    wishes.drop(A)
    assert not wishes.keep(A, WISH, now=3.0)
    assert wishes.of(A, now=3.0) is None
    assert wishes.keep(A, LATER, now=4.0), "the same again is no harm"
    assert wishes.keep(B, WISH, now=4.0), "another instance's"


def test_an_older_wish_is_refused_for_an_hour() -> None:
    """Longer than anything is under way; and a clock that was wrong once is not believed for ever."""
    wishes = Wishes()
    wishes.keep(A, LATER, now=0.0)
    wishes.drop(A)
    wishes.tidy(now=LIFE - 1)
    assert not wishes.keep(A, WISH, now=LIFE - 1)
    wishes.tidy(now=LIFE)
    assert wishes.keep(A, WISH, now=LIFE)


def test_a_wish_that_finds_a_policy_goes_soon_but_not_at_once() -> None:
    """The policy may be that of the domain which Nova has just replaced by a bare one."""
    wishes = Wishes()
    wishes.keep(A, WISH, now=0.0)
    wishes.settle(A, now=5.0)
    wishes.settle(A, now=6.0)  # seen once more: no longer life for that
    wishes.settle(B, now=6.0)  # of which nothing is wished
    assert wishes.of(A, now=5.0 + SETTLE - 0.1) == WISH
    assert wishes.of(A, now=5.0 + SETTLE) is None


def test_what_was_applied_is_over() -> None:
    """Else it would come back to a domain from which somebody took it."""
    wishes = Wishes()
    wishes.keep(A, WISH, now=0.0)
    wishes.drop(A)
    wishes.drop(B)
    assert wishes.of(A, now=1.0) is None


def test_the_oldest_go_first_when_there_are_too_many() -> None:
    """Whoever floods the queue makes the worker forget, not run out of memory."""
    wishes = Wishes()
    for number in range(LIMIT + 1):
        wishes.keep(f"instance-{number}", WISH, now=0.0)
    assert wishes.of("instance-0", now=1.0) is None
    assert wishes.of("instance-1", now=1.0) == WISH
    older = Wish({}, NOON - timedelta(seconds=1))
    assert not wishes.keep("instance-1", older, now=1.0)
    assert wishes.keep("instance-0", older, now=1.0), "and with them, how old they were"
