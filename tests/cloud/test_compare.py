"""Beside what an operator would pick instead. All of it, planned operations too: `tools/cloud compare`."""

from __future__ import annotations

import pytest

from tests.cloud.compare import OURS, PEER, compare, table
from tests.cloud.stage import Stage
from tests.conftest import Figure

pytestmark = pytest.mark.long


def test_a_hang_side_by_side(stage: Stage, figure: Figure) -> None:
    """Ours is told as soon beside hung guests as without them, and sooner than the peer."""
    ours, peer = compare(stage, {}, print)
    print(table([ours, peer]))
    for others in (0, 3):
        for name, seen in ((OURS, ours), (PEER, peer)):
            for what, times in (("Masakari has it", seen.detected), ("the guest answers", seen.answered)):
                took = times[others]
                if took is not None:
                    figure(f"cloud: {name}, beside {others} hung: {what}", took, "s")
        told, peers = ours.detected[others], peer.detected[others]
        assert told is not None and ours.answered[others] is not None
        assert peers is None or told < peers
