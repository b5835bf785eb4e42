"""Who may tell us of faults: what a node says concerns itself, and comes from a host that there is."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import a_fault
from tests.unit.common.keyring import a_pair
from tests.unit.consumer.conftest import Desk, another
from tests.unit.consumer.fakes import SetTime
from vmhb_common.messaging import sender_keys, signing
from vmhb_common.messaging.signing import PrivateKey
from vmhb_common.model import fault as life
from vmhb_common.model.fault import Fault, Resolution
from vmhb_common.model.senders import CLOCKS, SenderCheck, SenderSettings
from vmhb_common.objects import SignOfLife, fault_payload, worker_payload
from vmhb_consumer.counters import Tally
from vmhb_consumer.crowd import EVERY, SETTLE, Crowd
from vmhb_consumer.doubt_rules import Unknown
from vmhb_consumer.fault_listener import Endpoint
from vmhb_consumer.known_hosts import SOONEST, TOO_OLD, Hosts, Known
from vmhb_consumer.repository import MAX_OPEN
from vmhb_consumer.senders import Senders

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)


class Stage:
    """A consumer that hears, and hosts `cn1` and `cn2`, each with a key. nova: the hosts that Nova lists; None: there
    is no Nova."""

    def __init__(self, desk: Desk, folder: Path, check: str, nova: Any = None) -> None:
        self.desk = desk
        self.nova, self.lists = nova, 0
        self.later = SetTime(1000.0)
        self.keys = {host: a_pair() for host in ("cn1", "cn2", "cn1 of before")}
        lines = [sender_keys.line_of(f"worker:{host}", self.keys[host][1]) for host in ("cn1", "cn2")]
        sender_keys.write_lines(folder / "senders", lines)
        hosts = Hosts(None if nova is None else self._list, self.later, lambda work: work())
        settings = SenderSettings(folder / "own.key", SenderCheck(check), folder / "senders")
        self.senders = Senders(settings, hosts, desk.clock, self.later)
        self.senders.memory = 86400.0
        self.tally = Tally()
        self.endpoint = Endpoint(desk.records, self.tally, desk.clock, senders=self.senders)

    def _list(self) -> Any:
        self.lists += 1
        return self.nova

    def say(
        self, event_type: str, payload: Any, key: PrivateKey | None, name: str, ago: float = 0.0, publisher: str = "x"
    ) -> None:
        """As a broker hands it out."""
        payload = json.loads(json.dumps(payload))
        metadata = {"message_id": "m", "timestamp": "t"}
        sent = signing.notification(publisher, event_type, payload, "m", "t")
        seal = key and key.sign(name, signing.NOTIFICATION, sent, self.desk.clock() - ago)
        self.endpoint.info({"vmhb_seal": seal} if seal else {}, publisher, event_type, payload, metadata)

    def told(self, *faults: Fault, by: str | None = None, ago: float = 0.0) -> list[str]:
        """Signed by this host. What is open then."""
        for fault in faults:
            key = None if by is None else self.keys[by][0]
            self.say("vmhb.fault.updated", fault_payload(fault), key, f"worker:{(by or '').partition(' ')[0]}", ago)
        return self.desk.open()

    def alive(self, host: str, by: str | None = None, ago: float = 0.0, sequence: int = 1) -> int:
        """A sign of life. How many workers are known then."""
        payload = worker_payload(SignOfLife(host, "1", NOON, NOON, sequence, 60.0, 3, {}, 0, True, {}))
        key = None if by is None else self.keys[by][0]
        self.say("vmhb.worker.alive", payload, key, f"worker:{by}", ago)
        return self.desk.records.counts()["workers"]


@pytest.fixture
def stage(desk: Desk, tmp_path: Path) -> Callable[..., Stage]:
    """stage(check, nova)."""
    return lambda check="enforce", nova=None: Stage(desk, tmp_path, check, nova)


A = another("a")
MINE = life.cleared(A, Resolution.RECOVERED, NOON)


@pytest.mark.parametrize(
    ("check", "by", "heard"),
    [
        ("off", None, True),
        ("off", "cn2", True),
        ("warn", None, True),
        ("warn", "cn1", True),
        ("warn", "cn1 of before", True),  # its old key: it is told of
        ("warn", "cn2", False),
        ("enforce", None, False),
        ("enforce", "cn1", True),
        ("enforce", "cn1 of before", False),
        ("enforce", "cn2", False),
    ],
)
def test_who_is_heard(stage: Callable[..., Stage], check: str, by: str | None, heard: bool) -> None:
    """Faults, clears, and signs of life of a host: from its own worker; those of before are heard, as long as it is
    only warned of them."""
    one = stage(check)
    assert one.told(A, by=by) == (["a1"] if heard else [])
    assert one.told(another("b", instance_uuid=None, cause="host_suspect"), by=by) == (["a1", "b1"] if heard else [])
    assert one.alive("cn1", by) == int(heard)
    one.desk.take(A)
    assert one.told(MINE, by=by) == (["b1"] if heard else ["a1"])
    if not heard:
        assert one.tally.snapshot() == {"unheard.sender": 4}


def test_a_known_fault_is_its_host_s(stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture) -> None:
    """Who has the key of cn2 says of cn1's fault, as cn2's, that it is over: it goes on."""
    one = stage("warn")
    one.told(A, by="cn1")
    assert one.told(replace(MINE, host="cn2"), by="cn2") == ["a1"]
    assert one.told(replace(MINE, host="cn2")) == ["a1"]
    assert one.told(replace(A, sequence=2), by="cn1") == ["a2"]
    assert [record.getMessage()[:60] for record in caplog.records if record.levelname == "ERROR"] == [
        f"fault {A.fault_id} of 'cn2' is not t"
    ]


def test_what_is_sent_again(stage: Callable[..., Stage]) -> None:
    """What was heard changes nothing any more; what is forgotten is not taken for news."""
    one = stage()
    one.told(A, by="cn1")
    one.told(MINE, by="cn1")
    assert one.told(A, by="cn1") == []
    one.desk.clock.now += 10 * 86400
    one.desk.records.prune(one.desk.clock(), one.desk.clock())
    assert one.told(another("b"), by="cn1", ago=2 * 86400) == [], "signed longer ago than anything is kept"
    assert one.tally.snapshot()["faults.stale"] == 1
    assert one.told(another("b"), by="cn1", ago=3600) == ["b1"], "it waited, in a worker or in the broker"


def test_an_old_sign_of_life_is_none(stage: Callable[..., Stage]) -> None:
    """Or whoever kept one could have a dead worker taken for alive."""
    one = stage()
    assert one.alive("cn1", "cn1", ago=CLOCKS + 1) == 0
    assert one.alive("cn1", "cn1", ago=CLOCKS - 1) == 1


def test_a_clock_that_is_fast(stage: Callable[..., Stage]) -> None:
    """What it signs could be sent again for as long as it is ahead."""
    one = stage()
    assert one.told(A, by="cn1", ago=-CLOCKS - 1) == []
    assert one.told(A, by="cn1", ago=-CLOCKS + 1) == ["a1"]


def test_our_own_words_are_in_the_database(stage: Callable[..., Stage]) -> None:
    """They come back from the broker, and anybody can say that he is a consumer."""
    one = stage("off")
    one.say("vmhb.fault.raised", fault_payload(A), None, "", publisher="nova-vmhb-consumer:ctl")
    assert one.desk.open() == [] and one.tally.snapshot() == {"faults.own": 1}


def test_a_host_has_so_many_open_faults(stage: Callable[..., Stage]) -> None:
    """Whoever speaks for it fills no more than its part; others are heard, and what is over makes room."""
    one = stage("off")
    for number in range(MAX_OPEN):
        one.desk.take(a_fault(f"{number:08x}-5b7d-4d4b-9a57-0c8f5b1f7c11", instance_uuid=None))
    assert len(one.told(A)) == MAX_OPEN
    assert one.tally.snapshot() == {"faults.crowded": 1}
    assert len(one.told(another("b", host="cn2"))) == MAX_OPEN + 1
    first = a_fault("00000000-5b7d-4d4b-9a57-0c8f5b1f7c11", instance_uuid=None)
    one.told(life.cleared(first, Resolution.RECOVERED, NOON + timedelta(seconds=1)))
    assert "a1" in one.told(A)


# -- hosts that there are ----------------------------------------------------------------------------------------------


def test_ghosts(stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is written down of hosts that Nova does not have, and one line says how many they are."""
    one = stage("off", frozenset({"cn1", "cn2"}))
    assert (one.alive("cn1"), one.alive("cn1")) == (0, 1), "the list is read first"
    one.later.now += 1
    for number in range(300):
        one.alive(f"ghost-{number}")
    one.later.now += SOONEST
    for _ in range(2):
        for number in range(300):
            assert one.alive(f"ghost-{number}") == 1
            one.told(a_fault(host=f"ghost-{number}"))
        one.later.now += 10
        one.senders.say()
    assert one.desk.open() == [] and one.lists == 2, "Nova is asked at most every 30 s"
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "Nova has no nova-compute on these hosts" in line and line.endswith("(300 in all)")
    assert line.count("ghost-") == 10
    one.later.now += EVERY
    one.alive("ghost-7")
    one.senders.say()
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 2


