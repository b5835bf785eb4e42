"""Who speaks for an application: one message's sender, and a process that is known to speak. No I/O, no clock."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

#: Monotonic seconds before all others.
NEVER = float("-inf")
#: What a deadline may be, in seconds. A shorter one is taken for the minimum, a longer one for the maximum.
MIN_INTERVAL, MAX_INTERVAL = 0.05, 86400.0
#: A process that speaks for its service without a name of its own, and ends within so many seconds of its first word,
#: is a helper: it has said what it was to say. Longer where it waits for the service manager to have read that
#: (BARRIER=1): systemd-notify does for 5 s at most.
STAYS, BARRIER = 2.0, 5.0
#: Programs that are never a service themselves, whatever they say in whose name.
HELPERS = frozenset({"systemd-notify"})

#: How WATCHDOG_USEC is spelt. str.isdigit() won't do: it takes "²" as well, which int() refuses.
_MICROSECONDS = re.compile(r"[0-9]{1,18}")


@dataclasses.dataclass(frozen=True)
class Sender:
    """Who sent a message, as the kernel says, and what /proc says of it."""

    pid: int
    uid: int
    command: str  #: the program's name; "" where the process has ended
    born: int  #: when the process was started, in the kernel's own unit; 0 where it has ended
    interval: float | None = None  #: seconds: what a service manager told it that its watchdog wants
    unit: str = ""  #: the control group of its service; "" where it is in none, or in ours
    keeper: str = ""  #: the unit that process 1 can be asked about; "" for none
    program: str = ""  #: stands for its command line: two of them that are alike run the same thing
    main: Sender | None = None  #: who is the service, as this message says (MAINPID=)

    def stored(self) -> dict[str, Any]:
        """What is to be remembered of it."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "main"}


@dataclasses.dataclass
class Process:
    """One that has spoken for an application, and lives."""

    sender: Sender
    since: float  #: its first word
    sure: bool = False  #: it has said that it is the application
    waits: float = NEVER  #: since when it waits for the service manager to have read all that it said
    former: bool = False  #: another one has taken its place
    users: set[int] = dataclasses.field(default_factory=set)  #: as whom it has spoken, while it lived

    def said(self, sender: Sender) -> bool:
        """Is this message its own? The kernel gives numbers again: of a sender that has ended, the user tells."""
        if not sender.born:
            return sender.uid in self.users or sender.uid == self.sender.uid
        return sender.born == self.sender.born

    def helps(self, now: float) -> bool:
        """Would it be a helper, if it ended now?"""
        if self.sender.command in HELPERS or now - self.waits < STAYS + BARRIER:
            return True
        return not self.sure and now - self.since < STAYS


def interval_of(microseconds: str) -> float | None:
    """A deadline in seconds, as WATCHDOG_USEC says it; None for none, and for what is not a number there."""
    if _MICROSECONDS.fullmatch(microseconds) is None or int(microseconds) == 0:
        return None
    return bounded(int(microseconds) / 1e6)


def bounded(seconds: float) -> float:
    """As a deadline may be. ValueError for what is no number."""
    if not seconds >= 0 and not seconds < 0:  # NaN: JSON's reader takes it
        raise ValueError("a deadline is a number of seconds")
    return min(max(seconds, MIN_INTERVAL), MAX_INTERVAL)


def stored_sender(row: Mapping[str, Any]) -> Sender:
    """One that was `stored`, by this release or an earlier one. KeyError, TypeError, ValueError for what was not."""
    sender = Sender(**row)
    for value, kind, most in ((sender.pid, int, 2**31), (sender.uid, int, 2**32), (sender.born, int, 2**63)):
        if type(value) is not kind or not 0 <= value < most:
            raise ValueError(f"{value!r} is no number of a process or a user")
    for text in (sender.command, sender.unit, sender.keeper, sender.program):
        if not isinstance(text, str):
            raise TypeError(f"{text!r} is no text")
    interval = None if sender.interval is None else bounded(float(sender.interval))
    return dataclasses.replace(sender, interval=interval, main=None)
