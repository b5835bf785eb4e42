"""Looks after what nobody sends: workers that fall silent, faults in doubt, our own faults' reminders, old rows.

Each consumer makes these rounds; the database hands each doubt to one of them. `doubt_rules` judges what was seen.

Threads: one makes the rounds; up to ASKING more ask workers and Nova, each of which may keep us waiting for seconds.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from vmhb_common.app.once import Once
from vmhb_common.app.ration import Ration
from vmhb_common.model.fault import Fault, FaultState, Resolution
from vmhb_common.model.moments import from_epoch
from vmhb_consumer import doubt_rules, fault_rules
from vmhb_consumer.counters import Tally
from vmhb_consumer.database import Away
from vmhb_consumer.doubt_rules import Close, Decision, Keep, Told, Unknown, Whereabouts, Word
from vmhb_consumer.known_hosts import Known
from vmhb_consumer.outbox import Outbox
from vmhb_consumer.pause_watch import Watch
from vmhb_consumer.questions import Asking
from vmhb_consumer.repository import PATIENCE, Doubtful, Records, Silent
from vmhb_consumer.settings import FaultSettings

LOG = logging.getLogger(__name__)

#: Seconds between two rounds, and what is looked into at a time.
ROUND = 1.0
ASKING = 8
#: Workers that are looked after in a round: none of them keeps us waiting, see `questions`.
MISSING = 64
#: How often it is seen whether recoveries are paused, to say so. (Permits see it by themselves, at once.)
LOOK = 0.5
#: How often we say that we live: several times within `outbox.MEMBER_TTL`.
LIVE = 4.0
#: Seconds until a doubt that could not be settled is looked into again.
LATER = 30.0
#: How often old rows are looked for, and numbers are said.
TIDY = 300.0
#: Asked of a worker of which only is to be known whether it answers.
NOBODY = str(uuid.UUID(int=0))


@dataclass(frozen=True, slots=True)
class Ask:
    """Who is asked. All BLOCK for some seconds and raise nothing. answers: does the worker of this host, None: its
    broker can't tell; Asking: it is being asked; why not, otherwise. known: is there such a host? Does not block."""

    word: Callable[[Fault], Word]
    place: Callable[[Fault], Whereabouts]
    answers: Callable[[str], bool | str | Asking | None]
    known: Callable[[str], Known] = lambda host: Known.CANT_TELL


