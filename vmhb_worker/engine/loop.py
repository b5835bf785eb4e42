"""The loop: inbox and deadlines in, effects out. Owns all state of the instances; there are no locks.

Everything that takes time is done by the adapters on their own threads, and comes back as a report into the inbox.
What a report means is decided in `core`; who is monitored, in `registry`; how an effect is carried out, here.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import secrets
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from vmhb_common.app import crashpoint
from vmhb_common.model.fault import Change, Resolution
from vmhb_common.objects import SignOfLife
from vmhb_worker.core import domain_xml, reconcile
from vmhb_worker.core import events as ev
from vmhb_worker.core.agent_lanes import Lanes, Request
from vmhb_worker.core.agent_requests import AgentRequests
from vmhb_worker.core.caution import Caution, Limits
from vmhb_worker.core.domain_xml import Travelled
from vmhb_worker.core.doubt import AWAY, LATE, Doubt, Doubted, just_connected, we_were_late
from vmhb_worker.core.fault_register import Entry, Ledger, in_words
from vmhb_worker.core.findings import finding, standing_of
from vmhb_worker.core.host_pressure import Counted
from vmhb_worker.core.instance_state import Timing
from vmhb_worker.core.mishaps import instead_of, not_started
from vmhb_worker.core.monitor import Monitor
from vmhb_worker.core.questions import A, Question
from vmhb_worker.core.transitions import State
from vmhb_worker.engine import in_short
from vmhb_worker.engine.balloon_periods import Periods
from vmhb_worker.engine.calls import Desk
from vmhb_worker.engine.contained import Contained
from vmhb_worker.engine.inbox import Inbox
from vmhb_worker.engine.instance import Instance
from vmhb_worker.engine.provisioner import Provisioner
from vmhb_worker.engine.registry import Roster, Sighting, Unwatched
from vmhb_worker.engine.unit_of_work import Changes
from vmhb_worker.interfaces import Agent, Channels, Clock, Hypervisor, Saved, Store
from vmhb_worker.settings import Settings

LOG = logging.getLogger(__name__)

#: How often a sign of life is sent (seconds).
ALIVE_INTERVAL = 60.0
#: The first sign of life: by then libvirt has told what is here, or that another worker watches it.
FIRST_SIGN = 2.0
#: How often loose ends are tied up (seconds).
TIDY_INTERVAL = 10.0
#: At its end the worker waits so long for balloon periods to be put back (seconds).
LEAVING = 0.4
#: So many deadlines are seen to before it is looked again what has come in: some milliseconds' worth.
SLICE = 128
#: A due deadline is not looked at again sooner than this (seconds), whatever a monitor says: no hot loop.
BREATH = 0.005
#: An instance of which something could not be handled, for a fault of ours, is tried again after this (seconds), and a
#: part of the loop that failed, too.
TRY_AGAIN = 1.0


@dataclass(frozen=True, slots=True)
class _Call:
    """Somebody else's question, with the place for the answer."""

    question: Question[Any]
    answer: Future[Any]


@dataclass(frozen=True, slots=True)
class _PeriodStored:
    """See `Periods.stored`."""

    uuid: str
    look: ev.SetBalloonPeriod


