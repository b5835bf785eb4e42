"""What the host's kernel counts of its own pressure: reads /proc on a thread of its own, and posts it.

What it means is decided in `core.host_pressure`. A file that is missing, switched off or not understood is told as
unavailable, with the reason.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from vmhb_common.app.ration import Ration
from vmhb_worker.core.evidence import Reading, unavailable
from vmhb_worker.core.host_pressure import Counted, Disk
from vmhb_worker.interfaces import Post

LOG = logging.getLogger(__name__)

#: Seconds between two looks. Each takes some tenths of a millisecond, and on hosts with hundreds of processors, where
#: the kernel adds up all their interrupts for /proc/stat, some milliseconds: on the engine's thread that would be felt.
INTERVAL = 2.0
#: Of /proc/stat, in its first line: time that a hypervisor above us gave to others.
_STEAL = 8
#: Of a line of /proc/diskstats: the name, reads and writes completed, and requests under way.
_NAME, _READS, _WRITES, _UNDER_WAY = 2, 3, 7, 11


class ProcPressure:
    """See `interfaces.Pressure`."""

    def __init__(
        self,
        proc: Path = Path("/proc"),
        interval: float = INTERVAL,
        ticks: float = float(os.sysconf("SC_CLK_TCK")),
    ) -> None:
        """ticks: of /proc/stat, per second."""
        self._proc = proc
        self._interval = interval
        self._ticks = ticks
        self._closing = threading.Event()

    def open(self, post: Post) -> None:
        """Begin; the thread is a daemon."""
        threading.Thread(target=self._run, args=(post,), name="host-pressure", daemon=True).start()

    def close(self) -> None:
        """Post no more, from the next look on."""
        self._closing.set()

    def _run(self, post: Post) -> None:
        ration = Ration(LOG)
        while not self._closing.is_set():
            try:
                post(self.look())
            except Exception:
                ration.say(logging.ERROR, "how loaded this host is could not be told; tried again", exc_info=True)
            self._closing.wait(self._interval)

    def look(self) -> Counted:
        """What is counted now."""
        at = time.monotonic()
        return Counted(
            at,
            memory=self._counter("pressure/memory", lambda text: _stalled(text, "full"), at),
            io=self._counter("pressure/io", lambda text: _stalled(text, "full"), at),
            steal=self._counter("stat", self._stolen, at),
            cpu=self._counter("pressure/cpu", lambda text: _stalled(text, "some"), at),
            disks=self._disks(),
        )

    def _counter(self, name: str, parse: Callable[[str], float], at: float) -> Reading:
        path = self._proc / name
        try:
            return Reading(parse(path.read_text(encoding="ascii")), at)
        except FileNotFoundError:
            return unavailable(f"there is no {path}: this kernel does not count it")
        except OSError as error:
            off = error.errno == errno.EOPNOTSUPP  # as RHEL has it
            return unavailable(f"{path}: " + ("switched off; boot with psi=1" if off else str(error.strerror)))
        except (ValueError, LookupError):
            return unavailable(f"{path} is not understood")

    def _stolen(self, text: str) -> float:
        lines = text.splitlines()
        processors = sum(line.startswith("cpu") for line in lines) - 1
        return int(lines[0].split()[_STEAL]) / self._ticks / max(processors, 1)

    def _disks(self) -> tuple[Disk, ...]:
        try:
            lines = [line.split() for line in (self._proc / "diskstats").read_text(encoding="ascii").splitlines()]
            return tuple(
                Disk(line[_NAME], int(line[_READS]) + int(line[_WRITES])) for line in lines if int(line[_UNDER_WAY]) > 0
            )
        except (OSError, ValueError, LookupError):
            return ()  # without it, that everything waits for I/O excuses nobody


def _stalled(text: str, which: str) -> float:
    """Seconds, from the line `which` of one of /proc/pressure: `full avg10=0.00 … total=MICROSECONDS`."""
    lines = {words[0]: words for words in map(str.split, text.splitlines())}
    return int(lines[which][-1].removeprefix("total=")) / 1e6
