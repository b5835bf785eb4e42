"""The door for texts of guests, and of all who are not believed: what comes out of it can be logged, stored and told.

What does not print goes: controls, so that nobody writes lines of our log; marks that turn the direction of writing, or
that cannot be seen, so that nobody writes what is read as something else; lone surrogates, which no file, database or
broker takes. Pure.
"""

from __future__ import annotations


def clean(text: str, limit: int) -> str:
    """Somebody else's text: no longer than `limit` characters, which must not be negative, and a blank for each that
    does not print. What is clean is returned as it is."""
    text = text[:limit]
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
