"""Keeps the worker's state and its waiting rows on disk, and goes on in memory while the disk fails. Sends nothing.

Everything that the file holds is known in memory as well: the state here, the rows in the backlogs. So after any
trouble there is one remedy, whatever went wrong: open the file, or a new one, and make it say what we know.

Not thread-safe: belongs to the outbox's writer. Only `degraded` may be read by others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from vmhb_common.model.fault import FaultState
from vmhb_worker.delivery.sqlite import TROUBLE, Corrupt, Database, set_aside
from vmhb_worker.delivery.tables import Content, Row
from vmhb_worker.interfaces import Commit, Saved

LOG = logging.getLogger(__name__)


class Waiting(Protocol):
    """The rows that wait in memory."""

    def learn(self, rows: list[Row]) -> None:
        """These were found in the file, in this order, and are older than any other."""

    def snapshot(self) -> dict[int, Row]:
        """All rows that must be in the file."""


class Journal:
    """The file, or the hope for it."""

    def __init__(self, path: Path, retry: float, open_database: Callable[[Path], Database]) -> None:
        """retry: seconds between two attempts to use a disk that failed."""
        self.path = path
        #: What is wrong, for people; None while the disk works.
        self.degraded: str | None = None
        self._retry = retry
        self._open_database = open_database
        self._database: Database | None = None
        self._set_aside_before = 0  # in files that were closed since
        self._state = Content()  # without rows
        self._read = False  # has the file been looked into?
        self._running = False  # has the engine begun, with what the file said or with nothing?
        self._suspect = False  # did the file turn out to be corrupt while it was used?
        self._retry_at = 0.0

    @property
    def works(self) -> bool:
        """Is the file open and good?"""
        return self._database is not None

    @property
    def patience(self) -> float | None:
        """Seconds until the disk is worth another attempt; None while it works."""
        return None if self.works else max(0.0, self._retry_at - time.monotonic())

    @property
    def set_aside(self) -> int:
        """How many values of the file are so: they could not be read, or not be written so that they can be."""
        return self._set_aside_before + (0 if self._database is None else self._database.set_aside)

    def put_aside(self, rows: Mapping[int, str]) -> None:
        """Keep these rows for people, each for the reason given; they are nobody's any more."""
        if rows and self._database is not None:
            self._database.put_aside(rows)

    def start(self, waiting: Waiting) -> Saved:
        """The first look into the file. StoreError where it must not be used; other trouble is retried later."""
        self._attempt(waiting)
        if self._suspect:  # it opened, and yet made no sense
            self._attempt(waiting)
        self._running = True
        return self._state.saved()

    def remember(self, commit: Commit) -> Content:
        """Take a commit into the state. Returns the changes that it means, without its messages."""
        changes = Content()
        changes.instances.update({row.uuid: row for row in commit.instances})
        changes.instances.update(dict.fromkeys(commit.forget))
        changes.probes.update(commit.probes)
        changes.announce.update({fault_id: owed if owed > 0 else None for fault_id, owed in commit.announce.items()})
        changes.faults.update({fault.fault_id: fault for fault in commit.faults})
        for fault_id in {*changes.announce, *changes.faults}:
            if not self._wanted(fault_id, changes):
                changes.faults[fault_id] = changes.announce[fault_id] = None
        self._state.apply(changes)
        return changes

    def _wanted(self, fault_id: str, changes: Content) -> bool:
        """A cleared fault is kept only as long as reminders of it are owed."""
        fault = changes.faults.get(fault_id, self._state.faults.get(fault_id))
        if fault is None or fault.state is not FaultState.CLEARED:
            return True
        return bool(changes.announce.get(fault_id, self._state.announce.get(fault_id)))

    def write(self, changes: Content, *, durable: bool) -> bool:
        """One transaction; see `Database.write`. False when it is not in the file, and will be by `retry` only."""
        if self._database is None:
            return False
        try:
            self._database.write(changes, durable=durable)
        except Exception as error:
            if not isinstance(error, (*TROUBLE, Corrupt)):
                LOG.exception("%s: writing failed in a way that was not expected. Please report this", self.path)
            self._trouble(error)  # what the file lacks now, it gets by `retry`; who waits for it need not wait
            return False
        return True

    def retry(self, waiting: Waiting) -> None:
        """Try the disk again."""
        try:
            self._attempt(waiting)
        except Exception as error:  # somebody replaced the file under our hands, or `write`'s unexpected one again
            self._trouble(error)

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._set_aside_before += self._database.set_aside
            self._database.close()
            self._database = None

    # -- trouble -------------------------------------------------------------------------------------------------------

    def _trouble(self, error: Exception) -> None:
        """Go on in memory, and say so once."""
        self.close()
        self._suspect = isinstance(error, Corrupt)
        self._retry_at = time.monotonic() + self._retry
        news = self.degraded is None
        self.degraded = (
            f"{self.path}: {error}: state and notifications are kept in memory only, and are lost if the worker stops; "
            f"free space on the file system, or repair it. Tried again every {self._retry:g} s"
        )
        if news:
            LOG.error("%s", self.degraded)

    def _attempt(self, waiting: Waiting) -> None:
        """Open the file, learn what it knows if it is our first look, and make it say what we know."""
        try:
            database = self._open()
        except (*TROUBLE, Corrupt) as error:
            self._trouble(error)
            return
        try:
            self._bring_up_to_date(database, waiting)
        except (*TROUBLE, Corrupt) as error:
            database.close()
            self._trouble(error)
            return
        except BaseException:
            database.close()  # the file is locked as long as it is open
            raise
        self._database = database
        if self.degraded is not None:
            self.degraded = None
            LOG.warning("%s: works, and holds everything that is known", self.path)

    def _bring_up_to_date(self, database: Database, waiting: Waiting) -> None:
        found = database.load()
        if not self._read:
            self._read = True
            # Found late, when the engine has long begun without it, the file's state is outdated; its rows are not.
            if not self._running:
                self._state = Content(found.instances, found.faults, found.announce, found.probes)
            waiting.learn([row for row in found.rows.values() if row is not None])
        state, rows = self._state, waiting.snapshot()
        wanted = Content(state.instances, state.faults, state.announce, state.probes, {**rows})
        changes = found.difference(wanted)
        if changes:
            database.write(changes)

    def _open(self) -> Database:
        """The open file; a broken one is moved aside first."""
        if self._suspect:
            self._set_aside("it turned out so while it was used")
        try:
            return self._open_database(self.path)
        except Corrupt as error:
            self._set_aside(str(error))
            return self._open_database(self.path)

    def _set_aside(self, why: str) -> None:
        aside = set_aside(self.path)
        self._suspect = False
        self._read = self._running  # what was in it is gone: there is nothing to learn any more
        LOG.error(
            "%s is corrupt (%s): moved to %s, and a new file is made. Check the disk. What the worker knows by itself "
            "it writes again; notifications of an earlier life that were not delivered are lost",
            self.path,
            why,
            aside,
        )
