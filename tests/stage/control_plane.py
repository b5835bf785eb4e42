"""What is around a consumer: a Nova that publishes, workers that note what they are told, and the consumer itself."""

from __future__ import annotations

import inspect
import itertools
import json
import os
import pathlib
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from oslo_config import cfg

from tests.lab.processes import wait_until
from tests.stage import recorder, tables
from tests.stage.nova import Message
from tests.stage.worker import Options, WorkerProcess
from vmhb_common import worker_api
from vmhb_common.messaging import broker, publisher
from vmhb_common.messaging.callers import Callers
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.messaging.sender_keys import Own
from vmhb_common.model.causes import rests_on
from vmhb_common.model.fault import Fault
from vmhb_common.model.senders import SenderCheck, SenderSettings
from vmhb_common.objects import SignOfLife, fault_payload, worker_payload
from vmhb_worker.adapters.rpc_server import Endpoint, time_of, uuid_of
from vmhb_worker.core.questions import Configure, Question, Show

with without_eventlet():
    import oslo_messaging


def _conf(**options: object) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([], project="stage", default_config_files=[], default_config_dirs=[])
    broker.transport(conf, "fake://")  # registers the options
    for name, value in options.items():
        conf.set_override(name, value)
    return conf


class Nova:
    """Publishes as Nova's `rpc.get_versioned_notifier` does: a copy to each topic, messagingv2, on its own exchange."""

    def __init__(self, url: str, topics: Sequence[str] = ("versioned_notifications", "vmhb_instances")) -> None:
        transport = broker.transport(_conf(control_exchange="nova"), url)
        self._notifier = oslo_messaging.Notifier(transport, driver="messagingv2", topics=list(topics), retry=3)

    def publish(self, *messages: Message) -> float:
        """All of them, in this order; their time stamps are those of now. Returns when the last was sent."""
        for message in messages:
            notifier = self._notifier.prepare(publisher_id=message.publisher_id)
            send = notifier.error if message.priority == "ERROR" else notifier.info
            send({}, message.event_type, message.payload)
        return time.monotonic()


@dataclass(frozen=True)
class Told:
    """One cast, as it arrived at a host, and when (monotonic seconds)."""

    at: float
    host: str
    method: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        key = self.arguments.get("key")
        verb = self.method.partition("_")[0]
        return f"{self.host}: {verb} {key}" if key else f"{self.host}: {verb}"


class Hosts:
    """Workers' RPC servers, that check what they are sent as real ones do, and note it."""

    def __init__(self, url: str, *names: str) -> None:
        self._came = threading.Condition()
        self._told: list[Told] = []
        transport = worker_api.get_transport(_conf(), url)
        self._servers = [self._server(transport, name) for name in names]
        for server in self._servers:
            server.start()
        for server in self._servers:
            assert server.listening.wait(30)

    def _server(self, transport: Any, name: str) -> broker.Background:
        target = oslo_messaging.Target(
            exchange=worker_api.EXCHANGE, topic=worker_api.TOPIC, server=name, version=worker_api.VERSION
        )

        def take(asked: Question[Any]) -> None:
            arguments = {field: getattr(asked, field) for field in inspect.signature(type(asked)).parameters}
            self._take(Told(time.monotonic(), name, asked.method, arguments))

        endpoint = _Endpoint(take)

        def make() -> Any:
            policy = oslo_messaging.DefaultRPCAccessPolicy
            return oslo_messaging.get_rpc_server(transport, target, [endpoint], access_policy=policy)

        return broker.Background(f"{name} listens", f"{name} cannot listen", make, threads=1)

    def _take(self, told: Told) -> None:
        with self._came:
            self._told.append(told)
            self._came.notify_all()

    @property
    def told(self) -> list[Told]:
        """All casts so far, in the order of their arrival."""
        with self._came:
            return list(self._told)

    def wait(self, number: int, timeout: float = 30) -> list[Told]:
        """Until at least so many have arrived; all of them."""
        with self._came:
            assert self._came.wait_for(lambda: len(self._told) >= number, timeout), [str(one) for one in self._told]
            return list(self._told)

    def forget(self) -> None:
        """Begin anew."""
        with self._came:
            self._told.clear()

    def close(self) -> None:
        """Listen no more."""
        for server in self._servers:
            server.stop(2)


class _Endpoint(Endpoint):
    """The worker's own, with its checks."""

    def configure(self, _context: Any, *, instance_uuid: Any, policy: Any, observed_at: Any = None) -> Any:
        """As `worker_api` says it."""
        return self._put(
            Configure, lambda: Configure(uuid_of(instance_uuid), dict(policy), time_of("observed_at", observed_at))
        )


_NUMBERS = itertools.count(1)


class NovaConsumer(WorkerProcess):
    """A `nova-vmhb-consumer`. nova_urls: of Nova's brokers, by default the workers'."""

    def __init__(
        self, folder: pathlib.Path, url: str, nova_urls: Sequence[str] = (), options: Options | None = None
    ) -> None:
        super().__init__(folder / f"consumer-{next(_NUMBERS)}", uri="", transport_url=url, options=options)
        self.program = ("-m", "vmhb_consumer.cmd.consumer")
        del self._options["libvirt"], self._options["DEFAULT"]["host"], self._options["DEFAULT"]["state_path"]
        self._options.setdefault("consumer", {"halves": "instances"})
        if nova_urls:  # an option that may be given several times
            self.set("nova_notifications", "transport_url", "\ntransport_url = ".join(nova_urls))


# -- the faults half ---------------------------------------------------------------------------------------------------


