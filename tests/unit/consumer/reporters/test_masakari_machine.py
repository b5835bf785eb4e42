"""Two consumers, one database, a Masakari, and guests that fail and answer as they like: whom is Masakari told of?

The permits, the lines and the reporter are real; what is around them is told what to say. Whoever answers is never told
of, and of those of one host that may revive one at a time, whatever is killed in between.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from oslo_config import cfg

from tests.fakes import a_fault
from tests.unit.consumer.conftest import THEN
from tests.unit.consumer.fakes import SetTime, ToldClouds, standing
from vmhb_common.model import fault as life
from vmhb_common.model.causes import Ground, rests_on
from vmhb_common.model.fault import Change, Fault, Resolution
from vmhb_consumer.database import Database
from vmhb_consumer.doubt_rules import Told, Unknown, Word
from vmhb_consumer.recovery_permits import Permits, Witnesses
from vmhb_consumer.report_queue import Turn
from vmhb_consumer.reporters.base import Case, Later
from vmhb_consumer.reporters.masakari import MasakariReporter
from vmhb_consumer.reporters.masakari_rules import CRASH, ENDED, SILENT, Notification, Server
from vmhb_consumer.repository import Records
from vmhb_consumer.settings import RecoverySettings

HOSTS = ("cn1", "cn1", "cn1", "cn2", "cn2")
GUESTS = st.integers(0, len(HOSTS) - 1)
CAUSES = ("guest_hung", "agent_unresponsive", "qemu_hung", "application_unhealthy", "qemu_failed")
#: How long a report counts, whatever becomes of it (seconds).
RECOVERY_TIME = 600.0


@dataclass
class Guest:
    """An instance. fault: that is open, or was last. delivery: its reporter's, None: ended."""

    uuid: str
    host: str
    answers: bool = True
    fault: Fault | None = None
    memo: dict[str, Any] | None = None

    @property
    def is_open(self) -> bool:
        return self.fault is not None and self.fault.state is life.FaultState.RAISED

    @property
    def cause(self) -> str:
        return "" if self.fault is None else self.fault.cause


@dataclass
class Clouds(ToldClouds):
    """Masakari, and a Nova in which all are active where they were. looks: called before anything is posted."""

    looks: Any = None
    hosts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def server(self, uuid: str) -> Server | None:
        return Server(self.hosts[uuid], "active", None, {"HA_Enabled": "True"})

    def post(self, host: str, instance_uuid: str, event: tuple[str, str], generated_at: datetime) -> str:
        self.looks(host, instance_uuid, event)
        return super().post(host, instance_uuid, event, generated_at)


@functools.cache
def _options() -> Any:
    conf = cfg.ConfigOpts()
    conf.register_opts(MasakariReporter.options(), group="reporter_masakari")
    conf([], default_config_files=[], default_config_dirs=[])
    keystone = {"auth_url": "http://localhost:5000/v3", "username": "u", "password": "p", "project_name": "p"}
    for name, value in {**keystone, "recovery_time": RECOVERY_TIME, "confirmed_within": 86400.0}.items():
        conf.set_override(name, value, group="reporter_masakari")
    return conf.reporter_masakari


