"""Times, read alike by every Python that we run on. Knows no clock."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any


def moment(text: Any) -> datetime:
    """`datetime.fromisoformat`, of which Python 3.10 has one that knows no Z. Raises as that: ValueError, TypeError."""
    return datetime.fromisoformat(f"{text[:-1]}+00:00" if isinstance(text, str) and text.endswith("Z") else text)


def from_epoch(seconds: float) -> datetime:
    """In UTC, and aware of it. Raises as `datetime.fromtimestamp`: ValueError, OverflowError, OSError."""
    return datetime.fromtimestamp(seconds, timezone.utc)
