"""Shared by these tests: all of them are long, none measures anything. Where Debian's archive can't give what they are
made of, they are skipped, and say so: they have not passed."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tools.lib.roots import BrokenMirror


def pytest_itemcollected(item: pytest.Item) -> None:
    """They run beside others."""
    item.add_marker(pytest.mark.patient)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    """Hosts are made by fixtures, of files that are made once."""
    try:
        yield
    except BrokenMirror as error:
        _skip(error)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Images are made by the tests themselves."""
    try:
        yield
    except BrokenMirror as error:
        _skip(error)


def _skip(error: BrokenMirror) -> None:
    pytest.skip(f"NOT TESTED, since Debian's archive is broken: {error}")
