"""How one guest is challenged: its agent through libvirt, or its application on the channel; and when that was in vain.

When a beat is due, and missed, is known in `beats`; how urgently it is asked, in `ask_schedule`. Nobody is asked who
could only be found gone. Belongs to a monitor; times are seconds of the monotonic clock.
"""

from __future__ import annotations

import math

from vmhb_worker.core import events as ev
from vmhb_worker.core.answers import Answers
from vmhb_worker.core.application_channel import Application
from vmhb_worker.core.ask_schedule import Challenges, full_threshold
from vmhb_worker.core.beats import LONGEST_REQUEST, Beats, stagger
from vmhb_worker.core.domain_life import DomainLife
from vmhb_worker.core.transitions import State


class Asking:
    """Of one guest. Notes in `answers` what it was asked, and whether that says anything."""

    __slots__ = ("_answers", "_application", "_life", "_uuid", "beats", "challenges")

    def __init__(self, uuid: str, application: Application, answers: Answers, life: DomainLife, now: float) -> None:
        self._uuid = uuid
        self._application = application
        self._answers = answers
        self._life = life
        self.beats = self._new_beats(now)
        self.challenges = Challenges(now)

    def ask(self, state: State, now: float, pace: ev.Pace | None = None) -> ev.Ask | ev.Say | None:
        """It is due, or may have something to say."""
        if self._application.speaks:
            return self._challenge(state, now)
        if self._life.port_open is False:
            self._spare(state, now)
            return None
        return self.challenges.ask(self._application.policy, state, pace)

    def _spare(self, state: State, now: float) -> None:
        """Nobody holds its port open: libvirt would only complain in its log. That counts as asked in vain."""
        self._answers.left(now)
        self._answers.unasked = ev.Failure.CLOSED.value
        if state is State.SILENT:
            self.back_off(now)

    def _challenge(self, state: State, now: float) -> ev.Say | None:
        challenge = None
        if self._application.connected:
            self._answers.left(now)  # also where as many as are remembered are out: each may still be answered
            challenge = self._application.challenge(now)
            self.beats.asked(now)
        if state is State.SILENT:
            self.back_off(now)
        return None if challenge is None else ev.Say(challenge)

    def left(self, now: float) -> None:
        """A challenge left for its agent."""
        self.challenges.left_at = now
        self._answers.left(now)
        self.beats.asked(now)

    def soon(self, now: float) -> None:
        """Something happened that may have brought it back: ask now, and often again."""
        self.challenges.soon(now)

    def back_off(self, now: float) -> None:
        """It was asked in vain: the next time is later."""
        self.challenges.back_off(self._application.in_force.interval, now)

    def reached(self, failure: ev.Failure, now: float) -> bool:
        """Was the challenge that ended like this with the agent, which had its time to answer?"""
        since = self._answers.undisturbed_since
        in_full = self.challenges.left_at >= since or now - since >= self._application.in_force.timeout
        in_full = in_full and self._is_owed_nothing(now)
        return failure is ev.Failure.GARBLED or (failure is ev.Failure.NO_ANSWER and in_full)

    def unheard(self, now: float) -> bool:
        """Was its application's challenge in vain, since it was to be asked anew? Then its silence counts again."""
        anew = max(self._answers.verify_at, self._answers.undisturbed_since)
        in_vain = self._answers.asked_in_vain(anew, self._application.in_force.timeout, now)
        return in_vain and self._is_owed_nothing(now)

    def _is_owed_nothing(self, now: float) -> bool:
        return self._answers.owed_nothing(full_threshold(self._application.in_force), now)

    # -- other times, or somebody else ---------------------------------------------------------------------------

    def quicken(self, now: float) -> None:
        """The guest has wished for other times."""
        self.beats.quicken(self._application.in_force.interval, self._application.in_force.timeout, now)

    def begin_anew(self, now: float) -> None:
        """Other times are in force: its beats are others."""
        self.beats = self._new_beats(now)

    def change_channel(self, now: float) -> None:
        """Somebody else is to acknowledge."""
        self.challenges = Challenges(now)
        self._application.window.forget()

    def established(self, now: float) -> None:
        """It has acknowledged for the first time in this boot: its beats come at times of its own."""
        interval = self._application.in_force.interval
        self.beats.restart(now, stagger(self._uuid, interval) or interval)

    def await_boot(self, now: float) -> None:
        """It boots: it is asked soon, and then again and again."""
        self.beats.restart(now, min(self._application.in_force.interval, self.beats.timeout))

    def _new_beats(self, now: float) -> Beats:
        policy = self._application.in_force
        longest = math.inf if self._application.speaks else LONGEST_REQUEST
        return Beats(policy.interval, policy.timeout, now + stagger(self._uuid, policy.interval), longest)
