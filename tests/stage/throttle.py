"""Takes processors away from processes: each gets so much of one, in turns of a tenth of a second, as the kernel's
own quota has it. By a cgroup of this machine's; where none can be made, by SIGSTOP and SIGCONT from a thread.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Microseconds.
PERIOD = 100_000
CGROUPS = Path("/sys/fs/cgroup")
V1 = (CGROUPS / "cpu", CGROUPS / "cpu,cpuacct")


@contextlib.contextmanager
def throttled(pids: Sequence[int], share: float) -> Iterator[str]:
    """While it lasts, each of them has this share of one processor. Says by what means."""
    with contextlib.ExitStack() as stack:
        how = _by_cgroup(stack, pids, share)
        if how is None:
            stack.enter_context(_by_signals(pids, share))
            how = "SIGSTOP and SIGCONT"
        yield how


def _by_cgroup(stack: contextlib.ExitStack, pids: Sequence[int], share: float) -> str | None:
    for root, how in [(CGROUPS, "cgroup v2"), *((one, "cgroup v1") for one in V1)]:
        quota = {"cpu.max": f"{share * PERIOD:.0f} {PERIOD}"}
        if how == "cgroup v1":
            quota = {"cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": f"{share * PERIOD:.0f}"}
        with contextlib.ExitStack() as made:
            try:
                for pid in pids:
                    made.enter_context(_group(root, pid, quota))
            except OSError:
                continue  # and out of those that were made
            stack.push(made.pop_all())
            return how
    return None


@contextlib.contextmanager
def _group(root: Path, pid: int, quota: dict[str, str]) -> Iterator[None]:
    """A group of its own for this process; afterwards it is where it was."""
    home = root / _home(pid, root).lstrip("/")
    folder = root / f"vmhb-{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    try:
        for name, value in quota.items():
            if not (folder / name).exists():
                raise OSError(f"{folder} has no {name}")  # that controller is not here
            (folder / name).write_text(value)
        (folder / "cgroup.procs").write_text(str(pid))
        yield
    finally:
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
def _by_signals(pids: Sequence[int], share: float) -> Iterator[None]:
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
        yield
    finally:
        ended.set()
        thread.join()
        tell(signal.SIGCONT)
