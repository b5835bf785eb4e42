"""How one instance says that it is: reports over either channel, what they change, and why there are none.

Belongs to a monitor, which accuses and acquits by the `Turn`s that come out of here.
"""

from __future__ import annotations

from typing import Any

from vmhb_worker.core import events as ev
from vmhb_worker.core.guest_exec import STEP_TIMEOUT, GuestExec, Outcome
from vmhb_worker.core.health_absence import ROWS, Absent
from vmhb_worker.core.health_watch import HealthWatch, Turn, in_words
from vmhb_worker.core.protocol import Ack, Health


class Checkup:
    """The health of one instance: whoever is asked for it."""

    __slots__ = ("_remarked", "_through_agent", "_watch")

    def __init__(self, bad: bool) -> None:
        """bad: it was found unhealthy before this began."""
        self._watch = HealthWatch(bad)
        self._through_agent = GuestExec()
        self._remarked: set[str] = set()  # what was said of its checks in this boot

    @property
    def bad(self) -> bool:
        """Was it found unhealthy, and has not been well for long enough since?"""
        return self._watch.bad

    @property
    def report(self) -> Health | None:
        """The last one."""
        return self._watch.report

    @property
    def reasons(self) -> str:
        """What is wrong, by its last report, for people; "" without one."""
        return "" if self._watch.report is None else in_words(self._watch.report)

    def step(self, now: float) -> ev.AgentCommand | None:
        """The agent has just answered: it may run the guest's health check, or tell of the one that runs."""
        command = self._through_agent.step(now)
        return None if command is None else ev.AgentCommand(command, STEP_TIMEOUT)

    def replied(self, event: ev.AgentReplied, now: float) -> Outcome | None:
        """The end of a step; None: there is nothing to tell yet."""
        if event.reply is None:
            return self._through_agent.failed(event.failure is ev.Failure.GARBLED, event.detail, event.left)
        return self._through_agent.replied(event.reply, now)

    def remark(self, outcome: Outcome) -> ev.Remark | None:
        """Why there is no report: said once in a boot."""
        kind = outcome.why.partition(":")[0]  # in our words; what follows may be the guest's
        if outcome.report is not None or kind in self._remarked:
            return None
        self._remarked.add(kind)
        return ev.Remark(f"its health is not known: {outcome.why}")

    def heard(self, outcome: Outcome, threshold: int, now: float) -> Turn:
        """A report, or why there is none."""
        if outcome.report is not None:
            return self._watch.heard(outcome.report, threshold, now)
        stands = outcome.absent is None or not ROWS[outcome.absent].ends
        return self._watch.missed(outcome.why, threshold, stands)

    def rebooted(self) -> None:
        """What was counted so far does not count; what was found stands."""
        self._watch.reset()
        self._through_agent.reset()
        self._remarked.clear()

    def drop(self) -> None:
        """Nobody asks any more."""
        self._watch.drop()

    def told(self, now: float) -> dict[str, Any]:
        """For people."""
        return self._watch.told(now)


def said_with(ack: Ack) -> Outcome:
    """What an application says of itself with its answer."""
    if ack.health is None and not ack.refused:
        return Outcome(None, "it answered without one", Absent.UNSAID)
    return Outcome(ack.health, ack.refused, None if ack.health else Absent.UNREADABLE)
