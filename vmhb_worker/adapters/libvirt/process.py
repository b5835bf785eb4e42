"""QEMU's processes, as the host sees them: is one alive, the same one as before, does it go on? No libvirt here."""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from vmhb_worker.adapters.libvirt import cgroups
from vmhb_worker.core.main_thread import MainThread

#: Of what follows its name in /proc/PID/stat, see proc(5): the state of its main thread, and the time that all its
#: threads have taken, in so many parts of a second.
_STATE, _USER_TIME, _SYSTEM_TIME = 0, 11, 12
#: How often its main thread has gone to sleep, in /proc/PID/status.
_SLEPT = "voluntary_ctxt_switches:"
#: A main thread that was seen to go on within so many seconds is believed to answer: QEMUs that hang at once and are
#: asked before that is seen are few.
GOES_ON_FOR = 3.0
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
        self._slept: int | None = None
        self._went_on_at = -math.inf
        self._pidfd = os.pidfd_open(pid)

    def fileno(self) -> int:
        """Readable from the moment on when it ended."""
        return self._pidfd

    def __del__(self) -> None:
        # Not before the last thread that looks at it lets go of it. One that was not there has none.
        with contextlib.suppress(OSError, AttributeError):
            os.close(self._pidfd)

    def alive(self) -> bool:
        """False from the moment on when it ended, even before anybody reaped it."""
        poll = select.poll()  # one each time: whoever polls the same one at the same time gets an error
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def look(self) -> tuple[float, MainThread] | None:
        """CPU time that all of its threads have taken, vCPUs included, and what its main thread does; None: it has
        ended, or may not be looked at."""
        folder = Path(f"/proc/{self._pid}")
        try:
            told = (folder / "stat").read_text(errors="replace")
            slept = _number((folder / "status").read_text(errors="replace"), _SLEPT)
        except OSError:
            return None
        counts = told.rpartition(")")[2].split()  # what comes before is its name, which may have blanks in it
        main = MainThread(counts[_STATE], slept, _waits_in(folder))
        if not self.alive():
            return None
        self._see(main)
        return (int(counts[_USER_TIME]) + int(counts[_SYSTEM_TIME])) / _TICKS, main

    def goes_on(self) -> bool:
        """Was its main thread seen to go on of late? One that goes on sleeps again and again."""
        return time.monotonic() - self._went_on_at <= GOES_ON_FOR

    def _see(self, main: MainThread) -> None:
        was, self._slept = self._slept, main.slept
        if main.stopped:
            self._went_on_at = -math.inf
        elif was not in (None, main.slept):
            self._went_on_at = time.monotonic()

    def throttled_seconds(self) -> float | str:
        """For how long its own CPU quotas have held its threads back; or why that is not known."""
        told = cgroups.throttled_seconds(self._pid)
        return told if self.alive() else UNSEEN


class Processes:
    """QEMU's processes of one libvirtd. `describe` and `forget` belong to one thread, `watch` to one, else any."""

    def __init__(self, folder: Path | None) -> None:
        """folder: libvirt's run folder; None: nothing can be told of processes."""
        self._folder = folder / "qemu" if folder is not None else None
        self._host_boot = ""
        with contextlib.suppress(OSError):
            self._host_boot = _BOOT_ID.read_text().strip()
        self._known: dict[str, tuple[str, Process | None]] = {}
        self._ends = select.epoll()
        self._uuids: dict[int, str] = {}  # by the number of a process's pidfd, of those that are known and maybe others

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
            process = _hold(path, uuid) if path is not None else None
            self._known[uuid] = (boot, process)
            if process is not None:
                self._uuids[process.fileno()] = uuid
                # Once, since it stays readable. Whoever lets go of a process closes its pidfd, which ends the watch.
                self._ends.register(process, select.EPOLLIN | select.EPOLLONESHOT)
        return boot

    def watch(self, ended: Callable[[str], None], seconds: float) -> None:
        """BLOCKS for so long: whose QEMU ends meanwhile is told, in the moment that it does."""
        for number, _ in self._ends.poll(seconds):
            uuid = self._uuids.pop(number, "")
            process = self._process(uuid)
            # Else another runs it by now, which has a number of its own.
            if process is not None and process.fileno() == number and not process.alive():
                ended(uuid)

    def ended(self) -> list[str]:
        """Whose QEMU has ended, of those that were running when they were described last."""
        return [uuid for uuid in list(self._known) if self.alive(uuid) is False]

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

    def look(self, uuid: str) -> tuple[float, MainThread] | None:
        """See `Process.look`, of the QEMU of the last description; None: it cannot be seen from here."""
        process = self._process(uuid)
        return process.look() if process is not None else None

    def would_answer(self, uuid: str) -> bool | None:
        """Would its QEMU answer, as far as its main thread tells just now? False: it stands still. None: unknown."""
        process = self._process(uuid)
        seen = process.look() if process is not None else None
        if process is None or seen is None:
            return None
        main = seen[1]
        if main.stopped:
            return False
        return True if process.goes_on() and not main.held_up else None

    def throttled_seconds(self, uuid: str) -> float | str:
        """See `Process.throttled_seconds`, of the QEMU of the last description."""
        process = self._process(uuid)
        return process.throttled_seconds() if process is not None else UNSEEN

    def _process(self, uuid: str) -> Process | None:
        return self._known.get(uuid, ("", None))[1]


def _number(told: str, name: str) -> int:
    """The number in the line that begins with this name; 0 where there is none."""
    return next((int(line.split()[1]) for line in told.splitlines() if line.startswith(name)), 0)


def _waits_in(folder: Path) -> str:
    """The kernel's function that it sleeps in; "" where it does not sleep, or we have no right to know."""
    try:
        told = (folder / "wchan").read_text()
    except OSError:
        return ""
    return "" if told == "0" else told


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
