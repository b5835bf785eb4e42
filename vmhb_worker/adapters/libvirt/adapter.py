"""The port `Hypervisor` over libvirt: which thread does what, and the connections' life.

| thread | does | may block in libvirt |
| --- | --- | --- |
| libvirt-events (one per process) | keepalive, events | never |
| libvirt-control | connects, lists, describes; notices lost connections, waiting canaries | while libvirtd is frozen |
| libvirt-canary | asks libvirtd a question four times a second | while libvirtd is frozen, or at its limit |
| libvirt-quick | looks that never wait for QEMU | while libvirtd is frozen |
| libvirt-looks-N | looks that may; metadata; steps | for as long as a QEMU hangs |
| libvirt-qemu-ends | waits for the ends of QEMU's processes: asks the kernel, never libvirt | never |
| libvirt-let-go | lets go of the connections of a session that is over | while libvirtd is frozen |
| the agent's own | guest-agent commands | up to the time-out, and more |

All are daemons: none keeps the process from ending. Each of them has a connection of its own while it calls; all
connections live and die together, for when one breaks libvirtd is gone or frozen.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import libvirt
from oslo_log import log as logging

from vmhb_common.app.once import Once
from vmhb_worker.adapters.libvirt import agent_commands, event_map, provisioning, queries
from vmhb_worker.adapters.libvirt.connection import Connection, Gate, Lines, NoLine, start_event_loop
from vmhb_worker.adapters.libvirt.domains import Domains, told
from vmhb_worker.adapters.libvirt.pool import Pool, Task
from vmhb_worker.adapters.libvirt.process import Processes, run_folder
from vmhb_worker.adapters.libvirt.report_order import Feed, Lost
from vmhb_worker.core.events import (
    Answer,
    DomainForgotten,
    Failure,
    Happened,
    HypervisorDown,
    Look,
    Looked,
    Provisioned,
    QemuEnded,
    Refused,
    Report,
    SetBalloonPeriod,
    Step,
    Unavailable,
)
from vmhb_worker.interfaces import AgentError, Post

LOG = logging.getLogger(__name__)

#: Seconds between two questions of the canary: the engine may miss one and still hear twice a second.
CANARY_INTERVAL = 0.25
#: Seconds before the next attempt to connect: doubled from the first to the last, less up to half of it at random, so
#: that workers and others do not all knock at once when libvirtd comes back.
FIRST_RETRY = 0.4
LAST_RETRY = 5.0
#: Seconds between two looks at whether all connections are open, for a driver that does not say so itself.
WATCH_INTERVAL = 1.0
#: Seconds that the canary waits before somebody looks whether libvirtd still answers what is urgent.
CANARY_PATIENCE = 5.0
#: Seconds before a domain that could not be described is tried again.
DESCRIBE_AGAIN = 5.0
#: How many calls may be under way into QEMUs that are not seen to go on, of those that may block. Each has one of
#: libvirtd's workers, for good if that QEMU hangs.
UNSURE_LOOKS = 2
#: How many calls that may block are under way for evidence, metadata and provisioning, and how many for agents. With
#: one that describes domains, asks what never blocks, or sees whether libvirtd answers at all, that is 12 of libvirtd's
#: workers, of which there are 20 for everybody.
BLOCKING_LOOKS, AGENT_CALLS = 3, 8
#: Seconds for which the ends of processes are waited for at a time: so long it may take until the thread ends.
ENDS_WAITED = 1.0
#: Looks that never block and wait for the one thread that asks them; more than that only when libvirtd is frozen.
MAX_QUICK = 4096

NOT_CONNECTED = "libvirt is not connected"


@dataclass(frozen=True, slots=True)
class Session:
    """All connections, from one HypervisorUp to its HypervisorDown."""

    main: Connection  # events, and descriptions
    quick: Connection
    canary: Connection
    gate: Connection
    looks: Lines
    agent: Lines
    feed: Feed

    @property
    def connections(self) -> tuple[Connection, ...]:
        return (self.main, self.quick, self.canary, self.gate, *self.looks.connections, *self.agent.connections)


class LibvirtHypervisor:
    """See `interfaces.Hypervisor`. Every method may be called from any thread."""

    def __init__(
        self, uri: str = "qemu:///system", blocking_looks: int = BLOCKING_LOOKS, agent_calls: int = AGENT_CALLS
    ) -> None:
        """blocking_looks: how many looks may wait for QEMUs at a time; agent_calls: how many commands for agents.

        Each that waits has a connection, and one of libvirtd's ordinary workers (`max_workers`, 20 by default), which
        then serves nobody else.
        """
        self._uri = uri
        self._blocking_looks = blocking_looks
        self._agent_calls = agent_calls
        self._folder = run_folder(uri)
        self._processes = Processes(self._folder)
        self._domains = Domains(self._processes)
        self._pool = Pool(blocking_looks, "libvirt-looks", UNSURE_LOOKS)
        self._quick: queue.Queue[tuple[str, Look] | None] = queue.Queue(MAX_QUICK)
        self._once = Once()
        self._again: dict[str, float] = {}  # control thread: domains to be described again, and when
        self._session: Session | None = None
        self._canary_waits_since: float | None = None
        self._closing = threading.Event()
        self._post_lock = threading.Lock()
        self._post: Post = lambda _report: None
        self._control = threading.Thread(target=self._run_control, name="libvirt-control", daemon=True)

    # -- the port ------------------------------------------------------------------------------------------------

    def open(self, post: Post) -> None:
        """Begin; see `interfaces.Hypervisor`."""
        self._post = post
        start_event_loop()
        self._control.start()
        threading.Thread(target=self._run_canary, name="libvirt-canary", daemon=True).start()
        threading.Thread(target=self._run_quick, name="libvirt-quick", daemon=True).start()
        threading.Thread(target=self._run_ends, name="libvirt-qemu-ends", daemon=True).start()

    def describe(self, uuid: str) -> None:
        """Post what libvirt knows of the domain; nothing while down, for what comes next then is all there is."""
        session = self._session
        if session is not None:
            session.feed.tell(uuid, None, True)

    def look(self, uuid: str, look: Look) -> None:
        """Ask, and post the answer. Setting the balloon's period waits for an earlier look at the domain to end."""
        if isinstance(look, queries.QUICK):
            try:
                self._quick.put_nowait((uuid, look))
            except queue.Full:
                self._answer(uuid, look, Unavailable("libvirtd does not keep up"))
            return
        would = self._processes.would_answer(uuid)
        task = Task(
            uuid,
            partial(self._ask, uuid, look),
            lambda why: self._answer(uuid, look, Refused(why)),
            partial(self._sure, uuid),
        )
        if isinstance(look, SetBalloonPeriod):
            # What was changed must be changed back, also when the change itself is still under way.
            self._pool.start_latest(task, "balloon period")
        elif would is False:
            self._answer(uuid, look, Refused("QEMU's main thread stands still", stands_still=True))
        else:
            self._pool.start(task)

    def agent_command(self, uuid: str, command: str, timeout: int) -> str:
        """BLOCKS; see `interfaces.Hypervisor`."""
        session = self._session
        if session is None:
            raise AgentError(Failure.UNREACHABLE, NOT_CONNECTED)
        return agent_commands.run(session.agent, uuid, command, timeout)

    def write_state(self, uuid: str, element: str) -> None:
        """Best effort; an element that still waits for its turn is replaced by the next for the same domain."""
        self._pool.start_latest(
            Task(uuid, partial(self._write_state, uuid, element), lambda _why: None, partial(self._sure, uuid)),
            "metadata",
        )

    def provision(self, uuid: str, step: Step) -> None:
        """Carried out when its turn comes; one of the same kind that still waits is told off."""
        task = Task(
            uuid,
            partial(self._carry_out, uuid, step),
            lambda why: self._deliver(Provisioned(uuid, step, False, why, again=True)),
            partial(self._sure, uuid),
        )
        self._pool.start_latest(task, type(step).__name__)

    def close(self, timeout: float) -> None:
        """Stop posting; let go of libvirt within `timeout` seconds, or leave that to the process's end."""
        until = time.monotonic() + timeout
        # Beside: whoever is told of something just now may himself ask a libvirt that is frozen, and keeps us waiting.
        ending = threading.Thread(target=self._end, name="libvirt-end", daemon=True)
        ending.start()
        ending.join(timeout)
        if self._control.is_alive():
            self._control.join(max(0.0, until - time.monotonic()))

    def _end(self) -> None:
        self._closing.set()
        with self._post_lock:
            self._post = lambda _report: None
        self._pool.close()
        with contextlib.suppress(queue.Full):
            self._quick.put_nowait(None)
        session = self._session
        if session is not None:
            session.feed.lose("closing")

    # -- beside the port -----------------------------------------------------------------------------------------

    def identity(self) -> str | None:
        """BLOCKS: the host's uuid as libvirt has it; None when not connected.

        Two workers at one libvirtd would do everything twice: whoever locks this name is the one.
        """
        session = self._session
        if session is None:
            return None
        try:
            with session.agent.line(1) as connection:
                root = ElementTree.fromstring(connection.raw.getCapabilities())  # noqa: S314 - libvirt's own writing
        except (NoLine, libvirt.libvirtError, ElementTree.ParseError):
            return None
        return root.findtext("./host/uuid")

    @property
    def folder(self) -> Path | None:
        """See `interfaces.Hypervisor`."""
        return self._folder

    # -- control thread: the connections' life -------------------------------------------------------------------

    def _run_control(self) -> None:
        retry = FIRST_RETRY
        told = False  # is "down" what the engine was told last?
        while not self._closing.is_set():
            feed = Feed(self._deliver)
            reason = self._live(feed)
            if self._closing.is_set():
                return
            if feed.begun or not told:
                # The engine says what follows from it, loudly.
                LOG.info("No connection to libvirt at %s, trying again until there is: %s", self._uri, reason)
            if not feed.begun and not told:
                self._deliver(HypervisorDown(reason))
            told = True
            if feed.begun:
                retry = FIRST_RETRY
            self._closing.wait(retry * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            retry = min(2 * retry, LAST_RETRY)

    def _live(self, feed: Feed) -> str:
        """From connecting to the end of the connection; why it ended."""
        session: Session | None = None
        try:
            session = self._connect(feed)
            self._begin(session)
            self._serve(session)
        except (Lost, libvirt.libvirtError) as error:
            feed.lose(str(error))
        except Exception as error:
            if self._once.level(logging.ERROR, told(error), "connection") == logging.ERROR:
                LOG.exception("The connection to libvirt at %s failed unexpectedly", self._uri)
            feed.lose(f"internal error: {told(error)}")
        self._session = None
        if session is not None:
            # Beside: a connection that nobody has given up yet holds up whoever lets go of it, and the next one waits.
            threading.Thread(target=_let_go, args=(session.connections,), name="libvirt-let-go", daemon=True).start()
        return feed.lost

    def _connect(self, feed: Feed) -> Session:
        """BLOCKS while libvirtd is frozen."""
        opened: list[Connection] = []
        try:
            for _ in range(4 + self._blocking_looks + self._agent_calls):
                opened.append(Connection(self._uri, feed.lose))
        except libvirt.libvirtError:
            for connection in opened:
                connection.release()
            raise
        main, quick, canary, gate, *others = opened
        looks = Lines(others[: self._blocking_looks], Gate(gate))
        return Session(main, quick, canary, gate, looks, Lines(others[self._blocking_looks :]), feed)

    def _begin(self, session: Session) -> None:
        event_map.subscribe(session.main, session.feed.tell, self._domains.channels)
        domains, unread = self._domains.all(session.main)
        # Before the engine hears of it: what it asks for then finds the connection.
        self._session = session
        session.feed.begin(domains)
        for uuid in self._processes.ended():  # while nobody listened
            session.feed.tell(uuid, QemuEnded(), False)
        LOG.info("Connected to libvirt at %s: %d domains", self._uri, len(domains))
        self._again = dict.fromkeys(unread, time.monotonic() + DESCRIBE_AGAIN)

    def _serve(self, session: Session) -> None:
        """Describe what falls due until the connection is lost. Raises Lost."""
        told_of = 0.0
        while True:
            uuid = session.feed.next_due(WATCH_INTERVAL)
            if uuid is not None:
                self._describe(session, uuid)
                continue
            if not all(connection.alive() for connection in session.connections):
                session.feed.lose("the connection broke")
            told_of = self._watch_canary(session, told_of)
            for uuid in [uuid for uuid, when in self._again.items() if when <= time.monotonic()]:
                del self._again[uuid]
                session.feed.tell(uuid, None, True)

    def _watch_canary(self, session: Session, told_of: float) -> float:
        """Say it, once, when libvirtd answers what is urgent and nothing else; since when the canary waits."""
        since = self._canary_waits_since
        if since is None or since == told_of or time.monotonic() - since < CANARY_PATIENCE:
            return told_of
        session.main.urgent()
        LOG.warning(
            "libvirtd at %s answers no ordinary calls, nobody's: its workers are taken, by QEMUs that hang, say. No "
            "instance is judged meanwhile. Set min_workers = 20, as max_workers, in libvirtd.conf (virtqemud.conf)",
            self._uri,
        )
        return since

    def _describe(self, session: Session, uuid: str) -> None:
        try:
            with session.quick.turn:  # one worker of libvirtd's for both
                seen = self._domains.one(session.main, uuid)
        except Exception as error:  # whatever is wrong with this one
            if session.main.alive():
                why = told(error)
                level = self._once.level(logging.WARNING, why, uuid)
                LOG.log(level, "instance %s: libvirt does not tell its XML, trying again: %s", uuid, why)
                self._again[uuid] = time.monotonic() + DESCRIBE_AGAIN
            return
        if isinstance(seen, DomainForgotten):
            for connection in session.connections:
                connection.forget(uuid)
        session.feed.describe(seen)

    # -- the other threads ---------------------------------------------------------------------------------------

    def _run_canary(self) -> None:
        asked = time.monotonic()
        while not self._closing.wait(max(0.0, asked + CANARY_INTERVAL - time.monotonic())):
            asked = time.monotonic()
            session = self._session
            if session is None:
                continue
            try:
                with session.canary.turn, _in_turn(session.quick.turn):
                    self._canary_waits_since = asked
                    session.canary.ask()
                    session.feed.heard(asked)
            except libvirt.libvirtError:
                pass  # who keeps the connections sees to it
            except Exception as error:  # else nobody would be judged any more
                level = self._once.level(logging.ERROR, told(error), "canary")
                LOG.log(level, "libvirtd could not be asked whether it answers: %s", told(error))
            self._canary_waits_since = None
            del session

    def _run_ends(self) -> None:
        while not self._closing.is_set():
            try:
                self._processes.watch(self._qemu_ended, ENDS_WAITED)
            except Exception:
                LOG.exception("The ends of QEMU's processes could not be waited for; tried again")
                self._closing.wait(ENDS_WAITED)

    def _qemu_ended(self, uuid: str) -> None:
        session = self._session
        if session is not None:  # else it is told of when there is one
            session.feed.tell(uuid, QemuEnded(), False)

    def _run_quick(self) -> None:
        while (asked := self._quick.get()) is not None:
            try:
                self._ask(*asked)()
            except Exception:
                LOG.exception("instance %s: a question to libvirt failed unexpectedly", asked[0])

    def _ask(self, uuid: str, look: Look) -> Callable[[], None]:
        """Ask; returns how to tell the answer."""
        session = self._session
        answer: Answer
        if session is None:
            answer = Unavailable(NOT_CONNECTED)
        elif isinstance(look, queries.QUICK):
            with session.quick.turn:
                answer = queries.ask(session.quick, uuid, look, self._processes)
        else:
            try:
                with session.looks.line(0) as connection:
                    answer = queries.ask(connection, uuid, look, self._processes)
            except (NoLine, libvirt.libvirtError) as error:
                answer = Unavailable(str(error))
        return partial(self._answer, uuid, look, answer)

    def _sure(self, uuid: str) -> bool:
        """Was its QEMU seen to go on?"""
        return bool(self._processes.would_answer(uuid))

    def _answer(self, uuid: str, look: Look, answer: Answer) -> None:
        self._deliver(Happened(uuid, Looked(look, answer)))

    def _write_state(self, uuid: str, element: str) -> Callable[[], None]:
        session = self._session
        try:
            if session is None:
                raise NoLine(NOT_CONNECTED)
            with session.looks.line(0) as connection:
                queries.write_state(connection, uuid, element)
        except (NoLine, libvirt.libvirtError, ElementTree.ParseError) as error:
            LOG.debug("instance %s: its state could not be written into its metadata: %s", uuid, error)
        return lambda: None

    def _carry_out(self, uuid: str, step: Step) -> Callable[[], None]:
        session = self._session
        try:
            if session is None:
                raise NoLine(NOT_CONNECTED)
            with session.looks.line(0) as connection:
                report = provisioning.carry_out(connection, uuid, step)
        except (NoLine, libvirt.libvirtError) as error:
            report = Provisioned(uuid, step, False, str(error), again=True)
        return partial(self._deliver, report)

    def _deliver(self, report: Report) -> None:
        """Post, unless closed. The lock is what makes `close` a clear end: nothing is posted after it returned."""
        with self._post_lock:
            self._post(report)


@contextlib.contextmanager
def _in_turn(turn: threading.Lock) -> Iterator[None]:
    """After the call that is under way, so that there is one at a time; beside it, if that one does not come back."""
    free = turn.acquire(timeout=CANARY_INTERVAL)
    try:
        yield
    finally:
        if free:
            turn.release()


def _let_go(connections: Sequence[Connection]) -> None:
    """BLOCKS while libvirtd is frozen, until keepalive has given up."""
    for connection in connections:
        connection.release()
