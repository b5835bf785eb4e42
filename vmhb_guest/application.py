"""One application that has joined: who speaks for it, whether it lives, and what it is found to be. No I/O, no clock.

An application is a service, not whoever sends for it. Where systemd has a unit for it, it is that unit, for as long as
systemd says so. Else it is the process that says so of itself: by a name, by a deadline, by MAINPID=, or by staying.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmhb_guest import units
from vmhb_guest.codec import MAX_NAME, MAX_TEXT, clean
from vmhb_guest.health import HEALTHY, STATUSES, UNHEALTHY, Finding
from vmhb_guest.senders import NEVER, Process, Sender, bounded, interval_of, stored_sender
from vmhb_guest.units import Word

#: Processes of one application whose end is noticed: each costs a descriptor. Of more, those heard last.
MAX_PROCESSES = 4
#: Seconds in which systemd must have said what became of a unit, before we say what we see ourselves.
PATIENCE = 10.0
#: Seconds between two questions about the unit of one that is excused, of one that is not, and of one that has ended.
SOON, AGAIN, LATER = 2.0, 10.0, 60.0

#: What is said of one that is not accused.
FROZEN, BEING_STOPPED = "frozen, so it is not judged", "its unit is being stopped"


class Groups:
    """What is known of control groups where there are none."""

    def frozen(self, _pid: int, _unit: str) -> bool:
        """Has somebody stopped this process (where it is 0: all of this unit) for a while?"""
        return False

    def empty(self, _unit: str) -> bool:
        """Is no process left in it?"""
        return False


@dataclasses.dataclass
class Application:
    """One of them, as it is known."""

    sender: Sender  #: its main process, as far as we know: the one that said last that it is ready
    name: str  #: nobody else has it
    asked: str  #: what it calls itself, which others may do as well
    named: bool = False  #: it says so itself
    interval: float | None = None  #: seconds; None: only its end is noticed
    heard: float = 0.0  #: monotonic seconds; later, where we had no ears
    spoke: float = 0.0  #: when it last said anything
    status: str = HEALTHY
    text: str = ""
    gave_up: bool = False  #: it said itself that its watchdog has run out
    processes: dict[int, Process] = dataclasses.field(default_factory=dict)  #: by number
    main: bool = False  #: somebody said that `sender` is the service (MAINPID=): with that it ends
    lasting: bool = False  #: it is, or was, more than helpers
    ended: bool = False
    doubted: bool = False  #: something of its unit has ended: what that means is systemd's word
    over: bool = False  #: systemd has said once that the unit runs, though nobody is left in it
    troubled: float | None = None  #: since when it is in trouble; of the last kind of that
    judged: float = NEVER  #: when systemd was asked about that last
    accused: bool = False
    excuse: str = ""
    frozen: bool = False  #: as we last saw it

    @property
    def unit(self) -> str:
        """Its control group; "" for none."""
        return self.sender.unit

    # -- who speaks for it

    def admit(self, sender: Sender, now: float, *, sure: bool = False) -> Sender | None:
        """This process speaks for it. sure: it is no helper, however soon it ends. Who had to be dropped for it."""
        process = self.processes.pop(sender.pid, None) or Process(dataclasses.replace(sender, main=None), now)
        process.sure = process.sure or sure
        process.users.add(sender.uid)
        self.processes[sender.pid] = process  # who was heard last is last
        others = [pid for pid in self.processes if pid not in (sender.pid, self.sender.pid)]
        return self.processes.pop(others[0]).sender if len(self.processes) > MAX_PROCESSES else None

    def lead(self, pid: int, *, main: bool, ready: bool = False) -> None:
        """This process of it is the service from now on, until another one is. main: because somebody said so.

        ready: it has just started.
        """
        for process in self.processes.values():
            # In a unit, others speak for it as before; but not who has handed over to this one.
            handed_over = not self.unit or process.sender.pid == self.sender.pid
            process.former = process.sender.pid != pid and (process.former or handed_over)
        leader = self.processes[pid]
        if pid != self.sender.pid and ready:
            self.status, self.text = HEALTHY, ""  # they were another's words
            if not (main and self.sender.pid in self.processes):  # nor was the service only handed over
                self.interval = leader.sender.interval
        leader.sure = leader.sure or main
        self.sender = dataclasses.replace(
            leader.sender, uid=self.sender.uid, unit=self.unit, keeper=self._keeper, interval=self.interval
        )
        self.main = main

    def lives_without(self, pid: int) -> bool:
        """Is there more to it than this process of it, which is not the one that leads?"""
        return pid != self.sender.pid and (bool(self.unit) or any(one.sender.pid != pid for one in self._bodies))

    def lose(self, pid: int, now: float) -> bool:
        """One of its processes has ended. False: it was nothing but helpers, and so there is no application."""
        process = self.processes.pop(pid)
        lasted = not process.helps(now)
        self.lasting = self.lasting or lasted
        if self.unit:
            # Of helpers, the unit goes on without them. Whatever else ends may be the unit's main process.
            if lasted and not process.former and not self.ended:
                self._doubt(now)
            return True
        led = pid == self.sender.pid
        if led and not lasted:
            for other in self.processes.values():
                other.former = False  # it did not take their place after all
        if self._bodies and not (led and self.main):
            if led:
                self.lead(self._bodies[-1].sender.pid, main=False)
            return True
        self.ended, self.troubled = True, now if self._keeper else None
        return self.lasting

    def _doubt(self, now: float) -> None:
        """Something of its unit has ended. What systemd was asked before says nothing of that."""
        self.doubted, self.troubled = True, now

    # -- what it says

    def listen(self, said: Mapping[str, str], now: float) -> None:
        """One message of it, but for its name."""
        self.spoke = now
        if "WATCHDOG_USEC" in said:
            self.interval = interval_of(said["WATCHDOG_USEC"])
            self.heard = now
        if "READY" in said or said.get("WATCHDOG") == "1":
            self.heard = now
            self.gave_up, self.excuse = False, ""
        if "READY" in said:
            self.doubted = self.over = False
        if said.get("WATCHDOG") == "trigger":
            self.gave_up = True
        if "STATUS" in said:
            self.text = clean(said["STATUS"], MAX_TEXT)
        if said.get("X-VMHB-HEALTH") in STATUSES:
            self.status = said["X-VMHB-HEALTH"]

    # -- what it is found to be

    def notice(self, groups: Groups, now: float) -> None:
        """See how it is."""
        self._see_frozen(groups, now)
        if self.unit and not (self.ended or self.doubted or self._bodies) and groups.empty(self.unit):
            self._doubt(now)
        if not self._trouble(now):
            self.troubled, self.accused = None, False
            return
        if self.troubled is None:
            self.troubled, self.excuse = now, ""
        unanswered = not self.accused and max(self.judged, self.troubled) < now - PATIENCE
        if unanswered if self._keeper else self.doubted:  # a container's unit, say, about which nobody can be asked
            self.hear_of_unit(Word.UNKNOWN, groups, now)

    def _see_frozen(self, groups: Groups, now: float) -> None:
        """It has all of its time again when it goes on. Looked for where it has not spoken for half of that."""
        if self.interval is None or self.ended or not (self.frozen or now - self.heard > self.interval / 2):
            return
        was, self.frozen = self.frozen, groups.frozen(self._pid, self.unit)
        if was or self.frozen:
            self.heard, self.excuse = now, FROZEN if self.frozen else ""

    def wants_word(self, now: float) -> bool:
        """Is it to be asked about its unit?"""
        if self.troubled is None or not self._keeper:
            return False
        pause = SOON if self.excuse or self.over else LATER if self.ended else AGAIN
        return self.judged < self.troubled or now - self.judged >= pause

    def hear_of_unit(self, word: Word, groups: Groups, asked: float, began: float = 0.0) -> bool:
        """What systemd says of its keeper, when asked then. False: it was stopped on purpose, and is no more.

        began: when somebody last had it started; 0.0 where systemd did, by itself.
        """
        if self.troubled is None or asked < self.troubled:
            return True
        self.judged = asked
        if word is Word.RUNS and began > self.spoke:
            word = Word.STARTS  # what we knew was its life before
        if not (self.unit and units.is_own(self.unit, self._keeper)) and word not in (Word.STOPPING, Word.STOPPED):
            word = Word.UNKNOWN  # of what is inside of that unit, only that all of it goes down is known
        self.excuse = BEING_STOPPED if word is Word.STOPPING else ""
        self.accused = not self.excuse
        if word is Word.STOPPED or (word is Word.STARTS and (self.ended or self.doubted)):
            return False
        return self._settle(word, groups) if self.doubted and not self.excuse else True

    def _settle(self, word: Word, groups: Groups) -> bool:
        """Something of its unit has ended: and it itself? False: it has, and nobody minds."""
        empty = groups.empty(self.unit)
        if word is Word.RUNS and empty:
            # It may have ended just now. If systemd says so again, all of it has done its work (RemainAfterExit=).
            once, self.over = self.over, True
            self.accused = False
            return not once
        # Who goes by a name of its own may be one of several in a unit, a supervisor's say, which lives on without it.
        alone = self.named and self.lasting and not self._bodies
        self.ended = word is Word.BROKE or (word is Word.UNKNOWN and empty) or alone
        self.doubted, self.over, self.accused = False, False, self.ended
        if not self.ended:
            self.troubled = None
        return True

    def finding(self, now: float) -> Finding:
        """What it is found to be, now: since `notice`."""
        trouble = self._trouble(now)
        if trouble and (self.accused or not self._keeper) and not self.excuse:
            return Finding(self.name, UNHEALTHY, trouble, silent=True)
        return Finding(self.name, self.status, self.excuse or self.text)

    @property
    def _keeper(self) -> str:
        return self.sender.keeper

    @property
    def _pid(self) -> int:
        """Of its main process, if that lives."""
        return self.sender.pid if self.sender.pid in self.processes else next(iter(self.processes), 0)

    @property
    def _bodies(self) -> list[Process]:
        return [one for one in self.processes.values() if not one.former]

    def _late(self, now: float) -> bool:
        return self.interval is not None and now - self.heard > self.interval

    def _trouble(self, now: float) -> str:
        """What is wrong with it, if nobody has an excuse for it; "" for nothing."""
        if self.ended or self.doubted:
            # Any user can join under a name that another would have had: whose it was is said.
            whose = f", uid {self.sender.uid}" if self.sender.uid else ""
            return f"ended without STOPPING=1 (pid {self.sender.pid}{whose})"
        if self.gave_up:
            return "said itself that its watchdog has run out"
        if self._late(now):
            return f"silent for {now - self.heard:.1f} s, its watchdog allows {self.interval:g} s"
        return ""

    # -- what outlives us

    def dump(self, now: float) -> dict[str, Any]:
        """As `load` takes it, and as earlier releases do."""
        sender = self.sender.stored()
        return {
            "name": self.name,
            "asked": self.asked,
            "interval": self.interval,
            "ended": self.ended,
            "accused": self.accused,
            "status": self.status,
            "gave_up": self.gave_up,
            "unit": sender.pop("unit"),
            "keeper": sender.pop("keeper"),
            "program": sender.pop("program"),
            "sender": sender,
            "named": self.named,
            "main": self.main,
            "lasting": self.lasting,
            "doubted": self.doubted,
            "processes": [
                {
                    "sender": one.sender.stored(),
                    "sure": not one.helps(now),
                    "former": one.former,
                }
                for one in self.processes.values()
            ],
        }


def load(row: Mapping[str, Any], now: float) -> Application:
    """One that was dumped, by this release or an earlier one. KeyError, TypeError, ValueError for what was not."""
    known = dict(row["sender"])
    known.update((name, str(row.get(name, ""))) for name in ("unit", "keeper", "program"))
    interval = None if row["interval"] is None else bounded(float(row["interval"]))
    name = clean(str(row["name"]), MAX_NAME)
    asked = clean(str(row.get("asked", name)), MAX_NAME)  # the first release did not write it
    ended = bool(row["ended"])
    one = Application(stored_sender(known), name, asked, interval=interval, heard=now, spoke=now)
    one.ended, one.accused = ended, bool(row.get("accused", ended))
    one.named, one.main, one.doubted = (bool(row.get(word)) for word in ("named", "main", "doubted"))
    one.status = row["status"] if row.get("status") in STATUSES else HEALTHY
    one.gave_up = bool(row.get("gave_up"))
    one.lasting = bool(row.get("lasting", True))
    alone = [] if ended else [{"sender": known, "sure": True, "former": False}]
    for each in row.get("processes", alone)[:MAX_PROCESSES]:
        sender = stored_sender(each["sender"])
        process = Process(sender, now, sure=bool(each["sure"]), former=bool(each["former"]))
        one.processes[process.sender.pid] = process
    return one
