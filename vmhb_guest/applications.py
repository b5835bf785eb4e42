"""The applications that have joined: who is one, who speaks for which, under which name. No I/O, no clock.

One leaves by saying so, or with its unit; one that ends without a word is a fault until it is started again, or an
operator has it forgotten.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from vmhb_guest import names, units
from vmhb_guest.application import Application, Groups, load
from vmhb_guest.codec import MAX_NAME, clean
from vmhb_guest.health import DEGRADED, Finding
from vmhb_guest.places import Places
from vmhb_guest.senders import HELPERS, MIN_INTERVAL, Sender, interval_of
from vmhb_guest.units import Told

__all__ = ["MAX_APPLICATIONS", "MIN_INTERVAL", "OWN", "Applications", "Sender", "interval_of", "joins"]

#: Applications in all, of all users other than root together, and of one of those.
MAX_APPLICATIONS, MAX_OF_USERS, MAX_OF_A_USER = 64, 48, 8
#: Processes remembered of applications that are over: what they go on to say is nobody's.
MAX_GONE = 256

#: A message with one of these makes its sender's service an application: see `joins`.
JOINS = ("READY", "WATCHDOG", "WATCHDOG_USEC", "MAINPID", "X-VMHB-NAME", "X-VMHB-HEALTH")
#: Under these the daemon itself speaks in a report.
OWN = frozenset({"vmhb-guest", "checks.d"})


def joins(said: Mapping[str, str]) -> bool:
    """Does this message make its sender's service an application?"""
    return any(word in said for word in JOINS)


