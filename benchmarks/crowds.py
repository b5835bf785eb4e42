"""Many guests of a host fall silent at once: how late are the last ones told of, and what does it cost everybody else?

Stand-ins for QEMU, so that a hundred fit; a real libvirtd, RabbitMQ and worker of its own (as root). A line for each
run: first/median/last second from what was done to a guest to its fault, to the cause that stays and to the end of the
wait for evidence (how many), the causes, faults and skipped beats of those that live, the worker's calls in libvirtd at
a time, those of them that wait for a QEMU that stands still, and how long another client's calls took alone and
meanwhile. What must not have been stands below it, and a table at the end; the exit code is 1 then.

    python -m benchmarks.crowds [--guests 12] [--mix dead] [--policy 1/1/3] [--channel agent application] [--runs 1]

--guests, --mix, --policy and --channel may have several values: all combinations are run, on one set of guests.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.functional.crowding import HEADINGS, Cell, Host, Mix, Outcome
from tests.functional.stalling import Policy
from tests.lab.broker import Broker
from tests.lab.node import Node
from tests.stage.consumer import ConsumerProcess


def main() -> int:
    """Print the lines, and a table."""
    asked = _arguments()
    combined = itertools.product(asked.guests, asked.mix, asked.policy, asked.channel)
    cells = [Cell(guests, Mix(mix), Policy.of(policy), channel) for guests, mix, policy, channel in combined]
    outcomes: list[Outcome] = []
    with Node("crowds") as node, Broker() as broker, tempfile.TemporaryDirectory(prefix="vmhb-bench-") as folder:
        consumer = ConsumerProcess(broker.transport_url)
        host = Host(node, broker.transport_url, consumer, Path(folder))
        for run, cell in itertools.product(range(asked.runs), [cell for cell in cells if cell.possible]):
            outcomes.append(host.run(cell, asked.patience))
            print(f"run {run + 1}: {outcomes[-1]}", flush=True)
            if asked.story:
                print(*outcomes[-1].story, sep="\n", flush=True)
        consumer.close()
    print()
    _table([HEADINGS, *(outcome.row for outcome in outcomes)])
    return int(any(outcome.wrong for outcome in outcomes))


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crowds", description=__doc__.splitlines()[0])
    parser.add_argument("--guests", type=int, nargs="+", default=[12], help="how many there are")
    parser.add_argument(
        "--mix", nargs="+", choices=[str(mix) for mix in Mix], default=["dead"], help="what happens to them"
    )
    parser.add_argument("--policy", nargs="+", default=["1/1/3"], help="interval/timeout/threshold")
    channels = ("agent", "application")
    parser.add_argument("--channel", nargs="+", choices=channels, default=list(channels), help="how they are asked")
    parser.add_argument("--runs", type=int, default=1, help="how often each is run")
    parser.add_argument(
        "--patience", type=float, default=120, help="seconds that what should have been said is waited for"
    )
    parser.add_argument("--story", action="store_true", help="print every notification, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
