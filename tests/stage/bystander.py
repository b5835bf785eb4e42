"""Another client of libvirtd, as Nova is one and a collector of metrics another: how long do its calls take meanwhile?

As a program (`python -m tests.stage.bystander URI`) it prints one JSON object a line for each call, until its standard
input ends. A line of its input says whether it asks for everybody's statistics, too: "on" or "off". While a QEMU stands
still they would say more of libvirt, which waits for it, than of whoever else uses it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import libvirt

#: Seconds between two calls: `info` of one domain after the other, and `domstats` of all, which costs with each domain.
INFO_EVERY = 0.25
STATISTICS_EVERY = 1.0


@dataclass(frozen=True)
class Took:
    """One call: when it began (monotonic seconds), and how many seconds it took."""

    at: float
    what: str  # info, or domstats
    seconds: float


class Bystander:
    """The client, a process of its own, from its construction to `close`."""

    def __init__(self, uri: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stage.bystander", uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._took: list[Took] = []
        threading.Thread(target=self._collect, daemon=True).start()

    def __enter__(self) -> Bystander:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def statistics(self, wanted: bool) -> None:
        """Ask for them from now on, or not any more."""
        assert self._process.stdin is not None
        print("on" if wanted else "off", file=self._process.stdin, flush=True)

    def took(self, what: str, since: float, until: float = float("inf")) -> list[float]:
        """Seconds of each call of this kind that began in this time."""
        return [one.seconds for one in list(self._took) if one.what == what and since <= one.at < until]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._took.append(Took(**json.loads(line)))


_WRITING = threading.Lock()


class _Asking:
    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.statistics = True

    def info(self) -> None:
        """Of one domain after the other."""
        connection = libvirt.open(self._uri)
        while True:
            for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                self._tell("info", domain.info)
                time.sleep(INFO_EVERY)

    def domstats(self) -> None:
        """Of all."""
        connection = libvirt.open(self._uri)
        while True:
            if self.statistics:
                self._tell("domstats", connection.getAllDomainStats)
            time.sleep(STATISTICS_EVERY)

    @staticmethod
    def _tell(what: str, call: Any) -> None:
        began = time.monotonic()
        call()
        told = json.dumps({"at": began, "what": what, "seconds": time.monotonic() - began})
        with _WRITING:  # two threads tell
            print(told, flush=True)


def main() -> None:
    """Until the input ends."""
    asking = _Asking(sys.argv[1])
    for ask in (asking.info, asking.domstats):  # connections of their own: one does not wait for the other
        threading.Thread(target=ask, daemon=True).start()
    for line in sys.stdin:
        asking.statistics = line.strip() == "on"
    os._exit(0)


if __name__ == "__main__":
    main()
