"""Lines of a log that others can bring about, as often as they like: so many are said, of the rest their number. Knows
nothing of what is said."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

#: Lines in a span, and how long one is (seconds).
MOST, SPAN = 10, 60.0


class Ration:
    """Thread-safe. For one kind of thing: whoever brings about many, of any content, has no more than MOST said."""

    def __init__(
        self, log: logging.Logger, most: int = MOST, span: float = SPAN, now: Callable[[], float] = time.monotonic
    ) -> None:
        """most: lines in a span of so many seconds."""
        self._log = log
        self._most = most
        self._span = span
        self._now = now
        self._lock = threading.Lock()
        self._until = 0.0
        self._met = 0

    def say(self, level: int, text: str, *arguments: object, exc_info: bool = False) -> None:
        """As `logging.Logger.log`, while there is something left of the ration."""
        number, before = self._count()
        if before > 0:
            self._log.log(level, "and %d more like these, which were not said", before)
        if number <= self._most:
            self._log.log(level, text, *arguments, exc_info=exc_info)
        if number == self._most:
            self._log.log(level, "more like these are counted, and not said, for up to %g s", self._span)

    def _count(self) -> tuple[int, int]:
        """Which one of its span it is, and how many of the last span were not said, where it is the first."""
        now, before = self._now(), 0
        with self._lock:
            if now >= self._until:
                before, self._met = self._met - self._most, 0
                self._until = now + self._span
            self._met += 1
            return self._met, before
