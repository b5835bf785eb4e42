"""What the lab's database servers share: own files, own port on loopback, halted and booted again as a test wants."""

from __future__ import annotations

import pathlib
import signal
import tempfile
from abc import abstractmethod
from typing import ClassVar

from .broker import free_ports
from .processes import Kept, LabError, Processes, ended_if_it_fails, wait_until


class DatabaseServer(Kept):
    """One server."""

    #: What it is called in messages.
    name: ClassVar[str]
    #: Ends it at once, as a host that fails does; it recovers when it is booted again.
    end_signal: ClassVar[signal.Signals]

    def __init__(self) -> None:
        super().__init__()
        self.port = 0
        self._server = 0

    @abstractmethod
    def make(self, database: str) -> str:
        """An empty database; its URL, for SQLAlchemy."""

    def start(self) -> None:
        """Make the data folder, and run on a free port (some seconds)."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="vmhb-", dir="/tmp"))
        self.port = free_ports(1)[0]
        self._processes = Processes(folder)
        with ended_if_it_fails(self._processes):
            self._install()

    def boot(self, *more: str) -> None:
        """Run it where it was halted. more: arguments."""
        self._server = self.processes.spawn(self._program(*more), log=self.folder / "server.out", env=self._environ())
        wait_until(self._ready, 60, f"{self.name} is ready", every=0.1)

    def halt(self) -> None:
        """End it at once; its files stay."""
        self.processes.signal(self._server, self.end_signal)
        wait_until(self._ended, 10, "gone")

    @abstractmethod
    def _install(self) -> None:
        """Fill the data folder, and boot."""

    @abstractmethod
    def _program(self, *more: str) -> list[str]:
        """What is run."""

    def _environ(self) -> dict[str, str] | None:
        """Its environment; None: ours."""
        return None

    @abstractmethod
    def _answers(self) -> bool:
        """Does it answer clients?"""

    def _ended(self) -> bool:
        return self.processes.exit_of(self._server) is not None

    def _ready(self) -> bool:
        if self._ended():
            raise LabError(f"{self.name} ended at once: {(self.folder / 'server.out').read_text()[-2000:]}")
        return self._answers()
