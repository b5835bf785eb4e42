"""One target's own thread: takes its rows from the outbox, one at a time, and delivers them. Decides no delivery.

A target that is slow, down or raises holds up its own rows only, and of those only the fault that it is about: every
row has its own time of the next try. Whatever happens, a row is deleted only after `deliver` returned. What it raises
is a bug of its own, and is given up after `telling.BUGS` tries in a row: so its fault's next change is not held up for
ever.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from vmhb_common.app import crashpoint
from vmhb_common.app.once import Once, same
from vmhb_common.app.ration import Ration
from vmhb_common.model.fault import Change, Fault
from vmhb_common.model.moments import from_epoch
from vmhb_consumer.counters import Tally
from vmhb_consumer.database import Away
from vmhb_consumer.doubt_rules import Unknown
from vmhb_consumer.outbox import Outbox, Row
from vmhb_consumer.reporters import telling
from vmhb_consumer.reporters.base import NO_QUEUE, Again, Case, GiveUp, Permit, Queue, outcome_of
from vmhb_consumer.reporters.outcomes import Done, Later, Outcome, Refused
from vmhb_consumer.whose import NOT_KNOWN

LOG = logging.getLogger(__name__)

AnyOutcome = TypeVar("AnyOutcome", Done, Later, Refused)

#: Seconds to back off after the first failure of a row, and at most.
FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0
#: Another consumer's rows, and those whose owner died, are found within this time (seconds).
POLL = 2.0
#: Seconds until Nova is asked again whose an instance is.
UNNAMED = 15.0
#: Bounds of what a reporter may ask for (seconds).
MIN_WAIT, MAX_WAIT = 0.1, 86400.0


@dataclass(frozen=True, slots=True)
class Recipient:
    """Where to deliver. name: `masakari`, or `topic:…`, as in the rows. wants: asked once more of what is to be the
    first of a fault, and was queued as something else: the one before was refused. by_project: it is the project's
    affair who is told."""

    name: str
    deliver: Callable[[Case], Outcome]
    wants: Callable[[Change, Fault], bool] = lambda change, fault: True
    by_project: bool = False


class Delivery:
    """The thread of one target. `start`, `wake` and `stop` from any thread."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it is wired to
        self,
        target: Recipient,
        outbox: Outbox,
        tally: Tally,
        permit: Callable[[Fault, str], Permit],
        now: Callable[[], float] = time.time,
        queue: Callable[[Fault], Queue] = lambda _fault: NO_QUEUE,
        named: Callable[[Fault], Fault | Unknown] = lambda fault: fault,
    ) -> None:
        """permit: BLOCKS; may the recovery that this change asks for be begun, by the target of this name? queue: this
        fault's place in lines. named: BLOCKS; the fault as one of the project that Nova says."""
        self._named = named
        self._target = target
        self._outbox = outbox
        self._tally = tally
        self._permit = permit
        self._queue = queue
        self._now = now
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"vmhb-deliver-{target.name}", daemon=True)
        self._once = Once()
        self._ration = Ration(LOG)
        self._old = False  # it was said that it is written for an older contract

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
            except Away as error:
                LOG.debug("%s: the database is away: %s", self._target.name, error)
                due = None
            except Exception:
                self._ration.say(logging.ERROR, "%s: an error of our own; going on", self._target.name, exc_info=True)
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
        if row.change is Change.RAISED and not self._target.wants(row.change, row.fault):
            self._write(row, lambda outcome: self._outbox.done(row, outcome), Done(known=False))
            return
        try:
            outcome = self._outcome(row)
        except BaseException as error:  # SystemExit as well: a plugin ends no thread of ours
            self._bug(row, error)
            return
        match outcome:
            case Done():
                self._done(row, outcome)
            case Later():
                self._later(row, outcome)
            case Refused():
                self._refuse(row, outcome)

    def _outcome(self, row: Row) -> Outcome:
        """Whatever a target raises, besides what reporters used to."""
        named = self._with_project(row)
        if named is None:
            return Later(UNNAMED, f"{NOT_KNOWN}: Nova is asked again")
        try:
            outcome: Any = self._target.deliver(self._case(named))
        except (Again, GiveUp) as error:
            self._say_old(f"raises {type(error).__name__}")
            return outcome_of(error)
        if outcome is None:
            self._say_old("returns None")
            return Done()
        if not isinstance(outcome, Done | Later | Refused):
            raise TypeError(f"it returns {outcome!r:.100}, which is none of Done, Later and Refused")
        return outcome

    def _with_project(self, row: Row) -> Row | None:
        """As Nova says whose it is. Where that is not known, nobody is told that it is anybody's; and whoever is chosen
        by the project (None) waits."""
        project: str | None
        match self._named(row.fault):
            case Unknown() if self._target.by_project:
                return None
            case Unknown():
                project = None
            case named:
                project = named.project_id
        fault, latest = (replace(one, project_id=project) for one in (row.fault, row.latest))
        return replace(row, fault=fault, latest=latest)

    def _done(self, row: Row, outcome: Done) -> None:
        name = self._target.name
        crashpoint.reach("consumer.delivered")
        self._tally.add(f"delivered.{name}")
        if row.problem is not None:
            LOG.info("%s: %s delivered, at attempt %d", name, _what(row), row.attempt)
        self._write(row, lambda outcome: self._outbox.done(row, outcome), outcome)

    def _refuse(self, row: Row, outcome: Refused) -> None:
        kind = "withheld" if outcome.rightly else "given up"
        self._tally.add(f"{kind.replace(' ', '_')}.{self._target.name}")
        level = logging.INFO if outcome.rightly else logging.ERROR
        LOG.log(level, "%s: %s %s: %s", self._target.name, _what(row), kind, outcome.why)

        def write(outcome: Refused) -> bool:
            told = telling.after(row.told, outcome)
            return self._outbox.refuse(row, kind, outcome.why, self._now(), outcome.memo, told)

        self._write(row, write, outcome)

    def _later(self, row: Row, outcome: Later) -> None:
        self._tally.add(f"postponed.{self._target.name}")
        # One that hands a memo is getting on; one without has met something, which the next row may meet as well.
        new = outcome.memo is None and self._once.new(outcome.why)
        if _is_another(row, outcome.why):
            how = "not delivered yet" if outcome.memo is None else "goes on"
            level = logging.WARNING if new else logging.INFO
            LOG.log(level, "%s: %s %s: %s", self._target.name, _what(row), how, outcome.why)
        told = telling.after(row.told, outcome)
        next_at = self._next(row, outcome.retry_in)
        self._write(row, lambda one: self._outbox.again(row, one.why, next_at, one.memo, told, one.over), outcome)

    def _bug(self, row: Row, error: BaseException) -> None:
        """An exception that escaped. Tried again, since it may pass; but not for ever, since a bug does not."""
        why = f"{type(error).__name__}: {error}"
        told = telling.after_bug(row.told)
        if told.bugs >= telling.BUGS:
            self._refuse(row, Refused(f"it raised {told.bugs} times, and must not; report this to its authors: {why}"))
            return
        self._tally.add(f"postponed.{self._target.name}")
        if _is_another(row, why):
            text = "%s: %s not delivered yet, an error of the reporter's: %s"
            LOG.error(text, self._target.name, _what(row), why, exc_info=error)
        next_at = self._next(row, None)
        self._mine(row, self._settle(lambda: self._outbox.again(row, why, next_at, None, told)))

    def _next(self, row: Row, seconds: float | None) -> float:
        """When to try again. None: back off."""
        pause = min(FIRST_PAUSE * 2.0 ** min(row.attempt - 1, 16), MAX_PAUSE) if seconds is None else seconds
        return self._now() + min(max(pause, MIN_WAIT), MAX_WAIT)

    def _write(self, row: Row, write: Callable[[AnyOutcome], bool], outcome: AnyOutcome) -> None:
        """What became of it; without its memo, where that is no JSON."""
        try:
            self._mine(row, self._settle(lambda: write(outcome)))
        except (TypeError, ValueError, RecursionError) as error:
            LOG.error("%s: %s: its memo can't be kept: %s", self._target.name, _what(row), error)
            self._mine(row, self._settle(lambda: write(replace(outcome, memo=None))))

    def _say_old(self, what: str) -> None:
        if not self._old:
            LOG.warning(
                "%s is written for an older contract, which ends with the next release: it %s, and is to return Done, "
                "Later or Refused",
                *(self._target.name, what),
            )
        self._old = True

    def _settle(self, write: Callable[[], bool]) -> bool:
        """Write down what became of it, as long as it takes: it has happened."""
        while True:
            try:
                return write()
            except Away:
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
            received_at=from_epoch(row.received_at),
            attempt=row.attempt,
            memo=row.memo,
            permit=lambda: self._permitted(row.fault),
            reminder=row.reminder,
            queue=self._queue(row.fault),
        )

    def _permitted(self, fault: Fault) -> Permit:
        permit = self._permit(fault, self._target.name)
        self._tally.add(
            "permits.granted" if permit.granted else "permits.held" if permit.seconds else "permits.refused"
        )
        if permit.withheld:
            self._tally.add(f"permits.{permit.withheld}")
        return permit


def _is_another(row: Row, why: str) -> bool:
    """Than what kept it from being delivered before."""
    return row.problem is None or same(why) != same(row.problem)


def _what(row: Row) -> str:
    fault = row.fault
    about = f"instance {fault.instance_uuid}" if fault.instance_uuid else f"host {fault.host}"
    return f"{about}: fault {fault.fault_id} ({fault.sequence}) {row.change.name.lower()}"
