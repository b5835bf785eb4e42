"""The order in which one connection's reports leave for the engine. No libvirt here.

Callbacks tell of events while the control thread reads descriptions, so two orders must not be broken:

* An event that comes between listing the domains and reporting the list is newer than the list: it leaves after it.
* A description that was read before an event came is older than the event: it never leaves after it. It is read again;
  whatever changes a description makes it due again by itself.

Every method may be called from any thread. The lock is never held over a call that could block.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from vmhb_worker.core.events import (
    DomainForgotten,
    DomainSeen,
    Event,
    Happened,
    HypervisorDown,
    HypervisorHeard,
    HypervisorUp,
)
from vmhb_worker.interfaces import Post


class Lost(Exception):
    """The connection is gone, or is to go; says why."""


class Feed:
    """From one HypervisorUp to its HypervisorDown."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._changed = threading.Condition()
        self._held: list[Happened] | None = []
        self._due: dict[str, None] = {}  # in the order in which they fell due
        self._read = ""  # the domain whose description is being read
        self._lost = ""

    @property
    def begun(self) -> bool:
        """Was it reported up, be it down again or not?"""
        return self._held is None

    @property
    def lost(self) -> str:
        """Why it ended, "" while it has not."""
        return self._lost

    def tell(self, uuid: str, event: Event | None, changed: bool) -> None:
        """Something happened to a domain. changed: its description may be another one now."""
        with self._changed:
            if self._lost:
                return
            if event is not None:
                happened = Happened(uuid, event)
                if self._held is None:
                    self._post(happened)
                else:
                    self._held.append(happened)
            if changed or (event is not None and uuid == self._read):
                self._due[uuid] = None
                self._changed.notify()

    def begin(self, domains: Sequence[DomainSeen]) -> None:
        """Report it up, then what happened since listening began."""
        with self._changed:
            if self._lost:
                raise Lost(self._lost)
            self._post(HypervisorUp(tuple(domains)))
            for happened in self._held or ():
                self._post(happened)
            self._held = None

    def next_due(self, timeout: float) -> str | None:
        """The domain to be described next; None when none fell due within `timeout` seconds. Raises Lost."""
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._lost, timeout)
            if self._lost:
                raise Lost(self._lost)
            uuid = next(iter(self._due), None)
            if uuid is not None:
                del self._due[uuid]
            self._read = uuid or ""
            return uuid

    def describe(self, seen: DomainSeen | DomainForgotten) -> None:
        """A description, unless it is outdated."""
        with self._changed:
            self._read = ""
            if not self._lost and seen.uuid not in self._due:
                self._post(seen)

    def heard(self, asked_at: float) -> None:
        """libvirtd answered the question put to it then (seconds, monotonic)."""
        with self._changed:
            if self.begun and not self._lost:
                self._post(HypervisorHeard(asked_at))

    def lose(self, reason: str) -> None:
        """The end: nothing leaves after this. The first reason counts."""
        with self._changed:
            if self._lost:
                return
            self._lost = reason or "no reason given"
            if self.begun:
                self._post(HypervisorDown(reason))
            self._changed.notify_all()
