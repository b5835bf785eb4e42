"""Takes processors away from processes.

`throttled`: so much of one and no more, as the kernel's own quota has it, in turns of a tenth of a second. Who wants
less never notices. By cgroups of this machine's; where none can be made, by `halted`. `halted`: for the rest of each
turn they stand still, whatever they want.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Microseconds.
PERIOD = 100_000
CGROUPS = Path("/sys/fs/cgroup")
ROOTS = ((CGROUPS, "cgroup v2"), (CGROUPS / "cpu", "cgroup v1"), (CGROUPS / "cpu,cpuacct", "cgroup v1"))
SIGNALS = "SIGSTOP and SIGCONT"


@dataclass(frozen=True)
class Throttled:
    """By what means; groups: the folders of the cgroups, one for each group of processes."""

    how: str
    groups: Sequence[Path] = ()

    @property
    def bites(self) -> list[float]:
        """For each group: in which share of the periods in which it wanted to run, it was held up."""
        found = []
        for group in self.groups:
            rows = (line.split() for line in (group / "cpu.stat").read_text().splitlines())
            stat = {name: int(value) for name, value in rows}
            found.append(stat["nr_throttled"] / max(stat["nr_periods"], 1))
        return found


@contextlib.contextmanager
def throttled(groups: Sequence[Sequence[int]], share: float) -> Iterator[Throttled]:
    """While it lasts, the processes of each group have this share of one processor together."""
    with contextlib.ExitStack() as stack:
        for root, how in ROOTS:
            with contextlib.ExitStack() as made:
                try:
                    folders = [made.enter_context(_group(root, pids, share)) for pids in groups]
                except OSError:
                    continue  # and out of those that were made
                stack.push(made.pop_all())
                yield Throttled(how, folders)
                return
        yield stack.enter_context(halted([pid for pids in groups for pid in pids], share))


@contextlib.contextmanager
def _group(root: Path, pids: Sequence[int], share: float) -> Iterator[Path]:
    """A cgroup for them; afterwards they are where they were."""
    homes = {pid: root / _home(pid, root).lstrip("/") for pid in pids}
    folder = root / f"vmhb-{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    quota = {"cpu.max": f"{share * PERIOD:.0f} {PERIOD}"}
    if root != CGROUPS:
        quota = {"cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": f"{share * PERIOD:.0f}"}
    try:
        for name, value in quota.items():
            if not (folder / name).exists():
                raise OSError(f"{folder} has no {name}")  # that controller is not here
            (folder / name).write_text(value)
        for pid in pids:
            (folder / "cgroup.procs").write_text(str(pid))
        yield folder
    finally:
        for pid, home in homes.items():
            with contextlib.suppress(OSError):  # it may have ended
                (home / "cgroup.procs").write_text(str(pid))
        with contextlib.suppress(OSError):
            folder.rmdir()


def _home(pid: int, root: Path) -> str:
    names = "" if root == CGROUPS else root.name
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers == names:
            return path
    return "/"


@contextlib.contextmanager
def halted(pids: Sequence[int], share: float, period: float = PERIOD / 1e6) -> Iterator[Throttled]:
    """While it lasts, each of them runs for this share of each period (seconds), at some place in it of its own."""
    ended = threading.Event()

    def work(pid: int) -> None:
        idle = (1 - share) * period
        while not ended.is_set():
            early = random.uniform(0.0, period - idle)
            ended.wait(early)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
            ended.wait(idle)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            ended.wait(period - idle - early)

    threads = [threading.Thread(target=work, args=(pid,), daemon=True) for pid in pids]
    for thread in threads:
        thread.start()
    try:
        yield Throttled(SIGNALS)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
