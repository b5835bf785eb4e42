"""Which agent requests may be in libvirtd at a time: two lanes, so that the silent never hold up the living.

The fast lane is for instances that answer at once, the slow one for the others. A request that outlives its time-out
counts against the slow lane from then on, as soon as there is room. Together they never exceed the sum of both: each
request holds a worker thread of libvirtd, which Nova needs too.

In the slow lane, suspects come first, since a verdict waits for them; then those that answer slowly. One place is kept
for those that are known to be silent, or their end might never be noticed; and they never take more than half.

A crowd that falls silent together takes all places, and its last would wait for minutes. So whoever waits for long
while others do is told of, once: its host is asked instead, and it gives way if that finds it dead.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from vmhb_worker.core.events import Pace

#: So many challenges that wait, each for so long (seconds), are a crowd: a guest that lives gives its place back after
#: some milliseconds.
CROWD, CROWDED_AFTER = 4, 0.5


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
    waits_since: float = field(default=math.inf, compare=False)
    told: bool = field(default=False, compare=False)  # that it waits for long
    lives: bool = field(default=False, compare=False)  # its kernel has answered its host since


class Lanes:
    """Admission. Pure: the caller starts what it is told to start."""

    def __init__(self, workers: int, slow_workers: int) -> None:
        self.workers = workers
        self.slow_workers = slow_workers
        self._fast: OrderedDict[str, Request] = OrderedDict()
        self._slow: dict[str, Request] = {}
        self._waiting: dict[Pace, OrderedDict[str, Request]] = {pace: OrderedDict() for pace in Pace}
        self._queues = tuple(self._waiting.values())
        self._left: set[str] = set()  # whose request has just left the slow lane
        self._new: list[Request] = []  # submitted since it was looked at last

    @property
    def running(self) -> int:
        """Requests on their way: at most workers + slow_workers."""
        return len(self._fast) + len(self._slow)

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return sum(map(len, self._queues))

    def busy(self, uuid: str) -> bool:
        """Is a request of this instance on its way?"""
        return uuid in self._fast or uuid in self._slow

    def submit(self, request: Request) -> None:
        """Queue a request. The instance must have none."""
        queue = self._waiting[request.pace]
        queue[request.uuid] = request
        self._new.append(request)
        if request.pace is Pace.SUSPECT and request.uuid in self._left:
            # One long request in two parts: between them, its guest must not be left unasked.
            queue.move_to_end(request.uuid, last=False)

    def give_way(self, uuid: str) -> None:
        """Its kernel is dead, as its host says: others go before it."""
        for queue in self._waiting.values():
            request = queue.pop(uuid, None)
            if request is not None:
                request.pace = Pace.SILENT
                self._waiting[Pace.SILENT][uuid] = request

    def prefer(self, uuid: str) -> None:
        """Its kernel lives, as its host says: it goes before those of whom that is not known."""
        request = self._waiting[Pace.QUICK].get(uuid)
        if request is not None:
            request.lives = True
            self._waiting[Pace.QUICK].move_to_end(uuid, last=False)

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
        if not (self._fast or self._slow or any(self._queues)):
            return []
        for request in [r for r in self._fast.values() if now >= r.started + r.timeout]:  # as `deadline` has it
            if not self._room_for_answering():
                break
            self._slow[request.uuid] = self._fast.pop(request.uuid)
        started: list[Request] = []
        while self._room_for_quick():
            started.append(self._start(Pace.QUICK, self._fast, now))
        if any(self._queues):
            started += self._others(now)
        for request in self._new:
            request.waits_since = now
        self._new.clear()
        return started

    def _others(self, now: float) -> Iterator[Request]:
        """Those that are not known to answer at once, if any wait."""
        yield from self._suspects(now)
        while self._waiting[Pace.SLOW] and self._room and self._room_for_answering():
            yield self._start(Pace.SLOW, self._slow, now)
        while self._waiting[Pace.SILENT] and self._room and self._room_for_silent():
            yield self._start(Pace.SILENT, self._slow, now)

    def _suspects(self, now: float) -> Iterator[Request]:
        """Those who did not answer of late, then those of a crowd, of whom that is not known."""
        while self._waiting[Pace.SUSPECT] and self._room and self._room_for_answering():
            yield self._start(Pace.SUSPECT, self._slow, now)
        while self._waiting[Pace.SUSPECT] and len(self._fast) < self.workers // 2:
            yield self._start(Pace.SUSPECT, self._fast, now)
        # One place is left to those that are known to live.
        while self._crowd_waits() and self._room_for_answering() and len(self._slow) < self.slow_workers - 1:
            if not self._room:
                break
            yield self._start(Pace.QUICK, self._slow, now)

    def crowded(self, now: float) -> list[str]:
        """The uuids of those that have waited for long, where so many do: of each challenge, once."""
        if now < self._crowded_at():
            return []
        found = [request for request in self._untold() if now >= request.waits_since + CROWDED_AFTER]
        for request in found:
            request.told = True
        return [request.uuid for request in found]

    def deadline(self) -> float:
        """When a running request becomes overdue while others wait for its place, or who waits has done so for long."""
        return min(self._overdue_at(), self._crowded_at())

    def _crowded_at(self) -> float:
        if self.waiting < CROWD:
            return math.inf
        began = sorted(request.waits_since for request in self._challenges())
        if len(began) < CROWD:
            return math.inf
        first = min((request.waits_since for request in self._untold()), default=math.inf)
        return max(first, began[CROWD - 1]) + CROWDED_AFTER

    def _challenges(self) -> Iterator[Request]:
        for queue in self._waiting.values():
            yield from (request for request in queue.values() if request.command is None)

    def _untold(self) -> Iterator[Request]:
        """Not those that are known to be silent: their hosts have been asked."""
        return (request for request in self._challenges() if not request.told and request.pace is not Pace.SILENT)

    def _overdue_at(self) -> float:
        if not (self._waiting[Pace.QUICK] and self._room_for_answering()):
            return float("inf")
        return min((r.started + r.timeout for r in self._fast.values()), default=float("inf"))

    def _room_for_quick(self) -> bool:
        """Whoever is known to live may have any place that is left: many that do not may have taken these."""
        first = next(iter(self._waiting[Pace.QUICK].values()), None)
        if first is None:
            return False
        return len(self._fast) < self.workers or (first.lives and self._room)

    def _crowd_waits(self) -> bool:
        return any(request.told for request in self._waiting[Pace.QUICK].values())

    def _silent(self) -> int:
        return sum(request.pace is Pace.SILENT for request in self._slow.values())

    @property
    def _room(self) -> bool:
        return self.running < self.workers + self.slow_workers

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
