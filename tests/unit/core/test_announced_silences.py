"""Hints from other hosts: late, twice, out of order, or never."""

from __future__ import annotations

import pytest

from vmhb_common.model.silences import MAX_SILENCE
from vmhb_worker.core.announced_silences import LIMIT, TOMBSTONE_LIFE, Hint, Hints, hint_of

A, REBOOT = "instance-a", "req-1"


def test_a_hint_waits_for_its_instance_until_it_expires() -> None:
    """Nova announces what is going to arrive on this host before libvirt has heard of it."""
    hints = Hints()
    hint = Hint("reboot", observed_at=1000.0, expires=1300.0)
    assert hints.expect(A, REBOOT, hint, wall=1001.0)
    assert hints.of(A, wall=1299.0) == {REBOOT: hint}
    assert hints.of("instance-b", wall=1299.0) == {}
    assert hints.of(A, wall=1300.0) == {}


@pytest.mark.parametrize(
    ("asked", "granted"),
    [(60.0, 60.0), (MAX_SILENCE, MAX_SILENCE), (MAX_SILENCE + 1.0, MAX_SILENCE), (1e9, MAX_SILENCE)],
)
def test_nothing_that_is_announced_holds_for_longer_than_a_day(asked: float, granted: float) -> None:
    """Whoever mistypes a number, or forgets to end it, leaves nobody unwatched for longer than that."""
    assert hint_of("resize", asked, observed_at=1000.0, wall=1030.0) == Hint("resize", 1000.0, 1000.0 + granted)


@pytest.mark.parametrize("asked", [60.0, 1e9])
def test_a_clock_that_is_ahead_makes_no_silence_longer(asked: float) -> None:
    """It is counted from now on where its beginning is said to lie ahead of us."""
    hint = hint_of("resize", asked, observed_at=9000.0, wall=1000.0)
    assert (hint.observed_at, hint.expires) == (9000.0, 1000.0 + min(asked, MAX_SILENCE))


def test_a_hint_that_comes_too_late_is_refused() -> None:
    """It says until when it holds; the queue may have held it up for longer."""
    hints = Hints()
    assert not hints.expect(A, REBOOT, Hint("reboot", 1000.0, 1300.0), wall=1300.0)
    assert hints.of(A, wall=1200.0) == {}


def test_an_end_that_overtook_its_start_refuses_it() -> None:
    """Otherwise a silence would begin that nobody ends."""
    hints = Hints()
    assert not hints.end(A, REBOOT, observed_at=1010.0)
    assert not hints.expect(A, REBOOT, Hint("reboot", 1000.0, 1300.0), wall=1011.0)
    assert not hints.expect(A, REBOOT, Hint("reboot", 1010.0, 1300.0), wall=1011.0)


def test_an_older_start_does_not_replace_a_newer_one() -> None:
    """Two rescues share a key: the end of the first must not end the second, in whatever order they come."""
    hints = Hints()
    second = Hint("rescued", 1030.0, 9000.0)
    assert hints.expect(A, "rescued", second, wall=1031.0)
    assert not hints.expect(A, "rescued", Hint("rescued", 1010.0, 9000.0), wall=1031.0)
    assert not hints.end(A, "rescued", observed_at=1020.0)
    assert hints.of(A, wall=1031.0) == {"rescued": second}
    assert hints.expect(A, "rescued", second, wall=1031.0), "the same again is no news, and no harm"


def test_a_newer_start_is_not_refused_by_an_older_end() -> None:
    """The same request may do the same thing again."""
    hints = Hints()
    hints.end(A, REBOOT, observed_at=1010.0)
    again = Hint("reboot", 1011.0, 1300.0)
    assert hints.expect(A, REBOOT, again, wall=1012.0)
    assert not hints.end(A, REBOOT, observed_at=1005.0)  # an old end, once more
    assert hints.of(A, wall=1013.0) == {REBOOT: again}
    assert not hints.expect(A, REBOOT, Hint("reboot", 1009.0, 1300.0), wall=1014.0)  # the tombstone did not go back


def test_an_end_ends_its_own_operation_only() -> None:
    """Keys are Nova's request ids: two operations on one instance don't end each other."""
    hints = Hints()
    snapshot = Hint("snapshot", 1000.0, 1300.0)
    hints.expect(A, REBOOT, Hint("reboot", 1000.0, 1300.0), wall=1000.0)
    hints.expect(A, "req-2", snapshot, wall=1000.0)
    assert hints.end(A, REBOOT, observed_at=1010.0)
    assert not hints.end(A, REBOOT, observed_at=1010.0)
    assert hints.of(A, wall=1011.0) == {"req-2": snapshot}


def test_what_is_over_is_forgotten() -> None:
    """A worker that runs for a year keeps no year of hints."""
    hints = Hints()
    hints.expect(A, REBOOT, Hint("reboot", 1000.0, 1300.0), wall=1000.0)
    hints.end(A, "req-2", observed_at=1000.0)
    late = Hint("reboot", 999.0, 9999.0)
    hints.tidy(wall=1299.0)
    assert REBOOT in hints.of(A, wall=1299.0)
    assert not hints.expect(A, "req-2", late, wall=1299.0)
    hints.tidy(wall=1000.0 + TOMBSTONE_LIFE)
    assert hints.of(A, wall=1000.0) == {}
    assert hints.expect(A, "req-2", late, wall=1299.0)


def test_a_start_that_is_sent_again_begins_nothing_that_is_over() -> None:
    """However long the silence was to be, and however late it is sent again: its end is remembered for as long."""
    hints = Hints()
    kept = hint_of("rescued", MAX_SILENCE, observed_at=1000.0, wall=1000.0)
    assert hints.expect(A, REBOOT, kept, wall=1000.0) and hints.end(A, REBOOT, observed_at=1001.0)
    for wall in (1100.0, 10_000.0, kept.expires - 1, kept.expires):
        hints.tidy(wall)
        assert not hints.expect(A, REBOOT, kept, wall), wall


def test_the_oldest_go_first_when_there_are_too_many() -> None:
    """Whoever floods the queue makes the worker forget hints, not run out of memory."""
    hints = Hints()
    for number in range(LIMIT + 1):
        hints.expect(f"instance-{number}", REBOOT, Hint("reboot", 1000.0, 1300.0), wall=1000.0)
        hints.end(f"instance-{number}", "req-2", observed_at=1000.0)
    assert hints.of("instance-0", wall=1000.0) == {}
    assert REBOOT in hints.of("instance-1", wall=1000.0)
    assert hints.expect("instance-0", "req-2", Hint("old", 999.0, 1300.0), wall=1000.0)
    assert not hints.expect("instance-1", "req-2", Hint("old", 999.0, 1300.0), wall=1000.0)
