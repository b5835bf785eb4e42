"""One worker for one libvirt: the second one refuses to start, wherever it keeps its state.

The lock is a file beside libvirt's sockets. Whoever reaches this libvirt has that folder in common, also in containers,
which have a /run of their own. The file is in a folder that only its owner may enter, so nobody else on the host can
take it; and the kernel lets it go when the process dies, however it dies.

Workers of before took a name in Linux's abstract socket namespace, which any user can take first. It is taken all the
same, for those: held by root, or by whoever we run as, it is another worker's; by anybody else it means nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

LOG = logging.getLogger(__name__)

#: Our folder, in libvirt's.
FOLDER = "vmhb-worker"
_REMEDY = (
    "stop that one first; two would count each other's challenges as the guests' silence, and each guest's answers as "
    "its own"
)


class AlreadyWatchedError(Exception):
    """Another worker watches this libvirt."""


class Guard:
    """The right to watch one libvirt. Any thread."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: where this libvirt has its sockets; None where that is not on this host."""
        self._folder = folder
        self._taken = False
        self._file: int | None = None
        self._name: socket.socket | None = None

    def take(self, identity: str | None) -> None:
        """Take the right to watch the libvirt of this identity (its host uuid), for this process's life.

        Raises AlreadyWatchedError. Does nothing when it was taken before, or where there is no identity to go by. Where
        the file can't be used that is said, and the name alone is the lock.
        """
        if self._taken or identity is None:
            return
        if self._folder is not None:
            self._file = _locked(self._folder / FOLDER, identity)
        try:
            self._name = _named(identity)
        except AlreadyWatchedError:
            self.release()
            raise
        self._taken = True

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            os.close(self._file)
        if self._name is not None:
            self._name.close()
        self._file = self._name = None
        self._taken = False


def _locked(place: Path, identity: str) -> int | None:
    """The lock's descriptor; None where it can't be used."""
    path = place / f"{re.sub(r'[^0-9A-Za-z-]', '_', identity)}.lock"
    try:
        file = _opened(path)
    except OSError as error:
        LOG.warning(
            "%s cannot be locked (%s): two workers could watch this libvirt, and nobody would notice: let the worker "
            "write to %s (ReadWritePaths= of its unit, or its container's volume)",
            *(path, error.strerror or error, place.parent),
        )
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(file, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(file)
        raise AlreadyWatchedError(
            f"another vmhb-worker, process {holder[:20]!r}, watches this libvirt (host uuid {identity}, {path}): "
            f"{_REMEDY}"
        ) from None
    with contextlib.suppress(OSError):  # for people only, and /run may be full
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    return file


def _opened(path: Path) -> int:
    """In a folder that nobody else may enter: whoever can open a file can hold its lock. Raises OSError."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    within = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(within)
        if status.st_uid not in _trusted():
            raise PermissionError(0, f"its folder belongs to uid {status.st_uid}: remove it")
        if status.st_mode & 0o077:
            os.fchmod(within, 0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path.name, flags, 0o600, dir_fd=within)
    finally:
        os.close(within)


def _named(identity: str) -> socket.socket | None:
    """The name that workers of before go by; None where somebody else has it, or it can't be had."""
    name = f"nova-vmhb/worker/{identity}"
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        lock.bind(f"\0{name}")
    except OSError as error:
        lock.close()
        holders = _creators(name)
        if holders & _trusted():
            raise AlreadyWatchedError(
                f"another vmhb-worker watches this libvirt (host uuid {identity}): {_REMEDY}"
            ) from None
        LOG.warning(
            "the name @%s is taken (%s) by %s, which is no worker's: that keeps nobody from watching this libvirt but "
            "workers of before, in which it was the lock",
            *(name, error.strerror, f"uid {min(holders)}" if holders else "somebody whom we cannot see"),
        )
        return None
    return lock


def _trusted() -> set[int]:
    """Users whose word it is that a worker runs."""
    return {0, os.geteuid()}


def _creators(name: str) -> set[int]:
    """The uids of those who made the sockets of this name, as far as their holders can be seen.

    It is whoever made it, not whoever has it open: that may be root's, inherited by a program that is setuid.
    """
    inodes = set(_inodes(f"@{name}"))
    found: set[int] = set()
    for held in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            if os.readlink(held) in inodes:
                found.add(held.stat().st_uid)
        except OSError:  # it ended, or is not ours to look at
            continue
    return found


def _inodes(name: str) -> Iterator[str]:
    """See proc_net_unix(5)."""
    try:
        rows = Path("/proc/net/unix").read_bytes().decode("utf-8", "replace").split("\n")
    except OSError:
        return
    for row in rows:
        columns = row.split(None, 7)
        if len(columns) == 8 and columns[7] == name:
            yield f"socket:[{columns[6]}]"
