"""Programs of an OpenStack service, from a Python environment of their own, in a folder of their own."""

from __future__ import annotations

import contextlib
import pathlib
import shlex
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import requests

from tests.lab.processes import LabError, Processes, wait_until
from tools.lib import prepare

if TYPE_CHECKING:
    from typing_extensions import Self

Options = Mapping[str, Mapping[str, object]]


class Programs:
    """Use as a context manager: afterwards none runs, and the folder is gone."""

    def __init__(self, environment: prepare.Environment) -> None:
        """environment: as `tools/test` made it."""
        self.venv = prepare.place(environment)
        self._pids: dict[str, int] = {}

    def __enter__(self) -> Programs:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="vmhb-", dir="/tmp"))
        self._processes = Processes(self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.end()

    @property
    def environ(self) -> dict[str, str]:
        """What they, and shell scripts that use them, find."""
        home = {"HOME": str(self.folder), "LANG": "C.UTF-8", "PYTHONWARNINGS": "ignore"}
        return {"PATH": f"{self.venv / 'bin'}:/usr/bin:/bin", "PYTHONUNBUFFERED": "1", **home}

    def write(self, name: str, options: Options) -> pathlib.Path:
        """A configuration file. An option's value may be a list: it is said several times."""
        lines: list[str] = []
        for group, values in options.items():
            lines.append(f"[{group}]")
            for option, value in values.items():
                lines += [f"{option} = {one}" for one in (value if isinstance(value, list) else [value])]
        (self.folder / name).write_text("\n".join(lines) + "\n")
        return self.folder / name

    def run(self, *argv: str, environ: Mapping[str, str] | None = None) -> str:
        """One that ends; its output. LabError when it fails."""
        env = {**self.environ, **(environ or {})}
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120, cwd=self.folder, env=env)
        if done.returncode:
            raise LabError(f"{shlex.join(argv)}: {done.returncode}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout

    def spawn(self, name: str, *argv: str) -> None:
        """One that goes on; its output goes to <name>.log."""
        program = [str(self.venv / "bin" / argv[0]), *argv[1:]]
        log = self.folder / f"{name}.log"
        self._pids[name] = self._processes.spawn(program, log=log, env=self.environ)

    def kill(self, name: str) -> None:
        """kill -9 of one and of all that it started: a worker must not go on where its master is gone."""
        doomed = _tree(self._pids.pop(name))
        for pid in doomed:
            with contextlib.suppress(LabError):  # it may have gone with its parent
                self._processes.signal(pid, signal.SIGKILL)
        wait_until(lambda: not doomed & set(self._processes.family()), 30, f"{name} and its children end")

    def log(self, name: str) -> str:
        """What one said."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_said(self, name: str, text: str, times: int = 1, timeout: float = 120) -> None:
        """Until one has said this so often."""
        self._wait(name, lambda: self.log(name).count(text) >= times, f"{name} says {text!r}", timeout)

    def wait_answers(self, name: str, url: str, timeout: float = 120) -> None:
        """Until one answers HTTP, whatever it says."""

        def answers() -> bool:
            try:
                return requests.get(url, timeout=5).status_code < 500
            except (requests.ConnectionError, requests.Timeout):
                return False

        self._wait(name, answers, f"{name} answers at {url}", timeout)

    def _wait(self, name: str, holds: Callable[[], bool], what: str, timeout: float) -> None:
        def now() -> bool:
            if self._processes.exit_of(self._pids[name]) is not None:
                raise LabError(f"{name} ended: {self.log(name)[-4000:]}")
            return holds()

        try:
            wait_until(now, timeout, what, every=0.1)
        except LabError as error:
            raise LabError(f"{error}\n{self.log(name)[-4000:]}") from error


class Service(ABC):
    """A service made of such programs. Use as a context manager."""

    environment: ClassVar[prepare.Environment]

    def __init__(self, transport_url: str) -> None:
        self.programs = Programs(self.environment)
        self.transport_url = transport_url

    def __enter__(self) -> Self:
        self.programs.__enter__()
        try:
            self.set_up(self.programs)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.programs.__exit__()

    @abstractmethod
    def set_up(self, programs: Programs) -> None:
        """Write its configuration, and start all of it."""


def _tree(pid: int) -> set[int]:
    """A process and all that it started."""
    found = {pid}
    for listed in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found |= {one for child in listed.read_text().split() for one in _tree(int(child))}
    return found
