"""That recoveries are paused is said: once when it begins, once when it ends, and in every status."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from vmhb_consumer.pause_watch import Watch, as_told
from vmhb_consumer.stop_button import Pause

NOON = 1_767_355_200.0  # 2026-01-02 12:00:00 UTC
STORAGE = Pause("storage", NOON, NOON + 3600.0, "root on ctl")
SOONER = Pause("storage", NOON + 10.0, NOON + 70.0, "ops on ctl")


class Site:
    """A row that is set by hand, and what was said of it."""

    def __init__(self) -> None:
        self.there: Pause | None = None
        self.told: list[str | None] = []
        self.watch = Watch(lambda: self.there, self.told.append)


@pytest.fixture
def site(caplog: pytest.LogCaptureFixture) -> Iterator[Site]:
    with caplog.at_level(logging.INFO):
        yield Site()


def test_a_pause(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """One line when it begins, one when it ends; systemd hears it as long as it lasts."""
    for at in range(3):
        site.watch.look(NOON + at)
    assert site.told == [] and not site.watch.paused
    site.there = STORAGE
    for at in range(3):
        site.watch.look(NOON + at)
    assert site.watch.paused
    assert site.told == ["recoveries are paused until 2026-01-02 13:00:00 UTC: storage"] * 3
    site.there = None
    for at in range(3):
        site.watch.look(NOON + at)
    assert [record.message for record in caplog.records] == [
        "recoveries are paused until 2026-01-02 13:00:00 UTC: storage (said by root on ctl; nova-vmhb-manage "
        "recoveries resume ends it)",
        "recoveries are not paused any more: they were resumed",
    ]
    assert site.told[3:] == [None] and not site.watch.paused


def test_its_time_is_over(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """It ends by itself; another one in its place is said as one that begins."""
    site.there = STORAGE
    site.watch.look(NOON)
    site.there = SOONER
    site.watch.look(NOON + 10.0)
    site.watch.look(NOON + 70.0)
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        "recoveries are paused until 2026-01-02 13:00:00 UTC: storage",
        "recoveries are paused until 2026-01-02 12:01:10 UTC: storage",
        "recoveries are not paused any more: its time is over",
    ]


def test_for_whoever_asks() -> None:
    """All of it, for as long as it is in force."""
    told = {"reason": "storage", "by": "root on ctl", "since": "2026-01-02 12:00:00 UTC"}
    assert as_told(STORAGE, NOON) == {**told, "until": "2026-01-02 13:00:00 UTC"}
    assert as_told(STORAGE, NOON + 3600.0) is None
    assert as_told(None, NOON) is None
