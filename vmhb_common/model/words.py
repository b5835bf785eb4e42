"""Words as constants: `enum.StrEnum` of the standard library, which Python 3.10 has not. Knows none of the words."""

from __future__ import annotations

import enum


class StrEnum(str, enum.Enum):
    """Its members are strings, wherever one is wanted: compared, formatted, in JSON."""

    def __str__(self) -> str:
        # Without it, Python 3.10 formats them as their values, and later ones as "Cause.GUEST_HUNG".
        return str(self.value)