class Rounds:
    """`start` and `stop` from any thread."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it is wired to
        self,
        settings: FaultSettings,
        records: Records,
        outbox: Outbox,
        ask: Ask,
        tally: Tally,
        changed: Callable[[], None],
        now: Callable[[], float] = time.time,
        watch: Watch | None = None,
    ) -> None:
        """watch: looks at the stop button in each round."""
        self._watch = watch
        self._settings = settings
        self._records = records
        self._outbox = outbox
        self._ask = ask
        self._tally = tally
        self._changed = changed
        self._now = now
        self._stopping = threading.Event()
        self._tidy_at = 0.0
        self._once = Once()
        self._ration = Ration(LOG)
        self._pool = ThreadPoolExecutor(ASKING, thread_name_prefix="vmhb-ask")

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="vmhb-rounds", daemon=True).start()
        threading.Thread(target=self._live, name="vmhb-live", daemon=True).start()
        if self._watch is not None:
            threading.Thread(target=self._look, name="vmhb-pause", daemon=True).start()

    def take_settings(self, settings: FaultSettings) -> None:
        """What the operator decided meanwhile: how long is kept what is over, and are missed workers that are."""
        self._settings = settings

    def stop(self) -> None:
        """Make no more."""
        self._stopping.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _live(self) -> None:
        while not self._stopping.wait(LIVE):
            try:
                self._outbox.live(self._settings.host, self._now())
            except Away as error:
                LOG.debug("the database is away: %s", error)
            except Exception:
                self._ration.say(logging.ERROR, "an error of our own; going on", exc_info=True)

    def _look(self) -> None:
        """Not in a round, which may wait for others for seconds."""
        while self._watch is not None and not self._stopping.wait(LOOK):
            try:
                self._watch.look(self._now())
            except Away as error:
                LOG.debug("the database is away: %s", error)
            except Exception:
                self._ration.say(logging.ERROR, "an error of our own; going on", exc_info=True)

    def _run(self) -> None:
        while not self._stopping.wait(ROUND):
            try:
                self.round()
            except Away as error:
                LOG.debug("the database is away: %s", error)
            except Exception:
                if not self._stopping.is_set():
                    self._ration.say(logging.ERROR, "an error of our own; going on", exc_info=True)

    def round(self) -> None:
        """One. BLOCKS until all that it looked into is settled. Raises Away."""
        now = self._now()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY
            for step in (self._records.put_right, self._prune, self._say_numbers):
                self._done(partial(step, now))
        self._done(partial(self._records.set_aside, now))
        works: list[Callable[[], None]] = []
        self._done(lambda: works.extend(partial(self.doubt, one) for one in self._records.doubtful(now, ASKING)))
        self._done(lambda: works.extend(partial(self.miss, one) for one in self._records.silent(now, MISSING)))
        for done in [self._pool.submit(work) for work in works]:
            self._done(done.result)

    def _done(self, work: Callable[[], object]) -> None:
        """What goes wrong with one keeps nobody from looking into the others. Raises Away."""
        try:
            work()
        except Away:
            raise
        except CancelledError:
            return  # we end: nobody looked into it, and whoever is next does
        except Exception:
            self._tally.add("rounds.failed")
            self._ration.say(logging.ERROR, "an error of our own; going on with the others", exc_info=True)

    def _prune(self, now: float) -> None:
        window = max(self._settings.recovery.recovery_window, self._settings.recovery.recovery_time)
        self._records.prune(now - self._settings.keep, now - self._settings.keep - window)

    def _say_numbers(self, _now: float) -> None:
        numbers = self._tally.snapshot() | self._records.counts()
        numbers |= {f"waiting.{target}": count for target, count in self._outbox.waiting().items()}
        kept = self._outbox.undelivered().items()
        numbers |= {f"undelivered.{kind.replace(' ', '_')}.{target}": count for (target, kind), count in kept}
        if self._watch is not None:
            numbers["recoveries_paused"] = int(self._watch.paused)
        LOG.info("so far: %s", ", ".join(f"{name} {number}" for name, number in sorted(numbers.items())))

    # -- a fault ---------------------------------------------------------------------------------------------------

    def doubt(self, one: Doubtful) -> None:
        """Look into it. BLOCKS."""
        fault, now = one.fault, self._now()
        if one.own:
            self._records.remind(fault, now)
            self._changed()
            return
        decision: Decision = Keep()
        place = self._ask.place(fault) if fault.instance_uuid else None
        if one.rivals:
            decision = doubt_rules.among_rivals(fault, one.rivals, place)
        else:
            decision = doubt_rules.by_place(fault, place) or decision
        if isinstance(decision, Keep) and one.quiet:
            decision = doubt_rules.when_quiet(fault, self._word(fault), place)
        match decision:
            case Close():
                self._close(fault, decision)
            case Keep():
                self._keep(one, decision)

    def _word(self, fault: Fault) -> Word:
        if fault.instance_uuid is not None:
            return self._ask.word(fault)
        # A host's own: its worker says nothing of it, and yet lives.
        alive = self._ask.answers(fault.host)
        if isinstance(alive, Asking):
            return Unknown("its worker is being asked", alive.seconds)
        return Told(None) if alive is True else Unknown(alive or "the workers' broker can't be reached")

    def _close(self, fault: Fault, decision: Close) -> None:
        if self._records.close(fault, decision.resolution, decision.reason, self._now()):
            what = (fault.instance_uuid or f"of host {fault.host}", fault.fault_id, fault.host)
            LOG.info("instance %s: fault %s of %s closed: %s (%s)", *what, decision.reason, decision.resolution)
            self._tally.add(f"closed.{decision.resolution}")
            self._changed()

    def _keep(self, one: Doubtful, decision: Keep) -> None:
        now = self._now()
        patience = PATIENCE * self._settings.reminder_interval
        if decision.again is not None:
            later = min(decision.again, patience)
        elif decision.why is not None:
            level = self._once.level(logging.INFO, decision.why)  # one that is away has many faults wait
            LOG.log(level, "instance %s: fault %s stays: %s", one.fault.instance_uuid, one.fault.fault_id, decision.why)
            later = min(LATER, patience)
        else:
            later = patience
        self._records.keep(one.fault, decision.confirmed, now + later, now)

    # -- a worker --------------------------------------------------------------------------------------------------

    def miss(self, one: Silent) -> None:
        """It has not been heard of. BLOCKS. Ask it before it is called lost: the fault may be ours, or the broker's."""
        now = self._now()
        known = self._ask.known(one.host)
        if known is Known.UNKNOWN:
            self._forget(one, now)
            return
        if known in (Known.NOT_YET, Known.STARTING):  # Nova is being asked, which takes less than a worker's answer
            self._records.look_again(one, now + LATER)
            return
        answer = self._ask.answers(one.host)
        now = self._now()
        if answer is True:
            level = self._once.level(logging.WARNING, "no signs of life", one.host)
            LOG.log(level, "the worker on %s answers, and its signs of life don't arrive: see its log", one.host)
            self._records.answered(one.host, now)
        elif isinstance(answer, Asking):
            self._records.look_again(one, now + answer.seconds)
            return
        elif answer is None:
            self._records.look_again(one, now + LATER)
        elif now - one.heard_at > self._settings.worker_forget:
            self._forget(one, now)
        else:
            self._lose(one, answer, now)
        self._changed()

    def _lose(self, one: Silent, answer: bool | str, now: float) -> None:
        self._records.look_again(one, now + max(LATER, PATIENCE * one.interval))
        if one.fault_id is not None:
            return
        evidence = {"last_heard_age": round(now - one.heard_at, 1), "instances": one.instances, "asked": str(answer)}
        fault = fault_rules.worker_lost(
            *(str(uuid.uuid4()), one.host, from_epoch(one.heard_at), one.interval, evidence, from_epoch(now))
        )
        if self._records.lose(one, fault, now):
            LOG.warning("host %s: fault %s raised: %s", one.host, fault.fault_id, fault.reason)
            self._tally.add("workers_lost")

    def _forget(self, one: Silent, now: float) -> None:
        # A reminder of the fault, due in the same round, may be made between the two: then it is looked at anew.
        while one.fault_id and (known := self._records.known(one.fault_id)) and known[0].state is FaultState.RAISED:
            if self._records.close(known[0], Resolution.UNMONITORED, "its host is taken for gone", now):
                break
        self._records.forget_worker(one.host)
        self._changed()
        LOG.info(
            "the worker on %s is not missed any more: it was last heard of %.0f s ago", one.host, now - one.heard_at
        )
