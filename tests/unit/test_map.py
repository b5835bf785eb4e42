"""The map in docs/contributing.rst is complete: whoever looks for a decision finds the module that makes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs/contributing.rst"
PACKAGES = ("nova_vmhb", "vmhb_common", "vmhb_consumer", "vmhb_guest", "vmhb_worker")


def rows(page: str) -> Iterator[str]:
    """The paths that have a row: each table stands under its folder's name."""
    folder = ""
    for line in page.partition("\nThe map\n")[2].partition("\nWho may import whom\n")[0].splitlines():
        title = re.fullmatch(r"``([a-z_/]+/)``", line)
        row = re.match(r"``([a-z_]+(?:\.py|/))``  +\S", line)
        if title:
            folder = title[1]
        elif row and folder:
            yield folder + row[1]


def modules() -> set[str]:
    """All of ours. A package's `__init__` is its folder's title; where that is all there is, it needs a row as well."""
    found = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    folders = {path.parent for path in found if path.name != "__init__.py"}
    inner = {path.parent for path in found} - folders - {parent for folder in folders for parent in folder.parents}
    return {str(path) for path in found if path.name != "__init__.py"} | {f"{folder}/" for folder in inner}


def test_every_module_has_its_row() -> None:
    """A module that is new gets one, one that is gone leaves, and none has two."""
    listed = list(rows(PAGE.read_text(encoding="utf-8")))
    assert sorted(listed) == sorted(modules())


def test_a_row_that_is_missing_is_found() -> None:
    """The test above can fail."""
    page = PAGE.read_text(encoding="utf-8")
    without = "\n".join(line for line in page.splitlines() if "which cause it is" not in line)
    assert modules() - {*rows(without)} == {"vmhb_worker/core/verdict.py"}
    assert "vmhb_worker/rpcapi/" in modules()


def test_every_path_that_is_named_is_there() -> None:
    """What the page sends its reader to exists: as it is named, or below one of our packages."""
    named = set(re.findall(r"``([a-z_/-]+/[a-z0-9_-]+\.[a-z]+)``", PAGE.read_text(encoding="utf-8")))
    assert "core/verdict.py" in named
    gone = [
        path
        for path in named
        if not any((ROOT / place / path).exists() for place in ("", "vmhb_worker", "vmhb_consumer"))
    ]
    assert not gone
