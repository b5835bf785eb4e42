"""Debian's systemd, as process 1 of namespaces of its own on this machine: what `debian.py` makes, without a kernel.

Boots in a second or two, so it is for what systemd does with services. What a kernel, udev or a port does is a matter
for `guest.py`. It has no network, no devices and this machine's clock, and it can't change a kernel's settings. Wants
root, and control groups of version 2.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import types
from typing import TYPE_CHECKING

from . import debian
from .processes import PATIENCE, LabError, wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

#: Seconds: of a boot, and of a command.
BOOT, COMMAND = 60.0, 60.0
#: What a container has no use for, or must not touch on this machine.
MASKED = (
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "qemu-guest-agent.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-modules-load.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-udev-trigger.service",
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
)
#: In the new namespaces: mounts what process 1 wants, and becomes it. $1: the tree. $2: a folder to share.
_BEGIN = """set -e
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p share .old
mount --bind "$2" share
pivot_root . .old
umount -l /.old
export container=lab
exec /usr/lib/systemd/systemd --system --log-target=journal --show-status=no
"""


def cgroups() -> pathlib.Path | None:
    """Where this machine has control groups, version 2; None where it hasn't, or they are not ours to use."""
    for root in (pathlib.Path("/sys/fs/cgroup"), pathlib.Path("/sys/fs/cgroup/unified")):
        if (root / "cgroup.controllers").exists() and os.access(root, os.W_OK):
            return root
    return None


def shell(enter: list[str], command: str, *, check: bool, timeout: float) -> str:
    """A shell command in a machine: what it printed. enter: what leads into it. LabError where it fails, if that
    matters."""
    words = [*enter, "sh", "-c", command]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=timeout * PATIENCE)
    if check and done.returncode:
        raise LabError(f"{command!r} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class Container:
    """One that has booted. Use as a context manager."""

    def __init__(self, share: pathlib.Path, tree: pathlib.Path | None = None) -> None:
        """share: a folder that it has as /share. tree: what it boots a copy of, if not `debian.py`'s."""
        root = cgroups()
        if os.getuid() or root is None:
            raise LabError("a container wants root, and control groups of version 2")
        self._tree = pathlib.Path(tempfile.mkdtemp(prefix="vmhb-container-"))
        self._group = root / self._tree.name
        if tree is None:
            debian.tree(self._tree / "root")
        else:
            subprocess.run(["cp", "-a", "--reflink=auto", tree, self._tree / "root"], check=True)
        units = self._tree / "root/etc/systemd/system"
        for name in MASKED:
            (units / name).unlink(missing_ok=True)
            (units / name).symlink_to("/dev/null")
        self._group.mkdir()
        self._boot(share)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: types.TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._tree)

    def _boot(self, share: pathlib.Path) -> None:
        begin = ["sh", "-c", _BEGIN, "begin", str(self._tree / "root"), str(share)]
        spaces = ["unshare", "--cgroup", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork"]
        # Into its control group first: that is the root of what it sees. It ends with us, however we do.
        enter = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec setpriv --pdeathsig KILL "$@"', str(self._group)]
        with open(self._tree / "console", "wb") as console:
            self._process = subprocess.Popen(
                [*enter, *spaces, "--propagation", "private", "--kill-child", *begin],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        try:
            wait_until(lambda: self.alive, BOOT, "process 1")
            wait_until(lambda: self.state() in ("running", "degraded"), BOOT, "the boot", every=0.2)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _first(self) -> int:
        """The number of its process 1, as we see it; 0: it has none."""
        path = pathlib.Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with contextlib.suppress(OSError, IndexError):
            pid = int(path.read_text().split()[0])
            name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            return pid if name == "systemd" else 0
        return 0

    @property
    def alive(self) -> bool:
        """Is there a process 1?"""
        return self._first() > 0

    def run(self, command: str, *, check: bool = True, timeout: float = COMMAND) -> str:
        """A shell command in it: what it printed. LabError where it fails, if that matters."""
        enter = ["nsenter", "-t", str(self._first()), "-m", "-u", "-i", "-p", "-n", "-C", "-r", "-w"]
        return shell(enter, command, check=check, timeout=timeout)

    def state(self) -> str:
        """`systemctl is-system-running`."""
        return self.run("systemctl is-system-running", check=False).strip()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file in it."""
        target = self._tree / "root" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def shown(self, unit: str) -> dict[str, str]:
        """What systemd says of a unit."""
        return dict(row.split("=", 1) for row in self.run(f"systemctl show {unit}").splitlines() if "=" in row)

    def wait_down(self, timeout: float) -> float:
        """Until it has ended by itself; the moment (monotonic seconds)."""
        return wait_until(lambda: self._process.poll() is not None, timeout, "it is down")

    def kill(self) -> None:
        """With all that is in it."""
        first = self._first()
        if first:
            os.kill(first, signal.SIGKILL)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for _ in range(100):
            folders = sorted(self._group.rglob("*/"), key=lambda one: -len(one.parts))
            with contextlib.suppress(OSError):
                for folder in (*folders, self._group):
                    folder.rmdir()
                return
            time.sleep(0.05)
