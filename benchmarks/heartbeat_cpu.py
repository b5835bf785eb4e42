"""CPU that a heartbeat over the agent channel costs the worker, beside the least that it could cost.

The worker is the real one, with its outbox, on simulated guests that answer every challenge. The least is a loop that
does nothing but the exchange, at the same pace and over the same simulated guests: a heap of deadlines, a hand-over to
as many threads, a nonce, JSON both ways. Both pay for the simulation; libvirt is in neither.

    python -m benchmarks.heartbeat_cpu [--instances 200 1000] [--seconds 10] [--pairs 3]
"""

from __future__ import annotations

import heapq
import json
import queue
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import cpu_per_heartbeat
from benchmarks.running import Running
from vmhb_worker.adapters.guest_agent import check_reply
from vmhb_worker.adapters.simulated import SimulatedGuest, SimulatedHypervisor

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
    hypervisor = guests(number)
    with tempfile.TemporaryDirectory(prefix="vmhb-bench-") as folder:
        running = Running(Path(folder), hypervisor, workers=THREADS)
        time.sleep(WARM_UP)
        before = hypervisor.answered
        cost = measured(hypervisor, seconds)
        rates.append((hypervisor.answered - before) / seconds / number)
        running.end()
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
    cpu_per_heartbeat(
        "heartbeat_cpu", __doc__, [200, 1000], lambda number, seconds, _rates: bare(number, seconds), worker
    )


if __name__ == "__main__":
    main()
