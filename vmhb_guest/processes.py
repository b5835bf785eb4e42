"""What /proc says of a process, and when one ends. Linux."""

from __future__ import annotations

import dataclasses
import os
import re
import select
from collections.abc import Mapping

from vmhb_guest import units
from vmhb_guest.senders import Sender, interval_of

#: Bytes read at most: of a process's environment, and of anything else that /proc says of it.
_ENVIRONMENT, _MUCH = 65536, 4096
#: What is left of a command line after division by this stands for it: nobody is to read it in our files.
_PRIME = 2**61 - 1
#: How MAINPID is spelt.
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclasses.dataclass(frozen=True)
class Owner:
    """Whose a process is, by all of the users and groups that it can act as; nobody's, where it has ended."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()


def look(pid: int, uid: int, *, closely: bool, ours: units.Home = units.NOWHERE, feeds: bool = False) -> Sender:
    """What is known of it now; of one that has ended, `born` is 0.

    closely: also at its environment, its command line, and where it belongs; and whether it is this user's at all: a
    process that has the number of a sender which has ended is not the sender. ours: where we belong ourselves; who is
    there too is somebody that we, or whoever runs us, has started. feeds: it says WATCHDOG=1.
    """
    command, began = _stat(pid)
    if not began or not closely:
        return Sender(pid, uid, command, began)
    home = home_of(pid)
    # Who began as root and gave that up since does so in a service's unit, which no other user's process gets into.
    gave_up = uid == 0 and units.own_service(home) not in ("", ours.unit)
    if uid not in owner(pid).users and not gave_up:
        return Sender(pid, uid, "", 0)
    if home.unit and home.unit == ours.unit:
        home = units.NOWHERE
    interval = _watchdog(pid, whoever=feeds and home.unit != "")
    line = _read(pid, "cmdline", _MUCH)
    program = f"{int.from_bytes(line, 'big') % _PRIME:x}" if line else ""
    if born(pid) != began:
        return Sender(pid, uid, "", 0)  # it ended meanwhile: what we saw may be another one's
    return Sender(pid, uid, command, began, interval, home.unit, home.keeper, program)


def owner(pid: int) -> Owner:
    """Whose process it is."""
    rows = dict(row.partition(b":")[::2] for row in _read(pid, "status", _ENVIRONMENT).splitlines())
    uids, gids, more = ([int(word) for word in rows.get(name, b"").split()] for name in (b"Uid", b"Gid", b"Groups"))
    return Owner(frozenset(uids), frozenset(gids + more))


def home_of(pid: int | str) -> units.Home:
    """Where a process belongs; nowhere, where it has ended."""
    return units.home(_read(pid, "cgroup", _ENVIRONMENT).decode("utf-8", "replace"))


def main_of(sender: Sender, said: Mapping[str, str], ours: units.Home) -> Sender | None:
    """The process that a message says to be the service (MAINPID=), where that is to be believed: as systemd has it.

    sender: who was looked at closely. Anybody but root speaks of processes of the same user in the same unit.
    """
    spelt = said.get("MAINPID", "")
    pid = int(spelt) if _NUMBER.fullmatch(spelt) else 0
    if pid <= 1 or pid == os.getpid():
        return None
    if pid == sender.pid:
        return sender if sender.born else None
    if _namespace(sender.pid) not in ("", _namespace("self")):
        return None  # in a container: its numbers are others than ours
    found = look(pid, _uid(pid), closely=True, ours=ours)
    if not found.program:  # it has ended, or is a thread of the kernel's
        return None
    # Where a starter has ended since, its unit is not known, and its user's word must do.
    mine = found.uid == sender.uid and (not sender.born or found.unit == sender.unit)
    return found if mine or sender.uid == 0 else None


def born(pid: int) -> int:
    """When it was started, in clock ticks since the boot; 0 for one that has ended, reaped or not."""
    return _stat(pid)[1]


class Ends:
    """Watches for the end of processes: by pidfd where Python has it (3.9), else by `sweep`."""

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}  # pid -> pidfd, or -1
        self._born: dict[int, int] = {}

    def watch(self, sender: Sender, poll: select.epoll) -> None:
        """Have `poll` report this process's pidfd when it ends. Of one that has ended there is nothing to watch: where
        it spoke at last, its end is noticed by what it was watched by before.
        """
        if not sender.born or self._born.get(sender.pid) == sender.born:
            return
        self.release(sender.pid, poll)
        try:
            fd = os.pidfd_open(sender.pid) if hasattr(os, "pidfd_open") else -1
        except OSError:
            fd = -1  # it has ended, or the kernel has no pidfds: the sweep finds out
        if fd >= 0 and born(sender.pid) != sender.born:
            os.close(fd)  # another one has its number by now, so it has ended: the same
            fd = -1
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

    def born(self, pid: int) -> int:
        """When the process of this number that is watched was started; 0: none is."""
        return self._born.get(pid, 0)

    def watched(self) -> list[int]:
        """All that are watched."""
        return list(self._fds)

    def sweep(self) -> list[int]:
        """Those without a pidfd that have ended."""
        return [pid for pid, fd in self._fds.items() if fd < 0 and born(pid) != self._born[pid]]


def _stat(pid: int) -> tuple[str, int]:
    """Name and start time."""
    text = _read(pid, "stat", _MUCH)
    # The name stands in brackets and may have brackets itself. proc(5): state is field 3, starttime field 22.
    name = text[text.find(b"(") + 1 : text.rfind(b")")].decode(errors="replace")
    fields = text[text.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return "", 0
    return name, int(fields[19])


def _uid(pid: int) -> int:
    """Whose process it is, by its real user; nobody's, where it has ended."""
    rows = _read(pid, "status", _MUCH).splitlines()
    return next((int(row.split()[1]) for row in rows if row.startswith(b"Uid:")), -1)


def _namespace(pid: int | str) -> str:
    """Of its numbers of processes."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _watchdog(pid: int, *, whoever: bool = False) -> float | None:
    """What a service manager put into its environment; whoever: also if that was meant for another of its service."""
    rows = _read(pid, "environ", _ENVIRONMENT).split(b"\0")
    environ = dict(row.split(b"=", 1) for row in rows if b"=" in row)
    if not whoever and environ.get(b"WATCHDOG_PID", str(pid).encode()) != str(pid).encode():
        return None
    return interval_of(environ.get(b"WATCHDOG_USEC", b"").decode("ascii", "replace"))


def _read(pid: int | str, name: str, much: int) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read(much)
    except OSError:
        return b""
