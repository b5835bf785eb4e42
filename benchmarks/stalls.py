"""All guests of a host stand still together, and go on: who is accused, and who would have been recovered?

Real guests, libvirtd, RabbitMQ, worker and consumer of its own (as root), and a Masakari that only notes. A line for
each run: when (seconds since they were stopped) faults were raised and cleared, the host was called a suspect, and a
recovery was recommended and asked for. What must not have been stands below it; the exit code is 1 then.

    python -m benchmarks.stalls [--guests 12] [--seconds 90] [--policy 10/5/3] [--dead kernel] [--runs 5]

--guests, --seconds, --policy and --dead may have several values: all combinations are run, on one set of guests.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

from tests.functional.stalling import Cell, Host, Outcome, Policy
from tests.lab import image
from tests.lab.broker import Broker
from tests.lab.node import Node


def main() -> int:
    """Print the lines, and a table."""
    asked = _arguments()
    cells = [
        Cell(guests, seconds, Policy.of(policy), "" if dead == "none" else dead)
        for guests, seconds, policy, dead in itertools.product(asked.guests, asked.seconds, asked.policy, asked.dead)
    ]
    images = image.build(), image.build(applications=True)
    number = max(asked.guests)
    outcomes: list[Outcome] = []
    with Node() as node, Broker() as broker, tempfile.TemporaryDirectory(prefix="vmhb-bench-") as folder:
        print(f"booting {number} guests", flush=True)
        host = Host.boot(broker, node, images, number, Path(folder))
        for run, cell in itertools.product(range(asked.runs), cells):
            outcomes.append(host.run(cell))
            print(f"run {run + 1}: {outcomes[-1]}", flush=True)
            if asked.story:
                print(*outcomes[-1].story, sep="\n", flush=True)
    print()
    for cell in cells:
        of_it = [outcome for outcome in outcomes if outcome.cell == cell]
        good = sum(not outcome.wrong for outcome in of_it)
        print(f"{cell!s:45} {good} of {len(of_it)} as it must be", flush=True)
    return int(any(outcome.wrong for outcome in outcomes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stalls", description=__doc__.splitlines()[0])
    parser.add_argument("--guests", type=int, nargs="+", default=[12], help="how many there are")
    parser.add_argument("--seconds", type=float, nargs="+", default=[90.0], help="how long they stand still")
    parser.add_argument("--policy", nargs="+", default=["10/5/3"], help="interval/timeout/threshold")
    parser.add_argument(
        "--dead", nargs="+", choices=("none", "kernel", "qemu"), default=["none"], help="what one of them dies of"
    )
    parser.add_argument("--runs", type=int, default=5, help="how often each is run")
    parser.add_argument("--story", action="store_true", help="print every notification and POST, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
