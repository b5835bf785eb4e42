"""The unit tests' fakes, written by hand. One section for each module that is stood in for.

The consumer's are in tests/unit/consumer/fakes.py: they need its libraries, which the worker's tests do without. Here
they are found by their names, and imported then.
"""

from __future__ import annotations

import base64
import heapq
import importlib
import itertools
import json
import math
import socket
import sqlite3
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmhb_common.model.fault import Change, Fault, FaultState
from vmhb_worker.core import protocol
from vmhb_worker.core.events import (
    AgentReplied,
    Answer,
    AskEnded,
    ChannelUp,
    CommandEnded,
    Control,
    Failure,
    Happened,
    Job,
    Look,
    LookControl,
    Looked,
    LookJob,
    LookProcess,
    LookState,
    LookVitals,
    PeriodSet,
    Process,
    Said,
    SetBalloonPeriod,
    State,
    Step,
    Vitals,
)
from vmhb_worker.core.main_thread import MainThread
from vmhb_worker.core.protocol import Health
from vmhb_worker.core.questions import Question
from vmhb_worker.delivery.sqlite import Database
from vmhb_worker.delivery.tables import Content, Row
from vmhb_worker.engine.inbox import Inbox
from vmhb_worker.interfaces import Clock, Commit, Message, Post, Saved, Watcher

if not TYPE_CHECKING:  # it would let any name pass

    def __getattr__(name: str) -> Any:
        """One of the consumer's."""
        consumers = importlib.import_module("tests.unit.consumer.fakes")
        if name.startswith("_") or not hasattr(consumers, name):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(consumers, name)


# -- for rpc: the engine -----------------------------------------------------------------------------------------------


class CalledEngine:
    """Notes what it is asked. Answers `answers[method]`; raises it, where that is an exception."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[Question[Any]] = []
        self.called = threading.Event()

    def __call__(self, question: Question[Any]) -> Any:
        self.calls.append(question)
        self.called.set()
        answer = self.answers.get(question.method)
        if isinstance(answer, Exception):
            raise answer
        return answer


# -- for systemd: its socket -------------------------------------------------------------------------------------------


class NotifySocket:
    """The receiving end of sd_notify, at a path, or at a name of the abstract namespace."""

    def __init__(self, address: str) -> None:
        self.environ = {"NOTIFY_SOCKET": address}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def received(self) -> str:
        """The next datagram that has arrived."""
        return self._socket.recv(4096).decode()

    def close(self) -> None:
        self._socket.close()


# -- for --check-config: files, and things to reach --------------------------------------------------------------------


def write_config(folder: Path, text: str) -> list[str]:
    """Write a configuration file; the arguments that name it."""
    path = folder / "vmhb-worker.conf"
    path.write_text(text)
    return ["--config-file", str(path)]


def hangs() -> str | None:
    """Something to reach that never answers. Its thread is a daemon, and ends with the tests."""
    threading.Event().wait()
    return None


def raises(error: Exception) -> Callable[[], str | None]:
    """Something to reach that fails in a way that nobody thought of."""

    def look() -> str | None:
        raise error

    return look


# -- for delivery: objects, store, outbox, notifications ---------------------------------------------------------------


def a_fault(fault_id: str = "0b7f0b6e-5b7d-4d4b-9a57-0c8f5b1f7c11", **changed: Any) -> Fault:
    """A fault with something in every field that a raise fills."""
    then = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    values: dict[str, Any] = {
        "fault_id": fault_id,
        "sequence": 1,
        "state": FaultState.RAISED,
        "severity": "critical",
        "occurred_at": then,
        "cause": "guest_hung",
        "confidence": "high",
        "recommended_action": "alarm",
        "withheld": "evidence",
        "recovery_attempt": 0,
        "drill": False,
        "resolution": None,
        "host": "cn1",
        "instance_uuid": "9d1f0e52-8d5a-4d0e-9d62-0f2f8f6f3b21",
        "instance_name": "instance-00000001",
        "display_name": "web",
        "project_id": "p1",
        "flavor_name": "m1.small",
        "channel": "agent",
        "misses": 3,
        "skipped": 0,
        "threshold": 3,
        "interval": 10.0,
        "timeout": 5.0,
        "last_ack_at": then,
        "suspected_at": then,
        "raised_at": then,
        "cleared_at": None,
        "reason": "the guest's kernel no longer answers",
        "evidence": {"balloon": {"value": "no answer", "age": 1.5}, "io": {"value": "unavailable", "reason": "hung"}},
    }
    return Fault(**(values | changed))


def told(number: int, *, fault_id: str = "", change: Change = Change.UPDATED, collapse: str = "") -> Commit:
    """A commit of one message that can be told by its number."""
    return Commit(messages=[Message(str(change), {"number": number}, "p1", fault_id, collapse)])


def a_row(number: int, fault_id: str = "", change: Change = Change.UPDATED, *, collapse: str = "") -> Row:
    """A row that can be told by its number, which is its id."""
    return Row(number, "t", f"m{number}", str(change), "p1", fault_id, collapse, json.dumps({"number": number}), 1.5)


def number_of(row: Row) -> int:
    """The number that `told` or `a_row` gave it."""
    number: int = json.loads(row.payload)["number"]
    return number


class TakingBroker:
    """Takes what is sent to it, and refuses or hangs when told to. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: list[Row] = []
        self.refused: list[Row] = []
        self._down: set[str] = set()
        self._frozen = False
        self._fails: Callable[[int], bool] = lambda _attempt: False
        self._never: Callable[[Row], bool] = lambda _row: False
        self.attempts = 0
        self.held = 0

    def send(self, topic: str, row: Row) -> None:
        """As `outbox.Send`."""
        with self._changed:
            self.attempts += 1
            attempt = self.attempts
            self.held += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._frozen)
            self.held -= 1
            refused = topic in self._down or self._fails(attempt) or self._never(row)
            (self.refused if refused else self._taken).append(row)
            self._changed.notify_all()
        if refused:
            raise ConnectionError("the broker is down")

    def go_down(self, *topics: str) -> None:
        """Refuse what is for these topics."""
        with self._changed:
            self._down |= set(topics)

    def come_up(self) -> None:
        """Take everything again."""
        with self._changed:
            self._down.clear()

    def freeze(self) -> None:
        """Answer no more."""
        with self._changed:
            self._frozen = True

    def thaw(self) -> None:
        """Answer again, those who wait first."""
        with self._changed:
            self._frozen = False
            self._changed.notify_all()

    def fail_when(self, fails: Callable[[int], bool]) -> None:
        """Refuse the attempts of these numbers, which count from 1."""
        with self._changed:
            self._fails = fails

    def never_take(self, which: Callable[[Row], bool]) -> None:
        """Refuse these, whatever becomes of others."""
        with self._changed:
            self._never = which

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until what happens here has made this true."""
        with self._changed:
            assert self._changed.wait_for(condition, 20), f"the broker took {len(self._taken)} rows, and that was all"

    def expect(self, *numbers: int, topic: str = "t") -> None:
        """Wait until this topic has taken as many, and see that they are these, in this order."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.rows(topic)) >= len(numbers), 20)
            assert [number_of(row) for row in self.rows(topic)] == list(numbers)

    def rows(self, topic: str = "t") -> list[Row]:
        """What it took, in order."""
        return [row for row in list(self._taken) if row.topic == topic]


