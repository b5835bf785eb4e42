"""A `vmhb-worker` of our own: its configuration, its process, its log, and its RPC."""

from __future__ import annotations

import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from oslo_config import cfg

from tests.lab.processes import wait_until
from vmhb_common import worker_api
from vmhb_common.worker_api import WorkerAPI

Options = Mapping[str, Mapping[str, object]]

#: What it logs once its RPC is there: after libvirt told that no other worker watches it.
SERVED = "RPC is served"


class WorkerProcess:
    """One worker. `options`: group -> name -> value, over what the stage itself needs."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        uri: str,
        transport_url: str,
        host: str = "lab-node",
        options: Options | None = None,
    ) -> None:
        self.folder = folder
        self.host = host
        self.log = folder / "worker.log"
        self._url = transport_url
        self._options: dict[str, dict[str, object]] = {
            "DEFAULT": {
                "host": host,
                "state_path": folder / "state",
                "transport_url": transport_url,
                "log_file": self.log,
                "use_stderr": "false",
            },
            "libvirt": {"connection_uri": uri},
        }
        for group, values in (options or {}).items():
            self._options.setdefault(group, {}).update(values)
        #: What Python runs; a test that breaks the worker from within says "-c" and a program that calls `main`.
        self.program: tuple[str, ...] = ("-m", "vmhb_worker.cmd.worker")
        #: What begins its command line, such as `Node.inside`: application channels are seen from in there only.
        self.where: Callable[..., list[str]] = lambda *argv: list(argv)
        self._process: subprocess.Popen[bytes] | None = None
        self._served = 0  # how often earlier lives said SERVED
        self._api: WorkerAPI | None = None

    @property
    def config(self) -> pathlib.Path:
        """Its configuration file, as last started."""
        return self.folder / "worker.conf"

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def rss(self) -> int:
        """Resident memory, bytes."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    @property
    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def write_config(self) -> pathlib.Path:
        """Write the configuration file, and return its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for group, values in self._options.items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in values.items())]
        self.config.write_text("\n".join(lines) + "\n")
        return self.config

    def set(self, group: str, name: str, value: object) -> None:
        """Another option, for the next start."""
        self._options.setdefault(group, {})[name] = value

    def start(self, environ: Mapping[str, str] | None = None, wait: bool = True) -> float:
        """Start it; wait: until it says that it runs. Returns when it was started."""
        self.write_config()
        at = time.monotonic()
        said, self._served = self.said("is running"), self.said(SERVED)
        with (self.folder / "worker.out").open("ab") as out:
            self._process = subprocess.Popen(
                self.where(sys.executable, *self.program, "--config-file", str(self.config)),
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        if wait:
            wait_until(lambda: self.said("is running") > said or self.ended, 30, "the worker runs")
        return at

    @property
    def ended(self) -> bool:
        """Has its process ended?"""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> float:
        """kill -9. Returns when."""
        return self._signal(signal.SIGKILL)

    def pause(self) -> float:
        """SIGSTOP, as a host that stalls."""
        return self._signal(signal.SIGSTOP, wait=False)

    def go_on(self) -> float:
        """SIGCONT."""
        return self._signal(signal.SIGCONT, wait=False)

    def stop(self, timeout: float = 10) -> float:
        """SIGTERM. Returns how many seconds it took to end."""
        if self.ended:
            return 0.0
        at = self._signal(signal.SIGTERM, wait=False)
        self.wait(timeout)
        return time.monotonic() - at

    def stop_by_another_thread(self, timeout: float = 10) -> float:
        """The same, and not its main thread takes the signal, but the one that was begun last."""
        last = max(int(task.name) for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir())
        assert last != self.pid
        at = time.monotonic()
        assert ctypes.CDLL(None).tgkill(self.pid, last, int(signal.SIGTERM)) == 0
        self.wait(timeout)
        return time.monotonic() - at

    def wait(self, timeout: float) -> int:
        """Wait for its end; its exit code. What outlives the time-out is killed, and is an error."""
        assert self._process is not None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def said(self, text: str) -> int:
        """How many lines of its log have this text."""
        if not self.log.exists():
            return 0
        return sum(text in line for line in self.log.read_text(errors="replace").splitlines())

    def moment_of(self, text: str) -> float:
        """When (monotonic seconds) it wrote the first line with this text: to the millisecond, and needs no broker."""
        line = next(line for line in self.log.read_text(errors="replace").splitlines() if text in line)
        return datetime.fromisoformat(line[:23]).timestamp() - (time.time() - time.monotonic())

    # -- RPC -----------------------------------------------------------------------------------------------------

    @property
    def api(self) -> WorkerAPI:
        """Its RPC, over the broker; from when it is served on: a call that came before would be lost."""
        wait_until(lambda: self.said(SERVED) > self._served or self.ended, 30, "the worker serves RPC")
        if self._api is None:
            conf = cfg.ConfigOpts()
            conf([], project="stage", default_config_files=[], default_config_dirs=[])
            self._api = WorkerAPI(worker_api.get_transport(conf, self._url))
        return self._api

    def show(self, uuid: str) -> dict[str, Any]:
        """All that it knows of an instance; {} when nothing."""
        shown = self.api.show(self.host, uuid)
        return shown or {}

    def wait_known(self, uuid: str, timeout: float = 60) -> None:
        """Until it watches this instance, has its acknowledgement, and knows that its balloon answers."""

        def known() -> bool:
            shown = self.show(uuid)
            return shown.get("state") == "alive" and shown.get("balloon_answers", False)

        wait_until(known, timeout, f"the worker knows {uuid} well")

    def _signal(self, number: int, wait: bool = True) -> float:
        assert self._process is not None
        at = time.monotonic()
        self._process.send_signal(number)
        if wait:
            self._process.wait(10)
        return at
