"""The port to the host: a virtio-serial device, or a unix socket in tests. Never blocks. Linux.

A device, with the host away: read says end of file, write says again, poll says hang-up for as long as it lasts. So it
is watched edge-triggered (the driver wakes pollers when the host comes and goes), and never spun upon.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import stat

LOG = logging.getLogger(__name__)

DEVICE = "/dev/virtio-ports/org.openstack.vmhb.0"
#: Bytes of one read, and reads in a row before others have their turn.
CHUNK, READS = 65536, 16
#: Seconds between two attempts to open it: the first, and the most.
RETRY, RETRY_MOST = 0.1, 5.0
EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET | select.EPOLLRDHUP


class Gone(Exception):
    """There is no such port (any more)."""


class Port:
    """One port. Not thread-safe."""

    def __init__(self, path: str = DEVICE) -> None:
        self.path = path
        self.fd = -1
        self.host = False  #: is the host's side there, as far as we know
        self.more = False  #: there may be more to read, and no event will say so
        self._broken = False
        self._is_device = False
        self._retry = RETRY
        self._retry_at = 0.0

    def open(self, poll: select.epoll, now: float) -> bool:
        """Open it if it isn't and it is time to. Is it open now? Gone, where there is no such port."""
        if self.fd >= 0:
            return True
        if now < self._retry_at:
            return False
        try:
            self._is_device = not stat.S_ISSOCK(os.stat(self.path).st_mode)
            self.fd = (
                os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC) if self._is_device else self._connect()
            )
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
                raise Gone(f"there is no port {self.path}") from error
            if self._retry == RETRY:
                LOG.warning("port %s can't be opened, trying on: %s", self.path, error)
            self._put_off(now)
            return False
        self._retry = RETRY
        poll.register(self.fd, EVENTS)
        return True

    def due(self, now: float) -> float | None:
        """Seconds until `open` is worth a call; None while it is open."""
        return None if self.fd >= 0 else max(self._retry_at - now, 0.0)

    def read(self) -> bytes:
        """What the host sent; empty: nothing for now. `host` says afterwards whether it is there."""
        data = bytearray()
        self.more = False
        for _ in range(READS):
            try:
                chunk = os.read(self.fd, CHUNK)
            except BlockingIOError:
                self.host = True
                return bytes(data)
            except OSError as error:
                self._lost(error)
                return bytes(data)
            if not chunk:
                self.host = False
                if not self._is_device:
                    self._lost(None)
                return bytes(data)
            data += chunk
        self.host = self.more = True
        return bytes(data)

    def write(self, data: bytes) -> int:
        """How many of these bytes were taken; 0: no room now, or no host."""
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._lost(error)
            return 0

    def settle(self, poll: select.epoll, now: float) -> None:
        """Close it if reading or writing showed that it is broken; it is opened again later."""
        if self.fd >= 0 and self._broken:
            self.close(poll)
            self._put_off(now)

    def close(self, poll: select.epoll) -> None:
        """Give it back: one process at a time can have it."""
        if self.fd >= 0:
            poll.unregister(self.fd)
            os.close(self.fd)
        self.fd, self.host, self.more, self._broken = -1, False, False, False

    def _lost(self, error: OSError | None) -> None:
        self.host = False
        self._broken = True
        LOG.debug("port %s: %s", self.path, error or "closed by the other side")

    def _put_off(self, now: float) -> None:
        self._retry_at = now + self._retry
        self._retry = min(self._retry * 2, RETRY_MOST)

    def _connect(self) -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as one:
            one.connect(self.path)
            return one.detach()
