"""What happened, and what to do about it: the vocabulary between the adapters, the engine and the monitor.

Adapters post *reports* into the engine's inbox, from any thread. The engine unwraps the *events* about one instance
and hands them to its monitor, which answers with *effects*. All of them are frozen values. Times are seconds of the
monotonic clock unless a name says `wall`.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Action, Channel, HeartbeatPolicy
from vmhb_worker.core.codec import Objection
from vmhb_worker.core.host_pressure import UNKNOWN, Counted, Strain
from vmhb_worker.core.main_thread import MainThread
from vmhb_worker.core.protocol import Health, Message
from vmhb_worker.core.verdict import Verdict

if TYPE_CHECKING:
    from vmhb_worker.core.domain_xml import DomainView


class Failure(enum.Enum):
    """Why a challenge brought no acknowledgement."""

    NO_ANSWER = "no answer"  # the agent was asked and kept silent for the whole of the time-out
    CLOSED = "port closed"  # nobody in the guest holds the port open
    BUSY = "agent busy"  # somebody else's agent command holds the domain's agent job
    UNREACHABLE = "not asked"  # libvirt could not be asked, or there is no such domain or agent
    GARBLED = "garbled"  # an answer that is not one: wrong nonce, not JSON, too long
    GIVEN_UP = "given up by libvirt"  # libvirt talks to this agent no more until it connects anew: nobody was asked
    UNCONNECTED = "libvirt is not connected to it"  # nobody holds the port open, or libvirt's own end failed
    UNKNOWN = "not understood"  # what libvirt said has no row in `spoken_of`: nobody's act


# -- events: what happened to one instance


@dataclass(frozen=True, slots=True)
class Asked:
    """Our challenge left for the guest's agent."""


@dataclass(frozen=True, slots=True)
class Acked:
    """The guest answered a challenge, in time or late."""

    rtt: float


@dataclass(frozen=True, slots=True)
class AskFailed:
    """A challenge came to its end without an acknowledgement."""

    failure: Failure
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ChannelUp:
    """The application channel's socket is connected to QEMU. The guest need not have opened its end."""


@dataclass(frozen=True, slots=True)
class ChannelDown:
    """It is not, or no longer."""

    why: str


@dataclass(frozen=True, slots=True)
class Said:
    """The guest said something through its application channel."""

    message: Message | Objection


@dataclass(frozen=True, slots=True)
class OtherAnswered:
    """The agent of an instance whose application is silent was asked. answers: None where that tells nothing, `why`."""

    answers: bool | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class AgentReplied:
    """The end of an `AgentCommand`: the reply; None where there was none, and `failure` and `detail` say why.

    left: it may have reached the agent. False where it was never put to libvirt.
    """

    reply: str | None
    failure: Failure | None = None
    detail: str = ""
    left: bool = True


@dataclass(frozen=True, slots=True)
class PortChanged:
    """The guest opened or closed the channel's port."""

    open: bool
    channel: Channel = Channel.AGENT


@dataclass(frozen=True, slots=True)
class Booted:
    """A new boot began: start, reboot from inside, reset."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A guest goes on where it was: restored from a file or a snapshot."""


@dataclass(frozen=True, slots=True)
class Arriving:
    """A guest is being migrated to this host; it runs here from `Resumed` on."""


@dataclass(frozen=True, slots=True)
class ShuttingDown:
    """The guest powers itself off."""


class Exit(enum.Enum):
    """How a domain stopped running."""

    INTENT = "intent"  # the guest powered off, or somebody stopped, saved or destroyed it
    FAILED = "failed"  # QEMU crashed or was killed
    MOVED = "moved"  # it goes on, on another host
    POWER = "power"  # its host went down while it ran, and libvirt knows no more of it
    UNKNOWN = "unknown"  # nobody knows how: never taken for somebody's wish, nor for a failure


@dataclass(frozen=True, slots=True)
class Stopped:
    """The domain is no longer running."""

    exit: Exit
    detail: str


@dataclass(frozen=True, slots=True)
class QemuEnded:
    """Its QEMU's process has ended, as the host's kernel tells. How, libvirt says by `Stopped`, later or before."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The guest's vCPUs were stopped on purpose. Ends with `Resumed`.

    wish: libvirt has said whose: a user's, a save's. False: it was only told that the guest is paused, which is also
    what comes first where QEMU pauses a guest that has panicked.
    """

    reason: str
    wish: bool = False


