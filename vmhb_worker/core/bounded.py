"""What cannot grow for ever, whatever a guest does: books, and what is said of it."""

from __future__ import annotations

import math
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def keep(book: dict[K, V], key: K, value: V, limit: int) -> None:
    """Write it down as the newest. Of more than `limit`, what was written first is forgotten first."""
    book.pop(key, None)
    book[key] = value
    while len(book) > limit:
        del book[next(iter(book))]


class Ration:
    """So many at once, and then one more every now and then. left_out: how many there was nothing left for since the
    last one that there was. Times are seconds of any clock that does not go back."""

    __slots__ = ("_at", "_burst", "_every", "_spent", "left_out")

    def __init__(self, burst: int, every: float) -> None:
        """burst: at once, at most. every: seconds until there is one more."""
        self._burst = burst
        self._every = every
        self._spent = 0.0
        self._at = -math.inf
        self.left_out = 0

    def ready(self, now: float) -> bool:
        """Is there one left?"""
        self._spent = max(0.0, self._spent - max(0.0, now - self._at) / self._every)
        self._at = max(self._at, now)
        return self._spent <= self._burst - 1.0

    def take(self, now: float) -> int | None:
        """Use one: returns how many were left out since the last one; None where there is none left: it is left out."""
        if not self.ready(now):
            self.left_out += 1
            return None
        self._spent += 1.0
        left_out, self.left_out = self.left_out, 0
        return left_out
