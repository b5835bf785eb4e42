"""One monitored instance, as the engine holds it: what its domain tells, its monitor, and where its loose ends are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from vmhb_common.model.causes import Cause
from vmhb_common.model.fault import Fault, Finding
from vmhb_common.model.policy import as_knobs
from vmhb_worker.core.domain_xml import DomainView, Travelled
from vmhb_worker.core.events import Accuse
from vmhb_worker.core.instance_state import Absence, Panic, Spell, Standing
from vmhb_worker.core.monitor import Monitor
from vmhb_worker.core.reconcile import Remembered
from vmhb_worker.core.verdict import CRASH_DUMP, recommend
from vmhb_worker.interfaces import InstanceRow


@dataclass(slots=True)
class Instance:
    """Belongs to the engine's thread. `boot`: see `DomainSeen`; None when the next one is to be taken as it comes."""

    view: DomainView
    monitor: Monitor
    boot: str | None
    written: Travelled  # the state that the domain carries
    due: float = math.inf
    forget_at: float | None = None
    mishaps: int = 0  # of its events could not be handled, for a fault of ours
    unwritten: bool = False  # another one is due, once the probe that is under way is over

    @property
    def uuid(self) -> str:
        """The instance's uuid, which is its domain's."""
        return self.monitor.uuid

    @property
    def label(self) -> str:
        """How log lines name it. Display names are tenants' text: escaped."""
        name = self.view.who.display_name or self.view.who.instance_name
        return self.uuid if name is None else f"{self.uuid} ({name[:64]!r})"

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
        )

    def finding(self, accuse: Accuse, observe_only: bool, now: float, wall: datetime) -> Finding:
        """A verdict of its monitor, ready to be written down."""
        verdict, monitor = accuse.verdict, self.monitor
        action, withheld = recommend(verdict, monitor.policy.action, observe_only)
        return Finding(
            cause=str(verdict.cause),
            severity=str(verdict.severity),
            confidence=str(verdict.confidence),
            recommended_action=action,
            withheld=withheld,
            reason=verdict.reason,
            evidence=verdict.evidence.told(now),
            misses=accuse.misses,
            skipped=accuse.skipped,
            last_ack_at=_wall_of(monitor.last_ack, now, wall),
            suspected_at=_wall_of(accuse.suspected_at, now, wall),
            health=None if accuse.health is None else accuse.health.told(),
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
    absence = Absence(row.left, spells)
    return Remembered(row.established, row.boot, row.balloon, waiting, row.running, absence)


def standing_of(fault: Fault | None, wall: datetime) -> Standing | None:
    """The verdict that an open fault stands for."""
    if fault is None:
        return None
    pending, held = fault.withheld == "evidence", fault.withheld == "hold"
    return Standing(Cause(fault.cause), pending, held, _panic_of(fault, wall))


def _panic_of(fault: Fault, wall: datetime) -> Panic | None:
    """What its guest told of a panic. A reminder repeats old evidence: the panic may seem later, never sooner."""
    told = fault.evidence.get("panic", {})
    age = told.get("age")
    if told.get("value") not in (True, CRASH_DUMP) or not isinstance(age, int | float):
        return None
    ago = age + max(0.0, (wall - fault.occurred_at).total_seconds())
    return Panic(ago, told["value"] == CRASH_DUMP)


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


def _wall_of(at: float | None, now: float, wall: datetime) -> datetime | None:
    return None if at is None else wall - timedelta(seconds=now - at)
