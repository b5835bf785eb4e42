"""What it costs a worker to get to know hundreds of domains: at its start, and when libvirtd comes back.

The guests are stand-ins for QEMU behind a libvirtd of its own (as root), opted in. A worker in a process of its own
connects until it watches all of them; then libvirtd is restarted, and it has to know all of them again. Told are the
seconds that it took from the attempt to connect that succeeded; its own CPU; its memory; and how often it asked for a
domain, for its XML or for its state, until ten seconds later. `--against FOLDER`: the worker of another checkout, in
turns.

    python -m benchmarks.start_cost [--guests 500] [--turns 3] [--against FOLDER]
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import tell

#: Seconds after which the calls are counted, and libvirtd is restarted.
AFTERWARDS = 10.0
#: What is counted.
CALLS = {"virConnect": ("lookupByUUIDString", "listAllDomains"), "virDomain": ("XMLDesc", "state")}


def worker(uri: str, number: int) -> None:
    """In a process of its own. Writes a line about its start, and one about libvirtd's return, which is restarted once
    the first line is read."""
    from benchmarks.running import Running  # noqa: PLC0415 - the parent does without
    from vmhb_worker.adapters.libvirt import LibvirtHypervisor  # noqa: PLC0415
    from vmhb_worker.core.questions import List  # noqa: PLC0415

    class Timed(LibvirtHypervisor):
        began = 0.0

        def _connect(self, feed: Any) -> Any:
            self.began = time.monotonic()
            return super()._connect(feed)

    calls, hypervisor = _counted(), Timed(uri)
    with tempfile.TemporaryDirectory(prefix="vmhb-bench-") as folder:
        cpu = time.process_time()
        running = Running(Path(folder), hypervisor)
        _until(lambda: running.worker.engine is not None)
        engine: Any = running.worker.engine
        _until(lambda: len(engine._roster) == number)
        _say(time.monotonic() - hypervisor.began, time.process_time() - cpu, calls)
        _until(lambda: not engine._doubt.connected)
        calls.clear()
        cpu = time.process_time()
        _until(lambda: engine._doubt.connected)
        engine.call(List(), 60.0)  # is answered once the turn is over in which it came back
        _say(time.monotonic() - hypervisor.began, time.process_time() - cpu, calls)
    os._exit(0)  # nobody waits for its end


def _until(so: Callable[[], bool]) -> None:
    while not so():
        time.sleep(0.005)


def _counted() -> collections.Counter[str]:
    """How often each of CALLS is made from now on."""
    import libvirt  # noqa: PLC0415

    calls: collections.Counter[str] = collections.Counter()

    def counting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any) -> Any:
            calls[name] += 1
            return call(*arguments)

        return one

    for kind, names in CALLS.items():
        for name in names:
            setattr(getattr(libvirt, kind), name, counting(name, getattr(getattr(libvirt, kind), name)))
    return calls


def _say(seconds: float, cpu: float, calls: collections.Counter[str]) -> None:
    time.sleep(AFTERWARDS)
    status = Path("/proc/self/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    print(json.dumps({"seconds": seconds, "cpu": cpu, "resident": resident / 1024, **calls}), flush=True)


def _side(node: Any, number: int, folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """The start of a worker of the checkout in this folder, and libvirtd's return to it."""
    with subprocess.Popen(
        [sys.executable, __file__, "--guests", str(number), "--uri", node.uri],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    ) as process:
        assert process.stdout is not None
        start = json.loads(process.stdout.readline())
        node.restart_libvirtd()
        return start, json.loads(process.stdout.readline())


def main() -> None:
    """Print the figures."""
    asked = _arguments()
    logging.disable(logging.CRITICAL)
    if asked.uri:
        worker(asked.uri, asked.guests)
    sides = {
        "worker": Path(__file__).parents[1],
        **({"other worker": asked.against.resolve()} if asked.against else {}),
    }
    found: dict[str, list[dict[str, float]]] = {f"{what}, {name}": [] for name in sides for what in ("start", "return")}
    from benchmarks.common import stand_ins  # noqa: PLC0415 - not in a child, whose checkout may not have it

    with stand_ins(asked.guests) as node:
        for turn in range(asked.turns):
            for name, folder in list(sides.items())[:: 1 if turn % 2 == 0 else -1]:
                start, back = _side(node, asked.guests, folder)
                found[f"start, {name}"].append(start)
                found[f"return, {name}"].append(back)
    units = {"seconds": "s", "cpu": "s", "resident": "MiB", **{name: "" for names in CALLS.values() for name in names}}
    for name, runs in found.items():
        for what, unit in units.items():
            tell(f"{name}: {what}", [run.get(what, 0.0) for run in runs], unit)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--guests", type=int, default=500, help="how many there are")
    parser.add_argument("--turns", type=int, default=3, help="how often each is measured")
    parser.add_argument("--against", type=Path, help="another checkout, whose worker is measured as well")
    parser.add_argument("--uri", help=argparse.SUPPRESS)  # what it calls itself with
    return parser.parse_args()


if __name__ == "__main__":
    main()
