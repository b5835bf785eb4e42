"""What the worker costs another client of the same libvirtd: `virsh domstats` in a loop, beside guests that hang.

On a node of its own (real libvirtd, QEMU, RabbitMQ; as root): so many guests boot, some of them hang until the worker
has raised their faults; then `domstats` is timed in pairs, the worker running and standing still (SIGSTOP) in turns.

    python -m benchmarks.libvirtd_neighbour [--guests 12] [--hung 10] [--pairs 10] [--calls 40]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.common import in_pairs, tell, tell_pairs
from tests.lab import image
from tests.lab.broker import Broker
from tests.lab.node import Node
from tests.lab.tap import Tap
from tests.stage.consumer import ConsumerProcess
from tests.stage.crowd import crowd, together
from tests.stage.domstats import DomstatsLoop
from tests.stage.worker import WorkerProcess

#: A worker that stands still has nothing in libvirtd any more after this (seconds): libvirt's own 5 s for an agent.
QUIET = 5.5
#: One that goes on has made up for what it missed (seconds).
BUSY = 2.0


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.libvirtd_neighbour", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--guests", type=int, default=12, help="how many run")
    parser.add_argument("--hung", type=int, default=10, help="how many of them hang")
    parser.add_argument("--pairs", type=int, default=10, help="how often both are measured")
    parser.add_argument("--calls", type=int, default=40, help="calls in each measurement")
    asked = parser.parse_args()
    with Node() as node, Broker() as broker, tempfile.TemporaryDirectory(prefix="vmhb-bench-") as folder:
        consumer = ConsumerProcess(broker.transport_url)
        print(f"booting {asked.guests} guests", flush=True)
        guests = crowd(node, image.build(), asked.guests, interval=1, timeout=1, threshold=3)
        with Tap(node.folder / "run") as tap:
            worker = WorkerProcess(Path(folder), uri=tap.uri, transport_url=broker.transport_url)
            worker.start()
            for guest in guests:
                worker.wait_known(guest.uuid)
            hung = guests[: asked.hung]
            if hung:
                print(f"{len(hung)} of them hang", flush=True)
                began = time.monotonic()
                together(lambda guest: guest.stop_agent(), hung)
                for guest in hung:
                    consumer.wait_fault("raised", guest.uuid, 30, since=began)
                time.sleep(10)
            client = DomstatsLoop(node.uri)

            def alone() -> float:
                worker.pause()
                time.sleep(QUIET)
                took = statistics.median(client.calls(asked.calls))
                worker.go_on()
                return 1000 * took

            shares: list[float] = []

            def beside() -> float:
                time.sleep(BUSY)
                cpu, began = worker.cpu, time.monotonic()
                took = statistics.median(client.calls(asked.calls))
                shares.append(100 * (worker.cpu - cpu) / (time.monotonic() - began))
                return 1000 * took

            client.calls(asked.calls)
            pairs = in_pairs(alone, beside, asked.pairs)
            tell_pairs(f"domstats of {asked.guests} domains", pairs, "ms", ("worker stopped", "beside it"))
            tell("agent commands in libvirtd at a time, at most", [tap.most()], "")
            tell("worker's resident memory", [worker.rss / 2**20], "MiB")
            tell("worker's CPU, of one processor", shares, "%")
            client.close()
            worker.stop()
        consumer.close()


if __name__ == "__main__":
    main()
