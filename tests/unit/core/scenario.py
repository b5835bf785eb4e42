"""A host that exists only in here: a clock that is moved, libvirt, and guests that do as they are told.

`Host` plays the engine's and the adapters' part for any number of instances: it admits challenges through the lanes,
answers looks, moves the clock from one event to the next, and writes down what came out. A test tells a guest what
happens to it, lets time pass, and reads the transcript.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from vmhb_common.model.fault import Change, Fault, Identity, Resolution
from vmhb_common.model.policy import Action, Channel, HeartbeatPolicy
from vmhb_worker.core import events as ev
from vmhb_worker.core import protocol
from vmhb_worker.core.agent_lanes import Lanes, Request
from vmhb_worker.core.agent_requests import AgentRequests
from vmhb_worker.core.ask_schedule import RESYNC_TIME
from vmhb_worker.core.caution import NONE, Caution, Limits
from vmhb_worker.core.domain_xml import Port
from vmhb_worker.core.doubt import Doubt, we_were_late
from vmhb_worker.core.evidence import Reading
from vmhb_worker.core.fault_register import Entry, Ledger
from vmhb_worker.core.findings import finding
from vmhb_worker.core.freeze import STATUS
from vmhb_worker.core.guest_system import OSINFO
from vmhb_worker.core.host_pressure import Counted
from vmhb_worker.core.instance_state import Memory, Timing
from vmhb_worker.core.main_thread import MainThread
from vmhb_worker.core.monitor import Monitor
from vmhb_worker.core.reconcile import port_events
from vmhb_worker.core.transitions import State

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
#: How long libvirt takes for anything that does not wait (seconds).
LIBVIRT = 0.005
#: How often libvirtd shows that it lives (seconds).
HEARD = 0.5
#: libvirt waits this long for an agent job that somebody else holds (seconds).
AGENT_JOB = 30.0
#: How often the host's pressure is looked at (seconds).
LOOKS = 2.0
#: How many looks that may block are out at a time, and how many about QEMUs that cannot be seen.
LOOKS_OUT, BLIND_LOOKS_OUT = 3, 2
#: QEMU's timer fires after the period; the guest's kernel takes a moment.
BALLOON_TAKES = 0.05

USUAL = Timing()
#: An instance that has never acknowledged.
NEW = Memory()
#: One that acknowledged before, and goes on.
WELL = Memory(established=True, waited=None)
#: The same, and its balloon driver is known to answer.
KNOWN = Memory(established=True, waited=None, balloon_seen=True)


#: Looks that nothing holds up.
_QUICK = ev.LookControl | ev.LookState | ev.LookProcess

#: When does who is to run at this time run? That time, or later.
Runs = Callable[[float], float]


def throttled(period: float, stalled: float, phase: float = 0.0, since: float = 0.0, until: float = math.inf) -> Runs:
    """As by a quota: in each period, stalled for so long from its beginning on; between these times."""

    def runs(at: float) -> float:
        into = (at - phase) % period
        return max(at, at + stalled - into) if since <= at < until and into < stalled else at

    return runs


def policy(**knobs: Any) -> HeartbeatPolicy:
    """As a flavor would have it; like the parser, the time-out follows the interval."""
    knobs.setdefault("timeout", min(knobs.get("interval", 10.0), 5.0))
    return HeartbeatPolicy(heartbeat=True, **knobs)


class Guest:
    """One instance: its QEMU, its kernel, its agent, and the monitor that watches it from outside."""

    def __init__(self, host: Host, uuid: str, asked: HeartbeatPolicy, memory: Memory, timing: Timing) -> None:
        self.host = host
        self.uuid = uuid
        self.monitor = Monitor(uuid, asked, timing, memory, host.now, lambda: f"nonce-{host.number()}")
        self.monitor.balloon_period = 10
        self.rtt: float | None = 0.01  # None: the agent is stopped
        self.dawdles: float | None = None  # takes this long where its request has a place of the quick, else none
        self.garbled = False
        self.given_up = False  # libvirt talks to its agent no more
        self.unconnected = False  # libvirt is not connected to it, though it holds its port open
        self.port = True
        self.busy = False  # somebody else's command holds the agent job
        self.runs = True  # its domain does
        self.paused = False
        self.job: str | None = None
        self.libvirt_says: str | None = None  # its state; None: as it is
        self.process: bool | None = True  # is QEMU's alive; None: it cannot be seen
        self.looks_fail = ""  # the names of those that libvirt refuses
        self.looks_hang = ""  # and of those that never end, though QEMU's monitor is free
        self.unseen = False  # is its QEMU's process?
        self.taken: list[tuple[float, ev.Look]] = []  # looks that may block, and were not refused: when
        self.transcript: list[str] = []
        self.raised: list[Fault] = []  # its faults, as they were raised
        self.effects: list[tuple[float, ev.Effect]] = []
        self._nonce = 0  # of the request
        self._request: tuple[float, float, int] | None = None  # started, libvirt gives up, number
        self._queued = False  # the request waits for somebody else's command
        self._unsynced = False
        self._blocked: tuple[ev.Look, float] | None = None
        self._stopped_since: float | None = None  # QEMU's process
        self._kernel_updated = 0
        self._period = 10
        self._period_since = host.now
        self._kernel_until = math.inf
        self.application = Application(self)
        self.project = "project"
        self.balloon_until = math.inf  # when its balloon's driver leaves, or its service is stopped
        self.does: Callable[[float], tuple[int, int]] | None = (
            None  # vCPU time (ns) and I/O by now, instead of the usual
        )
        self.delayed: float | None = None  # the share of the time that its vCPU waits for a processor
        self.throttled: float | None = None  # … since a quota of its own holds it back
        self.runs_on = False  # its vCPUs do, while its QEMU does not answer
        self.frozen = False  # its file systems
        self.most_skipped = 0  # beats in a row that were nobody's to miss
        self.osinfo: dict[str, str] | None = None  # None: its agent does not say
        self.check: Any = {"exited": True, "exitcode": 0}  # what is told of its health check; a text: the refusal

    # -- what happens to it --------------------------------------------------------------------------------------

    def agent_stops(self) -> None:
        """SIGSTOP: the port stays open, nobody reads it."""
        self._change(rtt=None)

    def agent_goes_on(self, rtt: float = 0.01) -> None:
        """SIGCONT: whatever waited is answered."""
        self._change(rtt=rtt)

    def agent_exits(self) -> None:
        """The guest closes the port that it is judged by."""
        self._change(port=False)
        self.happens(ev.PortChanged(False, self.monitor.policy.channel))

    def agent_starts(self, rtt: float | None = 0.01) -> None:
        """Somebody opens the port, and answers or not."""
        self._change(port=True, rtt=rtt)
        self.happens(ev.PortChanged(True, self.monitor.policy.channel))

    def kernel_dies(self, told: bool = False) -> None:
        """Panic; `told`: its panic device says so."""
        self._kernel_until = self.host.now
        self._change(rtt=None)
        if told:
            self.happens(ev.Panicked())

    def kernel_boots(self) -> None:
        """Another, in its place, without a word to QEMU (kexec); or it goes on after all."""
        self._kernel_until, self.does = math.inf, None
        self._period_since = self.host.now

    def qemu_stops(self) -> None:
        """SIGSTOP to QEMU: nothing in the guest runs, and its monitor answers nobody."""
        self._stopped_since = self.host.now
        self._kernel_until = min(self._kernel_until, self.host.now)
        self._change(rtt=None)

    def qemu_goes_on(self, rtt: float | None = 0.01) -> None:
        """SIGCONT: looks that waited are answered."""
        self._stopped_since = None
        self._kernel_until = math.inf
        self._period_since = self.host.now
        self._change(rtt=rtt)
        if self._blocked is not None:
            look, _ = self._blocked
            self.host.later(LIBVIRT, lambda: self._answer(look))

    def qemu_dies(self) -> None:
        """kill -9."""
        self._stop()
        self.happens(ev.Stopped(ev.Exit.FAILED, "failed"))

    def qemu_ends(self) -> None:
        """Its process does, of whatever; libvirt has not said so yet."""
        self._stop()  # whoever asks its agent is told that nobody is there
        self.process = False
        self.happens(ev.QemuEnded())

    def is_destroyed(self) -> None:
        """On purpose."""
        self._stop()
        self.happens(ev.Stopped(ev.Exit.INTENT, "destroyed"))

    def is_saved(self) -> None:
        """Its memory goes into a file."""
        self.is_paused()
        self._stop()
        self.happens(ev.Stopped(ev.Exit.INTENT, "saved"))

    def is_restored(self, rtt: float | None = 0.01, paused: bool = False) -> None:
        """From that file; `paused`: it runs from `is_resumed` on."""
        self._kernel_until = self.host.now if paused else math.inf
        self._period_since = self.host.now
        self._change(runs=True, paused=paused, rtt=rtt)
        self.happens(ev.Restored())
        if paused:
            self.happens(ev.Paused("restored, not yet running"))

    def is_migrated_away(self) -> None:
        """It goes on elsewhere."""
        self._stop()
        self.happens(ev.Stopped(ev.Exit.MOVED, "migrated"))

    def boots(self, after: float, rtt: float | None = 0.01, port: bool = True) -> None:
        """Reset or started; its agent is up `after` seconds."""
        self._kernel_until = math.inf
        self._period_since = self.host.now
        self._change(runs=True, port=False, rtt=None, paused=False)
        self.happens(ev.Booted())
        self.happens(ev.PortChanged(False, self.monitor.policy.channel))
        if port:
            self.host.later(after, lambda: self.agent_starts(rtt))

    def is_paused(self) -> None:
        """By a user."""
        self._kernel_until = min(self._kernel_until, self.host.now)
        self._change(paused=True)
        self.happens(ev.Paused("paused"))

    def is_resumed(self) -> None:
        """Its vCPUs run again."""
        if self.paused:
            self._kernel_until = math.inf
            self._period_since = self.host.now
        self._change(paused=False)
        self.happens(ev.Resumed())

    def gets_stuck(self, event: ev.Event) -> None:
        """QEMU pauses it, because it cannot go on."""
        self._change(paused=True)
        self.happens(event)

    def happens(self, event: ev.Event) -> None:
        """Its monitor hears of something."""
        self.host.hand(self, event)

    def is_read(self) -> None:
        """Its domain is described anew, and its live XML tells of its port."""
        channel = self.monitor.policy.channel
        ports = {channel: Port(None, self.port if self.runs else None, None)}
        self.host.give(self, port_events(channel, ports, self.monitor.port_open))

    # -- what came out -------------------------------------------------------------------------------------------

    def run(self, until: float) -> list[str]:
        """Let time pass; what was written down meanwhile."""
        seen = len(self.transcript)
        self.host.run(until)
        return self.transcript[seen:]

    def asks(self) -> list[ev.Ask]:
        """Its challenges, in order."""
        return [effect for _, effect in self.effects if isinstance(effect, ev.Ask)]

    def looks(self) -> list[ev.Look]:
        """What the host was asked about it, in order."""
        return [effect.look for _, effect in self.effects if isinstance(effect, ev.LookAt)]

    @property
    def fault(self) -> Fault | None:
        return self.host.ledger.open.get(self.uuid)

    @property
    def period(self) -> int:
        """Its balloon's statistics period as it is now."""
        return self._period

    # -- libvirt's part ------------------------------------------------------------------------------------------

    def start(self, request: Request) -> None:
        """A challenge of ours leaves."""
        host = self.host
        if self.dawdles is not None:
            self.rtt = self.dawdles if request.pace is ev.Pace.QUICK else 0.01
        self._nonce = request.nonce
        give_up = RESYNC_TIME if self._unsynced else request.libvirt_timeout
        self._request = (host.now, host.now + give_up, host.number())
        self._queued = self.busy
        self._settle()

    def _settle(self) -> None:
        """When and how the request ends, as things are now."""
        if self._request is None:
            return
        host = self.host
        started, give_up, _ = self._request
        number = host.number()
        if self._queued and not self.busy:  # its own time-out begins now
            self._queued = False
            give_up += host.now - started
        self._request = (started, give_up, number)
        ends: tuple[ev.Failure, str] | None = None
        if not host.libvirtd:
            return
        if not self.runs or self.paused:
            at, ends = host.now + LIBVIRT, (ev.Failure.UNREACHABLE, "domain is not running")
        elif not self.port or self.unconnected:
            at, ends = host.now + LIBVIRT, (ev.Failure.UNCONNECTED, "not connected")
        elif self._queued:
            at, ends = started + AGENT_JOB, (ev.Failure.BUSY, "cannot acquire state change lock")
        elif self.given_up:
            at, ends = host.now + LIBVIRT, (ev.Failure.GIVEN_UP, "not available due to an error")
        elif self.garbled:
            at, ends = host.now + LIBVIRT, (ev.Failure.GARBLED, "not JSON")
        elif self.rtt is not None and max(host.now, started) + self.rtt <= give_up:
            at = max(host.now, started) + self.rtt
        else:
            at, ends = max(give_up, host.now), (ev.Failure.NO_ANSWER, "timed out")
        host.at(at, lambda: self._end(number, ends))

    def _end(self, number: int, ends: tuple[ev.Failure, str] | None) -> None:
        if self._request is None or self._request[2] != number:
            return
        started, self._request = self._request[0], None
        self._unsynced = ends is not None and ends[0] is ev.Failure.NO_ANSWER
        self._ended(ev.AskEnded(self.uuid, self._nonce, self.host.now - started, *(ends or ())))

    def runs_check(self, request: Request) -> None:
        """Its agent is given a step of the health check."""
        if self.rtt is None:
            replied = ev.AgentReplied(None, ev.Failure.NO_ANSWER, "timed out")
        elif request.command == OSINFO:
            refused = ev.AgentReplied(None, ev.Failure.GARBLED, "The command guest-get-osinfo has not been found")
            replied = refused if self.osinfo is None else ev.AgentReplied(json.dumps({"return": self.osinfo}))
        elif request.command == STATUS:
            replied = ev.AgentReplied(json.dumps({"return": "frozen" if self.frozen else "thawed"}))
        elif self.frozen:
            why = "Command guest-exec has been disabled: the agent is in frozen state"
            replied = ev.AgentReplied(None, ev.Failure.GARBLED, why)
        elif isinstance(self.check, str):
            replied = ev.AgentReplied(None, ev.Failure.GARBLED, self.check)
        elif json.loads(str(request.command))["execute"] == "guest-exec":
            replied = ev.AgentReplied(json.dumps({"return": {"pid": 7}}))
        else:
            replied = ev.AgentReplied(json.dumps({"return": self.check}))
        self._ended(ev.CommandEnded(self.uuid, request.nonce, replied))

    def _ended(self, report: ev.AskEnded | ev.CommandEnded) -> None:
        self.host.give(self, self.host.requests.ended(report, self.monitor.policy))

    def look(self, look: ev.Look) -> None:
        """A look of ours."""
        if isinstance(look, _QUICK):
            self.host.later(LIBVIRT, lambda: self._answer(look))
        elif (refused := self._refused()) is not None:
            self.host.later(LIBVIRT, lambda: self.happens(ev.Looked(look, refused)))
        else:
            self.taken.append((self.host.now, look))
            self._blocked = (look, self.host.now)
            self.host.later(LIBVIRT, lambda: self._answer(look))

    def _refused(self) -> ev.Refused | None:
        """As the adapter would. A look that may block has one of few places, and of fewer where QEMU is not seen."""
        if self._stopped_since is not None and not (self.unseen or self.runs_on):
            return ev.Refused("QEMU stands still", stands_still=True)
        if self._blocked is not None:
            return ev.Refused("an earlier one waits")
        out = [guest for guest in self.host.guests.values() if guest._blocked is not None]
        if len(out) >= LOOKS_OUT or (self.unseen and sum(guest.unseen for guest in out) >= BLIND_LOOKS_OUT):
            return ev.Refused("no free place")
        return None

    def _answer(self, look: ev.Look) -> None:
        answer = self._answer_to(look)
        if answer is None:
            return
        if not isinstance(look, _QUICK):
            self._blocked = None
        self.happens(ev.Looked(look, answer))

    def _answer_to(self, look: ev.Look) -> ev.Answer | None:
        """None: it waits for QEMU."""
        if type(look).__name__ in self.looks_fail:
            return ev.Unavailable("it does not work")
        if self.process is False and not isinstance(look, _QUICK):
            return ev.Unavailable("its QEMU has ended")
        if isinstance(look, ev.LookControl):
            occupied = self._blocked is not None and self._stopped_since is not None
            return ev.Control("occupied", self.host.now - self._blocked_since()) if occupied else ev.Control("ok", 0.0)
        if isinstance(look, ev.LookState):
            says = self.libvirt_says or ("paused" if self.paused else "running")
            return ev.State(says, "booted", self.process)
        if isinstance(look, ev.LookProcess):
            return self._process()
        waits = self._stopped_since is not None or type(look).__name__ in self.looks_hang
        return None if waits else self._answer_of_qemu(look)

    def _process(self) -> ev.Answer:
        """An idle main thread sleeps twenty times a second; one that is blocked, though its guest runs on, does not."""
        if self.unseen:
            return ev.Unavailable("QEMU's process cannot be seen from here")
        if self._stopped_since is None:
            return ev.Process(self.host.now, MainThread("S", int(self.host.now * 20), "do_sys_poll"))
        cpu = self.host.now if self.runs_on else self._stopped_since
        return ev.Process(cpu, MainThread("D" if self.runs_on else "T", int(self._stopped_since * 20) + 1))

    def _answer_of_qemu(self, look: ev.LookJob | ev.LookVitals | ev.SetBalloonPeriod) -> ev.Answer:
        if isinstance(look, ev.LookJob):
            return ev.Job(self.job)
        if isinstance(look, ev.LookVitals):
            return self._vitals()
        self._kernel_updated = self._balloon_updated()
        self._period, self._period_since = look.seconds, self.host.now
        return ev.PeriodSet()

    def _vitals(self) -> ev.Vitals:
        lived = min(self.host.now, self._kernel_until) if self.does is None else 0.0
        ran, requests = (int(lived * 1e8), int(lived * 10)) if self.does is None else self.does(self.host.now)
        delayed = None if self.delayed is None else int(self.delayed * self.host.now * 1e9)
        vcpus = (ev.Vcpu(ran, delayed),)
        throttled = "not told" if self.throttled is None else self.throttled * self.host.now
        return ev.Vitals(self._balloon_updated(), ran, requests, vcpus, self.host.wall(self.host.now), throttled)

    def _blocked_since(self) -> float:
        assert self._blocked is not None
        assert self._stopped_since is not None
        return max(self._blocked[1], self._stopped_since)

    def _balloon_updated(self) -> int:
        """When its kernel last reported."""
        if not self._period:
            return self._kernel_updated
        lived = min(self.host.now, self._kernel_until, self.balloon_until) - self._period_since - BALLOON_TAKES
        reports = math.floor(lived / self._period)
        if reports <= 0:
            return self._kernel_updated
        return int(self.host.wall(self._period_since + reports * self._period))

    def _change(self, **what: Any) -> None:
        changed = any(getattr(self, name) != value for name, value in what.items())
        for name, value in what.items():
            setattr(self, name, value)
        if changed:
            self._settle()

    def _stop(self) -> None:
        self._kernel_until = min(self._kernel_until, self.host.now)
        self._stopped_since = None
        self._change(runs=False, paused=False)


