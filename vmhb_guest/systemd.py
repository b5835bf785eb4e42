"""Asks systemd about its units, and the kernel about their control groups. Linux; where neither is there, nobody knows.

systemctl is run on a thread of its own, and one at a time, since it may take as long as process 1 does.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from vmhb_guest import programs, units
from vmhb_guest.application import Groups
from vmhb_guest.faults import Faults
from vmhb_guest.programs import End
from vmhb_guest.units import Told, Word

#: Seconds that systemctl may take: 10 ms, as a rule. Beyond that nothing is known.
PATIENCE = 5.0
#: Seconds between the beginnings of two questions at least: whoever makes processes that join and end causes them.
PAUSE = 0.5
#: Units in a question, and bytes of an answer kept: names may have 255 characters, and there are a dozen short rows.
MAX_UNITS, MAX_ANSWER = 16, 16384
#: Where the tree of control groups is.
GROUPS = "/sys/fs/cgroup"


@dataclasses.dataclass(frozen=True)
class Answer:
    """To one question. at: when it was asked, in the asker's seconds. shuts_down: None where it is not known."""

    at: float
    units: Mapping[str, Told]
    shuts_down: bool | None


class Systemd:
    """Process 1, as `systemctl show` knows it. Belongs to one thread, but for what runs it."""

    def __init__(
        self,
        wake: Callable[[], None],
        faults: Faults,
        *,
        command: Sequence[str] = ("systemctl",),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """wake: called by another thread when there is an answer."""
        self._wake = wake
        self._faults = faults
        self._command = command
        self._clock = clock
        self._out = False  # a question is
        self._answer: Answer | None = None
        self._over = False
        self._next = 0.0

    def ask(self, names: Collection[str]) -> None:
        """About these units, and whether the machine shuts down; unless a question is out, or was just asked."""
        now = self._clock()
        if self._over or self._out or now < self._next:
            return
        self._next = now + PAUSE
        asked = sorted(names)[:MAX_UNITS]
        try:
            threading.Thread(target=self._run, args=(now, asked), name="systemctl", daemon=True).start()
            self._out = True
        except RuntimeError:  # no room for a thread
            self._answer = _nothing(now, asked)

    def answer(self) -> Answer | None:
        """What was answered, once."""
        answer, self._answer = self._answer, None
        if answer is not None:
            self._out = False
        return answer

    def close(self) -> None:
        """Nobody asks any more."""
        self._over = True

    def _run(self, at: float, names: Sequence[str]) -> None:
        answer = _nothing(at, names)
        with self._faults.of("a question put to systemd"):
            shown = self._show([units.SHUTDOWN, *names])
            told = {name: units.told(shown.get(name, {})) for name in names}
            answer = Answer(at, told, units.shuts_down(shown.get(units.SHUTDOWN, {})))
        self._answer = answer
        self._wake()

    def _show(self, names: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        words = [*self._command, "show", f"--property={','.join(units.PROPERTIES)}", "--", *names]
        done = programs.run(words, PATIENCE, clock=self._clock, over=lambda: self._over, kept=MAX_ANSWER)
        return units.read(done.output) if done.end is End.EXITED and done.number == 0 else {}


def _nothing(at: float, names: Sequence[str]) -> Answer:
    return Answer(at, dict.fromkeys(names, Told(Word.UNKNOWN)), None)


class ControlGroups(Groups):
    """Their tree, as the kernel shows it: version 2, by itself or beside version 1. What can't be read is not so."""

    def __init__(self, root: str = GROUPS) -> None:
        roots = (root, os.path.join(root, "unified"))
        self._root = next((one for one in roots if os.path.exists(f"{one}/cgroup.controllers")), "")

    def frozen(self, pid: int, unit: str) -> bool:
        """Has somebody stopped this process (of a service's unit, where pid is 0: all that is in it) for a while?"""
        group = units.group_of(_read(f"/proc/{pid}/cgroup")) if pid > 0 else unit
        return self._root != "" and "frozen 1" in self._events(group).splitlines()

    def empty(self, unit: str) -> bool:
        """Is no process left in it?"""
        if not self._root:
            return False
        gone = not os.path.exists(self._root + unit)
        return gone or "populated 0" in self._events(unit).splitlines()

    def _events(self, group: str) -> str:
        return _read(f"{self._root}{group}/cgroup.events")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""
