"""QEMU's processes, as the host sees them: is one alive, and is it the same one as before? No libvirt here."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from vmhb_worker.adapters.libvirt import cgroups

#: Of what follows its name in /proc/PID/stat, see proc(5): in so many parts of a second.
_USER_TIME, _SYSTEM_TIME = 11, 12
_TICKS = os.sysconf("SC_CLK_TCK")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
UNSEEN = "QEMU's process cannot be seen from here"


def run_folder(uri: str) -> Path | None:
    """Where the libvirtd at this URI keeps its sockets and pid files; None where it is not on this host."""
    parts = urlsplit(uri)
    if parts.netloc:
        return None
    socket = parse_qs(parts.query).get("socket")
    if socket:
        return Path(socket[0]).parent
    return Path("/run/libvirt") if parts.path == "/system" else None


class Process:
    """One QEMU, held by a pidfd: it means this process for ever, whoever is given its pid later."""

    def __init__(self, pid: int) -> None:
        """Raises OSError where there is none."""
        self._pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._poll = select.poll()
        self._poll.register(self._pidfd, select.POLLIN)

    def __del__(self) -> None:
        # Not before the last thread that looks at it lets go of it. One that was not there has none.
        with contextlib.suppress(OSError, AttributeError):
            os.close(self._pidfd)

    def alive(self) -> bool:
        """False from the moment on when it ended, even before anybody reaped it."""
        return not self._poll.poll(0)

    def cpu_seconds(self) -> float | None:
        """CPU time that all of its threads have taken, vCPUs included; None: it has ended."""
        try:
            told = Path(f"/proc/{self._pid}/stat").read_text(errors="replace")
        except OSError:
            return None
        if not self.alive():
            return None
        counts = told.rpartition(")")[2].split()  # what comes before is its name, which may have blanks in it
        return (int(counts[_USER_TIME]) + int(counts[_SYSTEM_TIME])) / _TICKS

    def throttled_seconds(self) -> float | str:
        """For how long its own CPU quotas have held its threads back; or why that is not known."""
        told = cgroups.throttled_seconds(self._pid)
        return told if self.alive() else UNSEEN


class Processes:
    """QEMU's processes of one libvirtd. `describe` and `forget` belong to one thread, `alive` to any."""

    def __init__(self, folder: Path | None) -> None:
        """folder: libvirt's run folder; None: nothing can be told of processes."""
        self._folder = folder / "qemu" if folder is not None else None
        self._host_boot = ""
        with contextlib.suppress(OSError):
            self._host_boot = _BOOT_ID.read_text().strip()
        self._known: dict[str, tuple[str, Process | None]] = {}

    @property
    def host_boot(self) -> str:
        """Which boot of libvirt's host this is: "" where that is another one than ours, or does not tell."""
        return self._host_boot if self._folder is not None else ""

    def describe(self, uuid: str, name: str, domain_id: str) -> str:
        """Which life of its QEMU this is: the same as long as the process lives, whoever restarts meanwhile.

        That is what its pid file tells: QEMU writes it when it starts, nobody writes to it again (libvirtd only reads
        it when it comes back), and `stat` needs no permission to read it nor a pid namespace in common. Without the
        file it is libvirt's domain id, which is weaker: ids start at 1 again when libvirtd starts while nothing runs.
        """
        path = self._folder / f"{name}.pid" if self._folder is not None else None
        try:
            if path is None:
                raise FileNotFoundError
            boot = f"pid-file-{os.stat(path).st_mtime_ns}"
        except OSError:
            boot = f"{self._host_boot}-{domain_id}"
            path = None
        if self._known.get(uuid, ("", None))[0] != boot:
            self._known[uuid] = (boot, _hold(path, uuid) if path is not None else None)
        return boot

    def forget(self, uuid: str) -> None:
        """It does not run any more."""
        self._known.pop(uuid, None)

    def keep(self, uuids: set[str]) -> None:
        """Forget all others."""
        for uuid in self._known.keys() - uuids:
            self.forget(uuid)

    def alive(self, uuid: str) -> bool | None:
        """Is the QEMU of the last description alive? None: it cannot be seen from here."""
        process = self._process(uuid)
        return process.alive() if process is not None else None

    def cpu_seconds(self, uuid: str) -> float | None:
        """CPU time that the QEMU of the last description has taken; None: that cannot be seen from here."""
        process = self._process(uuid)
        return process.cpu_seconds() if process is not None else None

    def throttled_seconds(self, uuid: str) -> float | str:
        """See `Process.throttled_seconds`, of the QEMU of the last description."""
        process = self._process(uuid)
        return process.throttled_seconds() if process is not None else UNSEEN

    def _process(self, uuid: str) -> Process | None:
        return self._known.get(uuid, ("", None))[1]


def _hold(pid_file: Path, uuid: str) -> Process | None:
    """The process, if it is this domain's QEMU; None where that cannot be seen (another pid namespace, say)."""
    try:
        pid = int(pid_file.read_text())
        process = Process(pid)
        # After the pidfd: from then on the pid is this process's as long as that says it is alive.
        ours = uuid.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return process if ours and process.alive() else None