class FaultConsumer(WorkerProcess):
    """A `nova-vmhb-consumer` that runs the faults half alone, with the reporters of `recorder`.

    folder: shared by all replicas of a test: their backends are the same. database: a URL, whose
    tables are made; None: SQLite of its own.
    """

    def __init__(
        self, folder: pathlib.Path, url: str, database: str | None = None, options: Options | None = None
    ) -> None:
        name = f"faults-{next(_NUMBERS)}"
        super().__init__(folder / name, uri="", transport_url=url, host=name, options=options)
        self.program = ("-m", "vmhb_consumer.cmd.consumer")
        self.backends = folder
        del self._options["libvirt"]
        if database is not None:
            self._options.setdefault("database", {})["connection"] = database
            tables.sync(database)
        consumer = {"halves": "faults", "reporters": "recording, recovering, log"}
        self._options["consumer"] = {**consumer, **self._options.get("consumer", {})}
        for reporter in ("recording", "recovering"):
            files = {"file": folder / f"{reporter}.jsonl", "control": folder / f"{reporter}.control"}
            self._options.setdefault(f"reporter_{reporter}", {}).update(files)
        #: For PYTHONPATH.
        self.plugins = recorder.install(folder)

    def start(self, environ: Mapping[str, str] | None = None, wait: bool = True, listens: bool = True) -> float:
        """listens: wait until it reads faults."""
        path = os.pathsep.join([self.plugins, *filter(None, [os.environ.get("PYTHONPATH")])])
        said = self.said("reading faults from")
        at = super().start({"PYTHONPATH": path, **(environ or {})}, wait)
        if wait and listens:
            wait_until(lambda: self.said("reading faults from") > said or self.ended, 30, "it reads faults")
        return at

    def told(self, reporter: str = "recording") -> list[recorder.Line]:
        """What this reporter was ever told, by any replica."""
        return recorder.read(self.backends / f"{reporter}.jsonl")

    def tell(self, what: str, reporter: str = "recording") -> None:
        """Have its reporter do something else: see `recorder`."""
        (self.backends / f"{reporter}.control").write_text(what)


class FaultWorkers:
    """What workers publish, and what they answer when they are asked.

    shown: host -> instance uuid -> what `show` tells: of what was published and asks for a recovery, that it stands; or
    what a test says. A host that is not in it has no worker that answers.
    """

    def __init__(
        self, url: str, *names: str, topics: Sequence[str] = ("vmhb_notifications",), own: Own | None = None
    ) -> None:
        """own: the key that they sign with; None: they are of before, or have none."""
        self.url = url
        self._own = own
        self._topics = topics
        self.shown: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in names}
        self.asked: list[tuple[str, str]] = []
        self._ours: list[dict[str, Any]] = []  # what no test has put into shown
        self._sender = publisher.Sender(_conf(), url, "cn1", own=own)
        transport = worker_api.get_transport(_conf(), url)
        self._servers = [self._server(transport, name) for name in names]
        for server in self._servers:
            server.start()
        for server in self._servers:
            assert server.listening.wait(30)

    def publish(self, *faults: Fault, event: str | None = None) -> None:
        """As their workers do."""
        for fault in faults:
            self._stands(fault)
            change = "cleared" if fault.state == "cleared" else "raised" if fault.sequence == 1 else "updated"
            self.send(event or f"vmhb.fault.{change}", fault_payload(fault), fault.project_id)

    def _stands(self, fault: Fault) -> None:
        of_host, uuid = self.shown.get(fault.host), str(fault.instance_uuid)
        if of_host is None or (uuid in of_host and of_host[uuid] not in self._ours):
            return
        open_one = {"fault_id": fault.fault_id, "cause": fault.cause, "recommended_action": fault.recommended_action}
        if fault.state == "cleared":
            of_host[uuid] = {"state": "alive", "silences": {}, "answered_since_miss": True, "fault": None}
        elif fault.recommended_action == "recover":
            state = "gone" if rests_on(fault.cause).does_not_run else "silent"
            of_host[uuid] = {"state": state, "silences": {}, "answered_since_miss": False, "fault": open_one}
        else:
            return
        self._ours.append(of_host[uuid])

    def alive(self, host: str, started_at: datetime, sequence: int, interval: float = 1.0) -> None:
        """A sign of life."""
        sign = SignOfLife(host, "1", started_at, datetime.now(timezone.utc), sequence, interval, 3, {}, 0, True, {})
        self.send("vmhb.worker.alive", worker_payload(sign))

    def send(self, event_type: str, payload: Any, project_id: str | None = None) -> None:
        """Anything."""
        row = _Sent(str(uuid.uuid4()), event_type, project_id, json.dumps(payload), time.time())
        for topic in self._topics:
            self._sender.send(topic, row)

    def close(self) -> None:
        """Answer no more."""
        for server in self._servers:
            server.stop(2)

    def _server(self, transport: Any, name: str) -> broker.Background:
        target = oslo_messaging.Target(
            exchange=worker_api.EXCHANGE, topic=worker_api.TOPIC, server=name, version=worker_api.VERSION
        )

        callers = Callers(name, SenderSettings(Path("/nonexistent"), SenderCheck.OFF), self._own)

        def show(asked: Question[Any]) -> Any:
            assert isinstance(asked, Show)
            self.asked.append((name, asked.instance_uuid))
            return self.shown[name].get(asked.instance_uuid)

        endpoint = Endpoint(show, callers)

        def make() -> Any:
            policy = oslo_messaging.DefaultRPCAccessPolicy
            return oslo_messaging.get_rpc_server(transport, target, [endpoint], access_policy=policy)

        return broker.Background(f"{name} listens", f"{name} cannot listen", make, threads=2)


@dataclass(frozen=True)
class _Sent:
    message_id: str
    event_type: str
    project_id: str | None
    payload: str
    created: float
