"""A fault of ours in what concerns one instance, or in one part of the loop, costs nobody else anything."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import a_fault
from tests.unit.test_engine import ONE, TWO, Bench, domain, well
from vmhb_worker.core import events as ev
from vmhb_worker.core import monitor
from vmhb_worker.core.agent_lanes import Request
from vmhb_worker.core.guest_exec import CHECK_TIMEOUT
from vmhb_worker.core.mishaps import not_started
from vmhb_worker.core.transitions import State
from vmhb_worker.engine.inbox import Inbox
from vmhb_worker.interfaces import Saved

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


class Faulty:
    """A monitor of which one thing cannot be had."""

    def __init__(self, monitor: monitor.Monitor, name: str) -> None:
        object.__setattr__(self, "_of", (monitor, name))

    def __getattr__(self, name: str) -> Any:
        whole, broken = object.__getattribute__(self, "_of")
        if name == broken:
            raise Bug(name)
        return getattr(whole, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_of")[0], name, value)


#: Whoever is a monitor without this is none that was made.
NO_FAULT = {"uuid"}


@pytest.mark.parametrize("name", sorted(n for n in dir(monitor.Monitor) if not n.startswith("_") and n not in NO_FAULT))
def test_whatever_cannot_be_had_of_one_monitor_is_that_ones(name: str) -> None:
    """In every loop that serves many: its neighbours are judged, reminded of, and told of by signs of life."""
    bench = stand()
    broken = bench.engine._roster.get(ONE)
    assert broken is not None
    broken.monitor = Faulty(broken.monitor, name)  # type: ignore[assignment]
    bench.host.dead |= {ONE, TWO}
    bench.run(20)
    assert TWO in [one["instance_uuid"] for one in bench.raised()]
    bench.engine.post(ev.HypervisorDown("it was stopped"))
    bench.run(5)
    bench.up(domain(ONE), domain(TWO), domain(THREE))
    bench.engine._were_late(1.0, bench.clock.now)
    bench.run(320)
    assert [one["instance_uuid"] for one in bench.store.messages("vmhb.fault.updated")].count(TWO) > 1
    assert bench.ask("show", instance_uuid=THREE)["last_ack_age"] < 2.0
    assert len(bench.ask("list")) == 3
    bench.host.dead.clear()
    bench.run(100)
    assert TWO in [one["instance_uuid"] for one in bench.cleared()]
    assert len(bench.store.messages("vmhb.worker.alive")) >= 7


def test_a_turn_that_fails_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    """What nobody has thought of costs a moment, and its traceback is not written four times a second for ever."""
    bench = stand()
    good = bench.engine._doubt.late
    failed: list[float] = []

    def bad(deadline: float, now: float) -> float:
        if len(failed) < 100:
            failed.append(now)
            bench.clock.now += 0.25
            raise Bug("on the way")
        bench.engine.stop()
        return good(deadline, now)

    bench.inbox.pause = lambda seconds: None  # type: ignore[method-assign]
    bench.engine._doubt.late = bad  # type: ignore[method-assign]
    bench.engine.run()
    assert len(failed) == 100
    assert len([one for one in caplog.records if "a turn of the engine's loop" in one.getMessage()]) == 10


def test_a_fault_of_an_earlier_life_that_makes_no_sense_costs_itself(caplog: pytest.LogCaptureFixture) -> None:
    """The worker starts; what else it left is open."""
    naive = replace(a_fault("f1"), withheld="brake", cause="host_suspect", instance_uuid=None)
    object.__setattr__(naive, "raised_at", None)
    bench = Bench(Saved(faults=(naive, a_fault(THREE, instance_uuid=ONE))))
    bench.up(domain(ONE))
    bench.run(10)
    assert [one["fault_id"] for one in bench.cleared()] == [THREE]
    assert "could not take" in caplog.text
    assert "1 reports could not be taken" in " ".join(degraded(bench))


def test_what_is_ready_and_cannot_be_seen_to_is_not_waited_for() -> None:
    """It would be ready for ever; all others are waited for as before."""
    inbox = Inbox()
    bad, good = socket.socketpair(), socket.socketpair()
    seen: list[int] = []
    try:
        inbox.watch(bad[0].fileno(), select.EPOLLIN, lambda events: inbox.unwatch(events.nothing))  # type: ignore[attr-defined]
        inbox.watch(good[0].fileno(), select.EPOLLIN, seen.append)
        bad[1].send(b"x")
        good[1].send(b"x")
        inbox.wait(1.0)
        inbox.wait(1.0)
        assert len(seen) == 2
        assert bad[0].fileno() not in inbox._watched
    finally:
        for one in (*bad, *good):
            one.close()
