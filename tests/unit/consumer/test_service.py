"""The consumer from its start to its end, whatever its halves are."""

from __future__ import annotations

import threading
import time

import pytest

from tests.unit.consumer.fakes import FailingHalf, SlowHalf
from vmhb_common.app.ending import LIMIT
from vmhb_consumer.service import END, Consumer


def test_halves_are_started_and_stopped_in_time() -> None:
    """One that does not end in time takes from nobody's: all are given the same, and have it."""
    slow, quick, last = SlowHalf(60.0), SlowHalf(0.0), SlowHalf(END / 2)
    consumer = Consumer([slow, quick, last])
    runs = threading.Thread(target=consumer.run, args=(False,))
    runs.start()
    assert last.started.wait(10)
    began = time.monotonic()
    consumer.stop()
    runs.join(10)
    assert time.monotonic() - began < END + 0.5
    assert slow.given == quick.given == last.given == END
    assert quick.stopped
    assert last.stopped


def test_stopped_before_it_runs() -> None:
    """A signal that comes at once is not forgotten."""
    half = SlowHalf(0.0)
    consumer = Consumer([half])
    consumer.stop()
    assert consumer.run(signals=False) == 0
    assert half.stopped


def test_a_half_that_fails_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """It keeps nobody from ending, and it is said."""
    last = SlowHalf(0.0)
    consumer = Consumer([FailingHalf(), last])
    consumer.stop()
    assert consumer.run(signals=False) == 0
    assert last.stopped
    assert "an error of our own; the end goes on" in caplog.messages


def test_refusing_to_run() -> None:
    """The exit code says so, also where somebody stops it meanwhile."""
    consumer = Consumer([SlowHalf(0.0)])
    consumer.refuse("another consumer keeps faults elsewhere")
    consumer.stop()
    assert consumer.run(signals=False) == 1


def test_limits_add_up() -> None:
    """A half that hangs is not what ends the process as it is."""
    assert END < LIMIT
