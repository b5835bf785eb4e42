"""The challenges that a guest may still answer: a bounded window of nonces, each of which counts once.

The channel keeps the order, so what was sent before an acknowledged challenge has been read. Late is not dead: any
nonce that is remembered is good, whenever it comes. Belongs to a monitor; times are seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vmhb_worker.core.beats import longest_back_off

#: A stopped guest's port takes 128 challenges before anything backs up.
MOST = 64
#: Weight of the newest round trip in the mean.
_SMOOTHING = 0.125


def size(threshold: int, interval: float, timeout: float) -> int:
    """How many nonces are remembered: those of the beats that a verdict rests on, and those on their way."""
    return min(threshold + math.ceil(timeout / interval), MOST)


@dataclass(frozen=True, slots=True)
class Answer:
    """A challenge of ours was answered. sent_at: when it left."""

    sent_at: float
    rtt: float


class Window:
    """At most `size` challenges unanswered. stale: answers to what is not remembered; forged: with another seq."""

    __slots__ = ("_answered", "_last_at", "_sent", "_seq", "forged", "mean_rtt", "rtt", "size", "stale")

    def __init__(self, most: int) -> None:
        self.size = most
        self.stale = 0
        self.forged = 0
        self.rtt: float | None = None
        self.mean_rtt: float | None = None
        self._sent: dict[str, tuple[int, float]] = {}  # nonce -> seq and when it left, oldest first
        self._seq = 0
        self._answered = 0  # what was sent up to here is not in the channel any more
        self._last_at = -math.inf

    @property
    def unanswered(self) -> int:
        """How many may still lie in the channel."""
        return self._seq - self._answered

    def room(self, now: float, interval: float) -> bool:
        """May another one leave? Where nothing was answered, one each few intervals in place of the oldest.

        Whoever was to answer them may have been replaced, and what it had not answered is gone with it.
        """
        return self._seq - self._answered < self.size or now - self._last_at >= longest_back_off(interval)

    def challenge(self, nonce: str, now: float) -> int:
        """A challenge leaves: its seq."""
        self._seq += 1
        self._sent[nonce] = (self._seq, now)
        self._last_at = now
        while len(self._sent) > self.size:
            del self._sent[next(iter(self._sent))]
        self._answered = max(self._answered, self._seq - self.size)
        return self._seq

    def answered(self, seq: int, nonce: str, now: float) -> Answer | None:
        """An answer came; None where it is none of ours."""
        sent = self._sent.get(nonce)
        if sent is None:
            self.stale += 1
            return None
        if sent[0] != seq:
            self.forged += 1
            return None
        del self._sent[nonce]
        self._answered = max(self._answered, seq)
        self.rtt = rtt = max(0.0, now - sent[1])
        mean = self.mean_rtt
        self.mean_rtt = rtt if mean is None else mean + _SMOOTHING * (rtt - mean)
        return Answer(sent[1], rtt)

    def renew(self) -> None:
        """Another connection, or somebody else at the guest's end: what is in the channel may be lost."""
        self._answered = self._seq

    def forget(self) -> None:
        """Another boot: an answer to what was asked before says nothing."""
        self._sent.clear()
        self.renew()

    def resize(self, most: int) -> None:
        """Other times are in force."""
        self.size = most
        while len(self._sent) > most:
            del self._sent[next(iter(self._sent))]
