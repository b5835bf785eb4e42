"""What is seen of the show: progress, a live table, each notification as it is read, and the summary.

On a terminal the table is drawn in place; elsewhere a line is printed for each change of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, TextIO

from tests.stage.consumer import Notification

_HEAD = f"  {'instance':<12} {'heartbeat':<10} {'misses':>6}  {'last answer':>11}  fault"


class Screen:
    """Draws to one stream. Thread-safe: notifications come on a thread of their own."""

    def __init__(self, out: TextIO, source: str) -> None:
        """source: where notifications are read from."""
        self._out = out
        self._source = source
        self._live = out.isatty()
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._drawn = 0
        self._rows: list[str] = []
        self._known: dict[str, str] = {}

    def say(self, text: str) -> None:
        """A line of progress."""
        with self._lock:
            self._print(f"[{time.monotonic() - self._began:5.1f}] {text}")

    def notified(self, notification: Notification) -> None:
        """A notification that the consumer has read."""
        if notification.event_type.startswith(("vmhb.fault.", "vmhb.heartbeat.")):
            with self._lock:
                self._print(f"[{time.monotonic() - self._began:5.1f}]   >> {self._source}: {notification}")

    def table(self, instances: Sequence[dict[str, Any]]) -> None:
        """The instances as the worker lists them."""
        with self._lock:
            self._rows = [_HEAD, *(_row(instance) for instance in instances)]
            if self._live:
                self._erase()
                self._draw()
            else:
                self._tell_changes(instances)

    def summary(self, lines: Sequence[tuple[str, str, bool]], took: float) -> None:
        """The end of the show."""
        with self._lock:
            self._erase()
            self._rows = []
            self._print("")
            for what, found, good in lines:
                self._print(f"  {'ok  ' if good else 'FAIL'}  {what:<34} {found}")
            verdict = "all as it should be" if all(good for _, _, good in lines) else "NOT as it should be"
            self._print(f"\n{verdict}, in {took:.0f} s")

    def _print(self, text: str) -> None:
        self._erase()
        self._out.write(text + "\n")
        self._draw()
        self._out.flush()

    def _tell_changes(self, instances: Sequence[dict[str, Any]]) -> None:
        for instance in instances:
            fault = (instance.get("fault") or {}).get("cause")
            now = f"{instance.get('state')}, {f'fault: {fault}' if fault else 'no fault'}"
            name = str(instance.get("display_name"))
            if self._known.get(name) != now:
                self._known[name] = now
                self._print(f"[{time.monotonic() - self._began:5.1f}]   {name}: {now}")

    def _draw(self) -> None:
        if self._live and self._rows:
            self._out.write("\n" + "\n".join(self._rows) + "\n")
            self._drawn = len(self._rows) + 1
            self._out.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0


def _row(instance: dict[str, Any]) -> str:
    age = instance.get("last_ack_age")
    answer = "never" if age is None else f"{age:.1f} s ago"
    fault = (instance.get("fault") or {}).get("cause", "-")
    return (
        f"  {instance.get('display_name') or '?':<12} {instance.get('state', '?'):<10} {instance.get('misses', 0):>6}  "
        f"{answer:>11}  {fault}"
    )