@dataclass(frozen=True, slots=True)
class Resumed:
    """The guest's vCPUs run again. arrived: its migration to this host is over, and all of its memory is here."""

    arrived: bool = False


@dataclass(frozen=True, slots=True)
class InPostcopy:
    """The guest runs here, and its memory still comes, page by page, from another host. Ends with `Resumed`.

    failed: for now nothing comes any more.
    """

    failed: bool = False


@dataclass(frozen=True, slots=True)
class Stuck:
    """The guest does not go on, and by nobody's wish: never a silence, a cause of its own.

    settles: libvirt gives no reason, as also for a moment at the end of a job of its own: to be believed if it lasts.
    """

    cause: Cause
    settles: bool = False


@dataclass(frozen=True, slots=True)
class Panicked:
    """The guest's kernel told its panic device that it is dying.

    saves_dump: it said that it saves a crash dump by itself, and reboots after that (CRASHLOADED).
    """

    saves_dump: bool = False


@dataclass(frozen=True, slots=True)
class WatchdogFired:
    """The guest stopped feeding its emulated watchdog."""

    action: str


@dataclass(frozen=True, slots=True)
class MemoryFailed:
    """The host's processor found memory broken, below the guest's or QEMU's own.

    recipient: whose it is, "guest" or "hypervisor". action: what QEMU did: "ignore", "inject" (the guest was told, and
    may go on without that page), "fatal" or "reset". "*": a word of a newer libvirt's. required: something in there
    was just using it. recursive: it came while the guest was still at the one before.
    """

    recipient: str
    action: str
    required: bool = False
    recursive: bool = False

    def __str__(self) -> str:
        told = [self.recipient, self.action, "action required" * self.required, "recursive" * self.recursive]
        return ", ".join(word for word in told if word)


@dataclass(frozen=True, slots=True)
class Silenced:
    """Heartbeats are expected to stay away, until `until` at the latest (None: until `Unsilenced`).

    ask: go on challenging all the same, but judge nothing.
    """

    key: str
    reason: str
    until: float | None = None
    ask: bool = False


@dataclass(frozen=True, slots=True)
class Unsilenced:
    """The silence of this key is over."""

    key: str


@dataclass(frozen=True, slots=True)
class Voided:
    """What we saw, or failed to see, of late says nothing about the guest: we were not there, or libvirtd was not.

    since: from when on; what began before it was last doubted is the same doubt. lasted: seconds.
    """

    reason: str
    since: float = math.inf
    lasted: float = math.inf


@dataclass(frozen=True, slots=True)
class NoPlace:
    """Its challenge has waited for a place among many that do: see `agent_lanes.CROWD`."""


@dataclass(frozen=True, slots=True)
class Verify:
    """A recovery of it was held back until now: whether it is still needed is to be found out anew."""


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """The instance is to be watched differently from now on."""

    policy: HeartbeatPolicy


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed. `heard`: when the newest question that libvirtd has answered was put to it. `host`: its pressure.
    `clock_set`: when the host's wall clock was last seen to have been set.
    """

    heard: float
    host: Strain = UNKNOWN
    clock_set: float = -math.inf


# -- looks: what the host can be asked about a suspect


@dataclass(frozen=True, slots=True)
class LookControl:
    """`virDomainGetControlInfo`: is somebody waiting for QEMU's monitor? Never blocks."""


@dataclass(frozen=True, slots=True)
class LookState:
    """`virDomainGetState` and QEMU's process. Never blocks."""


@dataclass(frozen=True, slots=True)
class LookJob:
    """`virDomainGetJobStats`: is libvirt migrating, saving or dumping it? Blocks while QEMU hangs."""


@dataclass(frozen=True, slots=True)
class LookProcess:
    """What does QEMU's process do? Never blocks, and asks neither libvirt nor QEMU anything."""


@dataclass(frozen=True, slots=True)
class LookVitals:
    """Balloon, vCPU and I/O counters in one call. Blocks while QEMU hangs."""


@dataclass(frozen=True, slots=True)
class SetBalloonPeriod:
    """Ask the guest's balloon driver for statistics every so many seconds (0: never). Blocks while QEMU hangs."""

    seconds: int


Look = LookControl | LookState | LookProcess | LookJob | LookVitals | SetBalloonPeriod


