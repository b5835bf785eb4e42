"""The worker as systemd and an operator meet it: readiness, watchdog, its end, and what `--check-config` says."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.functional.conftest import Guests, Workers
from tests.lab.broker import Broker
from tests.lab.node import Node
from tests.lab.processes import wait_until
from tests.stage.consumer import ConsumerProcess
from tests.stage.worker import WorkerProcess

#: What systemd is told is WatchdogSec (seconds); it is fed at half of that.
WATCHDOG = 2.0
#: SIGTERM is obeyed within this time (seconds), whatever hangs.
END = 2.0
#: A check of the configuration is over in this time (seconds), Python's own start included.
CHECKED = 6.0


class Systemd:
    """The other end of NOTIFY_SOCKET: what it was told, and when."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(WATCHDOG * 1e6))}
        self.told: list[tuple[float, str]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def moments(self, word: str) -> list[float]:
        """When it was told this."""
        return [at for at, text in list(self.told) if word in text.splitlines()]

    def close(self) -> None:
        """Listen no more."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while received := self._socket.recv(4096):
            self.told.append((time.monotonic(), received.decode()))


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """Listens."""
    one = Systemd(tmp_path / "notify")
    yield one
    one.close()


def test_type_notify(systemd: Systemd, guests: Guests, worker: Workers, figure: Figure) -> None:
    """READY=1 once; the watchdog is fed by the engine's loop, and by nothing else; STOPPING=1 at its end."""
    guest = guests.get()
    daemon = worker(start=False)
    started = daemon.start(systemd.environ)
    wait_until(lambda: bool(systemd.moments("READY=1")), 5, "READY=1")
    figure("start to READY=1", systemd.moments("READY=1")[0] - started, "s")
    daemon.wait_known(guest.uuid)
    time.sleep(2 * WATCHDOG)
    fed = systemd.moments("WATCHDOG=1")
    gaps = [after - before for before, after in itertools.pairwise(fed)]
    assert len(gaps) >= 3
    figure("between two meals of the watchdog", max(gaps), "s", 0.75 * WATCHDOG)

    paused = daemon.pause()
    time.sleep(1.5 * WATCHDOG)
    assert [at for at in systemd.moments("WATCHDOG=1") if at > paused + 0.1] == []
    resumed = daemon.go_on()
    wait_until(lambda: systemd.moments("WATCHDOG=1")[-1] > resumed, 2, "it is fed again")

    daemon.stop()
    assert daemon.wait(1) == 0
    assert len(systemd.moments("READY=1")) == len(systemd.moments("STOPPING=1")) == 1


def test_a_stuck_engine_is_not_fed_by_other_threads(systemd: Systemd, guests: Guests, worker: Workers) -> None:
    """Only the main thread stands still, as in an endless loop: the process's other threads don't cover for it."""
    guest = guests.get()
    daemon = worker(start=False)
    # SIGALRM's handler is Python code, which runs in the main thread: here it never comes back.
    daemon.program = (
        "-c",
        "import signal, threading, sys; from vmhb_worker.cmd.worker import main\n"
        "signal.signal(signal.SIGALRM, lambda *_: threading.Event().wait())\n"
        "main()",
    )
    daemon.start(systemd.environ)
    daemon.wait_known(guest.uuid)
    wait_until(lambda: bool(systemd.moments("WATCHDOG=1")), 5, "the watchdog is fed")
    os.kill(daemon.pid, signal.SIGALRM)
    stuck = time.monotonic()
    time.sleep(1.5 * WATCHDOG)
    assert [at for at in systemd.moments("WATCHDOG=1") if at > stuck + 0.1] == []
    assert not daemon.ended
    daemon.kill()


def dead(broker: Broker) -> Callable[[], None]:
    """Stop it; returns what brings it back."""
    broker.halt()
    return broker.boot


def frozen(broker: Broker) -> Callable[[], None]:
    """Freeze it; returns what brings it back."""
    broker.freeze()
    return lambda: print(broker.thaw())


@pytest.mark.parametrize("trouble", [dead, frozen])
def test_sigterm_whatever_hangs(
    trouble: Callable[[Broker], Callable[[], None]],
    guests: Guests,
    worker: Workers,
    broker: Broker,
    consumer: ConsumerProcess,
    figure: Figure,
) -> None:
    """An agent and a QEMU that hang, a broker that is gone or frozen, a notification that waits: it ends, with 0."""
    silent, stuck = guests.get(), guests.get()
    daemon = worker()
    for guest in (silent, stuck):
        daemon.wait_known(guest.uuid)
    mend = trouble(broker)
    try:
        stopped = silent.stop_agent()
        stuck.stop_qemu()
        wait_until(lambda: daemon.said(" raised: ") == 2, 15, "both faults are raised", every=0.1)
        time.sleep(1)
        figure(f"SIGTERM to the end, broker {trouble.__name__}", daemon.stop(), "s", END)
        assert daemon.wait(1) == 0
    finally:
        mend()
        stuck.continue_qemu()
    daemon.start()  # what was left undelivered is delivered by the next
    for guest in (silent, stuck):
        consumer.wait_fault("raised", guest.uuid, 60, since=stopped)
    silent.continue_agent()
    for guest in (silent, stuck):
        consumer.wait_fault("cleared", guest.uuid, 60, since=stopped)


def test_sigterm_leaves_no_probe_behind(worker: Workers, guests: Guests, node: Node, figure: Figure) -> None:
    """A worker that ends amid a probe puts the balloon's period back before."""
    guest = guests.get()
    daemon = worker()
    daemon.wait_known(guest.uuid)
    guest.stop_agent()
    wait_until(lambda: "<stats period='1'/>" in node.virsh("dumpxml", guest.name), 8, "it is probed", every=0.02)
    figure("SIGTERM to the end, amid a probe", daemon.stop(), "s", END)
    assert "<stats period='10'/>" in node.virsh("dumpxml", guest.name)
    guest.continue_agent()


@pytest.mark.parametrize("stop", [WorkerProcess.stop, WorkerProcess.stop_by_another_thread])
def test_sigterm_without_libvirtd(
    stop: Callable[[WorkerProcess], float], worker: Workers, tmp_path: Path, figure: Figure
) -> None:
    """A libvirtd that accepts connections and never answers does not hold it up either; nor does one at its start,
    whichever of its threads takes the signal."""
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute"))
        mute.listen()
        daemon = worker(uri=f"qemu+unix:///system?socket={tmp_path / 'mute'}")
        time.sleep(1)
        figure("SIGTERM to the end, libvirtd mute", stop(daemon), "s", END)
        assert daemon.wait(1) == 0


def check(daemon: WorkerProcess, figure: Figure) -> tuple[int, list[str]]:
    """Exit code and lines of `--check-config`."""
    argv = [sys.executable, "-m", "vmhb_worker.cmd.worker", "--config-file", str(daemon.write_config())]
    began = time.monotonic()
    done = subprocess.run([*argv, "--check-config"], capture_output=True, text=True, check=False, timeout=30)
    figure("--check-config", time.monotonic() - began, "s", CHECKED)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_check_config_good(worker: Workers, guests: Guests, figure: Figure) -> None:
    """All well: 0, one line, and nothing is left behind."""
    guests.get()
    daemon = worker(start=False)
    assert check(daemon, figure) == (0, ["configuration is good"])
    assert not (daemon.folder / "state").exists()


def test_check_config_beside_a_worker(worker: Workers, guests: Guests, figure: Figure) -> None:
    """The configuration of a worker that runs can be checked beside it, and the worker does not notice."""
    guest = guests.get()
    daemon = worker()
    daemon.wait_known(guest.uuid)
    assert check(daemon, figure) == (0, ["configuration is good"])
    assert daemon.show(guest.uuid)["state"] == "alive"


@pytest.mark.parametrize(
    ("group", "name", "value", "says"),
    [
        ("DEFAULT", "transport_url", "rabbit://u:secret@127.0.0.1:1/v", "[DEFAULT] transport_url"),
        ("libvirt", "connection_uri", "qemu+unix:///system?socket=/nonexistent", "[libvirt] connection_uri"),
        ("DEFAULT", "state_path", "/proc/nowhere", "[DEFAULT] state_path"),
        ("policy", "treshold", "5", "[policy] treshold"),
        ("policy", "threshold", "0", "[policy] threshold"),
        ("agent", "workers", "many", "[agent] workers"),
    ],
)
def test_check_config_bad(group: str, name: str, value: str, says: str, worker: Workers, figure: Figure) -> None:
    """Each mistake is one line that names the option, and its value unless that is a secret; exit code 1."""
    daemon = worker(start=False)
    daemon.set(group, name, value)
    code, lines = check(daemon, figure)
    assert (code, len(lines)) == (1, 1), lines
    assert says in lines[0]
    assert "secret" not in lines[0]


def test_check_config_says_all_at_once(worker: Workers, figure: Figure) -> None:
    """Three mistakes, three lines: nobody has to mend them one by one. A mute libvirtd and broker take no longer."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        daemon = worker(start=False)
        daemon.set("DEFAULT", "transport_url", f"rabbit://u:p@127.0.0.1:{mute.getsockname()[1]}/v")
        daemon.set("policy", "treshold", 5)
        daemon.set("agent", "slow_workers", 0)
        code, lines = check(daemon, figure)
    assert code == 1
    assert [bool(re.search(name, line)) for name, line in zip(("treshold", "slow_", "port|url"), lines, strict=True)]


def test_no_eventlet(worker: Workers, guests: Guests) -> None:
    """Neither eventlet nor greenlet is in the process: not by Python's own record of imports, nor by what is mapped."""
    guest = guests.get()
    daemon = worker(start=False)
    daemon.start({"PYTHONPROFILEIMPORTTIME": "1"})  # every import there is goes to stderr
    daemon.wait_known(guest.uuid)
    imported = {line.rpartition("|")[2].strip() for line in (daemon.folder / "worker.out").read_text().splitlines()}
    # What importlib.import_module is told to import is not in that record, what this imports in turn is.
    assert {"oslo_messaging.target", "libvirt", "kombu"} <= imported
    # An import that is refused leaves its name there as well; eventlet that is loaded brings these along.
    assert not imported & {"eventlet.hubs", "eventlet.greenthread", "greenlet._greenlet"}
    assert "greenlet" not in Path(f"/proc/{daemon.pid}/maps").read_text()
