"""`tree`, booted on this machine, and what Ansible needs to get into it.

systemd is its first process, in namespaces of its own; the network is this machine's, so that it reaches the lab's
servers on loopback. It ends with whoever has it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.deploy import tree
from tests.deploy.tree import OURS, WHEELS
from tests.lab.container import shell
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

#: Seconds: of a boot, of a command.
BOOT, COMMAND = 90.0, 120.0
#: What pip is told in one: all that it installs is in two folders.
PIP = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{WHEELS} {OURS}"}


class Root:
    """One that has booted. Use as a context manager."""

    def __init__(self, *, binds: Mapping[str, pathlib.Path] | None = None, wheels: pathlib.Path | None = None) -> None:
        """binds: where it has folders of this machine. wheels: ours, that it can install; by default the project as it
        is."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="vmhb-root-"))
        #: What Ansible puts somewhere for its modules to find, and our wheels.
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        self.wheels = wheels or self.folder / "wheels"
        if wheels is None:
            tree.ours(self.wheels, "1.0.0")
        self._boot({str(self.shared): self.shared, **(binds or {})})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: types.TracebackType | None
    ) -> None:
        # With its first process go all of it; nspawn ends then, and has taken its mounts away.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.first or self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(COMMAND)
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder)

    def rewrite(self, state: str) -> None:
        """What Nova's and Masakari's own tool does with their files, each time that it runs: it writes them anew."""
        tree.rewrite(self.tree, state)

    def _boot(self, binds: Mapping[str, pathlib.Path]) -> None:
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe"]
        # What is written is in memory, and goes with it.
        command += ["-D", str(tree.tree()), "--volatile=overlay", "--resolv-conf=off"]
        # Nova's helper wants that one, though it has no network to see to.
        command += [f"--machine=vmhb-{secrets.token_hex(4)}", "--capability=CAP_NET_ADMIN"]
        command += [f"--bind-ro={tree.wheels()}:{WHEELS}", f"--bind-ro={self.wheels}:{OURS}"]
        command += [f"--bind={path}:{there}" for there, path in binds.items()]
        with open(self.folder / "console", "wb") as console:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        try:
            wait_until(lambda: self.first > 0, BOOT, "process 1", every=0.2)
            wait_until(lambda: self.state() in ("running", "degraded"), BOOT, "the boot", every=0.5)
        except BaseException:
            print((self.folder / "console").read_text(errors="replace")[-2000:], file=sys.stderr)
            self.__exit__(None, None, None)
            raise

    @property
    def first(self) -> int:
        """The number of its process 1, as we see it; 0: it has none."""
        command = ["pgrep", "-P", str(self._process.pid), "systemd"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return int(done.stdout.split()[0]) if done.stdout.strip() else 0

    @property
    def tree(self) -> pathlib.Path:
        """Its files."""
        return pathlib.Path(f"/proc/{self.first}/root")

    def enter(self) -> list[str]:
        """What to put before a command."""
        return ["nsenter", "-t", str(self.first), "-m", "-u", "-i", "-p", "-C", "-r", "-w", "--"]

    def run(self, command: str, *, check: bool = True, timeout: float = COMMAND) -> str:
        """A shell command in it: what it printed."""
        return shell(self.enter(), command, check=check, timeout=timeout)

    def state(self) -> str:
        """`systemctl is-system-running`."""
        return self.run("systemctl is-system-running", check=False).strip()

    def seen(self, service: str) -> dict[str, Any]:
        """What a service of the others has read since its last start."""
        path = self.tree / f"run/{service}.json"
        wait_until(path.exists, COMMAND, f"{service} has read its configuration", every=0.2)
        return dict(json.loads(path.read_text()))

    def files(self, *folders: str) -> dict[str, str]:
        """All files below, with a hash of each."""
        found: dict[str, str] = {}
        root = self.tree  # once: to know it takes a command
        for folder in folders:
            for path in sorted((root / folder.lstrip("/")).rglob("*")):
                if path.is_symlink():
                    found[str(path.relative_to(root))] = os.readlink(path)
                elif path.is_file():
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
                    found[str(path.relative_to(root))] = f"{digest} {path.stat().st_mode:o}"
        return found
