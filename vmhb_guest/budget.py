"""How often something may be done: some at once, then one a second. No clock: time is an argument."""

from __future__ import annotations


class Budget:
    """Not thread-safe."""

    def __init__(self, most: int, per_second: float = 1.0) -> None:
        self.most = most
        self._per_second = per_second
        self._left = float(most)
        self._at = 0.0

    def take(self, now: float) -> bool:
        """May it be done, once, now (monotonic seconds)?"""
        self._left = min(self._left + max(now - self._at, 0) * self._per_second, float(self.most))
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def fill(self) -> None:
        """All of it is there again."""
        self._left = float(self.most)
