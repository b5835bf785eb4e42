"""The cloud itself: there is one, and what keeps a second away."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cloud.__main__ import CREATE
from tests.cloud.holder import READY
from tests.cloud.site import FOLDER
from tests.cloud.stage import Stage


def _running(stage: Stage) -> set[tuple[str, int]]:
    """Name and pid of each service that runs: what other tests have halted is listed, too."""
    return {(row["name"], row["pid"]) for row in stage.holder.ask("status") if row["runs"]}


def test_a_second_is_refused(stage: Stage) -> None:
    """In words that say what to do, and the first goes on as if nothing had been."""
    running = _running(stage)  # and where it fails, there is none, and the following would bring one up
    done = subprocess.run(
        [sys.executable, "-m", "tests.cloud", "up"], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert f"there is room for one: {FOLDER}" in done.stderr
    assert "tools/cloud down" in done.stderr
    assert READY not in done.stdout
    assert _running(stage) == running


@pytest.mark.long
def test_a_shell(stage: Stage) -> None:
    """Its `openstack` speaks with this cloud, and what it says that one could try, works."""
    commands = f"{CREATE} web-1 -f value -c status\nopenstack server delete --wait web-1 && echo gone\n"
    done = subprocess.run(
        [sys.executable, "-m", "tests.cloud", "shell"],
        input=commands,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.splitlines() == [f"{CREATE} NAME", "ACTIVE", "gone"], done.stderr
