"""One test's virtual host on a shared RabbitMQ, and the consumers, workers and readers that the test runs in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from tests.lab.broker import Broker
from tests.lab.mariadb import MariaDB
from tests.lab.postgresql import PostgreSQL
from tests.stage.consumer import ConsumerProcess
from tests.stage.control_plane import FaultConsumer, FaultWorkers
from vmhb_common import worker_api
from vmhb_common.consumer_api import ConsumerAPI
from vmhb_common.messaging.sender_keys import Own


def database_server(kind: str) -> MariaDB | PostgreSQL:
    """Of this name; not yet started."""
    return MariaDB() if kind == "mariadb" else PostgreSQL()


def new_database(server: MariaDB | PostgreSQL, request: pytest.FixtureRequest) -> str:
    """An empty one, of one test: its URL."""
    return server.make("".join(char if char.isalnum() else "_" for char in request.node.name)[:60])


@dataclass
class Site:
    """What runs in one test's virtual host."""

    folder: Path
    broker: Broker
    url: str
    consumers: list[FaultConsumer] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)

    def consumer(self, database: str | None = None, start: bool = True, **options: Any) -> FaultConsumer:
        """One more. options: group -> its options."""
        one = FaultConsumer(self.folder, self.url, database, options)
        self.consumers.append(one)
        if start:
            one.start()
        return one

    def workers(self, *names: str, own: Own | None = None) -> FaultWorkers:
        """That publish, and answer on these hosts. own: the key that they sign with."""
        one = FaultWorkers(self.url, *names, own=own)
        self.others.append(one)
        return one

    def reader(self, topic: str) -> ConsumerProcess:
        """Somebody else who reads faults."""
        one = ConsumerProcess(self.url, topic)
        self.others.append(one)
        return one

    def api(self) -> ConsumerAPI:
        """Over RPC."""
        conf = cfg.ConfigOpts()
        conf([], project="stage", default_config_files=[], default_config_dirs=[])
        return ConsumerAPI(worker_api.get_transport(conf, self.url))

    def close(self) -> None:
        """End what still runs."""
        for consumer in self.consumers:
            if not consumer.ended:
                consumer.stop()
        for other in self.others:
            other.close()

    def messages(self) -> int:
        """That wait in the queue of faults, acknowledged or not."""
        vhost = self.url.rpartition("/")[2].partition("?")[0]
        said = self.broker.ctl("list_queues", "-p", vhost, "--no-table-headers", "name", "messages")
        found = {name: int(number) for name, number in (line.split() for line in said.splitlines())}
        return found["vmhb_notifications.info"]


def site_of(broker: Broker, name: str, folder: Path) -> Site:
    """A fresh virtual host."""
    vhost = re.sub(r"\W", "-", name)
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    definitions = folder / "vhost.json"
    permissions = [{"user": broker.user, "vhost": vhost, **everything}]
    definitions.write_text(json.dumps({"vhosts": [{"name": vhost}], "permissions": permissions}))
    broker.ctl("import_definitions", str(definitions))
    return Site(folder, broker, f"{broker.transport_url.rpartition('/')[0]}/{vhost}?amqp_durable_queues=true")
