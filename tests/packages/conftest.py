"""What the tests of packages share: what was built, once for all of them, and guests to install it into."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.functional.conftest import (  # noqa: F401 -- fixtures, and what shows a guest's last words
    all_guests,
    guests,
    hosts,
    image,
    node,
    pytest_runtest_makereport,
)
from tools.lib import packages
from tools.lib.roots import BrokenMirror

_T = TypeVar("_T")


#: Once for all tests, though somebody edits the sources meanwhile.
built = functools.cache(packages.guest)


def got(make: Callable[[], _T]) -> _T:
    """What this makes. Debian's archive may be broken: the test is skipped then, and says so; it has not passed."""
    try:
        return make()
    except BrokenMirror as error:
        pytest.skip(f"NOT TESTED, since Debian's archive is broken: {error}")


@pytest.fixture(scope="session")
def guest_packages() -> Path:
    """vmhb-guest, built: a folder."""
    return got(built)
