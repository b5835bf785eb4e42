"""How late challenges are over the application channel, with many instances, beside a guest that floods, and how soon a
silent application is found.

The worker is a process of its own, the real one with its outbox; the guests are sockets in another process, which tells
by its own clock how late each challenge came: later than the earliest of the same guest would have it.

    python -m benchmarks.application_lateness [--instances 10000] [--seconds 30] [--pairs 3]
"""

from __future__ import annotations

import argparse
import functools
import logging
import math
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.application_cpu import KNOBS, warm_up
from benchmarks.common import in_pairs, tell
from benchmarks.guests import Guests, Hypervisor, unlimited
from benchmarks.running import Running

QUICK = {"interval": "0.2", "timeout": "0.2", "threshold": "3", "action": "recover"}
FLOODED = 1000


def _serve(folder: str, number: int, knobs: dict[str, str], pipe: Connection) -> None:
    """The worker's process: how many faults there are, and how much memory it takes, when asked."""
    logging.disable(logging.CRITICAL)
    unlimited(2 * number)
    running = Running(Path(folder), Hypervisor(Path(folder), number, knobs))
    while pipe.recv() == "tell":
        engine = running.worker.engine
        faults = {} if engine is None else dict(engine._ledger.open)
        pipe.send((sorted(faults), _rss()))
    running.end()


def _rss() -> float:
    """MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


class Bench:
    """Guests and a worker, both in processes of their own."""

    def __init__(self, folder: str, number: int, knobs: dict[str, str]) -> None:
        self.guests = Guests(Path(folder), number)
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(folder, number, knobs, theirs))
        self._process.start()
        time.sleep(warm_up(number))

    def told(self) -> tuple[list[str], float]:
        """The instances that have a fault; memory in MiB."""
        self._pipe.send("tell")
        told: tuple[list[str], float] = self._pipe.recv()
        return told

    def end(self) -> dict[str, Any]:
        """What the guests saw."""
        seen = self.guests.end()
        self._pipe.send("end")
        self._process.join()
        return seen


def percentile(values: list[float], share: float) -> float:
    """In milliseconds."""
    return 1000 * sorted(values)[min(len(values) - 1, int(len(values) * share))]


def many(number: int, seconds: float) -> None:
    """Lateness, false faults and memory with so many at 1 Hz."""
    with tempfile.TemporaryDirectory(prefix="vmhb-bench-") as folder:
        bench = Bench(folder, number, KNOBS)
        bench.guests.tell("mark")
        time.sleep(seconds)
        faults, memory = bench.told()
        seen = bench.end()
    tell(f"lateness of {seen['challenges']} challenges, {number} instances, p50", [percentile(seen["late"], 0.5)], "ms")
    late = seen["late"] + [math.inf] * seen["skipped"]  # what never came is later than any that did
    tell(f"lateness, {number} instances, p99", [percentile(late, 0.99)], "ms")
    tell(f"challenges that were skipped, {number} instances", [seen["skipped"]], "")
    tell(f"false faults, {number} instances", [len(faults)], "")
    tell(f"memory of the worker, {number} instances", [memory], "MiB")
    tell(f"what it may be: 100 MiB + 10 KiB each, {number} instances", [100 + number * 10 / 1024], "MiB")


def beside(flood: bool, seconds: float) -> float:
    """p99 of the lateness of the others, beside one that floods or is as calm as they are."""
    with tempfile.TemporaryDirectory(prefix="vmhb-bench-") as folder:
        bench = Bench(folder, FLOODED, KNOBS)
        bench.guests.tell("flood" if flood else "calm")
        time.sleep(2.0)
        bench.guests.tell("mark")
        time.sleep(seconds)
        bench.guests.tell("calm")
        late = bench.end()["late"]
    return percentile(late, 0.99)


def detection() -> float:
    """Seconds from an application's silence to its fault, at the shortest interval there is."""
    with tempfile.TemporaryDirectory(prefix="vmhb-bench-") as folder:
        bench = Bench(folder, 10, QUICK)
        silent = time.monotonic()
        bench.guests.tell("mute")
        while not bench.told()[0]:
            time.sleep(0.002)
        found = time.monotonic() - silent
        bench.end()
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.application_lateness", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--instances", type=int, nargs="+", default=[10000], help="how many there are")
    parser.add_argument("--seconds", type=float, default=30, help="how long each measurement takes")
    parser.add_argument("--pairs", type=int, default=3, help="how often each is measured")
    asked = parser.parse_args()
    for number in asked.instances:
        many(number, asked.seconds)
    seconds = min(asked.seconds, 15.0)
    pairs = in_pairs(functools.partial(beside, False, seconds), functools.partial(beside, True, seconds), asked.pairs)
    tell(f"lateness p99 of {FLOODED - 2} instances, none floods", pairs.base, "ms")
    tell(f"lateness p99 of {FLOODED - 2} instances, one floods", pairs.other, "ms")
    difference = statistics.median(other - base for base, other in zip(pairs.base, pairs.other, strict=True))
    tell("what the flood adds", [difference], "ms")
    tell("silence to fault, interval 0.2, time-out 0.2, threshold 3", [detection() for _ in range(5)], "s")


if __name__ == "__main__":
    main()
