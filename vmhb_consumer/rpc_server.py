"""The consumer's RPC server: answers what `consumer_api` says, from the database."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from vmhb_common import worker_api
from vmhb_common.consumer_api import EXCHANGE, TOPIC, VERSION
from vmhb_common.messaging import broker, callers, looks, replies
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.messaging.sender_keys import Own
from vmhb_consumer import fault_rules
from vmhb_consumer.database import Away
from vmhb_consumer.repository import Records

with without_eventlet():
    import oslo_messaging

LOG = logging.getLogger(__name__)

#: Calls that are worked on at a time.
THREADS = 2


class Endpoint:
    """What can be called. Threads: any."""

    target = oslo_messaging.Target(version=VERSION)

    def __init__(self, records: Records, about: Callable[[], dict[str, Any]], own: Own | None = None) -> None:
        """own: the key that it is shown with who answers."""
        self._own = own
        self._records = records
        self._about = about

    def active_faults(self, _context: dict[str, Any]) -> list[dict[str, Any]]:
        """All open faults."""
        found: list[dict[str, Any]] = self._answer(
            lambda: [fault_rules.primitive(fault) for fault in self._records.active()]
        )
        return found

    def about(self, context: dict[str, Any]) -> dict[str, Any]:
        """Who answers."""
        told: dict[str, Any] = callers.sealed(self._own, TOPIC, context, "about", {}, self._answer(self._about))
        return told

    def _answer(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Away as error:
            LOG.debug("a call is refused: the database is away: %s", error)
            raise oslo_messaging.ExpectedException() from error


def tried(name: str) -> list[looks.Look]:
    """For `brokers.check`: a consumer calls workers, and other consumers, and is called. name: as that of `server`."""
    to_workers = looks.calling(worker_api.EXCHANGE, f"{worker_api.TOPIC}.any")
    return [to_workers, looks.calling(EXCHANGE, TOPIC), looks.serving(EXCHANGE, TOPIC, name)]


def server(
    transport: Any, name: str, endpoint: Endpoint, why: Callable[[], str | None] = lambda: None
) -> broker.Background:
    """One that listens as one of any number of consumers. name: of its host: each name leaves a queue. why: as
    `brokers.Background`."""
    target = oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC, server=name, version=VERSION)

    def make() -> Any:
        policy = oslo_messaging.DefaultRPCAccessPolicy
        return replies.careful(oslo_messaging.get_rpc_server(transport, target, [endpoint], access_policy=policy))

    return broker.Background(f"RPC is served as {TOPIC}", "RPC cannot be served", make, THREADS, why)
