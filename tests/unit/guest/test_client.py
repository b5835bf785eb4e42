"""The helper for Python: it tries again, within its time, and what was not heard is said with the next call."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmhb_guest import client


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VMHB_NOTIFY", str(tmp_path / "notify"))
    client._unheard.clear()
    yield tmp_path / "notify"
    client._unheard.clear()


def listening(address: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.bind(str(address))
    one.settimeout(10)
    return one


def said(one: socket.socket) -> set[str]:
    return {*one.recv(4096).decode().split("\n")}


def test_what_was_not_heard(address: Path) -> None:
    """Where vmhb-guest comes later: the words are said then, the last of each; not those of one that stopped."""
    assert not client.notify(ready=1, name="billing", status="starting")
    assert not client.notify(watchdog=1, status="a\nb")
    with listening(address) as one:
        assert client.notify(watchdog=1)
        assert said(one) == {"READY=1", "X-VMHB-NAME=billing", "STATUS=a b", "WATCHDOG=1"}
        assert client.notify(health="degraded") and said(one) == {"X-VMHB-HEALTH=degraded"}
    address.unlink()
    assert not client.notify(status="x") and not client.notify(stopping=1)
    with listening(address) as one:
        assert client.notify(ready=1, name="\ud800") and said(one) == {"READY=1", "X-VMHB-NAME=?"}


def test_a_daemon_that_is_started_anew(address: Path) -> None:
    """Its socket is there, and nobody reads: it is tried again for a moment, and no longer."""
    listening(address).close()
    began = time.monotonic()
    assert not client.notify(watchdog=1)
    assert client.PATIENCE <= time.monotonic() - began < client.PATIENCE + 1
    back: list[socket.socket] = []

    def comes_back() -> None:
        address.unlink()
        back.append(listening(address))

    timer = threading.Timer(0.05, comes_back)
    timer.start()
    heard = client.notify(watchdog=1)
    timer.join()
    assert heard or client.notify(watchdog=1), "it may have been looked for just when it was away"
    assert said(back[0]) == {"WATCHDOG=1"}
    back[0].close()


def test_a_socket_that_is_full(address: Path) -> None:
    """It waits for its turn."""
    with listening(address) as one, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"A=1", str(address))
        threading.Timer(0.15, one.recv, (10,)).start()
        assert client.notify(watchdog=1)
