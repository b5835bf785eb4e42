"""Books that cannot grow for ever: what was written first is forgotten first."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def keep(book: dict[K, V], key: K, value: V, limit: int) -> None:
    """Write it down as the newest; the oldest go, where there are more than `limit`."""
    book.pop(key, None)
    book[key] = value
    while len(book) > limit:
        del book[next(iter(book))]