class Disk:
    """Opens databases that fail when they are told to; `open` is what an outbox wants. Notes what is written."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.writes: list[tuple[Content, bool]] = []
        self.written = threading.Event()
        self.block = threading.Event()
        self.block.set()

    def open(self, path: Path) -> Database:
        """A database on this disk."""
        self.work()
        return _OnDisk(path, self)

    def work(self) -> None:
        """Take as long as `block` says; raise, when the disk is to fail."""
        self.block.wait()
        if self.error is not None:
            raise self.error

    def fill(self) -> None:
        """As SQLite says it."""
        self.error = sqlite3.OperationalError("database or disk is full")

    def mend(self) -> None:
        """Work again."""
        self.error = None


class _OnDisk(Database):
    def __init__(self, path: Path, disk: Disk) -> None:
        self._disk = disk
        super().__init__(path)

    def write(self, changes: Content, *, durable: bool = True) -> None:
        self._disk.work()
        super().write(changes, durable=durable)
        self._disk.writes.append((changes, durable))
        self._disk.written.set()


class FlakyTransport:
    """Stands in for oslo.messaging's: notes how each message was sent, and raises what is in `errors` first."""

    def __init__(self, errors: list[Exception]) -> None:
        self._driver = self
        self.errors = errors
        self.sent: list[tuple[str, int]] = []
        self.cleaned = threading.Event()

    def _send_notification(
        self, target: Any, _ctxt: dict[str, Any], message: dict[str, Any], version: float, retry: int
    ) -> None:
        assert (version, retry) == (2.0, 1)
        self._take("declares", message)

    def _send(
        self, target: Any, _ctxt: dict[str, Any], message: dict[str, Any], retry: int, transport_options: Any
    ) -> None:
        assert (retry, transport_options.at_least_once) == (1, True)
        self._take("mandatory", message)

    def _take(self, how: str, message: dict[str, Any]) -> None:
        message["_unique_id"] = "as the driver does"
        if self.errors:
            raise self.errors.pop(0)
        self.sent.append((how, message["payload"]["number"]))

    def cleanup(self) -> None:
        """Its goodbye."""
        self.cleaned.set()


