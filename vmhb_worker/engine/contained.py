"""Faults of ours, contained: what fails about one of many is that one's trouble; it is counted, and said now and then.

Belongs to the engine's thread. Must not decide what is made of it: see `core.mishaps`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from vmhb_worker.core.bounded import Ration
from vmhb_worker.engine.instance import Instance

LOG = logging.getLogger(__name__)

T = TypeVar("T")

#: Reports that could not be taken: so many are logged at once, and then one in so many seconds.
LINES, LINE_EVERY = 10, 60.0


class Contained:
    """`of` and `report` are for within the handling of an exception, which they log."""

    def __init__(self, again: float) -> None:
        """again: seconds until it is tried again, for people."""
        self._again = again
        self._lines = Ration(LINES, LINE_EVERY)
        #: Reports that could not be taken, about whomever.
        self.untaken = 0

    def of(self, instance: Instance, what: object) -> None:
        """Something about this one failed: it may be each of its events."""
        instance.mishaps += 1
        if instance.mishaps & (instance.mishaps - 1) == 0:  # the 1st, 2nd, 4th, 8th …
            LOG.exception(
                "instance %s: could not handle %s, a fault of ours; the %d. so far, tried again in %.0f s",
                *(instance.uuid, in_short(what), instance.mishaps, self._again),
            )

    def report(self, report: object, now: float) -> None:
        """It could not be taken."""
        self.untaken += 1
        left_out = self._lines.take(now)
        if left_out is not None:
            more = f" ({left_out} such lines were left out before this one)" if left_out else ""
            LOG.exception("could not take %s, a fault of ours%s", in_short(report), more)

    def each(self, instances: Iterable[Instance], what: str, work: Callable[[Instance], T]) -> Iterator[T]:
        """What comes of `work`, of all for whom anything does."""
        for instance in instances:
            try:
                yield work(instance)
            except Exception:
                self.of(instance, what)

    def all(self, instances: Iterable[Instance], what: str, work: Callable[[Instance], object]) -> None:
        """The same, where nothing comes of it."""
        for _ in self.each(instances, what, work):
            pass


def in_short(what: object) -> str:
    """Whatever it is, and also where that can't be told."""
    try:
        return f"{what!r:.200}"
    except Exception:
        return f"a {type(what).__name__}"
