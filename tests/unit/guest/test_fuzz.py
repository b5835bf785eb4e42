"""A short run of the fuzzer; long ones are made by hand, and their figures stand in docs/guest.rst."""

from __future__ import annotations

import logging

import pytest

from tests.unit.guest import fuzz


def test_nonsense(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing raises, every answer is legal, nothing grows; and it is not nonsense only."""
    caplog.set_level(logging.CRITICAL)
    tried = fuzz.run(iter([False] * 10 + [True] + [False] * 19), seed=6)
    assert tried.inputs == 30 * fuzz.ROUND and tried.answers > 100
    assert tried.grown < 200_000
