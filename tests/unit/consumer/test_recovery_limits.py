"""How many recoveries are let through."""

from __future__ import annotations

from dataclasses import replace

from vmhb_consumer.recovery_limits import PAUSE, Known, weigh
from vmhb_consumer.settings import RecoverySettings

LIMITS = RecoverySettings(max_concurrent=3, rate=2, recoveries=2, recovery_window=3600.0)
NOW = 1_767_300_000.0


def test_below_all_limits() -> None:
    """One is let through."""
    assert weigh(Known(running=2, recent=[10.0], spent=[100.0]), LIMITS, NOW).granted


def test_an_instances_budget_is_final() -> None:
    """No use in waiting: that change is not acted on."""
    permit = weigh(Known(spent=[1.0, 2.0]), LIMITS, NOW)
    assert (permit.granted, permit.seconds) == (False, None)
    assert "2 recoveries within 3600 s" in permit.why


def test_too_many_at_a_time() -> None:
    """Until one is over, which nobody knows."""
    permit = weigh(Known(running=3), LIMITS, NOW)
    assert (permit.granted, permit.seconds) == (False, PAUSE)
    assert "[recovery] max_concurrent" in permit.why


def test_too_many_within_a_minute() -> None:
    """Until the oldest that counts is a minute old; the order of the ages does not matter."""
    assert weigh(Known(recent=[5.0, 50.0]), LIMITS, NOW).seconds == 10.0
    assert weigh(Known(recent=[55.0, 20.0, 5.0]), LIMITS, NOW).seconds == 40.0
    assert weigh(Known(recent=[59.9, 59.9]), LIMITS, NOW).seconds == 1.0
    assert weigh(Known(recent=[50.0]), replace(LIMITS, rate=1), NOW).seconds == 10.0


def test_the_text_stays_the_same() -> None:
    """A reason is logged once per text: numbers that change with each try would fill the log."""
    assert weigh(Known(recent=[5.0, 50.0]), LIMITS, NOW).why == weigh(Known(recent=[6.0, 51.0]), LIMITS, NOW).why
