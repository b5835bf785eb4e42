"""Shared by these tests: all of them are long, none measures anything."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.deploy.conftest import (  # noqa: F401 -- hooks
    pytest_itemcollected,
    pytest_runtest_call,
    pytest_runtest_setup,
)
from tests.rollout.hosts import Rollout


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the hosts' services said, with each test that failed."""
    report = yield
    rollout = getattr(item, "funcargs", {}).get("rollout")
    if report.failed and report.when == "call" and isinstance(rollout, Rollout):
        report.sections.append(("the hosts' journals", rollout.journal()))
    return report
