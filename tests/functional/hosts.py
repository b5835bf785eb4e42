"""The conformance kit as the host of a real VM: connected to the socket of its channel. No worker, no broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.lab.guest import BOOT_TIMEOUT, Guest
from vmhb_guest.conformance.host import Host

Checks = dict[str, Mapping[str, str]]


@dataclass
class Hosts:
    """Hosts for this test, that leave with it."""

    made: list[Host] = field(default_factory=list)

    def at(self, guest: Guest) -> Host:
        """One that has arrived at this guest's port."""
        host = Host(str(guest.channel_socket()), patience=BOOT_TIMEOUT)
        self.made.append(host)
        host.arrive()
        return host


def until(host: Host, condition: Callable[[Checks], bool]) -> Checks:
    """Ask for health until what is said of the checks, by name, is so."""
    deadline = time.monotonic() + BOOT_TIMEOUT
    while True:
        health = host.ask(health=True)[-1].message["health"]
        checks: Checks = {one["name"]: one for one in health["checks"]}
        if condition(checks):
            return checks
        assert time.monotonic() < deadline, health
        time.sleep(0.1)
