"""Full disks, broken files, and two workers where there may be one: said clearly, and nothing is lost that was told."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.functional.conftest import DETECTION, Guests, Workers, acks
from tests.functional.story import assert_sound
from tests.lab.processes import wait_until
from tests.stage.consumer import ConsumerProcess
from tests.stage.worker import WorkerProcess

pytestmark = pytest.mark.patient

#: A refused start is over in this time (seconds), most of it Python's own.
REFUSED = 10.0


class SmallDisk:
    """A file system of 2 MiB, and a file that fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """To the last byte."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            for size in (65536, 4096, 512, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size):
                        pass

    def free(self) -> None:
        """There is room again."""
        self._filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "vmhb-test", folder], check=True)
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", folder], check=True)


def test_disk_full(
    small_disk: SmallDisk, guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """Watched and told from memory, loudly; with room again all is on disk: the fault open then outlives a kill -9."""
    guest = guests.get()
    daemon = worker(DEFAULT={"state_path": small_disk.folder})
    daemon.wait_known(guest.uuid)
    small_disk.fill()
    stopped = guest.stop_agent()
    raised = consumer.wait_fault("raised", guest.uuid, DETECTION + 2, since=stopped)
    figure("disk full: agent stopped to notification read", raised.at - stopped, "s", DETECTION)
    assert daemon.said("ERROR") == daemon.said("kept in memory only") == 1
    small_disk.free()
    wait_until(lambda: daemon.said("works, and holds everything that is known") == 1, 12, "the disk is used again")
    daemon.kill()
    daemon.start()
    continued = guest.continue_agent()
    cleared = consumer.wait_fault("cleared", guest.uuid, 30, since=continued)
    assert cleared.fault_id == raised.fault_id
    assert_sound(consumer.read)


def test_started_on_a_full_disk(
    small_disk: SmallDisk, guests: Guests, worker: Workers, consumer: ConsumerProcess
) -> None:
    """No reason not to watch."""
    guest = guests.get()
    small_disk.fill()
    daemon = worker(DEFAULT={"state_path": small_disk.folder})
    assert not daemon.ended, daemon.log.read_text()
    daemon.wait_known(guest.uuid)
    assert daemon.said("kept in memory only") == 1
    stopped = guest.stop_agent()
    consumer.wait_fault("raised", guest.uuid, DETECTION + 2, since=stopped)
    continued = guest.continue_agent()
    consumer.wait_fault("cleared", guest.uuid, 20, since=continued)
    assert_sound(consumer.read)


@pytest.mark.parametrize("damage", ["all of it", pytest.param("its middle", marks=pytest.mark.long)])
def test_corrupt_file(damage: str, guests: Guests, worker: Workers, consumer: ConsumerProcess) -> None:
    """Put aside, said, and a new one begun; watching goes on."""
    guest = guests.get()
    daemon = worker()
    daemon.wait_known(guest.uuid)
    assert daemon.stop() < 2
    file = daemon.folder / "state" / "vmhb.sqlite"
    content = bytearray(file.read_bytes())
    if damage == "all of it":
        content[:] = b"\xa5" * len(content)
    else:
        content[4096 : len(content)] = b"\xa5" * (len(content) - 4096)
    file.write_bytes(content)
    daemon.start()
    daemon.wait_known(guest.uuid)
    assert daemon.said("is corrupt") == 1, daemon.log.read_text()
    assert file.with_name("vmhb.sqlite.broken-1").read_bytes() == content
    stopped = guest.stop_agent()
    raised = consumer.wait_fault("raised", guest.uuid, DETECTION + 2, since=stopped)
    daemon.kill()
    daemon.start()
    continued = guest.continue_agent()
    assert consumer.wait_fault("cleared", guest.uuid, 30, since=continued).fault_id == raised.fault_id
    assert_sound(consumer.read)


@pytest.mark.parametrize("same_state", [False, True], ids=["another state_path", "the same state_path"])
def test_a_second_worker_refuses(
    same_state: bool, guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """It says why in one line and ends with 1; the first is unharmed, and when it dies the second may start at once."""
    guest = guests.get()
    first = worker(start=False)
    started = first.start()
    first.wait_known(guest.uuid)
    consumer.wait_for("sign of life", lambda one: one.event_type == "vmhb.worker.alive", 10, since=started)
    options = {"DEFAULT": {"state_path": first.folder / "state"}} if same_state else {}
    second = worker(start=False, **options)
    began = second.start(wait=False)
    assert second.wait(REFUSED) == 1
    figure("a second worker refuses", time.monotonic() - began, "s", REFUSED)
    complaints = [line for line in second.log.read_text().splitlines() if "CRITICAL" in line]
    why = "two workers can't share one state_path" if same_state else "another vmhb-worker watches this libvirt"
    assert len(complaints) == 1 and why in complaints[0], second.log.read_text()
    assert said_nothing(second)

    assert acks(first, guest)
    stopped = guest.stop_agent()
    raised = consumer.wait_fault("raised", guest.uuid, DETECTION + 2, since=stopped)
    figure("a second worker refused: agent stopped to notification read", raised.at - stopped, "s", DETECTION)

    signs = [one for one in consumer.read if one.event_type == "vmhb.worker.alive" and one.at > began]
    assert [one for one in signs if one.sequence == 1] == [], "the second gave itself out to be this host's worker"
    assert first.said("RPC is served") == 1 and second.said("RPC is served") == 0

    first.kill()
    second.start()
    assert not second.ended, second.log.read_text()
    if same_state:
        continued = guest.continue_agent()
        cleared = consumer.wait_fault("cleared", guest.uuid, 30, since=continued)
        assert cleared.fault_id == raised.fault_id
    second.stop()
    guest.continue_agent()
    if not same_state:  # the fault is the first one's: it alone can clear it
        first.start()
        consumer.wait_fault("cleared", guest.uuid, 30, since=stopped)
    assert_sound(consumer.read)


def said_nothing(process: WorkerProcess) -> bool:
    """Nothing on its terminal: no traceback, no warning of a library."""
    return (process.folder / "worker.out").read_text() == ""
