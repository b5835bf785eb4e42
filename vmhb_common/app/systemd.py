"""Tells systemd how we are: sd_notify(3), without its library. Knows nothing of when: the engine's loop feeds it.

Every function returns at once, never raises, and does nothing where systemd did not start us. Any thread.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping

#: As systemd advises: feed the watchdog at half its interval.
_SHARE = 0.5


class Line:
    """What `systemctl status` shows of this process: parts that each say their own, and are told when one changes."""

    def __init__(
        self, *parts: str, tell: Callable[[str], object] | None = None, begin: Callable[[str], object] | None = None
    ) -> None:
        """parts: in this order. tell, begin: for tests."""
        self._tell = tell or status
        self._begin = begin or ready
        self._lock = threading.Lock()
        self._parts = dict.fromkeys(parts, "")
        self._said = ""

    def say(self, part: str, text: str | None) -> None:
        """How this part is; None: nothing that is worth a word. Any thread."""
        with self._lock:  # also while it is told: the last word is the last that was said
            self._parts[part] = text or ""
            now = self._text()
            if now != self._said and self._tell(now) is not False:  # False: it did not arrive, and is said again
                self._said = now

    def ready(self) -> None:
        """This process is: said with the line, which none that is older overtakes. Any thread."""
        with self._lock:
            now = self._text()
            if self._begin(now) is not False:
                self._said = now

    @property
    def text(self) -> str:
        """The line."""
        with self._lock:
            return self._text()

    def _text(self) -> str:
        return "; ".join(filter(None, self._parts.values()))


def notify(*assignments: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send these, such as "READY=1", in one datagram. False where there is nobody to send them to, or it is full."""
    address = environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # Linux's abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            out.connect(address)
            out.send("\n".join(assignments).encode(errors="backslashreplace"))
    except OSError:
        return False
    return True


def ready(status: str, environ: Mapping[str, str] = os.environ) -> bool:
    """We are up. status: one line for `systemctl status`."""
    return notify("READY=1", _status(status), environ=environ)


def stopping(status: str = "stopping", environ: Mapping[str, str] = os.environ) -> bool:
    """We are on our way out, because we were asked to or because we cannot go on."""
    return notify("STOPPING=1", _status(status), environ=environ)


def alive(status: str | None = None, environ: Mapping[str, str] = os.environ) -> bool:
    """Feed the watchdog, and say how things are where there is something new to say."""
    return notify("WATCHDOG=1", *(() if status is None else (_status(status),)), environ=environ)


def status(text: str, environ: Mapping[str, str] = os.environ) -> bool:
    """How we are: one line for `systemctl status`."""
    return notify(_status(text), environ=environ)


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often to call `alive`, in seconds; None where no watchdog waits for this process."""
    pid = environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 1e6 * _SHARE if microseconds > 0 else None


def _status(text: str) -> str:
    return "STATUS=" + text.replace("\n", " ")
