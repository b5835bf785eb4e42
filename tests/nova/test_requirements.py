"""What our hooks bring into Nova's Python: nothing."""

from __future__ import annotations

from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def required_by(name: str, extra: str = "") -> set[tuple[str, str]]:
    """What an installed distribution, with this extra, requires on this machine: names, each with one extra or none."""
    found: set[tuple[str, str]] = set()
    for line in metadata.requires(name) or ():
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": asked}) for asked in {"", extra}):
            found |= {(canonicalize_name(one.name), asked) for asked in one.extras or {""}}
            found.add((canonicalize_name(one.name), ""))
    return found


def all_required_by(name: str) -> set[str]:
    """The same, and what that requires, and so on: all that `pip install` of it brings."""
    waiting: set[tuple[str, str]] = {(name, "")}
    seen: set[tuple[str, str]] = set()
    while waiting:
        seen.add(one := waiting.pop())
        waiting |= required_by(*one) - seen
    return {name for name, _extra in seen}


def test_nothing_comes_along() -> None:
    """`pip install 'nova-vmhb[nova]'` beside Nova installs nova-vmhb and nothing else: Nova requires the rest."""
    asked = required_by("nova-vmhb", "nova")
    assert {name for name, _extra in asked} <= all_required_by("nova")
    assert ("lxml", "") in asked
