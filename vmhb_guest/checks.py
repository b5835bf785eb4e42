"""The checks of an image: executables in a folder, each with an interval and a time-out of its own.

Each runs on a thread of its own, one at a time: none waits for another, and the daemon for none. What is found is read
from here by whoever wants it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from vmhb_guest import programs, trust
from vmhb_guest.codec import MAX_NAME, MAX_TEXT, clean
from vmhb_guest.faults import Faults
from vmhb_guest.health import DEGRADED, HEALTHY, UNHEALTHY, Finding
from vmhb_guest.programs import End, Outcome

LOG = logging.getLogger(__name__)

FOLDER = "/etc/vmhb/checks.d"
#: Checks at most: each is a thread.
MAX_CHECKS = 32
#: Seconds: what a setting may be, and what it is where nothing is said.
INTERVAL, INTERVALS = 30.0, (0.1, 86400.0)
TIMEOUT, TIMEOUTS = 10.0, (0.1, 3600.0)
#: Seconds between two looks into the folder.
RESCAN = 10.0
#: Seconds beyond its time-out after which a run that tells nothing, since even killing it hangs, is known to hang.
OVERDUE = 10.0
#: Seconds that stopping may take.
FAREWELL = 2.0
#: Bytes of a script in which its settings are looked for; and names in the folder that are looked at.
HEAD, MAX_NAMES = 2048, 4096

_SETTING = re.compile(r"\b(interval|timeout)\s*=\s*(\S+)")
_COMMENT = re.compile(rb"^\s*(?:#|//|--|;)\s*vmhb:(.*)$", re.MULTILINE)
_IGNORED = re.compile(r"^\.|~$|\.(conf|dpkg-\w+|rpm\w+|bak|swp|md|rst|txt)$")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How often to run it and how long it may take, in seconds; `problem`: what is wrong with what was asked for."""

    interval: float = INTERVAL
    timeout: float = TIMEOUT
    problem: str = ""


class Check:
    """One of them, on its thread."""

    def __init__(self, path: str, clock: Callable[[], float], faults: Faults) -> None:
        self.path = path
        self.name = os.path.basename(path)
        self.found: Finding | None = None  # swapped whole: read by other threads
        self.runs = 0
        self.began: float | None = None
        self.settings = Settings()
        self.ended = threading.Event()
        self._clock = clock
        self._faults = faults
        self.thread = threading.Thread(target=self._repeat, name=f"check {self.name}", daemon=True)

    def finding(self, now: float) -> Finding | None:
        """What it was found to be; None before its first end."""
        began, settings = self.began, self.settings
        if began is not None and now - began > settings.timeout + OVERDUE:
            return Finding(self.name, UNHEALTHY, f"hung: began {now - began:.0f} s ago and can't be ended")
        return self.found

    def _repeat(self) -> None:
        while not self.ended.is_set():
            began = self._clock()
            self.began = began  # reading the settings may hang as well
            # What it was found to be before says nothing any more where running it fails.
            found = Finding(self.name, UNHEALTHY, "can't be run: a fault of vmhb-guest's own, see its log")
            with self._faults.of(f"a run of the check {self.name}"):
                found = self._run()
            if self.ended.is_set():
                return
            self.began = None
            if self.found is None or self.found.status != found.status:
                LOG.log(
                    logging.INFO if found.status == HEALTHY else logging.WARNING,
                    "check %s: %s%s",
                    self.name,
                    found.status,
                    f": {found.message}" if found.message else "",
                )
            self.found = found
            self.runs += 1
            self.ended.wait(max(self.settings.interval - (self._clock() - began), 0.05))

    def _run(self) -> Finding:
        why = _distrusted(self.path)
        if why:  # it says nothing of the machine, so it is not unhealthy
            return Finding(self.name, DEGRADED, clean(f"not run: {why}", MAX_TEXT))
        self.settings = read_settings(self.path)
        outcome = programs.run(self.path, self.settings.timeout, over=self.ended.is_set)
        return judge(self.name, outcome, self.settings)