class Recoveries(RuleBasedStateMachine):
    """See above."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = SetTime(THEN)
        self.database = Database("sqlite://")
        self.database.open()
        self.records = Records(self.database, lambda change, fault: [], [], 300.0)
        self.guests = [Guest(str(uuid.UUID(int=number + 1)), host) for number, host in enumerate(HOSTS)]
        self.by_uuid = {guest.uuid: guest for guest in self.guests}
        self.away: set[str] = set()
        self.faults = 0
        self.clouds = Clouds(looks=self.posted, hosts={guest.uuid: guest.host for guest in self.guests})
        self.consumers = [(self.reporter(), self.permits()) for _ in range(2)]

    def teardown(self) -> None:
        self.database.close()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now, timezone.utc)

    def reporter(self) -> MasakariReporter:
        return MasakariReporter(_options(), self.now, self.clouds)

    def permits(self) -> Permits:
        limits = RecoverySettings(max_concurrent=100, rate=1000, recoveries=1000)
        return Permits(self.database, self.records, limits, Witnesses(self.word, lambda fault: None))

    def word(self, fault: Fault) -> Word:
        """As the worker of its host says it: it never says more than is so."""
        if fault.host in self.away:
            return Unknown("it does not answer")
        guest = self.by_uuid[str(fault.instance_uuid)]
        if guest.fault is None or not guest.is_open:
            return Told({"state": "alive", "answered_since_miss": True, "silences": {}, "fault": None})
        silent = rests_on(guest.fault.cause) in (Ground.SILENCE, Ground.TOLD)
        more = {"answered_since_miss": True, "state": "alive"} if guest.answers and silent else {}
        return standing(guest.fault, **more)

    # -- what must never be ------------------------------------------------------------------------------------------

    def posted(self, host: str, instance_uuid: str, event: tuple[str, str]) -> None:
        """Masakari is about to be told of it, in this moment."""
        guest = self.by_uuid[instance_uuid]
        assert guest.fault is not None and guest.is_open, "its fault is over"
        ground = rests_on(guest.fault.cause)
        assert (event == CRASH) == (ground is Ground.GONE)
        if ground is Ground.GONE:
            return
        assert host not in self.away, "nobody could say"
        assert ground is Ground.OWN_WORD or not guest.answers, "it answers"
        assert self.outstanding(host) == [], "one of a host at a time"

    def outstanding(self, host: str) -> list[Notification]:
        """Masakari's, of guests that may revive, which are not too old to count."""
        old = self.now() - timedelta(seconds=RECOVERY_TIME)
        return [
            one
            for one in self.clouds.known
            if one.event != CRASH
            and one.status not in ENDED
            and one.generated_at > old
            and self.by_uuid[one.instance_uuid].host == host
        ]

    @invariant()
    def one_of_a_host(self) -> None:
        """At any time."""
        assert all(len(self.outstanding(host)) <= 1 for host in set(HOSTS))

    # -- what may happen ---------------------------------------------------------------------------------------------

    def one_of(self, number: int, wanted: Callable[[Guest], bool]) -> Guest | None:
        """One of those to whom it can happen."""
        found = [guest for guest in self.guests if wanted(guest)]
        return found[number % len(found)] if found else None

    @initialize(causes=st.lists(st.sampled_from(CAUSES), max_size=len(HOSTS)))
    def begins(self, causes: list[str]) -> None:
        """Most of what is interesting begins with several at once."""
        for cause in causes:
            self.fails(0, cause)

    @rule(number=GUESTS, cause=st.sampled_from(CAUSES))
    def fails(self, number: int, cause: str) -> None:
        """A new fault, once the delivery of the one before has ended."""
        guest = self.one_of(number, lambda one: not one.is_open and one.memo is None)
        if guest is None:
            return
        self.faults += 1
        times = dict.fromkeys(("occurred_at", "raised_at", "suspected_at", "last_ack_at"), self.now())
        guest.fault = a_fault(
            str(uuid.UUID(int=1000 + self.faults)),
            host=guest.host,
            instance_uuid=guest.uuid,
            cause=cause,
            recommended_action="recover",
            withheld=None,
            recovery_attempt=1,
            **times,
        )
        guest.answers, guest.memo = rests_on(cause) is Ground.OWN_WORD, {}
        self.records.take(guest.fault, self.clock.now)

    @rule(number=GUESTS)
    def answers_or_not(self, number: int) -> None:
        """By itself; its fault is open for a while longer. One whose QEMU has ended does not."""
        guest = self.one_of(number, lambda one: one.is_open and one.cause != "qemu_failed")
        if guest is not None:
            guest.answers = not guest.answers

    @rule(number=GUESTS)
    def is_cleared(self, number: int) -> None:
        """It has answered for long enough."""
        guest = self.one_of(number, lambda one: one.is_open and one.answers)
        if guest is not None and guest.fault is not None:
            guest.fault = life.cleared(guest.fault, Resolution.RECOVERED, self.now())
            self.records.take(guest.fault, self.clock.now)

    @rule(number=GUESTS)
    def is_asked_again(self, number: int) -> None:
        """Its next attempt, once the delivery of the one before is over."""
        guest = self.one_of(number, lambda one: one.is_open and one.memo is None)
        if guest is not None and guest.fault is not None:
            fault = life.asked_again(replace(guest.fault, sequence=guest.fault.sequence + 1, occurred_at=self.now()))
            guest.fault, guest.memo = fault, {}
            self.records.take(fault, self.clock.now)

    @rule(host=st.sampled_from(sorted(set(HOSTS))))
    def worker_goes_or_comes(self, host: str) -> None:
        """Or its broker."""
        self.away ^= {host}

    @rule(which=st.integers(0, 99), status=st.sampled_from(["running", "error", "finished", "failed", "ignored"]))
    def masakari_goes_on(self, which: int, status: str) -> None:
        """With one of its notifications. What is ended stays so."""
        under_way = [one for one in self.clouds.known if one.status not in ENDED]
        if not under_way:
            return
        one = under_way[which % len(under_way)]
        self.clouds.known[self.clouds.known.index(one)] = replace(one, status=status)
        guest = self.by_uuid[one.instance_uuid]
        guest.answers = guest.answers or status == "finished"

    @rule(seconds=st.sampled_from([1.0, 10.0, 16.0, 61.0, 301.0, RECOVERY_TIME]))
    def time_passes(self, seconds: float) -> None:
        """For all."""
        self.clock.now += seconds

    @rule(first=GUESTS, consumer=st.integers(0, 1), killed=st.sampled_from([None, None, *range(len(HOSTS))]))
    def all_are_delivered(self, first: int, consumer: int, killed: int | None) -> None:
        """A try of each; killed: with this one, before what came of it could be written down."""
        for number in range(len(HOSTS)):
            self.is_delivered((first + number) % len(HOSTS), consumer, number == killed)
            if number == killed:
                return

    def is_delivered(self, number: int, consumer: int, killed: bool = False) -> None:
        """A try."""
        guest = self.guests[number]
        if guest.fault is None or guest.memo is None:
            return
        reporter, permits = self.consumers[consumer]
        known = self.records.known(guest.fault.fault_id)
        assert known is not None
        asked, memo = known[0], guest.memo
        case = Case(
            *(Change.UPDATED, asked, asked, self.now(), 1, memo),
            permit=lambda: permits.ask(asked, "masakari", self.clock),
            queue=Turn(self.database, asked, self.clock),
        )
        outcome = reporter.deliver(case)
        if killed:
            return
        if not isinstance(outcome, Later):
            guest.memo = None
        elif outcome.memo is not None:
            guest.memo = dict(outcome.memo)


Recoveries.TestCase.settings = settings(
    max_examples=50, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRecoveries = Recoveries.TestCase


def test_the_machine_can_fail() -> None:
    """What it forbids, it sees: one that answers, a second of the same host, and one that nobody can tell of."""
    one = Recoveries()
    for consumer in (0, 1):
        one.fails(0, "guest_hung")
        one.is_delivered(consumer, consumer)
    assert [host for host, *_ in one.clouds.posts] == ["cn1"]
    second = one.guests[1].uuid
    with pytest.raises(AssertionError, match="one of a host at a time"):
        one.posted("cn1", second, SILENT)
    one.clouds.known.clear()
    one.posted("cn1", second, SILENT)
    one.worker_goes_or_comes("cn1")
    with pytest.raises(AssertionError, match="nobody could say"):
        one.posted("cn1", second, SILENT)
    one.worker_goes_or_comes("cn1")
    one.answers_or_not(1)
    with pytest.raises(AssertionError, match="it answers"):
        one.posted("cn1", second, SILENT)
    one.is_cleared(0)
    with pytest.raises(AssertionError, match="its fault is over"):
        one.posted("cn1", second, SILENT)
    one.teardown()
