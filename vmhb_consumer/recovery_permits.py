"""Lets recoveries through: counted in the database, so that all consumers together keep to the limits.

Who counts holds one row of the database locked until the permit is written, so two consumers can't both take the last
place, and the stop button holds from the moment at which it is pressed. A permit is for (fault_id, recovery_attempt):
asked for twice, it is one. `recovery_limits` decides, `recovery_places` keeps.

Its worker and Nova are asked right before, each time: what came from the broker may be anybody's word, and a guest may
have answered since. Whose place it is, Nova says as well. Who does not answer us is not asked again by the next fault
of its host: a host that died has many, and each question takes 6 s. What nobody confirms is never begun, and asked
about again for as long as its fault asks for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import sqlalchemy as sa

from vmhb_common.app import crashpoint
from vmhb_common.model.fault import Fault, FaultState
from vmhb_consumer import last_word, recovery_limits, recovery_places
from vmhb_consumer.database import Away, Database
from vmhb_consumer.doubt_rules import Place, Unknown, Whereabouts, Word
from vmhb_consumer.recovery_limits import OBSERVE, PAUSED
from vmhb_consumer.reporters.base import Permit
from vmhb_consumer.repository import Records
from vmhb_consumer.settings import RecoverySettings

LOG = logging.getLogger(__name__)

#: `Permit.withheld`: the same words as of a fault's `withheld`.
LATE, UNVERIFIED = "late", "unverified"
#: Seconds until one is verified again, where nobody could tell, or its fault does not stand at present.
VERIFY_AGAIN = 15.0
#: For so long (seconds) a worker that did not answer is not asked by other faults. Less than VERIFY_AGAIN.
MUTE = 10.0
#: For so long (seconds) it is told of at least.
TOLD_OF = 60.0
#: None was held for so long (seconds): that is over. Those who are held ask again sooner.
QUIET = 2 * recovery_limits.MINUTE


#: A confirmation is written down where the last one is older than this (seconds).
NOTED = 60.0


def _as_it_says(fault: Fault) -> Fault | Unknown:
    return fault


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Who is asked before it is begun. All BLOCK, for some 7 s at most, and raise nothing. named: the fault, as one of
    the project that Nova says; of an instance that is known, without asking."""

    word: Callable[[Fault], Word]
    place: Callable[[Fault], Whereabouts]
    named: Callable[[Fault], Fault | Unknown] = _as_it_says


