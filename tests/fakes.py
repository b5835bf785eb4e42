"""Every fake of the unit tests, written by hand. One section for each module that is stood in for."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vmhb_worker.contracts import Commit, Message
from vmhb_worker.core.fault import Change, Fault, FaultState
from vmhb_worker.store import Content, Database, Row

# -- for rpc: the engine -----------------------------------------------------------------------------------------------


class CalledEngine:
    """Notes what it is called with. Answers `answers[name]`; raises it, where that is an exception."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.called = threading.Event()

    def __call__(self, name: str, arguments: dict[str, Any]) -> Any:
        self.calls.append((name, arguments))
        self.called.set()
        answer = self.answers.get(name)
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
    then = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
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
            refused = topic in self._down or self._fails(attempt)
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