def told(guest: Guest) -> list[str]:
    """Its transcript without the times."""
    return [line.split(" ", 1)[1] for line in guest.transcript]


def spins(now: float) -> tuple[int, int]:
    """vCPU time (ns) and I/O of a kernel that loops for ever: see `Guest.does`."""
    return int(now * 1e9), 0


class Application:
    """What speaks for a guest through its application channel. `heard`: what it was told, challenges included."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self.rtt: float | None = 0.005  # None: it hangs, and what it is told waits for it
        self.health: protocol.Health | None = None
        self.heard: list[protocol.Message] = []
        self.runs: Runs = lambda at: at
        self._waiting: list[protocol.Challenge] = []

    def hear(self, message: protocol.Message) -> None:
        """The worker says this."""
        self.heard.append(message)
        if isinstance(message, protocol.Challenge):
            self._waiting.append(message)
            if self.rtt is not None:
                self._guest.host.at(self.runs(self._guest.host.now + self.rtt), lambda: self._answer(message))

    def says(self, message: protocol.Message) -> None:
        """The worker hears this."""
        self._guest.happens(ev.Said(message))

    def hangs(self) -> None:
        """SIGSTOP: it answers nothing, also not what is on its way to it."""
        self.rtt = None

    def goes_on(self, rtt: float = 0.005) -> None:
        """It answers all that waited, the oldest first."""
        self.rtt = rtt
        self._guest.host.later(rtt, self._answer_all)

    def challenges(self) -> list[protocol.Challenge]:
        """All that came, in order."""
        return [message for message in self.heard if isinstance(message, protocol.Challenge)]

    def errors(self) -> list[protocol.Error]:
        """What it was told off for."""
        return [message for message in self.heard if isinstance(message, protocol.Error)]

    def _answer_all(self) -> None:
        for asked in list(self._waiting):
            self._answer(asked)

    def _answer(self, asked: protocol.Challenge) -> None:
        if self.rtt is not None and asked in self._waiting:
            self._waiting.remove(asked)
            self.says(protocol.Ack(asked.seq, asked.nonce, self.health if asked.health else None))


class Host:
    """The clock, libvirtd, the lanes, the book of faults, and all guests."""

    def __init__(self, workers: int = 4, slow_workers: int = 4, at: float = 0.0, limits: Limits = NONE) -> None:
        """limits: by default, nothing is withheld: verdicts are looked at."""
        self.now = at
        self.lanes = Lanes(workers, slow_workers)
        self.requests = AgentRequests(self.lanes, self.number)
        self.guests: dict[str, Guest] = {}
        self.doubt = Doubt(at)
        self.doubt.up(at)
        self.libvirtd = True
        self.runs: Runs | None = None  # when the worker does; None: whenever there is something to do
        self._clock_offs = [(-math.inf, 0.0)]  # since when, and how far the wall clock was set by then (seconds)
        self.pressed = 0.0  # the share of the time in which all waited for memory
        self._waited = 0.0
        self.most_in_flight = 0
        self.turns = 0
        self._silent_since = math.inf
        self._numbers = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._due: list[tuple[float, str]] = []
        self._due_of: dict[str, float] = {}
        self.caution = Caution(limits)
        self.ledger = Ledger("compute-1", math.inf, lambda: f"fault-{next(self._numbers)}", self.caution)
        self.transcript: list[str] = []  # of faults of the host itself
        self.doubtful: str | None = None  # why it is to be doubted as a whole
        #: When a recovery was asked for, of whom, for what, and had it answered since its last miss?
        self.recommended: list[tuple[float, Guest, str, bool | None]] = []

    def guest(self, uuid: str = "vm", memory: Memory = NEW, timing: Timing = USUAL, **knobs: Any) -> Guest:
        """A new one, healthy, and watched from now on."""
        guest = self.guests[uuid] = Guest(self, uuid, policy(**knobs), memory, timing)
        guest.happens(ev.PortChanged(True, guest.monitor.policy.channel))
        if guest.monitor.policy.channel is Channel.APPLICATION:
            guest.monitor.has_other_channel(True)
            guest.happens(ev.ChannelUp())
        return guest

    # -- the clock -----------------------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._numbers), action))

    def later(self, delay: float, action: Callable[[], None]) -> None:
        self.at(self.now + delay, action)

    def number(self) -> int:
        return next(self._numbers)

    def run(self, until: float) -> None:
        """Everything that happens up to and at this time, in order; reports before deadlines, like the engine."""
        self._admit()  # what a test's own deed has led to leaves in the same turn
        while True:
            happening = self._heap[0][0] if self._heap else math.inf
            due = min(self._due[0][0] if self._due else math.inf, self.lanes.deadline(), self.ledger.reconsider_at)
            then = max(self.now, min(happening, due))
            then = then if self.runs is None else self.runs(then)
            if then > until:
                break
            self.now = then
            self._be_late(due)
            while self._heap and self._heap[0][0] <= self.now:
                heapq.heappop(self._heap)[2]()
            self._tick()
            self._admit()
            if self.now >= self.ledger.reconsider_at:
                self._reconsider()
                self._admit()
        self.now = until

    def _be_late(self, due: float) -> None:
        """Who did not run when it meant to blames itself first."""
        late = 0.0 if self.runs is None else self.doubt.late(due, self.now)
        doubted = we_were_late(late, self.now)
        for guest in self.guests.values() if late else ():
            if doubted.concerns(guest.monitor.in_force):
                self.hand(guest, doubted.event)

    def is_looked_at(self) -> None:
        """From now on, for its pressure."""
        self._waited += LOOKS * self.pressed
        self.doubt.counted(Counted(self.now, memory=Reading(self._waited, self.now)))
        self.later(LOOKS, self.is_looked_at)

    def sets_clock(self, seconds: float) -> None:
        """Somebody sets the host's wall clock."""
        self.doubt.clock(self.wall(self.now), self.now)
        self._clock_offs.append((self.now, self._clock_offs[-1][1] + seconds))
        self.doubt.clock(self.wall(self.now), self.now)

    def wall(self, at: float) -> float:
        """What the wall clock said then (seconds)."""
        off = next(off for since, off in reversed(self._clock_offs) if since <= at)
        return START.timestamp() + at + off

    def libvirtd_stops(self) -> None:
        """SIGSTOP to libvirtd: nothing is asked, nothing is answered."""
        self.libvirtd = False
        self._silent_since = min(self._silent_since, self.now)

    def libvirtd_goes_on(self) -> None:
        """What was asked meanwhile reaches the guests now."""
        if self.libvirtd:
            return
        self.libvirtd = True
        self.doubt.heard, self._silent_since = self.heard, math.inf
        doubted = self.doubt.answered(self.now)
        for guest in self.guests.values():
            guest._settle()
            if doubted is not None and doubted.concerns(guest.monitor.policy):
                self.hand(guest, doubted.event)

    @property
    def heard(self) -> float:
        return min(self.now, self._silent_since) - HEARD / 2

    def _tick(self) -> None:
        while self._due and self._due[0][0] <= self.now:
            at, uuid = heapq.heappop(self._due)
            if self._due_of.get(uuid) != at:
                continue
            guest = self.guests[uuid]
            written = len(guest.effects)
            del self._due_of[uuid]
            self.hand(guest, ev.Tick(self.heard, self.doubt.host(self.now), self.doubt.clock_set))
            hot = self._due_of.get(uuid, math.inf) <= self.now and len(guest.effects) == written
            assert not hot, f"{uuid} is due again at once, and did nothing: {guest.monitor.told(self.now)}"

    def _admit(self) -> None:
        for request in self.requests.admit(self.now):
            guest = self.guests[request.uuid]
            if request.command is not None:
                self.later(LIBVIRT, functools.partial(guest.runs_check, request))
                continue
            self.hand(guest, ev.Asked())
            guest.start(request)
        for uuid in self.requests.crowded(self.now):
            self.hand(self.guests[uuid], ev.NoPlace())
        self.most_in_flight = max(self.most_in_flight, self.lanes.running)

    # -- the engine's part ---------------------------------------------------------------------------------------

    def hand(self, guest: Guest, event: ev.Event) -> None:
        self.turns += 1
        before = guest.monitor.state
        effects = guest.monitor.handle(event, self.now)
        guest.most_skipped = max(guest.most_skipped, guest.monitor.answers.skipped)
        for effect in effects:
            guest.effects.append((self.now, effect))
            self._carry_out(guest, effect)
        if guest.monitor.state is not before:
            self._reconsider()
        due = guest.monitor.deadline()
        if due != self._due_of.get(guest.uuid):
            self._due_of[guest.uuid] = due
            if due < math.inf:
                heapq.heappush(self._due, (due, guest.uuid))

    def give(self, guest: Guest, events: Iterable[ev.Event]) -> None:
        """Hand them over, one by one."""
        for event in events:
            self.hand(guest, event)

    def _of_agent(
        self, guest: Guest, effect: ev.Ask | ev.AskOther | ev.AgentCommand | ev.Withdraw
    ) -> Iterable[ev.Event]:
        policy = guest.monitor.policy
        match effect:
            case ev.Ask():
                return self.requests.ask(guest.uuid, effect, policy)
            case ev.AskOther():
                return self.requests.ask_other(guest.uuid, effect, policy)
            case ev.AgentCommand():
                return self.requests.command(guest.uuid, effect, policy)
            case ev.Withdraw():
                return self.requests.withdraw(guest.uuid, policy)

    def _carry_out(self, guest: Guest, effect: ev.Effect) -> None:
        wall = START + timedelta(seconds=self.now)
        match effect:
            case ev.Ask() | ev.AskOther() | ev.AgentCommand() | ev.Withdraw():
                self.give(guest, self._of_agent(guest, effect))
            case ev.GiveWay():
                self.requests.give_way(guest.uuid)
            case ev.GoFirst():
                self.requests.prefer(guest.uuid)
            case ev.LookAt(look):
                guest.look(look)
            case ev.RaiseFault():
                self._accuse(guest, effect, wall)
            case ev.ClearFault(resolution):
                accused = {*self.ledger.open, *self.ledger.of_host.starved}
                assert guest.uuid in accused, f"{guest.uuid} is acquitted of nothing"
                well = guest.monitor.well(self.caution.acks, self.now)
                how = Resolution(resolution)
                self._write(guest, self.ledger.acquit(guest.uuid, how, now=self.now, wall=wall, well=well))
            case ev.Established(first):
                guest.transcript.append(
                    f"{self.now:.2f} " + ("established" if first else "answers again after its boot")
                )
            case ev.Remember():
                pass
            case ev.ReadAgain():
                self.later(LIBVIRT, guest.is_read)
            case _:
                self._speak(guest, effect)

    def _accuse(self, guest: Guest, effect: ev.RaiseFault, wall: datetime) -> None:
        found = finding(effect, False, self.now, wall)
        policy = guest.monitor.in_force
        self._look_around()
        who = Identity(guest.uuid, project_id=guest.project)
        self._write(guest, self.ledger.accuse(who, policy, found, now=self.now, wall=wall))

    def _speak(self, guest: Guest, effect: ev.Say | ev.Remark | ev.Ended | ev.Returned) -> None:
        """What only an application causes."""
        match effect:
            case ev.Say(message):
                guest.application.hear(message)
            case ev.Remark(text):
                guest.transcript.append(f"{self.now:.2f} remark: {text}")
            case ev.Ended(reason):
                guest.transcript.append(f"{self.now:.2f} ended: {reason}")
            case ev.Returned():
                guest.transcript.append(f"{self.now:.2f} returned")

    def _look_around(self) -> None:
        self.doubt.heard = max(self.doubt.heard, self.heard)
        members = [guest.monitor.as_member(guest.project) for guest in self.guests.values()]
        self.caution.look(members, self.doubtful or self.doubt.at_bound(self.now), self.now)

    def _reconsider(self) -> None:
        self._look_around()
        for uuid in self.ledger.to_verify(self.now):
            self.hand(self.guests[uuid], ev.Verify())
        wall = START + timedelta(seconds=self.now)
        for entry in self.ledger.reconsider(lambda uuid: self.guests[uuid].monitor, self.now, wall):
            if entry.fault.instance_uuid is None:
                self.transcript.append(f"{self.now:.2f} {entry.change.name.lower()} {entry.fault.cause}")
            else:
                self._write(self.guests[entry.fault.instance_uuid], entry)

    def _write(self, guest: Guest, entry: Entry | None) -> None:
        if entry is None:
            return
        fault = entry.fault
        if entry.change is Change.RAISED:
            guest.raised.append(fault)
        what = {Change.RAISED: "raised", Change.UPDATED: "updated", Change.CLEARED: "cleared"}[entry.change]
        if entry.change is Change.CLEARED:
            told = f"{fault.cause}: {fault.resolution}"
        else:
            if fault.recommended_action == "recover":
                answered = guest.monitor.answered_since_miss
                self.recommended.append((self.now, guest, fault.cause, answered))
            told = fault.cause + (f", withheld: {fault.withheld}" if fault.withheld else "")
            told += ", recover" if fault.recommended_action == "recover" else ""
        guest.transcript.append(f"{self.now:.2f} {what} {told}")


def lone(at: float = 0.0, memory: Memory = NEW, timing: Timing = USUAL, **knobs: Any) -> Guest:
    """A guest that has a host for itself."""
    return Host(at=at).guest("vm", memory, timing, **knobs)


def settled(**knobs: Any) -> Guest:
    """A guest that has been well for a while: established, its balloon known, at 100.0. Recovery is asked for."""
    knobs.setdefault("action", Action.RECOVER)
    guest = lone(timing=knobs.pop("timing", USUAL), **knobs)
    guest.run(100.0)
    assert guest.monitor.state is State.ALIVE
    assert guest.transcript
    guest.transcript.clear()
    return guest


def changed(memory: Memory, **what: Any) -> Memory:
    """The same but for this."""
    return replace(memory, **what)
