"""The expected absences of heartbeats of one instance, each with an end."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vmhb_worker.core.excuses import of_silence

#: The key of those that a job of libvirt's causes.
JOB = "job"
#: The keys of those that stand for a state of libvirt's: they end when that does, and it is read again now and then.
PAUSED, PASSES, POSTCOPY = "paused", "passage", "postcopy"
STATES_OF_LIBVIRT = frozenset({PAUSED, PASSES, POSTCOPY})
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Silence:
    """Why, and until when at the latest (None: until it is ended). `ask`: go on asking, but judge nothing."""

    reason: str
    until: float | None
    ask: bool = False


class Silences:
    """A set by key. While it isn't empty, no beat is judged.

    What is asked of it at each heartbeat is worked out at each change. on: is there one? everybody: and one that
    excuses everybody, the kernel too? asking: may the guest be asked? until: when the next one expires. since:
    when the first of those that are on, or of the last that were, began.
    """

    __slots__ = ("_by_key", "asking", "everybody", "on", "since", "until")

    def __init__(self, now: float = 0.0) -> None:
        self._by_key: dict[str, Silence] = {}
        self.since = now
        self._changed()

    def __bool__(self) -> bool:
        return self.on

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def begin(self, key: str, silence: Silence) -> None:
        """A silence, or a new end for the one of this key."""
        self._by_key[key] = silence
        self._changed()

    def end(self, *keys: str) -> bool:
        """End these; True if that was the last of them."""
        had = self.on
        for key in keys:
            self._by_key.pop(key, None)
        self._changed()
        return had and not self.on

    def expire(self, now: float) -> bool:
        """End what is over; True if that was the last of them."""
        return self.end(*[key for key, s in self._by_key.items() if s.until is not None and s.until <= now])

    def keys(self) -> frozenset[str]:
        """Of those that are on."""
        return frozenset(self._by_key) if self.on else _NONE

    def told(self) -> dict[str, str]:
        """For people: key -> reason."""
        return {key: silence.reason for key, silence in sorted(self._by_key.items())}

    def _changed(self) -> None:
        silences = self._by_key.values()
        self.on = bool(silences)
        self.everybody = any(of_silence(key).value.witness is None for key in self._by_key)
        self.asking = all(silence.ask for silence in silences)
        self.until = min((s.until for s in silences if s.until is not None), default=math.inf)
