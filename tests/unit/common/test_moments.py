"""Times as text: what others write is read alike by every Python that we run on."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from vmhb_common.model.moments import from_epoch, moment
from vmhb_common.model.words import StrEnum

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31T12:00:00.250Z", NOON + timedelta(milliseconds=250)),
        ("2026-01-31T13:00:00+01:00", NOON),
        ("2026-01-31 12:00:00.000001", NOON.replace(tzinfo=None, microsecond=1)),
    ],
)
def test_a_moment(text: str, read: datetime) -> None:
    """With Z, with another zone, and with none."""
    assert moment(text) == read


@pytest.mark.parametrize(("value", "error"), [("Z", ValueError), ("noon", ValueError), (None, TypeError)])
def test_what_is_none(value: object, error: type[Exception]) -> None:
    """As what it stands for."""
    with pytest.raises(error):
        moment(value)


class Word(StrEnum):
    """One."""

    GUEST_HUNG = "guest_hung"


def test_a_word() -> None:
    """Formatted, it is itself, as it is when it is compared."""
    word: str = Word.GUEST_HUNG
    assert [f"{word}", str(word), "".join([word]), f"{word:>11}"] == [*["guest_hung"] * 3, " guest_hung"]
    assert word == "guest_hung" and Word("guest_hung") is word


def test_from_the_epoch() -> None:
    """In UTC, and aware of it, wherever we run."""
    assert from_epoch(NOON.timestamp()) == NOON
    assert from_epoch(0.5).utcoffset() == timedelta()
