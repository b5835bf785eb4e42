"""The ports between the engine and its adapters. The adapters import this and `core`, never each other.

Threads: everything here is called from the engine's thread and returns at once unless it says otherwise. What takes
time happens on the adapter's own threads, and comes back through `Post`, which may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from vmhb_common.model.fault import Fault
from vmhb_worker.core.events import Failure, Look, Report, Step
from vmhb_worker.core.protocol import Message as GuestMessage

#: Hands a report to the engine: appends to its inbox and wakes it. Never blocks, never raises.
Post = Callable[[Report], None]


class AgentError(Exception):
    """A guest-agent command brought no reply. `failure` says what kind, the text what libvirt said."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


class Hypervisor(Protocol):
    """The domains of one libvirtd, or a simulation of them."""

    def open(self, post: Post) -> None:
        """Begin. Connects, and reconnects for ever, in the background; says so by HypervisorUp and HypervisorDown.

        While up, it posts `Happened` for what libvirt's events tell, `DomainSeen` after each change of a domain's XML,
        and `HypervisorHeard` at least every half second as long as libvirtd answers.
        """

    def describe(self, uuid: str) -> None:
        """Post `DomainSeen` or `DomainForgotten` for this domain."""

    def look(self, uuid: str, look: Look) -> None:
        """Look at the domain from outside, and post `Happened(uuid, Looked(...))`.

        At most one look that can block per domain and 8 in all. One more for the same domain waits, and is answered
        `Unavailable` when a newer one takes its place; one more domain is answered `Unavailable` at once.
        """

    def agent_command(self, uuid: str, command: str, timeout: int) -> str:
        """BLOCKS, called from the agent's threads: put `command` to the guest agent and return its reply.

        timeout: seconds that the agent has for its reply; libvirt may take 5 s longer, and 30 s while somebody else's
        command holds the agent. Raises AgentError. Each call has a libvirt connection to itself.
        """

    def write_state(self, uuid: str, element: str) -> None:
        """Put this element into the domain's metadata, in the namespace `urn:openstack:vmhb:state:1`, best effort."""

    def provision(self, uuid: str, step: Step) -> None:
        """Give a running domain what it lacks, live and as it is defined, and post `Provisioned`.

        What is there already is left as it is: the live description is read again, right before. Waits for other
        calls to the domain, and is not begun while somebody else's is under way.
        """

    def identity(self) -> str | None:
        """BLOCKS: what tells this libvirt from all others (its host's uuid); None when it cannot be told now."""

    @property
    def folder(self) -> Path | None:
        """Where this libvirt has its sockets; None where it has none on this host."""

    def close(self, timeout: float) -> None:
        """Stop posting and let go of libvirt, within `timeout` seconds, whatever hangs."""


class Agent(Protocol):
    """Challenges over the agent channel."""

    def open(self, post: Post) -> None:
        """Begin."""

    def ask(self, uuid: str, nonce: int, timeout: int) -> None:
        """Challenge the guest's agent, and post `AskEnded`. `timeout` as for `Hypervisor.agent_command`."""

    def run(self, uuid: str, nonce: int, command: str, timeout: int) -> None:
        """Put another command to it, and post `CommandEnded`."""


