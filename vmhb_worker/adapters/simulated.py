"""A hypervisor and its guests that exist in this process only: for the demo, for tests, and to try a configuration.

It behaves as libvirt and QEMU were measured to behave: an agent that is stopped keeps its port open and never answers;
a guest whose kernel is dead does not answer the balloon either; while QEMU is stopped, looks at it do not come back and
its monitor is occupied. Time is real time.
"""

from __future__ import annotations

import itertools
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from vmhb_common.model.policy import POLICY_NS
from vmhb_worker.core import events as ev
from vmhb_worker.core.main_thread import MainThread
from vmhb_worker.interfaces import AgentError, Post

#: What a healthy agent needs for its answer (seconds).
ANSWER_TIME = 0.003
#: As often as the real adapter's canary.
CANARY_INTERVAL = 0.25

_XML = """<domain type='simulated' id='{number}'>
  <name>instance-{number:08x}</name>
  <uuid>{uuid}</uuid>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:name>{name}</nova:name>
      <nova:flavor name="simulated"/>
      <nova:owner><nova:project uuid="{project}"/></nova:owner>
    </nova:instance>
    <vmhb:heartbeat xmlns:vmhb='{ns}' version='1'{knobs}/>
  </metadata>
  <devices>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='{port}'/></channel>{application}
    <memballoon model='virtio'><stats period='10'/></memballoon>
  </devices>
</domain>
"""
_APPLICATION = """
    <channel type='unix'>
      <source mode='bind' path={path}/><target type='virtio' name='org.openstack.vmhb.0' state='connected'/>
    </channel>"""
_numbers = itertools.count(1)


@dataclass(slots=True)
class SimulatedGuest:
    """One guest. Change it through `SimulatedHypervisor.change`, so that whoever waits for it hears of it.

    application: the path of the socket that its application channel is; "": it has none.
    """

    name: str
    knobs: dict[str, str]
    project: str = "5f1c2a3b4d5e6f708192a3b4c5d6e7f8"
    application: str = ""
    number: int = field(default_factory=lambda: next(_numbers))
    running: bool = True
    port_open: bool = True
    agent_runs: bool = True
    kernel_lives: bool = True
    qemu_runs: bool = True
    waiting: int = 0  # looks that wait for QEMU
    waiting_since: float = 0.0
    boot: int = 1
    period: int = 10
    since: float = field(default_factory=time.monotonic)
    updates: int = 1

    @property
    def uuid(self) -> str:
        """The instance's uuid."""
        return f"00000000-0000-4000-8000-{self.number:012x}"

    @property
    def answers(self) -> bool:
        """Would its agent answer now?"""
        return self.running and self.port_open and self.agent_runs and self.kernel_lives and self.qemu_runs

    @property
    def xml(self) -> str:
        """Its domain's XML."""
        knobs = "".join(f" {name}={quoteattr(value)}" for name, value in self.knobs.items())
        port = "connected" if self.port_open else "disconnected"
        return _XML.format(
            number=self.number,
            uuid=self.uuid,
            name=escape(self.name),
            project=self.project,
            ns=POLICY_NS,
            knobs=knobs,
            port=port,
            application=_APPLICATION.format(path=quoteattr(self.application)) if self.application else "",
        )

    def seen(self) -> ev.DomainSeen:
        """How libvirt shows it."""
        state, reason = ("running", "booted") if self.running else ("shutoff", "shutdown")
        return ev.DomainSeen(self.uuid, self.xml, state, reason, f"boot-{self.boot}" if self.running else "")

    def balloon_updated(self, now: float) -> int:
        """`balloon.last-update`: a report each period, as long as the kernel lives."""
        if self.kernel_lives and self.qemu_runs and self.period:
            reports = int((now - self.since) / self.period)
            if reports:
                self.since += reports * self.period
                self.updates = int(time.time() - (now - self.since))
        return self.updates

    def set_period(self, seconds: int, now: float) -> None:
        """Report every so many seconds from now on."""
        self.balloon_updated(now)
        self.period, self.since = seconds, now


