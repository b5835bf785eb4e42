"""What the benchmarks share: pairs, and how they are told."""

from __future__ import annotations

import argparse
import functools
import logging
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

#: One measurement: it takes its time, and returns a number.
Measure = Callable[[], float]


@dataclass(frozen=True)
class Pairs:
    """The same thing measured in two ways, in turns, so that a machine that gets slower makes both slower."""

    base: list[float]
    other: list[float]

    @property
    def ratios(self) -> list[float]:
        """Of each pair."""
        return [other / base for base, other in zip(self.base, self.other, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of them."""
        return statistics.median(self.ratios)


def in_pairs(base: Measure, other: Measure, number: int) -> Pairs:
    """Measure both so often, each of them first every other time."""
    pairs = Pairs([], [])
    for turn in range(number):
        steps = [(base, pairs.base), (other, pairs.other)]
        for measure, values in steps if turn % 2 == 0 else reversed(steps):
            values.append(measure())
    return pairs


def tell(name: str, values: Sequence[float], unit: str) -> None:
    """One line: median, and the range."""
    median = statistics.median(values)
    print(f"{name:55} {median:9.4g} {unit:4} ({min(values):.4g} … {max(values):.4g}, n={len(values)})", flush=True)


def tell_pairs(name: str, pairs: Pairs, unit: str, names: tuple[str, str]) -> None:
    """Three lines: both, and what one is to the other."""
    tell(f"{name}, {names[0]}", pairs.base, unit)
    tell(f"{name}, {names[1]}", pairs.other, unit)
    tell(f"{name}, {names[1]} / {names[0]}", pairs.ratios, "x")


@contextmanager
def stand_ins(number: int) -> Iterator[Any]:
    """A node with so many stand-ins for QEMU that are to be asked once a second, as root."""
    from tests.lab import metadata  # noqa: PLC0415 - most do without
    from tests.lab.node import Node  # noqa: PLC0415
    from tests.lab.stand_in import StandIn  # noqa: PLC0415

    asked = [metadata.heartbeat(interval=1, timeout=1, threshold=3)]
    with Node("costs") as node:
        print(f"starting {number} guests", flush=True)
        for n in range(number):
            guest = StandIn(node, f"cost-{n:03}", metadata=asked)
            guest.define()
            guest.start()
        yield node


#: measure(instances, seconds, rates): CPU per heartbeat in µs; adds to rates how often each instance was asked.
Exchange = Callable[[int, float, list[float]], float]


def cpu_per_heartbeat(
    name: str,
    about: str,
    instances: Sequence[int],
    bare: Exchange,
    worker: Exchange,
    prepare: Callable[[int], object] = lambda most: None,
) -> None:
    """The command line of a benchmark that compares the worker with a bare loop. prepare: for so many instances."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about.splitlines()[0])
    parser.add_argument("--instances", type=int, nargs="+", default=list(instances), help="how many there are")
    parser.add_argument("--seconds", type=float, default=10, help="how long each measurement takes")
    parser.add_argument("--pairs", type=int, default=3, help="how often each is measured")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    prepare(max(asked.instances))
    for number in asked.instances:
        rates: list[float] = []
        pairs = in_pairs(
            functools.partial(bare, number, asked.seconds, rates),
            functools.partial(worker, number, asked.seconds, rates),
            asked.pairs,
        )
        tell_pairs(f"CPU per heartbeat, {number} instances", pairs, "µs", ("bare", "worker"))
        tell(f"heartbeats per instance and second, {number} instances", rates, "Hz")
