"""What /proc says of a process, and when one ends. Linux."""

from __future__ import annotations

import os
import select

from vmhb_guest.applications import Sender, interval_of

#: Bytes read of a process's environment at most.
_ENVIRONMENT = 65536


def look(pid: int, uid: int, *, closely: bool) -> Sender:
    """What is known of it now; of one that has ended, `born` is 0. closely: also at its environment."""
    command, born = _stat(pid)
    return Sender(pid, uid, command, born, _watchdog(pid) if born and closely else None)


def born(pid: int) -> int:
    """When it was started, in clock ticks since the boot; 0 for one that has ended, reaped or not."""
    return _stat(pid)[1]


class Ends:
    """Watches for the end of processes: by pidfd where Python has it (3.9), else by `sweep`."""

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}  # pid -> pidfd, or -1
        self._born: dict[int, int] = {}

    def watch(self, sender: Sender, poll: select.epoll) -> None:
        """Have `poll` report this process's pidfd when it ends."""
        if self._born.get(sender.pid) == sender.born:
            return
        self.release(sender.pid, poll)
        try:
            fd = os.pidfd_open(sender.pid) if hasattr(os, "pidfd_open") else -1
        except OSError:
            fd = -1  # it has ended, or the kernel has no pidfds: the sweep finds out
        self._fds[sender.pid] = fd
        self._born[sender.pid] = sender.born
        if fd >= 0:
            poll.register(fd, select.EPOLLIN)

    def release(self, pid: int, poll: select.epoll) -> None:
        """Watch it no longer."""
        fd = self._fds.pop(pid, -1)
        self._born.pop(pid, None)
        if fd >= 0:
            poll.unregister(fd)
            os.close(fd)

    def owner(self, fd: int) -> int | None:
        """The process of a pidfd that was reported."""
        return next((pid for pid, one in self._fds.items() if one == fd), None)

    def watched(self) -> list[int]:
        """All that are watched."""
        return list(self._fds)

    def sweep(self) -> list[int]:
        """Those without a pidfd that have ended."""
        return [pid for pid, fd in self._fds.items() if fd < 0 and born(pid) != self._born[pid]]


def _stat(pid: int) -> tuple[str, int]:
    """Name and start time."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return "", 0
    # The name stands in brackets and may have brackets itself. proc(5): state is field 3, starttime field 22.
    name = text[text.find(b"(") + 1 : text.rfind(b")")].decode(errors="replace")
    fields = text[text.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return "", 0
    return name, int(fields[19])


def _watchdog(pid: int) -> float | None:
    """What a service manager put into its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            rows = file.read(_ENVIRONMENT).split(b"\0")
    except OSError:
        return None
    environ = dict(row.split(b"=", 1) for row in rows if b"=" in row)
    if environ.get(b"WATCHDOG_PID", str(pid).encode()) != str(pid).encode():
        return None
    return interval_of(environ.get(b"WATCHDOG_USEC", b"").decode("ascii", "replace"))
