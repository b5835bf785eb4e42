"""The README's demo, as a newcomer types it: it judges itself, and its exit code says how it went."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Figure

pytestmark = pytest.mark.unhurried

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(("options", "limit"), [(["--simulate"], 60.0), ([], 150.0)], ids=["simulated", "real"])
def test_the_demo(options: list[str], limit: float, figure: Figure) -> None:
    """All goes as it should, in time, and nothing is left running."""
    began = time.monotonic()
    done = subprocess.run(
        [str(ROOT / "tools" / "demo"), *options], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all as it should be" in done.stdout
    source = "in process" if options else "RabbitMQ"
    assert f">> {source}: vmhb.fault.cleared web-1" in done.stdout
    figure(f"tools/demo {' '.join(options)}".strip(), time.monotonic() - began, "s", limit)
