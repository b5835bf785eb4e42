"""CPU that a heartbeat over the agent channel costs the worker, beside the least that it could cost.

The worker is the real one, with its outbox, on simulated guests that answer every challenge. The least is a loop that
does nothing but the exchange, at the same pace and over the same simulated guests: a heap of deadlines, a hand-over to
as many threads, a nonce, JSON both ways. Both pay for the simulation; libvirt is in neither.

    python -m benchmarks.heartbeat_cpu [--instances 200 1000] [--seconds 10] [--pairs 3]
"""

from __future__ import annotations

import argparse
import functools
import heapq
import json
import logging
import queue
import secrets
import tempfile
import threading
import time
from collections.abc import Callable

from oslo_config import cfg

from benchmarks.common import in_pairs, tell, tell_pairs
from vmhb_worker import conf as options
from vmhb_worker import rpcapi
from vmhb_worker.agent import check_reply
from vmhb_worker.simulation import SimulatedGuest, SimulatedHypervisor

#: Challenges on their way at a time: a simulated guest takes 3 ms for its answer, so these do for some 2 600 a second.
THREADS = 8
#: Seconds until everything beats evenly, and what belongs to the start is over.
WARM_UP = 8.0


class Counting(SimulatedHypervisor):
    """Knows how many challenges it has answered."""

    answered = 0

    def agent_command(self, uuid: str, command: str, timeout: int) -> str:
        """As the simulation."""
        reply = super().agent_command(uuid, command, timeout)
        self.answered += 1  # a lost update now and then is less than what is measured
        return reply


def guests(number: int) -> Counting:
    """So many, asked once a second."""
    knobs = {"heartbeat": "true", "interval": "1", "timeout": "1", "threshold": "3"}
    return Counting(SimulatedGuest(f"bench-{n}", dict(knobs)) for n in range(number))


def measured(hypervisor: Counting, seconds: float) -> float:
    """µs of this process's CPU for each heartbeat, over so many seconds from now on."""
    answered, cpu = hypervisor.answered, time.process_time()
    time.sleep(seconds)
    return 1e6 * (time.process_time() - cpu) / max(1, hypervisor.answered - answered)


def worker(number: int, seconds: float, rates: list[float]) -> float:
    """Of the worker."""
    from vmhb_worker.service import Worker  # noqa: PLC0415 - it takes a while, and only this needs it

    hypervisor = guests(number)
    conf = cfg.ConfigOpts()
    options.register(conf)
    conf([], project="vmhb", default_config_files=[], default_config_dirs=[])
    rpcapi.get_transport(conf, "fake:///")  # oslo.messaging registers its options where it is first used
    conf.set_override("transport_url", "fake:///")
    conf.set_override("host", "bench")
    conf.set_override("workers", THREADS, group="agent")
    with tempfile.TemporaryDirectory(prefix="vmhb-bench-") as folder:
        conf.set_override("state_path", folder)
        one = Worker(conf, options.settings(conf), hypervisor)
        thread = threading.Thread(target=lambda: one.run(signals=False))
        thread.start()
        time.sleep(WARM_UP)
        before = hypervisor.answered
        cost = measured(hypervisor, seconds)
        rates.append((hypervisor.answered - before) / seconds / number)
        one.stop()
        thread.join()
    return cost


def bare(number: int, seconds: float) -> float:
    """Of a loop that only asks and hears."""
    hypervisor = guests(number)
    asks: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    ended = threading.Event()
    threads = [threading.Thread(target=_answer, args=(hypervisor, asks)) for _ in range(THREADS)]
    threads.append(threading.Thread(target=_pace, args=(list(hypervisor.guests), asks.put, ended)))
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP)
    cost = measured(hypervisor, seconds)
    ended.set()
    for _ in range(THREADS):
        asks.put(None)
    for thread in threads:
        thread.join()
    return cost


def _pace(uuids: list[str], ask: Callable[[str], None], ended: threading.Event) -> None:
    now = time.monotonic()
    due = [(now + n / len(uuids), uuid) for n, uuid in enumerate(uuids)]
    while not ended.wait(max(0.0, due[0][0] - time.monotonic())):
        at, uuid = due[0]
        heapq.heapreplace(due, (at + 1.0, uuid))
        ask(uuid)


def _answer(hypervisor: Counting, asks: queue.SimpleQueue[str | None]) -> None:
    while (uuid := asks.get()) is not None:
        nonce = secrets.randbits(52)
        command = json.dumps({"execute": "guest-sync", "arguments": {"id": nonce}})
        failure, _ = check_reply(hypervisor.agent_command(uuid, command, 4), nonce)
        assert failure is None


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heartbeat_cpu", description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, nargs="+", default=[200, 1000], help="how many there are")
    parser.add_argument("--seconds", type=float, default=10, help="how long each measurement takes")
    parser.add_argument("--pairs", type=int, default=3, help="how often each is measured")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    for number in asked.instances:
        rates: list[float] = []
        pairs = in_pairs(
            functools.partial(bare, number, asked.seconds),
            functools.partial(worker, number, asked.seconds, rates),
            asked.pairs,
        )
        tell_pairs(f"CPU per heartbeat, {number} instances", pairs, "µs", ("bare", "worker"))
        tell(f"heartbeats per instance and second, {number} instances", rates, "Hz")


if __name__ == "__main__":
    main()
