"""Who is monitored: what a domain's description changes in the list of instances, and what is remembered of the absent.

Decides nothing about a guest's health. Belongs to the engine's thread; the engine hands the events that come out of it
to the instances' monitors.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from vmhb_common.model.policy import HeartbeatPolicy, Limits, Parsed, parse
from vmhb_worker.core import domain_xml, reconcile
from vmhb_worker.core import events as ev
from vmhb_worker.core.domain_xml import DomainView
from vmhb_worker.core.instance_state import Standing, Timing
from vmhb_worker.core.monitor import Monitor
from vmhb_worker.core.silences import STATES_OF_LIBVIRT
from vmhb_worker.engine.instance import Instance, remembered
from vmhb_worker.interfaces import InstanceRow

LOG = logging.getLogger(__name__)


#: So many are drawn at a time: one call of the kernel's for all of them.
_NONCES = 256
#: Characters of each: 64 bits in hexadecimal.
_NONCE_LENGTH = 16


class _Nonces:
    """What guests must echo, and cannot foresee."""

    def __init__(self) -> None:
        self._left: list[str] = []

    def __call__(self) -> str:
        """Another one."""
        if not self._left:
            drawn = secrets.token_hex(_NONCES * _NONCE_LENGTH // 2)
            self._left = [drawn[at : at + _NONCE_LENGTH] for at in range(0, len(drawn), _NONCE_LENGTH)]
        return self._left.pop()


@dataclass(frozen=True, slots=True)
class Reading:
    """A domain's description, and what it asks for. view: None where it cannot be read; `parsed` then says why."""

    view: DomainView | None
    parsed: Parsed


@dataclass(frozen=True, slots=True)
class Sighting:
    """A monitored domain was seen. events: what must have happened to it; fresh: its row is to be written."""

    instance: Instance
    events: tuple[ev.Event, ...]
    met: bool
    fresh: bool


@dataclass(frozen=True, slots=True)
class Unwatched:
    """A domain is not monitored, or no longer. instance: the one that it was until now; known: it once was one."""

    uuid: str
    why: str
    instance: Instance | None
    known: bool


