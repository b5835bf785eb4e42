"""One worker for one libvirt: the second one refuses to start, wherever it keeps its state.

A name in Linux's abstract socket namespace is the lock: it needs no file, and the kernel lets it go when the process
dies, however it dies. It holds within one network namespace, which a host's services share.
"""

from __future__ import annotations

import errno
import socket


class AlreadyWatchedError(Exception):
    """Another worker watches this libvirt."""


class Guard:
    """The right to watch one libvirt. Any thread."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def take(self, identity: str | None) -> None:
        """Take the right to watch the libvirt of this identity (its host uuid), for this process's life.

        Raises AlreadyWatchedError. Does nothing when it was taken before, or where there is no identity to go by.
        """
        if self._socket is not None or identity is None:
            return
        name = f"\0nova-vmhb/worker/{identity}"
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            lock.bind(name)
        except OSError as error:
            lock.close()
            if error.errno != errno.EADDRINUSE:
                raise
            raise AlreadyWatchedError(
                f"another vmhb-worker watches this libvirt (host uuid {identity}): stop that one first; two would "
                "count each other's challenges as the guests' silence"
            ) from None
        self._socket = lock
