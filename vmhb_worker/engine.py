"""The loop: inbox and deadlines in, effects out. Owns all state of the instances; there are no locks.

Everything that takes time is done by the adapters on their own threads, and comes back as a report into the inbox.
What a report means is decided in `core`; how an effect is carried out, here.
"""

from __future__ import annotations

import heapq
import logging
import math
import secrets
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vmhb_worker import crashpoint
from vmhb_worker.changes import Changes
from vmhb_worker.contracts import Agent, Clock, Hypervisor, Saved, Store
from vmhb_worker.core import census, domain_xml
from vmhb_worker.core import events as ev
from vmhb_worker.core.domain_xml import DomainView
from vmhb_worker.core.fault import Resolution
from vmhb_worker.core.hints import Hint, Hints
from vmhb_worker.core.lanes import Lanes, Request
from vmhb_worker.core.ledger import Entry, Ledger
from vmhb_worker.core.monitor import Monitor, Timing
from vmhb_worker.core.policy import Channel, HeartbeatPolicy, parse
from vmhb_worker.core.transitions import State
from vmhb_worker.inbox import Inbox
from vmhb_worker.instance import Instance, counts, remembered, standing_of
from vmhb_worker.objects import SignOfLife
from vmhb_worker.settings import Settings

LOG = logging.getLogger(__name__)

#: Later than this at a deadline (seconds), we were not there ourselves: the host stalled, or we were stopped.
LATE = 0.5
#: How often a sign of life is sent, and how often loose ends are tied up (seconds).
ALIVE_INTERVAL = 60.0
TIDY_INTERVAL = 10.0
#: A due deadline is not looked at again sooner than this (seconds), whatever a monitor says: no hot loop.
BREATH = 0.005

#: libvirt is away: nothing is known, nothing is asked.
_AWAY = ev.Silenced("hypervisor", "libvirt is away")


@dataclass(frozen=True, slots=True)
class _Call:
    """Somebody else's question, with the place for the answer."""

    name: str
    arguments: dict[str, Any]
    answer: Future[Any]


@dataclass(frozen=True, slots=True)
class _ProbeStored:
    """The balloon period to be put back is on disk: now it may be changed."""

    uuid: str
    look: ev.SetBalloonPeriod


@dataclass(frozen=True, slots=True)
class Ports:
    """What the engine is wired to. beat: called as often as its `watchdog` interval says, by the loop itself."""

    hypervisor: Hypervisor
    agent: Agent
    store: Store
    clock: Clock
    version: str = "0"
    beat: Callable[[], None] = lambda: None
    watchdog: float = math.inf


