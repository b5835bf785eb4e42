"""Says of many at once what is the same of each: how many they are, and some by name. Knows nothing of what is said.

Whoever can make names up could fill the log, and keep others from being seen in it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

LOG = logging.getLogger(__name__)

#: Seconds between two lines of one text, and from the first that is met to the first line: others come with it.
EVERY, SETTLE = 600.0, 5.0
#: How many are named, and how many are told apart: of more it is said that there are as many at least.
NAMED, MOST = 10, 10_000
#: So many texts are kept apart.
TEXTS = 50


class _Met:
    """Who was met of one text since its last line, and who ever."""

    def __init__(self, first: float) -> None:
        self.first = first
        self.said: float | None = None
        self.names: dict[str, None] = {}
        self.before: dict[str, None] = {}


class Crowd:
    """Threads: any."""

    def __init__(self, level: int, again: bool, now: Callable[[], float] = time.monotonic) -> None:
        """again: those are named again that are met again; otherwise only who is new."""
        self._level = level
        self._again = again
        self._now = now
        self._lock = threading.Lock()
        self._texts: dict[str, _Met] = {}

    def met(self, text: str, name: str) -> None:
        """text: what is to be said of those, once `: ` and their names stand behind it."""
        with self._lock:
            one = self._texts.get(text)
            if one is None:
                if len(self._texts) >= TEXTS:
                    return
                one = self._texts[text] = _Met(self._now())
            if len(one.names) < MOST and (self._again or name not in one.before):
                one.names[name] = None

    def say(self) -> None:
        """What is due: to be called every few seconds."""
        now = self._now()
        with self._lock:
            due = [
                (text, one)
                for text, one in self._texts.items()
                if one.names and now >= (one.first + SETTLE if one.said is None else one.said + EVERY)
            ]
            lines = []
            for text, one in due:
                lines.append((text, [*one.names]))
                one.said = now
                one.before = dict([*one.before.items(), *one.names.items()][-MOST:])
                one.names = {}
        for text, names in lines:
            LOG.log(self._level, "%s: %s", text, shown(names))


def shown(names: list[str]) -> str:
    """Their number, and some of them."""
    some = ", ".join(ascii(name)[1:-1][:80] for name in names[:NAMED])
    many = f"{len(names)}{' or more' if len(names) >= MOST else ''}"
    return f"{some} ({many})" if len(names) <= NAMED else f"{some} and others ({many} in all)"