@dataclass(frozen=True, slots=True)
class _Decided:
    """The operator decided otherwise: see `Engine.take_settings`."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Ports:
    """What the engine is wired to. beat: called as often as its `watchdog` interval says, by the loop itself. tell: how
    all is, in one line, whenever that may have changed: it may be the same again."""

    hypervisor: Hypervisor
    agent: Agent
    channels: Channels
    store: Store
    clock: Clock
    inbox: Inbox = field(default_factory=Inbox)
    version: str = "0"
    beat: Callable[[], None] = lambda: None
    tell: Callable[[str], None] = lambda _: None
    watchdog: float = math.inf


class Engine:
    """One worker's engine. `post`, `call` and `stop` may be called from any thread; the rest is `run`'s."""

    def __init__(self, settings: Settings, ports: Ports, saved: Saved) -> None:
        self._settings = settings
        self._ports = ports
        self._inbox = ports.inbox
        self._stopping = False
        now, self._started_at = ports.clock.monotonic(), ports.clock.wall()
        verdict, agent = settings.verdict, settings.agent
        timing = Timing(
            exit_settle_time=agent.exit_settle_time,
            reboot_grace=verdict.reboot_grace,
            panic_grace=verdict.panic_grace,
            crash_dump_grace=verdict.crash_dump_grace,
            probe_interval=verdict.probe_interval,
            min_interval=settings.limits.min_interval,
            max_maintenance=settings.max_maintenance,
        )
        self._channels = ports.channels
        self._channels.open(self._inbox.leave, self._inbox)
        self._roster = Roster(settings.limits, timing, verdict.gone_grace, saved.instances)
        self._caution = Caution(_limits(settings))
        self._contained = Contained(TRY_AGAIN)
        self._ledger = Ledger(
            settings.host, verdict.reminder_interval, lambda: str(uuid.uuid4()), self._caution, self._mishap_of
        )
        dropped = self._load(saved, now)
        self._suspects: set[str] = set()  # uuids of those that miss beats, or are silent
        self._crowd_changed = False  # since it was looked at
        self._doubtful = False  # was the host, when it was looked at
        self._lanes = Lanes(agent.workers, agent.slow_workers)
        self._requests = AgentRequests(self._lanes, partial(secrets.randbits, 52))
        self._provisioner = Provisioner(self._roster, ports.hypervisor)
        self._desk = Desk(self._roster, self._ledger, self._provisioner, self._channels, self._handle)
        self._changes = Changes(settings.host, ports.store)
        self._changes.drop(dropped)
        self._periods = Periods(
            saved.probes, ports.hypervisor, self._changes, lambda which, look: self.post(_PeriodStored(which, look))
        )
        self._doubt = Doubt(now)
        self._why_away = "not connected yet"
        self._signs = 0
        self._news = True  # what may be told of that
        self._broken: dict[str, float] = {}  # parts of the loop that failed: when they are tried again
        self._due: list[tuple[float, int, Instance]] = []  # the number: two that are due at once are not compared
        self._number = itertools.count().__next__
        self._alive_at = self._tidy_at = self._beat_at = now

    def _load(self, saved: Saved, now: float) -> list[str]:
        """Take up the faults of an earlier life, but for those that nothing can be made of. See `Ledger.load`."""
        dropped: list[str] = []
        for fault in saved.faults:
            try:
                dropped += self._ledger.load((fault,), saved.announce, now, self._started_at)
            except Exception:
                self._contained.report(fault, now)
        return dropped

    # -- from any thread -----------------------------------------------------------------------------------------

    def post(self, report: Any) -> None:
        """Leave a report."""
        self._inbox.post(report)

    def call(self, question: Question[A], timeout: float = 5.0) -> A:
        """Put a question to the engine and wait for its answer. Raises TimeoutError."""
        answer: Future[A] = Future()
        self._inbox.post(_Call(question, answer))
        return answer.result(timeout)

    def take_settings(self, settings: Settings) -> None:
        """From now on, what may change while it runs: brake and budget. The rest must be as it was."""
        self._inbox.post(_Decided(settings))

    def stop(self) -> None:
        """End `run` soon."""
        self._stopping = True
        self._inbox.wake()

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until `stop`. What was decided by then has been handed to the store."""
        self._tidy_at = self._beat_at = self._ports.clock.monotonic()
        self._alive_at = self._tidy_at + FIRST_SIGN
        while not self._stopping:
            try:
                self.turn()
            except Exception:  # what nobody has thought of; one that stays is seen by the watchdog, which is not fed
                self._contained.report("a turn of the engine's loop", self._ports.clock.monotonic())
                self._inbox.pause(TRY_AGAIN / 4)
        if self._doubt.connected:
            self._put_back_all()
        self._changes.flush()
        self._channels.close()

    def turn(self) -> None:
        """One turn: sleep until something is due or reported, then see to all of it."""
        deadline = self._deadline()
        self._inbox.wait(min(deadline - self._ports.clock.monotonic(), 3600.0))
        reports = self._inbox.drain()  # everything that can be known is known before any deadline is judged
        now = self._ports.clock.monotonic()
        late = self._doubt.late(deadline, now)
        if late:
            self._were_late(late, now)
        for report in reports:
            self._take(report, now)
        self._try("application channels", self._channels.tick, now)
        self._try("deadlines", self._tick, now)
        self._try("agent requests", self._admit, now)
        self._periodic(now)
        self._try("commit", self._flush, now)

    def _try(self, part: str, work: Callable[[float], None], now: float) -> None:
        """A part of the turn. A fault of ours in it does not end the loop: it is tried again after a while."""
        if self._broken and now < self._broken.get(part, now):
            return
        try:
            work(now)
        except Exception:
            self._broken[part] = now + TRY_AGAIN
            LOG.exception("the engine's %s failed, a fault of ours; tried again in %.0f s", part, TRY_AGAIN)
        else:
            self._broken.pop(part, None)

    def _flush(self, now: float) -> None:
        self._changes.flush()

    def _put_back_all(self) -> None:
        """Leave no balloon as a probe has it; where QEMU hangs, that is left to the next start."""
        for which in self._periods:
            self._periods.put_back(which)
        clock = self._ports.clock.monotonic
        until = clock() + LEAVING
        while any(self._periods) and clock() < until:
            self._inbox.wait(until - clock())
            for report in self._inbox.drain():
                if isinstance(report, ev.Happened) and isinstance(report.event, ev.Looked):
                    self._periods.looked(report.uuid, report.event)

    def _deadline(self) -> float:
        if self._broken:  # what is due may be what failed
            return self._doubt.looked_at + min(TRY_AGAIN, self._ports.watchdog) / 4
        due = self._due[0][0] if self._due else math.inf
        ours = min(due, self._alive_at, self._tidy_at, self._beat_at)
        owed = min(self._ledger.deadline(), self._ledger.reconsider_at)
        return min(ours, owed, self._requests.deadline(), self._channels.deadline())

    def _were_late(self, late: float, now: float) -> None:
        level = logging.WARNING if late > LATE else logging.DEBUG  # the latter may be ten times a second
        LOG.log(level, "%.1f s late: the host stalled, or this process did; open beats do not count", late)
        self._void(we_were_late(late, now), now)

    def _void(self, doubted: Doubted, now: float) -> None:
        def void(instance: Instance) -> None:
            if doubted.concerns(instance.monitor.in_force):
                self._handle(instance, doubted.event, now)

        self._contained.all(self._roster, "a doubt", void)

    def _tick(self, now: float) -> None:
        tick = self._time_passes(now)
        for _ in range(SLICE):
            if not self._due or self._due[0][0] > now:
                break
            at, _, instance = heapq.heappop(self._due)
            if instance.due != at:
                continue
            instance.due = math.inf
            self._hear(instance, now)
            if self._roster.get(instance.uuid) is instance:  # not forgotten meanwhile
                self._handle(instance, tick, now, floor=now + BREATH)

    def _time_passes(self, now: float) -> ev.Tick:
        return ev.Tick(self._doubt.heard, self._doubt.host(now), self._doubt.clock_set)

    def _hear(self, instance: Instance, now: float) -> None:
        """All that its guest has said while we were at others is known before it is judged."""
        try:
            if not instance.monitor.owes(now):
                return
            self._channels.read(instance.uuid)
        except Exception:  # what cannot be read was not said; it is judged all the same
            self._mishap(instance, ev.ChannelDown("its application channel could not be read"))
        for report in self._inbox.drain():
            self._take(report, now)

    def _periodic(self, now: float) -> None:
        doubtful = self._doubt.at_bound(now) is not None
        if self._crowd_changed or doubtful is not self._doubtful or now >= self._ledger.reconsider_at:
            self._doubtful = doubtful
            self._try("second thoughts", self._reconsider, now)
        if now >= self._ledger.deadline():
            self._try("reminders", self._remind, now)
        if now >= self._tidy_at:
            self._tidy_at, self._news = now + TIDY_INTERVAL, True  # of the broker, of the disk
            self._try("tidying", self._tidy, now)
        if now >= self._alive_at:
            self._alive_at = now + ALIVE_INTERVAL
            self._try("sign of life", self._say_alive, now)
        if now >= self._beat_at:
            self._beat_at = now + self._ports.watchdog
            self._ports.beat()
        if self._news:
            self._try("line of how all is", self._tell, now)

    def _tell(self, now: float) -> None:
        self._news = False
        told = in_short.line(
            len(self._roster),
            len(self._ledger.open),
            away=None if self._doubt.connected else self._why_away,
            store=self._ports.store.health(),
            of_host=self._ledger.of_host.told(),
        )
        self._ports.tell(told)

    def _reconsider(self, now: float) -> None:
        """What was withheld or put off, and whether this host is suspect."""
        self._look_around(now)
        for which in self._ledger.to_verify(now):
            instance = self._roster.get(which)
            if instance is not None:
                self._handle(instance, ev.Verify(), now)
        for entry in self._ledger.reconsider(self._watched, now, self._wall()):
            self._note(entry)
            instance = self._roster.get(str(entry.fault.instance_uuid))
            if entry.change is Change.CLEARED and instance is not None:
                self._remember_state(instance)

    def _see_crowd(self, instance: Instance) -> None:
        """Its state has changed. A few suspects are no crowd, however often they come and go."""
        if instance.monitor.state in (State.MISSING, State.SILENT):
            self._suspects.add(instance.uuid)
            self._crowd_changed = len(self._suspects) >= self._settings.verdict.brake_count
        else:
            self._suspects.discard(instance.uuid)

    def _look_around(self, now: float) -> None:
        """How all instances are: costs some microseconds for each."""
        self._crowd_changed = False
        members = self._contained.each(
            self._roster, "a look around", lambda one: one.monitor.as_member(one.view.who.project_id)
        )
        self._caution.look(list(members), self._doubt.at_bound(now), now)

    def _watched(self, which: str) -> Monitor | None:
        instance = self._roster.get(which)
        return None if instance is None else instance.monitor

    def _remind(self, now: float) -> None:
        for entry in self._ledger.remind(now, self._wall(), self._is_gone, self._stands):
            self._changes.fault(entry)

    def _is_gone(self, which: str) -> bool:
        instance = self._roster.get(which)
        return instance is None or instance.monitor.state is State.GONE

    def _stands(self, which: str) -> bool:
        instance = self._roster.get(which)
        return instance is not None and instance.monitor.stands

    def _take(self, report: Any, now: float) -> None:
        """One report. A fault of ours costs this report, not the worker."""
        try:
            _REPORTS[type(report)](self, report, now)
        except Exception:
            self._contained.report(report, now)

    # -- domains -------------------------------------------------------------------------------------------------

    def _on_up(self, report: ev.HypervisorUp, now: float) -> None:
        self._doubt.up(now)
        self._news = True
        LOG.info("libvirt is here, with %d domains", len(report.domains))
        for instance in self._roster:
            instance.port_told_at = -math.inf  # by somebody who was away since
        for seen in report.domains:
            self._take(seen, now)
        here = {seen.uuid for seen in report.domains}

        def meet(instance: Instance) -> None:
            if instance.uuid not in here:
                self._take(ev.DomainForgotten(instance.uuid), now)
            self._handle(instance, just_connected(instance.monitor.policy, now), now)

        self._contained.all(self._roster, "a new connection to libvirt", meet)

    def _on_down(self, report: ev.HypervisorDown, now: float) -> None:
        self._doubt.down()
        self._why_away, self._news = report.reason, True
        LOG.warning("libvirt is away, no instance is judged: %s", report.reason)
        for instance in self._roster:
            self._handle(instance, AWAY, now)

    def _on_heard(self, report: ev.HypervisorHeard, now: float) -> None:
        doubted = self._doubt.answered(report.asked_at)
        if doubted is not None:
            self._void(doubted, now)

    def _on_counted(self, report: Counted, now: float) -> None:
        self._doubt.clock(self._wall().timestamp(), self._ports.clock.monotonic())
        was, strain = self._doubt.host(now), self._doubt.counted(report)
        if bool(was.why) is not bool(strain.why):
            how = f"is under pressure: {strain.why}" if strain.why else "is not under pressure any more"
            LOG.warning("the host %s", how)

    def _on_seen(self, seen: ev.DomainSeen, now: float) -> None:
        self._news = True
        wall = self._wall()
        reading = self._roster.read(seen)
        result = self._roster.see(seen, reading, standing_of(self._ledger.open.get(seen.uuid), wall), now, wall)
        if isinstance(result, Unwatched):
            self._unwatched(result, now)
        else:
            self._sighted(result, now, wall)
        if reading.view is not None:
            self._provisioner.seen(seen, reading.view, reading.parsed.policy, now)

    def _sighted(self, sighting: Sighting, now: float, wall: datetime) -> None:
        instance, monitor, ports = sighting.instance, sighting.instance.monitor, sighting.instance.view.ports
        events = reconcile.rescue_events(instance.view.rescued, reconcile.RESCUED.key in monitor.silences)
        events += sighting.events
        if sighting.met:
            self._periods.put_back(instance.uuid)
            events += self._desk.silences(instance.uuid, now, wall)
        monitor.balloon_period = self._periods.of(instance.uuid, instance.view.balloon_period)
        monitor.system.of_domain = instance.view.system
        monitor.has_other_channel(reconcile.has_witness(monitor.policy.channel, ports))
        if sighting.fresh:
            self._changes.instance(instance.row(now, wall))
        channel = monitor.policy.channel
        for event in events:
            self._handle(instance, event, now)
        if monitor.policy.channel is not channel:  # nor is one kept open that answers on a channel nobody asks any more
            unmonitored = Resolution.UNMONITORED
            self._note(self._ledger.acquit(instance.uuid, unmonitored, now=now, wall=wall, gone=True))
        told_ago = now - instance.port_told_at
        for event in reconcile.port_events(monitor.policy.channel, ports, monitor.port_open, told_ago):
            self._handle(instance, event, now)
        action, observe_only = monitor.policy.action, self._settings.verdict.observe_only
        self._note(self._ledger.recommend_still(instance.uuid, action, observe_only, now=now, wall=wall))
        self._handle(instance, self._time_passes(now), now)
        self._connect(instance)

    def _connect(self, instance: Instance) -> None:
        """Be connected to its application channel, as long as it runs and is to acknowledge there."""
        monitor = instance.monitor
        path = reconcile.socket_of(monitor.state, monitor.policy.channel, instance.view.ports)
        if path is None:
            self._channels.forget(instance.uuid)
        else:
            self._channels.connect(instance.uuid, path, 1.0 / monitor.in_force.interval)

    def _unwatched(self, gone: Unwatched, now: float) -> None:
        if gone.known or gone.uuid in self._ledger.open:
            self._forget(gone, Resolution.UNMONITORED, now)
            self._periods.put_back(gone.uuid)

    def _on_forgotten(self, report: ev.DomainForgotten, now: float) -> None:
        self._provisioner.forgotten(report.uuid)
        instance = self._roster.undefined(report.uuid, now)
        if instance is not None:
            for event in reconcile.undefined_events(instance.monitor.state):
                self._handle(instance, event, now)

    def _on_provisioned(self, report: ev.Provisioned, now: float) -> None:
        self._provisioner.ended(report, now)

    def _forget(self, gone: Unwatched, resolution: Resolution, now: float) -> None:
        """Nothing need be known of it any more, but the balloon's period where it is to be put back."""
        wall, instance = self._wall(), gone.instance
        self._requests.forget(gone.uuid)
        self._channels.forget(gone.uuid)
        self._note(self._ledger.acquit(gone.uuid, resolution, now=now, wall=wall, gone=True))
        self._changes.forget(gone.uuid)
        self._suspects.discard(gone.uuid)
        if instance is not None:
            instance.due = math.inf
            LOG.info("instance %s: no longer monitored: %s", instance.label, gone.why)
            self._changes.heartbeat(instance.view.who, instance.monitor.policy.channel, wall, ended=gone.why)

    # -- events and effects --------------------------------------------------------------------------------------

    def _on_happened(self, report: ev.Happened, now: float) -> None:
        event = report.event
        if type(event) is ev.Looked:
            self._periods.looked(report.uuid, event)
        instance = self._roster.get(report.uuid)
        if instance is None:
            return
        if reconcile.begins_another_life(event, instance.monitor.state):
            instance.boot = None
        if type(event) is ev.PortChanged:
            instance.port_told_at = now
        self._handle(instance, event, now)

    def _on_request_ended(self, report: ev.AskEnded | ev.CommandEnded, now: float) -> None:
        instance = self._roster.get(report.uuid)
        if instance is None:
            self._requests.ended(report, None)
            return
        if isinstance(report, ev.AskEnded) and report.failure is not None:
            LOG.debug("instance %s: %s: %s", report.uuid, report.failure.value, report.detail)
        for event in self._requests.ended(report, instance.monitor.policy):
            self._handle(instance, event, now)

    def _handle(self, instance: Instance, event: ev.Event, now: float, floor: float = 0.0) -> None:
        """Hand an event to an instance's monitor, carry out the effects, and see when it is due again.

        Never raises: a fault of ours in what concerns one instance costs that event of its, and nobody else anything.
        """
        try:
            self._hand(instance, event, now, floor)
        except Exception:
            self._mishap(instance, event)
            for effect in instance.monitor.decided():  # before it failed: that stands
                self._carry_out(instance, effect, now)
            instead = instead_of(event)
            if instead is not None:
                self._handle(instance, instead, now, floor)
            self._schedule(instance, now + TRY_AGAIN)

    def _hand(self, instance: Instance, event: ev.Event, now: float, floor: float) -> None:
        monitor = instance.monitor
        before, hushed = monitor.state, monitor.silences.keys()
        for effect in monitor.handle(event, now):
            self._carry_out(instance, effect, now)
        if monitor.state is not before:
            self._see_crowd(instance)
            instance.say(LOG, logging.INFO, f"{before.value} -> {monitor.state.value}", now)
            if monitor.state is State.GONE:
                self._channels.forget(instance.uuid)
        if hushed or monitor.silences.on:
            _log_silences(instance, hushed, now)
        if instance.unwritten and not monitor.probing:
            self._write_state(instance)
        self._schedule(instance, max(monitor.deadline(), floor))

    def _schedule(self, instance: Instance, at: float) -> None:
        if at != instance.due:
            instance.due = at
            if at < math.inf:
                heapq.heappush(self._due, (at, self._number(), instance))

    def _mishap(self, instance: Instance, what: ev.Event | ev.Effect) -> None:
        self._contained.of(instance, what)

    def _mishap_of(self, which: str, _error: Exception) -> None:
        """Of a fault: its instance's, where that is here."""
        instance = self._roster.get(which)
        if instance is None:
            self._contained.report(f"what is known of {which}", self._ports.clock.monotonic())
        else:
            self._contained.of(instance, "its fault")

    def _carry_out(self, instance: Instance, effect: ev.Effect, now: float) -> None:
        try:
            _EFFECTS[type(effect)](self, instance, effect, now)
        except Exception:  # those that come after it are no worse for it
            self._mishap(instance, effect)

    def _say(self, instance: Instance, effect: ev.Say, now: float) -> None:
        self._channels.send(instance.uuid, effect.message)

    def _withdraw(self, instance: Instance, effect: ev.Withdraw, now: float) -> None:
        for event in self._requests.withdraw(instance.monitor.uuid, instance.monitor.policy):
            self._handle(instance, event, now)

    def _give_way(self, instance: Instance, effect: ev.GiveWay, now: float) -> None:
        self._requests.give_way(instance.monitor.uuid)

    def _go_first(self, instance: Instance, effect: ev.GoFirst, now: float) -> None:
        self._requests.prefer(instance.monitor.uuid)

    def _agent_command(self, instance: Instance, effect: ev.AgentCommand, now: float) -> None:
        for event in self._requests.command(instance.monitor.uuid, effect, instance.monitor.policy):
            self._handle(instance, event, now)

    def _remark(self, instance: Instance, effect: ev.Remark, now: float) -> None:
        instance.say(LOG, logging.WARNING, effect.text, now)

    def _ask_other(self, instance: Instance, effect: ev.AskOther, now: float) -> None:
        for event in self._requests.ask_other(instance.monitor.uuid, effect, instance.monitor.policy):
            self._handle(instance, event, now)

    def _look(self, instance: Instance, effect: ev.LookAt, now: float) -> None:
        self._periods.look(instance.uuid, effect.look, instance.monitor.balloon_period)

    def _clear_fault(self, instance: Instance, effect: ev.ClearFault, now: float) -> None:
        well = instance.monitor.well(self._caution.acks, now)
        resolution = Resolution(effect.resolution)
        self._note(self._ledger.acquit(instance.uuid, resolution, now=now, wall=self._wall(), well=well))
        crashpoint.reach("verdict.acquitted")
        self._write_state(instance)

    def _established(self, instance: Instance, effect: ev.Established, now: float) -> None:
        if effect.first:
            self._heartbeat(instance)
        self._write_state(instance)

    def _ended(self, instance: Instance, effect: ev.Ended, now: float) -> None:
        instance.say(LOG, logging.WARNING, f"it need not answer: {effect.reason}", now)
        self._heartbeat(instance, effect.reason)

    def _returned(self, instance: Instance, effect: ev.Returned, now: float) -> None:
        self._heartbeat(instance)

    def _read_again(self, instance: Instance, effect: ev.ReadAgain, now: float) -> None:
        self._ports.hypervisor.describe(instance.uuid)

    def _remember(self, instance: Instance, effect: ev.Remember, now: float) -> None:
        self._changes.instance(instance.row(now, self._wall()))

    def _heartbeat(self, instance: Instance, ended: str | None = None) -> None:
        """Tell that its monitoring began, or that it ended, and why."""
        self._changes.heartbeat(instance.view.who, instance.monitor.policy.channel, self._wall(), ended=ended)

    def _raise_fault(self, instance: Instance, effect: ev.RaiseFault, now: float) -> None:
        wall, policy = self._wall(), instance.monitor.in_force
        self._look_around(now)  # before anybody is recovered
        found = finding(effect, self._settings.verdict.observe_only, now, wall)
        self._note(self._ledger.accuse(instance.view.who, policy, found, now=now, wall=wall))
        crashpoint.reach("verdict.accused")
        self._write_state(instance)

    def _ask(self, instance: Instance, effect: ev.Ask, now: float) -> None:
        for event in self._requests.ask(instance.monitor.uuid, effect, instance.monitor.policy):
            self._handle(instance, event, now)

    def _admit(self, now: float) -> None:
        for request in self._requests.admit(now):
            try:
                self._start(request, now)
            except Exception as error:  # the places of the others, and its own, are theirs all the same
                LOG.exception("instance %s: its agent could not be asked, a fault of ours", request.uuid)
                self._on_request_ended(not_started(request, str(error)), now)
        for which in self._requests.crowded(now):
            instance = self._roster.get(which)
            if instance is not None:
                self._handle(instance, ev.NoPlace(), now)

    def _start(self, request: Request, now: float) -> None:
        if request.command is not None:
            self._ports.agent.run(request.uuid, request.nonce, request.command, request.libvirt_timeout)
            return
        instance = self._roster.get(request.uuid)
        if instance is not None:
            self._handle(instance, ev.Asked(), now)
        self._ports.agent.ask(request.uuid, request.nonce, request.libvirt_timeout)

    def _write_state(self, instance: Instance) -> None:
        """What travels with a migration; once per change. Not while a probe needs the domain to itself: right after."""
        instance.unwritten = instance.monitor.probing
        if instance.unwritten or instance.monitor.state is State.GONE:
            return
        fault = self._ledger.open.get(instance.uuid)
        state = Travelled(instance.monitor.established, fault.fault_id if fault else None)
        if state != instance.written:
            instance.written = state
            element = domain_xml.state_element(state.established, state.fault_id)
            self._ports.hypervisor.write_state(instance.uuid, element)

    def _remember_state(self, instance: Instance) -> None:
        try:
            self._write_state(instance)
        except Exception:  # the others' is written all the same
            self._mishap(instance, ev.Remember())

    def _note(self, entry: Entry | None) -> None:
        """A change of a fault: for the store, and for whoever reads the log."""
        if entry is None:
            return
        self._changes.fault(entry)
        self._news = True
        LOG.log(logging.INFO if entry.change is Change.CLEARED else logging.WARNING, "%s", in_words(entry))

    def _on_decided(self, report: _Decided, now: float) -> None:
        self._settings = report.settings
        self._caution.limit(_limits(report.settings))
        self._crowd_changed = True  # looked at by these numbers

    def _on_period_stored(self, report: _PeriodStored, now: float) -> None:
        if report.uuid in self._roster:
            self._periods.stored(report.uuid, report.look)
        else:  # no longer monitored: then it is not changed at all
            self._periods.forget(report.uuid)

    # -- now and then --------------------------------------------------------------------------------------------

    def _tidy(self, now: float) -> None:
        """Parts that have nothing to do with each other: one that fails costs no other."""
        self._try("hints", lambda _now: self._desk.tidy(self._wall()), now)
        if not self._doubt.connected:
            return
        self._try("limits", self._caution.tidy, now)
        self._try("provisioning", self._provisioner.tidy, now)
        self._try("forgetting", self._forget_overdue, now)
        self._contained.all(self._roster, "loose ends", lambda one: self._tie_up(one, now))
        self._try("balloon periods", self._put_back_orphaned, now)

    def _forget_overdue(self, now: float) -> None:
        for gone in self._roster.overdue([*self._ledger.open, *self._periods], now):
            try:
                self._forget(gone, Resolution.DELETED, now)
                self._periods.forget(gone.uuid)
            except Exception:
                self._contained.report(gone, now)

    def _tie_up(self, instance: Instance, now: float) -> None:
        self._remember_state(instance)
        instance.catch_up(LOG, now)
        if instance.monitor.unsettled and now >= instance.read_again_at:
            self._ports.hypervisor.describe(instance.uuid)

    def _put_back_orphaned(self, now: float) -> None:
        for which in list(self._periods):
            probed = self._roster.get(which)
            if probed is None or not (probed.monitor.probing or probed.monitor.state is State.GONE):
                self._periods.put_back(which)

    def _say_alive(self, now: float) -> None:
        wall = self._wall()
        self._signs += 1
        health = self._ports.store.health()
        degraded = [] if self._doubt.connected else [f"libvirt is away: {self._why_away}"]
        if health.get("degraded"):
            degraded.append(str(health["degraded"]))
        if health.get("set_aside"):
            degraded.append(f"{health['set_aside']} rows of the store could not be used and are set aside: see the log")
        degraded += self._ledger.of_host.told()
        if self._contained.untaken:
            degraded.append(f"{self._contained.untaken} reports could not be taken, a fault of ours: see the log")
        refused = sorted(self._roster.refused.items())
        degraded += list(filter(None, map(self._unreachable, self._roster)))[:20]
        degraded += [f"instance {which} is not monitored: {why}" for which, why in refused][:20]
        degraded += [
            f"instance {one.uuid}: {one.mishaps} of its events could not be handled, a fault of ours: see the log"
            for one in self._roster
            if one.mishaps
        ][:20]
        self._changes.alive(
            SignOfLife(
                host=self._settings.host,
                version=self._ports.version,
                started_at=self._started_at,
                occurred_at=wall,
                sequence=self._signs,
                interval=ALIVE_INTERVAL,
                instances=len(self._roster),
                monitors=in_short.counts(
                    self._contained.each(self._roster, "its state", lambda one: one.monitor.state)
                ),
                open_faults=len(self._ledger.open),
                hypervisor_connected=self._doubt.connected,
                store=health,
                degraded=degraded,
                pressure=self._doubt.host(now).told(now),
            )
        )

    def _unreachable(self, instance: Instance) -> str:
        try:
            why = instance.monitor.unreachable
        except Exception:  # a sign of life tells of all the others
            self._mishap(instance, ev.Remember())
            return ""
        return f"instance {instance.uuid}'s application channel cannot be reached: {why}" if why else ""

    # -- questions -----------------------------------------------------------------------------------------------

    def _on_call(self, call: _Call, now: float) -> None:
        if not call.answer.set_running_or_notify_cancel():
            return
        try:
            call.answer.set_result(self._desk.answer(call.question, now, self._wall()))
        except Exception as error:
            call.answer.set_exception(error)

    def _wall(self) -> datetime:
        return self._ports.clock.wall()


