"""Times as text. Knows no clock."""

from __future__ import annotations

from datetime import datetime
from typing import Any


def moment(text: Any) -> datetime:
    """`datetime.fromisoformat`, of which Python 3.10 has one that knows no Z. Raises as that: ValueError, TypeError."""
    return datetime.fromisoformat(f"{text[:-1]}+00:00" if isinstance(text, str) and text.endswith("Z") else text)
