"""A host that stands still takes all its guests with it: nobody is recovered for that, and whoever is dead still is.

All QEMUs of a host are stopped together (SIGSTOP) and go on; agent and application channel mixed. `benchmarks.stalls`
runs any cell as often as wanted, and prints a line for each run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional.stalling import Cell, Host, Outcome, Policy
from tests.lab.broker import Broker
from tests.lab.image import Image
from tests.lab.node import Node

SHORT, DEFAULTS = Policy.of("1/1/3"), Policy.of("10/5/3")

#: Each number, time, policy and way of being dead once. All of them, as often as wanted: `benchmarks.stalls`.
CELLS = [
    Cell(4, 45, DEFAULTS, "qemu"),
    Cell(4, 200, SHORT),
    Cell(12, 45, SHORT, "kernel"),
    Cell(12, 90, DEFAULTS, "kernel"),
]

Hosts = Callable[[int], Host]


@pytest.fixture(scope="module")
def host_of(
    broker: Broker, image: Image, application_image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosts]:
    """host_of(4): a node of its own with so many guests; the next test that wants as many gets it, too."""
    known: dict[int, Host] = {}
    nodes: list[Node] = []

    def make(number: int) -> Host:
        if number not in known:
            nodes.append(Node(f"stalls-{number}"))
            nodes[-1].start()
            folder = tmp_path_factory.mktemp(f"stalls-{number}")
            known[number] = Host.boot(broker, nodes[-1], (image, application_image), number, folder)
        return known[number]

    yield make
    for node in nodes:
        node.stop()


def judge(*outcomes: Outcome) -> None:
    """Print what happened, and fail where something must not have."""
    print(*outcomes, sep="\n")
    assert [sentence for outcome in outcomes for sentence in outcome.wrong] == []


def test_guests_that_stall_together_are_left_alone_and_the_dead_is_recovered(host_of: Hosts) -> None:
    """Four guests for 45 s, one of them with a dead kernel: it is recovered after the brake, and nobody else. On
    another host at the same time two of two, too few for a brake: nobody at all."""
    cells = {4: Cell(4, 45, SHORT, dead="kernel"), 2: Cell(2, 45, SHORT)}
    hosts = {number: host_of(number) for number in cells}
    with ThreadPoolExecutor(len(cells)) as pool:
        outcomes = list(pool.map(lambda number: hosts[number].run(cells[number]), cells))
    judge(*outcomes)


@pytest.mark.long
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_however_many_for_however_long(cell: Cell, host_of: Hosts) -> None:
    """The same for four and for twelve, for less and for much more than any grace, at a short policy and by default."""
    judge(host_of(cell.guests).run(cell))


@pytest.mark.long
def test_two_of_two_at_the_defaults(host_of: Hosts) -> None:
    """Two guests are too few for a brake: the grace of a QEMU that stands still covers the stall."""
    judge(host_of(2).run(Cell(2, 45, DEFAULTS)))
