"""Takes processors away from processes, in turns of a tenth of a second.

`throttled`: so much of one and no more, as the kernel's own quota has it. Who wants less never notices. By cgroups of
this machine's; where none can be made, by `halted`. `halted`: for the rest of each turn, they stand still, whatever
they want.
"""

from __future__ import annotations

import contextlib
import os
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
def halted(pids: Sequence[int], share: float) -> Iterator[Throttled]:
    """While it lasts, they run for this share of each turn, all at the same time."""
    ended = threading.Event()
    seconds = PERIOD / 1e6

    def tell(number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def work() -> None:
        while not ended.wait(share * seconds):
            tell(signal.SIGSTOP)
            ended.wait((1 - share) * seconds)
            tell(signal.SIGCONT)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield Throttled(SIGNALS)
    finally:
        ended.set()
        thread.join()
        tell(signal.SIGCONT)
