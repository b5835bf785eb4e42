"""Durable memory and ordered, at-least-once delivery: implements `interfaces.Store`. Knows neither disk nor broker.

Threads: any thread may call `commit` and `health`. The *writer* owns the journal, and with it the file. One *sender*
per topic hands rows, one by one in their order, to `send`, which may take as long as it likes: nobody waits for a
sender. All rows that wait are in memory too (about 3 KiB each), so that a broken disk delays nothing.

At least once: a row is sent again after a crash between the broker's confirmation and the removal of the row. Receivers
tell by fault_id and sequence, or by message_id.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmhb_common.app.crashpoint import reach
from vmhb_worker.delivery.durable_state import Journal
from vmhb_worker.delivery.sqlite import FILE, Database, Lock
from vmhb_worker.delivery.tables import Content, Row
from vmhb_worker.delivery.topic_queue import Backlog, drop_excess
from vmhb_worker.interfaces import Commit, Saved

LOG = logging.getLogger(__name__)

#: BLOCKS, on the topic's sender thread: hand the row to the broker. Returns once it is confirmed, raises otherwise.
Send = Callable[[str, Row], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers. Times in seconds.

    rows: at most so many wait, all topics together. first_retry, last_retry: an attempt that failed is followed by the
    next after first_retry, then twice as much each time up to last_retry, each shortened by up to half at random, so
    that the workers of a cloud don't all fall upon a broker that comes back. disk_retry: between two attempts to use
    a disk that failed.
    """

    rows: int = 100_000
    first_retry: float = 0.2
    last_retry: float = 10.0
    disk_retry: float = 5.0


@dataclass(frozen=True, slots=True)
class _Pending:
    """A commit on its way to the writer, with what its messages were given when it was handed in."""

    commit: Commit
    done: Callable[[], None] | None
    created: float
    message_ids: tuple[str, ...]


