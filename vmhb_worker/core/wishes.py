"""Policies that were sent by RPC, for domains that may carry none: kept until they have been applied, or expire.

Belongs to one thread. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vmhb_worker.core.book import keep

#: How long a domain is waited for (seconds), and for how many at most: the oldest wishes go first.
LIFE = 3600.0
LIMIT = 1000
#: A wish that finds a policy in place is kept for so much longer (seconds): what we know of the domain may be older
#: than the wish, from before Nova defined it anew.
SETTLE = 10.0


@dataclass(frozen=True, slots=True)
class _Wish:
    knobs: Mapping[str, str]
    until: float


class Wishes:
    """All wishes of this host, one for an instance: the newest."""

    def __init__(self) -> None:
        self._wishes: dict[str, _Wish] = {}

    def keep(self, uuid: str, knobs: Mapping[str, str], now: float) -> None:
        """A wish has come."""
        keep(self._wishes, uuid, _Wish(knobs, now + LIFE), LIMIT)

    def of(self, uuid: str, now: float) -> Mapping[str, str] | None:
        """The knobs wished for, by their bare names."""
        wish = self._wishes.get(uuid)
        return wish.knobs if wish is not None and wish.until > now else None

    def settle(self, uuid: str, now: float) -> None:
        """Its domain says by itself what is asked for."""
        wish = self._wishes.get(uuid)
        if wish is not None:
            self._wishes[uuid] = _Wish(wish.knobs, min(wish.until, now + SETTLE))

    def drop(self, uuid: str) -> None:
        """It has been applied."""
        self._wishes.pop(uuid, None)

    def tidy(self, now: float) -> None:
        """Drop what has expired."""
        self._wishes = {uuid: wish for uuid, wish in self._wishes.items() if wish.until > now}
