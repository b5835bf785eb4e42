"""Where every other thread leaves what it has to say to the engine, and wakes it; and where sockets are waited for."""

from __future__ import annotations

import contextlib
import logging
import math
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

LOG = logging.getLogger(__name__)


class Inbox:
    """A queue that can be waited for, and sockets beside it. `post` and `wake` from any thread, the rest from one."""

    def __init__(self) -> None:
        self._queue: deque[Any] = deque()
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self.watch(self._wake_out.fileno(), select.EPOLLIN, self._woken)

    def post(self, item: Any) -> None:
        """Leave something. Never blocks, never raises; also for use in a signal handler."""
        self._queue.append(item)
        self.wake()

    def leave(self, item: Any) -> None:
        """The same from the engine's own thread: nobody need be woken."""
        self._queue.append(item)

    def wake(self) -> None:
        """End a wait early."""
        with contextlib.suppress(OSError):  # full: it is about to wake anyway; closed: nobody waits any more
            self._wake_in.send(b"\0")

    def watch(self, fd: int, events: int, ready: Callable[[int], None]) -> None:
        """Have `ready` called by `wait` with what this descriptor is ready for. events: of `select.epoll`, 0 for none.

        For a descriptor that is watched already, other events.
        """
        if fd in self._watched:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._watched[fd] = ready

    def unwatch(self, fd: int) -> None:
        """Do not. Before it is closed."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wait(self, seconds: float) -> None:
        """Sleep until something is posted or a descriptor is ready, for `seconds` at most. Calls who waits for it."""
        timeout = 0.0 if self._queue else max(0.0, seconds)
        # As many as there may be: what has come is known before anybody is judged.
        for fd, events in self._epoll.poll(None if timeout == math.inf else timeout, len(self._watched)):
            ready = self._watched.get(fd)
            if ready is None:  # given up by another's call just now
                continue
            try:
                ready(events)
            except Exception:  # it would be ready for ever; the others are waited for as before
                LOG.exception("what came on descriptor %d could not be seen to: it is not waited for any more", fd)
                self.unwatch(fd)

    def pause(self, seconds: float) -> None:
        """Sleep, whatever comes meanwhile."""
        time.sleep(seconds)

    def drain(self) -> list[Any]:
        """Everything that has been left so far, in order."""
        items = []
        while self._queue:
            items.append(self._queue.popleft())
        return items

    def _woken(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_out.recv(4096)