@dataclass(frozen=True, slots=True)
class Control:
    """Answer to `LookControl`. `state`: ok, job, occupied or error; for how long, seconds."""

    state: str
    seconds: float


@dataclass(frozen=True, slots=True)
class State:
    """Answer to `LookState`: libvirt's state and reason; is QEMU's process alive (None: cannot be told)?"""

    state: str
    reason: str
    process_alive: bool | None


@dataclass(frozen=True, slots=True)
class Job:
    """Answer to `LookJob`. `operation`: libvirt's name of it, None when there is no job."""

    operation: str | None


@dataclass(frozen=True, slots=True)
class Process:
    """Answer to `LookProcess`. cpu: seconds that it has taken of all processors, QEMU and its guest together."""

    cpu: float
    main: MainThread


@dataclass(frozen=True, slots=True)
class Vcpu:
    """Of one vCPU, in nanoseconds: how long it ran, and how long it waited for a processor (None: not told)."""

    ran: int
    delayed: int | None = None


@dataclass(frozen=True, slots=True)
class Vitals:
    """Answer to `LookVitals`. Whatever the domain does not tell is None, or empty.

    balloon_updated: `balloon.last-update`, seconds of the host's wall clock, 0 where the driver never answered.
    read_at: what that clock said when this was read. vcpus: each of them; vcpu_time: their sum, for a hypervisor that
    tells no more. io_requests: block requests of all devices, and packets that the guest has sent. throttled: seconds
    for which quotas of the instance's own have held its threads back, since it started; or why that is not known.
    """

    balloon_updated: int | None
    vcpu_time: int | None
    io_requests: int | None
    vcpus: tuple[Vcpu, ...] = ()
    read_at: float | None = None
    throttled: float | str = "not read"


@dataclass(frozen=True, slots=True)
class PeriodSet:
    """Answer to `SetBalloonPeriod`."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """There is no answer, and why not."""

    why: str


@dataclass(frozen=True, slots=True)
class Refused(Unavailable):
    """A look that may block was not taken, and may well be in a moment. stands_still: because its QEMU does."""

    stands_still: bool = False


Answer = Control | State | Process | Job | Vitals | PeriodSet | Unavailable


@dataclass(frozen=True, slots=True)
class Looked:
    """A look came to its end."""

    look: Look
    answer: Answer


Event = (
    Asked
    | Acked
    | AskFailed
    | ChannelUp
    | ChannelDown
    | Said
    | OtherAnswered
    | AgentReplied
    | PortChanged
    | Booted
    | Restored
    | Arriving
    | ShuttingDown
    | Stopped
    | QemuEnded
    | Paused
    | Resumed
    | InPostcopy
    | Stuck
    | Panicked
    | WatchdogFired
    | MemoryFailed
    | Silenced
    | Unsilenced
    | Voided
    | PolicyChanged
    | Tick
    | Looked
    | Verify
    | NoPlace
)


# -- effects: what to do


class Pace(enum.Enum):
    """How long a challenge is expected to take, and who waits for it."""

    __hash__ = object.__hash__  # as in `transitions`

    QUICK = "the guest answers at once"
    SLOW = "the guest answers, but slowly"
    SUSPECT = "the guest did not answer of late, and a verdict waits for it"
    SILENT = "the guest is known not to answer"


@dataclass(frozen=True, slots=True)
class Ask:
    """Challenge the guest; the request may wait for its answer `timeout` seconds at most."""

    timeout: int
    pace: Pace


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Do not ask after all, if the challenge has not left yet."""


@dataclass(frozen=True, slots=True)
class GiveWay:
    """Let others go before it, while its challenge waits for a place: its host says that it cannot answer."""


@dataclass(frozen=True, slots=True)
class GoFirst:
    """Let it go before others, while its challenge waits for a place: its host says that its kernel lives."""


@dataclass(frozen=True, slots=True)
class AskOther:
    """Ask the instance's agent whether it is there, for `timeout` seconds at most; it answers by `OtherAnswered`."""

    timeout: int


