"""What cgroups tell of a quota: both hierarchies, as libvirt lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmhb_worker.adapters.libvirt.cgroups import throttled_seconds

#: What /proc/PID/cgroup says, where the groups are, and what their cpu.stat calls the count, in its unit.
UNIFIED = "0::/machine.slice/machine-qemu-1-a.scope/libvirt/emulator\n"
V1 = "9:name=systemd:/\n3:cpu,cpuacct:/machine/qemu-1-a.libvirt-qemu/emulator\n0::/\n"
HYBRID = "2:cpuacct:/x\n1:cpu:/machine/qemu-1-a.libvirt-qemu/emulator\n0::/machine.slice/a.scope\n"
LAYOUTS = [
    (UNIFIED, "machine.slice/machine-qemu-1-a.scope/libvirt", "throttled_usec", 1e6),
    (V1, "cpu,cpuacct/machine/qemu-1-a.libvirt-qemu", "throttled_time", 1e9),
    (HYBRID, "cpu/machine/qemu-1-a.libvirt-qemu", "throttled_time", 1e9),
]


def stat(folder: Path, name: str, count: float) -> None:
    """As the kernel writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.stat").write_text(f"nr_periods 10\nnr_throttled 5\n{name} {count:.0f}\n")


def told(tmp_path: Path, of_process: str) -> float | str:
    """Of process 7."""
    (tmp_path / "proc/7").mkdir(parents=True, exist_ok=True)
    (tmp_path / "proc/7/cgroup").write_text(of_process)
    return throttled_seconds(7, tmp_path / "proc", tmp_path / "cgroup")


@pytest.mark.parametrize(("of_process", "machine", "name", "unit"), LAYOUTS, ids=["v2", "v1", "v1 beside v2"])
def test_the_vcpu_that_was_held_back_most_counts(
    tmp_path: Path, of_process: str, machine: str, name: str, unit: float
) -> None:
    """Whichever group the quota is set on: a vCPU's, the emulator's, an I/O thread's, or the whole machine's."""
    folder = tmp_path / "cgroup" / machine
    for group in ("emulator", "vcpu0", "vcpu1", "iothread1", "."):
        stat(folder / group, name, 0)
    stat(folder.parent, name, 99 * unit if folder.name != "libvirt" else 0)  # v1: all machines, and the host's affair
    assert told(tmp_path, of_process) == 0.0
    for seconds, group in enumerate(("emulator", "vcpu1", "iothread1", "."), start=1):
        stat(folder / group, name, seconds * unit)
        assert told(tmp_path, of_process) == seconds


def test_the_scope_that_systemd_made_is_its_own_too(tmp_path: Path) -> None:
    """With cgroup v2 libvirt's groups are in one of systemd's, which may have a CPUQuota."""
    scope = tmp_path / "cgroup/machine.slice/machine-qemu-1-a.scope"
    for folder in (scope, scope / "libvirt", scope / "libvirt/emulator"):
        stat(folder, "throttled_usec", 0)
    stat(scope, "throttled_usec", 2.5e6)
    assert told(tmp_path, UNIFIED) == 2.5


@pytest.mark.parametrize(
    ("of_process", "why"),
    [
        ("0::/system.slice/libvirtd.service\n", "libvirt has made no cgroups for its CPU"),
        ("0::/\n", "libvirt has made no cgroups for its CPU"),
        ("", "names none"),
        ("nonsense\n", "cannot be read"),
        ("0::/gone/emulator\n", "cannot be read"),
    ],
)
def test_what_is_not_known_is_said(tmp_path: Path, of_process: str, why: str) -> None:
    """A group that it shares with others, none, or one that has gone: never "not held back"."""
    said = told(tmp_path, of_process)
    assert isinstance(said, str)
    assert why in said


def test_groups_that_do_not_count_it_say_so(tmp_path: Path) -> None:
    """The CPU controller is off: cpu.stat has only what was used. A file may be cut short, too."""
    folder = tmp_path / "cgroup/machine.slice/machine-qemu-1-a.scope/libvirt"
    for group in (folder, folder.parent, folder / "emulator"):
        group.mkdir(parents=True, exist_ok=True)
        (group / "cpu.stat").write_text("usage_usec 17\n")
    assert told(tmp_path, UNIFIED) == "its cgroups do not count it: is the CPU controller on?"
    (folder / "cpu.stat").write_text("throttled_usec\n")
    assert "cannot be read" in str(told(tmp_path, UNIFIED))


def test_a_process_that_has_ended_is_not_known(tmp_path: Path) -> None:
    """Its directory has gone."""
    assert "cannot be read" in str(throttled_seconds(7, tmp_path, tmp_path))
