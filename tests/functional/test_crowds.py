"""Many guests of a host fall silent at once: the last is told of as soon as the first, and nobody else notices.

The guests are stand-ins for QEMU behind a real libvirtd; a tenth of the cells that `benchmarks.crowds` runs.
"""

from __future__ import annotations

import pytest

from tests.conftest import Figure
from tests.functional.crowding import Cell, Host, Mix
from tests.functional.stalling import Policy
from tests.lab.node import Node
from tests.stage.consumer import ConsumerProcess

AT_ONCE, SHORT, DEFAULTS = Policy.of("0.2/0.1/3"), Policy.of("1/1/3"), Policy.of("10/5/3")

HOLD = [
    Cell(1, Mix.DEAD, SHORT, "agent"),
    Cell(1, Mix.STOPPED, SHORT, "application"),
    Cell(4, Mix.DEAD, AT_ONCE, "application"),
    Cell(4, Mix.HALF, SHORT, "agent"),
    Cell(4, Mix.STOPPED, SHORT, "agent"),
    Cell(4, Mix.STAGGERED, SHORT, "application"),
    Cell(12, Mix.DEAD, SHORT, "application"),
    *(
        pytest.param(cell, marks=pytest.mark.long)
        for cell in (
            Cell(12, Mix.AGENTS, SHORT, "agent"),
            Cell(20, Mix.STOPPED, DEFAULTS, "agent"),
            Cell(20, Mix.DEAD, SHORT, "agent"),
            Cell(40, Mix.STOPPED, SHORT, "agent"),
            Cell(40, Mix.DEAD, SHORT, "application"),
            Cell(40, Mix.DEAD, DEFAULTS, "agent"),
        )
    ),
]


@pytest.fixture(scope="module")
def host(node: Node, transport_url: str, consumer: ConsumerProcess, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A node whose stand-ins are started as they are needed."""
    return Host(node, transport_url, consumer, tmp_path_factory.mktemp("crowds"))


@pytest.mark.parametrize("cell", HOLD, ids=str)
def test_whoever_falls_silent_is_told_of_in_time_and_nobody_else_notices(
    cell: Cell, host: Host, figure: Figure
) -> None:
    """First to last; nobody who lives is accused or goes unasked; libvirtd's workers are left to others."""
    outcome = host.run(cell, patience=20)
    print(outcome, *outcome.story, sep="\n")
    for name, seconds in (("fault", outcome.raised), ("final verdict", outcome.final)):
        for one in seconds:
            figure(f"{cell}: until its {name} is told", one, "s")
    figure(f"{cell}: calls in libvirtd at a time", outcome.calls, "")
    assert outcome.wrong == []


def test_every_mix_is_a_crowd() -> None:
    """Total: what happens to whom, and by when it must be said, is known of each mix, number and channel."""
    for mix in Mix:
        for guests in (1, 12, 40, 100):
            for channel in ("agent", "application"):
                cell = Cell(guests, mix, SHORT, channel)
                assert len(cell.deeds) == guests
                done = [deed for deed in cell.deeds if deed is not None]
                assert done
                assert all(cell.final_within(deed) >= cell.raised_within(deed) for deed in done)