class Applications:
    """The table. Bounded. Not thread-safe."""

    def __init__(
        self, groups: Groups | None = None, guard: Callable[[str], AbstractContextManager[None]] | None = None
    ) -> None:
        """guard: what is done with one application is done within it, so that a fault in that is not the others'."""
        self.refused = 0  #: messages of senders for whom there is no room, or who were gone before they were known
        self.helpers = 0  #: senders that were no applications: they ended when they had spoken
        self.dismissed = ""  #: why nobody is accused of anything; "" where everybody may be
        self._groups = groups or Groups()
        self._guard = guard or (lambda _what: contextlib.nullcontext())
        self._all: list[Application] = []
        self._of: dict[int, Application] = {}  # by the number of a process that speaks for it
        self._gone: dict[tuple[int, int], None] = {}  # number and start of processes; the oldest first
        self._places = Places(MAX_APPLICATIONS, MAX_OF_USERS, MAX_OF_A_USER)
        self._reserved = OWN

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, pid: int) -> bool:
        return pid in self._of

    def living(self) -> list[Sender]:
        """The processes whose end must be noticed."""
        return [process.sender for one in self._all for process in one.processes.values()]

    def owners(self) -> list[tuple[str, Sender]]:
        """Each one's name, and its main process."""
        return [(one.name, one.sender) for one in self._all if not one.ended]

    def speaks(self, sender: Sender) -> bool:
        """Does a process speak for one of them, as far as is known: this one, and not another that has its number?"""
        one = self._of.get(sender.pid)
        return one is not None and one.processes[sender.pid].said(sender)

    def admits(self, sender: Sender, said: Mapping[str, str], now: float) -> bool:
        """Is it of a service that has joined, whoever may join by now? By its unit and user, or its name and user."""
        asked = _name_in(said) or _usual_name(sender)
        for one in self._all:
            same = one.unit == sender.unit if one.unit or sender.unit else one.asked == asked
            if same and sender.uid == one.sender.uid:
                return True
        return self._places.keeps(sender.uid, asked, now)

    def hear(self, sender: Sender, said: Mapping[str, str], now: float) -> bool:
        """One message. Does the sender speak for an application from now on? Not, where it says that it stops."""
        main = sender.main
        own = self._speaker(sender, said, now)
        one = own or self._service(sender, said)
        if said.get("STOPPING") == "1":
            if one is not None:
                self._stops(one, sender, now)
            return False
        if main is not None and main.pid != sender.pid:
            one = self._handed_over(own, self._speaker(main, {}, now)) or one
        if one is None:
            one = self._join(main or sender, said, now, uid=sender.uid)
            if one is None:
                return False
        else:
            one.interval = one.interval or (sender.interval if said.get("WATCHDOG") == "1" else None)
        self._speaks(one, sender, said, now)
        one.listen(said, now)
        self._rename(one, sender, said)
        return True

    def waits(self, pid: int, now: float) -> None:
        """This process waits for the service manager to have read what it said (BARRIER=1)."""
        one = self._of.get(pid)
        if one is not None:
            one.processes[pid].waits = now

    def end(self, pid: int, now: float = float("inf")) -> str | None:
        """This process is no more. The name of the application that it was, or that is to be asked for, if any."""
        one = self._of.pop(pid, None)
        if one is None:
            return None
        if not one.lose(pid, now):
            self.helpers += 1
            self._drop(one)
            return None
        if one.ended:
            self._release(one)
        return one.name if one.ended or one.doubted else None

    def excuse(self, seconds: float) -> None:
        """We were not scheduled for so long: no application is to blame for what we didn't hear."""
        for one in self._all:
            one.heard += seconds

    def dismiss(self, why: str, now: float) -> None:
        """Nobody is accused of anything, from now on; "": everybody may be again, for what is from now on."""
        self.dismissed = why
        for one in self._all:
            one.heard = max(one.heard, now)

    def forget(self, name: str) -> bool:
        """An operator's word that an ended application is not to come back."""
        gone = [one for one in self._all if one.ended and one.name == name]
        for one in gone:
            self._drop(one)
        return bool(gone)

    def reserve(self, names_of_checks: Iterable[str]) -> None:
        """These are root's names: no other user's application goes by one of them, from now on."""
        reserved = OWN.union(names_of_checks)
        if reserved == self._reserved:
            return
        self._reserved = reserved
        for one in self._all:
            if one.name in self._reserved:
                self._name(one)

    # -- what systemd says of their units

    def asks(self, now: float) -> set[str]:
        """The units that systemd is to be asked about."""
        self._notice(now)
        return {one.sender.keeper for one in self._all if one.wants_word(now)}

    def told(self, unit: str, said: Told, asked: float, now: float) -> None:
        """What it says of one of them, when asked then."""
        for one in [one for one in self._all if one.sender.keeper == unit]:
            with self._guard(f"what systemd says of the application {one.name}"):
                if not one.hear_of_unit(said.word, self._groups, asked, said.began):
                    self._leave(one, now)
                elif one.ended:
                    self._release(one)

    # -- what they are found to be

    def due(self, now: float) -> float | None:
        """Seconds until the next deadline that is not over yet."""
        left = [one.heard + one.interval - now for one in self._all if one.interval and not one.ended]
        return min((seconds for seconds in left if seconds >= 0), default=None)

    def findings(self, now: float) -> list[Finding]:
        """What each is found to be."""
        self._notice(now)
        if self.dismissed:
            return [Finding(one.name, one.status, self.dismissed) for one in self._all if not one.ended]
        return [self._finding(one, now) for one in self._all]

    def _finding(self, one: Application, now: float) -> Finding:
        found = Finding(one.name, DEGRADED, "not known: a fault of vmhb-guest's own, see its log")
        with self._guard(f"the judgement of the application {one.name}"):
            found = one.finding(now)
        return found

    def describe(self, now: float) -> list[dict[str, Any]]:
        """For people."""
        self._notice(now)
        return [
            {
                "name": one.name,
                "pid": one.sender.pid,
                "uid": one.sender.uid,
                "unit": units.title(one.unit) if one.unit else None,
                "joined": True,
                "watchdog": one.interval,
                "heard": round(max(now - one.heard, 0), 1),
                "status": found.status,
                "message": found.message,
            }
            for one, found in [(one, self._finding(one, now)) for one in self._all]
        ]

    def _notice(self, now: float) -> None:
        for one in self._all:
            with self._guard(f"a look at the application {one.name}"):
                one.notice(self._groups, now)

    # -- what outlives us

    def dump(self, now: float = float("inf")) -> list[dict[str, Any]]:
        """What the next daemon must know, so that an end meanwhile is not forgotten."""
        rows = []
        for one in self._all:
            with self._guard(f"the application {one.name}, which is to be remembered"):
                rows.append(one.dump(now))
        return rows

    def load(self, rows: list[dict[str, Any]], now: float) -> None:
        """Take over what `dump` gave. Deadlines begin anew. KeyError, TypeError, ValueError for anything else; one row
        that is no application's is no other's fault.
        """
        for row in rows[:MAX_APPLICATIONS]:
            with self._guard("an application that was remembered"):
                one = load(row, now)
                one.processes = {pid: process for pid, process in one.processes.items() if pid not in self._of}
                one.name = names.free(one.name or one.asked or str(one.sender.pid), one.sender.pid, self._taken(one))
                self._of.update(dict.fromkeys(one.processes, one))
                self._all.append(one)

    # -- who speaks for which

    def _speaker(self, sender: Sender, said: Mapping[str, str], now: float) -> Application | None:
        """The application of a process that is known, unless it says now that it is another one."""
        one = self._of.get(sender.pid)
        if one is None:
            return None
        if not one.processes[sender.pid].said(sender):
            if sender.born:
                self.end(sender.pid, now)  # another process has the number by now
            return None
        name = _name_in(said)
        if name and name != one.asked and one.lives_without(sender.pid):
            del self._of[sender.pid], one.processes[sender.pid]
            return None
        return one

    def _service(self, sender: Sender, said: Mapping[str, str]) -> Application | None:
        """The living application for which a process speaks that is not known: of its unit, or of its name."""
        name = _name_in(said)
        if sender.unit:
            # What another user's process says from within a unit is that user's word, unless it is root's.
            there = [one for one in self._there(sender.unit) if sender.uid in (0, one.sender.uid)]
            if name:
                return next((one for one in there if one.named and one.asked == name), None)
            unnamed = [one for one in there if not one.named]
            return next(iter(unnamed or (there if len(there) == 1 else ())), None)
        if name and "READY" in said:
            # A service has one start: whoever says that it is ready under that name is the service, from now on.
            there = [one for one in self._there("") if one.named and one.asked == name]
            return next((one for one in there if one.sender.uid == sender.uid), None)
        return None

    def _there(self, unit: str) -> list[Application]:
        return [one for one in self._all if one.unit == unit and not one.ended]

    def _join(self, sender: Sender, said: Mapping[str, str], now: float, *, uid: int) -> Application | None:
        """A new one: the service that is this process, or its unit."""
        if not joins(said) or ((sender.pid, sender.born) in self._gone and "READY" not in said):
            return None
        if not sender.born:
            self.refused += 1  # a helper that has ended by now: who it spoke for is not known
            return None
        if sender.command in HELPERS and not sender.unit:
            self.helpers += 1
            return None
        name = _name_in(said)
        asked = name or _usual_name(sender)
        self._replace(asked, uid, sender.unit)
        if not self._places.take(uid, asked, [one.sender.uid for one in self._all], now):
            self.refused += 1
            return None
        sender = dataclasses.replace(sender, uid=uid, main=None)
        one = Application(sender, "", asked, named=bool(name), interval=sender.interval, heard=now)
        # A name or a deadline of its own is a promise, which a helper has no use for.
        self._admit(one, sender, now, sure=bool(name) or "WATCHDOG_USEC" in said)
        self._name(one)
        self._all.append(one)
        return one

    def _speaks(self, one: Application, sender: Sender, said: Mapping[str, str], now: float) -> None:
        """Take note of who spoke for it, and of who it is by now."""
        main = sender.main
        if sender.born:
            self._admit(one, sender, now)
        if main is not None:
            self._admit(one, main, now, sure=True)
            one.lead(main.pid, main=True, ready="READY" in said)
            if main.pid == sender.pid:
                self._inherit(one, self._alike(one))
        elif self._succeeds(one, sender, said):
            one.lead(sender.pid, main=False, ready="READY" in said)

    def _succeeds(self, one: Application, sender: Sender, said: Mapping[str, str]) -> bool:
        """Is it the service from now on? Where another one is, since it says that it is ready under its name."""
        if sender.pid not in one.processes or sender.pid == one.sender.pid or sender.command in HELPERS:
            return False
        if one.sender.pid not in one.processes:
            return True
        return "READY" in said and one.named and not one.unit  # of a unit, systemd knows

    def _handed_over(self, own: Application | None, led: Application | None) -> Application | None:
        """One that is known says that the service is a process which has joined by itself: the two are one."""
        if own is not None and led is not None and own is not led and not own.unit and not led.unit:
            self._inherit(led, own)
        return led

    def _alike(self, one: Application) -> Application | None:
        """The one whose place it takes that says MAINPID= of itself: of its name, or running the same as it does."""
        if one.unit:
            return None  # there it is the same application already
        mine = [other for other in self._there("") if other is not one and other.sender.uid == one.sender.uid]
        if one.named:
            alike = [other for other in mine if other.named and other.asked == one.asked]
        else:
            program = one.sender.program
            alike = [other for other in mine if not other.named and program and other.sender.program == program]
        return alike[0] if len(alike) == 1 else None  # of several, nobody knows which

    def _inherit(self, one: Application, other: Application | None) -> None:
        """It takes the place of the other, and its name."""
        if other is None:
            return
        self._all.remove(other)
        for pid, process in other.processes.items():
            del self._of[pid]
            self._admit(one, process.sender, process.since)
            one.processes[pid].former = True
        one.asked, one.named = other.asked, other.named or one.named
        self._name(one)

    def _admit(self, one: Application, sender: Sender, now: float, *, sure: bool = False) -> None:
        other = self._of.get(sender.pid)
        if other is not None and other is not one:
            del self._of[sender.pid], other.processes[sender.pid]
            if not other.unit and not other.processes:
                self._drop(other)  # all of it goes over
        self._of[sender.pid] = one
        dropped = one.admit(sender, now, sure=sure)
        if dropped is not None:
            del self._of[dropped.pid]

    # -- who is no more

    def _stops(self, one: Application, sender: Sender, now: float) -> None:
        """STOPPING=1: it leaves; but who has handed over to another one leaves by itself."""
        process = one.processes.get(sender.pid)
        if process is not None and process.former:
            del one.processes[sender.pid], self._of[sender.pid]
            self._over(sender)
            return
        self._over(sender)
        self._leave(one, now)

    def _leave(self, one: Application, now: float) -> None:
        self._places.leave(one.sender.uid, one.asked, now)
        self._drop(one)

    def _drop(self, one: Application) -> None:
        self._release(one)
        self._all.remove(one)

    def _release(self, one: Application) -> None:
        """None of its processes speaks for anybody, until it says that it is ready."""
        for pid, process in list(one.processes.items()):
            self._over(process.sender)
            del one.processes[pid], self._of[pid]

    def _over(self, sender: Sender) -> None:
        self._gone.pop((sender.pid, sender.born), None)
        self._gone[sender.pid, sender.born] = None
        if len(self._gone) > MAX_GONE:
            del self._gone[next(iter(self._gone))]

    # -- names

    def _rename(self, one: Application, sender: Sender, said: Mapping[str, str]) -> None:
        name = _name_in(said)
        if name and (name != one.asked or not one.named):
            self._replace(name, one.sender.uid, one.unit)
            one.asked, one.named = name, True
            if sender.pid in one.processes:
                one.processes[sender.pid].sure = True
            self._name(one)

    def _replace(self, asked: str, uid: int, unit: str) -> None:
        """It is back: the one of that name that ended, if it was of the same unit, or the same user's and of none."""
        for one in [one for one in self._all if one.ended and one.asked == asked]:
            if one.unit == unit if one.unit and unit else one.sender.uid == uid:
                self._drop(one)

    def _name(self, one: Application) -> None:
        """Give it the name that it asks for, or one like it. Root's need not stand back for any other user's."""
        holder = next((other for other in self._all if other.name == one.asked and other is not one), None)
        if holder is not None and holder.sender.uid and not one.sender.uid:
            holder.name = names.free(holder.asked, holder.sender.pid, self._taken(holder) | {one.asked})
        one.name = names.free(one.asked, one.sender.pid, self._taken(one))

    def _taken(self, one: Application) -> set[str]:
        """The names that this one can't have."""
        others = {other.name for other in self._all if other is not one}
        return others | self._reserved if one.sender.uid else others


def _usual_name(sender: Sender) -> str:
    """Of one that says none."""
    return clean(units.title(sender.unit) or sender.command, MAX_NAME) or str(sender.pid)


def _name_in(said: Mapping[str, str]) -> str:
    return clean(said.get("X-VMHB-NAME", ""), MAX_NAME)
