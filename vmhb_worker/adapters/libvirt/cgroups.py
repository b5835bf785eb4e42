"""For how long the CPU quotas of one domain have held its QEMU back, as the host's kernel counts it in its cgroups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

#: Where libvirt puts QEMU's main thread. Beside it are one for each vCPU and one for each I/O thread: a domain's quotas
#: are set on those (vcpu_quota, emulator_quota), and on the one above them (global_quota).
_EMULATOR = "emulator"
#: With cgroup v2 libvirt has this between those and the scope that systemd knows of.
_LIBVIRT = "libvirt"


def throttled_seconds(pid: int, proc: Path = Path("/proc"), root: Path = Path("/sys/fs/cgroup")) -> float | str:
    """Of the one that was held back most; or why that is not known. Any thread; reads a small file for each vCPU.

    root: where cgroup v2 is mounted, or the controllers of v1 are, each by its name.
    """
    try:
        folder, name, per_second = _place(pid, proc, root)
        if folder.name != _EMULATOR:
            return "libvirt has made no cgroups for its CPU"
        told = [_counted(stat, name) for stat in _stats(folder.parent)]
    except (OSError, ValueError, LookupError) as error:
        return f"its cgroups cannot be read: {error}"
    known = [count for count in told if count is not None]
    return max(known) / per_second if known else "its cgroups do not count it: is the CPU controller on?"


def _place(pid: int, proc: Path, root: Path) -> tuple[Path, str, float]:
    """Its cgroup, what the count is called there, and its unit: so many are a second."""
    lines = [line.split(":", 2) for line in (proc / str(pid) / "cgroup").read_text(errors="replace").splitlines()]
    for _, controllers, path in lines:
        if "cpu" in controllers.split(","):
            return root / controllers / path.lstrip("/"), "throttled_time", 1e9
    for _, controllers, path in lines:
        if not controllers:
            return root / path.lstrip("/"), "throttled_usec", 1e6
    raise ValueError(f"{proc}/{pid}/cgroup names none")


def _stats(machine: Path) -> Iterator[Path]:
    yield from sorted(machine.glob("*/cpu.stat"))
    yield machine / "cpu.stat"
    if machine.name == _LIBVIRT:
        yield machine.parent / "cpu.stat"


def _counted(stat: Path, name: str) -> int | None:
    rows = (line.split() for line in stat.read_text().splitlines())
    return next((int(row[1]) for row in rows if row[0] == name), None)
