"""Silences that others announce: they come late, twice, out of order, for instances that are not here yet, or never.

A hint is kept until it expires, whether its instance is here or not. An end that overtook its start leaves a tombstone,
which refuses starts that are not newer. Times are seconds of the wall clock, since the hints come from other hosts.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmhb_common.model.silences import MAX_SILENCE
from vmhb_worker.core.bounded import keep

#: How long an end is remembered (seconds): for as long as any start before it could hold. Or whoever kept that, with
#: its signature, could begin again what is over.
TOMBSTONE_LIFE = MAX_SILENCE
#: How many hints and ends are kept at most: the oldest go first.
LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Hint:
    """Expect no heartbeats until `expires`."""

    reason: str
    observed_at: float
    expires: float


def hint_of(reason: str, timeout: float, observed_at: float, wall: float) -> Hint:
    """What was announced for so many seconds from then on, cut to what may be. Whoever's clock is ahead: no silence is
    longer than it was meant to be."""
    return Hint(reason, observed_at, min(observed_at, wall) + min(timeout, MAX_SILENCE))


class Hints:
    """All hints of this host, by instance and key. Belongs to one thread."""

    def __init__(self) -> None:
        self._hints: dict[tuple[str, str], Hint] = {}
        self._ends: dict[tuple[str, str], float] = {}

    def expect(self, uuid: str, key: str, hint: Hint, wall: float) -> bool:
        """Take a hint; False where it is stale: expired, ended before it came, or older than the one that is here."""
        ended, here = self._ends.get((uuid, key)), self._hints.get((uuid, key))
        if hint.expires <= wall or (ended is not None and hint.observed_at <= ended):
            return False
        if here is not None and hint.observed_at < here.observed_at:
            return False
        keep(self._hints, (uuid, key), hint, LIMIT)
        return True

    def end(self, uuid: str, key: str, observed_at: float) -> bool:
        """The operation is over; False where nothing was expected of it (yet)."""
        keep(self._ends, (uuid, key), max(observed_at, self._ends.get((uuid, key), observed_at)), LIMIT)
        hint = self._hints.get((uuid, key))
        if hint is None or hint.observed_at > observed_at:
            return False
        del self._hints[uuid, key]
        return True

    def of(self, uuid: str, wall: float) -> dict[str, Hint]:
        """The hints for an instance that has just appeared, by key."""
        return {key: hint for (whose, key), hint in self._hints.items() if whose == uuid and hint.expires > wall}

    def tidy(self, wall: float) -> None:
        """Drop what is over."""
        self._hints = {which: hint for which, hint in self._hints.items() if hint.expires > wall}
        self._ends = {which: at for which, at in self._ends.items() if at > wall - TOMBSTONE_LIFE}
