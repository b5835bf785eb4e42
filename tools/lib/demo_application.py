"""An application in a simulated guest: vmhb-guest's own half of the protocol, on a socket where QEMU would listen."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

from vmhb_guest.health import Finding, Report
from vmhb_guest.session import Session


class SimulatedApplication:
    """Answers challenges from a thread of its own, until it is closed. `say` may be called from any thread."""

    def __init__(self, name: str, path: Path) -> None:
        self._finding = Finding(name, "healthy")
        self._name = name
        self._runs = threading.Event()
        self._runs.set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, name="simulated-application", daemon=True).start()

    def say(self, health: str, reason: str) -> float:
        """It is healthy, degraded or unhealthy from now on; returns when (monotonic seconds)."""
        self._finding = Finding(self._name, health, reason)
        return time.monotonic()

    def stall(self) -> None:
        """It stands still, with the guest that it is in."""
        self._runs.clear()

    def go_on(self) -> None:
        """It answers what has come meanwhile."""
        self._runs.set()

    def close(self) -> None:
        """Nobody listens any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        session = Session(self._name, lambda: Report((self._finding,)))
        session.connect()
        while data := connection.recv(4096):
            self._runs.wait()
            session.receive(data, time.monotonic())
            while session.output:
                session.written(connection.send(session.output))
