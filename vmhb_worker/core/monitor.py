"""The life of one instance: events in, effects out. Here it is decided that an instance is dead.

What follows what stands in `transitions`; which cause it is, in `verdict`; what is asked of the host meanwhile, in
`inquiry`; which beats were missed, in `beats`; who need not answer, in `excuses`. This module turns what happened into
the inputs of that table and carries out its acts. It must not know of threads, sockets, libvirt, the wall clock, or how
a fault is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vmhb_common.model.causes import Cause, rests_on
from vmhb_common.model.policy import Channel, HeartbeatPolicy
from vmhb_common.model.silences import LONG_SILENCE
from vmhb_worker.core import events as ev
from vmhb_worker.core import lifecycle, protocol
from vmhb_worker.core.absence import GOODBYE, MAINTENANCE, Leave, goodbye, long_silence, refused
from vmhb_worker.core.application_channel import OTHER_TIMEOUT, Application
from vmhb_worker.core.ask_schedule import Challenges, full_threshold
from vmhb_worker.core.beats import LONGEST_REQUEST, NOTHING, Beats, Judged, stagger
from vmhb_worker.core.brake import Member
from vmhb_worker.core.caution import KINDS
from vmhb_worker.core.codec import Objection
from vmhb_worker.core.doubt import LATE, QUIET
from vmhb_worker.core.evidence import CRASH_DUMP, Balloon, Evidence, Reading, unavailable
from vmhb_worker.core.excuses import OF_FAILURE, Excused, InPlace, nobody_tells, seen_since
from vmhb_worker.core.graces import Graces
from vmhb_worker.core.guest_exec import Outcome
from vmhb_worker.core.guest_system import GuestSystem
from vmhb_worker.core.health_source import Checkup, said_with
from vmhb_worker.core.health_watch import Turn
from vmhb_worker.core.host_pressure import UNKNOWN
from vmhb_worker.core.instance_state import Memory, Standing, Timing
from vmhb_worker.core.silences import JOB, STATES_OF_LIBVIRT, Silence, Silences
from vmhb_worker.core.suspicion import JOB_BELIEVED, JOB_POLL, Suspicion
from vmhb_worker.core.transitions import TRANSITIONS, Act, Input, State
from vmhb_worker.core.verdict import Case, Recovery, Trigger, Verdict, judge, starved

#: A guest that said that it powers off, or that was restored, has this long to do so (seconds).
PASSAGE = 60.0
#: A pause that libvirt gives no reason for is believed after this (seconds), and not while a job of libvirt's is on: at
#: the end of one that copies memory QEMU stops the guest by itself, for some tenths of a second.
PAUSE_SETTLES = 5.0
#: A panic that the operator lets guests have more time for than this (seconds) is told at once, as an alarm.
LONG_GRACE = 60.0
#: Why nothing that a guest asks for is granted.
TROUBLED = "not while the guest is suspected, at fault, or stopped"
#: Why a guest is silent that is being migrated to this host, and one that runs here before its memory does.
ARRIVING = "arriving"
IN_POSTCOPY = "post-copy migration: a part of its memory is still elsewhere"
#: What is said once, of that which somebody has to see to.
_REMARKS = {
    ev.Failure.GIVEN_UP: (
        "its heartbeats are skipped: libvirt could not understand what its agent sent, or it was too long, and talks "
        "to it no more until it connects anew; restart the agent in the guest"
    ),
    ev.Failure.UNKNOWN: (
        "its heartbeats are skipped: what libvirt says of its agent is not known here; where that is another language, "
        "have libvirtd (virtqemud) run with LC_ALL=C"
    ),
}
#: An agent that has gone and come so often without an answer is one that ends again and again: whoever opens a port is
#: scheduled.
CRASH_LOOPS = 2
#: libvirtd, asked four times a second, has answered a question put to it within so many seconds: it serves.
FRESH_ENOUGH = 2.0
#: A guest that is starved is given a threshold's time again, so often in a row: then it is told.
STRETCHES = 3
#: Who is found dead behind an excuse: only of what the host can know.
_KNOWN_BY_HOST = frozenset({Cause.QEMU_HUNG, Cause.GUEST_HUNG, Cause.ASLEEP})
#: Of whom nobody could answer, whatever the agent or the application is like.
_STOOD_STILL = _KNOWN_BY_HOST | {Cause.STARVED}
#: Why no recovery is asked for yet.
_MAY_REBOOT = "it panicked, and may reboot by itself until [verdict] panic_grace is over"
_SAVES_DUMP = "it saves a crash dump, and has until [verdict] crash_dump_grace is over"
_IN_SPITE_OF_DOUBT = "it was judged in spite of doubt in its host, which has not been over for long enough"
_MEMORY_IS_ELSEWHERE = "a part of its memory is still on another host, and a reset would destroy that"
#: How a domain ended -> as what that is judged; what is not here is nobody's fault.
_ENDED = {
    ev.Exit.FAILED: Trigger.FAILED,
    ev.Exit.POWER: Trigger.POWER,
    ev.Exit.UNKNOWN: Trigger.UNEXPLAINED,
}
#: Whose host is asked again and again, in case that it was too early to call it dead, or that it has died since.
_LOOKED_INTO = frozenset({Trigger.SILENT, Trigger.UNHEARD, Trigger.EXITED})
_STUCK = {
    Cause.PAUSED_IO_ERROR: Trigger.IO_ERROR,
    Cause.PAUSED_FAILED: Trigger.POSTCOPY,
    Cause.GUEST_HUNG: Trigger.WATCHDOG,
}


class Monitor:
    """One instance's monitor. Belongs to one thread; `now` never goes back."""

    __slots__ = (
        "_answering_since",
        "_application",
        "_asked_at",
        "_beats",
        "_booted_at",
        "_challenges",
        "_checkup",
        "_given_up",
        "_graces",
        "_host",
        "_in_place",
        "_in_spite_at",
        "_leaves",
        "_lived_at",
        "_out",
        "_panicked_at",
        "_pause_is_wish",
        "_pending_since",
        "_port_at",
        "_reopened_at",
        "_saves_dump",
        "_silenced_at",
        "_speaks",
        "_started_at",
        "_starved",
        "_suspicion",
        "_trigger",
        "_unasked",
        "_undisturbed_since",
        "_unheard",
        "_unwatched_since",
        "_verify_at",
        "_watchdog",
        "acks",
        "established",
        "last_ack",
        "last_miss",
        "misses",
        "orphaned",
        "policy",
        "port_open",
        "silences",
        "skipped",
        "standing",
        "state",
        "suspected_at",
        "system",
        "timing",
        "uuid",
        "waiting_since",
    )

    def __init__(
        self, uuid: str, policy: HeartbeatPolicy, timing: Timing, memory: Memory, now: float, nonce: Callable[[], str]
    ) -> None:
        """nonce: makes a new one for the application channel at each call, that no guest can foresee."""
        self.uuid = uuid
        self.policy = policy
        self.timing = timing
        self.established = memory.established
        self.standing = memory.standing
        # The grace of a domain that does not run does not run either.
        self.waiting_since = None if memory.waited is None or not memory.running else now - memory.waited
        self.state = self._first_state(memory.running)
        self.silences = Silences()
        self.misses = 0
        self.skipped = 0  # since the last acknowledgement
        self.acks = 0  # in a row
        self._answering_since = now  # when the first of them came
        self._asked_at = -math.inf  # when the first challenge since `Verify` left
        self._verify_at = -math.inf
        self.last_ack: float | None = None
        self.last_miss: float | None = None  # or when it was last accused without one: of a panic, of QEMU's end
        self.suspected_at: float | None = None
        self.port_open: bool | None = None
        self._speaks = policy.channel is Channel.APPLICATION  # is it the application that must acknowledge?
        self._application = Application(policy, timing, memory.absence, nonce)
        self._leaves = self._application.leaves
        self._checkup = Checkup(policy.health_check and self._unhealthy_stands)
        self._beats = self._new_beats(now)
        self._challenges = Challenges(now)
        self._graces = Graces(timing, lambda: full_threshold(self.in_force), self._overdue, now)
        self._suspicion = Suspicion(timing.probe_interval, memory.balloon_seen)
        self._trigger = Trigger.SILENT
        self._starved = 0  # times in a row that this has stretched its time
        self._in_place = InPlace()
        self.system = GuestSystem()
        self._unheard = False  # since the last acknowledgement, a challenge came back without one
        self._lived_at = -math.inf  # when its kernel answered that had been found dead
        self._in_spite_at = -math.inf  # when it was last judged in spite of doubt in ourselves
        self._host = UNKNOWN
        self._undisturbed_since = -math.inf  # before, there were silences, or we or libvirtd were not there
        self._pending_since = self._started_at = self._silenced_at = self._unwatched_since = now
        self._booted_at = -math.inf
        self._port_at: float | None = None
        self._reopened_at = now
        self._panicked_at: float | None = None
        self._saves_dump = False  # as it said when it panicked
        self._pause_is_wish = True
        self.orphaned = False  # it is paused, and libvirt does not say why
        self._unasked = ""  # why the last challenge said nothing about the guest
        self._given_up = False  # it was said that libvirt talks to its agent no more
        self._watchdog: tuple[str, float] | None = None
        self._out: list[ev.Effect] = []
        self._take_up(now)

    def _take_up(self, now: float) -> None:
        """What an earlier life of the worker had granted, or had been told."""
        for key, silence in self._leaves.resumed(now).items():
            self.silences.begin(key, silence)
        if self.standing is not None and self.standing.panic is not None and self.waiting_since is None:
            self._panicked_at, self._saves_dump = now - self.standing.panic.ago, self.standing.panic.saves_dump
            self._graces.panicked(self._panicked_at, self._saves_dump, asked_from=now)

    # -- the outside ---------------------------------------------------------------------------------------------

    def handle(self, event: ev.Event, now: float) -> list[ev.Effect]:
        """What happened, and what is to be done about it, in this order."""
        self._out = []
        everybody = self.silences.everybody
        _HANDLERS[type(event)](self, event, now)
        if everybody and not self.silences.everybody:
            self._excuse_still(now)
        return self.decided()

    def decided(self) -> list[ev.Effect]:
        """What the last event had led to so far, where `handle` raised and returned nothing; once."""
        out, self._out = self._out, []
        return out

    def deadline(self) -> float:
        """When the next `Tick` is due."""
        at = self.silences.until
        if self.state is State.GONE:
            return at
        at = min(at, self._suspicion.deadline(), self._application.other.until, self._host_at())
        at = min(at, self._told_ended_at() if self.silences.on else self._graces.deadline())
        if self.state is State.SILENT:
            at = min(at, self._again_at())
            if not self._challenges.out and self.silences.asking:
                at = min(at, self._challenges.next_at)
        elif self.silences.asking:
            at = min(at, self._beats.deadline())
        return at

    @property
    def in_force(self) -> HeartbeatPolicy:
        """The policy, with the shorter times that the guest has asked for."""
        return self._application.in_force

    def has_other_channel(self, present: bool) -> None:
        """Has it an agent channel beside the one that it is judged by?"""
        other = self._application.other
        if other.present is not present:
            other.present = present
            other.forget()

    @property
    def unreachable(self) -> str:
        """Why it cannot be asked; "" where it can, or does not run."""
        asked = self._speaks and self.state is not State.GONE
        return self._application.why if asked and not self._application.connected else ""

    def owes(self, now: float) -> bool:
        """Would a `Tick` now find a beat missed? Then all that its guest has said must have been read."""
        return self._speaks and self._beats.due(now)

    @property
    def unsettled(self) -> bool:
        """Is it other than simply alive, so that libvirt is to be read again now and then? An event may be lost."""
        if self.state is State.GONE:
            return False
        wanting = self.state in (State.MISSING, State.SILENT) or self.port_open is False or bool(self._unasked)
        return wanting or bool(self.silences.keys() & STATES_OF_LIBVIRT)

    @property
    def probing(self) -> bool:
        """Is its balloon's period changed, or about to be?"""
        return self._suspicion.probing

    @property
    def balloon_seen(self) -> bool:
        """Has its balloon answered in this boot?"""
        return self._suspicion.balloon_seen

    @property
    def balloon_period(self) -> int | None:
        """The period of the balloon's statistics as Nova wants it, seconds; None: there is no balloon."""
        return self._suspicion.balloon_period

    @balloon_period.setter
    def balloon_period(self, seconds: int | None) -> None:
        self._suspicion.balloon_period = seconds

    def memory(self, now: float) -> Memory:
        """What must outlive the worker."""
        waited = None if self.waiting_since is None else now - self.waiting_since
        running = self.state is not State.GONE
        absence = self._leaves.absence
        return Memory(running, self.established, waited, self.balloon_seen, self.standing, absence)

    @property
    def stands(self) -> bool:
        """Is what it was accused of still so? Not while it boots, is excused, or answers and was accused of silence."""
        if self.standing is None or self.standing.pending or self.silences.on:
            return False
        if self._unhealthy_stands:
            return self.state in (State.ALIVE, State.MISSING)
        if rests_on(self.standing.cause).does_not_run:
            return self.state is State.GONE
        return self.state is State.SILENT and self._found_since_disturbed

    @property
    def _found_since_disturbed(self) -> bool:
        """Was it found once more after the last silence, or stall of ours? What was found before may be over."""
        if self._trigger is Trigger.UNHEARD:
            return self._is_the_hosts_word(self._undisturbed_since)
        if self._trigger is not Trigger.SILENT or self._speaks or self._unheard:
            return True
        return self._is_the_hosts_word(self._undisturbed_since)

    def _is_the_hosts_word(self, since: float) -> bool:
        """Does its verdict rest on what the host said since then, since the guest itself cannot be asked?"""
        by_host = self.standing is not None and self.standing.cause in (Cause.GUEST_HUNG, Cause.QEMU_HUNG)
        unasked = self._in_place.excuse is not None or (bool(self._unasked) and not self._speaks)
        return by_host and unasked and self._suspicion.looked_since(since)

    @property
    def answered_since_miss(self) -> bool | None:
        """Has it acknowledged since its last miss? None: it has missed nothing in this life of the worker."""
        if self.last_miss is None:
            return None
        return self.last_ack is not None and self.last_ack > self.last_miss

    def well(self, acks: int, now: float) -> bool:
        """Has it acknowledged so often in a row, and over two intervals, where it is more than once?"""
        long_enough = acks <= 1 or now - self._answering_since >= 2 * self.in_force.interval
        return self.state is State.ALIVE and self.standing is None and self.acks >= acks and long_enough

    def silent_since(self, asked: float, now: float) -> bool:
        """Was it asked anew since then, and has not answered in time? An agent that closed its port need not be; where
        somebody else holds it, or we are not connected, the host's word counts."""
        if self.last_ack is not None and self.last_ack >= asked:
            return False
        if self._trigger_is_stuck:
            return True  # it is paused, and stays so: nobody can be asked
        if self._asked_in_vain(asked, now) and self._unasked in ("", ev.Failure.CLOSED.value):
            return True
        return self._is_the_hosts_word(asked)

    def _asked_in_vain(self, since: float, now: float) -> bool:
        return -math.inf < self._asked_at >= since and now >= self._asked_at + self.in_force.timeout

    def as_member(self, project: str | None) -> Member:
        """How the brake sees it. project: the instance's, as Nova names it."""
        return Member(project, self._silent_since(), self.last_ack, self.policy.interval)

    def _silent_since(self) -> float | None:
        """When the first challenge left that it did not answer, where a host's trouble could be why."""
        if self.suspected_at is None or self.state not in (State.MISSING, State.SILENT):
            return None  # who is silent already is so still, whatever silence begins
        if self.state is State.SILENT and self._trigger not in (Trigger.SILENT, Trigger.UNHEARD):
            return None
        if self.standing is not None and not (self.standing.pending or KINDS[self.standing.cause].crowd):
            return None
        return self.suspected_at - self.in_force.timeout

    def told(self, now: float) -> dict[str, Any]:
        """For people, and for whoever is about to recover it: everything that explains why it is judged as it is."""
        return {
            "state": self._state_told(now),
            "misses": self.misses,
            "skipped": self.skipped,
            "established": self.established,
            "balloon_answers": self.balloon_seen,
            "last_ack_age": None if self.last_ack is None else round(now - self.last_ack, 1),
            "not_asked": self._unasked or None,
            "answered_since_miss": self.answered_since_miss,
            "silences": self.silences.told(),
            "excused": None if self._in_place.excuse is None else self._in_place.excuse.value.why,
            "evidence": self._gathered(now).told(now) if self.suspected_at is not None else None,
            "host_pressure": self._host.told(now),
            "application": self._application.told(now) if self._speaks else None,
            "health": self._checkup.told(now) if self.policy.health_check else None,
        }

    def _state_told(self, now: float) -> str:
        """Never alive, of one that has not been heard for longer than a silence would take to be found."""
        heard = max(self._undisturbed_since, self._started_at if self.last_ack is None else self.last_ack)
        if self.state is State.ALIVE and not self.silences.on and now > heard + full_threshold(self.in_force):
            return State.MISSING.value
        return self.state.value

    # -- acknowledgements and misses -----------------------------------------------------------------------------

    def _on_asked(self, event: ev.Asked, now: float) -> None:
        if self._speaks:  # its agent was, as a witness
            return
        self._challenges.left_at = now
        self._left(now)
        self._beats.asked(now)

    def _on_acked(self, event: ev.Acked, now: float) -> None:
        if self._challenges.left_at < self._booted_at:  # an answer from before the boot
            self._on_ask_failed(ev.AskFailed(ev.Failure.UNREACHABLE), now)
        else:
            self._acked(event.rtt, now)

    def _left(self, now: float) -> None:
        """A challenge leaves. Of those since the last `Verify` the first counts: others may follow within its time."""
        if self._asked_at < self._verify_at:
            self._asked_at = now

    def _acked(self, rtt: float, now: float) -> None:
        self._challenges.answered(rtt)
        self._unheard = self._leaves.overrun = self._given_up = False
        self._unasked, self._starved = "", 0
        self._in_place.end()
        self._beats.acked()
        if self.state is State.GONE:
            return
        if self._leaves.away:
            self._back(now)
        self.last_ack = now
        if not self.acks:
            self._answering_since = now
        self.acks += 1
        self.misses = self.skipped = 0
        self.suspected_at = None
        self._graces.answered()
        # In one turn of the loop, requests leave after what was reported has been taken.
        if self._panicked_at is None or self._challenges.left_at >= self._panicked_at:
            self._graces.panic_at = self._panicked_at = None
            self._saves_dump = False
        self._port(True, now)
        self._apply(Input.ACK, now)
        self._beats.catch_up(now)
        if self.waiting_since is not None:  # accused before its first acknowledgement
            self._establish(now)
        if not self._suspicion.baselines and self._suspicion.balloon_period is not None:
            self._baseline(now)
        if self.standing is not None:
            self._clear(now)
        if not self._speaks and not self.silences.on:
            self._ask_agent(now)

    def _ask_agent(self, now: float) -> None:
        """It has just answered, and may be asked something more."""
        if not self.system.asking:
            question = self.system.question()
            step = self._checkup.step(now) if question is None and self.policy.health_check else None
            self._emit_if(question or step)

    def _clear(self, now: float) -> None:
        """It answers: that ends a silence, and not what it says of itself."""
        if not self._checkup.bad:  # an unhealthy fault that is nobody's to clear: health is not asked for any more
            self._acquit("unmonitored" if self._unhealthy_stands else "recovered")
        elif not self._unhealthy_stands:
            self._accuse_health(now)

    def _on_ask_failed(self, event: ev.AskFailed, now: float) -> None:
        self._challenges.failed(silent=event.failure is ev.Failure.NO_ANSWER)
        judged = self.state is State.SILENT
        self._unheard = self._unheard or self._reached(event.failure, now)
        excuse = OF_FAILURE[event.failure]
        was_unasked, self._unasked = self._unasked, "" if excuse is None else event.failure.value
        if event.failure is ev.Failure.NO_ANSWER:
            self._port(True, now)
            self._beats.unanswered(now)
        elif event.failure is ev.Failure.GARBLED:
            self._port(True, now)
            self._count(Judged(missed=self._beats.refused()), now)
        else:
            self._beats.not_asked()
            self._not_asked(event, was_unasked, now)
        self._see_excuse(excuse, now)
        if self.state is State.SILENT:
            if judged and event.failure in (ev.Failure.NO_ANSWER, ev.Failure.GARBLED):
                self.misses += 1
                self.last_miss = now
            self._challenges.back_off(self.in_force.interval, now)
            if self._unheard and judged and self._trigger is Trigger.SILENT:
                self._judge(now)
        elif event.failure is ev.Failure.NO_ANSWER and self._beats.owed:
            self._ask(now, ev.Pace.SUSPECT)

    def _not_asked(self, event: ev.AskFailed, was: str, now: float) -> None:
        """Nothing was said about the guest. was: why the challenge before said nothing; "" where it did."""
        if event.failure is ev.Failure.CLOSED:
            self._port(False, now)
        elif event.failure is ev.Failure.UNCONNECTED and event.failure.value != was:
            self._emit(ev.ReadAgain())  # its port is closed, or libvirt's own end is: the live XML tells
        elif event.failure is ev.Failure.BUSY:  # while it waited for its turn, we took the guest to be silent
            self._apply(Input.HUSH, now)
        elif event.failure in _REMARKS and not self._given_up:
            self._given_up = True
            what = f" ({event.detail[:200]!r})" if event.failure is ev.Failure.UNKNOWN else ""
            self._emit(ev.Remark(_REMARKS[event.failure] + what))

    def _see_excuse(self, excuse: Excused | None, now: float) -> None:
        if excuse is None:
            self._in_place.end()
        elif self.port_open is not False:  # else that is why
            self._excuse(excuse, min(now, max(self._challenges.left_at, self._undisturbed_since)), now)

    def _reached(self, failure: ev.Failure, now: float) -> bool:
        """Was the challenge that ended like this with the agent, which had its time to answer?"""
        undisturbed = self._challenges.left_at >= self._undisturbed_since
        in_full = undisturbed or now - self._undisturbed_since >= self.in_force.timeout
        in_full = in_full and self._is_owed_nothing(now)
        return failure is ev.Failure.GARBLED or (failure is ev.Failure.NO_ANSWER and in_full)

    def _disturbed(self, now: float) -> None:
        """That nobody answered until now has other reasons."""
        self._unheard = False
        self._undisturbed_since = self._pending_since = now

    def _on_tick(self, tick: ev.Tick, now: float) -> None:
        self._host = tick.host
        self._suspicion.clock_set(tick.clock_set)
        if now >= self.silences.until:
            self._silence_expires(now)
        if self.state is State.GONE:
            return
        if self.silences.on:
            self._tick_silences(now)
        elif now >= self._graces.deadline():
            self._tick_graces(now)
        self._tick_evidence(now)
        if self._in_place.excuse is not None and now >= self._host_at():
            self._tick_excused(tick.heard, now)
        self._tick_beats(tick.heard, now)

    def _silence_expires(self, now: float) -> None:
        in_maintenance = MAINTENANCE in self.silences
        if self.silences.expire(now):
            self._silence_over(now)
        if self.orphaned and "paused" not in self.silences:
            self._pause_settled(now)
        if in_maintenance and MAINTENANCE not in self.silences:
            self._leaves.overrun = True  # until it answers

    def _tick_graces(self, now: float) -> None:
        if self._graces.overdue(now) and (self.standing is None or self.standing.pending):
            self._apply(Input.OVERDUE, now, Trigger.OVERDUE)
        if self._graces.panic_over(now):
            self._apply(Input.PANIC, now, Trigger.PANIC)
        if self._graces.settled(now):
            self._settled(now)

    def _tick_beats(self, heard: float, now: float) -> None:
        if not self.silences.asking:
            return
        if self.state is State.SILENT:
            self._ask_again(now)
            return
        if self._beats.open_due(now):
            self._ask(now)
        if self.silences.on or self.state is State.WAITING:
            self._beats.void(now)
        else:
            # What libvirtd does is no matter where it is not asked.
            judged = self._beats.judge(now, now if self._speaks else heard, self._host.since)
            if judged is not NOTHING:
                if judged.in_spite:
                    self._in_spite_at = now
                self._count(judged, now)
                self._ask_again(now)

    def _ask_again(self, now: float) -> None:
        """A silent guest is asked ever more rarely; when it is due."""
        if self.state is State.SILENT and now >= self._challenges.next_at:
            self._ask(now)

    def _count(self, judged: Judged, now: float) -> None:
        self.skipped += judged.skipped
        if judged.held:
            self._excuse(Excused.AGENT_HELD, self._challenges.left_at, now)
        for _ in range(judged.missed if self.state in (State.ALIVE, State.MISSING) else 0):
            self.misses += 1
            self.acks = 0
            self.last_miss = now
            self._unheard = self._unheard or self._speaks
            last = self.misses >= self.policy.threshold
            if last and self._is_starved(now):
                self._starved += 1
                self._apply(Input.HUSH, now)
                break
            self._apply(Input.LAST_MISS if last else Input.MISS, now, Trigger.SILENT)
            if last:
                break

    def _is_starved(self, now: float) -> bool:
        """Is it not let run? That stretches its time, a few times."""
        evidence = self._gathered(now)
        seen = not evidence.pending and seen_since(evidence, self._answered_until)
        return self._starved < STRETCHES and seen and starved(evidence)

    def _ask(self, now: float, pace: ev.Pace | None = None) -> None:
        if self._speaks:
            self._challenge(now)
            return
        if self.port_open is False:
            self._spare(now)
            return
        ask = self._challenges.ask(self.policy, self.state, pace)
        if ask is not None:
            self._emit(ask)

    def _spare(self, now: float) -> None:
        """Nobody holds its port open: libvirt would only complain in its log. That counts as asked in vain."""
        self._left(now)
        self._unasked = ev.Failure.CLOSED.value
        if self.state is State.SILENT:
            self._challenges.back_off(self.in_force.interval, now)

    # -- the application channel ---------------------------------------------------------------------------------

    def _challenge(self, now: float) -> None:
        if self.state is State.SILENT and self._trigger is Trigger.SILENT and not self._unheard:
            self._hear_nothing(now)
        if self._application.connected:
            self._left(now)  # also where as many as are remembered are out: each may still be answered
            challenge = self._application.challenge(now)
            if challenge is not None:
                self._emit(ev.Say(challenge))
            self._beats.asked(now)
        if self.state is State.SILENT:
            self._challenges.back_off(self.in_force.interval, now)

    def _hear_nothing(self, now: float) -> None:
        """Was the last challenge in vain, since it was to be asked anew? Then its silence counts again."""
        anew = max(self._verify_at, self._undisturbed_since)
        if self._asked_in_vain(anew, now) and self._is_owed_nothing(now):
            self._unheard = True
            self._judge(now)

    def _challenge_at_once(self, now: float) -> None:
        """Somebody may be there who was not there before."""
        self._application.window.renew()
        self._challenges.soon(now)
        if self.silences.asking and self.state is not State.GONE:
            self._challenge(now)

    def _on_channel_up(self, event: ev.ChannelUp, now: float) -> None:
        self._application.connected = True
        if self._speaks:
            self._challenge_at_once(now)

    def _on_channel_down(self, event: ev.ChannelDown, now: float) -> None:
        self._application.connected, self._application.why = False, event.why
        self._asked_at = -math.inf  # what is out is not answered any more
        if self._speaks:
            self._beats.not_asked()  # whether it would have answered is not known any more
            self._excuse(Excused.NOT_CONNECTED, now, now)

    def _on_said(self, event: ev.Said, now: float) -> None:
        if not self._speaks:
            return
        match event.message:
            case protocol.Ack():
                self._on_ack(event.message, now)
            case protocol.Hello():
                self._on_hello(event.message, now)
            case protocol.Goodbye():
                self._on_goodbye(event.message, now)
            case protocol.Maintenance():
                self._on_maintenance(event.message, now)
            case Objection(code, detail):
                self._emit(ev.Say(protocol.Error(str(code), detail)))

    def _on_ack(self, ack: protocol.Ack, now: float) -> None:
        answer = self._application.window.answered(ack.seq, ack.nonce, now)
        if answer is None:
            return
        self._challenges.left_at = answer.sent_at  # in this boot: the window is forgotten at each
        self._acked(answer.rtt, now)
        if ack.refused:
            self._emit(ev.Say(protocol.Error(str(protocol.Code.BAD_HEALTH), ack.refused)))
        if self.policy.health_check:
            self._hear_health(said_with(ack), now)

    def _on_hello(self, hello: protocol.Hello, now: float) -> None:
        """It introduces itself: that clears nothing and counts for nothing."""
        self._application.name = hello.name
        self.system.says(hello.system)
        if self._untroubled and self._application.wish(self.policy, hello, now):
            self._beats.quicken(self.in_force.interval, self.in_force.timeout, now)
        in_force = self.in_force
        self._emit(ev.Say(protocol.Welcome(protocol.VERSION, in_force.interval, in_force.timeout)))
        self._challenge_at_once(now)

    def _on_goodbye(self, goodbye: protocol.Goodbye, now: float) -> None:
        if not self._untroubled:
            self._emit(ev.Say(refused("goodbye", TROUBLED)))
        elif GOODBYE not in self.silences:
            self._let_go(self._leaves.goodbye(goodbye, now), now)

    def _on_maintenance(self, asked: protocol.Maintenance, now: float) -> None:
        if not self._untroubled:
            self._emit(ev.Say(refused("maintenance", TROUBLED)))
        elif asked.seconds == 0:
            self._end_maintenance(now)
        else:
            self._let_go(self._leaves.rest(asked, now), now)

    def _let_go(self, answer: Leave | protocol.Error, now: float) -> None:
        """Where it is granted, it need not answer from now on, and everybody is told."""
        if isinstance(answer, protocol.Error):
            self._emit(ev.Say(answer))
            return
        if answer.notice is not None:
            self._emit(ev.Say(answer.notice))
        self._silence(answer.key, answer.silence, now)
        if answer.key == GOODBYE:
            self._excuse(Excused.GOODBYE, now, now)
        self._emit(ev.Ended(answer.told))
        self._emit(ev.Remember())

    def _end_maintenance(self, now: float) -> None:
        if MAINTENANCE in self.silences:
            self._leaves.maintenance.end(now)
            if self.silences.end(MAINTENANCE):
                self._silence_over(now)
            self._emit(ev.Remember())

    def _back(self, now: float) -> None:
        """It answers: it has not left. In maintenance it need not go on doing so."""
        self._leaves.back()
        if self.silences.end(GOODBYE):
            self._silence_over(now)
        self._leaves.away = self.silences.on
        if not self._leaves.away:
            if self.established:  # else that is what is told
                self._emit(ev.Returned())
            self._emit(ev.Remember())

    @property
    def _untroubled(self) -> bool:
        """Only then does it mean anything that it asks to be left alone, or asked more often."""
        return self.state in (State.ALIVE, State.WAITING) and self.standing is None

    def _ask_other(self, now: float) -> None:
        """Somebody else in the guest may answer."""
        if self._speaks and self._application.other.ask(now):
            self._emit(ev.AskOther(OTHER_TIMEOUT))

    def _on_other_answered(self, event: ev.OtherAnswered, now: float) -> None:
        other = self._application.other
        was_pending = other.pending
        other.answered(event.answers, event.why, now)
        if was_pending:
            self._judge_again(now)

    def _judge_again(self, now: float) -> None:
        """There is evidence that there was not before."""
        if self.state is State.SILENT and self._trigger in (Trigger.SILENT, Trigger.PANIC):
            self._judge(now)
        elif self._in_place.excuse is not None:
            self._hear_host(now)

    @property
    def _was_dead(self) -> bool:
        """Was it found dead, in a way that the host can know, when it had kept silent?"""
        silent = self.state is State.SILENT and self._trigger is Trigger.SILENT
        return silent and self.standing is not None and self.standing.cause in _STOOD_STILL

    def _comes_back(self, verdict: Verdict, now: float) -> bool:
        """It was found dead, and is not by this verdict: that whoever is to acknowledge was silent meanwhile had that
        reason, and it is asked anew; where it is excused, and its kernel lives, there is nothing to accuse. True if so.
        """
        if verdict.cause in _STOOD_STILL:
            self._lived_at = -math.inf
        if verdict.recovery is not Recovery.IF_UNRESPONSIVE or not self._was_dead:
            return False
        if self._in_place.excuse is not None and verdict.cause is not Cause.GUEST_SILENT:
            self._lives_after_all(now)
            return True
        if not self._unheard or self._lived_at > -math.inf:
            return False
        self._ask_anew(now)
        return True

    def _is_owed_nothing(self, now: float) -> bool:
        """Has who was dead, and is not any more, had a full threshold to answer in?"""
        return now >= self._lived_at + full_threshold(self.in_force)

    def _ask_anew(self, now: float) -> None:
        """Only what it does not answer from now on counts."""
        self._unheard, self._verify_at, self._lived_at = False, now, now
        self._challenges.soon(now)

    # -- excuses -------------------------------------------------------------------------------------------------

    def _excuse(self, excuse: Excused, since: float, now: float) -> None:
        """Whoever is to acknowledge cannot be expected to. The host is asked instead, until it can."""
        self._in_place.begin(excuse, since, now)
        self._hear_host(now)
        if now >= self._host_at():
            self._ask_host(now)

    def _excuse_still(self, now: float) -> None:
        """What excused everybody is over: whoever is to acknowledge has left, or cannot be asked, all the same."""
        if GOODBYE in self.silences:
            self._excuse(Excused.GOODBYE, now, now)
        elif self._speaks and not self._application.connected:
            self._excuse(Excused.NOT_CONNECTED, now, now)
        elif not self._speaks and self.port_open is False:
            self._excuse(Excused.PORT_CLOSED, now, now)

    def _host_at(self) -> float:
        """When the host is asked about one who is excused, or it is to be told that nobody can be asked."""
        if self._in_place.excuse is None or self.silences.everybody or self.state not in (State.ALIVE, State.MISSING):
            return math.inf
        if self._suspicion.pending and not self._suspicion.deferred:
            return math.inf  # what it says is on its way
        return min(self._look_at(), self._nobody_at())

    def _look_at(self) -> float:
        return math.inf if self._suspicion.probing else max(self._in_place.look_at, self._suspicion.may_probe_at)

    def _nobody_at(self) -> float:
        heard = self._in_place.since if self.last_ack is None else self.last_ack
        return self._in_place.nobody_at(max(heard, self._undisturbed_since), full_threshold(self.in_force))

    def _tick_excused(self, heard: float, now: float) -> None:
        self._ask_host(now)
        if now < self._nobody_at():
            return
        self._in_place.nobody_seen_at = now
        # A libvirtd that does not answer is no trouble of the guest's.
        if now - heard < FRESH_ENOUGH and nobody_tells(self._gathered(now)):
            self._apply(Input.FOUND_DEAD, now, Trigger.UNHEARD)

    def _ask_host(self, now: float) -> None:
        if now >= self._look_at():
            self._look_into(now)
            self._in_place.look_at = self._suspicion.next_at

    def _look_into(self, now: float) -> None:
        """It is the same trouble as when it was looked at last; or this is the first look."""
        if seen_since(self._gathered(now), self._answered_until):
            self._look_again(now)
        else:
            self._look_first(now)

    def _look_first(self, now: float) -> None:
        self._look(self._suspicion.begin(now, left=self.port_open is False))

    def _look_again(self, now: float) -> None:
        self._look(self._suspicion.again(now, left=self.port_open is False))

    @property
    def _answered_until(self) -> float:
        """What was seen before says nothing: it answered since, or could not."""
        return max(-math.inf if self.last_ack is None else self.last_ack, self._undisturbed_since)

    def _hear_host(self, now: float) -> None:
        """What it says in place of one who is excused."""
        evidence = self._gathered(now)
        if evidence.pending or self.silences.everybody or self._panicked_at is not None:
            return
        if self.state is State.SILENT and self._trigger not in (Trigger.EXITED, Trigger.UNHEARD):
            return  # it is accused of worse, or was asked: what the host says is heard there
        self._in_place.count(evidence.balloon)
        verdict = judge(self._case(evidence, Trigger.UNHEARD))
        if verdict.cause in _KNOWN_BY_HOST and seen_since(evidence, self._answered_until):
            self._found_dead(now)
        elif self._is_unheard and not nobody_tells(evidence):
            self._lives_after_all(now)

    def _found_dead(self, now: float) -> None:
        """Its excuse, or its goodbye, was that of a guest that lived."""
        if self._in_place.silent_probes == 1 and not self._suspicion.confirming:
            self._suspicion.confirm(now)
            self._in_place.look_at = self._suspicion.next_at
        if self._is_unheard:
            self._judge(now)
            return
        self.silences.end(GOODBYE)
        self._apply(Input.FOUND_DEAD, now, Trigger.UNHEARD)

    def _lives_after_all(self, now: float) -> None:
        """Its kernel answers, though nobody else does: what is wrong with that one has a cause of its own."""
        if self._graces.exited:
            self._trigger = Trigger.EXITED
            self._judge(now)
            return
        self._acquit("recovered")
        self._apply(Input.GO_ON, now)
        if self._leaves.left is not None:  # it is as it was when it said goodbye
            self._silence(GOODBYE, goodbye(self._leaves.left), now)

    @property
    def _is_unheard(self) -> bool:
        return self.state is State.SILENT and self._trigger is Trigger.UNHEARD

    # -- health --------------------------------------------------------------------------------------------------

    def _on_agent_replied(self, event: ev.AgentReplied, now: float) -> None:
        if self.system.asking:
            self.system.answered(event.reply, event.failure is ev.Failure.GARBLED)
            return
        outcome = self._checkup.replied(event, now)
        if outcome is None or not self.policy.health_check or self._speaks:
            return
        self._emit_if(self._checkup.remark(outcome))
        self._hear_health(outcome, now)

    def _hear_health(self, outcome: Outcome, now: float) -> None:
        if self._in_postcopy:
            return  # how it is says nothing yet, and no recovery may be asked for
        turn = self._checkup.heard(outcome, self.policy.threshold, now)
        if turn in (Turn.BAD, Turn.NEWS) and self.state in (State.ALIVE, State.MISSING):
            self._accuse_health(now)
        elif turn in (Turn.WELL, Turn.UNKNOWN) and self._unhealthy_stands:
            self._acquit("recovered" if turn is Turn.WELL else "unmonitored")

    def _accuse_health(self, now: float) -> None:
        verdict = judge(Case(Trigger.UNHEALTHY, self.policy.channel, replace(self._gathered(now), pending=False)))
        if self._checkup.reasons:
            verdict = replace(verdict, reason=f"{verdict.reason}: {self._checkup.reasons}")
        self.standing = Standing(verdict.cause)
        self._raise(verdict)

    def _raise(self, verdict: Verdict) -> None:
        counted = self.misses, self.skipped, self.suspected_at, self.last_ack
        self._emit(ev.RaiseFault(verdict, *counted, self.policy.action, self._checkup.report))

    @property
    def _unhealthy_stands(self) -> bool:
        return self.standing is not None and self.standing.cause is Cause.APPLICATION_UNHEALTHY

    def _acquit(self, resolution: str) -> None:
        self.standing = None
        self._emit(ev.ClearFault(resolution))

    # -- what libvirt told ---------------------------------------------------------------------------------------

    def _on_port_changed(self, event: ev.PortChanged, now: float) -> None:
        if event.channel is self.policy.channel:
            self._port(event.open, now)

    def _port(self, is_open: bool, now: float) -> None:
        was, self.port_open = self.port_open, is_open
        if was is not is_open:
            self._port_at = now
        if self._speaks:  # an application that is gone is silent: its port is evidence, and no excuse
            if is_open and was is False:
                self._reopened_at = now
                self._ask_anew(now)
                self._challenge_at_once(now)
            return
        if not is_open:
            self._unasked = ev.Failure.CLOSED.value
            self._beats.not_asked()
            self._graces.closings += was is not False
            if was is not False:
                self._withdraw()
            self._excuse(Excused.PORT_CLOSED, now, now)
            answered_once = self.state in (State.ALIVE, State.MISSING, State.SILENT)
            if answered_once and self._trigger_can_settle():
                self._graces.port_closed(now)
        elif was is False:
            self._unasked = ""
            self._reopened_at, self._graces.exited = now, False
            self._in_place.end()
            self._challenges.soon(now)
            self._apply(Input.REOPENED, now)
            self._beats.restart(now, 0.0)

    def _trigger_can_settle(self) -> bool:
        """Is there anything to be said about the closed port that has not been said?"""
        return self.standing is None or self.standing.cause is not Cause.AGENT_EXITED

    def _settled(self, now: float) -> None:
        """No acknowledgement since the port closed, settle time over."""
        if self.port_open is False and (self._panicked_at is not None or self._trigger_is_stuck):
            pass  # who panicked, or is paused, needs no agent to have gone for nobody to answer
        elif self.port_open is False:
            self._graces.exited = True
            if not self._is_unheard and not self._was_dead:  # else if its kernel answers after all
                self._apply(Input.EXITED, now, Trigger.EXITED)
        elif self._graces.closings >= CRASH_LOOPS:
            self._apply(Input.EXITED, now, Trigger.EXITED)
        elif not self._unheard or self._in_place.excuse is not None:
            pass  # whoever opened it was not asked, and is not to be blamed for that; its beats tell
        elif not self._graces.reopened(self._reopened_at, now):
            self._apply(Input.LAST_MISS, now, Trigger.SILENT)
            if self.state is State.SILENT and self._trigger is Trigger.SILENT:
                self._judge(now)

    @property
    def _trigger_is_stuck(self) -> bool:
        return self.state is State.SILENT and self._trigger in _STUCK.values()

    def _on_booted(self, event: ev.Booted, now: float) -> None:
        self._appears(now)
        self._leaves.back()
        if self.silences.end("paused", "passage", "postcopy", JOB, GOODBYE):
            self._silence_over(now)
        self._application.window.forget()
        if self.in_force != self.policy:
            self._application.adopt(self.policy)
            self._beats = self._new_beats(now)
        self._checkup.rebooted()
        self._booted_at = now
        self.port_open = None
        self._graces.answered()
        self._in_place.end()
        self._panicked_at = self._watchdog = None
        self._saves_dump, self._pause_is_wish, self.orphaned = False, True, False
        self._suspicion.rebooted()
        self.system.rebooted()
        self._apply(Input.BOOT, now)

    def _on_restored(self, event: ev.Restored | ev.Arriving, now: float) -> None:
        self._appears(now)
        if not self.established or self.waiting_since is not None:
            self._on_booted(ev.Booted(), now)
        else:
            self._apply(Input.GO_ON, now)
        if isinstance(event, ev.Arriving):
            self._silence("passage", Silence(ARRIVING, None), now)  # a migration takes as long as it takes
        else:
            self._silence("passage", Silence("being restored", now + PASSAGE), now)

    def _on_shutting_down(self, event: ev.ShuttingDown, now: float) -> None:
        self._graces.settle_at = None
        self._silence("passage", Silence("powering off", now + PASSAGE), now)

    def _on_stopped(self, event: ev.Stopped, now: float) -> None:
        # An incoming migration that fails ends as "failed" here, and goes on where it was.
        arriving = self._arrives
        self.orphaned = False
        self.silences.end("paused", "passage", "postcopy", JOB, GOODBYE)
        self._leaves.back()
        ended = _ENDED.get(event.exit)
        if ended is not None and not arriving:
            self._apply(Input.FAIL, now, ended)
            self._leave(now)
        else:
            self._apply(Input.MOVE if event.exit is ev.Exit.MOVED else Input.STOP, now)

    def _on_paused(self, event: ev.Paused, now: float) -> None:
        if self._panicked_at is None or event.wish:  # else the pause is the panic's own
            self._pause_is_wish, self.orphaned = event.wish, False
            self._silence("paused", Silence(event.reason, None), now)

    def _on_resumed(self, event: ev.Resumed, now: float) -> None:
        self.orphaned = False
        over = ("paused", "passage", "postcopy") if event.arrived else ("paused", "passage")
        if self._arrives:
            self._unwatched_since = now
        if self.silences.end(*over):
            self._silence_over(now)
        if self._panicked_at is not None and self._graces.panic_at is None:
            self._graces.panicked(now, self._saves_dump)  # its vCPUs stood still: it has all of its time from now on
        if self._trigger_is_stuck:
            # What it was accused of is over; whether the guest lives is to be seen.
            self._in_place.end()
            self._apply(Input.GO_ON if self.waiting_since is None else Input.BOOT, now)
            self._excuse_still(now)
        self._challenges.soon(now)

    def _on_in_postcopy(self, event: ev.InPostcopy, now: float) -> None:
        self.silences.end("paused")
        self.silences.end("passage")
        self._silence("postcopy", Silence(IN_POSTCOPY, None, ask=True), now)
        if event.failed:  # told, and still not judged: whoever resets it destroys what only the source has
            self._apply(Input.STUCK, now, Trigger.POSTCOPY)

    def _on_stuck(self, event: ev.Stuck, now: float) -> None:
        if event.cause is Cause.PAUSED_FAILED and self._panicked_at is not None:
            return  # it is paused because it has panicked
        if event.settles:
            self._settle_pause(now)
            return
        self._not_by_wish(now)
        self._graces.standstill()
        self._apply(Input.STUCK, now, _STUCK[event.cause])

    def _settle_pause(self, now: float) -> None:
        """Paused, and libvirt does not say why: whether that lasts is to be seen."""
        if self.orphaned or self._trigger_is_stuck:
            return
        self.orphaned, self._pause_is_wish = True, False
        self._silence("paused", Silence("paused, and libvirt does not say why", now + PAUSE_SETTLES), now)

    def _pause_settled(self, now: float) -> None:
        self.orphaned = False
        if JOB in self.silences:
            self._settle_pause(now)
        else:
            self._on_stuck(ev.Stuck(Cause.PAUSED_FAILED), now)

    def _on_panicked(self, event: ev.Panicked, now: float) -> None:
        if self._panicked_at is not None and self._saves_dump >= event.saves_dump:
            return
        self._panicked_at, self._saves_dump = now, event.saves_dump
        if not self._pause_is_wish:
            self._not_by_wish(now)
        self._graces.panicked(now, event.saves_dump)
        if event.saves_dump or self.timing.panic_grace > max(full_threshold(self.in_force), LONG_GRACE):
            # It is dead, or will be called so long before its time is over: both are to be known at once, and to be
            # known still by a worker that is restarted meanwhile.
            self._apply(Input.PANIC, now, Trigger.PANIC)
        if self.silences.asking and self.state is not State.GONE:
            self._ask(now, ev.Pace.SUSPECT)  # it may live after all

    def _not_by_wish(self, now: float) -> None:
        """That it is paused is nobody's wish, and so no silence."""
        self._pause_is_wish, self.orphaned = True, False
        if self.silences.end("paused"):
            self._silence_over(now)

    def _on_watchdog(self, event: ev.WatchdogFired, now: float) -> None:
        self._watchdog = (event.action, now)

    # -- silences ------------------------------------------------------------------------------------------------

    def _on_silenced(self, event: ev.Silenced, now: float) -> None:
        self._silence(event.key, Silence(event.reason, event.until, event.ask), now)
        if event.key == JOB and self._suspicion.job_poll_at is None:
            self._suspicion.job_poll_at = now + JOB_POLL  # of a job that is cancelled libvirt tells no end

    def _on_unsilenced(self, event: ev.Unsilenced, now: float) -> None:
        if event.key == JOB:
            self._suspicion.job_poll_at = None
        if self.silences.end(event.key):
            self._silence_over(now)

    def _on_verify(self, event: ev.Verify, now: float) -> None:
        """Ask it anew. Its kernel is asked every `probe_interval` as it is."""
        self._verify_at = now
        self._challenges.soon(now)
        if self.silences.asking:
            self._ask_again(now)

    def _on_voided(self, event: ev.Voided, now: float) -> None:
        if not self._beats.doubt(event.since, now):
            self._in_spite_at = now
            return
        self._disturbed(now)
        if event.lasted > LATE:  # what is shorter takes nothing from a balloon, which has seconds for its answer
            self._suspicion.stalled(now)

    def _silence(self, key: str, silence: Silence, now: float) -> None:
        if not self.silences:
            self._silenced_at = self._unwatched_since = now
        self.silences.begin(key, silence)
        if self.silences.everybody:
            self._in_place.end()
        self._look(self._suspicion.end())  # a kernel that stands still answers no probe either
        self._apply(Input.HUSH, now)
        if not silence.ask:
            self._withdraw()

    def _silence_over(self, now: float) -> None:
        self._suspicion.stood_still(now)
        self._suspicion.job_poll_at = None
        self._disturbed(now)
        if self.standing is not None and self.standing.pending:
            self._suspicion.interrupted()
        self._apply(Input.HUSH, now)
        lasted = now - self._silenced_at
        if self.waiting_since is not None:
            self.waiting_since = min(self.waiting_since + lasted, now)
        self._graces.put_off(lasted, now)
        self._beats.catch_up(now)
        self._challenges.soon(now)

    def _appears(self, now: float) -> None:
        """While it did not run here, there was nobody to be watched."""
        if self.state is State.GONE:
            self._unwatched_since = now

    @property
    def _arrives(self) -> bool:
        """Is it still where it comes from, and watched there?"""
        return self.silences.told().get("passage") == ARRIVING

    def _told_ended_at(self) -> float:
        """When its silence has lasted for long: two of its own intervals at least, since one is owed after a start."""
        if self._leaves.away or self._arrives:
            return math.inf
        return self._unwatched_since + max(LONG_SILENCE, 2 * self.policy.interval)

    def _tick_silences(self, now: float) -> None:
        if now >= self._told_ended_at():
            self._leaves.away = True
            self._emit(ev.Ended(long_silence(now - self._unwatched_since, self.silences.told().values())))
            self._emit(ev.Remember())

    def _on_policy_changed(self, event: ev.PolicyChanged, now: float) -> None:
        was, self.policy = self.policy, event.policy
        self._speaks = event.policy.channel is Channel.APPLICATION
        self._application.adopt(event.policy)
        self._apply(Input.HUSH, now)
        self._beats = self._new_beats(now)
        if event.policy.channel is not was.channel:
            self._change_channel(now)
        elif was.health_check and not event.policy.health_check:
            self._checkup.drop()
            if self._unhealthy_stands:
                self._acquit("unmonitored")
        elif event.policy.action is not was.action:
            self._judge_by_action(now)
        self._graces.await_ack()
        if self.standing is not None:
            self._graces.overdue_at = None

    def _judge_by_action(self, now: float) -> None:
        """What is asked for is another matter now, though nothing about the guest has changed."""
        if self._unhealthy_stands:
            self._accuse_health(now)
        elif self.standing is not None and self.state is State.SILENT:
            self.standing = replace(self.standing, pending=True)
            self._judge(now)

    def _change_channel(self, now: float) -> None:
        """Somebody else is to acknowledge, who never has: what was found on the other channel is nobody's any more."""
        self._withdraw()
        self._challenges = Challenges(now)
        self._graces.settle_at = None
        self._application.window.forget()
        self._leaves.back()
        if self.silences.end(GOODBYE, MAINTENANCE):
            self._silence_over(now)
        self._leaves.away = False
        self._checkup.drop()
        self.port_open = None
        if self.standing is not None:
            self._acquit("unmonitored")
        if self.state is not State.GONE:
            self.established, self.waiting_since = False, now
            self._apply(Input.BOOT, now)

    def _new_beats(self, now: float) -> Beats:
        policy = self.in_force
        longest = math.inf if self._speaks else LONGEST_REQUEST
        return Beats(policy.interval, policy.timeout, now + stagger(self.uuid, policy.interval), longest)

    # -- evidence ------------------------------------------------------------------------------------------------

    def _on_looked(self, event: ev.Looked, now: float) -> None:
        if isinstance(event.look, ev.LookJob) and JOB in self.silences:
            self._job_polled(event.answer, now)
            return
        self._look(self._suspicion.answered(event.look, event.answer, now))
        if self._suspicion.job is not None:
            self._job_begun(self._suspicion.job, now)
            return
        if self._suspicion.learn_balloon():
            self._emit(ev.Remember())
        self._judge_again(now)

    def _tick_evidence(self, now: float) -> None:
        if self.state is not State.SILENT and self._suspicion.idle and not self._application.other.pending:
            return
        if self._application.other.overdue(now):
            self._judge_again(now)
        if self._suspicion.baseline_at is not None and now >= self._suspicion.baseline_at:
            self._baseline(now)
        was_pending = self._suspicion.pending
        self._look(self._suspicion.tick(now))
        if was_pending and not self._suspicion.pending:
            self._judge_again(now)
        if now >= self._again_at():
            self._look_again(now)
            self._ask_other(now)

    def _again_at(self) -> float:
        """When the host is asked again about a silent guest."""
        if self.state is not State.SILENT or self.silences.on or self._trigger not in _LOOKED_INTO:
            return math.inf
        return self._suspicion.again_at(owed=self.standing is not None and self.standing.pending)

    def _baseline(self, now: float) -> None:
        """While the guest is well, learn whether its balloon answers."""
        if self.state is State.ALIVE:
            self._look(self._suspicion.baseline(not self.silences, now))
        else:
            self._suspicion.baseline_at = None

    def _job_begun(self, operation: str, now: float) -> None:
        self._look(self._suspicion.end())
        self._suspicion.job_poll_at = now + JOB_POLL
        self._silence(JOB, Silence(f"libvirt job: {operation}", now + JOB_BELIEVED), now)

    def _job_polled(self, answer: ev.Answer, now: float) -> None:
        operation = answer.operation if isinstance(answer, ev.Job) else None
        if isinstance(answer, ev.Job) and (operation is None or not lifecycle.excuses(operation)):
            self._on_unsilenced(ev.Unsilenced(JOB), now)
            return
        if operation is not None:
            self.silences.begin(JOB, Silence(f"libvirt job: {operation}", now + JOB_BELIEVED))
        self._suspicion.job_poll_at = now + JOB_POLL

    def _gathered(self, now: float) -> Evidence:
        port = unavailable("not told yet") if self.port_open is None else Reading(self.port_open, self._port_at)
        panic = Reading(CRASH_DUMP if self._saves_dump else self._panicked_at is not None, self._panicked_at)
        gathered = self._suspicion.gathered(port, panic, self._watchdog, self.system.reading(), self.last_ack)
        seen, other = gathered.balloon, self._application.other
        if seen.value is Balloon.NO_ANSWER and (seen.at or 0.0) < self._reopened_at:
            gathered = replace(gathered, balloon=unavailable("somebody in it has opened its port since it was asked"))
        return replace(
            gathered,
            connection=self._application.connection(now),
            other_channel=other.said,
            host=self._host.reading(),
            pending=gathered.pending or other.pending,
        )

    # -- acts ----------------------------------------------------------------------------------------------------

    def _apply(self, found: Input, now: float, trigger: Trigger | None = None) -> None:
        self.state, act = TRANSITIONS[self.state][found]
        if act is Act.ACCUSE and trigger is not None:
            self._trigger = trigger
        _ACTS[act](self, now)

    def _establish(self, now: float) -> None:
        first = not self.established
        self.established = True
        self.waiting_since = self._graces.overdue_at = None
        self._beats.restart(now, stagger(self.uuid, self.in_force.interval) or self.in_force.interval)
        self._emit(ev.Established(first))
        self._emit(ev.Remember())
        self._calm(now)

    def _calm(self, now: float) -> None:
        self._look(self._suspicion.drop())

    def _suspect(self, now: float) -> None:
        self.suspected_at = now
        if self._in_place.excuse is None:
            self._look_first(now)
        elif not self._suspicion.pending:
            self._look_into(now)
        self._application.other.forget()
        self._ask_other(now)

    def _accuse(self, now: float) -> None:
        self.last_miss = now
        self.acks = 0
        if self.suspected_at is None and self._trigger in (Trigger.SILENT, Trigger.PANIC):
            self._suspect(now)
        elif self.suspected_at is None:
            self.suspected_at = now
        elif now >= self._again_at():  # what was seen at its first miss is too old to judge by
            self._look_again(now)
            self._ask_other(now)
        self._judge(now)

    def _judge(self, now: float) -> None:
        """What it looks like now. A verdict is pending while evidence is on its way that can change it.

        That the agent is silent is such evidence, too: until a challenge of ours came back without an answer, it may
        not have reached the agent at all, since somebody else's command can hold it for long. Nothing is decided during
        a silence; and a probe that was put off is not waited for when it is put off again and again.
        """
        evidence, silent = self._gathered(now), self._trigger is Trigger.SILENT
        verdict = judge(self._case(evidence, self._trigger))
        if not evidence.pending and self._comes_back(verdict, now):
            return
        unsure = not self._unheard and verdict.recovery is Recovery.IF_UNRESPONSIVE
        outstanding = evidence.pending and not (self._suspicion.deferred and self._put_off_for_long(now))
        held = self._held(evidence, now)
        # What a kernel told of itself is final while it has time: what else is found out is told when it is.
        final = bool(held) and verdict.cause is Cause.GUEST_PANICKED
        pending = silent and not final and (outstanding or unsure or bool(self.silences))
        if pending and self.standing is not None and not self.standing.pending and bool(held) is self.standing.held:
            return  # a further look at an old case: its outcome counts, not its beginning
        if self.standing is None:
            self._pending_since = now
        standing = Standing(verdict.cause, pending, bool(held), bool(verdict.unproven), verdict.confidence)
        if standing != self.standing:
            self.standing = standing
            if verdict.unproven and not pending:
                verdict = replace(verdict, reason=f"{verdict.reason}; {verdict.unproven}")
            if held:
                verdict = replace(verdict, reason=f"{verdict.reason}; {held}", held=True)
            verdict = replace(verdict, evidence=replace(evidence, pending=pending))
            self._raise(verdict)
            self._challenges.soon(now)

    def _case(self, evidence: Evidence, trigger: Trigger) -> Case:
        return Case(
            trigger,
            self.policy.channel,
            evidence,
            self._leaves.overrun,
            confirmed=trigger is not Trigger.UNHEARD or self._in_place.confirmed,
            crash_loops=not self._speaks and self._graces.closings >= CRASH_LOOPS,
        )

    def _held(self, evidence: Evidence, now: float) -> str:
        """Why it has time, whatever is wrong with it; "": it has none."""
        if self._trigger is not Trigger.FAILED and self._in_postcopy:
            return _MEMORY_IS_ELSEWHERE
        if self._trigger in (Trigger.SILENT, Trigger.PANIC) and self._graces.panic_at is not None:
            return _SAVES_DUMP if self._saves_dump else _MAY_REBOOT
        if self._trigger is Trigger.SILENT and self._in_spite_at > -math.inf and self._in_doubt(evidence, now):
            return _IN_SPITE_OF_DOUBT
        return ""

    def _in_doubt(self, evidence: Evidence, now: float) -> bool:
        """Has the host not been quiet for long enough, or its kernel not been asked since?"""
        if self._host.why or now - self._in_spite_at < QUIET:
            return True
        probed_at = now if evidence.balloon.at is None else evidence.balloon.at
        if probed_at < self._in_spite_at and not self._suspicion.looked_since(self._in_spite_at):
            return True
        self._in_spite_at = -math.inf  # it is over: no later look takes that back
        return False

    @property
    def _in_postcopy(self) -> bool:
        return "postcopy" in self.silences

    def _put_off_for_long(self, now: float) -> bool:
        """Longer than any one probe is put off: a port that flaps interrupts each of them."""
        pending = self.standing is not None and self.standing.pending
        return pending and now - self._pending_since > self.timing.probe_interval

    def _await(self, now: float) -> None:
        self._look(self._suspicion.drop())
        self._suspicion.baseline_at = None
        self._renew(now)
        self._graces.standstill()
        if self.waiting_since is None:
            self.waiting_since = now
        self._graces.await_ack()
        self._beats.restart(now, min(self.in_force.interval, self._beats.timeout))
        self._emit(ev.Remember())

    def _renew(self, now: float) -> None:
        self._look(self._suspicion.end_but_baseline())
        self._unheard = False
        self.misses = 0
        self.suspected_at = None
        self._beats.void(now)
        self._beats.catch_up(now)

    def _leave(self, now: float) -> None:
        self._suspicion.stopped()
        self._graces.end()
        self.misses = 0
        self.suspected_at = self.waiting_since = self.port_open = None
        self._withdraw()
        self._beats.void(now)
        self._emit(ev.Remember())

    def _depart(self, now: float) -> None:
        self._leave(now)
        if self.standing is not None:
            self._acquit("moved")

    # -- helpers -------------------------------------------------------------------------------------------------

    def _first_state(self, running: bool) -> State:
        if not running:
            return State.GONE
        return State.ALIVE if self.established and self.waiting_since is None else State.WAITING

    def _overdue(self) -> float | None:
        """Until when the first acknowledgement of this boot is awaited."""
        if self.waiting_since is None:
            return None
        if self.established:
            return self.waiting_since + self.timing.reboot_grace
        return self.waiting_since + self.policy.grace if self.policy.grace else None

    def _withdraw(self) -> None:
        if self._challenges.out or self._application.other.out:
            self._emit(ev.Withdraw())

    def _look(self, looks: list[ev.Look]) -> None:
        self._out += [ev.LookAt(look) for look in looks]

    def _emit(self, effect: ev.Effect) -> None:
        self._out.append(effect)

    def _emit_if(self, effect: ev.Effect | None) -> None:
        if effect is not None:
            self._out.append(effect)

    def _nothing(self, now: float) -> None:
        pass


