"""What a consumer has done so far, as numbers: for its log and for whoever asks. Knows nothing of what is counted."""

from __future__ import annotations

import threading
from collections import Counter


class Tally:
    """Counters since the start. Threads: any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, number: int = 1) -> None:
        """name: dotted, such as `delivered.masakari`."""
        with self._lock:
            self._counts[name] += number

    def snapshot(self) -> dict[str, int]:
        """All that ever happened, by name."""
        with self._lock:
            return dict(sorted(self._counts.items()))
