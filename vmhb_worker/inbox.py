"""Where every other thread leaves what it has to say to the engine, and wakes it."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections import deque
from typing import Any


class Inbox:
    """A queue that a selector can wait for. `post` from any thread, the rest from the engine's."""

    def __init__(self) -> None:
        self._queue: deque[Any] = deque()
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_out, selectors.EVENT_READ)

    def post(self, item: Any) -> None:
        """Leave something. Never blocks, never raises; also for use in a signal handler."""
        self._queue.append(item)
        self.wake()

    def wake(self) -> None:
        """End a wait early."""
        with contextlib.suppress(OSError):  # full: it is about to wake anyway; closed: nobody waits any more
            self._wake_in.send(b"\0")

    def wait(self, seconds: float) -> None:
        """Sleep until something is posted, for `seconds` at most."""
        if self._selector.select(max(0.0, seconds)):
            with contextlib.suppress(BlockingIOError):
                self._wake_out.recv(4096)

    def drain(self) -> list[Any]:
        """Everything that has been left so far, in order."""
        items = []
        while self._queue:
            items.append(self._queue.popleft())
        return items
