"""Policies that were sent by RPC, for domains that may carry none: kept until they have been applied, or expire.

They come late, twice and out of order: one that is older than what has come for its instance is refused.

Belongs to one thread. `now` is in seconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from vmhb_worker.core.bounded import keep

#: How long a domain is waited for (seconds).
LIFE = 3600.0
#: How many are waited for at most: the oldest wishes go first.
LIMIT = 1000
#: A wish that finds a policy in place is kept for so much longer (seconds): what we know of the domain may be older
#: than the wish, from before Nova defined it anew.
SETTLE = 10.0


@dataclass(frozen=True, slots=True)
class Wish:
    """A flavor's knobs by their bare names, and when they were seen: aware, never later than when they came here."""

    knobs: Mapping[str, str]
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class _Kept:
    wish: Wish
    until: float


class Wishes:
    """All wishes of this host, one for an instance: the newest."""

    def __init__(self) -> None:
        self._wishes: dict[str, _Kept] = {}
        #: Of those that have been applied as well. For an hour: longer than a call is under way, and short enough for
        #: a clock that was wrong.
        self._newest: dict[str, _Kept] = {}

    def keep(self, uuid: str, wish: Wish, now: float) -> bool:
        """A wish has come; False where it is stale. The same once more is not."""
        newest = self._newest.get(uuid)
        if newest is not None and wish.observed_at < newest.wish.observed_at:
            return False
        kept = _Kept(wish, now + LIFE)
        keep(self._newest, uuid, kept, LIMIT)
        keep(self._wishes, uuid, kept, LIMIT)
        return True

    def of(self, uuid: str, now: float) -> Wish | None:
        """What is wished for."""
        kept = self._wishes.get(uuid)
        return kept.wish if kept is not None and kept.until > now else None

    def settle(self, uuid: str, now: float) -> None:
        """Its domain says by itself what is asked for."""
        kept = self._wishes.get(uuid)
        if kept is not None:
            self._wishes[uuid] = replace(kept, until=min(kept.until, now + SETTLE))

    def drop(self, uuid: str) -> None:
        """It has been applied."""
        self._wishes.pop(uuid, None)

    def tidy(self, now: float) -> None:
        """Drop what has expired."""
        self._wishes = {uuid: kept for uuid, kept in self._wishes.items() if kept.until > now}
        self._newest = {uuid: kept for uuid, kept in self._newest.items() if kept.until > now}
