"""Which agent requests may be in libvirtd at a time: two lanes, so that the silent never hold up the living.

The fast lane is for instances that answer, the slow one for those known to be silent or slow. A request that outlives
its time-out counts against the slow lane from then on, as soon as there is room. Together they never exceed the sum of
both: each request holds a worker thread of libvirtd, which Nova needs too.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class Request:
    """One instance's challenge, waiting or on its way. An instance has one at most."""

    uuid: str
    libvirt_timeout: int
    timeout: float  # the policy's: beyond it the request is slow
    slow: bool
    suspect: bool  # a verdict waits for it: before those that are already known to be silent
    started: float = 0.0


class Lanes:
    """Admission. Pure: the caller starts what it is told to start."""

    def __init__(self, workers: int, slow_workers: int) -> None:
        self.workers = workers
        self.slow_workers = slow_workers
        self._fast_running: OrderedDict[str, Request] = OrderedDict()
        self._slow_running: dict[str, Request] = {}
        self._fast_waiting: OrderedDict[str, Request] = OrderedDict()
        self._suspects_waiting: OrderedDict[str, Request] = OrderedDict()
        self._silent_waiting: OrderedDict[str, Request] = OrderedDict()

    @property
    def running(self) -> int:
        """Requests on their way: at most workers + slow_workers."""
        return len(self._fast_running) + len(self._slow_running)

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._fast_waiting) + len(self._suspects_waiting) + len(self._silent_waiting)

    def busy(self, uuid: str) -> bool:
        """Is a request of this instance on its way?"""
        return uuid in self._fast_running or uuid in self._slow_running

    def submit(self, request: Request) -> None:
        """Queue a request. The instance must have none."""
        if not request.slow:
            self._fast_waiting[request.uuid] = request
        elif request.suspect:
            self._suspects_waiting[request.uuid] = request
        else:
            self._silent_waiting[request.uuid] = request

    def withdraw(self, uuid: str) -> bool:
        """Take back a request that has not started; False if it has, or if there is none."""
        queues = (self._fast_waiting, self._suspects_waiting, self._silent_waiting)
        return any(queue.pop(uuid, None) for queue in queues)

    def finished(self, uuid: str) -> Request | None:
        """The request of this instance came to its end."""
        return self._fast_running.pop(uuid, None) or self._slow_running.pop(uuid, None)

    def admit(self, now: float) -> list[Request]:
        """Move the overdue to the slow lane, and say which requests start now."""
        for request in [r for r in self._fast_running.values() if now - r.started >= r.timeout]:
            if len(self._slow_running) >= self.slow_workers:
                break
            self._slow_running[request.uuid] = self._fast_running.pop(request.uuid)
        started: list[Request] = []
        self._start(self._fast_waiting, self._fast_running, self.workers, now, started)
        self._start(self._suspects_waiting, self._slow_running, self.slow_workers, now, started)
        # Half of the slow lane is kept free of those that are known to be silent: a new suspect never queues for long.
        self._start(self._silent_waiting, self._slow_running, (self.slow_workers + 1) // 2, now, started)
        return started

    def deadline(self) -> float:
        """When a running request becomes overdue while others wait for its place."""
        if not (self._fast_waiting and len(self._slow_running) < self.slow_workers):
            return float("inf")
        return min((r.started + r.timeout for r in self._fast_running.values()), default=float("inf"))

    @staticmethod
    def _start(
        waiting: OrderedDict[str, Request], running: dict[str, Request], limit: int, now: float, started: list[Request]
    ) -> None:
        while waiting and len(running) < limit:
            uuid, request = waiting.popitem(last=False)
            request.started = now
            running[uuid] = request
            started.append(request)
