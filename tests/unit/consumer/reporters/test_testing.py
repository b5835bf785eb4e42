"""The kit for authors of reporters: each of its cases finds the reporter that is wrong in that way."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
from oslo_config import cfg

from vmhb_common.model.causes import Cause
from vmhb_common.model.fault import Change, Fault
from vmhb_consumer.reporters.base import Case, Reporter
from vmhb_consumer.reporters.http import HttpReporter, Request, json_body
from vmhb_consumer.reporters.log import LogReporter
from vmhb_consumer.reporters.outcomes import Done, Later, Outcome, Refused
from vmhb_consumer.reporters.testing import Contract, HttpContract, every_case


class TestLog(Contract):
    """The smallest of ours."""

    reporter = LogReporter


class Good(HttpReporter):
    """Nothing wrong with it."""

    name = "good"
    summary = "For tests"
    acts = False

    def request(self, case: Case) -> Request:
        """All of it."""
        return Request(json_body(case.payload()))


class TestGood(HttpContract):
    """What the kit offers is enough."""

    reporter = Good


class NoHelp(Good):
    """An option that nobody can understand."""

    @classmethod
    def options(cls) -> Sequence[cfg.Opt]:
        return [*super().options(), cfg.StrOpt("key")]


class ReturnsNothing(Good):
    """As the contract before had it."""

    def deliver(self, case: Case) -> Outcome:
        super().deliver(case)
        return None  # type: ignore[return-value]


class WantsNoClear(Good):
    """Tells of raises alone: what it rang for is never over."""

    def wants(self, change: Change, fault: Fault) -> bool:
        return change is not Change.CLEARED


class ReadsRecommendedAction(Good):
    """Takes a clear's `none`, or a later `recover`, for a fault that is not for it."""

    def wants(self, change: Change, fault: Fault) -> bool:
        return not fault.recovery_was_asked_for


class KnowsAllCauses(Good):
    """Stumbles over a newer worker's words."""

    def request(self, case: Case) -> Request:
        return Request(json_body(Cause(case.fault.cause)))


class WantsOnlyRaisesOfTheWorker(Good):
    """Takes sequence 1 for the raise."""

    def wants(self, change: Change, fault: Fault) -> bool:
        return fault.sequence == 1 or change is not Change.RAISED


class NeedsAnInstance(Good):
    """Stumbles over a host's fault."""

    def request(self, case: Case) -> Request:
        assert case.fault.instance_uuid is not None
        return Request(json_body(case.payload()))


class CountsItself(Good):
    """Sends something else at each try."""

    tries = 0

    def request(self, case: Case) -> Request:
        CountsItself.tries += 1
        return Request(json_body(CountsItself.tries))


class NeverTwice(Good):
    """Stumbles where the consumer was killed before it had written down what came of it."""

    def __init__(self, options: Any, now: Callable[[], datetime]) -> None:
        super().__init__(options, now)
        self._seen: set[str] = set()

    def deliver(self, case: Case) -> Outcome:
        key = f"{case.fault.fault_id} {case.fault.sequence}"
        if key in self._seen:
            return Refused("twice")
        self._seen.add(key)
        return super().deliver(case)


class TakesAnything(Good):
    """Whatever is answered is success."""

    def deliver(self, case: Case) -> Outcome:
        outcome = super().deliver(case)
        return outcome if isinstance(outcome, Later) and "can't be asked" in outcome.why else Done()


class UsesUrllib(Reporter):
    """What one writes without the base."""

    name = "urllib"
    summary = "For tests"
    acts = False

    @classmethod
    def options(cls) -> Sequence[cfg.Opt]:
        return Good.options()

    def __init__(self, options: Any, now: Callable[[], datetime]) -> None:
        self._url = options.url

    def deliver(self, case: Case) -> Outcome:
        request = urllib.request.Request(self._url, json.dumps(case.payload()).encode())  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310
                said = answer.read().decode()
        except OSError as error:
            return Later(None, str(error))
        return Done() if said else Later(None, "nothing")


WRONG = {
    NoHelp: {"test_its_name_and_options"},
    ReturnsNothing: {"test_a_life"},
    WantsNoClear: {"test_a_life", "test_a_fault_whose_recovery_is_asked_for_later"},
    ReadsRecommendedAction: {"test_a_fault_whose_recovery_is_asked_for_later"},
    KnowsAllCauses: {"test_newer_words"},
    WantsOnlyRaisesOfTheWorker: {"test_first_heard_as_an_update"},
    NeedsAnInstance: {"test_faults_without_an_instance"},
    CountsItself: {"test_the_same_again_is_the_same"},
    NeverTwice: {"test_reminders"},
    TakesAnything: {"test_what_it_is_answered", "test_a_redirect_is_not_followed"},
    UsesUrllib: {
        *("test_what_it_is_answered", "test_a_redirect_is_not_followed", "test_garbage", "test_too_slow"),
        *("test_nobody_listens", "test_huge_and_unreadable_answers"),
    },
}


def found(reporter: type[Reporter], cases: set[str]) -> set[str]:
    class Of(HttpContract):
        patience = 3.0

    Of.reporter = reporter
    wrong = set()
    for case in every_case(Of):
        if case.__name__ in cases:
            try:
                case()
            except Exception:
                wrong.add(case.__name__)
    return wrong


@pytest.mark.parametrize("reporter", WRONG, ids=lambda one: one.__name__)
def test_what_is_wrong_is_found(reporter: type[Reporter]) -> None:
    """By the case that is for it."""
    assert found(reporter, WRONG[reporter]) == WRONG[reporter]


def test_each_case_finds_something() -> None:
    """A case that no wrong reporter fails would be none."""
    assert {case.__name__ for case in every_case(HttpContract)} == set().union(*WRONG.values())
