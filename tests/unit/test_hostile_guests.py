"""What a guest can do, sentence by sentence of the design: it can at worst make itself unmonitored."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.core.scenario import KNOWN, Host
from tests.unit.test_engine import ONE, TWO, Bench, domain
from tests.unit.test_engine_application import spoken
from vmhb_common.model.fault import REASON_LIMIT
from vmhb_common.model.policy import Action
from vmhb_common.objects import WORKER_ALIVE
from vmhb_worker.adapters.guest_agent import ERROR_LIMIT, REPLY_LIMIT, GuestAgent
from vmhb_worker.core import protocol
from vmhb_worker.core.absence import LEAVES
from vmhb_worker.core.caution import Limits
from vmhb_worker.core.cleared_faults import KEPT
from vmhb_worker.core.codec import LINE_LIMIT, Codec
from vmhb_worker.core.events import Failure, Happened, Said
from vmhb_worker.core.guest_text import clean
from vmhb_worker.engine.instance import LINE_EVERY, LINES
from vmhb_worker.interfaces import AgentError

#: What does not print, of each kind: C0, C1, a newline, what turns writing around, what is not seen, half a character.
MARKS = "\x00\n\r\x1b[31m\x7f\x85\x9b\u2028\u202e\u2066\u200b\ufeff\udfff\ud800\uffff\U000e0041"
#: A guest's text at its worst: it would write a line of the log, be another instance, an action, a topic.
EVIL = f"{MARKS}2026-01-01 INFO root: all is well {TWO} recover vmhb_notifications.info host_suspect"
APPLICATION = "channel='application' interval='1' timeout='1' threshold='3' action='recover_unresponsive'"
HEALTHY = APPLICATION + " health_check='true'"


# -- "A guest controls every byte it sends, agent replies included (larger than 64 KiB: rejected unparsed)" ---


class Unparsed(str):
    """Whoever begins to read this fails."""

    __slots__ = ()

    def __getitem__(self, _: Any) -> str:
        raise AssertionError("it was looked into")

    def startswith(self, *_: Any) -> bool:
        raise AssertionError("it was looked into")

    def encode(self, *_: Any) -> bytes:
        raise AssertionError("it was looked into")


def replies(reply: str) -> Callable[[str, str, int], str]:
    return lambda uuid, command, timeout: reply


def refuses(text: str) -> Callable[[str, str, int], str]:
    def command(uuid: str, command: str, timeout: int) -> str:
        raise AgentError(Failure.GARBLED, text)

    return command


def test_replies_that_are_too_large_are_not_parsed() -> None:
    """Whoever asked: a challenge, or a health check."""
    agent = GuestAgent(replies(Unparsed(" " * REPLY_LIMIT + "1")), 1)
    asked = agent._asked(ONE, 1, 1)
    assert (asked.failure, asked.detail) == (Failure.GARBLED, f"reply of {REPLY_LIMIT + 1} characters, more than 65536")
    assert agent._run(ONE, "{}", 1).failure is Failure.GARBLED
    assert agent._run(ONE, "{}", 1).reply is None


@pytest.mark.parametrize(
    "reply", ["", "[" * 60_000, "9" * 60_000, '{"return": 1e999}', EVIL, "{}", '{"return": true}', None]
)
def test_whatever_an_agent_replies_is_no_exception(reply: Any) -> None:
    """And no acknowledgement either."""
    asked = GuestAgent(replies(reply), 1)._asked(ONE, 1, 1)
    assert asked.failure in (Failure.GARBLED, Failure.UNREACHABLE)
    assert asked.detail.isprintable()


# -- "Per guest: bounded line, buffer, rate, strings" (the rate: tests/unit/worker/test_application_sockets.py) ---


def test_a_line_and_what_is_kept_of_it_are_bounded() -> None:
    """Ten megabytes without an end of line: no more than one line is kept at any time."""
    codec = Codec()
    for _ in range(160):
        assert codec.receive(b"x" * 65536) == []
        assert len(codec._tail) < LINE_LIMIT
    assert codec.counters.too_long == 1


def texts(value: Any) -> Iterator[str]:
    """All that there are in a message, or in what is told of it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)
    elif dataclasses.is_dataclass(value):
        for one in dataclasses.fields(value):
            yield from texts(getattr(value, one.name))


