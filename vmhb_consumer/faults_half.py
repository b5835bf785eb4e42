"""The faults half of a consumer: made of its parts, started and ended. Decides nothing.

    broker ─► fault_listener ─► repository ─► outbox ─► delivery: one thread for each reporter, and for each topic of
                                    ▲                             our own words
                               housekeeper ─► workers (RPC), Nova

Everything that must not be lost is in the database between two of these. Its start waits for the database, in the
background, and then for nobody: faults are listened to before anything is asked of anybody. What comes is held until
another consumer was asked for its database, once, which takes 6 s at the longest, whatever the brokers do; where it
can't be asked, it is asked again, beside the work.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

from oslo_config import cfg

from vmhb_common import worker_api
from vmhb_common.app import command_line, systemd
from vmhb_common.app.once import Once
from vmhb_common.consumer_api import ConsumerAPI, Unproven
from vmhb_common.messaging import broker, publisher
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.messaging.sender_keys import Own
from vmhb_common.model.fault import Change, Fault
from vmhb_common.model.senders import Role, name_of
from vmhb_consumer import database, fault_rules, housekeeper, nova_client, pause_watch, rpc_server
from vmhb_consumer.conf import consumer as options
from vmhb_consumer.counters import Tally
from vmhb_consumer.database import Away, Database, Refused
from vmhb_consumer.delivery import Delivery, Recipient
from vmhb_consumer.doubt_rules import Told, Unknown, Word
from vmhb_consumer.fault_listener import Endpoint
from vmhb_consumer.known_hosts import Hosts
from vmhb_consumer.nova_client import ListHosts, Locate
from vmhb_consumer.outbox import TOPIC, Outbox
from vmhb_consumer.pause_watch import Watch
from vmhb_consumer.questions import Asking, Questions
from vmhb_consumer.recovery_permits import Permits, Witnesses
from vmhb_consumer.recovery_places import Board
from vmhb_consumer.report_queue import Turn
from vmhb_consumer.reporters import keystone, loader
from vmhb_consumer.reporters.base import Case, Reporter
from vmhb_consumer.reporters.outcomes import Done, Later, Outcome
from vmhb_consumer.repository import Records
from vmhb_consumer.senders import Senders
from vmhb_consumer.settings import FaultSettings
from vmhb_consumer.whose import Whose

with without_eventlet():
    import oslo_messaging

LOG = logging.getLogger(__name__)

#: Seconds that a worker has to answer a question: its own limit is `worker_api.ANSWER_TIME`.
ANSWER_TIME = 6.0
#: What was signed longer ago than this part of [consumer] keep is not taken for news: it may be forgotten.
MEMORY = 0.9
#: Seconds until the database, or the broker, is tried again at the start.
RETRY = 5.0
#: Seconds that another consumer has to answer, at our start.
OTHERS = 2.0
#: Seconds that RPC has to be served until what was read is taken all the same.
SERVED = 1.0
#: Seconds that a look at a broker may take, in the background, to say what is wrong with it.
CHECK = 10.0
#: How often it is looked whether the broker is there, to say so (seconds).
LOOK = 2.0
#: Seconds at the end that are kept for giving back what we were at: others would wait `outbox.MEMBER_TTL` for it.
LEAVE = 0.3


@dataclass(frozen=True, slots=True)
class Message:
    """As `publisher.Notification`."""

    message_id: str
    event_type: str
    project_id: str | None
    payload: str
    created: float


class Faults:
    """One. `start` and `stop` return in time, whatever broker and database do."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it is wired to
        self,
        conf: cfg.ConfigOpts,
        settings: FaultSettings,
        store: Database,
        reporters: Mapping[str, Reporter],
        locate: Locate | None,
        refused: Callable[[str], None],
        line: systemd.Line | None = None,
        list_hosts: ListHosts | None = None,
    ) -> None:
        """Connects to nothing. locate, list_hosts: ask Nova, None where there is none to ask. refused: called, once,
        with what keeps us from ever running. line: is told how we are, as `faults`, `database` and `recoveries`."""
        self._line = line or systemd.Line()
        self.known = threading.Event()
        self._conf = conf
        self._settings = settings
        self._store = store
        store.tell = self._say_away
        self._reporters = reporters
        self._refused = refused
        self._stopping = threading.Event()
        self._asked = threading.Event()  # other consumers, once, whatever came of it
        self._once = Once()
        self._said_never: str | None = None
        self._tally = Tally()
        self._member = str(uuid.uuid4())
        self._topics = [f"{TOPIC}{topic}" for topic in settings.topics]
        self._records = Records(store, self._route, self._topics, settings.reminder_interval)
        self._outbox = Outbox(store, self._member)
        self._hosts = Hosts(list_hosts)
        self._senders = Senders(settings.senders, self._hosts)
        self._senders.memory = MEMORY * settings.keep
        self._others = ConsumerAPI(
            worker_api.get_transport(conf), OTHERS, self._senders.trusted, settings.senders.check
        )
        self._own = Own(settings.senders.key, name_of(Role.CONSUMER, settings.host))
        self._workers = worker_api.WorkerAPI(
            *(worker_api.get_transport(conf), conf, ANSWER_TIME),
            *(self._own, self._senders.trusted, settings.senders.check),
        )
        self._whose = Whose(locate)
        self._asked_words = Questions(self._word_of, lambda word: isinstance(word, Unknown))
        self._asked_signs = Questions(self._sign_of, lambda sign: sign is not True)
        witnesses = Witnesses(self._word, self._whose.place, self._whose.named)
        self._permits = Permits(store, self._records, settings.recovery, witnesses)
        self._deliveries = [
            Delivery(
                *(target, self._outbox, self._tally),
                *(lambda fault, name: self._permits.ask(fault, name, time.time), time.time),
                *(lambda fault: Turn(store, fault, time.time), self._whose.named),
            )
            for target in self._targets()
        ]
        ask = housekeeper.Ask(self._word, self._whose.place, self._answers, self._hosts.known)
        self._board = Board(store)
        watch = Watch(self._board.pause, lambda text: self._line.say("recoveries", text or self._never()))
        self._rounds = housekeeper.Rounds(
            *(settings, self._records, self._outbox, ask, self._tally, self._wake), watch=watch
        )
        self._endpoint = Endpoint(
            *(self._records, self._tally, time.time, self._wake), allowed=self._may_take, senders=self._senders
        )
        self._where = f"{settings.topics[0]} of {broker.shown(conf, settings.transport_url)[0]}"
        self._listener = self._listen()
        self._server = rpc_server.server(
            worker_api.get_transport(conf),
            settings.host,
            rpc_server.Endpoint(self._records, self._about, self._own),
            self._rpc_problem,
        )

    def start(self) -> None:
        """Begin, in the background."""
        self._line.say("faults", "not yet reading faults")
        self._line.say("recoveries", self._never())
        threading.Thread(target=self._begin, name="vmhb-faults", daemon=True).start()

    def read_again(self) -> None:
        """Limits, and how long what is over is kept, are others."""
        self._settings = options.settings(self._conf)
        self._permits.limit(self._settings.recovery)
        self._rounds.take_settings(self._settings)
        self._senders.check = self._workers.check = self._others.check = self._settings.senders.check
        self._senders.memory = MEMORY * self._settings.keep
        self._say_never()

    def stop(self, timeout: float) -> None:
        """End: no more is taken, and what is under way has until then to be finished."""
        until = time.monotonic() + timeout
        self._stopping.set()
        self._asked.set()
        self._endpoint.stop()
        for delivery in self._deliveries:
            delivery.stop()
        self._rounds.stop()
        for server in (self._listener, self._server):
            server.end()
        if all(one.join(max(0.0, until - LEAVE - time.monotonic())) for one in self._deliveries if one.started):
            leaving = threading.Thread(target=self._leave, name="vmhb-leave", daemon=True)
            leaving.start()
            leaving.join(max(0.0, until - time.monotonic()))
        for server in (self._listener, self._server):
            server.join(until - time.monotonic())

    @property
    def listening(self) -> bool:
        """Are faults read?"""
        return self._listener.listening.is_set() and self._asked.is_set()

    def _leave(self) -> None:
        try:
            self._outbox.leave()
            for reporter in self._reporters.values():
                reporter.close()
        except Exception as error:
            LOG.debug("an end without leave: %s", error)

    # -- the start -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        try:
            if not (self._until(self._open, "the database is away") and not self._stopping.is_set()):
                return
            for delivery in self._deliveries:
                delivery.start()
            self._rounds.start()
            self._hosts.known("")  # has Nova's list read, beside us
            self._say_orphans()
            self._listener.start()
            threading.Thread(target=self._say_reading, name="vmhb-reading", daemon=True).start()
            threading.Thread(target=self._check_topics, name="vmhb-check-broker", daemon=True).start()
            if self._until(self._ask_others, "other consumers can't be asked for their database, faults are read"):
                self._server.start()  # not before: ours might be the answer
                # Whoever is told of a fault may ask for it.
                self._server.listening.wait(SERVED)
                self._asked.set()
                self.known.set()
        except Refused as error:
            self._refused(str(error))
        except Exception as error:
            LOG.exception("an error of our own")
            self._refused(f"an error of our own: {error}")

    def _until(self, work: Callable[[], None], problem: str) -> bool:
        """Until it works, or we end: False."""
        said = ""
        while not self._stopping.is_set():
            try:
                work()
                return True
            except Refused:
                raise
            except Exception as error:  # oslo.messaging lets through whatever amqp and kombu raise
                text = str(error) if isinstance(error, Away) else broker.explain(error)
                if isinstance(error, Away):
                    self._store.notice(text)
                elif text != said:
                    LOG.warning("%s: %s; trying again every %g s", problem, text, RETRY)
                said = text
                self.known.set()
            self._stopping.wait(RETRY)
        return False

    def _open(self) -> None:
        self._store.open()
        self._outbox.live(self._settings.host, time.time())
        LOG.info("faults are kept in %s", self._store.shown)
        self._say_never()

    def _say_away(self, why: str | None) -> None:
        """Once, whoever of us met it."""
        self._line.say("database", why and f"the database is away: {why}")
        if why is None:
            LOG.info("the database is back")
        else:
            LOG.error("the database is away, notifications wait in the broker until it is back: %s", why)

    def _say_never(self) -> None:
        """Where the configuration has none begun."""
        never = self._never()
        if never != self._said_never:
            LOG.warning("%s", never or "recoveries are begun by this consumer, from now on")
            self._said_never = never
            self._line.say("recoveries", never)  # a pause says so again by itself

    def _never(self) -> str | None:
        limits = self._settings.recovery
        if not (limits.observe_only or not limits.max_concurrent):
            return None
        which = "observe_only = true" if limits.max_concurrent else "max_concurrent = 0"
        return f"no recovery is begun by this consumer: [recovery] {which}"

    def _may_take(self) -> bool:
        """What is read is not ours before we know that we may run, and not after we were told to end."""
        self._asked.wait()
        return not self._stopping.is_set()

    def _ask_others(self) -> None:
        """Two databases would each get half of the faults: refuse to be the second. Raises Refused."""
        try:
            self._compare()
        except Refused:
            self._stopping.set()  # before what is held is let go: it is the other one's
            self._asked.set()
            raise
        except Exception:
            self._asked.set()
            raise

    def _compare(self) -> None:
        try:
            told = self._others.about()
        except oslo_messaging.MessagingTimeout:
            return  # there is none
        except Unproven as error:  # or any node could keep us from running
            LOG.warning("whether another consumer keeps faults in another database is not known: %s", error)
            return
        except oslo_messaging.RemoteError as error:
            LOG.warning("another consumer could not say which database it uses: %s", str(error).partition("\n")[0])
            return
        theirs, ours = told.get("database"), self._store.identity
        if theirs != ours:
            raise Refused(
                f"a consumer on {told.get('host')!r:.80} keeps faults in another database than ours, "
                f"{self._store.shown}: each would get a part of them. Stop that one, or give both the same "
                f"[database] connection"
            )

    def _say_reading(self) -> None:
        """Once what comes is taken, and no longer held: to the log. And to systemd, as long as we run."""
        self._asked.wait()
        while not (self._listener.listening.wait(RETRY) or self._stopping.is_set()):
            pass
        if not self._stopping.is_set():
            LOG.info("reading faults from %s", self._where)
        while not self._stopping.is_set():
            how = "reading" if self._listener.connected else "the message broker is away: no"
            self._line.say("faults", f"{how} faults from {self._where}")
            self._senders.say()
            self._stopping.wait(LOOK)

    def _say_orphans(self) -> None:
        mine = {target.name for target in self._targets()}
        for target, count in self._outbox.waiting().items():
            if target not in mine:
                LOG.warning("%d changes wait for %s, which is not configured here", count, target)

    def _check_topics(self) -> None:
        """Say early what would keep our own words from being delivered, or lose faults in the broker."""
        where = self._settings
        risk = broker.durability(self._conf, where.transport_url)
        if risk:
            LOG.warning("%s", risk)
        problem = publisher.check(self._conf, where.transport_url, where.topics, CHECK)
        if problem:
            LOG.error("faults cannot be published now, and are kept: %s", problem)
        problem = self._rpc_problem()
        if problem:
            LOG.error("RPC is not served, and workers cannot be asked now: %s", problem)

    def _rpc_problem(self) -> str | None:
        """What stands in the way of calls, and of being called. BLOCKS for CHECK seconds."""
        return broker.check(self._conf, None, rpc_server.tried(self._settings.host), CHECK)

    # -- wiring ----------------------------------------------------------------------------------------------------

    def _listen(self) -> broker.Background:
        settings = self._settings
        target = oslo_messaging.Target(exchange=publisher.EXCHANGE, topic=settings.topics[0])

        def make() -> Any:
            transport = broker.transport(self._conf, settings.transport_url)
            return broker.listener(transport, target, self._endpoint)

        what = self._where
        # One thread: the order of a fault's notifications is kept.
        return broker.Background(
            f"listening to {what}",
            f"cannot read faults from {what}",
            make,
            threads=1,
            why=lambda: publisher.check(self._conf, settings.transport_url, settings.topics[:1], CHECK),
        )

    def _targets(self) -> Sequence[Recipient]:
        sender = publisher.Sender(
            self._conf, self._settings.transport_url, self._settings.host, program="nova-vmhb-consumer"
        )
        to_reporters = [
            Recipient(name, reporter.deliver, partial(_wanted, reporter), reporter.by_project)
            for name, reporter in self._reporters.items()
        ]
        return [*to_reporters, *(Recipient(name, _publisher(sender, name)) for name in self._topics)]

    def _route(self, change: Change, fault: Fault) -> list[str]:
        return [name for name, reporter in self._reporters.items() if _wanted(reporter, change, fault)]

    def _wake(self) -> None:
        for delivery in self._deliveries:
            delivery.wake()

    def _about(self) -> dict[str, Any]:
        return {
            "version": command_line.version(),
            "host": self._settings.host,
            "database": self._store.identity,
            "held": self._permits.held,
            "unverified": self._permits.mute,
            "paused": pause_watch.as_told(self._board.pause(), time.time()),
            "observe_only": self._settings.recovery.observe_only,
            "counts": self._tally.snapshot() | self._records.counts(),
            "waiting": self._outbox.waiting(),
            "undelivered": [[target, kind, count] for (target, kind), count in self._outbox.undelivered().items()],
        }

    # -- questions to others ---------------------------------------------------------------------------------------

    def _word(self, fault: Fault) -> Word:
        said = self._asked_words(fault.host, fault.instance_uuid or housekeeper.NOBODY)
        if isinstance(said, Asking):
            why = said.last.why if isinstance(said.last, Unknown) else "its worker is being asked"
            return Unknown(why, said.seconds)
        return said

    def _word_of(self, host: str, instance_uuid: str) -> Word:
        try:
            return Told(self._workers.show(host, instance_uuid))
        except oslo_messaging.MessagingTimeout:
            return Unknown(f"the worker on {host} does not answer")
        except worker_api.Unproven as error:
            return Unknown(str(error))
        except Exception as error:
            return Unknown(f"the worker on {host} can't be asked: {broker.explain(error)}")

    def _answers(self, host: str) -> bool | str | Asking | None:
        return self._asked_signs(host, housekeeper.NOBODY)

    def _sign_of(self, host: str, nobody: str) -> bool | str | None:
        try:
            self._workers.show(host, nobody)
            return True
        except oslo_messaging.MessagingTimeout:
            return f"no answer within {ANSWER_TIME:g} s"
        except (worker_api.WorkerBusy, worker_api.WorkerFailed, worker_api.Unproven) as error:
            return str(error)
        except Exception as error:
            why = broker.explain(error)
            level = self._once.level(logging.INFO, why, host)
            LOG.log(level, "the worker on %s can't be asked whether it lives: %s", host, why)
            return None


