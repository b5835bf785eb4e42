"""Which agent requests may be in libvirtd at a time: two lanes, so that the silent never hold up the living.

The fast lane is for instances that answer at once, the slow one for the others. A request that outlives its time-out
counts against the slow lane from then on, as soon as there is room. Together they never exceed the sum of both: each
request holds a worker thread of libvirtd, which Nova needs too.

In the slow lane, suspects come first, since a verdict waits for them; then those that answer slowly. One place is kept
for those that are known to be silent, or their end might never be noticed; and they never take more than half.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from vmhb_worker.core.events import Pace


@dataclass(slots=True)
class Request:
    """One instance's challenge, or its command where it has one, waiting or on its way. An instance has one at most."""

    uuid: str
    libvirt_timeout: int
    timeout: float  # the policy's: beyond it the request is slow
    pace: Pace
    started: float = 0.0
    command: str | None = None
    nonce: int = 0


class Lanes:
    """Admission. Pure: the caller starts what it is told to start."""

    def __init__(self, workers: int, slow_workers: int) -> None:
        self.workers = workers
        self.slow_workers = slow_workers
        self._fast: OrderedDict[str, Request] = OrderedDict()
        self._slow: dict[str, Request] = {}
        self._waiting: dict[Pace, OrderedDict[str, Request]] = {pace: OrderedDict() for pace in Pace}
        self._left: set[str] = set()  # whose request has just left the slow lane

    @property
    def running(self) -> int:
        """Requests on their way: at most workers + slow_workers."""
        return len(self._fast) + len(self._slow)

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return sum(len(queue) for queue in self._waiting.values())

    def busy(self, uuid: str) -> bool:
        """Is a request of this instance on its way?"""
        return uuid in self._fast or uuid in self._slow

    def submit(self, request: Request) -> None:
        """Queue a request. The instance must have none."""
        queue = self._waiting[request.pace]
        queue[request.uuid] = request
        if request.pace is Pace.SUSPECT and request.uuid in self._left:
            # One long request in two parts: between them, its guest must not be left unasked.
            queue.move_to_end(request.uuid, last=False)

    def withdraw(self, uuid: str) -> bool:
        """Take back a request that has not started; False if it has, or if there is none."""
        return any(queue.pop(uuid, None) for queue in self._waiting.values())

    def finished(self, uuid: str) -> Request | None:
        """The request of this instance came to its end."""
        if uuid in self._slow:
            self._left.add(uuid)
        return self._fast.pop(uuid, None) or self._slow.pop(uuid, None)

    def admit(self, now: float) -> list[Request]:
        """Move the overdue to the slow lane, and say which requests start now."""
        self._left.clear()
        if not (self._fast or self._slow or any(self._waiting.values())):
            return []
        for request in [r for r in self._fast.values() if now - r.started >= r.timeout]:
            if not self._room_for_answering():
                break
            self._slow[request.uuid] = self._fast.pop(request.uuid)
        started: list[Request] = []
        while self._waiting[Pace.QUICK] and len(self._fast) < self.workers:
            started.append(self._start(Pace.QUICK, self._fast, now))
        while self._waiting[Pace.SUSPECT] and self._room_for_answering():
            started.append(self._start(Pace.SUSPECT, self._slow, now))
        while self._waiting[Pace.SUSPECT] and len(self._fast) < self.workers // 2:
            started.append(self._start(Pace.SUSPECT, self._fast, now))
        while self._waiting[Pace.SLOW] and self._room_for_answering():
            started.append(self._start(Pace.SLOW, self._slow, now))
        while self._waiting[Pace.SILENT] and self._room_for_silent():
            started.append(self._start(Pace.SILENT, self._slow, now))
        return started

    def deadline(self) -> float:
        """When a running request becomes overdue while others wait for its place."""
        if not (self._waiting[Pace.QUICK] and self._room_for_answering()):
            return float("inf")
        return min((r.started + r.timeout for r in self._fast.values()), default=float("inf"))

    def _silent(self) -> int:
        return sum(request.pace is Pace.SILENT for request in self._slow.values())

    def _room_for_answering(self) -> bool:
        kept = 1 if self._waiting[Pace.SILENT] and self.slow_workers > 1 else 0
        return len(self._slow) < self.slow_workers and len(self._slow) - self._silent() < self.slow_workers - kept

    def _room_for_silent(self) -> bool:
        return len(self._slow) < self.slow_workers and self._silent() < (self.slow_workers + 1) // 2

    def _start(self, pace: Pace, lane: dict[str, Request], now: float) -> Request:
        uuid, request = self._waiting[pace].popitem(last=False)
        request.started = now
        lane[uuid] = request
        return request