#: A line for each message that a guest may say, with all its texts as they are given.
SAYS: dict[str, Callable[[str], dict[str, Any]]] = {
    "hello": lambda text: {"version": 1, "name": text, "system": text},
    "goodbye": lambda text: {"reason": text},
    "maintenance": lambda text: {"seconds": 5, "reason": text},
    "error": lambda text: {"code": text, "detail": text},
    "ack": lambda text: {
        "seq": 1,
        "nonce": "n",
        "health": {"status": "unhealthy", "checks": [{"name": text, "status": "unhealthy", "message": text}] * 50},
    },
}


def said(kind: str, text: str) -> protocol.Message:
    """As it comes out of the only door."""
    message = protocol.read({"type": kind, **SAYS[kind](text)}, protocol.FROM_GUEST)
    line = json.dumps({"type": kind, **SAYS[kind](text)}).encode() + b"\n"
    assert len(line) > LINE_LIMIT or Codec().receive(line) == [message]
    return message


@pytest.mark.parametrize("kind", protocol.FROM_GUEST)
def test_every_text_of_a_message_is_cut_and_cleaned(kind: str) -> None:
    """Whoever adds a message, or a text to one, adds it to the table above."""
    message = said(kind, EVIL * 100)
    found = [text for text in texts(message) if not isinstance(text, protocol.Status) and text not in ("n", "")]
    assert all(len(text) <= protocol.TEXT_LIMIT and text.isprintable() for text in found)
    assert all("2026-01-01" in text for text in found), "the table says all of its texts"
    assert sum(map(len, found)) < 32 * (64 + 256)


# -- "control characters stripped before logs" ---


def test_what_an_agent_says_in_its_errors_is_cut_and_cleaned() -> None:
    """libvirt lets 10 MiB of it through. It would come into the log, and into a fault's evidence."""
    agent = GuestAgent(refuses(f"unable to execute QEMU agent command: {EVIL * 10_000}"), 1)
    for detail in (agent._asked(ONE, 1, 1).detail, agent._run(ONE, "{}", 1).detail):
        assert detail.startswith("unable to execute QEMU agent command: ")
        assert (len(detail), detail.isprintable()) == (ERROR_LIMIT, True)


def test_what_prints_is_left_as_it_is() -> None:
    """Other scripts than ours are texts, too."""
    assert clean("Tür · 扉 · дверь", 99) == "Tür · 扉 · дверь"
    assert clean("abc", 2) == "ab"
    assert clean(MARKS, 99).strip() == "[31m"


def everything_told(bench: Bench) -> list[str]:
    """In notifications, and in what outlives the worker."""
    commits = list(bench.store.commits)
    told = [text for commit in commits for message in commit.messages for text in texts(message)]
    return told + [text for commit in commits for row in (*commit.instances, *commit.faults) for text in texts(row)]


def hears(bench: Bench, kind: str, text: str = EVIL) -> None:
    bench.inbox.post(Happened(ONE, Said(said(kind, text))))


