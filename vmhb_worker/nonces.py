"""Nonces: what a guest must echo, and cannot foresee."""

from __future__ import annotations

import secrets

#: Bits of each, in hexadecimal.
_BYTES = 8
#: So many are drawn at a time: one call of the kernel's for all of them.
_AT_ONCE = 256


class Nonces:
    """64 bits each, from the kernel's random source. Belongs to one thread."""

    def __init__(self) -> None:
        self._left: list[str] = []

    def __call__(self) -> str:
        """Another one."""
        if not self._left:
            drawn, length = secrets.token_hex(_BYTES * _AT_ONCE), 2 * _BYTES
            self._left = [drawn[at : at + length] for at in range(0, len(drawn), length)]
        return self._left.pop()
