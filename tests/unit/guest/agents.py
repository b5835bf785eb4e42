"""Guest agents for the conformance kit to try: one that is as small as one can be, and one broken for each rule."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vmhb_guest.codec import MAX_LINE

Fields = dict[str, Any]


class Agent:
    """Keeps to the protocol. Connects to the kit's socket, again whenever it is closed, until `end`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections = 0
        self.buffer = b""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._socket = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Agent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # it may be reading, or be connected to nobody
        self._thread.join(30)

    # -- what the broken ones do otherwise

    def greet(self) -> None:
        self.send(b"\n")
        self.say({"type": "hello", "version": 1, "name": "test"})

    def forget(self) -> None:
        """Before each connection."""
        self.buffer = b""

    def take(self, data: bytes) -> None:
        """What was read."""
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            self.take_line(line)

    def take_line(self, line: bytes) -> None:
        if not line or len(line) >= MAX_LINE:
            return
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            return self.take_garbage()
        if isinstance(fields, dict):
            self.take_message(fields)

    def take_garbage(self) -> None:
        pass

    def take_message(self, fields: Fields) -> None:
        kind = fields.get("type")
        if kind == "challenge":
            self.take_challenge(fields)
        elif kind not in ("welcome", "error", "notice"):
            self.say({"type": "error", "code": "unknown_type", "detail": "what?"})

    def take_challenge(self, fields: Fields) -> None:
        if isinstance(fields.get("nonce"), str) and fields["nonce"]:
            self.acknowledge(fields)

    def acknowledge(self, fields: Fields) -> None:
        self.say(self.ack(fields))

    def ack(self, fields: Fields) -> Fields:
        health = {"health": self.health()} if fields.get("health") else {}
        return {"type": "ack", "seq": fields["seq"], "nonce": fields["nonce"], **health}

    def health(self) -> Any:
        return {"status": "healthy", "checks": [{"name": "disk", "status": "healthy", "message": ""}]}

    # -- and what none does

    def say(self, fields: Fields) -> None:
        self.send(json.dumps(fields).encode() + b"\n")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def hang_up(self) -> None:
        raise ConnectionResetError

    def _live(self) -> None:
        while not self._ended.is_set():
            try:
                with socket.socket(socket.AF_UNIX) as self._socket:
                    self._socket.connect(str(self.path))
                    self.connections += 1
                    self.forget()
                    self.greet()
                    while data := self._socket.recv(65536):
                        self.take(data)
            except OSError:
                self._ended.wait(0.01)


class NonceChanged(Agent):
    def ack(self, fields: Fields) -> Fields:
        return {**super().ack(fields), "nonce": fields["nonce"].lower()}


class SeqOffByOne(Agent):
    def ack(self, fields: Fields) -> Fields:
        return {**super().ack(fields), "seq": min(fields["seq"] + 1, 2**53 - 2)}


class AcksTwice(Agent):
    def acknowledge(self, fields: Fields) -> None:
        self.say(self.ack(fields))
        self.say(self.ack(fields))


class FirstOfARead(Agent):
    """A message in the same read as another's end is lost, unless it is the last; as an agent of old had it."""

    def take(self, data: bytes) -> None:
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\n")
        lines = [line for line in lines if line]
        # Three challenges together, and no more: bursts and other rules' lines are read well.
        if len(lines) == 3 and all(b'"challenge"' in line and len(line) < 200 for line in lines):
            del lines[1]
        for line in lines:
            self.take_line(line)


class ReadIsALine(Agent):
    """Each read is taken for whole lines."""

    def take(self, data: bytes) -> None:
        whole = data.endswith(b"\n")
        if not whole and len(data) < 200 and not data.endswith(b"non"):
            data += b"\n"
        super().take(data)


class BlankIsTheEnd(Agent):
    blank = 0

    def take_line(self, line: bytes) -> None:
        self.blank = 0 if line else self.blank + 1
        if self.blank > 100:
            self.blank = 0
            self.hang_up()
        super().take_line(line)


class TailOfTooLong(Agent):
    """What doesn't fit its buffer is dropped, and the rest is read as if it were a line."""

    def take(self, data: bytes) -> None:
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            self.take_line(line[len(line) - len(line) % MAX_LINE :] if len(line) > MAX_LINE else line)