class BlockedTransport(FlakyTransport):
    """One whose first message waits until it is over, as on a broker that an alarm has blocked."""

    def __init__(self, over: threading.Event) -> None:
        super().__init__([])
        self._over = over

    def _take(self, how: str, message: dict[str, Any]) -> None:
        self._over.wait()
        super()._take(how, message)


class BlockedServer:
    """Stands in for oslo.messaging's, on a broker that does not let it begin before it is over."""

    def __init__(self, over: threading.Event) -> None:
        self._over = over

    def start(self, override_pool_size: int | None = None) -> None:
        """BLOCKS."""
        self._over.wait()

    def stop(self) -> None:
        """At once."""

    def wait(self) -> None:
        """At once."""


class EndlessServer:
    """Stands in for oslo.messaging's, on a broker that is frozen by the time it is to end."""

    def __init__(self) -> None:
        self.ending = threading.Event()

    def start(self, override_pool_size: int | None = None) -> None:
        """At once."""

    def stop(self) -> None:
        """BLOCKS, for ever."""
        self.ending.set()
        threading.Event().wait()

    def wait(self) -> None:
        """Never reached."""


# -- for the engine: its clock, inbox and ports ------------------------------------------------------------------------


class MovedClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.clock = Clock(lambda: self.now, self.wall)

    def wall(self) -> datetime:
        """Runs along."""
        return datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=self.now)


class ClockInbox(Inbox):
    """Does not sleep: waiting moves the clock. Things can be left in it for later."""

    def __init__(self, clock: MovedClock) -> None:
        super().__init__()
        self._clock = clock
        self._later: list[tuple[float, int, Any]] = []
        self._order = itertools.count()

    def post_at(self, at: float, item: Any) -> None:
        """Arrives when the clock gets there."""
        heapq.heappush(self._later, (at, next(self._order), item))

    def wait(self, seconds: float) -> None:
        """Until something is due, or has arrived."""
        if self._queue:
            return
        until = self._clock.now + max(0.0, seconds)
        if self._later and self._later[0][0] <= until:
            until, _, item = heapq.heappop(self._later)
            self._queue.append(item)
        self._clock.now = max(self._clock.now, until)


class ScriptedHost:
    """Hypervisor and agent of guests that do as they are told. `dead`: uuids that do not answer.

    `alive_kernels`: whose balloon goes on answering. What was done to them is in `looks`, `asks`, `states`, `steps` and
    `described`; how steps end, tests tell by themselves.
    """

    def __init__(self, clock: MovedClock, inbox: ClockInbox) -> None:
        self._clock = clock
        self._inbox = inbox
        self.dead: set[str] = set()
        self.alive_kernels: set[str] = set()
        self.looks: list[tuple[str, Look]] = []
        self.asks: list[str] = []
        self.states: list[tuple[str, str]] = []
        self.steps: list[tuple[str, Step]] = []
        self.described: list[str] = []
        self.commands: list[tuple[str, str]] = []
        self.check = (0, b"")
        self.refuses = ""
        self.command_takes = 0.005

    def open(self, post: Post) -> None:
        """Nothing to begin."""

    def describe(self, uuid: str) -> None:
        """Noted. Tests tell by themselves."""
        self.described.append(uuid)

    def look(self, uuid: str, look: Look) -> None:
        """Answered at once."""
        self.looks.append((uuid, look))
        lives = uuid not in self.dead or uuid in self.alive_kernels
        answers: dict[type[Any], Answer] = {
            LookState: State("running", "booted", True),
            LookControl: Control("ok", 0.0),
            LookProcess: Process(self._clock.now, MainThread("S", int(self._clock.now * 20))),
            LookJob: Job(None),
            LookVitals: Vitals(int(self._clock.now) if lives else 1, 0, 0),
            SetBalloonPeriod: PeriodSet(),
        }
        self._inbox.post(Happened(uuid, Looked(look, answers[type(look)])))

    def ask(self, uuid: str, nonce: int, timeout: int) -> None:
        """Answers in 10 ms, or is silent for the whole of the time-out."""
        self.asks.append(uuid)
        if uuid in self.dead:
            end = AskEnded(uuid, nonce, float(timeout), Failure.NO_ANSWER)
            self._inbox.post_at(self._clock.now + timeout, end)
        else:
            self._inbox.post_at(self._clock.now + 0.01, AskEnded(uuid, nonce, 0.01))

    def run(self, uuid: str, nonce: int, command: str, timeout: int) -> None:
        """A health check that ends at once as `check` says: exit code and output; or as the agent says in `refuses`."""
        asked = json.loads(command)
        if asked["execute"] == "guest-get-osinfo":
            told = AgentReplied(json.dumps({"return": {"id": "debian", "kernel-version": "#1 SMP"}}))
            self._inbox.post_at(self._clock.now + 0.005, CommandEnded(uuid, nonce, told))
            return
        self.commands.append((uuid, asked["execute"]))
        output = base64.b64encode(self.check[1]).decode()
        ended = {"exited": True, "exitcode": self.check[0], "out-data": output}
        answer = {"pid": 7} if asked["execute"] == "guest-exec" else ended
        replied = AgentReplied(json.dumps({"return": answer}))
        if self.refuses:
            replied = AgentReplied(None, Failure.GARBLED, self.refuses)
        if uuid in self.dead:
            replied = AgentReplied(None, Failure.NO_ANSWER, "timed out")
        self._inbox.post_at(self._clock.now + self.command_takes, CommandEnded(uuid, nonce, replied))

    def agent_command(self, uuid: str, command: str, timeout: int) -> str:
        """Asked through `ask` here."""
        raise AssertionError

    def write_state(self, uuid: str, element: str) -> None:
        """Noted."""
        self.states.append((uuid, element))

    def provision(self, uuid: str, step: Step) -> None:
        """Noted."""
        self.steps.append((uuid, step))

    def identity(self) -> str | None:
        """Nobody asks."""
        return None

    @property
    def folder(self) -> None:
        """Nobody asks."""

    def close(self, timeout: float) -> None:
        """Nothing to end."""