_ACTS: dict[Act, Callable[[Monitor, float], None]] = {
    Act.NOTHING: Monitor._nothing,
    Act.ESTABLISH: Monitor._establish,
    Act.CALM: Monitor._calm,
    Act.SUSPECT: Monitor._suspect,
    Act.COUNT: Monitor._nothing,
    Act.ACCUSE: Monitor._accuse,
    Act.AWAIT: Monitor._await,
    Act.RENEW: Monitor._renew,
    Act.LEAVE: Monitor._leave,
    Act.DEPART: Monitor._depart,
}

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
    ev.Restored: Monitor._on_restored,
    ev.Arriving: Monitor._on_restored,
    ev.ShuttingDown: Monitor._on_shutting_down,
    ev.Stopped: Monitor._on_stopped,
    ev.Paused: Monitor._on_paused,
    ev.Resumed: Monitor._on_resumed,
    ev.InPostcopy: Monitor._on_in_postcopy,
    ev.Stuck: Monitor._on_stuck,
    ev.Panicked: Monitor._on_panicked,
    ev.WatchdogFired: Monitor._on_watchdog,
    ev.Silenced: Monitor._on_silenced,
    ev.Unsilenced: Monitor._on_unsilenced,
    ev.Voided: Monitor._on_voided,
    ev.PolicyChanged: Monitor._on_policy_changed,
    ev.Looked: Monitor._on_looked,
    ev.Verify: Monitor._on_verify,
}
