"""Threads for calls that may never return. No libvirt here.

A call into a hung QEMU holds its thread, and one of libvirtd's workers, until QEMU goes on or libvirtd gives up. So the
threads are few, no domain has more than one of them, and domains whose QEMU is not known to go on have fewer still
between them: however many hang, some threads are left for the others. What finds no place is refused. Behind a domain's
own call one more of each kind may wait.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

#: What waits behind a domain's own call and only asks: it is next, whatever came before. A change may have to wait for
#: a job of libvirt's, which a question does not, and the answer to one tells of that job.
QUESTION = "question"


@dataclass(frozen=True, slots=True)
class Task:
    """run: does it, on a thread of the pool, and returns how to tell: that is called once the domain is free again.

    So whoever is told may ask the next question at once. refuse: says that it is not done, and why; must not block.
    sure: does its QEMU go on, so that it will answer? Neither must that block.
    """

    uuid: str
    run: Callable[[], Callable[[], None]]
    refuse: Callable[[str], None]
    sure: Callable[[], bool]


class Pool:
    """At most `size` tasks at a time, at most one per domain, and at most `unsure` whose QEMU may hang, for all that is
    known. Every method may be called from any thread."""

    def __init__(self, size: int, name: str, unsure: int) -> None:
        self._size = size
        self._unsure = unsure
        self._name = name
        self._changed = threading.Condition()
        self._busy: dict[str, bool] = {}  # domains whose task was accepted and has not ended: would it, for sure?
        self._ready: deque[Task] = deque()
        self._waiting: dict[tuple[str, str], Task] = {}
        self._threads = 0
        self._idle = 0
        self._closed = False

    def start(self, task: Task) -> None:
        """Do it at once, or after what the same domain is at; refuse it at once when there is no thread for it."""
        sure = task.sure()
        with self._changed:
            why = self._why_not(task.uuid, sure)
            if task.uuid in self._busy and not self._closed:
                why = None  # it waits for that one to end
            older = self._line_up(task, QUESTION, sure) if why is None else None
        if why is not None:
            task.refuse(why)
        _refuse(older)

    def start_latest(self, task: Task, kind: str) -> None:
        """Do it when its turn comes; one of the same kind and domain that still waits is refused instead.

        For what must not be lost because another call is under way just then. Bounded: one per domain and kind.
        """
        sure = task.sure()
        with self._changed:
            older = self._line_up(task, kind, sure)
        _refuse(older)

    def close(self) -> None:
        """Start nothing more. What runs ends when it ends."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._waiting.clear()
            self._changed.notify_all()

    def _why_not(self, uuid: str, sure: bool) -> str | None:
        if self._closed:
            return "closing"
        if uuid in self._busy:
            return "an earlier question to this domain has not been answered yet"
        if len(self._busy) >= self._size:
            return f"no free place: {self._size} questions to other domains have not been answered yet"
        unsure = sum(not busy for busy in self._busy.values())
        if not sure and unsure >= self._unsure:
            return f"no free place: {self._unsure} questions to QEMUs that may hang have not been answered yet"
        return None

    def _line_up(self, task: Task, kind: str, sure: bool) -> Task | None:
        """Have it done, now or later; the one whose place it takes."""
        older = self._waiting.pop((task.uuid, kind), None)
        if self._why_not(task.uuid, sure) is None:
            self._accept(task, sure)
        elif not self._closed:
            self._waiting[task.uuid, kind] = task
        return older

    def _accept(self, task: Task, sure: bool) -> None:
        self._busy[task.uuid] = sure
        self._ready.append(task)
        if self._idle >= len(self._ready):
            self._changed.notify()
        elif self._threads < self._size:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while (task := self._take()) is not None:
            tell: Callable[[], None] = _nothing
            try:
                tell = task.run()
            except Exception:
                # A bug of ours, in one answer: the next may still be given.
                LOG.exception("instance %s: a question to libvirt failed unexpectedly", task.uuid)
            with self._changed:
                del self._busy[task.uuid]
                self._promote()
            try:
                tell()
            except Exception:  # as above; and the thread is for others as well
                LOG.exception("instance %s: an answer of libvirt's could not be told", task.uuid)

    def _take(self) -> Task | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._ready or self._closed)
            self._idle -= 1
            return self._ready.popleft() if self._ready else None

    def _promote(self) -> None:
        for key, task in sorted(self._waiting.items(), key=lambda waiting: waiting[0][1] != QUESTION):
            if self._why_not(task.uuid, True) is not None:
                continue
            try:
                sure = task.sure()
            except Exception:
                LOG.exception("instance %s: whether its QEMU goes on could not be seen", task.uuid)
                sure = False
            if self._why_not(task.uuid, sure) is None:
                del self._waiting[key]
                self._accept(task, sure)
                return


def _refuse(older: Task | None) -> None:
    if older is not None:
        older.refuse("a newer one came before it could start")


def _nothing() -> None:
    pass
