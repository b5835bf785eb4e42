"""What users and operators do to a server on purpose: no fault, nothing recovered, and heartbeats again afterwards."""

from __future__ import annotations

import time

import pytest

from tests.cloud.conftest import Boot
from tests.cloud.deeds import DEEDS, do_unnoticed
from tests.cloud.stage import QUIET, Stage
from tests.conftest import Figure

pytestmark = pytest.mark.long


@pytest.mark.parametrize("deed", DEEDS)
def test_planned(stage: Stage, boot: Boot, figure: Figure, deed: str) -> None:
    """No fault while it is done, no matter how long, nor afterwards; and it beats wherever it runs then."""
    server = boot("monitored")
    server.wait_beats()
    do_unnoticed(stage, server, deed, figure, f"cloud: {deed}")


def test_deleted(stage: Stage, boot: Boot) -> None:
    """Nothing is said of it, and its worker expects no more of it."""
    server = boot("monitored")
    server.wait_beats()
    node, began = server.node, time.monotonic()
    server.delete()
    time.sleep(QUIET)
    assert server.faults(began) == []
    shown = stage.workers.show(node, server.uuid) or {}
    assert shown.get("state") in (None, "gone")  # remembered for a while, in case it was a migration