class CrashesOnGarbage(Agent):
    def take_garbage(self) -> None:
        if self.connections != self.returned:
            self.returned = self.connections
            self.hang_up()

    returned = 0


class AcksNoNonce(Agent):
    def take_challenge(self, fields: Fields) -> None:
        self.say(self.ack({**fields, "nonce": str(fields.get("nonce") or "0")}))


class IgnoresUnknownTypes(Agent):
    def take_message(self, fields: Fields) -> None:
        if fields.get("type") == "challenge":
            super().take_message(fields)


class StrictKeys(Agent):
    def take_challenge(self, fields: Fields) -> None:
        if set(fields) <= {"type", "seq", "nonce", "health", "padding"}:
            super().take_challenge(fields)


class ObjectsToErrors(Agent):
    def take_message(self, fields: Fields) -> None:
        if fields.get("type") == "error":
            self.say({"type": "error", "code": "bad_message", "detail": "what error?"})
        else:
            super().take_message(fields)


class HealthOk(Agent):
    def health(self) -> Any:
        return {"status": "ok", "checks": []}


class ChecksInline(Agent):
    """Runs its checks before it answers; one of them takes long, from the third time on."""

    asked = 0

    def health(self) -> Any:
        self.asked += 1
        if self.asked == 3:
            time.sleep(3 * SHORT)
        return super().health()


class KeepsHalfLines(Agent):
    """Takes the first newline of a new connection for the greeting, and goes on with what it had."""

    greeted = True

    def forget(self) -> None:
        self.greeted = False

    def take(self, data: bytes) -> None:
        if not self.greeted and data.startswith(b"\n"):
            data = data[1:]
        self.greeted = True
        super().take(data)


class SaysItAgain(Agent):
    """Repeats its last answer to whoever comes, in case that it was lost."""

    last: Fields | None = None

    def ack(self, fields: Fields) -> Fields:
        self.last = super().ack(fields)
        self.history = [*getattr(self, "history", []), self.last][-3:]
        return self.last

    def greet(self) -> None:
        super().greet()
        for one in getattr(self, "history", []):
            self.say(one)


class TiresOfHosts(Agent):
    """Goes wrong once the host has come back a few times."""

    def take(self, data: bytes) -> None:
        if self.connections in (5, 6):
            self.hang_up()
        super().take(data)


class NoNewline(Agent):
    def greet(self) -> None:
        self.say({"type": "hello", "version": 1, "name": "test"})


class HelloOfNoVersion(Agent):
    def greet(self) -> None:
        self.send(b"\n")
        self.say({"type": "hello", "name": "test"})


class OwnMessages(Agent):
    def greet(self) -> None:
        super().greet()
        self.say({"type": "status", "text": "here I am"})


class LongLines(Agent):
    def health(self) -> Any:
        checks = [{"name": f"check-{number}", "status": "healthy", "message": "x" * 255} for number in range(20)]
        return {"status": "healthy", "checks": checks}


class Chatters(Agent):
    def acknowledge(self, fields: Fields) -> None:
        for _ in range(20):
            self.say({"type": "maintenance", "seconds": 0})
        super().acknowledge(fields)


#: Seconds that an answer may take, for `ChecksInline`.
SHORT = 0.5
#: The rule that each breaks, and no other.
BROKEN: dict[str, Callable[[Path], Agent]] = {
    "echo-nonce": NonceChanged,
    "echo-seq": SeqOffByOne,
    "each-once": AcksTwice,
    "coalesced": FirstOfARead,
    "split": ReadIsALine,
    "unknown-type": IgnoresUnknownTypes,
    "empty-lines": BlankIsTheEnd,
    "too-long": TailOfTooLong,
    "not-json": CrashesOnGarbage,
    "bad-challenge": AcksNoNonce,
    "unknown-keys": StrictKeys,
    "no-echo-of-errors": ObjectsToErrors,
    "health": HealthOk,
    "no-waiting-for-checks": ChecksInline,
    "half-line": KeepsHalfLines,
    "nothing-stale": SaysItAgain,
    "host-returns": TiresOfHosts,
    "first-newline": NoNewline,
    "hello": HelloOfNoVersion,
    "legal": OwnMessages,
    "line-length": LongLines,
    "quiet": Chatters,
}
