"""sd_notify: what goes into the datagram, and that nothing about it can hurt the worker."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import NotifySocket
from vmhb_common.app import systemd


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@vmhb-test-{uuid.uuid4()}"
    receiver = NotifySocket(address)
    yield receiver
    receiver.close()


def test_the_three_messages(manager: NotifySocket) -> None:
    """systemd is told ready, alive and stopping in its own words, by a path and by an abstract name."""
    assert systemd.ready("2 instances", manager.environ)
    assert manager.received() == "READY=1\nSTATUS=2 instances"
    assert systemd.alive(environ=manager.environ)
    assert manager.received() == "WATCHDOG=1"
    assert systemd.alive("3 instances", manager.environ)
    assert manager.received() == "WATCHDOG=1\nSTATUS=3 instances"
    assert systemd.status("recoveries are paused", manager.environ)
    assert manager.received() == "STATUS=recoveries are paused"
    assert systemd.stopping(environ=manager.environ)
    assert manager.received() == "STOPPING=1\nSTATUS=stopping"


def test_a_line_of_parts() -> None:
    """Each says its own; told is the whole, when it changes, in the order of the parts."""
    told: list[str] = []
    line = systemd.Line("first", "second", tell=told.append)
    line.say("second", "two")
    line.say("first", "one")
    line.say("first", "one")
    line.say("third", None)
    line.say("second", None)
    assert told == ["two", "one; two", "one"]
    assert line.text == "one"


def test_a_line_that_did_not_arrive() -> None:
    """systemd's queue is full, say: it is said again, whoever speaks next."""
    told: list[str] = []
    arrives = iter([False, False, True])

    def tell(text: str) -> bool:
        told.append(text)
        return next(arrives)

    line = systemd.Line("one", tell=tell)
    for _ in range(5):
        line.say("one", "paused")
    assert told == ["paused"] * 3


def test_what_is_said_last_stays() -> None:
    """Ready is said with how all is, and somebody else has news at that moment: his is what stays."""
    told: list[str] = []

    def begin(text: str) -> bool:
        other = threading.Thread(target=line.say, args=("one", "reading"))
        other.start()
        other.join(0.2)
        told.append(f"ready, {text}")
        return True

    line = systemd.Line("one", tell=told.append, begin=begin)
    line.say("one", "not yet")
    line.ready()
    line.say("one", "reading")
    assert told == ["not yet", "ready, not yet", "reading"]


def test_a_status_is_one_line(manager: NotifySocket) -> None:
    """A status cannot smuggle in an assignment of its own."""
    systemd.ready("fine\nMAINPID=1", manager.environ)
    assert manager.received() == "READY=1\nSTATUS=fine MAINPID=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "@vmhb-nobody-listens", "/" + 200 * "x"])
def test_nobody_there(address: str) -> None:
    """Without systemd, or with one that is gone, telling it is False and nothing else."""
    assert not systemd.notify("READY=1", environ={"NOTIFY_SOCKET": address})
    assert not systemd.notify("READY=1", environ={})


def test_full_socket_does_not_block(manager: NotifySocket) -> None:
    """A systemd that does not read never holds up the engine's loop."""
    sent = 0
    while systemd.alive(environ=manager.environ):
        sent += 1
        assert sent < 100_000
    assert sent > 0


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval(environ: dict[str, str], interval: float | None) -> None:
    """The watchdog is fed at half its interval, and only by the process that it watches."""
    assert systemd.watchdog_interval(environ) == interval
