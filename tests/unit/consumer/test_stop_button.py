"""What a pause of all recoveries is, and what an operator may ask for."""

from __future__ import annotations

import pytest

from vmhb_consumer.stop_button import CEILING, REASON, Pause, in_force, reason_of, roughly, seconds_of

NOON = 1_767_355_200.0  # 2026-01-02 12:00:00 UTC


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60.0), ("1m", 60.0), ("90m", 5400.0), (" 2h ", 7200.0), ("7d", CEILING), ("168h", CEILING)],
)
def test_how_long(text: str, seconds: float) -> None:
    """A number and a unit; a week at most."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "2", "h", "0h", "59s", "8d", "169h", "-1h", "1.5h", "2 h", "2h30m", "inf", "ever", "9999999999d", "٢h"]
)
def test_never_for_ever(text: str) -> None:
    """What is no time, too short to be meant, or longer than a week is refused, with what to say instead."""
    with pytest.raises(ValueError, match="say one whole number and m, h or d, from 1m to 7d, such as 90m or 2h"):
        seconds_of(text)


def test_a_reason() -> None:
    """One line that says something: it stands in the log of each consumer."""
    assert reason_of("  storage is being moved ") == "storage is being moved"
    assert reason_of("ä" * REASON) == "ä" * REASON
    for text in ("", "   ", "x" * (REASON + 1), "two\nlines", "bell\a", "\x1b[2J"):
        with pytest.raises(ValueError, match="say one line of 1 to 200 characters"):
            reason_of(text)


def test_it_has_an_end() -> None:
    """It holds until then, and not at that moment any more; where there is none, nothing is held."""
    pause = Pause("storage", NOON, NOON + 60.0, "root on ctl")
    assert in_force(pause, NOON) and in_force(pause, NOON + 59.9)
    assert not in_force(pause, NOON + 60.0)
    assert not in_force(None, NOON)


def test_what_it_says() -> None:
    """The word, the end and the reason, the same for as long as it lasts."""
    assert Pause("storage", NOON, NOON + 3600.0).text == "paused until 2026-01-02 13:00:00 UTC: storage"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "1 min"), (60.0, "1 min"), (61.0, "2 min"), (7200.0, "2 h"), (90061.0, "1 d 1 h 2 min"), (CEILING, "7 d")],
)
def test_roughly(seconds: float, text: str) -> None:
    """For people, never less than it is."""
    assert roughly(seconds) == text
