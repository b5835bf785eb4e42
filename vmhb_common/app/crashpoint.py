"""Named places where a test lets the process die, to show that nothing is lost there. A test seam, nothing else.

Set VMHB_CRASH_AT to one of the names, and the process kills itself with SIGKILL when it gets there for the first
time. Set it to an absolute path, and the name is read from that file, whenever a point is reached: so a test can let a
process live until something else has happened. Unset, as in production, a point costs one look into a dict.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """One place: its name, and what has happened and what has not when it is reached."""

    name: str
    meaning: str


#: Every place there is. To add one: a row here, and a call of `reach` where it belongs.
POINTS: tuple[Point, ...] = (
    Point("verdict.accused", "An instance was judged, its fault raised or updated in memory; nothing is stored."),
    Point("verdict.acquitted", "An instance answered again, its fault is cleared in memory; nothing is stored."),
    Point("probe.stored", "The balloon's old period is on disk; the period has not been changed yet."),
    Point("probe.set", "The balloon's period has been changed, or put back; the disk does not say so yet."),
    Point("commit.before", "All rows of a commit are written in its transaction, which is not yet committed."),
    Point("commit.after", "A commit is on disk, and neither its sender nor whoever waits for it has been told."),
    Point("send.before", "A message is about to be handed to the broker."),
    Point("send.confirmed", "The broker has confirmed a message whose row is still on disk."),
    Point("send.deleted", "The row of a confirmed message is gone from the disk."),
    Point("consumer.taken", "The consumer has committed what a notification means, and has not acknowledged it."),
    Point("consumer.claimed", "The consumer has taken a row of its outbox; the reporter has not been called."),
    Point("consumer.granted", "A recovery was let through and counted; the reporter does not know yet."),
    Point("consumer.delivered", "The reporter has delivered a row that is still in the outbox."),
)

#: The variable that names the point to die at, or the file that does.
VARIABLE = "VMHB_CRASH_AT"

_ENCODED = VARIABLE.encode()
# `os.environ.get` encodes its key and decodes the value at every call; its dict underneath is the one look-up.
_environment: dict[bytes, bytes] = getattr(os.environ, "_data", {})


def reach(name: str) -> None:
    """Die here, if this is the point that the environment names. Any thread; returns at once otherwise."""
    if _ENCODED in _environment and _named(os.environ[VARIABLE]) == name:
        os.kill(os.getpid(), signal.SIGKILL)


def warning() -> str | None:
    """What is to be said at a start with it, as one line; None in production."""
    value = os.environ.get(VARIABLE)
    if value is None:
        return None
    return (
        f"{VARIABLE} is set to {value!a:.200}: this process kills itself when it gets there. It is for tests: take it "
        "out of the environment"
    )


def _named(value: str) -> str:
    if value.startswith("/"):
        with contextlib.suppress(OSError), open(value, encoding="utf-8") as file:
            return file.read().strip()
    return value
