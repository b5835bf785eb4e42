"""Another client of libvirtd, such as a collector of metrics: how long does `virsh domstats` take it?

As a program (`python -m tests.stage.domstats URI`) it makes as many calls as a line of its input says, and answers
with a line of their durations.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import libvirt


class DomstatsLoop:
    """The client, a process of its own."""

    def __init__(self, uri: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stage.domstats", uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def calls(self, number: int) -> list[float]:
        """Make so many, one after the other; the seconds that each took."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(number, file=self._process.stdin, flush=True)
        return [float(seconds) for seconds in json.loads(self._process.stdout.readline())]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Until the input ends."""
    connection = libvirt.open(sys.argv[1])
    for line in sys.stdin:
        took = []
        for _ in range(int(line)):
            began = time.monotonic()
            connection.getAllDomainStats()  # everything of every domain, as `virsh domstats` asks
            took.append(time.monotonic() - began)
        print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main()
