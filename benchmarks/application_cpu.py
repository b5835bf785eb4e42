"""CPU that a heartbeat over the application channel costs the worker, beside the least that it could cost.

The worker is the real one, with its outbox; the guests are sockets in another process that answer every challenge. The
least is a bare loop that does the same exchange at the same pace with the same guests and nothing else: epoll, a heap
of deadlines, a nonce, JSON both ways.

    python -m benchmarks.application_cpu [--instances 1000 10000] [--seconds 10] [--pairs 3]
"""

from __future__ import annotations

import heapq
import json
import secrets
import select
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import cpu_per_heartbeat
from benchmarks.guests import Guests, Hypervisor, unlimited
from benchmarks.running import Running

#: Seconds until everything beats evenly, and what belongs to the start is over; more for many.
WARM_UP = 6.0
KNOBS = {"interval": "1", "timeout": "1", "threshold": "3"}


def warm_up(number: int) -> float:
    """Seconds."""
    return WARM_UP + number / 1000


def worker(number: int, seconds: float, rates: list[float]) -> float:
    """µs of CPU for each heartbeat, of the worker."""
    with tempfile.TemporaryDirectory(prefix="vmhb-bench-") as folder:
        guests = Guests(Path(folder), number)
        running = Running(Path(folder), Hypervisor(Path(folder), number, KNOBS))
        time.sleep(warm_up(number))
        cost = _measured(guests, seconds, number, rates, running.end)
    return cost


def _measured(guests: Guests, seconds: float, number: int, rates: list[float], end: Callable[[], None]) -> float:
    guests.tell("mark")
    began, cpu = time.monotonic(), time.process_time()
    time.sleep(seconds)
    cpu = time.process_time() - cpu
    took = time.monotonic() - began
    end()
    challenges = int(guests.end()["challenges"])
    rates.append(challenges / took / number)
    return 1e6 * cpu / max(1, challenges)


def bare(number: int, seconds: float, rates: list[float]) -> float:
    """The same of a loop that only asks and hears."""
    with tempfile.TemporaryDirectory(prefix="vmhb-bench-") as folder:
        guests = Guests(Path(folder), number)
        ended = threading.Event()
        thread = threading.Thread(target=_exchange, args=(Path(folder), number, ended))
        thread.start()
        time.sleep(warm_up(number))

        def end() -> None:
            ended.set()
            thread.join()

        cost = _measured(guests, seconds, number, rates, end)
    return cost


def _exchange(folder: Path, number: int, ended: threading.Event) -> None:
    epoll = select.epoll()
    socks: dict[int, socket.socket] = {}
    nonces: dict[int, str] = {}
    for n in range(number):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(folder / str(n)))
        sock.setblocking(False)
        epoll.register(sock.fileno(), select.EPOLLIN)
        socks[sock.fileno()] = sock
    now = time.monotonic()
    due = [(now + n / number, fd) for n, fd in enumerate(socks)]
    seq = 0
    while not ended.is_set():
        for fd, _ in epoll.poll(max(0.0, min(0.2, due[0][0] - time.monotonic())), 512):
            for line in socks[fd].recv(16384).split(b"\n"):
                if line:
                    answer = json.loads(line)
                    assert nonces.get(fd) == answer["nonce"]
        now = time.monotonic()
        while due[0][0] <= now:
            at, fd = due[0]
            heapq.heapreplace(due, (at + 1.0, fd))
            seq += 1
            nonces[fd] = nonce = secrets.token_hex(8)
            challenge = {"type": "challenge", "seq": seq, "nonce": nonce, "health": False}
            socks[fd].send(json.dumps(challenge).encode() + b"\n")
    for sock in socks.values():
        sock.close()


def main() -> None:
    """Print the figures."""
    cpu_per_heartbeat("application_cpu", __doc__, [1000, 10000], bare, worker, prepare=lambda most: unlimited(2 * most))


if __name__ == "__main__":
    main()
