"""A fault of ours in what concerns one instance, or in one part of the loop, costs nobody else anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.test_engine import ONE, TWO, Bench, domain, well
from vmhb_worker.core import events as ev
from vmhb_worker.core import monitor
from vmhb_worker.core.agent_lanes import Request
from vmhb_worker.core.guest_exec import CHECK_TIMEOUT
from vmhb_worker.core.mishaps import not_started
from vmhb_worker.core.transitions import State

THREE = "33333333-3333-4333-8333-333333333333"


class Bug(Exception):
    """Nobody has thought of it."""


@pytest.fixture
def handlers() -> Iterator[dict[type[Any], Any]]:
    """The monitor's table, which a test may spoil."""
    table = monitor._HANDLERS
    kept = dict(table)
    yield table
    table.update(kept)


def spoil(table: dict[type[Any], Any], kind: type[Any], uuid: str) -> None:
    """Events of this kind raise from now on for this instance."""
    good = table[kind]

    def bad(watched: monitor.Monitor, event: Any, now: float) -> None:
        if watched.uuid == uuid:
            raise Bug(kind.__name__)
        good(watched, event, now)

    table[kind] = bad


def stand() -> Bench:
    """Three guests that are well."""
    bench = Bench()
    bench.up(domain(ONE), domain(TWO), domain(THREE))
    well(bench, ONE, TWO, THREE)
    return bench


