"""What stands around a Masakari in tests of recoveries: the reporter as a consumer has it, and a worker that is asked.

The worker's answers are a function of time: when a guest answers again is set beforehand, so that nothing hangs on how
soon a thread of the test has its turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import oslo_messaging
from oslo_config import cfg

from tests.fakes import a_fault
from tests.stage.cloud import Cloud, FakeServer
from vmhb_common import worker_api
from vmhb_common.messaging import broker as brokers
from vmhb_common.model.causes import RESTS_ON, Cause, Ground
from vmhb_common.model.fault import Change, Fault, Resolution, cleared
from vmhb_consumer.database import Database
from vmhb_consumer.doubt_rules import Told
from vmhb_consumer.recovery_permits import Permits, Witnesses
from vmhb_consumer.report_queue import Turn
from vmhb_consumer.reporters.base import NO_QUEUE, Case, Later, Permit, Queue, Refused
from vmhb_consumer.reporters.masakari import MasakariReporter
from vmhb_consumer.repository import Records
from vmhb_consumer.settings import RecoverySettings

#: As docs/masakari.rst has it.
TASKS = {
    "taskflow_driver_recovery_flows": {
        "instance_failure_recovery_tasks": "pre:['vmhb_stop_or_reboot'],main:['vmhb_start_unless_rebooted'],"
        "post:['confirm_instance_active_task', 'vmhb_confirm_heartbeat']"
    },
    "vmhb": {"heartbeat_time": "20", "poll_interval": "0.5", "unknown_time": "5"},
}


def now() -> datetime:
    """As the consumer has it."""
    return datetime.now(timezone.utc)


def reporter(cloud: Cloud, **options: Any) -> MasakariReporter:
    """With the credentials of our cloud."""
    conf = cfg.ConfigOpts()
    conf.register_opts(MasakariReporter.options(), group="reporter_masakari")
    conf([], default_config_files=[], default_config_dirs=[])
    given = {
        "auth_url": f"{cloud.url}/v3",
        "username": "admin",
        "password": "secret",
        "project_name": "admin",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    for name, value in {**given, **options}.items():
        conf.set_override(name, value, group="reporter_masakari")
    return MasakariReporter(conf.reporter_masakari, now)


class Desk:
    """A consumer's database, and what is asked of it before a recovery is begun. show: as a worker's, told of each
    instance. Several of them on one database are several consumers."""

    def __init__(self, show: Callable[[str], Any], database: Database | None = None) -> None:
        self.database = database or Database("sqlite://")
        if database is None:
            self.database.open()
        self.records = Records(self.database, lambda change, fault: [], [], 300.0)
        limits = RecoverySettings(max_concurrent=1000, rate=1000)
        witnesses = Witnesses(lambda fault: Told(show(str(fault.instance_uuid))), lambda fault: None)
        self._permits = Permits(self.database, self.records, limits, witnesses)

    def permit(self, fault: Fault) -> Permit:
        """May it begin?"""
        return self._permits.ask(fault, "masakari", time.time)

    def queue(self, fault: Fault) -> Queue:
        """Its place in lines."""
        return Turn(self.database, fault, time.time)


class Delivery:
    """One fault's delivery, as the consumer's outbox does it: what is kept, and when it is tried again.

    desk: asked before it is posted; None: everything is granted. changed: fields of the fault.
    """

    def __init__(self, to: MasakariReporter, one: FakeServer, desk: Desk | None = None, **changed: Any) -> None:
        self.reporter = to
        self._desk = desk
        fields = {"recommended_action": "recover", "recovery_attempt": 1, "withheld": None, "host": one.host, **changed}
        moment = now()
        self.fault = a_fault(
            instance_uuid=one.uuid,
            suspected_at=moment - timedelta(seconds=4),
            raised_at=moment,
            occurred_at=moment,
            **fields,
        )
        self.latest: Fault = self.fault
        self.memo: dict[str, Any] = {}
        self.said: list[str] = []
        self.tries = 0
        if desk is not None:
            desk.records.take(self.fault, time.time())

    def clear(self, resolution: Resolution = Resolution.RECOVERED) -> None:
        """What the worker says next."""
        self.latest = cleared(self.latest, resolution, now())
        if self._desk is not None:
            self._desk.records.take(self.latest, time.time())

    def step(self) -> str | None:
        """One try. None: it is to be tried again; otherwise how it ended."""
        self.tries += 1
        desk, fault = self._desk, self.fault
        case = Case(
            *(Change.RAISED, fault, self.latest, now(), self.tries, self.memo),
            permit=(lambda: desk.permit(fault)) if desk is not None else lambda: Permit(True),
            queue=NO_QUEUE if desk is None else desk.queue(fault),
        )
        outcome = self.reporter.deliver(case)
        self.memo = dict(outcome.memo) if outcome.memo is not None else self.memo
        match outcome:
            case Later(why=why):
                if why not in self.said:
                    self.said.append(why)
                return None
            case Refused(why=why):
                return f"{'withheld' if outcome.rightly else 'given up'}: {why}"
        return "delivered"

    def run(self, seconds: float = 60.0, until: Callable[[], bool] = lambda: False) -> str:
        """Until it ends, or until something holds ("": it goes on then)."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ended = self.step()
            if ended is not None:
                return ended
            if until():
                return ""
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds} s: {self.said}")

    @property
    def posted(self) -> bool:
        """Has Masakari been told?"""
        return "notification" in self.memo


