"""A server of ours whose broker does not let it begin, or end: nobody waits for it, and it says so."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from itertools import repeat

import pytest

from tests.fakes import BlockedServer, EndlessServer, raises
from tests.lab.processes import wait_until
from vmhb_common.messaging import broker


def started(why: Callable[[], str | None], over: threading.Event, patience: float = 0.1) -> broker.Background:
    one = broker.Background("RPC is served", "RPC cannot be served", lambda: BlockedServer(over), 1, why, patience)
    began = time.monotonic()
    one.start()
    assert time.monotonic() - began < 1.0, "nobody waits for it"
    return one


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        (lambda: "set this option", "set this option"),
        (lambda: None, "the broker has not let us begin"),
        (raises(OSError("no route")), "the broker: no route"),
    ],
)
def test_what_does_not_begin_is_said(
    why: Callable[[], str | None], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with what stands in the way, also where that can't be found out; and it begins when it may."""
    over = threading.Event()
    one = started(why, over)
    said = f"RPC cannot be served, after 0.1 s: {reason}; tried until it works"
    wait_until(lambda: said in caplog.messages, 10, "it is said")
    over.set()
    assert one.listening.wait(10)
    assert [record.levelno for record in caplog.records if record.message == said] == [logging.ERROR]


def test_what_begins_in_time_says_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """Nor is the broker looked at."""
    over = threading.Event()
    over.set()
    looked: list[int] = []
    with caplog.at_level(logging.INFO):
        one = started(lambda: looked.append(1), over, 0.5)
        assert one.listening.wait(10)
        time.sleep(0.7)
    assert (looked, [message for message in caplog.messages if "RPC" in message]) == ([], ["RPC is served"])


def test_what_is_stopped_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Who ends does not complain about what did not begin."""
    one = started(lambda: "never", threading.Event(), 0.3)
    one.stop()
    time.sleep(0.6)
    assert "cannot be served" not in caplog.text


def test_none_is_held_up_by_anothers_end() -> None:
    """Brokers that are frozen: all begin to end at once, and whoever waits for one waits no longer than he says."""
    servers = [EndlessServer() for _ in range(5)]
    several = [broker.Background("served", "refused", repeat(server).__next__, 1) for server in servers]
    for one in several:
        one.start()
        assert one.listening.wait(10)
    for one in several:
        one.end()
    assert all(server.ending.wait(10) for server in servers), "though the first never ends"
    began = time.monotonic()
    several[0].join(0.2)
    several[1].join(-1.0)
    assert 0.2 <= time.monotonic() - began < 5
    assert not any(one.listening.is_set() for one in several)


def test_an_end_without_a_beginning() -> None:
    """There is nothing to wait for; and none begins any more."""
    over = threading.Event()
    one = started(lambda: None, over)
    one.end()
    one.join(10)
    over.set()
    assert not one.listening.wait(0.2)
