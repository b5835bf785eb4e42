"""One monitored instance, as the engine holds it: what its domain tells, its monitor, and where its loose ends are."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vmhb_common.model.fault import Fault
from vmhb_common.model.policy import as_knobs
from vmhb_worker.core.bounded import Ration
from vmhb_worker.core.domain_xml import DomainView, Travelled
from vmhb_worker.core.instance_state import Absence, Spell
from vmhb_worker.core.monitor import Monitor
from vmhb_worker.core.reconcile import Remembered
from vmhb_worker.interfaces import InstanceRow

#: A guest can change its state several times a second. Of one instance so many lines are logged at once, which is more
#: than anything needs that goes wrong once, and then one in so many seconds: 2 MB in a week. Changes of faults are not
#: counted among them, and always logged.
LINES, LINE_EVERY = 20, 60.0


@dataclass(slots=True)
class Instance:
    """Belongs to the engine's thread. `boot`, `host_boot`: see `DomainSeen`; the first is None when the next one is to
    be taken as it comes. seen_in: the state and its reason, as of the last description. read_again_at: when that is due
    again, of one that is not simply alive. port_told_at: when an event told last of a port of its.
    """

    view: DomainView
    monitor: Monitor
    boot: str | None
    written: Travelled  # the state that the domain carries
    host_boot: str = ""
    seen_in: tuple[str, str] | None = None
    read_again_at: float = 0.0
    port_told_at: float = -math.inf
    due: float = math.inf
    forget_at: float | None = None
    mishaps: int = 0  # of its events could not be handled, for a fault of ours
    unwritten: bool = False  # another one is due, once the probe that is under way is over
    lines: Ration = field(default_factory=lambda: Ration(LINES, LINE_EVERY))

    @property
    def uuid(self) -> str:
        """The instance's uuid, which is its domain's."""
        return self.monitor.uuid

    @property
    def label(self) -> str:
        """How log lines name it. Display names are tenants' text: escaped."""
        name = self.view.who.display_name or self.view.who.instance_name
        return self.uuid if name is None else f"{self.uuid} ({name[:64]!r})"

    def say(self, log: logging.Logger, level: int, text: str, now: float) -> None:
        """A line about it in the log, unless there were so many of late that a guest must be behind it."""
        left_out = self.lines.take(now)
        if left_out is not None:
            more = f" ({left_out} lines about it were left out before this one)" if left_out else ""
            log.log(level, "instance %s: %s%s", self.label, text, more)

    def catch_up(self, log: logging.Logger, now: float) -> None:
        """How it is by now, where the last line about it is not the last that happened."""
        if self.lines.left_out and self.lines.ready(now):
            self.say(log, logging.INFO, f"it is {self.monitor.state.value} by now", now)

    def row(self, now: float, wall: datetime) -> InstanceRow:
        """What must be known after a restart."""
        memory = self.monitor.memory(now)
        waiting = None if memory.waited is None else wall.timestamp() - memory.waited
        absence, offset = memory.absence, wall.timestamp() - now
        return InstanceRow(
            self.uuid,
            memory.established,
            self.boot or "",
            memory.balloon_seen,
            waiting,
            memory.running,
            absence.left,
            tuple((spell.began + offset, spell.until + offset) for spell in absence.spells),
            absence.away,
            self.host_boot,
        )

    def told(self, fault: Fault | None, now: float, wall: datetime) -> dict[str, Any]:
        """For `show`: all that is known of it, as plain values."""
        who = self.view.who
        return {
            "instance_uuid": self.uuid,
            "instance_name": who.instance_name,
            "display_name": who.display_name,
            "project_id": who.project_id,
            "flavor_name": who.flavor_name,
            "policy": as_knobs(self.monitor.policy),
            **self.monitor.told(now),
            "mishaps": self.mishaps,
            "fault": None if fault is None else _fault_told(fault, wall),
        }

    def brief(self, fault: Fault | None, now: float, wall: datetime) -> dict[str, Any]:
        """For `list`: a line."""
        told = self.told(fault, now, wall)
        names = ("instance_uuid", "display_name", "state", "misses", "last_ack_age", "silences", "fault")
        return {name: told[name] for name in names}


def remembered(row: InstanceRow | None, now: float, wall: datetime) -> Remembered | None:
    """A stored row, as the core takes it. A clock that was set back makes the wait shorter, never negative."""
    if row is None:
        return None
    waiting = None if row.waiting_wall is None else max(0.0, wall.timestamp() - row.waiting_wall)
    offset = wall.timestamp() - now
    spells = tuple(Spell(began - offset, until - offset) for began, until in row.maintenance)
    absence = Absence(row.left, spells, row.away)
    return Remembered(row.established, row.boot, row.balloon, waiting, row.running, absence, row.host_boot)


def _fault_told(fault: Fault, wall: datetime) -> dict[str, Any]:
    """What of it says whether it is the one that somebody has in mind, and what is asked for. Ages, since the clocks of
    two hosts differ."""
    began = fault.suspected_at or fault.raised_at
    return {
        "fault_id": fault.fault_id,
        "cause": fault.cause,
        "recommended_action": fault.recommended_action,
        "withheld": fault.withheld,
        "suspected_age": round((wall - began).total_seconds(), 1),
    }
