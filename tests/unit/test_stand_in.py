"""The stand-in for QEMU and the tap on libvirtd's socket, without a libvirtd: what the figures of crowds rest on."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.stand_in import PROGRAM
from tests.lab.stand_in_qemu import Balloon
from tests.lab.tap import A_MOMENT, HEADER, QEMU_PROGRAM, REMOTE_PROGRAM, Tap

PORTS = {"charmonitor": "monitor", "charchannel0": "org.qemu.guest_agent.0", "charchannel1": "org.openstack.vmhb.0"}
PATIENCE = 10.0


class Talk:
    """The other end of one of its ports."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        self._file = self._socket.makefile("rb")
        self._socket.settimeout(PATIENCE)

    def say(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> Any:
        return json.loads(self._file.readline().strip() or self._file.readline())

    def hears(self, seconds: float) -> bool:
        """Is anything said within this time?"""
        self._socket.settimeout(seconds)
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(PATIENCE)

    def ask(self, command: str, **arguments: Any) -> Any:
        self.say({"execute": command, "arguments": arguments})
        return self.hear()["return"]


class Running:
    """One that runs, with libvirt's ends of its ports."""

    def __init__(self, folder: Path) -> None:
        arguments = []
        for label, name in PORTS.items():
            arguments += ["-chardev", f"socket,id={label},path={folder / label},server=on,wait=off"]
            device = {"driver": "virtserialport", "chardev": label, "name": name}
            arguments += ["-device", json.dumps(device)] if label != "charmonitor" else []
        arguments += ["-device", json.dumps({"driver": "virtio-balloon-pci", "id": "balloon0"})]
        self.process = subprocess.Popen([sys.executable, "-ISE", str(PROGRAM), *arguments])
        self.monitor, self.agent, self.application = (Talk(folder / label) for label in PORTS)
        assert "QMP" in self.monitor.hear()
        assert self.application.hear()["type"] == "hello"
        self.monitor.ask("cont")
        assert self.monitor.hear()["event"] == "RESUME"

    def becomes(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        time.sleep(0.1)  # its next command finds it so

    def reported(self) -> int:
        """When its balloon last did (seconds since 1970)."""
        return int(self.monitor.ask("qom-get", path="/balloon0", property="guest-stats")["last-update"])

    def set_period(self, seconds: int) -> None:
        self.monitor.ask("qom-set", path="/balloon0", property="guest-stats-polling-interval", value=seconds)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """One."""
    one = Running(tmp_path)
    yield one
    one.process.kill()
    one.process.wait()


def test_it_answers_over_each_of_its_ports(running: Running) -> None:
    """QEMU's monitor, the guest agent, and the application, which echoes what it was challenged with."""
    assert running.monitor.ask("query-status")["status"] == "running"
    assert running.agent.ask("guest-sync", id=7) == 7
    assert running.agent.ask("guest-ping") == {}
    running.agent.say({"execute": "guest-shutdown"})
    assert running.agent.hear()["error"]["class"] == "CommandNotFound"
    running.application.say({"type": "challenge", "seq": 3, "nonce": "n", "health": True})
    ack = running.application.hear()
    assert (ack["type"], ack["seq"], ack["nonce"], ack["health"]["status"]) == ("ack", 3, "n", "healthy")


def test_silent_agents_leave_the_kernel_alive_and_answer_late(running: Running) -> None:
    """SIGUSR2: the balloon reports. SIGHUP: what was asked meanwhile is answered."""
    running.becomes(signal.SIGUSR2)
    running.agent.say({"execute": "guest-ping"})
    running.application.say({"type": "challenge", "seq": 1, "nonce": "n"})
    before = running.reported()
    running.set_period(1)
    time.sleep(1.5)
    assert running.reported() > before
    assert not running.agent.hears(0.1)
    running.becomes(signal.SIGHUP)
    assert running.agent.hear() == {"return": {}}
    assert running.application.hear()["seq"] == 1


def test_a_dead_kernel_reports_nothing(running: Running) -> None:
    """SIGUSR1: nobody in the guest says anything, and QEMU itself answers."""
    running.becomes(signal.SIGUSR1)
    before = running.reported()
    running.set_period(1)
    time.sleep(1.5)
    assert running.reported() == before
    running.agent.say({"execute": "guest-ping"})
    assert not running.agent.hears(0.1)


def test_a_panic_is_told(running: Running) -> None:
    """SIGRTMIN: the kernel is dead, and QEMU says so."""
    running.process.send_signal(signal.SIGRTMIN)
    assert running.monitor.hear()["event"] == "GUEST_PANICKED"
    running.agent.say({"execute": "guest-ping"})
    assert not running.agent.hears(0.1)


def test_it_powers_off_as_it_is_told(running: Running) -> None:
    """And says that the guest wished it; the process ends when libvirt ends it."""
    running.monitor.say({"execute": "system_powerdown"})
    told = [running.monitor.hear() for _ in range(3)]
    assert {"POWERDOWN", "SHUTDOWN"} <= {one.get("event") for one in told}
    assert [one["data"]["guest"] for one in told if one.get("event") == "SHUTDOWN"] == [True]
    assert running.process.poll() is None


def test_a_balloon_keeps_time_as_qemus_does() -> None:
    """The first period asks at once, another one from then on, the same one changes nothing, and 0 ends it; a driver
    that was silent gives back what it was handed when it goes on."""
    balloon = Balloon()
    balloon.set_period(10, 100.0)
    assert balloon.due == 100.0
    balloon.tick(100.0, lives=True)
    assert balloon.updated and balloon.due == 110.0
    balloon.set_period(1, 105.0)
    assert balloon.due == 106.0
    balloon.set_period(1, 105.5)
    assert balloon.due == 106.0
    balloon.updated = 1
    balloon.tick(106.0, lives=False)
    assert (balloon.updated, balloon.due) == (1, 107.0)
    balloon.goes_on(108.5)
    assert balloon.updated > 1 and balloon.due == 109.5
    balloon.set_period(0, 109.0)
    assert balloon.due is None


# -- the tap

DOMAIN_STATE, DOMAIN_XML, ALL_STATISTICS = 212, 14, 344


def call(program: int, procedure: int, serial: int, *domains: uuid.UUID, several: bool = False, kind: int = 0) -> bytes:
    """A message as libvirt writes it, of a call or (kind=1) a reply."""
    arguments = struct.pack(">I", len(domains)) if several else b""
    for domain in domains:
        arguments += struct.pack(">I8s16sI", 6, b"domain", domain.bytes, 1)
    length = HEADER.size + len(arguments)
    return HEADER.pack(length, program, 1, procedure, kind, serial, 0) + arguments


def test_the_tap_counts_what_takes_a_worker_of_libvirtds(tmp_path: Path) -> None:
    """Not what libvirtd has workers of its own for. Agent commands come back by themselves, the others when QEMU does;
    statistics of several domains are each one's."""
    one, other = uuid.uuid4(), uuid.uuid4()
    with socket.socket(socket.AF_UNIX) as libvirtd, socket.socket(socket.AF_UNIX) as client:
        libvirtd.bind(str(tmp_path / "libvirt-sock"))
        libvirtd.listen(1)
        with Tap(tmp_path) as tap:
            client.connect(str(tmp_path / "tapped-sock"))
            there, _ = libvirtd.accept()
            client.sendall(call(REMOTE_PROGRAM, DOMAIN_STATE, 1, one) + call(REMOTE_PROGRAM, DOMAIN_XML, 2, one))
            client.sendall(call(QEMU_PROGRAM, 3, 3, one))
            client.sendall(call(REMOTE_PROGRAM, ALL_STATISTICS, 4, one, other, several=True))
            passed = b""
            while len(passed) < 4 * HEADER.size + 5 * 32 + 4:
                passed += there.recv(4096)
            assert (tap.most_calls(), tap.most(), tap.most_to_one()) == (3, 1, 1)
            assert tap.most_stuck({str(one)}) == 0
            time.sleep(A_MOMENT)
            assert (tap.most_stuck({str(one)}), tap.most_stuck({str(other)}), tap.most_stuck(set())) == (2, 1, 0)
            there.sendall(call(QEMU_PROGRAM, 3, 3, kind=1))
            client.recv(4096)
            client.sendall(call(QEMU_PROGRAM, 3, 5, other))
            there.recv(4096)
            assert (tap.most_calls(), tap.most(), tap.answered(str(one))) == (3, 1, 1)
            there.close()
