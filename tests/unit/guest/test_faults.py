"""A fault of ours in the handling of one thing is that thing's: injected into each kind of thing, and survived."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.guest.daemons import PATIENCE, Application
from vmhb_guest import control
from vmhb_guest.applications import Applications, Sender
from vmhb_guest.conformance.host import Host
from vmhb_guest.daemon import Daemon, Settings
from vmhb_guest.faults import LINES, Faults
from vmhb_guest.health import Report
from vmhb_guest.session import Session


class Poisoned(Applications):
    """A table with faults in it: of a datagram that says so, of judging when it is told to, and of looking after it."""

    def __init__(self) -> None:
        super().__init__()
        self.judging = self.reserving = False

    def hear(self, sender: Sender, said: Mapping[str, str], now: float) -> bool:
        if said.get("STATUS") == "poison":
            raise ZeroDivisionError("poison\x1b[31m\nand more")
        return super().hear(sender, said, now)

    def describe(self, now: float) -> list[dict[str, Any]]:
        if self.judging:
            raise KeyError("judging")
        return super().describe(now)

    def forget(self, name: str) -> bool:
        raise LookupError(name)

    def reserve(self, names_of_checks: Any) -> None:
        if self.reserving:
            raise OverflowError("reserving")
        super().reserve(names_of_checks)


@contextmanager
def running(folder: Path, table: Applications, **more: Any) -> Iterator[Host]:
    """A daemon on a thread of ours, and the host at its port, answered."""
    host = Host(str(folder / "port"), listen=True, patience=PATIENCE)
    settings = Settings(str(folder / "port"), str(folder / "run"), str(folder / "checks.d"), **more)
    daemon = Daemon(settings, applications=table)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        host.arrive()
        host.ask()
        yield host
    finally:
        daemon.stop("the test is over")
        thread.join(PATIENCE)
        host.close()
    assert not thread.is_alive()


def status(folder: Path) -> dict[str, Any]:
    return control.call(str(folder / "run/control"), PATIENCE, do="status")


def until(what: Callable[[], bool]) -> None:
    """Wait for it, a short while at a time."""
    wait = threading.Event()
    for _ in range(int(PATIENCE / 0.02)):
        if what():
            return
        wait.wait(0.02)
    raise AssertionError("it did not come to pass")


def test_of_a_datagram(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The daemon lives, the host is answered, others are heard, one line says where; it is counted."""
    with running(tmp_path, Poisoned()) as host, Application(tmp_path / "run/notify") as one:
        one.say("READY=1", "STATUS=poison")
        one.say("READY=1", "X-VMHB-NAME=one", "STATUS=well")
        until(lambda: status(tmp_path)["faults"] == 1 and bool(status(tmp_path)["applications"]))
        assert host.ask(health=True)[-1].message["health"]["checks"][0]["message"] == "well"
    (told,) = (row.getMessage() for row in caplog.records if row.levelno == logging.ERROR)
    assert told.startswith(f"a fault of vmhb-guest's own, please report it: a datagram of pid {one.pid}, uid 0, ")
    assert told.endswith("ZeroDivisionError: poison [31m and more") and "test_faults.py:" in told


def test_of_a_callers_question(tmp_path: Path) -> None:
    """It is told so; the next one is answered."""
    table = Poisoned()
    with running(tmp_path, table) as host:
        with pytest.raises(ValueError, match="failed at this question"):
            control.call(str(tmp_path / "run/control"), PATIENCE, do="forget", name="x")
        table.judging = True
        with pytest.raises(ValueError, match="failed at this question"):
            status(tmp_path)
        table.judging = False
        assert status(tmp_path)["faults"] == 2
        host.ask()


def test_of_a_part_of_the_loop(tmp_path: Path) -> None:
    """The other parts go on; but the service manager's watchdog is not fed, since it may never get better."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "manager"))
        manager.settimeout(PATIENCE)
        table = Poisoned()
        with running(tmp_path, table, relay=str(tmp_path / "manager"), watchdog=0.4) as host:
            assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            table.reserving = True
            before = status(tmp_path)["faults"]
            until(lambda: bool(status(tmp_path)["faults"] > before + 3))
            host.ask(health=True)
            manager.settimeout(0.5)
            with pytest.raises(TimeoutError):
                while True:  # what was said before
                    manager.recv(100)
            assert status(tmp_path)["faults"] < 200, "it does not spin"
            table.reserving = False
            manager.settimeout(PATIENCE)
            assert manager.recv(100) == b"WATCHDOG=1"


def test_of_an_answer_to_the_host() -> None:
    """The one challenge is not answered; the next is."""

    faults, lost = Faults(), threading.Event()

    def report() -> Report:
        if not lost.is_set():
            lost.set()
            raise RuntimeError("nobody thought of it")
        return Report()

    session = Session("guest", report, faults)
    rows = [json.dumps({"type": "challenge", "seq": seq, "nonce": "n"}).encode() + b"\n" for seq in (1, 2)]
    session.receive(b"".join(rows), 0)
    assert json.loads(session.output)["seq"] == 2 and faults.count == 1


def test_the_log_is_not_filled(caplog: pytest.LogCaptureFixture) -> None:
    """Who found out how to cause one causes many: all are counted, some are told."""
    now = [0.0]
    faults = Faults(lambda: now[0])
    for number in range(1000):
        with faults.of("a datagram"):
            raise ValueError(number)
    assert (faults.count, len(caplog.records)) == (1000, LINES)
    now[0] = 10.0
    with faults.of("a\ndatagram\x1b"):
        raise UnicodeError("é\n\x00")
    assert len(caplog.records) == LINES + 1
    assert re.fullmatch(r".*: a datagram, test_faults.py:\d+: UnicodeError: é", caplog.records[-1].getMessage())
