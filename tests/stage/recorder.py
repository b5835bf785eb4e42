"""Two reporters for tests, installed as a plugin is: one notes what it is told, one recovers as Masakari's does.

What they wrote is their backend: a file of JSON lines that outlives the consumer. What they are to do instead of
delivering is read from another file at each delivery, so that a test can change its mind.
"""

from __future__ import annotations

import json
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from oslo_config import cfg

from vmhb_common.model.fault import Change, Fault
from vmhb_consumer.reporters.base import Case, Done, Later, Outcome, Refused, Reporter

#: A line: one delivery.
Line = dict[str, Any]


class Recording(Reporter):
    """Notes everything."""

    name = "recording"
    summary = "For tests"
    acts = False

    @classmethod
    def options(cls) -> Sequence[cfg.Opt]:
        """Where to write, and where to read what to do."""
        return [cfg.StrOpt("file", help="Where to write"), cfg.StrOpt("control", help="What to do instead")]

    def __init__(self, options: Any, now: Callable[[], datetime]) -> None:
        self._file = pathlib.Path(options.file or os.devnull)
        self._control = pathlib.Path(options.control or os.devnull)

    def deliver(self, case: Case) -> Outcome:
        """Do as told, and note it."""
        told = self._control.read_text().strip() if self._control.exists() else ""
        match told.split():
            case ["hang", seconds]:
                time.sleep(float(seconds))
            case ["fail"]:
                return Later(None, "the backend is down")
            case ["again", seconds]:
                return Later(float(seconds), "the backend is busy", {"tries": case.memo.get("tries", 0) + 1})
            case ["give", "up"]:
                return Refused("the backend says that this is nonsense")
        self.note(case)
        return Done()

    def note(self, case: Case, **more: Any) -> None:
        """A line, written at once: a file opened for appending is never torn."""
        fault = case.fault
        line = {"fault_id": fault.fault_id, "sequence": fault.sequence, "change": case.change.name.lower()}
        line |= {"at": time.time(), "pid": os.getpid(), "latest": case.latest.sequence, "memo": dict(case.memo)}
        line |= {"reminder": case.reminder, "resolution": str(fault.resolution), "cause": fault.cause, **more}
        with self._file.open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")

    def lines(self) -> list[Line]:
        """All that was ever written."""
        return read(self._file)


class Recovering(Recording):
    """Recovers once per (fault_id, attempt), if its backend does not say that this was done."""

    name = "recovering"
    acts = True

    def wants(self, change: Change, fault: Fault) -> bool:
        """Only what asks for it."""
        return fault.recommended_action == "recover"

    def deliver(self, case: Case) -> Outcome:
        """Ask for leave, then do it."""
        key = [case.fault.fault_id, case.fault.recovery_attempt]
        if any(line["key"] == key for line in self.lines()):
            return Done()
        permit = case.permit()
        if not permit.granted:
            if permit.seconds is None:
                return Refused(permit.why, rightly=True)
            return Later(permit.seconds, permit.why)
        self.note(case, key=key)
        return Done()


def read(path: pathlib.Path) -> list[Line]:
    """The lines of a file that may not be there yet, or whose last one is just being written."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def install(folder: pathlib.Path) -> str:
    """Make both known as entry points; the folder for PYTHONPATH."""
    info = folder / "plugins" / "vmhb_recorder-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vmhb-recorder\nVersion: 1\n")
    rows = [f"{one.name} = {__name__}:{one.__name__}" for one in (Recording, Recovering)]
    (info / "entry_points.txt").write_text("\n".join(["[vmhb.reporters]", *rows]) + "\n")
    return str(info.parent)
