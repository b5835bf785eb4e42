"""Shared by these tests: all of them are long, none measures anything."""

from __future__ import annotations

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """They run beside others."""
    item.add_marker(pytest.mark.patient)
