"""Has done what may block for ever, and waits no longer than it may. Knows nothing of what is done.

oslo.messaging's limits hold for an answer only: making a reply queue, opening a connection and publishing wait for a
broker that is away, frozen, blocked by an alarm, or that refuses the queue, as long as that lasts. Nothing can break
such a wait, so it is left to a thread of its own.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")

#: Left to themselves at a time, each in a thread; more than anything of ours asks side by side.
MOST = 16


class NoEnd(Exception):
    """It was not done in time, and may still come to be done. The text says what waited, and how long."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any = None
    error: BaseException | None = None


class Limited:
    """Thread-safe."""

    def __init__(self, what: str, seconds: float, most: int = MOST) -> None:
        """what: for the text of NoEnd, as in "no end of <what>". seconds: that one may take."""
        self._what = what
        self._seconds = seconds
        self._most = most
        self._free = threading.BoundedSemaphore(most)

    def __call__(self, work: Callable[[], Value]) -> Value:
        """BLOCKS for so many seconds at most. What `work` returns or raises; NoEnd where it is not done by then.

        Where as many as may be wait already, it is not begun: those have shown that there is no getting through.
        """
        until = time.monotonic() + self._seconds
        if not self._free.acquire(timeout=self._seconds):
            crowd = f"{self._most} wait already, and none ended within {self._seconds:g} s"
            raise NoEnd(f"{self._what} is not begun: {crowd}")
        outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        # A daemon: it never keeps the process from ending.
        threading.Thread(target=self._run, args=(work, outcomes), name="vmhb-limited", daemon=True).start()
        try:
            outcome = outcomes.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise NoEnd(f"no end of {self._what} within {self._seconds:g} s") from None
        if outcome.error is not None:
            raise outcome.error
        done: Value = outcome.value
        return done

    def _run(self, work: Callable[[], Any], outcomes: queue.SimpleQueue[_Outcome]) -> None:
        try:
            outcomes.put(_Outcome(work()))
        except BaseException as error:
            outcomes.put(_Outcome(error=error))
        finally:
            self._free.release()
