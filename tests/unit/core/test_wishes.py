"""Policies that came by RPC, and wait for their domains."""

from __future__ import annotations

from vmhb_worker.core.wishes import LIFE, LIMIT, SETTLE, Wishes

A, B = "instance-a", "instance-b"
KNOBS = {"heartbeat": "true", "interval": "2"}


def test_a_wish_waits_for_its_domain_for_an_hour() -> None:
    """Nova tells of an instance before libvirt does; one that never comes is not waited for for ever."""
    wishes = Wishes()
    wishes.keep(A, KNOBS, now=100.0)
    assert wishes.of(A, now=100.0 + LIFE - 1) == KNOBS
    assert wishes.of(B, now=100.0) is None
    assert wishes.of(A, now=100.0 + LIFE) is None
    wishes.tidy(now=100.0 + LIFE - 1)
    assert wishes.of(A, now=100.0) == KNOBS
    wishes.tidy(now=100.0 + LIFE)
    assert wishes.of(A, now=100.0) is None


def test_the_newest_wish_counts_and_has_its_own_hour() -> None:
    """A resize changes the flavor."""
    wishes = Wishes()
    wishes.keep(A, KNOBS, now=0.0)
    wishes.keep(A, {"interval": "5"}, now=3000.0)
    assert wishes.of(A, now=LIFE + 1) == {"interval": "5"}


def test_a_wish_that_finds_a_policy_goes_soon_but_not_at_once() -> None:
    """The policy may be that of the domain which Nova has just replaced by a bare one."""
    wishes = Wishes()
    wishes.keep(A, KNOBS, now=0.0)
    wishes.settle(A, now=5.0)
    wishes.settle(A, now=6.0)  # seen once more: no longer life for that
    wishes.settle(B, now=6.0)  # of which nothing is wished
    assert wishes.of(A, now=5.0 + SETTLE - 0.1) == KNOBS
    assert wishes.of(A, now=5.0 + SETTLE) is None


def test_what_was_applied_is_over() -> None:
    """Else it would come back to a domain from which somebody took it."""
    wishes = Wishes()
    wishes.keep(A, KNOBS, now=0.0)
    wishes.drop(A)
    wishes.drop(B)
    assert wishes.of(A, now=1.0) is None


def test_the_oldest_go_first_when_there_are_too_many() -> None:
    """Whoever floods the queue makes the worker forget, not run out of memory."""
    wishes = Wishes()
    for number in range(LIMIT + 1):
        wishes.keep(f"instance-{number}", KNOBS, now=0.0)
    assert wishes.of("instance-0", now=1.0) is None
    assert wishes.of("instance-1", now=1.0) == KNOBS