class SimulatedHypervisor:
    """Implements `interfaces.Hypervisor`. Thread-safe."""

    def __init__(self, guests: Iterable[SimulatedGuest]) -> None:
        self.guests = {guest.uuid: guest for guest in guests}
        self._identity = secrets.token_hex(8)
        self._changed = threading.Condition()
        self._post: Post = lambda report: None
        self._closed = False

    # -- the port ------------------------------------------------------------------------------------------------

    def identity(self) -> str:
        """Nobody else can watch it: any number of simulations may run on a host, beside a real worker."""
        return f"simulation-{self._identity}"

    @property
    def folder(self) -> None:
        """It has no sockets."""

    def open(self, post: Post) -> None:
        """Connected at once."""
        self._post = post
        post(ev.HypervisorUp(tuple(guest.seen() for guest in self.guests.values())))
        threading.Thread(target=self._canary, name="simulated-canary", daemon=True).start()

    def describe(self, uuid: str) -> None:
        """As the real one."""
        guest = self.guests.get(uuid)
        self._post(ev.DomainForgotten(uuid) if guest is None else guest.seen())

    def look(self, uuid: str, look: ev.Look) -> None:
        """Answered by a thread of its own: here, looks are few."""
        threading.Thread(target=self._look, args=(uuid, look), name="simulated-look", daemon=True).start()

    def agent_command(self, uuid: str, command: str, timeout: int) -> str:
        """Waits for the guest's answer as libvirt does."""
        guest = self.guests.get(uuid)
        if guest is None or not guest.running:
            raise AgentError(ev.Failure.UNREACHABLE, "domain is not running")
        if not guest.port_open:
            raise AgentError(ev.Failure.UNCONNECTED, "QEMU guest agent is not connected")
        if not self._wait_for(lambda: guest.answers or not guest.running, timeout):
            raise AgentError(ev.Failure.NO_ANSWER, "Guest agent not available for now")
        if not guest.running:
            raise AgentError(ev.Failure.UNREACHABLE, "domain is not running")
        time.sleep(ANSWER_TIME)
        if json.loads(command)["execute"] != "guest-sync":
            raise AgentError(ev.Failure.GARBLED, "Failed to execute child process (No such file or directory)")
        return json.dumps({"return": json.loads(command)["arguments"]["id"]})

    def write_state(self, uuid: str, element: str) -> None:
        """A simulated domain does not travel."""

    def provision(self, uuid: str, step: ev.Step) -> None:
        """Never asked for: a simulated domain carries its policy, and has nothing to plug a channel into."""

    def close(self, timeout: float) -> None:
        """Stop posting."""
        self._closed = True
        self._post = lambda report: None

    # -- fate ----------------------------------------------------------------------------------------------------

    def change(self, guest: SimulatedGuest, *events: ev.Event, **attributes: bool | int) -> float:
        """Let something happen to a guest; events: what libvirt tells of it. Returns when (monotonic seconds)."""
        with self._changed:
            guest.balloon_updated(time.monotonic())
            if attributes.get("kernel_lives"):
                guest.since = time.monotonic()
            for name, value in attributes.items():
                setattr(guest, name, value)
            self._changed.notify_all()
        at = time.monotonic()
        for event in events:
            self._post(ev.Happened(guest.uuid, event))
        return at

    def stop_agent(self, guest: SimulatedGuest) -> float:
        """As by SIGSTOP: its port stays open."""
        return self.change(guest, agent_runs=False)

    def continue_agent(self, guest: SimulatedGuest) -> float:
        """As by SIGCONT."""
        return self.change(guest, agent_runs=True)

    def panic(self, guest: SimulatedGuest) -> float:
        """The kernel dies, without a panic device to tell of it."""
        return self.change(guest, kernel_lives=False)

    def stop_qemu(self, guest: SimulatedGuest) -> float:
        """As by SIGSTOP: nothing in the guest runs, and its monitor answers nobody."""
        return self.change(guest, qemu_runs=False)

    def continue_qemu(self, guest: SimulatedGuest) -> float:
        """As by SIGCONT: who waited is answered."""
        guest.since = time.monotonic()
        return self.change(guest, qemu_runs=True)

    # -- helpers -------------------------------------------------------------------------------------------------

    def _canary(self) -> None:
        while not self._closed:
            self._post(ev.HypervisorHeard(time.monotonic()))
            time.sleep(CANARY_INTERVAL)

    def _look(self, uuid: str, look: ev.Look) -> None:
        guest = self.guests.get(uuid)
        if guest is None or not guest.running:
            answer: ev.Answer = ev.Unavailable("domain is not running")
        else:
            answer = self._answer(guest, look)
        self._post(ev.Happened(uuid, ev.Looked(look, answer)))

    def _answer(self, guest: SimulatedGuest, look: ev.Look) -> ev.Answer:
        if isinstance(look, ev.LookState):
            return ev.State("running", "booted", True)
        if isinstance(look, ev.LookControl):
            occupied = guest.waiting and time.monotonic() - guest.waiting_since
            return ev.Control("occupied", occupied) if occupied else ev.Control("ok", 0.0)
        if isinstance(look, ev.LookProcess):
            now = time.monotonic() if guest.qemu_runs else 0.0
            return ev.Process(now, MainThread("S" if guest.qemu_runs else "T", int(now * 20)))
        self._wait_for_qemu(guest)
        now = time.monotonic()
        match look:
            case ev.LookJob():
                return ev.Job(None)
            case ev.LookVitals():
                busy = 0 if guest.kernel_lives else int(now * 1e9)
                return ev.Vitals(guest.balloon_updated(now), busy, 0, read_at=time.time())
            case ev.SetBalloonPeriod():
                guest.set_period(look.seconds, now)
                return ev.PeriodSet()

    def _wait_for_qemu(self, guest: SimulatedGuest) -> None:
        with self._changed:
            if not guest.waiting:
                guest.waiting_since = time.monotonic()
            guest.waiting += not guest.qemu_runs
            waits = not guest.qemu_runs
            self._changed.wait_for(lambda: guest.qemu_runs)
            guest.waiting -= waits

    def _wait_for(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, timeout)
