"""What a guest is found to be, and whether that is final: the case of one that was asked in vain, or that is found dead
while it is excused.

The evidence is its `witnesses`'; which cause it proves, and what that asks for, stands in `verdict`. A verdict is
pending while evidence is on its way that can change it, and held while its guest has time: then no recovery may be
asked for. Belongs to a monitor, which says when to look, and carries out what follows: see `consequences`. Times are
seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import replace

from vmhb_common.model.causes import Cause, rests_on
from vmhb_worker.core import events as ev
from vmhb_worker.core.absence import GOODBYE, goodbye
from vmhb_worker.core.ask_schedule import full_threshold
from vmhb_worker.core.caution import KINDS
from vmhb_worker.core.consequences import Accuse, AskSoon, Begin, Consequence, Drop, Found
from vmhb_worker.core.domain_life import STUCK
from vmhb_worker.core.doubt import QUIET
from vmhb_worker.core.evidence import Balloon, Evidence
from vmhb_worker.core.excuses import Excused, lives_since, seen_since
from vmhb_worker.core.graces import Graces
from vmhb_worker.core.instance_state import Standing
from vmhb_worker.core.transitions import Input, State
from vmhb_worker.core.verdict import Case, Recovery, Trigger, Verdict, judge, starved
from vmhb_worker.core.witnesses import Witnesses

#: An agent that has gone and come so often without an answer is one that ends again and again: whoever opens a port is
#: scheduled.
CRASH_LOOPS = 2
#: A guest that is starved is given a threshold's time again, so often in a row: then it is told.
STRETCHES = 3
#: Who is found dead behind an excuse: only of what the host can know.
_KNOWN_BY_HOST = frozenset({Cause.QEMU_HUNG, Cause.GUEST_HUNG, Cause.ASLEEP})
#: Of whom nobody could answer, whatever the agent or the application is like.
_STOOD_STILL = _KNOWN_BY_HOST | {Cause.STARVED}
#: Whose host is asked again and again, in case that it was too early to call it dead, or that it has died since.
_LOOKED_INTO = frozenset({Trigger.SILENT, Trigger.UNHEARD, Trigger.EXITED})
#: Why no recovery is asked for yet.
_MAY_REBOOT = "it panicked, and may reboot by itself until [verdict] panic_grace is over"
_SAVES_DUMP = "it saves a crash dump, and has until [verdict] crash_dump_grace is over"
_MAY_GO_ON = "it has just arrived from another host, and may go on by itself within a minute of that"
_IN_SPITE_OF_DOUBT = "it was judged in spite of doubt in its host, which has not been over for long enough"
_MEMORY_IS_ELSEWHERE = "a part of its memory is still on another host, and a reset would destroy that"


class Investigation:
    """Of one guest. trigger: what made us judge it, as long as it is silent. standing: the verdict that stands, for
    which a fault is open. in_spite_at: when it was last judged in spite of doubt in ourselves. pending_since: since
    when a verdict has been waited for, undisturbed. stretched: times in a row that a starved guest was given more time.

    Reads the graces, and what its witnesses read; changes none of it, but that it has the host asked once more, or the
    guest anew. It needs no beats: `state` says what they came to.
    """

    __slots__ = (
        "_answers",
        "_application",
        "_graces",
        "_life",
        "_silences",
        "_witnesses",
        "in_spite_at",
        "pending_since",
        "standing",
        "stretched",
        "trigger",
    )

    def __init__(self, witnesses: Witnesses, graces: Graces, standing: Standing | None, now: float) -> None:
        """standing: of an earlier life of the worker."""
        self._witnesses = witnesses
        self._silences = witnesses.silences
        self._graces = graces
        self._life = witnesses.life
        self._answers = witnesses.answers
        self._application = witnesses.application
        self.standing = standing
        self.trigger = Trigger.SILENT
        self.in_spite_at = -math.inf
        self.pending_since = now
        self.stretched = 0

    # -- what is found -------------------------------------------------------------------------------------------

    def judge(self, state: State, now: float) -> list[Consequence]:
        """What it looks like now. A verdict is pending while evidence is on its way that can change it.

        That the agent is silent is such evidence, too: until a challenge of ours came back without an answer, it may
        not have reached the agent at all, since somebody else's command can hold it for long. Nothing is decided during
        a silence; and a probe that was put off is not waited for when it is put off again and again.
        """
        evidence, silent = self._witnesses.gathered(now), self.trigger is Trigger.SILENT
        verdict = judge(self._case(evidence, self.trigger))
        back = None if evidence.pending else self._comes_back(verdict, state, now)
        if back is not None:
            return back
        unsure = not self._answers.unheard and verdict.recovery is Recovery.IF_UNRESPONSIVE
        outstanding = evidence.pending and not (self._witnesses.host.deferred and self._put_off_for_long(now))
        held = self._held(evidence, now)
        # What a kernel told of itself is final while it has time: what else is found out is told when it is.
        final = bool(held) and verdict.cause is Cause.GUEST_PANICKED
        pending = silent and not final and (outstanding or unsure or bool(self._silences))
        return self._settle(verdict, pending, held, now)

    def _settle(self, verdict: Verdict, pending: bool, held: str, now: float) -> list[Consequence]:
        """It stands as it is now; it is told if that is news."""
        was = self.standing
        if pending and was is not None and not was.pending and bool(held) is was.held:
            return []  # a further look at an old case: its outcome counts, not its beginning
        if was is None:
            self.pending_since = now
        standing = Standing(verdict.cause, pending, bool(held), bool(verdict.unproven), verdict.confidence)
        if standing == was:
            return []
        self.standing = standing
        if verdict.unproven and not pending:
            verdict = replace(verdict, reason=f"{verdict.reason}; {verdict.unproven}")
        if held:
            verdict = replace(verdict, reason=f"{verdict.reason}; {held}", held=True)
        return [Accuse(replace(verdict, evidence=replace(verdict.evidence, pending=pending))), AskSoon()]

    def judge_again(self, state: State, now: float) -> list[Consequence]:
        """There is evidence that there was not before."""
        if state is State.SILENT and self.trigger in (Trigger.SILENT, Trigger.PANIC):
            return self.judge(state, now)
        return [] if self._witnesses.in_place.excuse is None else self.hear_host(state, now)

    def judge_by_action(self, state: State, now: float) -> list[Consequence]:
        """What is asked for is another matter now, though nothing about the guest has changed."""
        if self.standing is None or state is not State.SILENT:
            return []
        self.standing = replace(self.standing, pending=True)
        return self.judge(state, now)

    def accuse_of_health(self, reasons: str, now: float) -> list[Consequence]:
        """Its application says that it is unhealthy. reasons: why, in its words."""
        evidence = replace(self._witnesses.gathered(now), pending=False)
        verdict = judge(Case(Trigger.UNHEALTHY, self._application.in_force.channel, evidence))
        if reasons:
            verdict = replace(verdict, reason=f"{verdict.reason}: {reasons}")
        self.standing = Standing(verdict.cause)
        return [Accuse(verdict)]

    def accuse_of_freeze(self, now: float) -> list[Consequence]:
        """Its file systems stay frozen. It gives way to whatever else is found."""
        if self.standing is not None:
            return []
        evidence = replace(self._witnesses.gathered(now), pending=False)
        verdict = judge(Case(Trigger.FROZEN, self._application.in_force.channel, evidence))
        self.standing = Standing(verdict.cause)
        return [Accuse(verdict)]

    def hears_nothing(self, state: State) -> None:
        """It was asked after all, and is silent: that is what it is judged for from now on, whatever excused it."""
        if self.is_unheard(state) and self._answers.unheard:
            self.trigger = Trigger.SILENT

    def accuse_of_memory(self, state: State, now: float) -> list[Consequence]:
        """What it works with is broken: told at once, and for as long as it does. See `memory_failures`."""
        if state is not State.SILENT:
            self.trigger = Trigger.MEMORY
        self.standing = Standing(Cause.MEMORY_FAILURE)
        return [Accuse(judge(self._case(replace(self._witnesses.gathered(now), pending=False), self.trigger)))]

    def answers_all_the_same(self, state: State, now: float) -> list[Consequence]:
        """It answers, and works with broken memory: that is told where it was told that it does not answer."""
        return [] if self.trigger is Trigger.MEMORY else self.accuse_of_memory(state, now)

    def tell_anew(self) -> None:
        """What is found next is news, whatever stands."""
        self.standing = None if self.standing is None else replace(self.standing, pending=True)

    def acquit(self, resolution: str) -> list[Consequence]:
        """Nothing stands against it any more."""
        self.standing = None
        return [ev.ClearFault(resolution)]

    def starves(self, now: float) -> bool:
        """Is it not let run? That stretches its time, a few times."""
        evidence = self._witnesses.gathered(now)
        seen = not evidence.pending and seen_since(evidence, self._answers.answered_until)
        stretches = self.stretched < STRETCHES and seen and starved(evidence)
        self.stretched += stretches
        return stretches

    def _case(self, evidence: Evidence, trigger: Trigger) -> Case:
        return Case(
            trigger,
            self._application.in_force.channel,
            evidence,
            self._application.leaves.overrun,
            confirmed=trigger is not Trigger.UNHEARD or self._witnesses.in_place.confirmed,
            crash_loops=not self._application.speaks and self._graces.closings >= CRASH_LOOPS,
        )

    # -- may a recovery be asked for -----------------------------------------------------------------------------

    def _held(self, evidence: Evidence, now: float) -> str:
        """Why it has time, whatever is wrong with it; "": it has none."""
        if self._life.memory.failed:
            return ""  # no recovery will be asked for
        if self.trigger is not Trigger.FAILED and self._life.in_postcopy:
            return _MEMORY_IS_ELSEWHERE
        panic_at = self._graces.panic_at
        if self.trigger in (Trigger.SILENT, Trigger.PANIC) and panic_at is not None and now < panic_at:
            return _SAVES_DUMP if self._life.saves_dump else _MAY_REBOOT
        until = self._graces.arrived_until
        if self.trigger in (Trigger.SILENT, Trigger.UNHEARD) and until is not None and now < until:
            return _MAY_GO_ON
        if self.trigger is Trigger.SILENT and self.in_spite_at > -math.inf and self._in_doubt(evidence, now):
            return _IN_SPITE_OF_DOUBT
        return ""

    def _in_doubt(self, evidence: Evidence, now: float) -> bool:
        """Has the host not been quiet for long enough, or its kernel not been asked since?"""
        if self._witnesses.strain.why or now - self.in_spite_at < QUIET:
            return True
        probed_at = now if evidence.balloon.at is None else evidence.balloon.at
        if probed_at < self.in_spite_at and not self._witnesses.host.looked_since(self.in_spite_at):
            return True
        self.in_spite_at = -math.inf  # it is over: no later look takes that back
        return False

    def _put_off_for_long(self, now: float) -> bool:
        """Longer than any one probe is put off: a port that flaps interrupts each of them."""
        return self.pending and now - self.pending_since > self._witnesses.host.probe_interval

    # -- while whoever is to acknowledge is excused --------------------------------------------------------------

    def hear_host(self, state: State, now: float) -> list[Consequence]:
        """What it says in place of one who is excused."""
        evidence = self._witnesses.gathered(now)
        if evidence.pending or self._silences.everybody:
            return []
        if self._life.panicked_at is not None or self._life.memory.failed:
            return []  # it is accused of that, whatever its kernel says
        if state is State.SILENT and self.trigger not in (Trigger.EXITED, Trigger.UNHEARD):
            return []  # it is accused of worse, or was asked: what the host says is heard there
        self._witnesses.in_place.count(evidence.balloon)
        verdict = judge(self._case(evidence, Trigger.UNHEARD))
        if verdict.cause in _KNOWN_BY_HOST and seen_since(evidence, self._answers.answered_until):
            return self._found_dead(state, now)
        if self.is_unheard(state) and lives_since(evidence, self._answers.answered_until):
            return self._lives_after_all(state, now)
        return self._goes_first(evidence)

    def _goes_first(self, evidence: Evidence) -> list[Consequence]:
        """Its kernel lives: where it merely waits for its turn to be asked, it is before the others."""
        in_place = self._witnesses.in_place
        if in_place.excuse is not Excused.NO_PLACE or evidence.balloon.value is not Balloon.ANSWERED:
            return []
        in_place.dead_at, in_place.gave_way = math.inf, False
        return [ev.GoFirst()]

    def _found_dead(self, state: State, now: float) -> list[Consequence]:
        """Its excuse, or its goodbye, was that of a guest that lived."""
        in_place, host = self._witnesses.in_place, self._witnesses.host
        if in_place.excuse is Excused.NO_PLACE and not self.is_unheard(state):
            return self._found_dead_in_a_crowd(now)
        if in_place.silent_probes == 1 and not host.confirming:
            host.confirm(now)
            in_place.look_at = host.next_at
        if self.is_unheard(state):
            return self.judge(state, now)
        return [Drop((GOODBYE,)), Found(Input.FOUND_DEAD, Trigger.UNHEARD)]

    def _found_dead_in_a_crowd(self, now: float) -> list[Consequence]:
        """It merely waits for its turn to be asked: its beats are missed as others' are."""
        in_place = self._witnesses.in_place
        bound = self._answers.answered_until + full_threshold(self._application.in_force)
        news: list[Consequence] = [] if in_place.gave_way else [ev.GiveWay()]
        in_place.gave_way = True
        if now < bound:
            in_place.dead_at = bound
            return news
        return [*news, Found(Input.FOUND_DEAD, Trigger.UNHEARD)]

    def _lives_after_all(self, state: State, now: float) -> list[Consequence]:
        """Its kernel answers, though nobody else does: what is wrong with that one has a cause of its own."""
        if self._graces.exited:
            self.trigger = Trigger.EXITED
            return self.judge(state, now)
        left = self._application.leaves.left
        as_it_left: list[Consequence] = [] if left is None else [Begin(GOODBYE, goodbye(left))]
        return [*self.acquit("recovered"), Found(Input.GO_ON), *as_it_left]

    def _comes_back(self, verdict: Verdict, state: State, now: float) -> list[Consequence] | None:
        """It was found dead, and is not by this verdict: that whoever is to acknowledge was silent meanwhile had that
        reason, and it is asked anew; where it is excused, and its kernel lives, there is nothing to accuse. Else None.
        """
        answers = self._answers
        if verdict.cause in _STOOD_STILL:
            answers.lived_at = -math.inf
        if verdict.recovery is not Recovery.IF_UNRESPONSIVE or not self.was_dead(state):
            return None
        if self._witnesses.in_place.excuse is not None and verdict.cause is not Cause.GUEST_SILENT:
            return self._lives_after_all(state, now)
        if not answers.unheard or answers.lived_at > -math.inf:
            return None
        answers.ask_anew(now)
        return [AskSoon()]

    # -- what stands ---------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Is more evidence awaited for the verdict that stands?"""
        return self.standing is not None and self.standing.pending

    @property
    def unhealthy(self) -> bool:
        """Does it stand accused by its own word?"""
        return self.standing is not None and self.standing.cause is Cause.APPLICATION_UNHEALTHY

    @property
    def frozen(self) -> bool:
        """Does it stand accused since nobody thaws it?"""
        return self.standing is not None and self.standing.cause is Cause.FILE_SYSTEMS_FROZEN

    def is_unheard(self, state: State) -> bool:
        """Was it found dead while it was excused, or nobody can be asked about it?"""
        return state is State.SILENT and self.trigger is Trigger.UNHEARD

    def was_untold(self, state: State) -> bool:
        """Does it stand accused of an end that libvirt had not told?"""
        return state is State.SILENT and self.trigger is Trigger.ENDED

    def is_stuck(self, state: State) -> bool:
        """Is it paused, and stays so?"""
        return state is State.SILENT and self.trigger in STUCK

    def was_dead(self, state: State) -> bool:
        """Was it found dead, in a way that the host can know, when it had kept silent?"""
        silent = state is State.SILENT and self.trigger is Trigger.SILENT
        return silent and self.standing is not None and self.standing.cause in _STOOD_STILL

    def again_at(self, state: State) -> float:
        """When the host is asked again about a silent guest."""
        if state is not State.SILENT or self._silences.on or self.trigger not in _LOOKED_INTO:
            return math.inf
        return self._witnesses.host.again_at(owed=self.pending)

    def stands(self, state: State) -> bool:
        """Is what it was accused of still so? Not while it boots, is excused, or answers and was accused of silence."""
        if self.standing is None or self.standing.pending or self._silences.on:
            return False
        if self.standing.cause is Cause.MEMORY_FAILURE:
            return bool(self._life.memory.failed)
        if self.unhealthy:
            return state in (State.ALIVE, State.MISSING)
        if rests_on(self.standing.cause).does_not_run:
            return state is State.GONE
        return state is State.SILENT and self._found_since_disturbed

    @property
    def _found_since_disturbed(self) -> bool:
        """Was it found once more after the last silence, or stall of ours? What was found before may be over."""
        since, by_guest = self._answers.undisturbed_since, self._application.speaks or self._answers.unheard
        if self.trigger is Trigger.UNHEARD:
            return self._is_the_hosts_word(since)
        if self.trigger is not Trigger.SILENT or by_guest:
            return True
        return self._is_the_hosts_word(since)

    def _is_the_hosts_word(self, since: float) -> bool:
        """Does its verdict rest on what the host said since then, since the guest itself cannot be asked?"""
        by_host = self.standing is not None and self.standing.cause in (Cause.GUEST_HUNG, Cause.QEMU_HUNG)
        unasked = bool(self._answers.unasked) and not self._application.speaks
        unasked = unasked or self._witnesses.in_place.excuse is not None
        return by_host and unasked and self._witnesses.host.looked_since(since)

    def silent_since(self, asked: float, state: State, now: float) -> bool:
        """Was it asked anew since then, and has not answered in time? An agent that closed its port need not be; where
        somebody else holds it, or we are not connected, the host's word counts."""
        answers = self._answers
        if answers.last_ack is not None and answers.last_ack >= asked:
            return False
        if self.is_stuck(state):
            return True  # nobody can be asked
        in_vain = answers.asked_in_vain(asked, self._application.in_force.timeout, now)
        if in_vain and answers.unasked in ("", ev.Failure.CLOSED.value):
            return True
        return self._is_the_hosts_word(asked)

    def crowd_since(self, state: State) -> float | None:
        """When the first challenge left that it did not answer, where a host's trouble could be why."""
        suspected_at = self._answers.suspected_at
        if suspected_at is None or state not in (State.MISSING, State.SILENT):
            return None  # who is silent already is so still, whatever silence begins
        if state is State.SILENT and self.trigger not in (Trigger.SILENT, Trigger.UNHEARD):
            return None
        if self.standing is not None and not (self.standing.pending or KINDS[self.standing.cause].crowd):
            return None
        return suspected_at - self._application.in_force.timeout
