"""Ids, parsed as what they are, before they become part of a path, an argument, or another id. Pure."""

from __future__ import annotations

import uuid
from typing import Any

#: What a uuid looks like, for whoever is told to say one.
EXAMPLE = str(uuid.UUID(int=0))


def uuid_of(value: Any) -> str:
    """A uuid in its usual form, in lower case. Raises ValueError: a path that has one in it is no other path."""
    # `uuid.UUID` takes braces, prefixes, and digits of any script; what it makes of them is compared.
    try:
        if isinstance(value, str) and str(uuid.UUID(value)) == value.lower():
            return value.lower()
    except ValueError:
        pass
    raise ValueError("a uuid is required")
