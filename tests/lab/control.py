"""The host's end of the guest's control port: run a command in the guest, by a channel of its own.

The other end, and the format of the lines, is ``rootfs/bin/control``. Knows nothing of libvirt.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import pathlib
import secrets
import socket
import threading
import time

from .processes import PATIENCE, LabError


@dataclasses.dataclass(frozen=True)
class Done:
    """What became of a command."""

    moment: float  #: monotonic seconds at which the guest said that it begins
    code: int
    output: str  #: standard output and error together


class Control:
    """One guest's control port. Commands wait for each other: the guest runs one at a time."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._unread = b""

    def connect(self) -> None:
        """Connect if we aren't; an idle guest whose port is connected needs no polling."""
        with self._lock:
            self._connected()

    def close(self) -> None:
        """Drop the connection and what was in it; the next command connects again."""
        with self._lock:
            self._drop()

    def run(self, command: str, timeout: float) -> Done:
        """Run a shell command in the guest and wait for its end.

        LabError when there was no answer within ``timeout`` seconds: a guest that still boots
        answers when it is up, a dead one never.
        """
        return self._ask(command, timeout, wait=True)

    def begin(self, command: str, timeout: float) -> float:
        """Run a command that may never come back (reboot, panic …); the moment of its begin."""
        return self._ask(command, timeout, wait=False).moment

    def _ask(self, command: str, timeout: float, *, wait: bool) -> Done:
        timeout *= PATIENCE
        name, deadline = secrets.token_hex(4), time.monotonic() + timeout
        with self._lock:
            while True:
                try:
                    self._connected().sendall(_request(name, command))
                    self._receive(name, deadline)  # "accepted"
                    moment = time.monotonic()
                    if not wait:
                        return Done(moment, 0, "")
                    code, output, _dot = self._receive(name, deadline)
                    return Done(moment, int(code), base64.b64decode(output).decode(errors="replace"))
                except TimeoutError as error:
                    # Otherwise the guest would find the command when it wakes up.
                    self._drop()
                    raise LabError(f"{self.path.stem}: {command!r} not answered within {timeout:g} s") from error
                except OSError as error:
                    self._drop()
                    if time.monotonic() >= deadline:
                        raise LabError(f"{self.path.stem}: no control port: {error}") from error
                    time.sleep(0.05)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.path))
            except OSError:
                connection.close()
                raise
            self._socket = connection
            self._unread = b""
        return self._socket

    def _drop(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None

    def _receive(self, name: str, deadline: float) -> list[str]:
        """The next line that answers ``name``, without the name; stale lines are skipped."""
        connection = self._connected()
        while True:
            *lines, self._unread = self._unread.split(b"\n")
            for number, line in enumerate(lines):
                words = line.decode(errors="replace").split(" ")
                if words[0] == name and len(words) > 1:
                    self._unread = b"\n".join([*lines[number + 1 :], self._unread])
                    return words[1:]
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            received = connection.recv(65536)
            if not received:
                raise ConnectionResetError("QEMU closed it")
            self._unread += received


def _request(name: str, command: str) -> bytes:
    return f"\n{name} {base64.b64encode(command.encode()).decode()} .\n".encode()
