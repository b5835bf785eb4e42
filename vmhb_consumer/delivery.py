"""One target's own thread: takes its rows from the outbox, one at a time, and delivers them. Decides no delivery.

A target that is slow, down or raises holds up its own rows only, and of those only the fault that it is about: every
row has its own time of the next try. Whatever happens, a row is deleted only after `deliver` returned.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vmhb_common.app import crashpoint
from vmhb_common.model.fault import Fault
from vmhb_consumer.counters import Tally
from vmhb_consumer.database import Away
from vmhb_consumer.outbox import Outbox, Row
from vmhb_consumer.reporters.base import Again, Case, GiveUp, Permit, Withheld

LOG = logging.getLogger(__name__)

#: Seconds to back off after the first failure of a row, and at most.
FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0
#: Another consumer's rows, and those whose owner died, are found within this time (seconds).
POLL = 2.0
#: Bounds of what a reporter may ask for (seconds).
MIN_WAIT, MAX_WAIT = 0.1, 86400.0


@dataclass(frozen=True, slots=True)
class Recipient:
    """Where to deliver. name: `masakari`, or `topic:…`, as in the rows."""

    name: str
    deliver: Callable[[Case], None]


class Delivery:
    """The thread of one target. `start`, `wake` and `stop` from any thread."""

    def __init__(
        self,
        target: Recipient,
        outbox: Outbox,
        tally: Tally,
        permit: Callable[[Fault], Permit],
        now: Callable[[], float] = time.time,
    ) -> None:
        """permit: BLOCKS; may the recovery that this change asks for be begun?"""
        self._target = target
        self._outbox = outbox
        self._tally = tally
        self._permit = permit
        self._now = now
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"vmhb-deliver-{target.name}", daemon=True)
        self._away = False

    @property
    def started(self) -> bool:
        """Was it ever begun?"""
        return self._thread.ident is not None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def stop(self) -> None:
        """End after the delivery that is under way. Returns at once."""
        self._stopping.set()
        self._woken.set()

    def join(self, timeout: float) -> bool:
        """Has it ended? Waits for so many seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                if self.turn():
                    continue
                due = self._outbox.due_at(self._target.name)
                self._back()
            except Away as error:
                self._say_away(error)
                due = None
            except Exception:
                LOG.exception("%s: an error of our own; going on", self._target.name)
                due = None
            pause = POLL if due is None else min(POLL, max(0.0, due - self._now()))
            # A row that is due and yet not taken is another consumer's, or waits for the one before it.
            self._woken.wait(pause or POLL / 4)

    def turn(self) -> bool:
        """BLOCKS: deliver one row, if there is one that is due. Raises Away."""
        row = self._outbox.take(self._target.name, self._now())
        if row is None:
            return False
        crashpoint.reach("consumer.claimed")
        if self._stopping.is_set():
            self._outbox.release(row)
            return False
        self._deliver(row)
        return True

    def _deliver(self, row: Row) -> None:
        name = self._target.name
        try:
            self._target.deliver(self._case(row))
        except GiveUp as error:
            self._refuse(row, error)
        except Again as error:
            self._again(row, str(error), error.seconds, error.memo)
        except Exception as error:
            LOG.debug("%s: fault %s", name, row.fault.fault_id, exc_info=True)
            self._again(row, f"{type(error).__name__}: {error}", None, None)
        else:
            crashpoint.reach("consumer.delivered")
            self._tally.add(f"delivered.{name}")
            if row.problem is not None:
                LOG.info("%s: %s delivered, at attempt %d", name, _what(row), row.attempt)
            self._mine(row, self._settle(lambda: self._outbox.done(row)))

    def _refuse(self, row: Row, error: GiveUp) -> None:
        name, kind = self._target.name, "withheld" if isinstance(error, Withheld) else "given up"
        self._tally.add(f"{'withheld' if isinstance(error, Withheld) else 'given_up'}.{name}")
        LOG.log(
            logging.INFO if isinstance(error, Withheld) else logging.ERROR,
            "%s: %s %s: %s",
            name,
            _what(row),
            kind,
            error,
        )
        try:
            self._mine(row, self._settle(lambda: self._outbox.refuse(row, kind, str(error), self._now(), error.memo)))
        except (TypeError, ValueError) as wrong:  # a memo that is not JSON
            LOG.error("%s: %s: its memo can't be kept: %s", name, _what(row), wrong)
            self._settle(lambda: self._outbox.refuse(row, kind, str(error), self._now()))

    def _again(self, row: Row, why: str, seconds: float | None, memo: Mapping[str, Any] | None) -> None:
        self._tally.add(f"postponed.{self._target.name}")
        if why != row.problem:
            # One that hands a memo is getting on; one without has met something.
            level, how = (logging.WARNING, "not delivered yet") if memo is None else (logging.INFO, "goes on")
            LOG.log(level, "%s: %s %s: %s", self._target.name, _what(row), how, why)
        pause = min(FIRST_PAUSE * 2.0 ** min(row.attempt - 1, 16), MAX_PAUSE) if seconds is None else seconds
        next_at = self._now() + min(max(pause, MIN_WAIT), MAX_WAIT)
        try:
            self._mine(row, self._settle(lambda: self._outbox.again(row, why, next_at, memo)))
        except (TypeError, ValueError) as error:  # a memo that is not JSON
            LOG.error("%s: %s: its memo can't be kept: %s", self._target.name, _what(row), error)
            self._settle(lambda: self._outbox.again(row, why, next_at, None))

    def _settle(self, write: Callable[[], bool]) -> bool:
        """Write down what became of it, as long as it takes: it has happened."""
        while True:
            try:
                return write()
            except Away as error:
                self._say_away(error)
                if self._stopping.wait(POLL):
                    raise

    def _mine(self, row: Row, mine: bool) -> None:
        if not mine:
            LOG.warning("%s: %s was taken by another consumer meanwhile", self._target.name, _what(row))

    def _case(self, row: Row) -> Case:
        return Case(
            change=row.change,
            fault=row.fault,
            latest=row.latest,
            received_at=datetime.fromtimestamp(row.received_at, UTC),
            attempt=row.attempt,
            memo=row.memo,
            permit=lambda: self._permitted(row.fault),
            reminder=row.reminder,
        )

    def _permitted(self, fault: Fault) -> Permit:
        permit = self._permit(fault)
        self._tally.add(
            "permits.granted" if permit.granted else "permits.held" if permit.seconds else "permits.refused"
        )
        return permit

    def _say_away(self, error: Away) -> None:
        if not self._away:
            LOG.error("%s: the database is away: %s", self._target.name, error)
        self._away = True

    def _back(self) -> None:
        if self._away:
            LOG.info("%s: the database is back", self._target.name)
        self._away = False


def _what(row: Row) -> str:
    fault = row.fault
    about = f"instance {fault.instance_uuid}" if fault.instance_uuid else f"host {fault.host}"
    return f"{about}: fault {fault.fault_id} ({fault.sequence}) {row.change.name.lower()}"