@pytest.mark.parametrize("kind", [ev.Tick, ev.Asked, ev.AskFailed, ev.Looked, ev.Silenced, ev.Voided])
def test_a_fault_of_ours_about_one_instance_is_that_ones(
    kind: type[Any], handlers: dict[type[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Its neighbours are challenged and judged as ever; it is logged, counted, told, and tried again."""
    bench = stand()
    spoil(handlers, kind, ONE)
    bench.host.dead |= {ONE, TWO}
    bench.up(domain(ONE), domain(TWO), domain(THREE))  # a silence for all of them
    bench.engine._were_late(1.0, bench.clock.now)
    bench.run(20)
    assert TWO in [one["instance_uuid"] for one in bench.raised()]
    assert bench.ask("show", instance_uuid=THREE)["last_ack_age"] < 2.0
    assert bench.ask("show", instance_uuid=ONE)["mishaps"] > 0
    assert "instance 11111111" in caplog.text
    assert "a fault of ours" in caplog.text
    bench.run(60, until=lambda: any("could not be handled" in word for word in degraded(bench)))
    assert any(ONE in word for word in degraded(bench))


def test_nobody_is_accused_because_we_lost_an_answer(handlers: dict[type[Any], Any]) -> None:
    """A guest that answers, of which each answer cannot be handled: not known to be well, and never called silent."""
    bench = stand()
    spoil(handlers, ev.Acked, ONE)
    bench.run(60)
    assert bench.raised() == []
    shown = bench.ask("show", instance_uuid=ONE)
    assert shown["mishaps"] > 0
    assert shown["last_ack_age"] > 50
    assert bench.ask("show", instance_uuid=TWO)["last_ack_age"] < 2.0


def degraded(bench: Bench) -> list[str]:
    signs = bench.store.messages("vmhb.worker.alive")
    return list(signs[-1]["degraded"]) if signs else []


def test_it_is_judged_again_once_the_fault_of_ours_is_over(handlers: dict[type[Any], Any]) -> None:
    """It was tried again all the while, once a second, and not more often."""
    bench = stand()
    good = handlers[ev.Tick]
    tries: list[float] = []

    def bad(watched: monitor.Monitor, event: Any, now: float) -> None:
        if watched.uuid == ONE and now < 100.0 + begun:
            tries.append(now)
            raise Bug("for a while")
        good(watched, event, now)

    begun = bench.clock.now
    handlers[ev.Tick] = bad
    bench.host.dead.add(ONE)
    bench.run(99)
    assert 90 <= len(tries) <= 105
    assert bench.raised() == []
    bench.run(20)
    assert [one["instance_uuid"] for one in bench.raised()] == [ONE]


def test_what_was_decided_before_it_failed_is_carried_out(handlers: dict[type[Any], Any]) -> None:
    """A fault that was raised is stored and told, though the rest of that event is lost."""
    bench = stand()
    good = handlers[ev.Tick]

    def bad(watched: monitor.Monitor, event: Any, now: float) -> None:
        before = watched.state
        good(watched, event, now)
        if watched.uuid == ONE and before is not State.SILENT and watched.state is State.SILENT:
            raise Bug("right after the verdict")

    handlers[ev.Tick] = bad
    bench.host.dead.add(ONE)
    bench.run(20)
    assert [one["instance_uuid"] for one in bench.raised()] == [ONE]


@pytest.mark.parametrize("part", ["_tidy", "_say_alive", "_admit", "_flush"])
def test_a_part_of_the_loop_that_fails_ends_nothing(part: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and tried again; what does not need it goes on, and the watchdog is fed."""
    bench = stand()
    good = getattr(bench.engine, part)
    failures: list[float] = []

    def bad(now: float) -> None:
        if len(failures) < 5:
            failures.append(now)
            raise Bug(part)
        good(now)

    setattr(bench.engine, part, bad)
    bench.host.dead.add(TWO)
    bench.run(400, until=lambda: len(failures) == 5)
    assert len(failures) == 5
    bench.run(20)
    assert TWO in [one["instance_uuid"] for one in bench.raised()]
    assert "a fault of ours; tried again" in caplog.text


def test_an_agent_that_cannot_be_asked_costs_nobody_its_turn() -> None:
    """Its place is free again, it is asked at its next beat, and nobody is accused."""
    bench = stand()
    good, left = bench.host.ask, [8]

    def bad(uuid: str, nonce: int, timeout: int) -> None:
        if uuid == ONE and left[0]:
            left[0] -= 1
            raise Bug("at the port")
        good(uuid, nonce, timeout)

    bench.engine._ports = replace(bench.engine._ports, agent=Asking(bench.host, bad))
    bench.run(30)
    assert left == [0]
    assert bench.raised() == []
    for uuid in (ONE, TWO, THREE):
        assert bench.ask("show", instance_uuid=uuid)["last_ack_age"] < 2.0
    assert bench.engine._lanes.running == 0


class Asking:
    """A host's agents, of which one cannot be asked."""

    def __init__(self, host: Any, ask: Callable[[str, int, int], None]) -> None:
        self._host = host
        self.ask = ask

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)


def test_what_the_store_did_not_take_goes_with_the_next_turns() -> None:
    """A fault that was raised is told all the same."""
    bench = stand()
    good = bench.store.commit
    failed: list[bool] = []

    def bad(*arguments: Any) -> None:
        if not failed and arguments[0].faults:
            failed.append(True)
            raise Bug("full")
        good(*arguments)

    bench.store.commit = bad  # type: ignore[assignment]
    bench.host.dead.add(TWO)
    bench.run(20)
    assert failed
    assert [one["instance_uuid"] for one in bench.raised()] == [TWO]


def test_a_command_that_cannot_be_handed_on() -> None:
    """Ends like one that was not asked, as a challenge does: see `mishaps.not_started`."""
    command = not_started(Request(ONE, 5, 1.0, ev.Pace.SLOW, command="{}", nonce=7), "full")
    assert command == ev.CommandEnded(ONE, 7, ev.AgentReplied(None, ev.Failure.UNREACHABLE, "full"))
    challenge = not_started(Request(ONE, 5, 1.0, ev.Pace.QUICK, nonce=8), "full")
    assert challenge == ev.AskEnded(ONE, 8, 0.0, ev.Failure.UNREACHABLE, "full")


def test_a_health_check_whose_reply_was_lost_is_run_again(handlers: dict[type[Any], Any]) -> None:
    """What its agent said could not be handled, three times: it is asked on, and where a check may have been started by
    that, another is when that one has had its time."""
    bench = Bench()
    bench.up(domain(ONE, "interval='1' timeout='1' threshold='3' health_check='true'"))
    well(bench, ONE)
    good = handlers[ev.AgentReplied]
    lost: list[str] = []

    def bad(watched: monitor.Monitor, event: Any, now: float) -> None:
        if event.reply is not None and len(lost) < 3:
            lost.append(event.reply)
            raise Bug("about a reply")
        good(watched, event, now)

    handlers[ev.AgentReplied] = bad
    before = len(bench.host.commands)
    bench.run(3 * CHECK_TIMEOUT + 20)
    assert len(bench.host.commands) > before + 10
    assert bench.raised() == []


def test_the_list_tells_of_all_but_the_one_that_cannot_be_told_of() -> None:
    """And says so of that one."""
    bench = stand()
    broken = bench.engine._roster.get(ONE)
    assert broken is not None
    object.__setattr__(broken, "view", None)
    told = {one["instance_uuid"]: one for one in bench.ask("list")}
    assert "a fault of the worker" in told[ONE]["error"]
    assert told[TWO]["state"] == "alive"