def _wanted(reporter: Reporter, change: Change, fault: Fault) -> bool:
    if fault.drill and reporter.acts:
        return False
    try:
        return reporter.wants(change, fault)
    except Exception:
        LOG.exception("reporter %s could not say whether it wants %s: it gets it", reporter.name, fault.fault_id)
        return True


def _publisher(sender: publisher.Sender, name: str) -> Callable[[Case], Outcome]:
    topic = name.removeprefix(TOPIC)

    def deliver(case: Case) -> Outcome:
        fault = case.fault
        # The same at every attempt, so that a receiver can tell.
        message_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{topic} {fault.fault_id} {fault.sequence}"))
        payload = json.dumps(fault_rules.primitive(fault))
        created = fault.occurred_at.timestamp()
        try:
            sender.send(topic, Message(message_id, str(case.change), fault.project_id, payload, created))
        except Exception as error:  # the broker's libraries let through much; what we have to say is never given up
            return Later(None, f"{type(error).__name__}: {error}")
        return Done()

    return deliver


def make(
    conf: cfg.ConfigOpts,
    settings: FaultSettings,
    reporters: Mapping[str, Reporter],
    refused: Callable[[str], None],
    line: systemd.Line | None = None,
) -> Faults:
    """By the configuration. Raises ValueError."""
    store = database.of(conf, settings.state_path)
    nova = nova_client.from_conf(conf)
    return Faults(conf, settings, store, reporters, nova, refused, line, None if nova is None else nova.hosts)


def remarks(conf: cfg.ConfigOpts, names: Iterable[str]) -> Iterator[str]:
    """What works, and is not to be said so any more."""
    for name in names:
        said = keystone.own(conf[f"{loader.PREFIX}{name}"])
        if said and conf[f"{loader.PREFIX}{name}"].auth_type != "none":
            yield (
                f"[{loader.PREFIX}{name}] has credentials of its own ({', '.join(said)}): deprecated: say them once, "
                f"in [{keystone.SHARED}], or in a group of their own that auth_section names"
            )


def now() -> datetime:
    """For reporters."""
    return datetime.now(timezone.utc)
