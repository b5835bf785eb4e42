"""What the host's kernel counts of its own pressure: read from files as kernels write them."""

from __future__ import annotations

import errno
import queue
from pathlib import Path

import pytest

from vmhb_worker.adapters.host_pressure import ProcPressure
from vmhb_worker.core.events import Report
from vmhb_worker.core.host_pressure import Counted, Disk, HostPressure

PSI = """\
some avg10=0.36 avg60=0.46 avg300=1.60 total=252154102
full avg10=0.32 avg60=0.42 avg300=1.06 total=130646803
"""
STAT = """\
cpu  1300124 424852 290472 891448 17951 0 9169 33776 0 0
cpu0 650062 212426 145236 445724 8975 0 4584 16888 0 0
cpu1 650062 212426 145236 445724 8976 0 4585 16888 0 0
intr 12345 0 0
"""
DISKSTATS = """\
   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 vda 882642 106514 21741226 2560522 1334748 1423475 68474312 603086 2 454300 3327282 0 0 0 0 0 0
"""


def proc(folder: Path, **files: str) -> ProcPressure:
    """A /proc of these, and of the usual ones otherwise; "" for a file that there is not."""
    usual = {"memory": PSI, "io": PSI, "cpu": PSI, "stat": STAT, "diskstats": DISKSTATS}
    (folder / "pressure").mkdir()
    for name, text in (usual | files).items():
        if text:
            (folder / ("." if name in ("stat", "diskstats") else "pressure") / name).write_text(text)
    return ProcPressure(folder, interval=0.01, ticks=100.0)


def test_what_a_kernel_counts(tmp_path: Path) -> None:
    """In seconds; steal on the average of the processors; of the disks those that somebody waits for."""
    counts = proc(tmp_path).look()
    assert (counts.memory.value, counts.io.value, counts.cpu.value) == (130.646803, 130.646803, 252.154102)
    assert counts.steal.value == 33776 / 100 / 2
    assert counts.disks == (Disk("vda", 882642 + 1334748),)


@pytest.mark.parametrize("text", ["some avg10=0.00 total=1\n", "full avg10=0.00 total=many\n", "full\n", "\n\n"])
def test_what_is_not_understood_is_unavailable(tmp_path: Path, text: str) -> None:
    """A kernel may write what we do not know."""
    counts = proc(tmp_path, memory=text, stat="cpu 1 2 3\n", diskstats="254 0 vda\n").look()
    assert counts.memory.why == f"{tmp_path}/pressure/memory is not understood"
    assert counts.steal.why == f"{tmp_path}/stat is not understood"
    assert counts.disks == ()


def test_what_is_not_there_is_unavailable(tmp_path: Path) -> None:
    """A kernel without PSI, or a container that hides it; the rest is told all the same."""
    counts = proc(tmp_path, memory="", diskstats="").look()
    assert counts.memory.why == f"there is no {tmp_path}/pressure/memory: this kernel does not count it"
    assert counts.disks == ()
    assert counts.io.value == 130.646803


class Refusing(type(Path())):  # type: ignore[misc]
    """Files that the kernel refuses to be read, as it does where PSI is switched off."""

    error = errno.EOPNOTSUPP

    def read_text(self, *_args: object, **_more: object) -> str:
        raise OSError(self.error, "Operation not supported" if self.error == errno.EOPNOTSUPP else "Permission denied")


class Denied(Refusing):
    """Files that we may not read."""

    error = errno.EACCES


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        (Refusing("/proc"), "/proc/pressure/memory: switched off; boot with psi=1"),
        (Denied("/proc"), "/proc/pressure/memory: Permission denied"),
    ],
)
def test_what_may_not_be_read_is_unavailable(folder: Path, why: str) -> None:
    """RHEL's kernels have PSI, and it is off."""
    counts = ProcPressure(folder).look()
    assert counts.memory.why == why
    assert counts.memory.value is None


def test_it_looks_again_and_again_until_it_is_closed(tmp_path: Path) -> None:
    """On a thread of its own."""
    posted: queue.Queue[Report] = queue.Queue()
    pressure = proc(tmp_path)
    pressure.open(posted.put)
    looks = [posted.get(timeout=20), posted.get(timeout=20)]
    pressure.close()
    assert all(isinstance(one, Counted) for one in looks)


def test_a_mistake_of_ours_ends_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is made, and told."""
    posted: queue.Queue[Report] = queue.Queue()
    pressure, failures = proc(tmp_path), [ZeroDivisionError("a bug")]
    look = pressure.look

    def failing() -> Counted:
        if failures:
            raise failures.pop()
        return look()

    monkeypatch.setattr(pressure, "look", failing)
    pressure.open(posted.put)
    assert isinstance(posted.get(timeout=20), Counted) and not failures
    pressure.close()


def test_this_machines_own_can_be_read() -> None:
    """Or is unavailable for a reason: two looks make a strain, whatever kernel this is."""
    host = HostPressure()
    look = ProcPressure().look()
    host.counted(look)
    for reading in (look.memory, look.io, look.cpu, look.steal):
        assert reading.value is not None or reading.why
