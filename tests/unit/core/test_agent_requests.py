"""What is put to the guests' agents, and what its end means for the instance."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.unit.core.scenario import policy
from vmhb_common.model.policy import Channel, HeartbeatPolicy
from vmhb_worker.core import events as ev
from vmhb_worker.core.agent_lanes import Lanes, Request
from vmhb_worker.core.agent_requests import AgentRequests
from vmhb_worker.core.events import Failure, Pace

BY_AGENT = policy()
BY_APPLICATION = policy(channel=Channel.APPLICATION)
ASK = ev.Ask(4, Pace.QUICK)
CHECK = ev.AgentCommand("guest-exec", 3)
WITHDRAWN = ev.AskFailed(Failure.UNREACHABLE, "withdrawn")
NOT_CHECKED = ev.AgentReplied(None, Failure.UNREACHABLE, "withdrawn", left=False)


class Desk:
    """The requests of a host, each answer at once."""

    def __init__(self, workers: int = 1, asked: HeartbeatPolicy = BY_AGENT) -> None:
        numbers = itertools.count(101)
        self.lanes = Lanes(workers, workers)
        self.requests = AgentRequests(self.lanes, lambda: next(numbers))
        self.policy = asked

    def ask(self, uuid: str = "vm", ask: ev.Ask = ASK) -> list[ev.Event]:
        return list(self.requests.ask(uuid, ask, self.policy))

    def check(self, uuid: str = "vm") -> list[ev.Event]:
        return list(self.requests.command(uuid, CHECK, self.policy))

    def withdraw(self, uuid: str = "vm") -> list[ev.Event]:
        return list(self.requests.withdraw(uuid, self.policy))

    def admit(self, now: float = 0.0) -> list[tuple[str, int, str | None]]:
        return [(one.uuid, one.nonce, one.command) for one in self.requests.admit(now)]

    def ended(self, nonce: int, *how: Any, uuid: str = "vm") -> list[ev.Event]:
        return list(self.requests.ended(ev.AskEnded(uuid, nonce, 0.2, *how), self.policy))

    def checked(self, nonce: int, uuid: str = "vm") -> list[ev.Event]:
        return list(self.requests.ended(ev.CommandEnded(uuid, nonce, ev.AgentReplied("{}")), self.policy))


def test_a_challenge_from_its_start_to_its_end() -> None:
    """It leaves with a nonce of its own, and its answer is an acknowledgement."""
    desk = Desk()
    assert desk.ask() == []
    assert desk.admit() == [("vm", 101, None)]
    assert desk.ended(101) == [ev.Acked(0.2)]
    assert desk.ask() == []
    assert desk.admit() == [("vm", 102, None)]
    assert desk.ended(102, Failure.NO_ANSWER, "4 s") == [ev.AskFailed(Failure.NO_ANSWER, "4 s")]


def test_it_is_slow_by_the_policys_time_and_given_up_by_the_challenges() -> None:
    """Whoever it is asked for: an application's witness counts as slow no later than a heartbeat."""
    desk = Desk(asked=BY_APPLICATION)
    assert list(desk.requests.ask_other("vm", ev.AskOther(9), desk.policy)) == []
    (started,) = desk.requests.admit(7.0)
    assert started == Request("vm", 9, 5.0, Pace.SUSPECT, 7.0, nonce=101)


@pytest.mark.parametrize(
    ("failure", "answers"),
    [(failure, False if failure is Failure.NO_ANSWER else None) for failure in Failure],
)
def test_where_the_application_must_acknowledge_the_agent_is_a_witness(failure: Failure, answers: bool | None) -> None:
    """Its answer says that the guest lives, its silence that it may not, and anything else says nothing."""
    desk = Desk(asked=BY_APPLICATION)
    desk.ask()
    desk.admit()
    assert desk.ended(101) == [ev.OtherAnswered(True)]
    desk.ask()
    desk.admit()
    assert desk.ended(102, failure, "why") == [ev.OtherAnswered(answers, f"{failure.value}: why")]


