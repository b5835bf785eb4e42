"""An application in a guest of the image for applications, that does as it is told: rootfs-application/bin/app."""

from __future__ import annotations

import shlex
from typing import Protocol


class Shell(Protocol):
    """A guest, as far as an application needs one: the lab's, or a server of a cloud's."""

    def deed(self, command: str) -> float:
        """Run a shell command in the guest that must succeed; the moment at which it began."""
        ...


class Application:
    """One of them. It joins vmhb-guest under its name, and feeds a watchdog of so many seconds."""

    def __init__(self, guest: Shell, name: str, *, watchdog: float = 5.0) -> None:
        self.guest = guest
        self.name = name
        self.watchdog = watchdog

    def start(self) -> float:
        """Start it, or its successor, once vmhb-guest is there; it joins some tenths of a second later."""
        self._do("until [ -S /run/vmhb/notify ]; do usleep 100000; done")
        return self._do(f"setsid app {self.name} {self.watchdog:g} </dev/null >/dev/console 2>&1 &")

    def say(self, health: str, reason: str = "") -> float:
        """Have it say that it is healthy, degraded or unhealthy, and why."""
        return self._do(f"echo {shlex.quote(f'{health} {reason}')} >/run/app.{self.name}")

    def leave(self) -> float:
        """Have it end in good order."""
        return self._do(f"echo stop >/run/app.{self.name}")

    def hang(self) -> float:
        """SIGSTOP it."""
        return self._signal("STOP")

    def go_on(self) -> float:
        """SIGCONT it."""
        return self._signal("CONT")

    def kill(self) -> float:
        """SIGKILL it."""
        return self._signal("KILL")

    def _signal(self, name: str) -> float:
        return self._do(f"kill -{name} $(cat /run/app.{self.name}.pid)")

    def _do(self, command: str) -> float:
        return self.guest.deed(command)
