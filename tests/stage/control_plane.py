"""What is around a consumer: a Nova that publishes, workers that note what they are told, and the consumer itself."""

from __future__ import annotations

import itertools
import pathlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from tests.stage.nova import Message
from tests.stage.worker import Options, WorkerProcess
from vmhb_worker import brokers, rpcapi
from vmhb_worker.no_eventlet import without_eventlet
from vmhb_worker.rpc import Endpoint, uuid_of

with without_eventlet():
    import oslo_messaging


def _conf(**options: object) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([], project="stage", default_config_files=[], default_config_dirs=[])
    brokers.transport(conf, "fake://")  # registers the options
    for name, value in options.items():
        conf.set_override(name, value)
    return conf


class Nova:
    """Publishes as Nova's `rpc.get_versioned_notifier` does: a copy to each topic, messagingv2, on its own exchange."""

    def __init__(self, url: str, topics: Sequence[str] = ("versioned_notifications", "vmhb_instances")) -> None:
        transport = brokers.transport(_conf(control_exchange="nova"), url)
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
        transport = rpcapi.get_transport(_conf(), url)
        self._servers = [self._server(transport, name) for name in names]
        for server in self._servers:
            server.start()
        for server in self._servers:
            assert server.listening.wait(30)

    def _server(self, transport: Any, name: str) -> brokers.Background:
        target = oslo_messaging.Target(
            exchange=rpcapi.EXCHANGE, topic=rpcapi.TOPIC, server=name, version=rpcapi.VERSION
        )
        endpoint = _Endpoint(lambda method, arguments: self._take(Told(time.monotonic(), name, method, arguments)))

        def make() -> Any:
            policy = oslo_messaging.DefaultRPCAccessPolicy
            return oslo_messaging.get_rpc_server(transport, target, [endpoint], access_policy=policy)

        return brokers.Background(f"{name} listens", f"{name} cannot listen", make, threads=1)

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

    def configure(self, _context: Any, *, instance_uuid: Any, policy: Any) -> Any:
        """As `rpcapi` says it."""
        return self._put("configure", lambda: {"instance_uuid": uuid_of(instance_uuid), "policy": dict(policy)})


_NUMBERS = itertools.count(1)


class NovaConsumer(WorkerProcess):
    """A `nova-vmhb-consumer`. nova_urls: of Nova's brokers, by default the workers'."""

    def __init__(
        self, folder: pathlib.Path, url: str, nova_urls: Sequence[str] = (), options: Options | None = None
    ) -> None:
        super().__init__(folder / f"consumer-{next(_NUMBERS)}", uri="", transport_url=url, options=options)
        self.program = ("-m", "nova_vmhb.cmd.consumer")
        del self._options["libvirt"], self._options["DEFAULT"]["host"], self._options["DEFAULT"]["state_path"]
        if nova_urls:  # an option that may be given several times
            self.set("nova_notifications", "transport_url", "\ntransport_url = ".join(nova_urls))