@pytest.mark.parametrize("kind", protocol.FROM_GUEST)
def test_no_text_of_a_guests_writes_where_people_read(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not a line of the log, nor what only looks like something else: by its application."""
    caplog.set_level(logging.DEBUG)
    bench = Bench()
    bench.up(spoken(ONE, HEALTHY))
    bench.run(6)
    (health,) = [message.health for message in [said("ack", EVIL)] if isinstance(message, protocol.Ack)]
    bench.channels.health = health if kind == "ack" else None
    if kind != "ack":
        hears(bench, kind)
    bench.run(10)
    bench.channels.silent.add(ONE)
    bench.run(30)
    shown = [json.dumps(bench.ask("show", instance_uuid=ONE)), *texts(bench.ask("show", instance_uuid=ONE))]
    for text in (*everything_told(bench), *shown, *(one.getMessage() for one in caplog.records)):
        assert text.isprintable(), ascii(text)


def test_no_word_of_an_agents_writes_where_people_read(caplog: pytest.LogCaptureFixture) -> None:
    """What its health check prints, and how it refuses to run it."""
    caplog.set_level(logging.DEBUG)
    bench = Bench()
    bench.host.check = (2, EVIL.encode("utf-8", "surrogatepass"))
    bench.up(domain(ONE, "interval='1' timeout='1' threshold='3' health_check='true'"))
    bench.run(20)
    bench.host.refuses = GuestAgent(refuses(EVIL * 100), 1)._run(ONE, "{}", 1).detail
    bench.run(20)
    assert [one["cause"] for one in bench.raised()] == ["application_unhealthy"]
    shown = texts(bench.ask("show", instance_uuid=ONE))
    for text in (*everything_told(bench), *shown, *(one.getMessage() for one in caplog.records)):
        assert text.isprintable(), ascii(text)
    assert all(len(one["reason"]) <= REASON_LIMIT for one in bench.raised())


# -- "no guest string ever chooses another instance, an action or a topic" ---


def test_no_text_of_a_guests_chooses_anything() -> None:
    """It names another instance, an action, a cause and a topic in all it says: of that other nothing is heard, it is
    asked as ever, and what is recommended is what the policy says."""
    bench = Bench()
    bench.up(spoken(ONE, APPLICATION.replace("recover_unresponsive", "alarm")), domain(TWO))
    bench.run(6)
    before = bench.ask("show", instance_uuid=TWO)
    began = len(bench.store.commits)
    for kind in ("hello", "error", "maintenance", "goodbye"):
        hears(bench, kind)
        bench.run(6)
    hears(bench, "hello")
    bench.channels.silent.add(ONE)
    bench.run(30)
    messages = [message for commit in bench.store.commits[began:] for message in commit.messages]
    told = [one.payload["vmhb_object.data"] for one in messages if one.event_type != WORKER_ALIVE]
    assert {one["instance_uuid"] for one in told} == {ONE}
    assert {one["recommended_action"] for one in told if "recommended_action" in one} <= {"alarm", "none"}
    assert {one.event_type for one in messages} <= {
        *("vmhb.fault.raised", "vmhb.fault.updated", "vmhb.fault.cleared", WORKER_ALIVE),
        *("vmhb.heartbeat.established", "vmhb.heartbeat.ended"),
    }
    after = bench.ask("show", instance_uuid=TWO)
    assert [after[name] for name in ("state", "silences", "policy")] == [
        before[name] for name in ("state", "silences", "policy")
    ]
    assert after["last_ack_age"] < 2.0


# -- "A guest can at worst make itself unmonitored, and that is reported" ---


def hushed(bench: Bench, kind: str, times: int) -> None:
    """It answers no challenge, and says something else instead."""
    bench.channels.silent.add(ONE)
    for number in range(times):
        hears(bench, kind, f"{EVIL} {number}")


#: What a guest does so that nobody looks at it any more, and what is told then.
ESCAPES: dict[str, tuple[Callable[[Bench], object], str]] = {
    "goodbye": (lambda bench: hears(bench, "goodbye", "bye"), "vmhb.heartbeat.ended"),
    "maintenance": (lambda bench: hears(bench, "maintenance", "rest"), "vmhb.heartbeat.ended"),
    "silence": (lambda bench: bench.channels.silent.add(ONE), "vmhb.fault.raised"),
    "nonsense": (lambda bench: hushed(bench, "error", 1), "vmhb.fault.raised"),
    "introductions": (lambda bench: hushed(bench, "hello", 500), "vmhb.fault.raised"),
}


@pytest.mark.parametrize("how", ESCAPES)
def test_who_makes_itself_unmonitored_is_told_of(how: str) -> None:
    """And its neighbour is watched as ever."""
    bench = Bench()
    bench.up(spoken(ONE, APPLICATION), domain(TWO))
    bench.run(6)
    deed, told = ESCAPES[how]
    deed(bench)
    bench.run(20)
    assert [one["instance_uuid"] for one in bench.store.messages(told)] == [ONE]
    bench.host.dead.add(TWO)
    bench.run(20)
    assert [one["instance_uuid"] for one in bench.raised() if one["instance_uuid"] != ONE] == [TWO]


def test_nobody_is_away_for_longer_than_the_operator_allows() -> None:
    """Nor more often than is told: what is asked for beyond that is refused, and the guest is judged."""
    bench = Bench()
    bench.up(spoken(ONE, APPLICATION))
    bench.run(6)
    for _ in range(3 * LEAVES):
        hears(bench, "maintenance", "rest")
        bench.run(10)
    assert len(bench.store.messages("vmhb.heartbeat.ended")) <= LEAVES
    bench.channels.silent.add(ONE)
    hears(bench, "goodbye", "now")
    bench.run(20)
    assert [one["instance_uuid"] for one in bench.raised()] == [ONE]


# -- "it can't pull the brake for others, spend their budget, or grow our files" ---

LIMITS = Limits(hold=(5.0, 5.0))


def crowd(evil: int, good: int, limits: Limits = LIMITS, **knobs: Any) -> tuple[Host, list[Any], list[Any]]:
    """So many of one project, and others of others."""
    host = Host(limits=limits)
    made: list[list[Any]] = []
    for count, name in ((evil, "evil"), (good, "good")):
        of_it = [
            host.guest(f"{name}-{n}", memory=KNOWN, interval=1.0, timeout=1.0, action=Action.RECOVER, **knobs)
            for n in range(count)
        ]
        for number, guest in enumerate(of_it):
            guest.project = name if name == "evil" else f"{name}-{number % 3}"
        made.append(of_it)
    host.run(30.0)
    return host, made[0], made[1]


@pytest.mark.parametrize("evil", [3, 12])
def test_one_projects_guests_pull_no_brake_for_others(evil: int) -> None:
    """All of them fall silent together, as many as they are: who dies beside them is recovered."""
    host, hostile, good = crowd(evil, 8)
    for guest in hostile:
        guest.kernel_dies()
    host.run(host.now + 2.0)
    good[0].kernel_dies()
    host.run(host.now + 60.0)
    assert good[0] in [guest for _, guest, _, _ in host.recommended]
    assert host.transcript == []


def test_who_is_recovered_again_and_again_spends_nobody_elses_budget() -> None:
    """It hangs, comes back, and hangs again, for an hour: three recoveries of its, and as many of another's as ever."""
    host, (evil,), good = crowd(1, 4)
    until = host.now + 3600.0
    while host.now < until:
        evil.kernel_dies()
        host.run(host.now + 90.0)
        evil.kernel_boots()
        evil.agent_goes_on()
        host.run(host.now + 90.0)
    assert 1 <= sum(guest is evil for _, guest, _, _ in host.recommended) <= LIMITS.recoveries
    good[0].kernel_dies()
    host.run(host.now + 60.0)
    assert host.recommended[-1][1] is good[0]


def test_a_guest_that_does_its_worst_grows_no_file(caplog: pytest.LogCaptureFixture) -> None:
    """It asks to be asked as often as it may, and comes and goes at each verdict, for ten minutes: what is written
    of it is bounded, on the disk, in the log, in memory and for the broker."""
    caplog.set_level(logging.INFO)
    bench = Bench()
    bench.up(spoken(ONE, APPLICATION.replace("'1'", "'10'")))
    bench.run(25)
    bench.inbox.post(Happened(ONE, Said(protocol.Hello(1, "evil", 0.2, 0.1))))
    bench.run(1)
    caplog.clear()
    began, commits = bench.clock.now, len(bench.store.commits)

    def state() -> str:
        return str(bench.ask("show", instance_uuid=ONE)["state"])

    while bench.clock.now < began + 600.0:
        bench.channels.silent.add(ONE)
        bench.run(60, until=lambda: state() == "silent")
        bench.channels.silent.discard(ONE)
        hears(bench, "hello")
        bench.run(60, until=lambda: state() == "alive")
    took = bench.clock.now - began
    made = bench.store.commits[commits:]
    of_it = [one for commit in made for one in commit.messages if one.event_type != WORKER_ALIVE]
    assert len(of_it) <= 4 * 3 + took / 60.0  # four faults, their changes, and reminders
    assert sum(len(json.dumps(one.payload)) for one in of_it) < 100_000
    assert len(made) <= len(of_it) + took / 60.0 * (1 + 2 * 4)  # signs of life, and probes: each is stored and put back
    assert len([one for one in caplog.records if ONE in one.getMessage()]) <= LINES + took / LINE_EVERY + len(of_it)
    assert sum(len(one.getMessage()) for one in caplog.records) < 20_000
    kept = {fault_id for commit in made for fault_id, owed in commit.announce.items() if owed}
    kept -= {fault_id for commit in made for fault_id, owed in commit.announce.items() if not owed}
    assert len(kept) <= KEPT