def test_its_end_means_what_the_policy_of_that_moment_says() -> None:
    """A policy that changed meanwhile asks for another witness."""
    desk = Desk()
    desk.ask()
    desk.admit()
    desk.policy = BY_APPLICATION
    assert desk.ended(101) == [ev.OtherAnswered(True)]


def test_a_stale_answer_gives_its_place_back_and_says_nothing() -> None:
    """Of another request, of an instance that is no longer monitored, or that has been met anew since."""
    desk = Desk()
    desk.ask()
    desk.admit()
    assert desk.ended(100) == []
    assert desk.lanes.running == 0
    desk.ask()
    desk.admit()
    assert desk.requests.ended(ev.AskEnded("vm", 102, 0.1), None) == ()
    desk.ask()
    desk.admit()
    desk.requests.forget("vm")
    assert desk.ask() == [ev.AskFailed(Failure.UNREACHABLE, "an earlier challenge is still out")]
    assert desk.ended(103) == []
    assert desk.lanes.running == 0
    assert desk.ended(1, uuid="never heard of") == []


def test_who_is_forgotten_is_not_started() -> None:
    """What waited for a place is dropped."""
    desk = Desk()
    desk.ask()
    desk.requests.forget("vm")
    assert desk.admit() == []


def test_a_challenge_that_has_not_left_is_taken_back() -> None:
    """One that has is not, and where there is none, there is nothing to say."""
    desk = Desk()
    assert desk.withdraw() == []
    desk.ask()
    assert desk.withdraw() == [WITHDRAWN]
    desk.ask()
    desk.admit()
    assert desk.withdraw() == []
    assert desk.ended(101) == [ev.Acked(0.2)]


def test_a_check_that_has_not_begun_makes_way() -> None:
    """The heartbeat is queued in its place, and the check is told that it was not run."""
    desk = Desk()
    assert desk.check() == []
    assert desk.ask() == [NOT_CHECKED]
    assert desk.admit() == [("vm", 101, None)]


def test_a_check_that_has_begun_is_waited_for() -> None:
    """The heartbeat is queued once it has ended."""
    desk = Desk()
    desk.check()
    assert desk.admit() == [("vm", 101, "guest-exec")]
    assert desk.ask() == []
    assert desk.admit() == []
    assert desk.checked(101) == [ev.AgentReplied("{}")]
    assert desk.admit() == [("vm", 102, None)]


def test_what_waited_comes_after_what_the_check_led_to() -> None:
    """The monitor wants the next step at once: that is queued first, and makes way again for the heartbeat."""
    desk = Desk()
    desk.check()
    desk.admit()
    desk.ask()
    events = iter(desk.requests.ended(ev.CommandEnded("vm", 101, ev.AgentReplied("{}")), desk.policy))
    assert next(events) == ev.AgentReplied("{}")
    assert desk.check() == []
    assert list(events) == [NOT_CHECKED]
    assert desk.admit() == [("vm", 102, None)]


def test_a_heartbeat_that_waits_for_a_check_is_taken_back() -> None:
    """The check stays, and nothing comes after it."""
    desk = Desk()
    desk.check()
    desk.admit()
    desk.ask()
    assert desk.withdraw() == [WITHDRAWN]
    assert desk.withdraw() == []
    assert desk.checked(101) == [ev.AgentReplied("{}")]
    assert desk.admit() == []


def test_a_check_is_not_begun_while_its_agent_is_asked() -> None:
    """The agent has one command at a time."""
    desk = Desk()
    desk.ask()
    desk.admit()
    assert desk.check() == [ev.AgentReplied(None, Failure.UNREACHABLE, "busy", left=False)]
    assert desk.ended(101) == [ev.Acked(0.2)]


def test_it_says_when_it_is_to_be_asked_again() -> None:
    """When a slow one is to make room for one that waits."""
    desk = Desk()
    desk.ask()
    desk.admit()
    desk.ask("other")
    assert desk.requests.deadline() == BY_AGENT.timeout
