"""CPU that a heartbeat over the agent channel costs the worker at a real libvirtd, beside the least that it could cost.

The guests are stand-ins for QEMU behind a libvirtd of its own (as root). The least is a loop that does nothing but the
exchange, at the same pace: a heap of deadlines, a hand-over to as many threads with a connection each, a nonce, JSON
both ways. Both run in processes of their own, in turns, and are measured when what belongs to their start is over:
their CPU and libvirtd's for each heartbeat, and how often their threads went to sleep. `--against FOLDER`: the worker
of another checkout, in the same turns.

    python -m benchmarks.agent_cpu [--guests 300] [--seconds 10] [--turns 3] [--against FOLDER]
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import os
import queue
import resource
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import tell

#: Agent commands on their way at a time: as the worker has by default.
THREADS = 4 + 4
#: Seconds until what belongs to a start is over: 300 baselines of balloons, which are looked at for 2 s, eight at a
#: time, are the longest of it.
WARM_UP = 25.0
BARE, WORKER, OTHER = "bare", "worker", "other worker"


class Measured:
    """What a process of our own, and libvirtd, have spent, and for how many heartbeats."""

    def __init__(self, libvirtd: int) -> None:
        self.answered = 0
        self._libvirtd = libvirtd

    def over(self, seconds: float) -> dict[str, float]:
        """µs of CPU, and how many context switches, for each heartbeat, over so many seconds from now on."""
        before, began = self._spent(), time.monotonic()
        time.sleep(seconds)
        answered, *spent = (after - was for after, was in zip(self._spent(), before, strict=True))
        ours, libvirtd, switches = (one / max(1, answered) for one in spent)
        rate = answered / (time.monotonic() - began)
        return {"cpu": 1e6 * ours, "libvirtd": 1e6 * libvirtd, "switches": switches, "rate": rate}

    def _spent(self) -> tuple[float, ...]:
        told = Path(f"/proc/{self._libvirtd}/stat").read_text().rpartition(")")[2].split()
        libvirtd = (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
        ours = resource.getrusage(resource.RUSAGE_SELF)
        return self.answered, time.process_time(), libvirtd, ours.ru_nvcsw


def worker(uri: str, measured: Measured, seconds: float) -> dict[str, float]:
    """Of the worker."""
    from benchmarks.running import Running  # noqa: PLC0415 - the other side does without
    from vmhb_worker.adapters.libvirt import LibvirtHypervisor  # noqa: PLC0415

    class Counting(LibvirtHypervisor):
        def agent_command(self, uuid: str, command: str, timeout: int) -> str:
            reply = super().agent_command(uuid, command, timeout)
            measured.answered += 1  # a lost update now and then is less than what is measured
            return reply

    with tempfile.TemporaryDirectory(prefix="vmhb-bench-") as folder:
        running = Running(Path(folder), Counting(uri, agent_calls=THREADS))
        time.sleep(WARM_UP)
        told = measured.over(seconds)
        running.end()
    return told


def bare(uri: str, measured: Measured, seconds: float) -> dict[str, float]:
    """Of a loop that only asks and hears."""
    import libvirt  # noqa: PLC0415 - the parent does without
    import libvirt_qemu  # noqa: PLC0415

    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    asks: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    ended = threading.Event()

    def answer() -> None:
        connection = libvirt.open(uri)
        domains = {domain.UUIDString(): domain for domain in connection.listAllDomains()}
        while (uuid := asks.get()) is not None:
            nonce = secrets.randbits(52)
            command = json.dumps({"execute": "guest-sync", "arguments": {"id": nonce}})
            assert json.loads(libvirt_qemu.qemuAgentCommand(domains[uuid], command, 4, 0))["return"] == nonce
            measured.answered += 1

    connection = libvirt.open(uri)
    uuids = [domain.UUIDString() for domain in connection.listAllDomains()]
    threads = [threading.Thread(target=answer) for _ in range(THREADS)]
    threads.append(threading.Thread(target=_pace, args=(uuids, asks.put, ended)))
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP / 3)
    told = measured.over(seconds)
    ended.set()
    for _ in range(THREADS):
        asks.put(None)
    for thread in threads:
        thread.join()
    return told


def _pace(uuids: list[str], ask: Callable[[str], None], ended: threading.Event) -> None:
    now = time.monotonic()
    due = [(now + n / len(uuids), uuid) for n, uuid in enumerate(uuids)]
    while not ended.wait(max(0.0, due[0][0] - time.monotonic())):
        at, uuid = due[0]
        heapq.heapreplace(due, (at + 1.0, uuid))
        ask(uuid)


def _side(name: str, uri: str, libvirtd: int, seconds: float, folder: Path) -> dict[str, float]:
    """In a process of its own. folder: of the checkout whose worker it is."""
    command = [sys.executable, __file__, "--seconds", str(seconds)]  # by its path, or all were of the current folder
    done = subprocess.run(
        [*command, "--side", name, "--uri", uri, "--libvirtd", str(libvirtd)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    return dict(json.loads(done.stdout))


def main() -> None:
    """Print the figures."""
    asked = _arguments()
    logging.disable(logging.CRITICAL)
    if asked.side:
        side = bare if asked.side == BARE else worker
        print(json.dumps(side(asked.uri, Measured(asked.libvirtd), asked.seconds)), flush=True)
        os._exit(0)  # libvirt's threads need not be waited for
    here = Path(__file__).parents[1]
    sides = {BARE: here, WORKER: here, **({OTHER: asked.against.resolve()} if asked.against else {})}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    from benchmarks.common import stand_ins  # noqa: PLC0415 - not in a child, whose checkout may not have it

    with stand_ins(asked.guests) as node:
        for turn in range(asked.turns):
            for name, folder in list(sides.items())[:: 1 if turn % 2 == 0 else -1]:
                found[name].append(_side(name, node.uri, node.pid, asked.seconds, folder))
                print(f"turn {turn + 1}, {name}: {found[name][-1]}", flush=True)
    _tell(found)


def _tell(found: dict[str, list[dict[str, float]]]) -> None:
    for name, runs in found.items():
        tell(f"CPU per heartbeat, {name}", [run["cpu"] for run in runs], "µs")
        tell(f"libvirtd's per heartbeat, {name}", [run["libvirtd"] for run in runs], "µs")
        tell(f"context switches per heartbeat, {name}", [run["switches"] for run in runs], "")
        tell(f"heartbeats a second, {name}", [run["rate"] for run in runs], "Hz")
        if name != BARE:
            pairs = zip(runs, found[BARE], strict=True)
            tell(f"CPU per heartbeat, {name} / bare", [run["cpu"] / least["cpu"] for run, least in pairs], "x")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agent_cpu", description=__doc__.splitlines()[0])
    parser.add_argument("--guests", type=int, default=300, help="how many there are, each asked once a second")
    parser.add_argument("--seconds", type=float, default=10, help="how long each measurement takes")
    parser.add_argument("--turns", type=int, default=3, help="how often each is measured")
    parser.add_argument("--against", type=Path, help="another checkout, whose worker is measured as well")
    for name, kind in (("--side", str), ("--uri", str), ("--libvirtd", int)):  # what it calls itself with
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
