"""Faults that come and go: from the fourth within ten minutes on, an instance has one fault, which stays open.

A fault that ends and begins again tells nothing new, and each would ask for a recovery of its own. So the fourth is
kept open until its instance has not been found wanting for five minutes. Pure: times are monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

#: So many faults within `WINDOW` are one that flaps: three may be an outage whose recovery did not help at once.
RAISES = 4
#: See `RAISES` (seconds): twice what it takes for one to be over.
WINDOW = 600.0
#: It is over after this long without a miss (seconds).
QUIET = 300.0


@dataclass(slots=True)
class _Past:
    raised: deque[float] = field(default_factory=lambda: deque(maxlen=RAISES))
    found_at: float = 0.0  # when it was found wanting last
    flapping: bool = False


class Flaps:
    """Of one host's instances. Belongs to one thread."""

    def __init__(self, raises: int = RAISES) -> None:
        self._raises = raises
        self._past: dict[str, _Past] = {}

    def __len__(self) -> int:
        return len(self._past)

    def raised(self, uuid: str, now: float) -> None:
        """It is accused, and was not a moment ago."""
        past = self._past.setdefault(uuid, _Past())
        past.raised.append(now)
        past.found_at = now
        recent = sum(at > now - WINDOW for at in past.raised)
        past.flapping = past.flapping or recent >= self._raises

    def found(self, uuid: str, now: float) -> None:
        """It is found wanting again, or still."""
        if uuid in self._past:
            self._past[uuid].found_at = now

    def resume(self, uuid: str, now: float) -> None:
        """It flapped when the worker ended."""
        self._past[uuid] = _Past(found_at=now, flapping=True)

    def flaps(self, uuid: str) -> bool:
        """Does it?"""
        return uuid in self._past and self._past[uuid].flapping

    def again(self, uuid: str, now: float) -> bool:
        """Has it been accused more than once of late? Then one answer does not say that it is well."""
        return uuid in self._past and sum(at > now - WINDOW for at in self._past[uuid].raised) > 1

    def quiet(self, uuid: str, last_miss: float | None, now: float) -> bool:
        """Has it been well for long enough? last_miss: see `Monitor.last_miss`."""
        past = self._past.get(uuid)
        return past is None or now >= max(past.found_at, last_miss or past.found_at) + QUIET

    def over(self, uuid: str) -> None:
        """It does not flap any more. That it did, counts for as long as its faults are recent."""
        if uuid in self._past:
            self._past[uuid].flapping = False

    def forget(self, uuid: str) -> None:
        """It is gone for good."""
        self._past.pop(uuid, None)

    def tidy(self, now: float) -> None:
        """Forget whoever has been well for long."""
        self._past = {uuid: past for uuid, past in self._past.items() if past.flapping or past.found_at > now - WINDOW}
