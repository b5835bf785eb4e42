"""The consumer from its start to its end, whatever its halves are."""

from __future__ import annotations

import threading
import time

from tests.unit.consumer.fakes import SlowHalf
from vmhb_consumer.service import END, Consumer


def test_halves_are_started_and_stopped_in_time() -> None:
    """One that does not end in time takes from the time of the others, and from nobody else's."""
    quick, slow, last = SlowHalf(0.0), SlowHalf(60.0), SlowHalf(0.0)
    consumer = Consumer([quick, slow, last])
    runs = threading.Thread(target=consumer.run, args=(False,))
    runs.start()
    assert last.started.wait(10)
    began = time.monotonic()
    consumer.stop()
    runs.join(10)
    assert time.monotonic() - began < END + 0.5
    assert all(half.stopped for half in (quick, slow, last))


def test_stopped_before_it_runs() -> None:
    """A signal that comes at once is not forgotten."""
    half = SlowHalf(0.0)
    consumer = Consumer([half])
    consumer.stop()
    assert consumer.run(signals=False) == 0
    assert half.stopped
