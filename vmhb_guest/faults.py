"""Faults of our own, in the handling of one thing: logged, counted and survived, so that they are that thing's alone.

One thing: a datagram, a message of the host's, a caller's question, the end of a process, a run of a check.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vmhb_guest.budget import Budget
from vmhb_guest.codec import MAX_TEXT, clean

LOG = logging.getLogger(__name__)

#: Lines in the log at once, and a second afterwards: whoever found out how to cause one causes many.
LINES, PER_SECOND = 8, 0.1


class Faults:
    """Those of this daemon. Any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._clock = clock
        self._lines = Budget(LINES, PER_SECOND)
        self._lock = threading.Lock()

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Whatever goes wrong inside ends there. What is to end the daemon must be caught inside."""
        try:
            yield
        except Exception as error:  # that nobody thought of it is the point
            self.tell(what, error)

    def tell(self, what: str, error: Exception) -> None:
        """This went wrong with it."""
        with self._lock:
            self.count += 1
            told = self._lines.take(self._clock())
        if told:
            # In one line, and cleaned: it may be made of what a user or the host sent.
            thing, said = clean(what, MAX_TEXT), clean(f"{type(error).__name__}: {error}", MAX_TEXT)
            LOG.error("a fault of vmhb-guest's own, please report it: %s, %s: %s", thing, _where(error), said)


def _where(error: Exception) -> str:
    rows = traceback.extract_tb(error.__traceback__)[1:]  # without our own
    return ", ".join(f"{os.path.basename(row.filename)}:{row.lineno}" for row in rows[-3:])
