"""Who else is asked about a guest beside itself: the host, its other channel; and who is excused meanwhile.

What they have said is the evidence; what it proves is `verdict`'s, and what follows, `investigation`'s. Belongs to a
monitor; times are seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from vmhb_worker.core import events as ev
from vmhb_worker.core import lifecycle
from vmhb_worker.core.answers import Answers
from vmhb_worker.core.application_channel import Application
from vmhb_worker.core.ask_schedule import full_threshold
from vmhb_worker.core.consequences import Begin, Consequence, End, Found, NewEvidence
from vmhb_worker.core.domain_life import DomainLife
from vmhb_worker.core.evidence import Balloon, Evidence, Reading, unavailable
from vmhb_worker.core.excuses import InPlace, nobody_tells, seen_since
from vmhb_worker.core.host_pressure import UNKNOWN
from vmhb_worker.core.silences import JOB, Silence, Silences
from vmhb_worker.core.suspicion import JOB_BELIEVED, JOB_POLL, Suspicion
from vmhb_worker.core.transitions import Input, State
from vmhb_worker.core.verdict import Trigger

#: The agent is given this long to show that the guest lives (seconds). libvirt counts whole ones; agents answer in
#: milliseconds, and a verdict waits for this one: it comes about as soon as the balloon's answer, whatever the policy.
OTHER_TIMEOUT = 3
#: It is waited for no longer than this (seconds): it may have to wait for a place, or for somebody else's command.
OTHER_PATIENCE = 15.0
#: libvirtd, asked four times a second, has answered a question put to it within so many seconds: it serves.
FRESH_ENOUGH = 2.0
_NO_OTHER = unavailable("the instance has no other channel")


@dataclass(slots=True)
class OtherChannel:
    """What the agent channel of an instance is asked when its application is silent. present: there is one."""

    present: bool = False
    out: bool = False
    until: float = math.inf  # its answer is waited for until then
    said: Reading = _NO_OTHER

    def ask(self, now: float) -> bool:
        """To be asked now? Not while an earlier question is out."""
        if not self.present or self.out:
            return False
        self.out, self.until = True, now + OTHER_PATIENCE
        return True

    def answered(self, answers: bool | None, why: str, now: float) -> None:
        """It came to an end. answers: None where that tells nothing."""
        self.out, self.until = False, math.inf
        self.said = unavailable(why) if answers is None else Reading(answers, now)

    def overdue(self, now: float) -> bool:
        """Has it been waited for long enough? True once."""
        if now < self.until:
            return False
        self.until = math.inf
        self.said = unavailable("there was no chance to ask")
        return True

    def is_there(self, present: bool) -> None:
        """Has it one?"""
        if self.present is not present:
            self.present = present
            self.forget()

    def no_place(self) -> None:
        """Too many wait to be asked: it is not waited for."""
        if self.out:
            self.until = math.inf
            self.said = unavailable("no free place: too many guests wait to be asked")

    @property
    def pending(self) -> bool:
        """Is its answer still waited for?"""
        return self.until < math.inf

    def forget(self) -> None:
        """What it said is no evidence any more."""
        self.said = unavailable("not asked") if self.present else _NO_OTHER


class Witnesses:
    """Of one guest. host: what is asked of it. in_place: who is excused, so that the host is asked instead. strain: the
    host's own pressure at the last look.

    Reads what libvirt told, what the guest answered, and its application channel; changes none of it, but that the
    silence of a job of libvirt's lasts as long as that is found to be on.
    """

    __slots__ = ("answers", "application", "host", "in_place", "life", "other", "silences", "strain", "system")

    def __init__(
        self, host: Suspicion, silences: Silences, life: DomainLife, answers: Answers, application: Application
    ) -> None:
        self.host = host
        self.in_place = InPlace()
        self.other = OtherChannel()
        self.system = application.system
        self.strain = UNKNOWN
        self.silences = silences
        self.life = life
        self.answers = answers
        self.application = application

    def gathered(self, now: float) -> Evidence:
        """All that is known, as a fault tells it."""
        life, other = self.life, self.other
        port = life.port()
        gathered = self.host.gathered(port, life.panic(), life.watchdog(), self.system.reading(), self.answers.last_ack)
        seen = gathered.balloon
        if seen.value is Balloon.NO_ANSWER and (seen.at or 0.0) < life.reopened_at:
            gathered = replace(gathered, balloon=unavailable("somebody in it has opened its port since it was asked"))
        return replace(
            gathered,
            process=life.end.reading(gathered.process),
            connection=self.application.connection(now),
            other_channel=other.said,
            memory=life.memory.reading(),
            host=self.strain.reading(),
            pending=gathered.pending or other.pending,
        )

    # -- the host is asked ---------------------------------------------------------------------------------------

    def suspect(self, now: float) -> list[Consequence]:
        """The guest is suspected from now on: whoever can tell is asked."""
        looks: list[Consequence] = []
        if self.in_place.excuse is None:
            looks = self.look_first(now)
        elif not self.host.pending and (now >= self.host.may_probe_at or not self._is_seen(now)):
            looks = self._look_into(now)
        self.other.forget()
        return looks + self.ask_other(now)

    def look_first(self, now: float) -> list[Consequence]:
        """What was found before is none of this trouble's."""
        return looks_of(self.host.begin(now, left=self.life.port_open is False))

    def look_again(self, now: float) -> list[Consequence]:
        """It may have been too early, or another is dead by now."""
        return looks_of(self.host.again(now, left=self.life.port_open is False))

    def _look_into(self, now: float) -> list[Consequence]:
        """It is the same trouble as when it was looked at last; or this is the first look."""
        return self.look_again(now) if self._is_seen(now) else self.look_first(now)

    def _is_seen(self, now: float) -> bool:
        """Has the host been asked about this trouble?"""
        return seen_since(self.gathered(now), self.answers.answered_until)

    def ask_other(self, now: float) -> list[Consequence]:
        """Somebody else in the guest may answer."""
        return [ev.AskOther(OTHER_TIMEOUT)] if self.application.speaks and self.other.ask(now) else []

    def looked(self, event: ev.Looked, now: float) -> list[Consequence]:
        """A look came to its end."""
        if isinstance(event.look, ev.LookJob) and JOB in self.silences:
            return self._job_polled(event.answer, now)
        answered = looks_of(self.host.answered(event.look, event.answer, now))
        if self.host.job is not None:
            return [*answered, *self._job_begun(self.host.job, now)]
        learnt = [ev.Remember()] if self.host.learn_balloon() else []
        return [*answered, *learnt, NewEvidence()]

    def _job_begun(self, operation: str, now: float) -> list[Consequence]:
        ended = looks_of(self.host.end())
        self.host.job_poll_at = now + JOB_POLL
        return [*ended, Begin(JOB, _job(operation, now))]

    def _job_polled(self, answer: ev.Answer, now: float) -> list[Consequence]:
        """A job of libvirt's was on: is it still?"""
        operation = answer.operation if isinstance(answer, ev.Job) else None
        if isinstance(answer, ev.Job) and (operation is None or not lifecycle.excuses(operation)):
            self.host.job_poll_at = None
            return [End((JOB,))]
        if operation is not None:
            self.silences.begin(JOB, _job(operation, now))
        self.host.job_poll_at = now + JOB_POLL
        return []

    # -- in place of one who is excused --------------------------------------------------------------------------

    def host_at(self, state: State) -> float:
        """When the host is asked about one who is excused, or it is to be told that nobody can be asked."""
        watched = state in (State.ALIVE, State.MISSING) and not self.silences.everybody
        if self.in_place.excuse is None or not watched:
            return math.inf
        if self.host.pending and not self.host.deferred:
            return math.inf  # what it says is on its way
        return min(self._look_at(), self._nobody_at(), self.in_place.dead_at)

    def ask_host(self, now: float) -> list[Consequence]:
        """In place of one who is excused, if it is time."""
        if now < self._look_at():
            return []
        looks = self._look_into(now)
        self.in_place.look_at = self.host.next_at
        return looks

    def tick_excused(self, heard: float, now: float) -> list[Consequence]:
        """It is time to ask the host, or to say that nobody can be asked. heard: see `Tick`."""
        looks = self.ask_host(now)
        if now >= self.in_place.dead_at:
            self.in_place.dead_at = math.inf
            looks.append(NewEvidence())
        if now < self._nobody_at():
            return looks
        self.in_place.nobody_seen_at = now
        # A libvirtd that does not answer is no trouble of the guest's.
        if now - heard < FRESH_ENOUGH and nobody_tells(self.gathered(now)):
            return [*looks, Found(Input.FOUND_DEAD, Trigger.UNHEARD)]
        return looks

    def _look_at(self) -> float:
        return math.inf if self.host.probing else max(self.in_place.look_at, self.host.may_probe_at)

    def _nobody_at(self) -> float:
        answers, threshold = self.answers, full_threshold(self.application.in_force)
        heard = self.in_place.since if answers.last_ack is None else answers.last_ack
        return self.in_place.nobody_at(max(heard, answers.undisturbed_since), threshold)

    def rebooted(self) -> None:
        """Another boot."""
        self.in_place.end()
        self.host.rebooted()
        self.system.rebooted()


def looks_of(looks: list[ev.Look]) -> list[Consequence]:
    """To be taken."""
    return [ev.LookAt(look) for look in looks]


def _job(operation: str, now: float) -> Silence:
    return Silence(f"libvirt job: {operation}", now + JOB_BELIEVED)
