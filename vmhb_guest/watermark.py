"""Up to when all that was said is heard: nobody is judged for what comes after that. No I/O, no clock."""

from __future__ import annotations


class Watermark:
    """Of one socket, which holds so many datagrams at most, and gives them in the order in which they came.

    Not thread-safe. Under a flood the socket may never be found empty. But what was in it at some moment has been read
    when as many have been read since as it holds: so `until` goes on whatever is sent, and no flood hides a silence for
    long.
    """

    def __init__(self, holds: int, now: float) -> None:
        self.until = now  #: all that was sent before is heard (monotonic seconds)
        self._holds = holds
        self._since: float | None = None
        self._count = 0

    def begin(self, now: float) -> None:
        """Reading goes on."""
        if self._since is None:
            self._since, self._count = now, 0

    def read(self, now: float) -> None:
        """One was read, in a reading that went on at this time."""
        self._count += 1
        if self._since is not None and self._count > self._holds:
            self.until, self._since, self._count = self._since, now, 0

    def empty(self, now: float) -> None:
        """Nothing was left, in a reading that went on at this time."""
        self.until, self._since = now, None