class Pressure(Protocol):
    """How hard pressed the host itself is."""

    def open(self, post: Post) -> None:
        """Begin. Posts `Counted` every 2 s, with what cannot be read as unavailable."""

    def close(self) -> None:
        """Post no more."""


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """What must be known of an instance after a restart of the worker. `*_wall`: seconds since the epoch.

    established: it acknowledged once. boot: which life of its QEMU this was written in. balloon: its balloon driver
    answered in that life. waiting_wall: since when a rebooted guest has been awaited, None when it has answered since.
    running: it ran when we last knew. left: its application said goodbye, for this reason. maintenance: the times of
    it, of late: from, until. away: it was told that it is not watched, and not yet that it is again. host_boot: the
    boot of the host in which this was written, "" where that cannot be told.
    """

    uuid: str
    established: bool = False
    boot: str = ""
    balloon: bool = False
    waiting_wall: float | None = None
    running: bool = True
    left: str | None = None
    maintenance: tuple[tuple[float, float], ...] = ()
    away: bool = False
    host_boot: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One notification for all topics. `project_id`: the instance's, for the context.

    fault_id: "" where it is about no fault. collapse: an unsent message with the same non-empty word may be replaced
    by this one (reminders, signs of life).
    """

    event_type: str
    payload: dict[str, Any]
    project_id: str | None = None
    fault_id: str = ""
    collapse: str = ""


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything that changes at once: all of it is stored, or nothing.

    instances: rows to write. forget: uuids of rows to drop. faults: records to write; a cleared one is kept as long
    as `announce` names it with the number of reminders still owed. probes: uuid -> the balloon period to be put back,
    None when it has been. messages: notifications to send, in this order.
    """

    instances: Sequence[InstanceRow] = ()
    forget: Sequence[str] = ()
    faults: Sequence[Fault] = ()
    announce: dict[str, int] = field(default_factory=dict)
    probes: dict[str, int | None] = field(default_factory=dict)
    messages: Sequence[Message] = ()


@dataclass(frozen=True, slots=True)
class Saved:
    """What an earlier life of the worker left. `announce`: fault_id -> reminders still owed of a cleared fault."""

    instances: tuple[InstanceRow, ...] = ()
    faults: tuple[Fault, ...] = ()
    announce: dict[str, int] = field(default_factory=dict)
    probes: dict[str, int] = field(default_factory=dict)


class Watcher(Protocol):
    """The engine's loop, for whoever has descriptors to be waited for. Its thread only."""

    def watch(self, fd: int, events: int, ready: Callable[[int], None]) -> None:
        """Have `ready` called with what this descriptor is ready for. events: of `select.epoll`."""

    def unwatch(self, fd: int) -> None:
        """Do not. Before it is closed."""


class Channels(Protocol):
    """The application channels' sockets. Called on the engine's thread only, on which it also posts."""

    def open(self, post: Post, watcher: Watcher) -> None:
        """Begin. Posts `Happened` with `ChannelUp`, `ChannelDown` and `Said`."""

    def connect(self, uuid: str, path: str, rate: float) -> None:
        """Be connected to this path, and again whenever that ends, until `forget`. rate: beats a second."""

    def forget(self, uuid: str) -> None:
        """Let go of it, without a word."""

    def send(self, uuid: str, message: GuestMessage) -> bool:
        """Say this, now or as soon as QEMU takes it. False: not connected, or it takes nothing any more."""

    def read(self, uuid: str) -> None:
        """Read what is there now, before anybody judges."""

    def deadline(self) -> float:
        """When to `tick`."""

    def tick(self, now: float) -> None:
        """Connect again, read again."""

    def told(self, uuid: str) -> dict[str, Any] | None:
        """For people: what was not taken of it. None: it has no such channel."""

    def close(self) -> None:
        """Let go of all of them."""


class Store(Protocol):
    """Durable memory, and the way out for notifications."""

    def load(self) -> Saved:
        """What an earlier life left. BLOCKS; called once, before the engine runs."""

    def commit(self, commit: Commit, done: Callable[[], None] | None = None) -> None:
        """Store in the background, in the order of the calls; then call `done` on the store's thread.

        Never raises. Where the disk is full or the file broken, it keeps the commit in memory, delivers from there,
        says so, and tries the disk again; `done` is called all the same.
        """

    def health(self) -> dict[str, Any]:
        """For the sign of life: waiting (rows), oldest (seconds), degraded (a sentence or None), dropped (rows),
        set_aside (rows that nothing can be made of), failing (topic -> what the broker said)."""

    def close(self, timeout: float) -> None:
        """Write what was committed, within `timeout` seconds; what could not be sent is sent by the next life."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time comes from. monotonic: seconds, for every decision; wall: aware, in UTC, for people only."""

    monotonic: Callable[[], float]
    wall: Callable[[], datetime]
