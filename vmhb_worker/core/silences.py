"""The expected absences of heartbeats of one instance, each with an end."""

from __future__ import annotations

import math
from dataclasses import dataclass

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Silence:
    """Why, and until when at the latest (None: until it is ended). `ask`: go on asking, but judge nothing."""

    reason: str
    until: float | None
    ask: bool = False


class Silences:
    """A set by key. While it isn't empty, no beat is judged."""

    def __init__(self) -> None:
        self._by_key: dict[str, Silence] = {}

    def __bool__(self) -> bool:
        return bool(self._by_key)

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def begin(self, key: str, silence: Silence) -> None:
        """A silence, or a new end for the one of this key."""
        self._by_key[key] = silence

    def end(self, *keys: str) -> bool:
        """End these; True if that was the last of them."""
        had = bool(self._by_key)
        for key in keys:
            self._by_key.pop(key, None)
        return had and not self._by_key

    def expire(self, now: float) -> bool:
        """End what is over; True if that was the last of them."""
        if not self._by_key:
            return False
        return self.end(*[key for key, s in self._by_key.items() if s.until is not None and s.until <= now])

    @property
    def asking(self) -> bool:
        """May the guest be asked?"""
        return not self._by_key or all(silence.ask for silence in self._by_key.values())

    def deadline(self) -> float:
        """When the next one expires."""
        if not self._by_key:
            return math.inf
        return min((s.until for s in self._by_key.values() if s.until is not None), default=math.inf)

    def keys(self) -> frozenset[str]:
        """Of those that are on."""
        return frozenset(self._by_key) if self._by_key else _NONE

    def told(self) -> dict[str, str]:
        """For people: key -> reason."""
        return {key: silence.reason for key, silence in sorted(self._by_key.items())}
