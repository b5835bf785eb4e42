"""The challenges that may still be answered."""

from __future__ import annotations

import pytest

from vmhb_worker.core.nonce_window import MOST, Window, size


@pytest.mark.parametrize(
    ("threshold", "interval", "timeout", "remembered"),
    [(3, 10.0, 5.0, 4), (3, 0.2, 0.2, 4), (3, 1.0, 2.5, 6), (100, 1.0, 1.0, 64), (1, 0.2, 300.0, 64)],
)
def test_size(threshold: int, interval: float, timeout: float, remembered: int) -> None:
    """Those that a verdict rests on and those on their way, within a bound."""
    assert size(threshold, interval, timeout) == remembered <= MOST


def test_each_counts_once() -> None:
    """An answer with the right seq, once; its round trip is kept."""
    window = Window(4)
    seq = window.challenge("a", 1.0)
    assert window.answered(seq + 1, "a", 1.5) is None
    answer = window.answered(seq, "a", 1.5)
    assert answer is not None
    assert (answer.sent_at, answer.rtt, window.rtt, window.mean_rtt) == (1.0, 0.5, 0.5, 0.5)
    assert window.answered(seq, "a", 1.6) is None
    assert (window.forged, window.stale) == (1, 1)
    window.answered(window.challenge("b", 2.0), "b", 2.1)
    assert window.mean_rtt == pytest.approx(0.45)


def test_late_ones_are_remembered_up_to_a_bound() -> None:
    """The oldest is forgotten where there are more; and none leaves while so many are out, but one after a while."""
    window = Window(2)
    assert window.room(0.0, 1.0)
    seqs = {nonce: window.challenge(nonce, at) for at, nonce in enumerate("abc")}
    assert window.unanswered == 2
    assert not window.room(11.9, 1.0)
    assert window.room(12.0, 1.0)
    assert window.answered(seqs["a"], "a", 3.0) is None
    assert window.answered(seqs["c"], "c", 3.0)
    assert window.unanswered == 0
    assert window.answered(seqs["b"], "b", 3.5)
    assert window.unanswered == 0


def test_others_may_be_there() -> None:
    """Renewed: what is out may be lost, and counts all the same. Forgotten: it does not count."""
    window = Window(2)
    seqs = {nonce: window.challenge(nonce, 0.0) for nonce in "ab"}
    window.renew()
    assert window.unanswered == 0
    assert window.answered(seqs["a"], "a", 1.0)
    window.forget()
    assert window.answered(seqs["b"], "b", 1.0) is None


def test_other_times() -> None:
    """A smaller window forgets the oldest."""
    window = Window(4)
    seqs = {nonce: window.challenge(nonce, 0.0) for nonce in "abc"}
    window.resize(1)
    assert window.answered(seqs["b"], "b", 1.0) is None
    assert window.answered(seqs["c"], "c", 1.0)
