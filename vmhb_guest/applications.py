"""The applications that have joined: each with its deadline, and what it is found to be. No I/O, no clock.

An application is a process that spoke to us. It leaves by saying so; one that ends without a word is a fault until it
is started again, or an operator has it forgotten.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from vmhb_guest import names
from vmhb_guest.codec import MAX_NAME, MAX_TEXT, clean
from vmhb_guest.health import HEALTHY, STATUSES, UNHEALTHY, Finding
from vmhb_guest.places import Places

#: Applications in all, of all users other than root together, and of one of those.
MAX_APPLICATIONS, MAX_OF_USERS, MAX_OF_A_USER = 64, 48, 8
#: What a deadline may be, in seconds. A shorter one is taken for the minimum, a longer one for the maximum.
MIN_INTERVAL, MAX_INTERVAL = 0.05, 86400.0

#: A message with one of these makes its sender an application: see `joins`.
JOINS = ("READY", "WATCHDOG", "WATCHDOG_USEC", "X-VMHB-NAME", "X-VMHB-HEALTH")
#: Under these the daemon itself speaks in a report.
OWN = frozenset({"vmhb-guest", "checks.d"})
#: How WATCHDOG_USEC is spelt. str.isdigit() won't do: it takes "²" as well, which int() refuses.
_MICROSECONDS = re.compile(r"[0-9]{1,18}")


def joins(said: Mapping[str, str]) -> bool:
    """Does this message make its sender an application?"""
    return any(word in said for word in JOINS)


@dataclasses.dataclass(frozen=True)
class Sender:
    """Who sent a message, as the kernel says, and what /proc says of it."""

    pid: int
    uid: int
    command: str  #: the program's name; "" where the process has ended
    born: int  #: when the process was started, in the kernel's own unit; 0 where it has ended
    interval: float | None = None  #: seconds: what a service manager told it that its watchdog wants


@dataclasses.dataclass
class Application:
    """One of them, as it is known."""

    sender: Sender
    name: str  #: nobody else has it
    asked: str  #: what it calls itself, which others may do as well
    interval: float | None = None  #: seconds; None: only its end is noticed
    heard: float = 0.0  #: monotonic seconds; later, where we had no ears
    status: str = HEALTHY
    text: str = ""
    ended: bool = False
    gave_up: bool = False  #: it said itself that its watchdog has run out


class Applications:
    """The table. Bounded. Not thread-safe."""

    def __init__(self) -> None:
        self.refused = 0  #: messages of senders for whom there is no room, or who were gone before they were known
        self._all: dict[int, Application] = {}
        self._places = Places(MAX_APPLICATIONS, MAX_OF_USERS, MAX_OF_A_USER)
        self._reserved = OWN

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, pid: int) -> bool:
        return pid in self._all

    def living(self) -> list[Sender]:
        """Those whose end must be noticed."""
        return [one.sender for one in self._all.values() if not one.ended]

    def hear(self, sender: Sender, said: Mapping[str, str], now: float) -> bool:
        """One message of it. True if the sender is an application from now on, False if it isn't (any more)."""
        one = self._known(sender)
        if said.get("STOPPING") == "1":
            if one:
                del self._all[sender.pid]
                self._places.leave(one.sender.uid, one.asked, now)
            return False
        if one is None:
            one = self._join(sender, said, now)
            if one is None:
                return False
        self._listen(one, said, now)
        return not one.ended

    def end(self, pid: int) -> str | None:
        """This process is no more. The name of the application that it was, if it had not left."""
        one = self._all.get(pid)
        if one is None or one.ended:
            return None
        one.ended = True
        return one.name

    def excuse(self, seconds: float) -> None:
        """We were not scheduled for so long: no application is to blame for what we didn't hear."""
        for one in self._all.values():
            one.heard += seconds

    def forget(self, name: str) -> bool:
        """An operator's word that an ended application is not to come back."""
        gone = [pid for pid, one in self._all.items() if one.ended and one.name == name]
        for pid in gone:
            del self._all[pid]
        return bool(gone)

    def reserve(self, names_of_checks: Iterable[str]) -> None:
        """These are root's names: no other user's application goes by one of them, from now on."""
        reserved = OWN.union(names_of_checks)
        if reserved == self._reserved:
            return
        self._reserved = reserved
        for one in self._all.values():
            if one.name in self._reserved:
                self._name(one)

    def due(self, now: float) -> float | None:
        """Seconds until the next deadline that is not over yet."""
        left = [one.heard + one.interval - now for one in self._all.values() if one.interval and not one.ended]
        return min((seconds for seconds in left if seconds >= 0), default=None)

    def findings(self, now: float) -> list[Finding]:
        """What each is found to be."""
        return [_finding(one, now) for one in self._all.values()]

    def describe(self, now: float) -> list[dict[str, Any]]:
        """For people."""
        return [
            {
                "name": one.name,
                "pid": one.sender.pid,
                "uid": one.sender.uid,
                "watchdog": one.interval,
                "heard": round(max(now - one.heard, 0), 1),
                "status": _finding(one, now).status,
                "message": _finding(one, now).message,
            }
            for one in self._all.values()
        ]

    # -- what outlives us

    def dump(self) -> list[dict[str, Any]]:
        """What the next daemon must know, so that an end meanwhile is not forgotten."""
        return [
            {
                "sender": dataclasses.asdict(one.sender),
                "name": one.name,
                "asked": one.asked,
                "interval": one.interval,
                "ended": one.ended,
            }
            for one in self._all.values()
        ]

    def load(self, rows: list[dict[str, Any]], now: float) -> None:
        """Take over what `dump` gave. Deadlines begin anew. KeyError, TypeError, ValueError for anything else."""
        for row in rows[:MAX_APPLICATIONS]:
            sender = Sender(**row["sender"])
            interval = None if row["interval"] is None else _bounded(float(row["interval"]))
            name = clean(str(row["name"]), MAX_NAME)
            asked = clean(str(row.get("asked", name)), MAX_NAME)  # earlier releases did not write it
            one = Application(sender, name, asked, interval, now, ended=bool(row["ended"]))
            self._all[sender.pid if sender.pid not in self._all else self._no_number()] = one

    # -- one message

    def _known(self, sender: Sender) -> Application | None:
        one = self._all.get(sender.pid)
        if one is None:
            return None
        if sender.born and one.sender.born != sender.born:
            # Another process has the number by now. What was under it is kept under one that no process has.
            del self._all[sender.pid]
            one.ended = True
            self._all[self._no_number()] = one
            return None
        return one

    def _join(self, sender: Sender, said: Mapping[str, str], now: float) -> Application | None:
        if not joins(said):
            return None
        gone = not sender.born
        if gone and "X-VMHB-NAME" not in said:
            # A helper such as `systemd-notify`, which has ended by now: who it spoke for is not known.
            self.refused += 1
            return None
        asked = clean(said.get("X-VMHB-NAME", ""), MAX_NAME) or clean(sender.command, MAX_NAME) or str(sender.pid)
        self._replace(asked, sender.uid)
        if not self._places.take(sender.uid, asked, [one.sender.uid for one in self._all.values()], now):
            self.refused += 1
            return None
        one = Application(sender, "", asked, sender.interval, now, ended=gone)
        self._name(one)
        self._all[sender.pid] = one
        return one

    def _replace(self, asked: str, uid: int) -> None:
        """It is back: the one of that name that ended, if it was the same user's."""
        for pid, one in list(self._all.items()):
            if one.ended and one.asked == asked and one.sender.uid == uid:
                del self._all[pid]

    def _no_number(self) -> int:
        """A key that no process has."""
        return min([0, *self._all]) - 1

    def _name(self, one: Application) -> None:
        """Give it the name that it asks for, or one like it. Root's need not stand back for any other user's."""
        holder = next((other for other in self._all.values() if other.name == one.asked and other is not one), None)
        if holder is not None and holder.sender.uid and not one.sender.uid:
            holder.name = names.free(holder.asked, holder.sender.pid, self._taken(holder) | {one.asked})
        one.name = names.free(one.asked, one.sender.pid, self._taken(one))

    def _taken(self, one: Application) -> set[str]:
        """The names that this one can't have."""
        others = {other.name for other in self._all.values() if other is not one}
        return others | self._reserved if one.sender.uid else others

    def _listen(self, one: Application, said: Mapping[str, str], now: float) -> None:
        if "WATCHDOG_USEC" in said:
            one.interval = interval_of(said["WATCHDOG_USEC"])
            one.heard = now
        if "READY" in said or said.get("WATCHDOG") == "1":
            one.heard = now
            one.gave_up = False
        if said.get("WATCHDOG") == "trigger":
            one.gave_up = True
        if "STATUS" in said:
            one.text = clean(said["STATUS"], MAX_TEXT)
        if said.get("X-VMHB-HEALTH") in STATUSES:
            one.status = said["X-VMHB-HEALTH"]
        asked = clean(said.get("X-VMHB-NAME", ""), MAX_NAME)
        if asked and asked != one.asked:
            self._replace(asked, one.sender.uid)
            one.asked = asked
            self._name(one)


def interval_of(microseconds: str) -> float | None:
    """A deadline in seconds, as WATCHDOG_USEC says it; None for none, and for what is not a number there."""
    if _MICROSECONDS.fullmatch(microseconds) is None or int(microseconds) == 0:
        return None
    return _bounded(int(microseconds) / 1e6)


def _bounded(seconds: float) -> float:
    return min(max(seconds, MIN_INTERVAL), MAX_INTERVAL)


def _finding(one: Application, now: float) -> Finding:
    if one.ended:
        # Any user can join under a name that another would have had: whose it was is said.
        whose = f", uid {one.sender.uid}" if one.sender.uid else ""
        return Finding(one.name, UNHEALTHY, f"ended without STOPPING=1 (pid {one.sender.pid}{whose})", silent=True)
    if one.gave_up:
        return Finding(one.name, UNHEALTHY, "said itself that its watchdog has run out", silent=True)
    if one.interval is not None and now - one.heard > one.interval:
        message = f"silent for {now - one.heard:.1f} s, its watchdog allows {one.interval:g} s"
        return Finding(one.name, UNHEALTHY, message, silent=True)
    return Finding(one.name, one.status, one.text)