def test_ghosts_that_speak_once(stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture) -> None:
    """They are told of all the same, once Nova's list was read anew."""
    one = stage("off", frozenset({"cn1"}))
    one.alive("cn1")
    one.later.now += 1
    for number in range(300):
        one.alive(f"ghost-{number}")
    for _ in range(60):
        one.later.now += 1
        one.senders.say()
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.endswith("(300 in all)") and one.lists == 2


def test_a_host_that_is_new(stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture) -> None:
    """Its first sign of life has Nova's list read anew; nothing is said of it."""
    one = stage("off", frozenset({"cn1"}))
    one.told(A)
    assert one.desk.open() == ["a1"], "a fault does not wait for the first list"
    one.alive("cn1")
    one.nova = frozenset({"cn1", "cn3"})
    one.later.now += SOONEST + 1
    one.alive("cn3")
    assert one.alive("cn3") == 2
    one.later.now += 10
    one.senders.say()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("said", [Unknown("Nova does not answer"), frozenset()])
def test_where_nova_does_not_tell_nobody_is_unknown(said: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is asked at most every 30 s, and what is in the way is said once."""
    clock, asked = SetTime(0.0), []

    def ask() -> Any:
        asked.append(clock())
        return said

    hosts = Hosts(ask, clock, lambda work: work())
    assert hosts.known("cn1") is Known.STARTING
    for _ in range(100):
        assert hosts.known("cn1") is Known.CANT_TELL
        clock.now += 1
    assert asked == [0.0, 30.0, 60.0, 90.0]
    assert len(caplog.records) == 1
    assert Hosts(None).known("cn1") is Known.CANT_TELL


def test_a_reading_that_fails_is_one_reading(caplog: pytest.LogCaptureFixture) -> None:
    """A mistake of ours: it is said, and the next one counts."""
    clock, said = SetTime(0.0), [frozenset({"cn1"})]

    def ask() -> Any:
        if clock() < SOONEST:
            raise RuntimeError("a bug")
        return said[0]

    hosts = Hosts(ask, clock, lambda work: work())
    hosts.known("cn1")
    assert hosts.known("cn1") is Known.CANT_TELL and "a bug" in caplog.records[0].getMessage()
    clock.now += SOONEST
    hosts.known("cn1")
    assert hosts.known("cn1") is Known.THERE


def test_a_list_that_is_old_tells_nobody_apart() -> None:
    """Nova has been away for an hour: hosts may have come since; those that were there are."""
    clock = SetTime(0.0)
    said: Any = frozenset({"cn1"})
    hosts = Hosts(lambda: said, clock, lambda work: work())
    hosts.known("cn1")
    assert hosts.known("cn2") is Known.NOT_YET
    said = Unknown("Nova does not answer")
    clock.now += TOO_OLD
    assert (hosts.known("cn1"), hosts.known("cn2")) == (Known.THERE, Known.NOT_YET)
    clock.now += 1
    assert (hosts.known("cn1"), hosts.known("cn2")) == (Known.THERE, Known.CANT_TELL)


# -- what is said of many ----------------------------------------------------------------------------------------------


def test_a_crowd(caplog: pytest.LogCaptureFixture) -> None:
    """Together, a moment after the first, then at most every ten minutes; who is no news is not said again."""
    clock = SetTime(0.0)
    crowd = Crowd(logging.WARNING, again=False, now=clock)
    for name in ("a", "b", "a\n"):
        crowd.met("not signed", name)
    crowd.say()
    assert caplog.messages == []
    clock.now += SETTLE
    crowd.say()
    clock.now += EVERY
    crowd.met("not signed", "a")
    crowd.say()
    crowd.met("not signed", "c")
    crowd.say()
    assert caplog.messages == ["not signed: a, b, a\\n (3)", "not signed: c (1)"]
