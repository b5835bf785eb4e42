"""However many lines others bring about, the log grows by a few, and tells how many there were."""

from __future__ import annotations

import logging

import pytest

from tests.fakes import MovedClock
from vmhb_common.app.ration import MOST, SPAN, Ration

LOG = logging.getLogger(__name__)


def test_a_flood(caplog: pytest.LogCaptureFixture) -> None:
    """So many are said, then that more are counted; and how many they were, once there is something to say again."""
    clock = MovedClock()
    ration = Ration(LOG, now=lambda: clock.now)
    for number in range(100_000):
        ration.say(logging.WARNING, "no %d", number)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        *(f"no {number}" for number in range(MOST)),
        "more like these are counted, and not said, for up to 60 s",
    ]
    caplog.clear()
    clock.now += SPAN
    ration.say(logging.ERROR, "again")
    assert [record.getMessage() for record in caplog.records] == [
        "and 99990 more like these, which were not said",
        "again",
    ]


def test_a_few(caplog: pytest.LogCaptureFixture) -> None:
    """All of them, and nothing besides; with what led to it, where that is wanted."""
    clock = MovedClock()
    ration = Ration(LOG, now=lambda: clock.now)
    for _ in range(5):
        for _ in range(MOST - 1):
            ration.say(logging.WARNING, "no")
        clock.now += SPAN
    try:
        raise ValueError("a bug")
    except ValueError:
        ration.say(logging.ERROR, "an error of our own", exc_info=True)
    assert [record.getMessage() for record in caplog.records] == ["no"] * 5 * (MOST - 1) + ["an error of our own"]
    assert caplog.records[-1].exc_info is not None
