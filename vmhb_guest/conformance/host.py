"""The host's end of a port, as the kit plays it: connects or listens, says things, and keeps all that it hears."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import secrets
import select
import socket
import stat
import time
from collections.abc import Iterator
from typing import Any

#: Bytes of one line kept, whatever its length: the rules are what says that it is too long.
LONGEST = 1 << 20
_CONNECT_AGAIN = 0.05


class Silent(Exception):
    """The agent closed, or did not answer within the kit's patience: what a rule then says is that."""


@dataclasses.dataclass(frozen=True)
class Heard:
    """One line of the agent's."""

    size: int  #: bytes, newline included
    message: Any  #: what it is as JSON; None where it isn't
    connection: int  #: 1, 2, 3 …


@dataclasses.dataclass(frozen=True)
class Asked:
    """One challenge of ours."""

    seq: int
    nonce: str
    health: bool

    @property
    def line(self) -> bytes:
        fields = {"type": "challenge", "seq": self.seq, "nonce": self.nonce, "health": self.health}
        return json.dumps(fields).encode() + b"\n"


class Host:
    """One side of one port. Every wait is for an event, `patience` seconds at most.

    path: a unix socket that QEMU listens on, or a character device. listen: make the socket and wait for the agent.
    """

    def __init__(self, path: str, *, listen: bool = False, patience: float = 30.0) -> None:
        self.patience = patience
        self.heard: list[Heard] = []  #: everything, of all connections
        self.first_bytes: dict[int, bytes] = {}  #: of each connection that said something
        self.connections = 0
        self._path = path
        self._numbers = itertools.count(1000, 1009)  # so that one amiss by a little is none of ours
        self._begun = b""
        self._fd = -1
        self._listener: socket.socket | None = None
        if listen:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
            self._listener.listen(1)

    def close(self) -> None:
        """Leave for good."""
        self.leave()
        if self._listener is not None:
            self._listener.close()
            os.unlink(self._path)

    @property
    def here(self) -> bool:
        """Are we connected?"""
        return self._fd >= 0

    def arrive(self) -> None:
        """Connect, and greet as a host does. Silent where there is nobody to connect to."""
        self.leave()
        deadline = time.monotonic() + self.patience
        while True:
            try:
                self._fd = self._open(deadline)
                break
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise Silent(f"{self._path}: {error}") from error
                time.sleep(_CONNECT_AGAIN)  # nothing tells when a socket begins to be listened on
        os.set_blocking(self._fd, False)
        self.connections += 1
        self._begun = b""
        self.say(b"\n")

    def leave(self) -> None:
        """Disconnect."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def challenge(self, *, health: bool = False, seq: int | None = None, nonce: str | None = None) -> Asked:
        """A new one, not yet sent."""
        number = next(self._numbers) if seq is None else seq
        return Asked(number, secrets.token_hex(8) if nonce is None else nonce, health)

    def say(self, data: bytes) -> None:
        """Send these bytes; Silent where the agent takes them not."""
        deadline = time.monotonic() + self.patience
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                self._await(select.POLLOUT, deadline)
            except OSError as error:
                raise self._closed() from error

    def hear_until(self, asked: Asked, patience: float | None = None) -> list[Heard]:
        """What is heard until this challenge is acknowledged, that included. Silent where it isn't."""
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        mine = len(self.heard)
        while True:
            for number in range(mine, len(self.heard)):
                if answers(self.heard[number], asked):
                    return self.heard[mine : number + 1]
            self._hear(deadline)

    def ask(self, data: bytes = b"", *, health: bool = False) -> list[Heard]:
        """Say this and then a challenge, and what came until that was answered. Agents answer in order: it is all."""
        asked = self.challenge(health=health)
        before = len(self.heard)
        self.say(data + asked.line)
        self.hear_until(asked)
        return self.heard[before:]

    def watch(self, seconds: float) -> int:
        """Listen for a while; how many lines came."""
        before = len(self.heard)
        with contextlib.suppress(Silent):
            deadline = time.monotonic() + seconds
            while True:
                self._hear(deadline)
        return len(self.heard) - before

    def said(self, kind: str) -> Iterator[dict[str, Any]]:
        """All messages of a type, of all connections."""
        for one in self.heard:
            if isinstance(one.message, dict) and one.message.get("type") == kind:
                yield one.message

    def _open(self, deadline: float) -> int:
        if self._listener is not None:
            self._listener.settimeout(max(deadline - time.monotonic(), 0.001))
            connection, _ = self._listener.accept()
            return connection.detach()
        if not stat.S_ISSOCK(os.stat(self._path).st_mode):
            return os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(self.patience)
            one.connect(self._path)
            return one.detach()

    def _hear(self, deadline: float) -> None:
        """The next piece of what the agent says."""
        self._await(select.POLLIN, deadline)
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._closed() from error
        if not data:
            raise self._closed()
        self.first_bytes.setdefault(self.connections, data[:1])
        *lines, self._begun = (self._begun + data).split(b"\n")
        self.heard += [_heard(line, self.connections) for line in lines if line]
        self._begun = self._begun[:LONGEST]

    def _await(self, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._fd, event)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise Silent("no answer in time")

    def _closed(self) -> Silent:
        self.leave()
        return Silent("the agent closed the connection")


def answers(heard: Heard, asked: Asked) -> bool:
    """Is it the ack of this challenge? Also with half of it right: a rule of its own wants the other half."""
    message = heard.message
    if not isinstance(message, dict) or message.get("type") != "ack":
        return False
    return bool(message.get("nonce") == asked.nonce or message.get("seq") == asked.seq)


def _heard(line: bytes, connection: int) -> Heard:
    try:
        message = json.loads(line.decode())
    except (ValueError, RecursionError):
        message = None
    return Heard(len(line) + 1, message, connection)
