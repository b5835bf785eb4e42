"""The life of one instance: events in, effects out. Here it is decided that an instance is dead.

What follows what stands in `transitions`; which beats were missed, in `beats`; who need not answer, in `excuses`. What
the guest answered stands in `answers`, what its application says in `application_channel`, what libvirt told in
`domain_life`. Who else is asked, and what they found, is `witnesses`; what that makes of the guest, and whether it is
final, `investigation`; which cause it is, `verdict`. This module turns what happened into the inputs of that table;
what is done then, and all the parts together, is `course`. It must not know of threads, sockets, libvirt, the wall
clock, or how a fault is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import HeartbeatPolicy
from vmhb_common.model.silences import LONG_SILENCE
from vmhb_worker.core import events as ev
from vmhb_worker.core import protocol
from vmhb_worker.core.absence import GOODBYE, MAINTENANCE, long_silence
from vmhb_worker.core.ask_schedule import full_threshold
from vmhb_worker.core.baselines import Baselines
from vmhb_worker.core.beats import NOTHING, Judged
from vmhb_worker.core.brake import Member
from vmhb_worker.core.course import OF_THIS_LIFE, Course
from vmhb_worker.core.domain_life import TOLD, Known, Told
from vmhb_worker.core.doubt import LATE
from vmhb_worker.core.excuses import OF_FAILURE, Excused, remark
from vmhb_worker.core.guest_exec import Outcome
from vmhb_worker.core.health_absence import Absent
from vmhb_worker.core.health_source import said_with
from vmhb_worker.core.health_watch import Turn
from vmhb_worker.core.instance_state import Memory, Standing, Timing
from vmhb_worker.core.investigation import CRASH_LOOPS
from vmhb_worker.core.silences import JOB, PAUSED, STATES_OF_LIBVIRT, Silence
from vmhb_worker.core.suspicion import JOB_POLL
from vmhb_worker.core.transitions import Input, State
from vmhb_worker.core.verdict import Trigger

#: So many acknowledgements in a row, and a fault that came before has ended: what is less may be told.
STEADY = 5


class Monitor:
    """One instance's monitor: what happened becomes inputs of its course. Belongs to one thread; `now` never goes back.

    answers: what its guest answered. life: what libvirt told. silences: why it need not answer. case: what it is found
    to be. system: what runs in it.
    """

    __slots__ = (
        "_application",
        "_asking",
        "_checkup",
        "_course",
        "_freeze",
        "_graces",
        "_host",
        "_in_place",
        "_leaves",
        "_witnesses",
        "answers",
        "case",
        "life",
        "silences",
        "system",
        "uuid",
    )

    def __init__(
        self, uuid: str, policy: HeartbeatPolicy, timing: Timing, memory: Memory, now: float, nonce: Callable[[], str]
    ) -> None:
        """nonce: makes a new one for the application channel at each call, that no guest can foresee."""
        self.uuid = uuid
        self._course = course = Course(uuid, policy, timing, memory, now, nonce)
        self._application, self._leaves = course.application, course.application.leaves
        self._asking = course.asking
        self._checkup = course.checkup
        self._freeze = course.freeze
        self._graces = course.graces
        self._host = course.host
        self._in_place = course.in_place
        self._witnesses = course.witnesses
        self.answers = course.answers
        self.case = course.case
        self.life = course.life
        self.silences = course.silences
        self.system = course.application.system

    # -- the outside ---------------------------------------------------------------------------------------------

    def handle(self, event: ev.Event, now: float) -> list[ev.Effect]:
        """What happened, and what is to be done about it, in this order."""
        self._course.out = []
        everybody = self.silences.everybody
        _HANDLERS[type(event)](self, event, now)
        if everybody and not self.silences.everybody:
            self._course.excuse_still(now)
        return self.decided()

    def decided(self) -> list[ev.Effect]:
        """What the last event had led to so far, where `handle` raised and returned nothing; once."""
        out, self._course.out = self._course.out, []
        return out

    def deadline(self) -> float:
        """When the next `Tick` is due."""
        at, state = self.silences.until, self._course.state
        if state is State.GONE:
            return at
        grace = self._told_ended_at() if self.silences.on else self._graces.deadline()
        at = min(at, grace, self._host.deadline(), self._witnesses.other.until, self.life.end.due_at)
        if self._in_place.excuse is not None:
            at = min(at, self._witnesses.host_at(state))
        if state is State.SILENT:
            at = min(at, self.case.again_at(state))
            if not self._asking.challenges.out and self.silences.asking:
                at = min(at, self._asking.challenges.next_at)
        elif self.silences.asking:
            at = min(at, self._asking.beats.deadline())
        return at

    @property
    def state(self) -> State:
        """Where it is: see `transitions`."""
        return self._course.state

    @property
    def policy(self) -> HeartbeatPolicy:
        """As it is to be watched."""
        return self._application.policy

    @property
    def in_force(self) -> HeartbeatPolicy:
        """The policy, with the shorter times that the guest has asked for."""
        return self._application.in_force

    def is_among(self, baselines: Baselines) -> None:
        """It is one of those that share these."""
        self._host.baselines_of_all = baselines

    def has_other_channel(self, present: bool) -> None:
        """Has it an agent channel beside the one that it is judged by?"""
        self._witnesses.other.is_there(present)

    @property
    def unreachable(self) -> str:
        """Why it cannot be asked; "" where it can, or does not run."""
        asked = self._application.speaks and self._course.state is not State.GONE
        return self._application.why if asked and not self._application.connected else ""

    def owes(self, now: float) -> bool:
        """Would a `Tick` now find a beat missed? Then all that its guest has said must have been read."""
        return self._application.speaks and self._asking.beats.due(now)

    @property
    def unsettled(self) -> bool:
        """Is it other than simply alive, so that libvirt is to be read again now and then? An event may be lost."""
        if self._course.state is State.GONE:
            return False
        wanting = self._course.state in (State.MISSING, State.SILENT) or self.life.port_open is False
        return wanting or bool(self.answers.unasked) or bool(self.silences.keys() & STATES_OF_LIBVIRT)

    @property
    def established(self) -> bool:
        """Has it ever acknowledged?"""
        return self._graces.established

    @property
    def orphaned(self) -> bool:
        """Is it paused, and libvirt does not say why?"""
        return self.life.orphaned

    @property
    def port_open(self) -> bool | None:
        """Of the channel that it is judged by; None: not told."""
        return self.life.port_open

    @property
    def probing(self) -> bool:
        """Is its balloon's period changed, or about to be?"""
        return self._host.probing

    @property
    def balloon_seen(self) -> bool:
        """Has its balloon answered in this boot?"""
        return self._host.balloon_seen

    @property
    def balloon_period(self) -> int | None:
        """The period of the balloon's statistics as Nova wants it, seconds; None: there is no balloon."""
        return self._host.balloon_period

    @balloon_period.setter
    def balloon_period(self, seconds: int | None) -> None:
        self._host.balloon_period = seconds

    def memory(self, now: float) -> Memory:
        """What must outlive the worker."""
        waited = None if self._graces.waiting_since is None else now - self._graces.waiting_since
        running, absence = self._course.state is not State.GONE, self._leaves.absence
        return Memory(running, self._graces.established, waited, self.balloon_seen, self.case.standing, absence)

    @property
    def stands(self) -> bool:
        """Is what it was accused of still so? Not while it boots, is excused, or answers and was accused of silence."""
        return self.case.stands(self._course.state)

    @property
    def last_ack(self) -> float | None:
        """When it acknowledged last; None: not in this life of the worker."""
        return self.answers.last_ack

    @property
    def misses(self) -> int:
        """Beats since then that it did not answer."""
        return self.answers.misses

    @property
    def standing(self) -> Standing | None:
        """The verdict that stands: a fault is open for it."""
        return self.case.standing

    @property
    def last_miss(self) -> float | None:
        """When it was last found wanting."""
        return self.answers.last_miss

    @property
    def answered_since_miss(self) -> bool | None:
        """Has it acknowledged since its last miss? None: it has missed nothing in this life of the worker."""
        return self.answers.answered_since_miss

    def well(self, acks: int, now: float) -> bool:
        """Has it acknowledged so often in a row, and over two intervals, where it is more than once?"""
        unaccused = self._course.state is State.ALIVE and self.case.standing is None
        return unaccused and self.answers.steady(acks, self.in_force.interval, now)

    def silent_since(self, asked: float, now: float) -> bool:
        """Was it asked anew since then, and has not answered in time?"""
        return self.case.silent_since(asked, self._course.state, now)

    def as_member(self, project: str | None) -> Member:
        """How the brake sees it. project: the instance's, as Nova names it."""
        return Member(project, self.case.crowd_since(self._course.state), self.answers.last_ack, self.policy.interval)

    def told(self, now: float) -> dict[str, Any]:
        """For people, and for whoever is about to recover it: everything that explains why it is judged as it is."""
        answers = self.answers
        return {
            "state": self._state_told(now),
            "misses": answers.misses,
            "skipped": answers.skipped,
            "established": self._graces.established,
            "balloon_answers": self.balloon_seen,
            "last_ack_age": None if answers.last_ack is None else round(now - answers.last_ack, 1),
            "not_asked": answers.unasked or None,
            "answered_since_miss": answers.answered_since_miss,
            "silences": self.silences.told(),
            "excused": None if self._in_place.excuse is None else self._in_place.excuse.value.why,
            "evidence": self._witnesses.gathered(now).told(now) if answers.suspected_at is not None else None,
            "frozen_for": self._freeze.told(now),
            "memory_failures": self.life.memory.told(),
            "host_pressure": self._witnesses.strain.told(now),
            "application": self._application.told(now) if self._application.speaks else None,
            "health": self._checkup.told(now) if self.policy.health_check else None,
        }

    def _state_told(self, now: float) -> str:
        """Never alive, of one that has not been heard for longer than a silence would take to be found, or whose QEMU
        has ended."""
        unheard = now > self.answers.heard_at + full_threshold(self.in_force) and not self.silences.on
        if self._course.state is State.ALIVE and (unheard or self.life.end.suspected):
            return State.MISSING.value
        return self._course.state.value

    # -- acknowledgements ----------------------------------------------------------------------------------------

    def _on_asked(self, event: ev.Asked, now: float) -> None:
        if not self._application.speaks:  # else its agent was, as a witness
            self._asking.left(now)

    def _on_acked(self, event: ev.Acked, now: float) -> None:
        if self._asking.challenges.left_at < self.life.booted_at:  # an answer from before the boot
            self._on_ask_failed(ev.AskFailed(ev.Failure.UNREACHABLE), now)
        else:
            self._acked(event.rtt, now)

    def _acked(self, rtt: float, now: float) -> None:
        self._asking.challenges.answered(rtt)
        self._leaves.overrun, self.case.stretched = False, 0
        self.answers.heard()
        self._in_place.end()
        self._in_place.unasked = 0
        self._asking.beats.acked()
        if self._course.state is State.GONE:
            return
        if self._leaves.away:
            self._back(now)
        self.answers.acked(now)
        self._graces.answered()
        # In one turn of the loop, requests leave after what was reported has been taken.
        if self.life.panicked_at is not None and self._asking.challenges.left_at >= self.life.panicked_at:
            self.life.survived()
        self._port(True, now)
        self._course.apply(Input.ACK, now)
        self._asking.beats.catch_up(now)
        if self._graces.waiting_since is not None:  # accused before its first acknowledgement
            self._course.establish(now)
        if not self._host.baselines and self._host.balloon_period is not None:
            self._baseline(now)
        if self.case.standing is not None:
            self._clear(now)
        if self._freeze.too_long(now) and self.answers.steady(STEADY, self.in_force.interval, now):
            self._course.follow(self.case.accuse_of_freeze(now), now)
        if not self.silences.on and (not self._application.speaks or self._witnesses.other.present):
            self._ask_agent(now)

    def _back(self, now: float) -> None:
        """It answers: it has not left. In maintenance it need not go on doing so."""
        self._leaves.back()
        self._course.end(GOODBYE, now=now)
        self._leaves.away = self.silences.on
        if not self._leaves.away:
            if self._graces.established:  # else that is what is told
                self._course.out.append(ev.Returned())
            self._course.out.append(ev.Remember())

    def _clear(self, now: float) -> None:
        """It answers: that ends a silence, and not what it says of itself, nor what it works with."""
        if self.life.panicked_at is not None:
            return  # it was asked before it panicked
        if self.life.memory.failed:
            self._course.follow(self.case.answers_all_the_same(self._course.state, now), now)
        elif self._checkup.bad:
            if not self.case.unhealthy:
                self._accuse_of_health(now)
        elif not (self.case.frozen and self._freeze.too_long(now)):
            # An unhealthy fault that is nobody's to clear: health is not asked for any more.
            self._course.follow(self.case.acquit("unmonitored" if self.case.unhealthy else "recovered"), now)

    def _ask_agent(self, now: float) -> None:
        """It has just answered, and may be asked something more."""
        if self.system.asking or self._freeze.asking:
            return
        speaks = self._application.speaks
        asked = (None if speaks else self.system.question()) or self._freeze.question(now)
        if asked is None and self.policy.health_check and not speaks:
            asked = self._checkup.step(now)
        if asked is not None:
            self._course.out.append(asked)

    def _on_verify(self, event: ev.Verify, now: float) -> None:
        """Ask it anew. Its kernel is asked every `probe_interval` as it is."""
        self.answers.verify_at = now
        self._asking.soon(now)
        if self.silences.asking:
            self._course.ask_again(now)

    # -- challenges that ended otherwise -------------------------------------------------------------------------

    def _on_ask_failed(self, event: ev.AskFailed, now: float) -> None:
        self._asking.challenges.failed(silent=event.failure is ev.Failure.NO_ANSWER)
        judged = self._course.state is State.SILENT
        self.answers.unheard = self.answers.unheard or self._asking.reached(event.failure, now)
        excuse = OF_FAILURE[event.failure]
        was_unasked, self.answers.unasked = self.answers.unasked, "" if excuse is None else event.failure.value
        if event.failure is ev.Failure.NO_ANSWER:
            self._port(True, now)
            self._asking.beats.unanswered(now)
            self._miss_unasked(now)
        elif event.failure is ev.Failure.GARBLED:
            self._port(True, now)
            self._count(Judged(missed=self._asking.beats.refused()), now)
        else:
            self._asking.beats.not_asked()
            self._not_asked(event, was_unasked, now)
        self._see_excuse(excuse, now)
        if excuse is None:
            self.case.hears_nothing(self._course.state)
        if self._course.state is State.SILENT:
            self._in_vain(event.failure, judged, now)
        elif event.failure is ev.Failure.NO_ANSWER and self._asking.beats.owed:
            self._course.ask(now, ev.Pace.SUSPECT)

    def _miss_unasked(self, now: float) -> None:
        """It was asked, and is silent: so it was when there was no place for its challenge."""
        unasked, self._in_place.unasked = self._in_place.unasked, 0
        if unasked and self.answers.unheard:
            self._count(Judged(missed=unasked), now)

    def _on_no_place(self, event: ev.NoPlace, now: float) -> None:
        """Its challenge waits among many. Whoever has not answered for an interval may be one of the dead."""
        if self._application.speaks:
            self._witnesses.other.no_place()
            self._course.judge_again(now)
        elif now >= self.answers.answered_until + self.in_force.interval:
            self._course.excuse(Excused.NO_PLACE, now, now)

    def _in_vain(self, failure: ev.Failure, judged: bool, now: float) -> None:
        """A silent guest was challenged in vain. judged: it was silent before."""
        if judged and failure in (ev.Failure.NO_ANSWER, ev.Failure.GARBLED):
            self.answers.missed(now)
        self._asking.back_off(now)
        if self.answers.unheard and judged and self.case.trigger is Trigger.SILENT:
            self._course.judge(now)

    def _not_asked(self, event: ev.AskFailed, was: str, now: float) -> None:
        """Nothing was said about the guest. was: why the challenge before said nothing; "" where it did."""
        if event.failure is ev.Failure.CLOSED:
            self._port(False, now)
        elif event.failure is ev.Failure.UNCONNECTED and event.failure.value != was:
            self._course.out.append(ev.ReadAgain())  # its port is closed, or libvirt's own end is: the live XML tells
        elif event.failure is ev.Failure.BUSY:  # while it waited for its turn, we took the guest to be silent
            self._course.apply(Input.HUSH, now)
        text = remark(event.failure, event.detail)
        if text is not None and not self.answers.remarked:
            self.answers.remarked = True
            self._course.out.append(ev.Remark(text))

    def _see_excuse(self, excuse: Excused | None, now: float) -> None:
        if excuse is None:
            self._in_place.end()
        elif self.life.port_open is not False:  # else that is why
            since = max(self._asking.challenges.left_at, self.answers.undisturbed_since)
            self._course.excuse(excuse, min(now, since), now)

    # -- time, and misses ----------------------------------------------------------------------------------------

    def _on_tick(self, tick: ev.Tick, now: float) -> None:
        self._witnesses.strain = tick.host
        self._host.clock_set(tick.clock_set)
        if now >= self.silences.until:
            self._silence_expires(now)
        if self._course.state is State.GONE:
            return
        if self.silences.on:
            self._tick_silences(now)
        elif now >= self._graces.deadline():
            self._tick_graces(now)
        self._tick_evidence(now)
        if self.life.end.due(now):
            self._course.out.append(ev.LookAt(ev.LookState()))
        if self._in_place.excuse is not None and now >= self._witnesses.host_at(self._course.state):
            self._course.follow(self._witnesses.tick_excused(tick.heard, now), now)
        self._tick_beats(tick.heard, now)

    def _silence_expires(self, now: float) -> None:
        in_maintenance = MAINTENANCE in self.silences
        if self.silences.expire(now):
            self._course.silence_over(now)
        if self.life.orphaned and PAUSED not in self.silences:
            self._course.follow(self.life.pause_settled(self._known(), now), now)
        if in_maintenance and MAINTENANCE not in self.silences:
            self._leaves.overrun = True  # until it answers

    def _tick_silences(self, now: float) -> None:
        if now >= self._told_ended_at():
            self._leaves.away = True
            self._course.out.append(ev.Ended(long_silence(now - self._unwatched_since, self.silences.told().values())))
            self._course.out.append(ev.Remember())

    def _tick_graces(self, now: float) -> None:
        if self._graces.overdue(now) and (self.case.standing is None or self.case.standing.pending):
            self._course.apply(Input.OVERDUE, now, Trigger.OVERDUE)
        if self._graces.panic_over(now):
            self._course.apply(Input.PANIC, now, Trigger.PANIC)
        if self._graces.settled(now):
            self._settled(now)
        if self._graces.arrival_over(now):
            self._course.judge_again(now)

    def _tick_evidence(self, now: float) -> None:
        host, other = self._host, self._witnesses.other
        if self._course.state is not State.SILENT and host.idle and not other.pending:
            return
        if other.overdue(now):
            self._course.judge_again(now)
        if host.baseline_at is not None and now >= host.baseline_at:
            self._baseline(now)
        was_pending = host.pending
        self._course.look(host.tick(now))
        if was_pending and not host.pending:
            self._course.judge_again(now)
        if now >= self.case.again_at(self._course.state):
            self._course.look_again(now)

    def _tick_beats(self, heard: float, now: float) -> None:
        if not self.silences.asking:
            return
        if self._course.state is State.SILENT:
            self._course.ask_again(now)
            return
        if self._asking.beats.open_due(now):
            self._course.ask(now)
        if self.silences.on or self._course.state is State.WAITING:
            self._asking.beats.void(now)
        else:
            # What libvirtd does is no matter where it is not asked.
            heard = now if self._application.speaks else heard
            judged = self._asking.beats.judge(now, heard, self._witnesses.strain.since)
            if judged is not NOTHING:
                if judged.in_spite:
                    self.case.in_spite_at = now
                self._count(judged, now)
                self._course.ask_again(now)

    def _count(self, judged: Judged, now: float) -> None:
        self.answers.skipped += judged.skipped
        if self._in_place.excuse is Excused.NO_PLACE:
            self._in_place.unasked += judged.skipped
        if judged.held:
            self._course.excuse(Excused.AGENT_HELD, self._asking.challenges.left_at, now)
        for _ in range(judged.missed if self._course.state in (State.ALIVE, State.MISSING) else 0):
            self.answers.missed(now)
            self.answers.acks = 0
            self.answers.unheard = self.answers.unheard or self._application.speaks
            last = self.answers.misses >= self.policy.threshold
            if last and self.case.starves(now):
                self._course.apply(Input.HUSH, now)
                break
            self._course.apply(Input.LAST_MISS if last else Input.MISS, now, Trigger.SILENT)
            if last:
                break

    # -- the application channel ---------------------------------------------------------------------------------

    def _on_channel_up(self, event: ev.ChannelUp, now: float) -> None:
        self._application.connected = True
        if self._application.speaks:
            self._course.challenge_at_once(now)

    def _on_channel_down(self, event: ev.ChannelDown, now: float) -> None:
        self._application.connected, self._application.why = False, event.why
        self.answers.asked_at = -math.inf  # what is out is not answered any more
        if self._application.speaks:
            self._asking.beats.not_asked()  # whether it would have answered is not known any more
            self._course.excuse(Excused.NOT_CONNECTED, now, now)

    def _on_said(self, event: ev.Said, now: float) -> None:
        if not self._application.speaks:
            return
        if isinstance(event.message, protocol.Ack):
            self._on_ack(event.message, now)
            return
        untroubled = self._course.state in (State.ALIVE, State.WAITING) and self.case.standing is None
        self._course.follow(self._application.hear(event.message, self.silences, untroubled, now), now)

    def _on_ack(self, ack: protocol.Ack, now: float) -> None:
        answer = self._application.window.answered(ack.seq, ack.nonce, now)
        if answer is None:
            return
        self._asking.challenges.left_at = answer.sent_at  # in this boot: the window is forgotten at each
        self._acked(answer.rtt, now)
        if ack.refused:
            self._course.out.append(ev.Say(protocol.Error(str(protocol.Code.BAD_HEALTH), ack.refused)))
        if self.policy.health_check:
            self._hear_health(said_with(ack), now)

    # -- health --------------------------------------------------------------------------------------------------

    def _on_agent_replied(self, event: ev.AgentReplied, now: float) -> None:
        if self.system.asking:
            self.system.answered(event.reply, event.failure is ev.Failure.GARBLED)
            return
        if self._freeze.asking:
            self._freeze.answered(event.reply, event.failure is ev.Failure.GARBLED, now)
            if self.case.frozen and not self._freeze.too_long(now):
                self._course.follow(self.case.acquit("recovered"), now)
            return
        outcome = self._checkup.replied(event, now)
        if outcome is None or not self.policy.health_check or self._application.speaks:
            return
        if outcome.absent is Absent.FROZEN:
            self._freeze.seen(now)
        news = self._checkup.remark(outcome)
        if news is not None:
            self._course.out.append(news)
        self._hear_health(outcome, now)

    def _hear_health(self, outcome: Outcome, now: float) -> None:
        if self.life.in_postcopy:
            return  # how it is says nothing yet, and no recovery may be asked for
        turn = self._checkup.heard(outcome, self.policy.threshold, now)
        if turn in (Turn.BAD, Turn.NEWS) and self._course.state in (State.ALIVE, State.MISSING):
            self._accuse_of_health(now)
        elif turn in (Turn.WELL, Turn.UNKNOWN) and self.case.unhealthy:
            self._course.follow(self.case.acquit("recovered" if turn is Turn.WELL else "unmonitored"), now)

    def _accuse_of_health(self, now: float) -> None:
        self._course.follow(self.case.accuse_of_health(self._checkup.reasons, now), now)

    # -- what libvirt told ---------------------------------------------------------------------------------------

    def _on_told(self, event: Told, now: float) -> None:
        if isinstance(event, ev.Restored | ev.Arriving):
            self._course.appears(now)
        self._course.follow(self.life.told(event, self._known(), now), now)

    def _known(self) -> Known:
        stuck, waited = self.case.is_stuck(self._course.state), self._graces.waiting_since is not None
        return Known(stuck, self._graces.established, waited)

    def _on_booted(self, event: ev.Booted, now: float) -> None:
        self._course.reboot(now)

    def _on_stopped(self, event: ev.Stopped, now: float) -> None:
        found = self.life.ended(event.exit)
        if found.what is Input.STOP and self.case.was_untold(self._course.state):
            self._course.follow(self.case.acquit("superseded"), now)  # it was somebody's wish
        self.silences.end(*OF_THIS_LIFE)
        self._leaves.back()
        self._course.apply(found.what, now, found.trigger)
        if found.what is Input.FAIL:
            self._course.leave(now)

    def _on_qemu_ended(self, event: ev.QemuEnded, now: float) -> None:
        if self._course.state is not State.GONE:
            self.life.end.heard(now)

    def _on_port_changed(self, event: ev.PortChanged, now: float) -> None:
        if event.channel is self.policy.channel:
            self._port(event.open, now)

    def _port(self, is_open: bool, now: float) -> None:
        was = self.life.port_is(is_open, now)
        if self._application.speaks:  # an application that is gone is silent: its port is evidence, and no excuse
            if is_open and was is False:
                self.life.reopened_at = now
                self.answers.ask_anew(now)
                self._course.challenge_at_once(now)
        elif not is_open:
            self._port_closed(was is not False, now)
        elif was is False:
            self.answers.unasked = ""
            self.life.reopened_at, self._graces.exited = now, False
            self._in_place.end()
            self._asking.soon(now)
            self._course.apply(Input.REOPENED, now)
            self._asking.beats.restart(now, 0.0)

    def _port_closed(self, news: bool, now: float) -> None:
        self.answers.unasked = ev.Failure.CLOSED.value
        self._asking.beats.not_asked()
        self._graces.closings += news
        if news:
            self._course.withdraw()
        self._course.excuse(Excused.PORT_CLOSED, now, now)
        said = self.case.standing is not None and self.case.standing.cause is Cause.AGENT_EXITED
        if self._course.state in (State.ALIVE, State.MISSING, State.SILENT) and not said:
            self._graces.port_closed(now)

    def _settled(self, now: float) -> None:
        """No acknowledgement since the port closed, settle time over."""
        closed = self.life.port_open is False
        if closed and (self.life.panicked_at is not None or self.case.is_stuck(self._course.state)):
            pass  # who panicked, or is paused, needs no agent to have gone for nobody to answer
        elif closed:
            self._graces.exited = True
            unanswerable = self.case.is_unheard(self._course.state) or self.case.was_dead(self._course.state)
            if not unanswerable:  # else if its kernel answers after all
                self._course.apply(Input.EXITED, now, Trigger.EXITED)
        elif self._graces.closings >= CRASH_LOOPS:
            self._course.apply(Input.EXITED, now, Trigger.EXITED)
        elif not self.answers.unheard or self._in_place.excuse is not None:
            pass  # whoever opened it was not asked, and is not to be blamed for that; its beats tell
        elif not self._graces.reopened(self.life.reopened_at, now):
            self._course.apply(Input.LAST_MISS, now, Trigger.SILENT)
            if self._course.state is State.SILENT and self.case.trigger is Trigger.SILENT:
                self._course.judge(now)

    # -- silences, and who is excused ----------------------------------------------------------------------------

    def _on_silenced(self, event: ev.Silenced, now: float) -> None:
        self._course.begin(event.key, Silence(event.reason, event.until, event.ask), now)
        if event.key == JOB and self._host.job_poll_at is None:
            self._host.job_poll_at = now + JOB_POLL  # of a job that is cancelled libvirt tells no end

    def _on_unsilenced(self, event: ev.Unsilenced, now: float) -> None:
        if event.key == JOB:
            self._host.job_poll_at = None
        self._course.end(event.key, now=now)

    def _on_voided(self, event: ev.Voided, now: float) -> None:
        if not self._asking.beats.doubt(event.since, now):
            self.case.in_spite_at = now
            return
        self._course.disturbed(now)
        if event.lasted > LATE:  # what is shorter takes nothing from a balloon, which has seconds for its answer
            self._host.stalled(now)

    @property
    def _unwatched_since(self) -> float:
        """When its silence began, or it came here."""
        return max(self.silences.since, self.life.here_since)

    def _told_ended_at(self) -> float:
        """When its silence has lasted for long: two of its own intervals at least, since one is owed after a start."""
        if self._leaves.away or self.life.arrives:
            return math.inf
        return self._unwatched_since + max(LONG_SILENCE, 2 * self.policy.interval)

    # -- another policy ------------------------------------------------------------------------------------------

    def _on_policy_changed(self, event: ev.PolicyChanged, now: float) -> None:
        was = self._application.policy
        self._application.adopt(event.policy)
        self._course.apply(Input.HUSH, now)
        self._asking.begin_anew(now)
        if event.policy.channel is not was.channel:
            self._change_channel(now)
        elif was.health_check and not event.policy.health_check:
            self._checkup.drop()
            if self.case.unhealthy:
                self._course.follow(self.case.acquit("unmonitored"), now)
        elif event.policy.action is not was.action and self.case.unhealthy:
            self._accuse_of_health(now)
        elif event.policy.action is not was.action:
            self._course.follow(self.case.judge_by_action(self._course.state, now), now)
        self._graces.await_ack()
        if self.case.standing is not None:
            self._graces.overdue_at = None

    def _change_channel(self, now: float) -> None:
        """Somebody else is to acknowledge, who never has: what was found on the other channel is nobody's any more."""
        self._course.withdraw()
        self._asking.change_channel(now)
        self._graces.settle_at = None
        self._leaves.back()
        self._course.end(GOODBYE, MAINTENANCE, now=now)
        self._leaves.away = False
        self._checkup.drop()
        self.life.port_open = None
        if self.case.standing is not None and not self.life.memory.failed:
            self._course.follow(self.case.acquit("unmonitored"), now)
        if self._course.state is not State.GONE:
            self._graces.begin_anew(now)
            self._course.apply(Input.BOOT, now)

    # -- evidence ------------------------------------------------------------------------------------------------

    def _on_looked(self, event: ev.Looked, now: float) -> None:
        if type(event.look) is ev.LookState and self._course.state is not State.GONE:
            self._course.follow(self.life.looked(event.answer, now), now)
        self._course.follow(self._witnesses.looked(event, now), now)

    def _on_other_answered(self, event: ev.OtherAnswered, now: float) -> None:
        other = self._witnesses.other
        was_pending = other.pending
        other.answered(event.answers, event.why, now)
        if was_pending:
            self._course.judge_again(now)

    def _baseline(self, now: float) -> None:
        """While the guest is well, learn whether its balloon answers."""
        if self._course.state is State.ALIVE:
            self._course.look(self._host.baseline(not self.silences, now))
        else:
            self._host.baseline_at = None


_HANDLERS: dict[type[Any], Callable[[Monitor, Any, float], None]] = {
    ev.Asked: Monitor._on_asked,
    ev.Acked: Monitor._on_acked,
    ev.AskFailed: Monitor._on_ask_failed,
    ev.ChannelUp: Monitor._on_channel_up,
    ev.ChannelDown: Monitor._on_channel_down,
    ev.Said: Monitor._on_said,
    ev.OtherAnswered: Monitor._on_other_answered,
    ev.AgentReplied: Monitor._on_agent_replied,
    ev.Tick: Monitor._on_tick,
    ev.PortChanged: Monitor._on_port_changed,
    ev.Booted: Monitor._on_booted,
    ev.Stopped: Monitor._on_stopped,
    ev.QemuEnded: Monitor._on_qemu_ended,
    **dict.fromkeys(TOLD, Monitor._on_told),
    ev.Silenced: Monitor._on_silenced,
    ev.Unsilenced: Monitor._on_unsilenced,
    ev.Voided: Monitor._on_voided,
    ev.PolicyChanged: Monitor._on_policy_changed,
    ev.Looked: Monitor._on_looked,
    ev.Verify: Monitor._on_verify,
    ev.NoPlace: Monitor._on_no_place,
}
