"""The engine and health checks through the guest agent: what is put to it, when, and what must not wait for it."""

from __future__ import annotations

import threading

import pytest

from tests.unit.test_engine import ONE, TWO, Bench, domain, well
from vmhb_worker.adapters.guest_agent import REPLY_LIMIT, GuestAgent
from vmhb_worker.core.agent_lanes import Request
from vmhb_worker.core.events import AgentReplied, CommandEnded, Exit, Failure, Happened, Pace, Stopped
from vmhb_worker.interfaces import AgentError

ASKED = "interval='1' timeout='1' threshold='3' health_check='true'"


def test_a_check_is_run_beside_the_heartbeat() -> None:
    """Started after one answer, asked for after the next; unhealthy is told with what it printed."""
    bench = Bench()
    bench.up(domain(ONE, ASKED), domain(TWO))
    well(bench, ONE, TWO)
    assert [name for _, name in bench.host.commands[:3]] == ["guest-exec", "guest-exec-status", "guest-exec"]
    assert {uuid for uuid, _ in bench.host.commands} == {ONE}
    bench.host.check = (2, b"no database")
    bench.run(10)
    (raised,) = bench.raised()
    assert raised["cause"] == "application_unhealthy"
    assert raised["health"]["checks"] == [{"name": "health-check", "status": "unhealthy", "message": "no database"}]
    bench.host.check = (0, b"")
    bench.run(10)
    assert bench.cleared()[0]["resolution"] == "recovered"


def test_a_heartbeat_that_meets_a_check_comes_after_it() -> None:
    """The agent has one command at a time; a beat that waits for a check of ours is no miss."""
    bench = Bench()
    bench.host.command_takes = 2.5
    bench.up(domain(ONE, ASKED))
    well(bench, ONE)
    asks = len(bench.host.asks)
    bench.run(60)
    assert bench.raised() == []
    assert len(bench.host.asks) > asks + 10


def test_a_check_that_has_not_begun_makes_way() -> None:
    """Where the slow lane is full, heartbeats go on, and nothing is checked."""
    bench = Bench()
    bench.up(domain(ONE, ASKED))
    bench.run(2)
    others = {f"nobody-{n}": Request(f"nobody-{n}", 9, 9.0, Pace.SLOW) for n in range(4)}
    bench.engine._lanes._slow.update(others)
    commands, asks = len(bench.host.commands), len(bench.host.asks)
    bench.run(10)
    assert len(bench.host.commands) <= commands + 1
    assert len(bench.host.asks) >= asks + 8


def test_it_is_said_once_that_nothing_can_be_checked(caplog: pytest.LogCaptureFixture) -> None:
    """With what to do about it."""
    bench = Bench()
    bench.host.refuses = "The command guest-exec has been disabled for this instance"
    bench.up(domain(ONE, ASKED))
    well(bench, ONE)
    bench.run(20)
    said = [record.getMessage() for record in caplog.records if "forbids guest-exec" in record.getMessage()]
    assert len(said) == 1
    assert ONE in said[0]


def test_a_guest_that_stops_while_it_is_checked() -> None:
    """What was waiting is let go."""
    bench = Bench()
    bench.up(domain(ONE, ASKED))
    well(bench, ONE)
    bench.host.command_takes = 5.0
    bench.run(3)
    bench.engine.post(Happened(ONE, Stopped(Exit.INTENT, "destroyed")))
    bench.run(20)
    bench.engine.post(domain(ONE, ASKED, boot="b2"))
    bench.run(20)
    assert bench.ask("show", instance_uuid=ONE)["state"] == "alive"
    bench.engine.post(CommandEnded(TWO, 1, AgentReplied("{}")))
    bench.run(1)


@pytest.mark.parametrize(
    ("answer", "replied"),
    [
        ('{"return": 1}', AgentReplied('{"return": 1}')),
        ("x" * (REPLY_LIMIT + 1), AgentReplied(None, Failure.GARBLED, "reply of 65537 characters, more than 65536")),
        (AgentError(Failure.CLOSED, "closed"), AgentReplied(None, Failure.CLOSED, "closed")),
        (RuntimeError("ours"), AgentReplied(None, Failure.UNREACHABLE, "RuntimeError: ours")),
    ],
)
def test_a_command_ends_in_one_way(answer: str | Exception, replied: AgentReplied) -> None:
    """A reply, bounded; or why there is none. A fault of ours costs one command, not the thread."""
    ended = threading.Event()
    reports: list[object] = []

    def command(uuid: str, text: str, timeout: int) -> str:
        assert (uuid, text, timeout) == (ONE, "{}", 3)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def post(report: object) -> None:
        reports.append(report)
        ended.set()

    agent = GuestAgent(command, 1)
    agent.open(post)
    agent.run(ONE, 7, "{}", 3)
    assert ended.wait(30)
    assert reports == [CommandEnded(ONE, 7, replied)]