@dataclass(frozen=True, slots=True)
class AgentCommand:
    """Put this command to the guest's agent, when there is a place for it; `AgentReplied` says what came of it."""

    command: str
    timeout: int


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that does not work as it was asked for, for whoever reads the log."""

    text: str


@dataclass(frozen=True, slots=True)
class Say:
    """Say this to the guest, through its application channel."""

    message: Message


@dataclass(frozen=True, slots=True)
class Ended:
    """The guest need not answer for a while: it said so itself. To be told, so that nobody leaves unseen."""

    reason: str


@dataclass(frozen=True, slots=True)
class Returned:
    """It answers again after that."""


@dataclass(frozen=True, slots=True)
class LookAt:
    """Look at the domain from outside; the answer comes back as `Looked`."""

    look: Look


@dataclass(frozen=True, slots=True)
class RaiseFault:
    """Judged: this is wrong with the instance. Raises its fault, or updates the one that is open.

    misses, skipped: beats since the last acknowledgement, which was at last_ack. suspected_at: the first miss. action:
    what the policy asks for. health: its last report.
    """

    verdict: Verdict
    misses: int
    skipped: int
    suspected_at: float | None
    last_ack: float | None
    action: Action
    health: Health | None = None


@dataclass(frozen=True, slots=True)
class ClearFault:
    """Nothing is wrong with the instance any more. Clears its open fault."""

    resolution: str


@dataclass(frozen=True, slots=True)
class Established:
    """The first acknowledgement of this boot; `first`: the first that there ever was."""

    first: bool


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """Have what libvirt knows of its domain read again: a port, or a state, may be another than what we were told."""


@dataclass(frozen=True, slots=True)
class Remember:
    """Something that must outlive the worker changed: see `Monitor.memory`."""


Effect = (
    Ask
    | Withdraw
    | GiveWay
    | GoFirst
    | AskOther
    | AgentCommand
    | Remark
    | Say
    | Ended
    | Returned
    | LookAt
    | RaiseFault
    | ClearFault
    | Established
    | ReadAgain
    | Remember
)


# -- steps: what a running domain is given that it lacks


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """Put this element into its metadata, where it says nothing of its own: see `domain_xml.policy_element`.

    observed_at: when the policy was seen; what came by RPC and was seen before is replaced.
    """

    element: str
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class PlugChannel:
    """Plug the application channel in, where there is none of its name."""


Step = WritePolicy | PlugChannel


# -- reports: from the adapters, into the inbox, from any thread


@dataclass(frozen=True, slots=True)
class Happened:
    """Something happened to this domain."""

    uuid: str
    event: Event


@dataclass(frozen=True, slots=True)
class DomainSeen:
    """What libvirt knows of this domain now: its live XML while it runs, else its defined one.

    `state` and `reason` as in `core.lifecycle`; `boot`: what tells one life of its QEMU from the next ("" when it does
    not run); `host_boot`: the same of its host, "" where that cannot be told. `view`: what the XML tells, where it has
    been read already.
    """

    uuid: str
    xml: str
    state: str
    reason: str
    boot: str
    host_boot: str = ""
    view: DomainView | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DomainForgotten:
    """libvirt no longer knows this domain: undefined and not running."""

    uuid: str


@dataclass(frozen=True, slots=True)
class HypervisorUp:
    """Connected, and events are on: this is everything that there is. Nothing from before is to be relied upon."""

    domains: tuple[DomainSeen, ...]


@dataclass(frozen=True, slots=True)
class HypervisorDown:
    """The connection broke, or there is none yet. Reported once per change."""

    reason: str


@dataclass(frozen=True, slots=True)
class HypervisorHeard:
    """libvirtd answered the question put to it at `asked_at`."""

    asked_at: float


@dataclass(frozen=True, slots=True)
class AskEnded:
    """A challenge's end: acknowledged when `failure` is None. `rtt`: seconds from start to end."""

    uuid: str
    nonce: int
    rtt: float
    failure: Failure | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CommandEnded:
    """The end of a command of ours to a guest's agent, other than a challenge."""

    uuid: str
    nonce: int
    replied: AgentReplied


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A step came to its end. changed: it was done, False also where nothing was missing any more.

    failure: why it was not done; `again`: it may well be, another time.
    """

    uuid: str
    step: Step
    changed: bool
    failure: str | None = None
    again: bool = False


Report = (
    Happened
    | DomainSeen
    | DomainForgotten
    | HypervisorUp
    | HypervisorDown
    | HypervisorHeard
    | AskEnded
    | CommandEnded
    | Provisioned
    | Counted
)
