"""Of one host: when the balloons of guests that are well are probed, to learn whether they answer.

Whose turn it is does not matter, and 300 guests that start together are no reason to ask libvirtd for 300 probes, of
some six calls each, while Nova starts the next ones. Who is suspected is probed at once, and never waits for these.
Pure: belongs to the engine's thread; times are seconds of the monotonic clock.
"""

from __future__ import annotations

from collections import deque

#: So many in so many seconds at most: of the 50 that a host is to have in a minute without a crowd, ten are left for
#: suspects.
PROBES, PROBES_WITHIN = 40, 60.0


class Baselines:
    """The turns that were given."""

    def __init__(self) -> None:
        self._turns: deque[float] = deque(maxlen=PROBES)

    def turn(self, now: float) -> float:
        """When one more may be probed: now, or as soon as there are not too many. It is given to whoever asks."""
        full = len(self._turns) == PROBES
        at = max(now, self._turns[0] + PROBES_WITHIN) if full else now
        self._turns.append(at)
        return at
