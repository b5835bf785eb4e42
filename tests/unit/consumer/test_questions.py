"""Workers are asked side by side: one that does not answer holds nobody else's."""

from __future__ import annotations

import threading
import time
from collections import Counter
from functools import partial

import pytest

from tests.lab.processes import wait_until
from tests.unit.consumer.fakes import SetTime
from vmhb_consumer.questions import FRESH, MANY, MOST, PATIENCE, PLACES, SLOW_PLACES, Asking, Questions


class Workers:
    """Those of `dead` do not answer before they are thawed."""

    def __init__(self, *dead: str) -> None:
        self.dead = {*dead}
        self.thawed = threading.Event()
        self.asked: list[str] = []
        self.at_a_time: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, host: str, about: str) -> str:
        """BLOCKS."""
        with self._lock:
            self.asked.append(f"{host} {about}")
            for name in (host, "all"):
                self.at_a_time[name] += 1
                self.most[name] = max(self.most[name], self.at_a_time[name])
        silent = host in self.dead
        if silent:
            self.thawed.wait(30)
        with self._lock:
            for name in (host, "all"):
                self.at_a_time[name] -= 1
        return "nothing" if silent else f"{about} of {host}"


def _is_known(ask: Questions[str], host: str) -> bool:
    return ask(host, "a") == "nothing"


def questions(workers: Workers, clock: SetTime | None = None) -> Questions[str]:
    """To these."""
    return Questions(workers, lambda answer: answer == "nothing", clock or SetTime(0.0))


def test_one_that_is_well_answers_at_once() -> None:
    """Each time anew."""
    workers = Workers()
    ask = questions(workers)
    assert [ask("cn1", "a"), ask("cn1", "a"), ask("cn2", "a")] == ["a of cn1", "a of cn1", "a of cn2"]
    assert len(workers.asked) == 3


def test_a_question_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A mistake of ours costs that one: its place is free again, and all is asked."""
    wrong = [True] * (2 * PLACES)

    def fails(host: str, about: str) -> str:
        if wrong:
            wrong.pop()
            raise RuntimeError("a bug")
        return f"{about} of {host}"

    ask = Questions(fails, lambda _answer: False, SetTime(0.0))
    for number in range(2 * PLACES):
        ask(f"cn{number}", "a")
    wait_until(lambda: not wrong and ask("cn1", "b") == "b of cn1", 10, "it is asked")
    assert len(caplog.records) == 2 * PLACES


def test_a_rack_that_does_not_answer_holds_nobody_else_s() -> None:
    """Who asks waits a moment, a few times; then not at all."""
    rack = [f"dead{number}" for number in range(PLACES - 1)]
    workers = Workers(*rack)
    ask = questions(workers)
    began = time.monotonic()
    for host in rack:
        assert isinstance(ask(host, "a"), Asking)
    assert time.monotonic() - began < (MANY + 2) * PATIENCE
    ask("cn1", "a")
    wait_until(lambda: ask("cn1", "a") == "a of cn1", 5, "it is answered")
    workers.thawed.set()


def test_those_that_did_not_answer_last_time_have_a_few_places() -> None:
    """The others are there for whoever may answer."""
    rack = [f"dead{number}" for number in range(2 * SLOW_PLACES)]
    workers = Workers(*rack)
    ask = questions(workers)
    for host in rack:
        ask(host, "a")
    workers.thawed.set()
    for host in rack:
        wait_until(partial(_is_known, ask, host), 5, "it is known")
    workers.thawed.clear()
    workers.most.clear()
    wait_until(lambda: not workers.at_a_time["all"], 5, "none is asked")
    for host in rack:
        ask(host, "b")
    wait_until(lambda: workers.at_a_time["all"] == SLOW_PLACES, 5, "as many as may are asked")
    assert workers.most["all"] == SLOW_PLACES
    workers.thawed.set()


def test_each_host_is_asked_one_thing_at_a_time() -> None:
    """What waits for one that does not answer is answered with that; one that does answers each."""
    workers = Workers("dead")
    ask = questions(workers)
    for number in range(MOST + 5):
        ask("dead", str(number))
    workers.thawed.set()
    wait_until(lambda: ask("dead", "7") == "nothing", 5, "the others need not be asked")
    assert workers.most["dead"] == 1 and workers.asked[:1] == ["dead 0"] and "dead 8" not in workers.asked
    assert [ask("cn1", str(number)) for number in range(20)] == [f"{number} of cn1" for number in range(20)]


def test_an_answer_is_for_now() -> None:
    """Who comes too late for it has it asked again."""
    workers, clock = Workers("cn1"), SetTime(0.0)
    ask = questions(workers, clock)
    assert isinstance(ask("cn1", "a"), Asking)
    workers.dead.clear()
    workers.thawed.set()
    wait_until(lambda: not workers.at_a_time["all"], 5, "it was answered")
    clock.now += FRESH + 1
    wait_until(lambda: ask("cn1", "a") == "a of cn1", 5, "it is asked anew")
    assert workers.asked == ["cn1 a"] * 2