class Permits:
    """Threads: any."""

    def __init__(self, database: Database, records: Records, limits: RecoverySettings, witnesses: Witnesses) -> None:
        self._database = database
        self._records = records
        self._limits = limits
        self._witnesses = witnesses
        #: Why recoveries are held; None while they are not.
        self.held: str | None = None
        self._held_at = 0.0
        #: Guarded by the lock: who did not answer, by host.
        self._lock = threading.Lock()
        self._mute: dict[str, tuple[float, Unknown]] = {}

    def limit(self, limits: RecoverySettings) -> None:
        """What the operator decided meanwhile: whoever asks from now on is weighed by it."""
        self._limits = limits

    def ask(self, asked: Fault, target: str, now: Callable[[], float]) -> Permit:
        """BLOCKS. May the recovery that this change asks for be begun now, by this reporter? See `Case.permit`."""
        try:
            permit = self._ask(asked, target, now)
            if not permit.granted and (permit.seconds is None or permit.withheld == UNVERIFIED):
                # It waits for something else than a place, or for nothing: no reason to hold others to their share.
                self._database.run(lambda connection: recovery_places.leave(connection, asked.fault_id, target))
            return permit
        except Away as error:
            return Permit(False, f"the database is away: {error}", VERIFY_AGAIN)

    def _ask(self, asked: Fault, target: str, now: Callable[[], float]) -> Permit:
        latest, confirmed_at = self._known(asked)
        refused = _outdated(asked, latest)
        if refused is not None:
            return Permit(False, refused)
        named = self._witnesses.named(latest)
        if isinstance(named, Unknown):
            return _unverified(named)
        permit = self._weigh(named, target, now(), look_only=True)
        if not (permit.granted or permit.withheld == OBSERVE):
            return permit
        permit = self._verify(latest, now)
        if not permit.granted:
            return permit
        latest, _confirmed_at = self._known(asked)
        refused = _outdated(asked, latest)
        if refused is not None:  # while it was asked
            return Permit(False, refused)
        if now() - confirmed_at > NOTED:
            at = now()
            self._records.keep(latest, True, at + NOTED, at)
        return self._weigh(replace(latest, project_id=named.project_id), target, now())

    def _known(self, asked: Fault) -> tuple[Fault, float]:
        return self._records.known(asked.fault_id) or (asked, 0.0)

    def _verify(self, fault: Fault, now: Callable[[], float]) -> Permit:
        place = self._witnesses.place(fault)
        said: last_word.LastWord
        if place is None or isinstance(place, Place):
            word = self._word(fault, now)
            said, again = last_word.judge(fault, word, place), word.again if isinstance(word, Unknown) else None
        else:  # where it is is not known, so no worker can speak for it
            said, again = last_word.Unclear(place.why), place.again
        match said:
            case last_word.Unclear(why):
                return _unverified(Unknown(why, again))
            case last_word.Never(why):
                return Permit(False, why, withheld=LATE)
            case last_word.NotNow(why):
                return Permit(False, f"not now: {why}", VERIFY_AGAIN, UNVERIFIED)
        return Permit(True)

    def _word(self, fault: Fault, now: Callable[[], float]) -> Word:
        with self._lock:
            at, why = self._mute.get(fault.host, (-MUTE, Unknown("")))
        if 0.0 <= now() - at < MUTE:
            return why
        word = self._witnesses.word(fault)
        with self._lock:
            if not isinstance(word, Unknown):
                self._mute.pop(fault.host, None)
            elif word.again is None:
                self._mute = {host: one for host, one in self._mute.items() if 0.0 <= now() - one[0] < TOLD_OF}
                self._mute[fault.host] = (now(), word)
        return word

    @property
    def mute(self) -> dict[str, str]:
        """Hosts whose workers did not answer when they were asked last, of late, and why not."""
        with self._lock:
            return {host: word.why for host, (_at, word) in self._mute.items()}

    def _weigh(self, fault: Fault, target: str, now: float, look_only: bool = False) -> Permit:
        def work(connection: sa.Connection) -> Permit:
            if not look_only:
                recovery_places.lock(connection, fault.fault_id)
            known = recovery_places.known(connection, fault, self._limits, now)
            permit = recovery_limits.weigh(known, self._limits, now)
            if permit.seconds is not None:
                recovery_places.wait(connection, fault, target, permit.why, now)
            elif permit.granted and not look_only:
                recovery_places.take(connection, fault, target, known.has_place, now)
            return permit

        permit = self._database.run(work)
        if permit.granted and not look_only:
            crashpoint.reach("consumer.granted")
        if not look_only and permit.withheld == OBSERVE:
            what = (fault.recovery_attempt, fault.instance_uuid, fault.host, target)
            LOG.warning("recovery %d of instance %s on %s would have been begun by %s: observe_only", *what)
        self._say(permit, fault, now)
        return permit

    def _say(self, permit: Permit, fault: Fault, now: float) -> None:
        """Once when it begins to hold, and once when it has not for a while. A pause is said by `pause_watch`."""
        if permit.seconds is not None and permit.withheld != PAUSED:
            if self.held is None:
                who = (fault.instance_uuid, fault.host)
                LOG.warning("recoveries are %s; the first is that of instance %s on %s", permit.why, *who)
            self.held, self._held_at = permit.why, now
        elif self.held is not None and now - self._held_at > QUIET:
            LOG.info("recoveries are not held any more")
            self.held = None


def _unverified(word: Unknown) -> Permit:
    return Permit(False, f"not confirmed: {word.why}", word.again or VERIFY_AGAIN, UNVERIFIED)


def _outdated(asked: Fault, latest: Fault) -> str | None:
    """Why this recovery is not wanted any more."""
    if latest.state is FaultState.CLEARED:
        return f"the fault was cleared meanwhile ({latest.resolution})"
    if latest.drill:
        return "it is a drill"
    if latest.recommended_action != "recover":
        withheld = f" (withheld: {latest.withheld})" if latest.withheld else ""
        return f"no recovery is recommended any more{withheld}"
    if latest.recovery_attempt != asked.recovery_attempt:
        return f"recovery attempt {latest.recovery_attempt} took the place of attempt {asked.recovery_attempt}"
    return None
