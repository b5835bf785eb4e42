"""Absences that are no faults: whatever libvirt, the operator, the guest or the host did, nobody is accused for it.

"No fault": none from the deed on, and none for threshold x interval + timeout after acks are back. Every absence here
lasts longer than the 4 s after which a guest that is to blame would have been accused.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Figure
from tests.functional.conftest import QUIET, Guests, Workers, acks, assert_quiet, faults
from tests.lab.guest import Guest
from tests.lab.node import Node
from tests.lab.processes import wait_until
from tests.stage.consumer import ConsumerProcess, Notification
from tests.stage.worker import WorkerProcess

#: Longer than threshold x interval + timeout.
LONG = 6.0


@pytest.fixture
def guest(guests: Guests) -> Guest:
    """Somebody whose heartbeats are going to stay away."""
    return guests.get()


@pytest.fixture
def daemon(worker: Workers, guest: Guest) -> WorkerProcess:
    """A worker that has the guest's acknowledgements."""
    one = worker()
    wait_until(lambda: acks(one, guest), 30, "it acknowledges")
    return one


# -- what is done to a domain


def test_suspend(guest: Guest, daemon: WorkerProcess, consumer: ConsumerProcess) -> None:
    """A guest that was paused is silent for as long as it is, and is owed a full threshold when it goes on."""
    begun = guest.suspend()
    wait_until(lambda: "paused" in daemon.show(guest.uuid)["silences"], 2, "the worker knows that it is paused")
    time.sleep(LONG)
    guest.resume()
    assert_quiet(daemon, consumer, guest, begun)


def test_managedsave(guest: Guest, daemon: WorkerProcess, consumer: ConsumerProcess) -> None:
    """A guest whose memory was saved and that goes on later is neither gone for good nor silent."""
    begun = guest.managedsave()
    wait_until(lambda: daemon.show(guest.uuid)["state"] == "gone", 5, "the worker knows that it is saved")
    time.sleep(LONG)
    guest.start()
    assert_quiet(daemon, consumer, guest, begun)


def test_reset(guest: Guest, daemon: WorkerProcess, consumer: ConsumerProcess) -> None:
    """The reset button: a boot."""
    begun = guest.reset()
    wait_until(lambda: daemon.show(guest.uuid)["state"] == "waiting", 5, "the worker knows that it boots")
    assert_quiet(daemon, consumer, guest, begun)


def test_reboot(guest: Guest, daemon: WorkerProcess, consumer: ConsumerProcess) -> None:
    """A reboot from inside, without a word."""
    begun = guest.reboot()
    wait_until(lambda: daemon.show(guest.uuid)["state"] == "waiting", 5, "the worker knows that it boots")
    assert_quiet(daemon, consumer, guest, begun)


def test_orderly_reboot(guest: Guest, daemon: WorkerProcess, consumer: ConsumerProcess) -> None:
    """As systemd does it: the agent ends first, and some other service takes 8 s. At the default exit_settle_time."""
    begun = guest.reboot(orderly=8)
    wait_until(lambda: daemon.show(guest.uuid)["state"] == "waiting", 20, "the worker knows that it boots")
    assert time.monotonic() - begun > 8
    assert_quiet(daemon, consumer, guest, begun)


def test_destroy(guest: Guest, daemon: WorkerProcess, consumer: ConsumerProcess) -> None:
    """Somebody's wish."""
    begun = guest.destroy()
    wait_until(lambda: daemon.show(guest.uuid)["state"] == "gone", 5, "the worker knows that it is gone")
    time.sleep(QUIET)
    assert faults(consumer, guest, begun) == []


@pytest.mark.parametrize("orderly", [None, 6])
def test_poweroff(guest: Guest, daemon: WorkerProcess, consumer: ConsumerProcess, orderly: int | None) -> None:
    """The guest's own wish, at once or after its services have ended."""
    begun = guest.poweroff(orderly=orderly)
    wait_until(lambda: daemon.show(guest.uuid)["state"] == "gone", 20, "the worker knows that it is gone")
    time.sleep(QUIET)
    assert faults(consumer, guest, begun) == []


# -- what libvirt does to a domain


class SlowReader:
    """A fifo that is read so slowly that whatever libvirt writes into it lasts."""

    def __init__(self, path: pathlib.Path, mib_a_second: float) -> None:
        self.path = path
        self.rate = mib_a_second
        self.read = 0
        os.mkfifo(path)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with open(self.path, "rb", buffering=0) as fifo:
            begun = time.monotonic()
            while data := fifo.read(1 << 16):
                self.read += len(data)
                time.sleep(max(0.0, begun + self.read / (self.rate * 2**20) - time.monotonic()))


JOBS = {
    # The guest's vCPUs stand still.
    "save": ("save {name} {fifo}", "restore"),
    "dump": ("dump {name} {fifo}", ""),
    "dump --memory-only": ("dump {name} {fifo} --memory-only", ""),
    # They don't.
    "dump --live": ("dump {name} {fifo} --live", ""),
    "snapshot": ("snapshot-create-as {name} --memspec file={fifo} --no-metadata", ""),
    "snapshot --live": ("snapshot-create-as {name} --memspec file={fifo} --no-metadata --live", ""),
}


@pytest.mark.parametrize("job", JOBS)
def test_a_job(
    guest: Guest,
    daemon: WorkerProcess,
    consumer: ConsumerProcess,
    tmp_path: pathlib.Path,
    figure: Figure,
    job: str,
) -> None:
    """What libvirt itself is doing to a domain for longer than the threshold is nobody's fault."""
    fifo = SlowReader(tmp_path / "fifo", 5)
    command, _ = JOBS[job]
    begun = time.monotonic()
    guest.node.virsh(*command.format(name=guest.name, fifo=fifo.path).split(), timeout=120)
    figure(f"duration of {job}", time.monotonic() - begun, "s")
    print(job, fifo.read, daemon.show(guest.uuid))
    assert_quiet(daemon, consumer, guest, begun)
