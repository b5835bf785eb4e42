"""Asks workers side by side, so that hosts that do not answer hold nobody else's. Knows nothing of what is asked.

A question costs a worker that is well milliseconds, and one that is away 6 s. So each host is asked one thing at a
time; hosts take turns; those that did not answer last time have a few places only; and who asks waits a moment, and
comes again for the answer. What waits for a host that does not answer is answered with that: it is asked once.

Threads: any may ask; each question has one of its own, a daemon, PLACES at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

LOG = logging.getLogger(__name__)

Answer = TypeVar("Answer")

#: Questions under way at a time: of all hosts, and of those that did not answer last time.
PLACES, SLOW_PLACES = 32, 8
#: Seconds that who asks waits for an answer. So many that wait for longer, and nobody waits any more.
PATIENCE, MANY = 0.5, 4
#: For so long (seconds) an answer may be taken: who asked comes again sooner. It is taken once.
FRESH = 5.0
#: Of one host, so many wait for their turn: who comes then, comes again.
MOST = 200
#: Of so many hosts it is kept that they did not answer.
HOSTS = 5000


@dataclass(frozen=True, slots=True)
class Asking:
    """It is being asked: come again in so many seconds. last: what it did not answer with last time."""

    seconds: float
    last: Any = None


@dataclass(slots=True)
class _Host(Generic[Answer]):
    """slow: it did not answer last time, with these words (last). asked: what it is being asked; waiting: what it is
    asked next."""

    slow: bool = False
    last: Any = None
    asked: str | None = None
    waiting: OrderedDict[str, None] = field(default_factory=OrderedDict)
    answers: dict[str, tuple[float, Answer]] = field(default_factory=dict)


class Questions(Generic[Answer]):
    """About things on hosts, each by its name."""

    def __init__(
        self,
        ask: Callable[[str, str], Answer],
        is_none: Callable[[Answer], bool],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """ask: BLOCKS; asks the worker of this host about this. Raises nothing. is_none: it did not answer."""
        self._ask = ask
        self._is_none = is_none
        self._now = now
        self._came = threading.Condition()
        # Under the condition's lock: hosts in the order of their turns, and how many are asked.
        self._hosts: OrderedDict[str, _Host[Answer]] = OrderedDict()
        self._running = 0
        self._running_slow = 0

    def __call__(self, host: str, about: str) -> Answer | Asking:
        """BLOCKS for PATIENCE at most."""
        with self._came:
            one = self._hosts.setdefault(host, _Host())
            if (known := self._fresh(one, about)) is not None:
                return known[0]
            if one.asked != about and len(one.waiting) < MOST:
                one.waiting[about] = None
            self._begin()
            if not one.slow and self._running <= MANY:
                self._came.wait_for(lambda: about in one.answers, PATIENCE)
            if (known := self._fresh(one, about)) is not None:
                return known[0]
            return Asking(min(15.0, 1.0 + 0.2 * len(one.waiting)), one.last)

    def _fresh(self, one: _Host[Answer], about: str) -> tuple[Answer] | None:
        told = one.answers.pop(about, None)
        return (told[1],) if told is not None and self._now() - told[0] <= FRESH else None

    def _begin(self) -> None:
        """Whose turn it is, as far as there are places."""
        for host in [*self._hosts]:
            one = self._hosts[host]
            if self._running >= PLACES:
                return
            if one.asked is not None or not one.waiting or (one.slow and self._running_slow >= SLOW_PLACES):
                continue
            one.asked, _ = one.waiting.popitem(last=False)
            self._hosts.move_to_end(host)
            self._running += 1
            self._running_slow += one.slow
            asked = (host, one, one.asked, one.slow)
            threading.Thread(target=self._run, args=asked, name="vmhb-ask", daemon=True).start()

    def _run(self, host: str, one: _Host[Answer], about: str, was_slow: bool) -> None:
        try:
            answer = self._ask(host, about)
        except Exception:  # a mistake of ours: it is asked again when it is asked for again
            LOG.exception("an error of our own: %s was not asked; going on with the others", ascii(host))
            with self._came:
                self._ended(one, was_slow)
                self._begin()
            return
        with self._came:
            self._ended(one, was_slow)
            now = self._now()
            one.slow = self._is_none(answer)
            one.last = answer if one.slow else None
            one.answers[about] = (now, answer)
            if one.slow:
                one.answers.update(dict.fromkeys(one.waiting, (now, answer)))
                one.waiting.clear()
            self._forget(now)
            self._begin()
            self._came.notify_all()

    def _ended(self, one: _Host[Answer], was_slow: bool) -> None:
        """Its place is free."""
        self._running -= 1
        self._running_slow -= was_slow
        one.asked = None

    def _forget(self, now: float) -> None:
        """Answers that nobody came for, and hosts of which nothing is to be known."""
        for host, one in [*self._hosts.items()]:
            one.answers = {about: told for about, told in one.answers.items() if now - told[0] <= FRESH}
            if not (one.answers or one.waiting or one.asked or (one.slow and len(self._hosts) <= HOSTS)):
                del self._hosts[host]