class Roster:
    """All instances of this host, by uuid."""

    def __init__(self, limits: Limits, timing: Timing, gone_grace: float, rows: Iterable[InstanceRow]) -> None:
        """gone_grace: seconds that one is remembered which libvirt no longer knows. rows: of an earlier life."""
        self._limits = limits
        self._timing = timing
        self._gone_grace = gone_grace
        self._nonce = _Nonces()
        self._instances: dict[str, Instance] = {}
        self._rows = {row.uuid: row for row in rows}
        self._absent: dict[str, float] = {}  # remembered, but not here: uuid -> when to forget it
        self.refused: dict[str, str] = {}  # uuid -> why one that asked for it is not monitored

    def __iter__(self) -> Iterator[Instance]:
        return iter(list(self._instances.values()))

    def __len__(self) -> int:
        return len(self._instances)

    def __contains__(self, uuid: object) -> bool:
        return uuid in self._instances

    def get(self, uuid: str) -> Instance | None:
        """The instance, if it is monitored."""
        return self._instances.get(uuid)

    def read(self, seen: ev.DomainSeen) -> Reading:
        """Read a domain's description. Changes nothing."""
        try:
            view = domain_xml.read(seen.xml)
            if view.who.instance_uuid != seen.uuid:  # whose faults would those be?
                raise ValueError(f"its XML is that of another domain, {view.who.instance_uuid}")
        except ValueError as error:
            return Reading(None, Parsed(None, error=str(error)))
        # The operator's defaults may monitor those that ask for nothing, too.
        return Reading(view, parse(view.asked or {}, self._limits))

    def see(
        self, seen: ev.DomainSeen, reading: Reading, standing: Standing | None, now: float, wall: datetime
    ) -> Sighting | Unwatched:
        """Take a domain's description, as `read`. standing: the verdict that its open fault stands for."""
        view = reading.view
        try:
            policy, warnings = self._policy(reading.parsed)
        except ValueError as error:
            return self._refuse(seen.uuid, str(error))
        if view is None or policy is None:
            why = "nothing asks for it" if view is None or view.asked is None else "its policy says hw:heartbeat=false"
            return self.leave_out(seen.uuid, why)
        self.refused.pop(seen.uuid, None)
        instance = self._instances.get(seen.uuid)
        news = instance is None or instance.monitor.policy != policy
        if instance is None:
            sighting = self._meet(seen, view, policy, standing, now=now, wall=wall)
        else:
            sighting = self._meet_again(instance, seen, view, policy, now)
        for warning in warnings if news else ():
            LOG.warning("instance %s: %s", sighting.instance.label, warning)
        return sighting

    def undefined(self, uuid: str, now: float) -> Instance | None:
        """libvirt no longer knows it. It may be on its way to be defined again (hard reboot): it is remembered."""
        self.refused.pop(uuid, None)
        instance = self._instances.get(uuid)
        if instance is not None and instance.forget_at is None:
            instance.forget_at = now + self._gone_grace
        return instance

    def leave_out(self, uuid: str, why: str) -> Unwatched:
        """Do not monitor this one, or no longer."""
        self.refused.pop(uuid, None)
        row, instance = self._rows.pop(uuid, None), self._instances.pop(uuid, None)
        return Unwatched(uuid, why, instance, known=row is not None or instance is not None)

    def overdue(self, others: Iterable[str], now: float) -> list[Unwatched]:
        """Those that are gone for good. others: uuids that something else is still remembered of."""
        remembered_absent = {*self._rows, *others} - set(self._instances)
        self._absent = {uuid: self._absent.get(uuid, now + self._gone_grace) for uuid in remembered_absent}
        gone = [uuid for uuid, at in self._absent.items() if at <= now]
        gone += [i.uuid for i in self._instances.values() if i.forget_at is not None and i.forget_at <= now]
        return [self.leave_out(uuid, "gone from this host") for uuid in gone]

    # -- helpers -------------------------------------------------------------------------------------------------

    @staticmethod
    def _policy(parsed: Parsed) -> tuple[HeartbeatPolicy | None, tuple[str, ...]]:
        """What is asked for, None for nothing; and warnings. Raises ValueError where it makes no sense."""
        if parsed.policy is None:
            raise ValueError(parsed.error)
        if not parsed.policy.heartbeat:
            return None, ()
        return parsed.policy, parsed.warnings

    def _meet(  # everything that is known of it at its first sight
        self,
        seen: ev.DomainSeen,
        view: DomainView,
        policy: HeartbeatPolicy,
        standing: Standing | None,
        *,
        now: float,
        wall: datetime,
    ) -> Sighting:
        row = remembered(self._rows.get(seen.uuid), now, wall)
        memory = reconcile.first_memory(seen, row, view.travelled, standing)
        monitor = Monitor(seen.uuid, policy, self._timing, memory, now, self._nonce)
        instance = Instance(view, monitor, seen.boot, view.travelled)
        _note(instance, seen, now)
        self._instances[seen.uuid] = instance
        LOG.info("instance %s: monitored, %s", instance.label, instance.monitor.state.value)
        return Sighting(instance, tuple(reconcile.first_events(seen, row)), met=True, fresh=True)

    @staticmethod
    def _meet_again(
        instance: Instance, seen: ev.DomainSeen, view: DomainView, policy: HeartbeatPolicy, now: float
    ) -> Sighting:
        monitor = instance.monitor
        paused = bool(monitor.silences.keys() & STATES_OF_LIBVIRT)
        events = reconcile.missed_events(seen, monitor.state, instance.boot, paused, monitor.orphaned, instance.seen_in)
        if policy != monitor.policy:
            LOG.info("instance %s: its policy changed", instance.label)
            events.insert(0, ev.PolicyChanged(policy))
        fresh = instance.boot != seen.boot
        instance.view, instance.boot, instance.forget_at = view, seen.boot, None
        instance.written = view.travelled
        _note(instance, seen, now)
        return Sighting(instance, tuple(events), met=False, fresh=fresh)

    def _refuse(self, uuid: str, why: str) -> Unwatched:
        if self.refused.get(uuid) != why:
            LOG.error("instance %s: not monitored: %s", uuid, why)
        unwatched = self.leave_out(uuid, why)
        self.refused[uuid] = why
        return unwatched


def _note(instance: Instance, seen: ev.DomainSeen, now: float) -> None:
    """What is to be known of a description when the next one comes."""
    instance.host_boot, instance.seen_in = seen.host_boot, (seen.state, seen.reason)
    instance.read_again_at = reconcile.read_again_at(seen.uuid, now)