class Engine:
    """One worker's engine. `post`, `call` and `stop` may be called from any thread; the rest is `run`'s."""

    def __init__(self, settings: Settings, ports: Ports, saved: Saved) -> None:
        self._settings = settings
        self._ports = ports
        self._inbox = Inbox()
        self._stopping = False
        now, self._started_at = ports.clock.monotonic(), ports.clock.wall()
        verdict, agent = settings.verdict, settings.agent
        self._timing = Timing(agent.exit_settle_time, verdict.reboot_grace, verdict.panic_grace, verdict.probe_interval)
        self._instances: dict[str, Instance] = {}
        self._refused: dict[str, str] = {}  # uuid -> why an instance that asked is not monitored
        self._rows = {row.uuid: row for row in saved.instances}
        self._orphans: dict[str, float] = {}  # remembered or open, but not here: uuid -> when to forget it
        self._probes = dict(saved.probes)
        self._ledger = Ledger(settings.host, verdict.reminder_interval, lambda: str(uuid.uuid4()))
        self._ledger.load(saved.faults, saved.announce, now)
        self._lanes = Lanes(agent.workers, agent.slow_workers)
        self._hints = Hints()
        self._changes = Changes(settings.host, ports.store)
        self._heard = -math.inf
        self._connected = False
        self._why_away = "not connected yet"
        self._signs = 0
        self._due: list[tuple[float, str]] = []
        self._alive_at = self._tidy_at = now
        self._beat_at = now

    # -- from any thread -----------------------------------------------------------------------------------------

    def post(self, report: Any) -> None:
        """Leave a report."""
        self._inbox.post(report)

    def call(self, name: str, arguments: dict[str, Any], timeout: float = 5.0) -> Any:
        """Put a question to the engine and wait for its answer. Raises TimeoutError."""
        answer: Future[Any] = Future()
        self._inbox.post(_Call(name, arguments, answer))
        return answer.result(timeout)

    def stop(self) -> None:
        """End `run` soon."""
        self._stopping = True
        self._inbox.wake()

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until `stop`. What was decided by then has been handed to the store."""
        self._alive_at = self._tidy_at = self._beat_at = self._ports.clock.monotonic()
        while not self._stopping:
            self.turn()
        self._changes.flush()

    def turn(self) -> None:
        """One turn: sleep until something is due or reported, then see to all of it."""
        deadline = self._deadline()
        self._inbox.wait(min(deadline - self._ports.clock.monotonic(), 3600.0))
        reports = self._inbox.drain()  # everything that can be known is known before any deadline is judged
        now = self._ports.clock.monotonic()
        if now - deadline > LATE:
            self._were_late(now - deadline, now)
        for report in reports:
            self._take(report, now)
        self._tick(now)
        self._admit(now)
        self._periodic(now)
        self._changes.flush()

    def _deadline(self) -> float:
        due = self._due[0][0] if self._due else math.inf
        return min(due, self._lanes.deadline(), self._ledger.deadline(), self._alive_at, self._tidy_at, self._beat_at)

    def _were_late(self, late: float, now: float) -> None:
        LOG.warning("%.1f s late: the host stalled, or this process did; open beats do not count", late)
        for instance in self._instances.values():
            self._handle(instance, ev.Voided(f"the worker was {late:.1f} s late"), now)

    def _tick(self, now: float) -> None:
        tick = ev.Tick(self._heard)
        while self._due and self._due[0][0] <= now:
            at, which = heapq.heappop(self._due)
            instance = self._instances.get(which)
            if instance is not None and instance.due == at:
                instance.due = math.inf
                self._handle(instance, tick, now, floor=now + BREATH)

    def _periodic(self, now: float) -> None:
        wall = self._ports.clock.wall()
        for entry in self._ledger.remind(now, wall):
            self._changes.fault(entry)
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_INTERVAL
            self._tidy(now)
        if now >= self._alive_at:
            self._alive_at = now + ALIVE_INTERVAL
            self._say_alive(wall)
        if now >= self._beat_at:
            self._beat_at = now + self._ports.watchdog
            self._ports.beat()

    def _take(self, report: Any, now: float) -> None:
        """One report. A fault of ours costs this report, not the worker."""
        try:
            _REPORTS[type(report)](self, report, now)
        except Exception:
            LOG.exception("could not take %.200r", report)

    # -- domains -------------------------------------------------------------------------------------------------

    def _on_up(self, report: ev.HypervisorUp, now: float) -> None:
        self._connected = True
        self._heard = now
        here = {seen.uuid for seen in report.domains}
        LOG.info("libvirt is here, with %d domains", len(report.domains))
        for seen in report.domains:
            self._take(seen, now)
        for which in [which for which in self._instances if which not in here]:
            self._on_forgotten(ev.DomainForgotten(which), now)
        for instance in list(self._instances.values()):
            until = now + instance.monitor.policy.interval
            reason = "libvirt has just been connected to"
            self._handle(instance, ev.Silenced("hypervisor", reason, until, ask=True), now)

    def _on_down(self, report: ev.HypervisorDown, now: float) -> None:
        self._connected = False
        self._why_away = report.reason
        LOG.warning("libvirt is away, no instance is judged: %s", report.reason)
        for instance in list(self._instances.values()):
            self._handle(instance, _AWAY, now)

    def _on_heard(self, report: ev.HypervisorHeard, now: float) -> None:
        self._heard = max(self._heard, report.asked_at)

    def _on_seen(self, seen: ev.DomainSeen, now: float) -> None:
        try:
            view = domain_xml.read(seen.xml)
        except ValueError as error:
            self._refuse(seen.uuid, str(error), now)
            return
        if view.asked is None:
            self._unmonitor(seen.uuid, "nothing asks for it any more", now)
            return
        parsed = parse(view.asked, self._settings.limits)
        if parsed.policy is None:
            self._refuse(seen.uuid, parsed.error or "", now)
        elif not parsed.policy.heartbeat:
            self._unmonitor(seen.uuid, "its policy says so", now)
        elif parsed.policy.channel is not Channel.AGENT:
            self._refuse(seen.uuid, "hw:heartbeat_channel is 'application', which this worker does not speak", now)
        else:
            self._refused.pop(seen.uuid, None)
            self._watch(seen, view, parsed.policy, parsed.warnings, now)

    def _watch(
        self, seen: ev.DomainSeen, view: DomainView, policy: HeartbeatPolicy, warnings: tuple[str, ...], now: float
    ) -> None:
        instance = self._instances.get(seen.uuid)
        if instance is None:
            events = self._meet(seen, view, policy, now)
            instance = self._instances[seen.uuid]
            LOG.info("instance %s: monitored, %s", instance.label, instance.monitor.state.value)
            for warning in warnings:
                LOG.warning("instance %s: %s", instance.label, warning)
        else:
            monitor = instance.monitor
            paused = "paused" in monitor.silences or "passage" in monitor.silences
            events = census.missed_events(seen, monitor.state, instance.boot, paused)
            if policy != monitor.policy:
                LOG.info("instance %s: its policy changed", instance.label)
                events.insert(0, ev.PolicyChanged(policy))
        instance.view = view
        instance.forget_at = None
        instance.monitor.balloon_period = self._probes.get(seen.uuid, view.balloon_period)
        if instance.boot != seen.boot:
            instance.boot = seen.boot
            self._changes.instance(instance.row(now, self._wall()))
        port = view.ports.get(policy.channel)
        for event in events:
            self._handle(instance, event, now)
        if instance.monitor.port_open is None and port is not None and port.open is not None:
            self._handle(instance, ev.PortChanged(port.open), now)
        self._handle(instance, ev.Tick(self._heard), now)

    def _meet(self, seen: ev.DomainSeen, view: DomainView, policy: HeartbeatPolicy, now: float) -> list[ev.Event]:
        """A new instance. Returns what happened to it before we met."""
        wall = self._wall()
        row = remembered(self._rows.get(seen.uuid), wall)
        standing = standing_of(self._ledger.open.get(seen.uuid))
        memory = census.first_memory(seen, row, view.travelled, standing)
        monitor = Monitor(seen.uuid, policy, self._timing, memory, now)
        self._instances[seen.uuid] = Instance(view, monitor, seen.boot)
        self._changes.instance(self._instances[seen.uuid].row(now, wall))
        hints = self._hints.of(seen.uuid, wall.timestamp())
        return [*census.first_events(seen, row), *(_silence(key, hint, now, wall) for key, hint in hints.items())]

    def _on_forgotten(self, report: ev.DomainForgotten, now: float) -> None:
        """Undefined: it may be on its way to be defined again (hard reboot), so it is remembered for a while."""
        self._refused.pop(report.uuid, None)
        instance = self._instances.get(report.uuid)
        if instance is not None and instance.forget_at is None:
            instance.forget_at = now + self._settings.verdict.gone_grace
            if instance.monitor.state is not State.GONE:
                self._handle(instance, ev.Stopped(ev.Exit.INTENT, "undefined"), now)

    def _refuse(self, which: str, why: str, now: float) -> None:
        if self._refused.get(which) != why:
            LOG.error("instance %s: not monitored: %s", which, why)
        self._unmonitor(which, why, now)
        self._refused[which] = why

    def _unmonitor(self, which: str, why: str, now: float) -> None:
        self._refused.pop(which, None)
        instance = self._instances.pop(which, None)
        if instance is None and which not in self._ledger.open:
            return
        wall = self._wall()
        self._note_fault(self._ledger.acquit(which, Resolution.UNMONITORED, now=now, wall=wall))
        self._changes.forget(which)
        self._rows.pop(which, None)
        self._lanes.withdraw(which)
        if instance is not None:
            LOG.info("instance %s: no longer monitored: %s", instance.label, why)
            self._changes.heartbeat(instance.view.who, instance.monitor.policy.channel, wall, ended=why)

    # -- events and effects --------------------------------------------------------------------------------------

    def _on_happened(self, report: ev.Happened, now: float) -> None:
        if isinstance(report.event, ev.Looked):
            self._note_look(report.uuid, report.event)
        instance = self._instances.get(report.uuid)
        if instance is None:
            return
        if isinstance(report.event, ev.PortChanged) and report.event.channel is not instance.monitor.policy.channel:
            return
        if isinstance(report.event, ev.Booted | ev.Restored | ev.Arriving) and instance.monitor.state is State.GONE:
            instance.boot = None  # another QEMU: what `DomainSeen` says next is no news
        self._handle(instance, report.event, now)

    def _on_ask_ended(self, report: ev.AskEnded, now: float) -> None:
        self._lanes.finished(report.uuid)
        instance = self._instances.get(report.uuid)
        if instance is None or instance.nonce != report.nonce:
            return
        if report.failure is None:
            self._handle(instance, ev.Acked(report.rtt), now)
        else:
            LOG.debug("instance %s: %s: %s", report.uuid, report.failure.value, report.detail)
            self._handle(instance, ev.AskFailed(report.failure, report.detail), now)

    def _handle(self, instance: Instance, event: ev.Event, now: float, floor: float = 0.0) -> None:
        """Hand an event to an instance's monitor, carry out the effects, and see when it is due again."""
        monitor = instance.monitor
        before, hushed = monitor.state, set(monitor.silences.told())
        for effect in monitor.handle(event, now):
            self._carry_out(instance, effect, now)
        if monitor.state is not before:
            LOG.info("instance %s: %s -> %s", instance.label, before.value, monitor.state.value)
        self._log_silences(instance, hushed)
        at = max(monitor.deadline(), floor)
        if at != instance.due:
            instance.due = at
            if at < math.inf:
                heapq.heappush(self._due, (at, instance.uuid))

    def _log_silences(self, instance: Instance, before: set[str]) -> None:
        told = instance.monitor.silences.told()
        if told.keys() == before:
            return
        for key in before - told.keys():
            LOG.info("instance %s: silence ended (%s)", instance.label, key)
        for key in told.keys() - before:
            LOG.info("instance %s: silence: %s", instance.label, told[key])

    def _carry_out(self, instance: Instance, effect: ev.Effect, now: float) -> None:
        match effect:
            case ev.Ask():
                self._ask(instance, effect, now)
            case ev.Withdraw():
                if self._lanes.withdraw(instance.uuid):
                    self._handle(instance, ev.AskFailed(ev.Failure.UNREACHABLE, "withdrawn"), now)
            case ev.LookAt():
                self._look(instance.uuid, effect.look, instance.monitor.balloon_period)
            case ev.Accuse():
                finding = instance.finding(effect.verdict, self._settings.verdict.observe_only, now, self._wall())
                policy, wall = instance.monitor.policy, self._wall()
                self._note_fault(self._ledger.accuse(instance.view.who, policy, finding, now=now, wall=wall))
                crashpoint.reach("verdict.accused")
                self._write_state(instance)
            case ev.Acquit():
                resolution = Resolution(effect.resolution)
                self._note_fault(self._ledger.acquit(instance.uuid, resolution, now=now, wall=self._wall()))
                crashpoint.reach("verdict.acquitted")
                self._write_state(instance)
            case ev.Established():
                if effect.first:
                    self._changes.heartbeat(instance.view.who, instance.monitor.policy.channel, self._wall())
                self._write_state(instance)
            case ev.Remember():
                self._changes.instance(instance.row(now, self._wall()))

    def _ask(self, instance: Instance, ask: ev.Ask, now: float) -> None:
        if self._lanes.busy(instance.uuid):  # of an earlier life of this instance, never given back
            self._handle(instance, ev.AskFailed(ev.Failure.UNREACHABLE, "an earlier challenge is still out"), now)
            return
        timeout = instance.monitor.policy.timeout
        self._lanes.submit(Request(instance.uuid, ask.timeout, timeout, ask.slow, ask.suspect))

    def _admit(self, now: float) -> None:
        for request in self._lanes.admit(now):
            instance = self._instances.get(request.uuid)
            if instance is None:
                self._lanes.finished(request.uuid)
                continue
            instance.nonce = secrets.randbits(52)
            self._handle(instance, ev.Asked(), now)
            self._ports.agent.ask(request.uuid, instance.nonce, request.libvirt_timeout)

    def _write_state(self, instance: Instance) -> None:
        """What travels with a migration; once per change. Not while a probe needs the domain to itself: then later."""
        if instance.monitor.probing or instance.monitor.state is State.GONE:
            return
        fault = self._ledger.open.get(instance.uuid)
        element = domain_xml.state_element(instance.monitor.established, fault.fault_id if fault else None)
        if element != instance.written:
            instance.written = element
            self._ports.hypervisor.write_state(instance.uuid, element)

    def _note_fault(self, entry: Entry | None) -> None:
        if entry is None:
            return
        fault = entry.fault
        self._changes.fault(entry)
        LOG.warning(
            "instance %s: fault %s %s: %s (%s), %s%s%s",
            *(fault.instance_uuid, fault.fault_id, entry.change.name.lower(), fault.cause, fault.confidence),
            fault.reason,
            f"; recommended: {fault.recommended_action}" if fault.resolution is None else f"; {fault.resolution}",
            f" (withheld: {fault.withheld})" if fault.withheld else "",
        )

    # -- the balloon's period ------------------------------------------------------------------------------------

    def _look(self, which: str, look: ev.Look, period: int | None) -> None:
        """Take a look; a period is changed only once the one to be put back is on disk."""
        if isinstance(look, ev.SetBalloonPeriod) and which not in self._probes and period is not None:
            self._probes[which] = period
            self._changes.probe(which, period, lambda: self.post(_ProbeStored(which, look)))
        else:
            self._ports.hypervisor.look(which, look)

    def _on_probe_stored(self, report: _ProbeStored, now: float) -> None:
        crashpoint.reach("probe.stored")
        self._ports.hypervisor.look(report.uuid, report.look)

    def _note_look(self, which: str, looked: ev.Looked) -> None:
        if isinstance(looked.look, ev.SetBalloonPeriod) and isinstance(looked.answer, ev.PeriodSet):
            crashpoint.reach("probe.set")
            if looked.look.seconds == self._probes.get(which):
                del self._probes[which]
                self._changes.probe(which, None)

    # -- now and then --------------------------------------------------------------------------------------------

    def _tidy(self, now: float) -> None:
        self._hints.tidy(self._wall().timestamp())
        for instance in list(self._instances.values()):
            if instance.forget_at is not None and now >= instance.forget_at:
                self._drop(instance, now)
            elif self._connected and not instance.monitor.probing and instance.monitor.state is not State.GONE:
                self._write_state(instance)
                if instance.uuid in self._probes:
                    self._ports.hypervisor.look(instance.uuid, ev.SetBalloonPeriod(self._probes[instance.uuid]))

        if self._connected:
            self._tidy_orphans(now)

    def _tidy_orphans(self, now: float) -> None:
        """What is remembered of instances that are not here, and have not been for long enough."""
        absent = {*self._rows, *self._ledger.open, *self._probes} - set(self._instances)
        self._orphans = {which: self._orphans.get(which, now + self._settings.verdict.gone_grace) for which in absent}
        for which in [which for which, at in self._orphans.items() if at <= now]:
            self._forget(which, now)

    def _drop(self, instance: Instance, now: float) -> None:
        LOG.info("instance %s: gone from this host", instance.label)
        self._lanes.withdraw(instance.uuid)
        del self._instances[instance.uuid]
        self._forget(instance.uuid, now)

    def _forget(self, which: str, now: float) -> None:
        self._note_fault(self._ledger.acquit(which, Resolution.DELETED, now=now, wall=self._wall()))
        self._changes.forget(which)
        self._rows.pop(which, None)
        if self._probes.pop(which, None) is not None:
            self._changes.probe(which, None)

    def _say_alive(self, wall: datetime) -> None:
        self._signs += 1
        health = self._ports.store.health()
        degraded = [] if self._connected else [f"libvirt is away: {self._why_away}"]
        if health.get("degraded"):
            degraded.append(str(health["degraded"]))
        degraded += [f"instance {which} is not monitored: {why}" for which, why in sorted(self._refused.items())][:20]
        self._changes.alive(
            SignOfLife(
                host=self._settings.host,
                version=self._ports.version,
                started_at=self._started_at,
                occurred_at=wall,
                sequence=self._signs,
                interval=ALIVE_INTERVAL,
                instances=len(self._instances),
                monitors=counts(list(self._instances.values())),
                open_faults=len(self._ledger.open),
                hypervisor_connected=self._connected,
                store=health,
                degraded=degraded,
            )
        )

    # -- questions -----------------------------------------------------------------------------------------------

    def _on_call(self, call: _Call, now: float) -> None:
        if not call.answer.set_running_or_notify_cancel():
            return
        try:
            call.answer.set_result(_CALLS[call.name](self, now, **call.arguments))
        except Exception as error:
            call.answer.set_exception(error)

    def _list(self, now: float) -> list[dict[str, Any]]:
        watched = [i.brief(self._ledger.open.get(i.uuid), now) for i in self._instances.values()]
        return watched + [{"instance_uuid": which, "error": why} for which, why in sorted(self._refused.items())]

    def _show(self, now: float, instance_uuid: str) -> dict[str, Any] | None:
        instance = self._instances.get(instance_uuid)
        if instance is not None:
            return instance.told(self._ledger.open.get(instance_uuid), now)
        why = self._refused.get(instance_uuid)
        return None if why is None else {"instance_uuid": instance_uuid, "error": why}

    def _expect_silence(
        self, now: float, instance_uuid: str, key: str, reason: str, timeout: float, observed_at: datetime
    ) -> bool:
        wall = self._wall()
        hint = Hint(reason, observed_at.timestamp(), observed_at.timestamp() + timeout)
        taken = self._hints.expect(instance_uuid, key, hint, wall.timestamp())
        instance = self._instances.get(instance_uuid)
        if taken and instance is not None:
            self._handle(instance, _silence(key, hint, now, wall), now)
        return taken

    def _end_silence(self, now: float, instance_uuid: str, key: str, observed_at: datetime) -> bool:
        ended = self._hints.end(instance_uuid, key, observed_at.timestamp())
        instance = self._instances.get(instance_uuid)
        if ended and instance is not None:
            self._handle(instance, ev.Unsilenced(f"hint:{key}"), now)
        return ended

    def _wall(self) -> datetime:
        return self._ports.clock.wall()


def _silence(key: str, hint: Hint, now: float, wall: datetime) -> ev.Silenced:
    return ev.Silenced(f"hint:{key}", hint.reason, now + hint.expires - wall.timestamp())


_REPORTS: dict[type[Any], Callable[[Engine, Any, float], None]] = {
    ev.HypervisorUp: Engine._on_up,
    ev.HypervisorDown: Engine._on_down,
    ev.HypervisorHeard: Engine._on_heard,
    ev.DomainSeen: Engine._on_seen,
    ev.DomainForgotten: Engine._on_forgotten,
    ev.Happened: Engine._on_happened,
    ev.AskEnded: Engine._on_ask_ended,
    _ProbeStored: Engine._on_probe_stored,
    _Call: Engine._on_call,
}

_CALLS: dict[str, Callable[..., Any]] = {
    "list": Engine._list,
    "show": Engine._show,
    "expect_silence": Engine._expect_silence,
    "end_silence": Engine._end_silence,
}