class Outbox:
    """Implements `interfaces.Store`."""

    def __init__(
        self,
        state_path: Path,
        topics: Sequence[str],
        send: Send,
        *,
        limits: Limits | None = None,
        open_database: Callable[[Path], Database] = Database,
    ) -> None:
        """Nothing is touched before `load`. state_path: a folder of our own; topics: each gets a copy of everything."""
        self._limits = limits or Limits()
        self._send = send
        self._state_path = Path(state_path)
        self._lock: Lock | None = None
        self._journal = Journal(self._state_path / FILE, self._limits.disk_retry, open_database)
        self._writer = threading.Thread(target=self._write_loop, name="vmhb-store", daemon=True)
        # Higher than any id of an earlier life, also where its file can't be read, or had to be replaced.
        self._next_id = time.time_ns() // 1000
        # Under the monitor, all that follows:
        self._monitor = threading.Lock()
        self._work = threading.Condition(self._monitor)  # for the writer
        self._came = {topic: threading.Condition(self._monitor) for topic in topics}  # for the senders
        self._backlogs = {topic: Backlog(topic) for topic in topics}
        self._inbox: list[_Pending] = []
        self._unwritten = 0  # messages of commits that are not released yet
        self._gone: list[int] = []  # rows to be removed from the file
        self._aside: dict[int, str] = {}  # … and of those, which are to be kept in it as set aside, and why
        self._spoilt = 0  # commits, and rows, that nothing could be made of
        self._closing = False
        self._failing: dict[str, str] = {}
        self._dropped = 0
        self._dropping = False
        self._left = False  # has any left since then

    # -- the port: see contracts.Store ---------------------------------------------------------------------------------

    def load(self) -> Saved:
        """What an earlier life left; its unsent rows begin to leave. BLOCKS; called once.

        Raises StoreError when another process uses this store, when the folder can't be used at all, or when a newer
        version wrote the file. A file that is broken is moved aside; one that can't be opened now is tried later.
        """
        self._lock = Lock(self._state_path)
        try:
            saved = self._journal.start(self)
        except BaseException:
            self._lock.release()
            raise
        self._writer.start()
        for topic in self._backlogs:
            threading.Thread(target=self._send_loop, args=(topic,), name=f"vmhb-send-{topic}", daemon=True).start()
        return saved

    def commit(self, commit: Commit, done: Callable[[], None] | None = None) -> None:
        """Store in the background, then send. Never blocks, never raises. `done` is called on the writer's thread."""
        ids = tuple(str(uuid.uuid4()) for _ in commit.messages)
        with self._monitor:
            if not self._closing:
                self._inbox.append(_Pending(commit, done, time.time(), ids))
                self._unwritten += len(commit.messages)
                self._work.notify()
                return
        LOG.error("A commit of %d messages came after the store was closed, and is lost", len(commit.messages))

    def health(self) -> dict[str, Any]:
        """waiting, oldest (seconds), degraded (sentence or None), dropped, set_aside (for no good), failing (topic ->
        what the broker said)."""
        with self._monitor:
            heads = [backlog.oldest for backlog in self._backlogs.values()]
            created = [row.created for row in heads if row is not None]
            return {
                "waiting": sum(map(len, self._backlogs.values())) + self._unwritten * len(self._backlogs),
                "oldest": round(max(0.0, time.time() - min(created)), 1) if created else None,
                "degraded": self._journal.degraded,
                "dropped": self._dropped,
                "set_aside": self._spoilt + self._journal.set_aside,
                "failing": dict(self._failing),
            }

    def close(self, timeout: float) -> None:
        """Write what was committed, within `timeout` seconds. A sender that is stuck is left behind."""
        with self._monitor:
            self._closing = True
            self._work.notify()
            for came in self._came.values():
                came.notify()
        if self._writer.ident is None:
            return
        self._writer.join(timeout)
        if self._writer.is_alive():
            LOG.error(
                "%s: not all could be written within %.1f s, the disk does not answer", self._journal.path, timeout
            )
        elif self._lock is not None:
            self._lock.release()
            self._lock = None

    # -- for the journal: see journal.Waiting --------------------------------------------------------------------------

    def learn(self, rows: list[Row]) -> None:
        """Put these before all others."""
        with self._monitor:
            younger = [row for backlog in self._backlogs.values() for row in backlog.rows.values()]
            for row in younger:
                self._backlogs[row.topic].remove(row.id)
            self._next_id = max([self._next_id, *(row.id for row in rows)])
            for row in [*rows, *younger]:
                if row.topic in self._backlogs:
                    self._admit(row)
        unwanted = Counter(row.topic for row in rows if row.topic not in self._backlogs)
        for topic, count in unwanted.items():
            LOG.warning("%d notifications for %s are dropped: it is no longer among the topics", count, topic)

    def snapshot(self) -> dict[int, Row]:
        """All rows that wait. What is gone by now need not be removed one by one."""
        with self._monitor:
            self._gone.clear()
            return {row_id: row for backlog in self._backlogs.values() for row_id, row in backlog.rows.items()}

    # -- the writer ----------------------------------------------------------------------------------------------------

    def _write_loop(self) -> None:
        while True:
            with self._monitor:
                self._work.wait_for(self._due, self._journal.patience)
                inbox, self._inbox = self._inbox, []
                gone, self._gone = self._gone, []
                aside, self._aside = self._aside, {}
                last = self._closing
            try:
                self._journal.put_aside(aside)
                self._write(inbox, gone)
                if not self._journal.works and (last or self._journal.patience == 0.0):
                    self._journal.retry(self)
            except Exception:
                LOG.exception("Writing failed in a way that was not expected. Please report this")
            for pending in inbox:
                self._tell(pending)
            if last:
                break
        self._journal.close()

    def _due(self) -> bool:
        return bool(self._inbox or self._closing or (self._gone and self._journal.works))

    def _write(self, inbox: list[_Pending], gone: list[int]) -> None:
        """One transaction for all that waited; then its messages may leave."""
        changes = Content()
        for pending in inbox:
            try:
                changes.merge(self._staged(pending))
            except Exception:  # the others' are no worse for it
                LOG.exception("A commit is lost, since nothing could be made of it. Please report this")
                self._spoil()
        rows = [row for row in changes.rows.values() if row is not None]
        changes.rows.update(dict.fromkeys(gone))
        # A removal that a loss of power takes back makes a duplicate, no more: not worth an fsync.
        if changes and self._journal.write(changes, durable=bool(inbox)):
            if inbox:
                reach("commit.after")
            if gone:
                reach("send.deleted")
        self._release(rows, sum(len(pending.commit.messages) for pending in inbox))

    def _staged(self, pending: _Pending) -> Content:
        """A commit as changes of the tables, one row for each message and topic."""
        changes = self._journal.remember(pending.commit)
        for message, message_id in zip(pending.commit.messages, pending.message_ids, strict=True):
            try:
                payload = json.dumps(message.payload, default=str)
            except (TypeError, ValueError, RecursionError):  # keys that are no strings, a payload that contains itself
                LOG.exception("A %s is lost, since its payload is not JSON. Please report this", message.event_type)
                self._spoil()
                continue
            for topic in self._backlogs:
                self._next_id += 1
                changes.rows[self._next_id] = Row(
                    id=self._next_id,
                    topic=topic,
                    message_id=message_id,
                    event_type=message.event_type,
                    project_id=message.project_id,
                    fault_id=message.fault_id,
                    collapse=message.collapse,
                    payload=payload,
                    created=pending.created,
                )
        return changes

    def _spoil(self) -> None:
        with self._monitor:
            self._spoilt += 1

    def _tell(self, pending: _Pending) -> None:
        if pending.done is not None:
            try:
                pending.done()
            except Exception:
                LOG.exception("Whoever waited for a commit failed")

    def _release(self, rows: list[Row], written: int) -> None:
        """Let the senders have these rows, of so many messages, and keep to the limit."""
        with self._monitor:
            self._unwritten -= written
            for row in rows:
                self._admit(row)
            dropped = drop_excess(list(self._backlogs.values()), self._limits.rows)
            self._gone += [row.id for row in dropped]
            self._dropped += len(dropped)
            waiting = sum(map(len, self._backlogs.values()))
            begins = bool(dropped) and not self._dropping
            # Over only when some have left and there is some room again, or it would begin anew with every message.
            # What is dropped makes room as well.
            ends = self._dropping and self._left and waiting <= 0.9 * self._limits.rows
            self._dropping = (self._dropping or begins) and not ends
            self._left = self._left and not begins
            total, failing = self._dropped, dict(self._failing)
        if begins:
            LOG.error(
                "More than %d notifications wait for the broker: the oldest are dropped, those of closed faults first. "
                "Make the broker reachable. It says: %s",
                self._limits.rows,
                failing or "nothing",
            )
        if ends:
            LOG.warning("Notifications leave again; %d were dropped since the start of the worker", total)

    def _admit(self, row: Row) -> None:
        backlog = self._backlogs[row.topic]
        replaced = backlog.add(row)
        if replaced is not None:
            self._gone.append(replaced.id)
        if len(backlog) == 1:
            self._came[row.topic].notify()

    # -- the senders ---------------------------------------------------------------------------------------------------

    def _send_loop(self, topic: str) -> None:
        backlog, came = self._backlogs[topic], self._came[topic]
        delay = 0.0
        while True:
            with self._monitor:
                if delay:
                    came.wait_for(lambda: self._closing, delay * random.uniform(0.5, 1.0))  # noqa: S311 # no secret
                came.wait_for(lambda: self._closing or backlog)
                row = None if self._closing else backlog.take()
            if row is None:
                return
            try:
                if self._sent(backlog, row):
                    delay = 0.0
                    continue
                delay = min(max(2 * delay, self._limits.first_retry), self._limits.last_retry)
                if self._sent_after_another(backlog, row):
                    delay = 0.0
            except Exception as error:  # a mistake of ours about one row: the topic's others go their way
                delay = min(max(2 * delay, self._limits.first_retry), self._limits.last_retry)
                self._failed(backlog, error)

    def _sent(self, backlog: Backlog, row: Row) -> bool:
        """Did the broker confirm this row?"""
        reach("send.before")
        try:
            self._send(row.topic, row)
        except Exception as error:
            self._failed(backlog, error)
            return False
        reach("send.confirmed")
        with self._monitor:
            backlog.remove(row.id)
            self._gone.append(row.id)
            self._left = True
            self._work.notify()
            flows = self._failing.pop(row.topic, None) is not None
            waiting = len(backlog)
        if flows:
            LOG.info("%s: the broker takes notifications again, %d are waiting", row.topic, waiting)
        return True

    def _sent_after_another(self, backlog: Backlog, row: Row) -> bool:
        """It failed: where it did so time and again, try another, and where that went, this once more, over what is
        known to be a good connection now. Did it go?"""
        with self._monitor:
            other = backlog.take_beside() if backlog.failed(row.id) else None
        if other is None or not self._sent(backlog, other):
            return False
        with self._monitor:
            if backlog.take() is not row:  # dropped or replaced meanwhile
                backlog.put_back()
                return False
        if self._sent(backlog, row):
            return True
        self._blame(backlog, row)
        return False

    def _blame(self, backlog: Backlog, row: Row) -> None:
        """It was not taken, and one beside it was. Where that is so time and again, it holds up all others for ever."""
        with self._monitor:
            if not backlog.another_went(row.id) or backlog.remove(row.id) is None:
                return
            why = f"the broker took others, and never this: {self._failing.get(row.topic) or 'it did not say why'}"
            self._spoilt += 1
            self._gone.append(row.id)
            self._aside[row.id] = why
            self._work.notify()
        LOG.error(
            "%s: a %s of fault %s (%s) is set aside: %.500s. What is still so of its fault comes with its reminders",
            *(row.topic, row.event_type, row.fault_id or "none", row.message_id, why),
        )

    def _failed(self, backlog: Backlog, error: Exception) -> None:
        with self._monitor:
            backlog.put_back()
            news = backlog.topic not in self._failing
            self._failing[backlog.topic] = f"{type(error).__name__}: {error}"
            waiting = len(backlog)
        if news:
            LOG.warning("%s: not delivered, tried again until it is; %d are waiting: %s", backlog.topic, waiting, error)
