"""The course of one instance's monitoring: the state that it is in, and what is done on the way from one to the next.

Inputs come in, as `monitor` has made them of what happened; the table of `transitions` says what follows, and the acts
are here. So is what the parts want done that is not their own: see `consequences`. The parts call nobody above them,
and nothing in here knows what has happened. Belongs to a monitor; times are seconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import HeartbeatPolicy
from vmhb_worker.core import consequences as co
from vmhb_worker.core import events as ev
from vmhb_worker.core.absence import GOODBYE
from vmhb_worker.core.answers import Answers
from vmhb_worker.core.application_channel import Application
from vmhb_worker.core.asking import Asking
from vmhb_worker.core.domain_life import DomainLife
from vmhb_worker.core.excuses import Excused
from vmhb_worker.core.freeze import Freeze
from vmhb_worker.core.graces import Graces
from vmhb_worker.core.guest_system import GuestSystem
from vmhb_worker.core.health_source import Checkup
from vmhb_worker.core.instance_state import Memory, Timing
from vmhb_worker.core.investigation import Investigation
from vmhb_worker.core.silences import JOB, PASSES, PAUSED, POSTCOPY, Silence, Silences
from vmhb_worker.core.suspicion import Suspicion
from vmhb_worker.core.transitions import TRANSITIONS, Act, Input, State
from vmhb_worker.core.verdict import Trigger
from vmhb_worker.core.witnesses import Witnesses

#: The silences that end with the domain's life.
OF_THIS_LIFE = (PAUSED, PASSES, POSTCOPY, JOB, GOODBYE)


class Course:
    """Of one instance. out: the effects of the event that is being handled, so far."""

    __slots__ = (
        "answers",
        "application",
        "asking",
        "case",
        "checkup",
        "freeze",
        "graces",
        "host",
        "in_place",
        "life",
        "out",
        "silences",
        "state",
        "witnesses",
    )

    def __init__(
        self, uuid: str, policy: HeartbeatPolicy, timing: Timing, memory: Memory, now: float, nonce: Callable[[], str]
    ) -> None:
        """nonce: see `Application`."""
        self.out: list[ev.Effect] = []
        self.silences = Silences(now)
        self.answers = Answers(now)
        self.application = Application(policy, timing, memory.absence, nonce, GuestSystem())
        self.graces = Graces(timing, lambda: self.application.in_force, memory, now)
        self.life = DomainLife(self.silences, self.graces, now)
        self.asking = Asking(uuid, self.application, self.answers, self.life, now)
        self.host = Suspicion(timing.probe_interval, memory.balloon_seen)
        self.witnesses = Witnesses(self.host, self.silences, self.life, self.answers, self.application)
        self.in_place = self.witnesses.in_place
        self.case = Investigation(self.witnesses, self.graces, memory.standing, now)
        self.checkup = Checkup(policy.health_check and self.case.unhealthy)
        self.freeze = Freeze(lasts=self.case.frozen)
        self.state = self._first_state(memory)
        self._take_up(memory, now)

    def _first_state(self, memory: Memory) -> State:
        if not memory.running:
            return State.GONE
        return State.ALIVE if memory.established and memory.waited is None else State.WAITING

    def _take_up(self, memory: Memory, now: float) -> None:
        """What an earlier life of the worker had granted, or had been told."""
        for key, silence in self.application.leaves.resumed(now).items():
            self.silences.begin(key, silence)
        if memory.standing is None or self.graces.waiting_since is not None:
            return
        if memory.standing.panic is not None:
            self.life.resume(memory.standing.panic, now)
        if memory.standing.cause is Cause.MEMORY_FAILURE:
            self.life.memory.resume()

    # -- the state, and the acts ---------------------------------------------------------------------------------

    def apply(self, found: Input, now: float, trigger: Trigger | None = None) -> None:
        """An input. trigger: for what it is accused, if it is."""
        self.state, act = TRANSITIONS[self.state][found]
        if act is Act.ACCUSE and trigger is not None:
            self.case.trigger = trigger
        _ACTS[act](self, now)

    def establish(self, now: float) -> None:
        """The first acknowledgement of this boot."""
        first = self.graces.established_now()
        self.asking.established(now)
        self.out += [ev.Established(first), ev.Remember()]
        self._calm(now)

    def _calm(self, now: float) -> None:
        self.look(self.host.drop())

    def _suspect(self, now: float) -> None:
        self.answers.suspected_at = now
        self.follow(self.witnesses.suspect(now), now)

    def _accuse(self, now: float) -> None:
        self.answers.accused(now)
        if self.answers.suspected_at is None and self.case.trigger in (Trigger.SILENT, Trigger.PANIC):
            self._suspect(now)
        elif self.answers.suspected_at is None:
            self.answers.suspected_at = now
        elif now >= self.case.again_at(self.state):  # what was seen at its first miss is too old to judge by
            self.look_again(now)
        if self.life.memory.failed:
            self.case.tell_anew()  # what else is wrong with it
        self.judge(now)

    def _await(self, now: float) -> None:
        self.look(self.host.drop())
        self.host.baseline_at = None
        self._renew(now)
        self.graces.boots(now)
        self.asking.await_boot(now)
        self.out.append(ev.Remember())

    def _renew(self, now: float) -> None:
        self.look(self.host.end_but_baseline())
        self.answers.renewed()
        self.asking.beats.void(now)
        self.asking.beats.catch_up(now)

    def leave(self, now: float) -> None:
        """It does not run: there is nobody to be watched."""
        self.host.stopped()
        self.life.memory.over()
        self.graces.end()
        self.answers.misses = 0
        self.answers.suspected_at = self.life.port_open = None
        self.withdraw()
        self.asking.beats.void(now)
        self.out.append(ev.Remember())

    def _depart(self, now: float) -> None:
        self.leave(now)
        if self.case.standing is not None:
            self.follow(self.case.acquit("moved"), now)

    def _nothing(self, now: float) -> None:
        pass

    # -- what the parts want done --------------------------------------------------------------------------------

    def follow(self, consequences: Iterable[co.Consequence], now: float) -> None:
        """Carry it out, in this order."""
        for one in consequences:
            if isinstance(one, co.Own):
                CARRIED_OUT[type(one)](self, one, now)
            else:
                self.out.append(one)

    def _begin(self, begin: co.Begin, now: float) -> None:
        self.begin(begin.key, begin.silence, now)

    def _end(self, end: co.End, now: float) -> None:
        self.end(*end.keys, now=now)

    def _drop(self, drop: co.Drop, now: float) -> None:
        self.silences.end(*drop.keys)

    def _found(self, found: co.Found, now: float) -> None:
        self.apply(found.what, now, found.trigger)

    def _excuse(self, excuse: co.Excuse, now: float) -> None:
        self.excuse(excuse.excuse, now, now)

    def _excuse_anew(self, _anew: co.ExcuseAnew, now: float) -> None:
        self.in_place.end()
        self.excuse_still(now)

    def _reboot(self, _reboot: co.Reboot, now: float) -> None:
        self.reboot(now)

    def _raise(self, accuse: co.Accuse, now: float) -> None:
        answers, action = self.answers, self.application.policy.action
        counted = answers.misses, answers.skipped, answers.suspected_at, answers.last_ack
        self.out.append(ev.RaiseFault(accuse.verdict, *counted, action, self.checkup.report))

    def _accuse_of_memory(self, _broken: co.MemoryIsBroken, now: float) -> None:
        if self.state is not State.GONE:
            self.answers.accused(now)
            self.follow(self.case.accuse_of_memory(self.state, now), now)

    def _hear_evidence(self, _new: co.NewEvidence, now: float) -> None:
        self.judge_again(now)

    def _ask_soon(self, _soon: co.AskSoon, now: float) -> None:
        self.asking.soon(now)

    def _ask_now(self, ask: co.AskNow, now: float) -> None:
        if self.silences.asking and self.state is not State.GONE:
            self.ask(now, ask.pace)

    def _challenge_at_once(self, _at_once: co.ChallengeAtOnce, now: float) -> None:
        self.challenge_at_once(now)

    def _quicken(self, _quicken: co.Quicken, now: float) -> None:
        self.asking.quicken(now)

    # -- another boot --------------------------------------------------------------------------------------------

    def reboot(self, now: float) -> None:
        """What runs is another boot."""
        self.appears(now)
        self.end(*OF_THIS_LIFE, now=now)
        if self.application.rebooted():
            self.asking.begin_anew(now)
        self.checkup.rebooted()
        self.freeze.rebooted()
        self.life.rebooted(now)
        self.graces.answered()
        self.witnesses.rebooted()
        self.apply(Input.BOOT, now)

    def appears(self, now: float) -> None:
        """While it did not run here, there was nobody to be watched."""
        if self.state is State.GONE:
            self.life.appears(now)

    # -- silences, and who is excused ----------------------------------------------------------------------------

    def begin(self, key: str, silence: Silence, now: float) -> None:
        """A silence begins, or goes on for another reason or time."""
        if not self.silences:
            self.silences.since = now
        self.silences.begin(key, silence)
        if self.silences.everybody:
            self.in_place.end()
        self.look(self.host.end())  # a kernel that stands still answers no probe either
        self.apply(Input.HUSH, now)
        if not silence.ask:
            self.withdraw()

    def end(self, *keys: str, now: float) -> None:
        """Of these; if they were the last, it is watched again."""
        if self.silences.end(*keys):
            self.silence_over(now)

    def silence_over(self, now: float) -> None:
        """There is none any more: it is granted what it was owed before."""
        self.host.stood_still(now)
        self.host.job_poll_at = None
        self.disturbed(now)
        if self.case.pending:
            self.host.interrupted()
        self.apply(Input.HUSH, now)
        self.graces.put_off(now - self.silences.since, now)
        self.asking.beats.catch_up(now)
        self.asking.soon(now)

    def disturbed(self, now: float) -> None:
        """That nobody answered until now has other reasons."""
        self.answers.disturbed(now)
        self.in_place.unasked = 0
        self.case.pending_since = now

    def excuse(self, excuse: Excused, since: float, now: float) -> None:
        """Whoever is to acknowledge cannot be expected to. The host is asked instead, until it can."""
        self.in_place.begin(excuse, since, now)
        self.follow(self.case.hear_host(self.state, now), now)
        if now >= self.witnesses.host_at(self.state):
            self.follow(self.witnesses.ask_host(now), now)

    def excuse_still(self, now: float) -> None:
        """What excused everybody is over: whoever is to acknowledge has left, or cannot be asked, all the same."""
        speaks = self.application.speaks
        if GOODBYE in self.silences:
            self.excuse(Excused.GOODBYE, now, now)
        elif speaks and not self.application.connected:
            self.excuse(Excused.NOT_CONNECTED, now, now)
        elif not speaks and self.life.port_open is False:
            self.excuse(Excused.PORT_CLOSED, now, now)

    # -- asking, and judging -------------------------------------------------------------------------------------

    def ask(self, now: float, pace: ev.Pace | None = None) -> None:
        """The guest itself."""
        waits = self.state is State.SILENT and self.case.trigger is Trigger.SILENT and self.application.speaks
        if waits and not self.answers.unheard and self.asking.unheard(now):
            self.answers.unheard = True
            self.judge(now)
        asked = self.asking.ask(self.state, now, pace)
        if asked is not None:
            self.out.append(asked)

    def ask_again(self, now: float) -> None:
        """A silent guest is asked ever more rarely; when it is due."""
        if self.state is State.SILENT and now >= self.asking.challenges.next_at:
            self.ask(now)

    def challenge_at_once(self, now: float) -> None:
        """Somebody may be there who was not there before."""
        self.application.window.renew()
        self.asking.soon(now)
        if self.silences.asking and self.state is not State.GONE:
            self.ask(now)

    def judge(self, now: float) -> None:
        """What it looks like now."""
        self.follow(self.case.judge(self.state, now), now)

    def judge_again(self, now: float) -> None:
        """There is evidence that there was not before."""
        self.follow(self.case.judge_again(self.state, now), now)

    def look_again(self, now: float) -> None:
        """What was seen is too old to judge by."""
        self.follow(self.witnesses.look_again(now), now)
        self.follow(self.witnesses.ask_other(now), now)

    def look(self, looks: list[ev.Look]) -> None:
        """Have the host asked."""
        self.out += [ev.LookAt(look) for look in looks]

    def withdraw(self) -> None:
        """Nobody is to be asked any more."""
        if self.asking.challenges.out or self.witnesses.other.out:
            self.out.append(ev.Withdraw())


_ACTS: dict[Act, Callable[[Course, float], None]] = {
    Act.NOTHING: Course._nothing,
    Act.ESTABLISH: Course.establish,
    Act.CALM: Course._calm,
    Act.SUSPECT: Course._suspect,
    Act.COUNT: Course._nothing,
    Act.ACCUSE: Course._accuse,
    Act.AWAIT: Course._await,
    Act.RENEW: Course._renew,
    Act.LEAVE: Course.leave,
    Act.DEPART: Course._depart,
}

CARRIED_OUT: dict[type[Any], Callable[[Course, Any, float], None]] = {
    co.Begin: Course._begin,
    co.End: Course._end,
    co.Drop: Course._drop,
    co.Found: Course._found,
    co.Excuse: Course._excuse,
    co.ExcuseAnew: Course._excuse_anew,
    co.Reboot: Course._reboot,
    co.Accuse: Course._raise,
    co.MemoryIsBroken: Course._accuse_of_memory,
    co.NewEvidence: Course._hear_evidence,
    co.AskSoon: Course._ask_soon,
    co.AskNow: Course._ask_now,
    co.ChallengeAtOnce: Course._challenge_at_once,
    co.Quicken: Course._quicken,
}
