"""What libraries' errors say, whatever they were wrapped in on their way. Knows no library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Where whoever wraps an error keeps it: Python, SQLAlchemy, oslo.db.
_WITHIN = ("__cause__", "orig", "inner_exception")


def first_line(error: BaseException) -> str:
    """For people: what follows it is a page, a statement, or where to read more."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def driver_codes(error: BaseException) -> set[Any]:
    """The numbers and SQLSTATEs by which a database's driver tells errors apart, of it and of all that it wraps."""
    return {code for one in _unwrapped(error) for code in _own(one)}


def _unwrapped(error: BaseException) -> list[BaseException]:
    found = [error]
    for one in found:
        within = (getattr(one, name, None) for name in _WITHIN)
        found += [other for other in within if isinstance(other, BaseException) and other not in found]
    return found


def _own(error: BaseException) -> Iterator[Any]:
    yield getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)  # psycopg2's name, and psycopg's
    yield from (argument for argument in error.args if isinstance(argument, int))