# -- workers -----------------------------------------------------------------------------------------------------------


class Worker:
    """The workers of these hosts, as far as the engine asks them: RPC `show`, on a real broker. shown: by instance,
    what it says, or a function that is called for it."""

    target = oslo_messaging.Target(version=worker_api.VERSION)

    def __init__(self, url: str, hosts: Sequence[str] = ("cpt1",)) -> None:
        self.shown: dict[str, Any] = {}
        conf = cfg.ConfigOpts()
        conf([], project="stage", default_config_files=[], default_config_dirs=[])
        brokers.transport(conf, "fake://")
        transport = worker_api.get_transport(conf, url)
        self._servers = [self._server(transport, host) for host in hosts]
        for server in self._servers:
            server.start()
        for server in self._servers:
            assert server.listening.wait(30)

    def _server(self, transport: Any, host: str) -> brokers.Background:
        target = oslo_messaging.Target(
            exchange=worker_api.EXCHANGE, topic=worker_api.TOPIC, server=host, version=worker_api.VERSION
        )
        return brokers.Background(
            "listens", "cannot listen", lambda: oslo_messaging.get_rpc_server(transport, target, [self]), threads=1
        )

    def show(self, _context: Any, instance_uuid: str) -> Any:
        """As `vmhb_worker.engine.instance.told`, what counts here."""
        said = self.shown.get(instance_uuid)
        return said() if callable(said) else said

    def is_silent(self, one: FakeServer, cause: str) -> None:
        """Its guest is."""
        self.shown[one.uuid] = {
            "instance_uuid": one.uuid,
            "state": "silent",
            "fault": {"fault_id": "f", "cause": cause},
        }

    def answers(self, one: FakeServer) -> None:
        """It does, and its fault is over."""
        self.shown[one.uuid] = {"instance_uuid": one.uuid, "state": "alive", "fault": None}

    def close(self) -> None:
        """No more."""
        for server in self._servers:
            server.stop(2)


@dataclass
class Guest:
    """One that is silent, or whose QEMU has ended, until it is told when to answer. fault_id: of its fault, which stays
    open until it has been recovered: a worker clears it only after several answers.

    aim: called in the moment in which its worker is first asked of it: the seconds until it answers from then on.
    """

    cause: str = "guest_hung"
    fault_id: str = "f"
    answers_at: float | None = None
    aim: Callable[[], float] | None = None
    booted: bool = False
    #: When its worker was asked (monotonic).
    asked: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def show(self) -> dict[str, Any]:
        """What its worker says now."""
        with self.lock:
            at = time.monotonic()
            self.asked.append(at)
            if self.aim is not None:
                self.answers_at, self.aim = at + self.aim(), None
            if self.booted:
                return {"state": "alive", "answered_since_miss": True, "silences": {}, "fault": None}
            answered = self.answers_at is not None and self.answers_at <= at
        fault = {"fault_id": self.fault_id, "cause": self.cause, "recommended_action": "recover", "withheld": None}
        ground = RESTS_ON[Cause(self.cause)]
        assert ground in (Ground.GONE, Ground.SILENCE)
        state = "alive" if answered else "gone" if ground.does_not_run else "silent"
        return {"state": state, "answered_since_miss": answered, "silences": {}, "fault": fault}


@dataclass(frozen=True)
class Race:
    """What became of one. question: when its worker was asked last before; touched: when Nova was asked to stop or to
    reboot it; answered: when it answered first. Monotonic; None: never."""

    question: float | None
    touched: float | None
    answered: float | None

    @property
    def window(self) -> float | None:
        """From the last question to Nova's power-off."""
        return None if self.touched is None or self.question is None else self.touched - self.question

    @property
    def wrong(self) -> bool:
        """Touched, though it had answered before the last question: or nobody was asked."""
        if self.touched is None:
            return False
        return self.question is None or (self.answered is not None and self.answered <= self.question)

    @property
    def inside(self) -> bool:
        """Touched, and it had answered since the last question: nobody could know."""
        if self.touched is None or self.answered is None or self.wrong:
            return False
        return self.answered <= self.touched


def race_of(one: FakeServer, guest: Guest) -> Race:
    """By what Nova and its worker were asked."""
    touched = min((at for at, _what, user in one.asked if not user), default=None)
    before = [at for at in guest.asked if touched is None or at <= touched]
    return Race(max(before, default=None), touched, guest.answers_at)
