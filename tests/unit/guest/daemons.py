"""The real daemon as a process of its own, the kit's host at the other end of its port, and applications to join it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vmhb_guest import control
from vmhb_guest.conformance.host import Host

ROOT = Path(__file__).parent.parent.parent.parent
#: Seconds to wait for what does happen, on however busy a machine.
PATIENCE = 60.0


def oldest_python() -> str:
    """The oldest interpreter at hand that the guest's package says it runs on."""
    for minor in range(8, sys.version_info.minor):
        found = shutil.which(f"python3.{minor}")
        candidates = [Path(found)] if found else []
        for path in [*sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")), *candidates]:
            done = subprocess.run([path, "-c", "import json, select"], check=False, capture_output=True)
            if done.returncode == 0:  # pyenv's shims are there for versions that aren't
                return str(path)
    return sys.executable


class DaemonProcess:
    """`vmhb-guest run`, on a socket of ours. Use as a context manager."""

    def __init__(
        self, folder: Path, *, python: str = sys.executable, program: tuple[str, ...] = ("-m", "vmhb_guest")
    ) -> None:
        self.folder = folder
        self.checks = folder / "checks.d"
        self.run = folder / "run"
        self.log = folder / "log"
        self.checks.mkdir()
        self.host = Host(str(folder / "port"), listen=True, patience=PATIENCE)
        self._command = [python, *program, "--folder", str(self.run)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DaemonProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()  # with its checks
            self._process.wait()
        self.host.close()

    def start(self, *options: str, environ: Mapping[str, str] | None = None) -> None:
        """Start it, and wait until it answers."""
        command = [*self._command, "run", "--port", str(self.folder / "port"), "--checks", str(self.checks), *options]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stderr=log, env={**os.environ, "NOTIFY_SOCKET": "", **(environ or {})}
            )
        self.host.arrive()
        self.host.ask(health=True)  # without it there is no answer where an application has ended

    def again(self, *options: str) -> None:
        """End it, and start another in its place."""
        self.signal(signal.SIGTERM)
        self.wait()
        self.start(*options)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        return self._process.wait(PATIENCE)

    def check(self, name: str, script: str, settings: str = "interval=0.1 timeout=30") -> Path:
        """Put a check into its folder: a shell script."""
        path = self.checks / name
        path.write_text(f"#!/bin/sh\n# vmhb: {settings}\n{script}\n")
        path.chmod(0o755)
        return path

    def ask(self) -> dict[str, Any]:
        """The health that it says with its next ack."""
        heard = self.host.ask(health=True)
        return dict(heard[-1].message["health"])

    def until(self, condition: Callable[[dict[str, Mapping[str, str]]], bool]) -> dict[str, Mapping[str, str]]:
        """Ask until what it says of its checks, by name, is so."""
        deadline = time.monotonic() + PATIENCE
        while True:
            checks: dict[str, Mapping[str, str]] = {one["name"]: one for one in self.ask()["checks"]}
            if condition(checks):
                return checks
            assert time.monotonic() < deadline, checks
            time.sleep(0.02)

    def status(self) -> dict[str, Any]:
        """`vmhb-guest status`."""
        return control.call(str(self.run / "control"), PATIENCE, do="status")

    def command(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """`vmhb-guest WORDS`."""
        command = [*self._command, *words]
        env = {**os.environ, **environ}
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    def application(self, address: str = "notify") -> Application:
        """A process that says what it is told to."""
        return Application(self.run / address)


class Application:
    """A process of its own that speaks on the daemon's socket, a line of its input at a time."""

    SOURCE = (
        "import os, socket, sys\n"
        "uid, groups = int(sys.argv[2]), [int(one) for one in sys.argv[3:]]\n"
        "if uid != os.getuid(): os.setgroups(groups); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)\n"
        "out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "for line in sys.stdin:\n"
        "    out.sendto(line.strip().replace(';', chr(10)).encode(), sys.argv[1])\n"
        "    print('said', flush=True)\n"
    )

    def __init__(self, address: Path, uid: int | None = None, groups: tuple[int, ...] = ()) -> None:
        """uid: whose process it is, in these groups; None: ours. Only root can be another's."""
        user = [str(os.getuid() if uid is None else uid), *map(str, groups)]
        command = [sys.executable, "-c", self.SOURCE, str(address), *user]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid

    def __enter__(self) -> Application:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def say(self, *assignments: str) -> None:
        """Send them in one datagram; returns once it is sent."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(";".join(assignments) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "said\n"

    def kill(self) -> None:
        """SIGKILL, and reaped."""
        self._process.kill()
        self._process.wait()