def _limits(settings: Settings) -> Limits:
    verdict = settings.verdict
    return Limits(verdict.brake_ratio, verdict.brake_count, verdict.recoveries, verdict.recovery_window)


def _log_silences(instance: Instance, before: frozenset[str], now: float) -> None:
    told = instance.monitor.silences.told()
    for key in before - told.keys():
        instance.say(LOG, logging.INFO, f"silence ended ({key})", now)
    for key in told.keys() - before:
        instance.say(LOG, logging.INFO, f"silence: {told[key]}", now)


_EFFECTS: dict[type[Any], Callable[[Engine, Instance, Any, float], None]] = {
    ev.Ask: Engine._ask,
    ev.Withdraw: Engine._withdraw,
    ev.GiveWay: Engine._give_way,
    ev.GoFirst: Engine._go_first,
    ev.AskOther: Engine._ask_other,
    ev.AgentCommand: Engine._agent_command,
    ev.Remark: Engine._remark,
    ev.Say: Engine._say,
    ev.Ended: Engine._ended,
    ev.Returned: Engine._returned,
    ev.LookAt: Engine._look,
    ev.RaiseFault: Engine._raise_fault,
    ev.ClearFault: Engine._clear_fault,
    ev.Established: Engine._established,
    ev.ReadAgain: Engine._read_again,
    ev.Remember: Engine._remember,
}

_REPORTS: dict[type[Any], Callable[[Engine, Any, float], None]] = {
    ev.HypervisorUp: Engine._on_up,
    ev.HypervisorDown: Engine._on_down,
    ev.HypervisorHeard: Engine._on_heard,
    ev.DomainSeen: Engine._on_seen,
    ev.DomainForgotten: Engine._on_forgotten,
    ev.Happened: Engine._on_happened,
    ev.AskEnded: Engine._on_request_ended,
    ev.CommandEnded: Engine._on_request_ended,
    ev.Provisioned: Engine._on_provisioned,
    Counted: Engine._on_counted,
    _PeriodStored: Engine._on_period_stored,
    _Decided: Engine._on_decided,
    _Call: Engine._on_call,
}