class Checks:
    """All of a folder. `findings` and `describe` may be called on any thread."""

    def __init__(
        self, folder: str = FOLDER, *, clock: Callable[[], float] = time.monotonic, faults: Faults | None = None
    ) -> None:
        self.folder = folder
        self._faults = faults or Faults()
        self._clock = clock
        self._all: dict[str, Check] = {}
        self._too_many = 0
        self._why = ""  # none of them is run
        self._ended = threading.Event()
        self._rescan = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="checks", daemon=True)

    def start(self) -> None:
        """Run them from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End them, those that run as well; waits a moment for that."""
        self._ended.set()
        self._rescan.set()
        until = time.monotonic() + FAREWELL
        for thread in [self._thread, *(check.thread for check in list(self._all.values()))]:
            thread.join(max(until - time.monotonic(), 0))

    def rescan(self) -> None:
        """Look into the folder now."""
        self._rescan.set()

    def names(self) -> list[str]:
        """Of all, as they stand in a report."""
        return [clean(check.name, MAX_NAME) for check in list(self._all.values())]

    def findings(self) -> list[Finding]:
        """Of all that have ended once."""
        now = self._clock()
        found = [one for one in (check.finding(now) for check in list(self._all.values())) if one is not None]
        if self._why:
            found.append(Finding("checks.d", DEGRADED, clean(f"none is run: {self._why}", MAX_TEXT)))
        if self._too_many:
            found.append(
                Finding("checks.d", DEGRADED, f"{self._too_many} checks more than the {MAX_CHECKS} that are run")
            )
        return found

    def describe(self) -> list[dict[str, Any]]:
        """For people."""
        now = self._clock()
        rows = []
        for check in list(self._all.values()):
            found = check.finding(now)
            rows.append(
                {
                    "name": check.name,
                    "interval": check.settings.interval,
                    "timeout": check.settings.timeout,
                    "runs": check.runs,
                    "status": found.status if found else "not run yet",
                    "message": found.message if found else "",
                }
            )
        return rows

    def _watch(self) -> None:
        while not self._ended.is_set():
            self._rescan.clear()
            with self._faults.of("a look for checks"):
                self._look()
            self._rescan.wait(RESCAN)
        for check in self._all.values():
            check.ended.set()

    def _look(self) -> None:
        why = _folder_distrusted(self.folder)
        paths = [] if why else discover(self.folder)
        if why and why != self._why:
            LOG.warning("no check is run: %s", clean(why, MAX_TEXT))
        self._why = why
        self._too_many = max(len(paths) - MAX_CHECKS, 0)
        wanted = paths[:MAX_CHECKS]
        known = dict(self._all)
        for path in [path for path in known if path not in wanted]:
            # An administrator took it away; a run of it is ended.
            known.pop(path).ended.set()
        for path in wanted:
            if path not in known:
                with self._faults.of(f"the start of the check {os.path.basename(path)}"):
                    check = Check(path, self._clock, self._faults)
                    check.thread.start()  # where that fails, it is tried again with the next look
                    known[path] = check
        self._all = known


def discover(folder: str) -> list[str]:
    """The checks of a folder, by name. Also what can't be run: no executable, or settings without a program."""
    try:
        with os.scandir(folder) as rows:
            names = [row.name for row in itertools.islice(rows, MAX_NAMES)]
    except OSError:
        return []
    wanted = {name for name in names if not _IGNORED.search(name)}
    wanted |= {name[: -len(".conf")] for name in names if name.endswith(".conf") and not name.startswith(".")}
    paths = (os.path.join(folder, name) for name in sorted(wanted - {""}))
    return [path for path in paths if not os.path.isdir(path)]


def read_settings(path: str) -> Settings:
    """From `NAME.conf` beside it, else from a comment `# vmhb: interval=30 timeout=10` at its top."""
    text = ""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        text = "\n".join(row.decode("utf-8", "replace") for row in _COMMENT.findall(file.read(HEAD)))
    why = _folder_distrusted(f"{path}.conf")
    if why:
        return Settings(problem=clean(f"its settings are not read: {why}", MAX_TEXT))
    with contextlib.suppress(OSError), open(f"{path}.conf", encoding="utf-8", errors="replace") as conf:
        text = "\n".join(row for row in conf.read(HEAD).splitlines() if not row.lstrip().startswith("#"))
    values = dict(_SETTING.findall(text))
    interval, problem = _seconds("interval", values, INTERVAL, INTERVALS)
    timeout, another = _seconds("timeout", values, TIMEOUT, TIMEOUTS)
    return Settings(interval, timeout, problem or another)


def _seconds(name: str, values: dict[str, str], default: float, bounds: tuple[float, float]) -> tuple[float, str]:
    if name not in values:
        return default, ""
    try:
        seconds = float(values[name])
    except ValueError:
        seconds = -1.0
    if bounds[0] <= seconds <= bounds[1]:
        return seconds, ""
    what = f"{name}={clean(values[name], 20)} is not a number of seconds from {bounds[0]:g} to {bounds[1]:g}"
    return default, f"{what}: {default:g} is used"


def _distrusted(path: str) -> str:
    """Why a check is not to be run; "" for no reason, and where it can't be run at all, which is said by trying."""
    try:
        return trust.of_program(path)
    except OSError:
        return ""


def _folder_distrusted(path: str) -> str:
    """The same of a folder, or of a file of settings."""
    try:
        return trust.of_path(path)
    except OSError:
        return ""


def judge(name: str, outcome: Outcome, settings: Settings) -> Finding:
    """What an outcome means: each has one meaning, and only exit 0 is healthy."""
    said = clean(next((line for line in outcome.output.splitlines() if line.strip()), ""), MAX_TEXT)
    if outcome.end is End.HUNG:
        return Finding(name, UNHEALTHY, _with(f"hung: still running after {settings.timeout:g} s, killed", said))
    if outcome.end is End.NOT_RUN:
        return Finding(name, UNHEALTHY, f"can't be run: {said}")
    if outcome.end is End.SIGNALLED:
        return Finding(name, UNHEALTHY, _with(f"killed by {_signal_name(outcome.number)}", said))
    if outcome.number == 0:
        return Finding(name, DEGRADED, settings.problem) if settings.problem else Finding(name, HEALTHY, said)
    return Finding(name, DEGRADED if outcome.number == 1 else UNHEALTHY, _with(f"exit {outcome.number}", said))


def _with(what: str, said: str) -> str:
    return f"{what}: {said}" if said else what


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"
