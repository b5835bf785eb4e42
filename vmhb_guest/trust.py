"""May a program be run as root? Only if nobody else could have written it, or its interpreter, or the way there.

Each folder and link on the way must be root's (or, where the daemon is not root, its own user's), and nobody else may
write to it. A folder that all may write to and where each keeps their own (/tmp: its sticky bit) will do on the way,
but not for the one that a program is in. Access lists count: the kernel shows their mask as the group's bits. Linux.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

#: Bytes of a program's first line that the kernel reads (BINPRM_BUF_SIZE), the scripts that it takes in a row, and the
#: symbolic links.
_LINE, _SCRIPTS, _LINKS = 256, 5, 40
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def of_program(path: str) -> str:
    """Why it must not be run, and what to do; "" for no reason. OSError where it can't be looked at."""
    for _ in range(_SCRIPTS):
        why = of_path(path)
        if why:
            return why
        words = _first_line(path)
        if not words:
            return ""
        path = os.path.join("/", words[0])  # where a program is run
        if os.path.basename(path) == "env":
            why = of_path(path)
            path, doubt = _found(_asked_of_env(words[1:]))
            if why or doubt or not path:
                return why or doubt
    return f"{path} is too many scripts in a row"


def of_path(path: str) -> str:
    """The same of a file or a folder, whatever is in it."""
    path = os.path.abspath(path)
    keeps = {
        path,
        os.path.dirname(path),
        os.path.realpath(os.path.dirname(path)),
        os.path.dirname(os.path.realpath(path)),
    }
    last = "/"
    try:
        for here, found in _way(path):
            why = _fault(here, found, keeps=here in keeps)
            if why:
                return why
            last = here
    except FileNotFoundError:
        why = _fault(last, os.lstat(last), keeps=True)  # who may write there may make it at any moment
        if why:
            return why
        raise
    return ""


def _fault(path: str, found: os.stat_result, *, keeps: bool) -> str:
    """What is wrong with one folder, link or file. keeps: what is in it is to be nobody else's."""
    if found.st_uid not in (0, os.geteuid()):
        return f"{path} is not root's but of uid {found.st_uid}: chown root it, or remove it"
    shared = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX and not keeps
    if found.st_mode & _OTHERS and not stat.S_ISLNK(found.st_mode) and not shared:
        return f"others than root may write to {path} (mode {stat.S_IMODE(found.st_mode):04o}): chmod go-w it"
    return ""


def _way(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Each folder and link on the way to it, and it: what a path is made of when the kernel follows it."""
    at, left, links = "/", [name for name in reversed(path.split("/")) if name not in ("", ".")], 0
    yield at, os.lstat(at)
    while left:
        name = left.pop()
        if name == "..":
            at = os.path.dirname(at)
            continue
        here = os.path.join(at, name)
        found = os.lstat(here)
        yield here, found
        if not stat.S_ISLNK(found.st_mode):
            at = here
            continue
        links += 1
        if links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(here)
        at = "/" if target.startswith("/") else at
        left += [name for name in reversed(target.split("/")) if name not in ("", ".")]


def _first_line(path: str) -> list[str]:
    """The words after its #!, if it has any."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        head = os.read(fd, _LINE) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)
    line = head.partition(b"\n")[0]
    return [os.fsdecode(word) for word in line[2:].split()] if line.startswith(b"#!") else []


def _asked_of_env(words: list[str]) -> str:
    """The program that env is to find: after its options, and what it is to put into the environment."""
    return next((word for word in words if not word.startswith("-") and "=" not in word), "")


def _found(name: str) -> tuple[str, str]:
    """Where it is, by our own PATH; "" for nowhere. And why one of the folders in which it is looked for won't do."""
    if "/" in name or not name:
        return (os.path.join("/", name) if name else ""), ""
    for part in os.get_exec_path():
        folder = os.path.join("/", part)
        try:
            why = of_path(folder)
        except FileNotFoundError:
            continue  # nobody else could make it: the way there is root's
        path = os.path.join(folder, name)
        if why or os.access(path, os.X_OK):
            return path, why
    return "", ""
