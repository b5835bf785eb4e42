"""The owner's end of a keeper: start programs that can't outlive this process, and signal them.

Knows nothing of libvirt or RabbitMQ. Thread-safe: one request at a time under a lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

KEEPER = pathlib.Path(__file__).with_name("keeper.py")

#: How much longer than a test says it is waited, where others have the processors first: `tools/test` says so.
PATIENCE = float(os.environ.get("VMHB_TEST_PATIENCE", "1"))


class LabError(Exception):
    """Something in the lab did not do what was asked; the message says what and where to look."""


def wait_until(condition: Callable[[], bool], timeout: float, what: str, every: float = 0.05) -> float:
    """Poll ``condition`` until it holds; return the moment (monotonic seconds), or LabError.

    timeout: seconds, times PATIENCE. What must be done by a time is asserted of a figure.
    """
    deadline = time.monotonic() + timeout * PATIENCE
    while not condition():
        if time.monotonic() >= deadline:
            raise LabError(f"{what}: not within {timeout * PATIENCE:g} s")
        time.sleep(every)
    return time.monotonic()


class Processes:
    """Programs under one keeper, in the keeper's namespaces."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        hostname: str = "",
        mounts: Sequence[tuple[pathlib.Path, str]] = (),
    ) -> None:
        """Start the keeper; ``folder`` is removed with it. Mounts or a name mean namespaces."""
        self.folder = folder
        plan = {
            "hostname": hostname,
            "mounts": [(str(source), target) for source, target in mounts],
            "remove": str(folder),
        }
        unshare = ["unshare", "--mount", "--uts", "--propagation", "private", "--"]
        argv = [sys.executable, "-I", str(KEEPER), str(os.getpid()), json.dumps(plan)]
        ours, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self._socket = ours
        with theirs, open(folder / "keeper.log", "ab") as log:
            self._keeper = subprocess.Popen(
                unshare + argv if hostname or mounts else argv,
                stdin=theirs.fileno(),
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # a Ctrl-C at the terminal is the owner's to handle
            )
        self._answers = self._socket.makefile("rb")
        with ended_if_it_fails(self):
            self._receive()

    @property
    def keeper_pid(self) -> int:
        """The process whose namespaces the programs run in."""
        return int(self._keeper.pid)

    def spawn(self, argv: Sequence[str], *, log: pathlib.Path, env: Mapping[str, str] | None = None) -> int:
        """Start a program; return its pid. It ends with this process at the latest."""
        environment = dict(os.environ if env is None else env)
        request = {"argv": list(argv), "env": environment, "log": str(log), "folder": "/"}
        return int(self._ask("spawn", **request)["pid"])

    def signal(self, pid: int, number: signal.Signals) -> float:
        """Signal a descendant of the keeper, and nobody else; return the moment."""
        return float(self._ask("signal", pid=pid, number=int(number))["moment"])

    def exit_of(self, pid: int) -> int | None:
        """The exit code of a spawned program (negative: the signal), None while it runs."""
        code = self._ask("exit_of", pid=pid)["code"]
        return None if code is None else int(code)

    def family(self) -> dict[int, str]:
        """Pid and command name of every living process of this keeper."""
        return {int(pid): str(name) for pid, name in self._ask("family")["family"]}

    def end(self) -> None:
        """SIGKILL all of them, remove the folder; returns when nothing is left. May be repeated."""
        with self._lock:
            self._answers.close()
            self._socket.close()
            self._keeper.wait()

    def _ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        with self._lock:
            try:
                self._socket.sendall(json.dumps({"do": verb, **arguments}).encode() + b"\n")
                return self._receive()
            except OSError as error:
                raise LabError(f"the keeper of {self.folder} is gone: {error}") from error

    def _receive(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            log = ""
            with contextlib.suppress(OSError):
                log = (self.folder / "keeper.log").read_text()
            raise LabError(f"the keeper of {self.folder} ended. {log[-2000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise LabError(answer["error"])
        return dict(answer)


@contextlib.contextmanager
def ended_if_it_fails(processes: Processes) -> Iterator[None]:
    """End everything when the block raises: a half-started node leaves nothing behind."""
    try:
        yield
    except BaseException:
        processes.end()
        raise


class Kept(ABC):
    """Something that runs under a keeper of its own. Use as a context manager, or start() and stop()."""

    def __init__(self) -> None:
        self._processes: Processes | None = None  # while it is started

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it is ready."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def processes(self) -> Processes:
        """Its keeper."""
        if self._processes is None:
            raise LabError(f"{self!r} is not started")
        return self._processes

    @property
    def folder(self) -> pathlib.Path:
        """Its files and logs; gone when it stops."""
        return self.processes.folder

    def stop(self) -> None:
        """End at once whatever runs there; remove its files."""
        if self._processes is not None:
            self._processes.end()
            self._processes = None