class ScriptedChannels:
    """Application channels of guests that do as they are told. What was said to them is in `said`.

    `silent`: uuids that answer nothing. health: what the others say when they are asked.
    """

    def __init__(self, clock: MovedClock, inbox: ClockInbox) -> None:
        self._clock = clock
        self._inbox = inbox
        self.silent: set[str] = set()
        self.health: Health | None = None
        self.paths: dict[str, str] = {}
        self.said: list[tuple[str, protocol.Message]] = []

    def open(self, post: Post, watcher: Watcher) -> None:
        """Nothing to begin."""

    def connect(self, uuid: str, path: str, rate: float) -> None:
        """Connected at once."""
        if self.paths.get(uuid) != path:
            self.paths[uuid] = path
            self._inbox.post(Happened(uuid, ChannelUp()))

    def forget(self, uuid: str) -> None:
        """Noted."""
        self.paths.pop(uuid, None)

    def send(self, uuid: str, message: protocol.Message) -> bool:
        """Answered in a millisecond, where it is a challenge."""
        self.said.append((uuid, message))
        if isinstance(message, protocol.Challenge) and uuid not in self.silent:
            ack = protocol.Ack(message.seq, message.nonce, self.health if message.health else None)
            self._inbox.post_at(self._clock.now + 0.001, Happened(uuid, Said(ack)))
        return True

    def hear(self, uuid: str, message: protocol.Message) -> None:
        """The guest says something of itself."""
        self._inbox.post(Happened(uuid, Said(message)))

    def read(self, uuid: str) -> None:
        """There is nothing that was not told."""

    def deadline(self) -> float:
        """Never."""
        return math.inf

    def tick(self, now: float) -> None:
        """Nothing is due."""

    def told(self, uuid: str) -> dict[str, Any] | None:
        """All is well."""
        return {"garbled": 0} if uuid in self.paths else None

    def close(self) -> None:
        """Nothing to end."""


class KeptCommits:
    """A store that keeps what it is given, and calls `done` when told to."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.hold = False
        self.held: list[Callable[[], None]] = []

    def load(self) -> Saved:
        """Tests hand it over by themselves."""
        return Saved()

    def commit(self, commit: Commit, done: Callable[[], None] | None = None) -> None:
        """Kept; done at once, unless `hold`."""
        self.commits.append(commit)
        if done is not None and self.hold:
            self.held.append(done)
        elif done is not None:
            done()

    def health(self) -> dict[str, Any]:
        """All is well."""
        return {"waiting": 0, "oldest": None, "degraded": None}

    def close(self, timeout: float) -> None:
        """Nothing to end."""

    def messages(self, event_type: str) -> list[dict[str, Any]]:
        """The payloads' fields of all messages of this type."""
        return [
            message.payload["vmhb_object.data"]
            for commit in self.commits
            for message in commit.messages
            if message.event_type == event_type
        ]
