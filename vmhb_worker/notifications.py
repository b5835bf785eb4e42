"""Hands notifications to the broker through oslo.messaging, so that a failure is seen. Keeps nothing, decides nothing.

On the wire it is what oslo.messaging's driver `messagingv2` sends. Its `Notifier` is not used, because it returns
normally whether the message was delivered or not. What is used instead is the transport below it, in this module only;
what we rely on there was read in oslo.messaging 18.3 and kombu 5.7, and tests/functional/test_delivery.py holds it
against a real RabbitMQ:

- Publisher confirms are always on: a publish returns after the broker's ack, and raises on nack.
- `retry=1`: a connection that turns out to be dead is replaced once. 0 would never replace it: the dead one goes back
  into the pool, and every later send on it fails, whatever its topic. None would retry for ever, out of our sight.
- After an error that closes an AMQP channel, the connection keeps that channel; after a message that was returned as
  unroutable, its ack is still to come and would be taken for the next message's. So a transport that failed once is
  thrown away, and each topic has one of its own: what breaks one topic can't touch another.
- `_send_notification` declares the topic's queue once per connection. If the queue vanishes later, the broker acks and
  drops. So all but the first message of a connection go through `_send` with the flag `mandatory`, which is the same
  on the wire otherwise, and raises when no queue takes the message.
- A send blocks as long as the broker stays silent: up to `heartbeat_timeout_threshold` (60 s) when it is frozen, and
  as long as it lasts when it has blocked us by a memory or disk alarm.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from oslo_config import cfg

from vmhb_worker.no_eventlet import without_eventlet

with without_eventlet():
    import amqp
    import kombu
    import oslo_messaging
    from oslo_messaging._drivers import common as driver_common
    from oslo_messaging._drivers import impl_rabbit
    from oslo_messaging.transport import TransportURL

LOG = logging.getLogger(__name__)

#: The exchange that all our notifications go through.
EXCHANGE = "vmhb"
#: Vitrage hears no other. The severity is in the payload.
PRIORITY = "INFO"


class DeliveryError(Exception):
    """The broker did not take the message; the text says why, and what to do where that is known."""


class Notification(Protocol):
    """What is needed of a row of the outbox. created: seconds since the epoch. payload: JSON."""

    @property
    def message_id(self) -> str: ...
    @property
    def event_type(self) -> str: ...
    @property
    def project_id(self) -> str | None: ...
    @property
    def payload(self) -> str: ...
    @property
    def created(self) -> float: ...


class Sender:
    """Sends to any number of topics; `send` is what an outbox wants. Each topic by one thread at a time."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        url: str | None,
        host: str,
        *,
        exchange: str = EXCHANGE,
        connect: Callable[[cfg.ConfigOpts, str | None], Any] | None = None,
    ) -> None:
        """conf: with oslo.messaging's options; url: of the broker, None for the one in [DEFAULT]. Connects to nothing.

        host: as nova-compute names it; part of the publisher's id. connect: `transport`, or what stands in for it.
        """
        self._connect = functools.partial(connect or transport, conf, url)
        self._exchange = exchange
        self._publisher_id = f"vmhb-worker:{host}"
        self._lines: dict[str, _Line] = {}

    def send(self, topic: str, row: Notification) -> None:
        """BLOCKS: returns once the broker has confirmed that a queue holds the message, else raises DeliveryError."""
        line = self._lines.get(topic)
        if line is None:
            line = self._lines[topic] = _Line(self._connect, self._exchange, topic)
        # The context names the instance's project: Mistral and Aodh choose their receivers by it.
        line.send({"project_id": row.project_id}, self._envelope(row))

    def close(self) -> None:
        """Let go of all connections, without waiting. For whoever goes on living; a process that ends need not."""
        for line in self._lines.values():
            line.discard()

    def _envelope(self, row: Notification) -> dict[str, Any]:
        """As `oslo_messaging.Notifier` builds it, except that id and time stay the same at every attempt."""
        return {
            "message_id": row.message_id,
            "publisher_id": self._publisher_id,
            "event_type": row.event_type,
            "priority": PRIORITY,
            "payload": json.loads(row.payload),
            "timestamp": str(datetime.fromtimestamp(row.created, UTC).replace(tzinfo=None)),
        }


class _Line:
    """One topic's own transport, and with it one connection. Belongs to the topic's thread."""

    def __init__(self, connect: Callable[[], Any], exchange: str, topic: str) -> None:
        self._connect = connect
        self._target = oslo_messaging.Target(exchange=exchange, topic=f"{topic}.{PRIORITY.lower()}")
        self._transport: Any = None

    def send(self, ctxt: dict[str, Any], message: dict[str, Any]) -> None:
        """Send, and start afresh after any failure."""
        try:
            try:
                self._try(ctxt, message)
            except oslo_messaging.MessageUndeliverable:
                LOG.warning("%s: the queue is gone, declaring it again", self._target.topic)
                self.discard()
                self._try(ctxt, message)
        except Exception as error:
            self.discard()
            raise DeliveryError(explain(error)) from error

    def _try(self, ctxt: dict[str, Any], message: dict[str, Any]) -> None:
        content = dict(message)  # the driver adds fields of its own
        if self._transport is None:
            self._transport = self._connect()
            self._transport._send_notification(self._target, ctxt, content, version=2.0, retry=1)
        else:
            mandatory = oslo_messaging.TransportOptions(at_least_once=True)
            self._transport._send(self._target, ctxt, content, retry=1, transport_options=mandatory)

    def discard(self) -> None:
        """Let go of the connection, without waiting for it: its goodbye can take as long as a frozen broker likes."""
        spoilt, self._transport = self._transport, None
        if spoilt is not None and not _in_process(spoilt):
            threading.Thread(target=_clean_up, args=(spoilt,), name="vmhb-discard", daemon=True).start()


def _in_process(one: Any) -> bool:
    """Is it `fake://`? Its clean-up would empty the queues of everybody in this process."""
    return type(one._driver).__name__ == "FakeDriver"


def _clean_up(spoilt: Any) -> None:
    try:
        spoilt.cleanup()
    except Exception:
        LOG.debug("a broken connection could not be closed", exc_info=True)


def transport(conf: cfg.ConfigOpts, url: str | None) -> Any:
    """A notification transport; url None: the one in [DEFAULT], never that of [oslo_messaging_notifications]."""
    return oslo_messaging.get_notification_transport(conf, url=TransportURL.parse(conf, url))


# -- before it begins: can it work? ------------------------------------------------------------------------------------


def check(
    conf: cfg.ConfigOpts, url: str | None, topics: Sequence[str], timeout: float, *, exchange: str = EXCHANGE
) -> str | None:
    """BLOCKS for `timeout` seconds at most: what stands in the way of sending, as one sentence, or None.

    Connects, and declares the exchange and the queues as the first message would.
    """
    outcome: list[str | None] = []
    probe = threading.Thread(
        target=lambda: outcome.append(_probe(conf, url, topics, exchange)), name="vmhb-check", daemon=True
    )
    probe.start()
    probe.join(timeout)
    if outcome:
        return outcome[0]
    return f"no broker answered at {_where(conf, url)} within {timeout:g} s: is it running, and is transport_url right?"


def _probe(conf: cfg.ConfigOpts, url: str | None, topics: Sequence[str], exchange: str) -> str | None:
    try:
        one = transport(conf, url)
        if isinstance(one._driver, impl_rabbit.RabbitDriver):
            # As for listening, since that has no thread of its own; from the pool, it would ignore `retry`.
            connection = one._driver._connection_pool.create(driver_common.PURPOSE_LISTEN, _other_hosts(conf, url))
            try:
                for topic in topics:
                    _declare(connection, exchange, f"{topic}.{PRIORITY.lower()}")
            finally:
                connection.close()
    except Exception as error:
        return explain(error, _where(conf, url))
    return None


def _declare(connection: Any, exchange: str, queue: str) -> None:
    """As oslo.messaging's Connection.notify_send and _publish_and_creates_default_queue do."""
    entity: Any = kombu.entity  # half of it has types
    flags = {"durable": connection.durable, "auto_delete": connection.amqp_auto_delete}
    arguments = impl_rabbit._get_queue_arguments(
        connection.rabbit_ha_queues, 0, connection.rabbit_quorum_queue, connection.rabbit_quorum_queue_config, False
    )
    entity.Queue(
        channel=connection.channel,
        exchange=entity.Exchange(name=exchange, type="topic", **flags),
        name=queue,
        routing_key=queue,
        queue_arguments=arguments,
        **flags,
    ).declare()


def _other_hosts(conf: cfg.ConfigOpts, url: str | None) -> int:
    """How often to try again, so that each broker of the URL is tried once."""
    return max(0, len(TransportURL.parse(conf, url).hosts) - 1)


def _where(conf: cfg.ConfigOpts, url: str | None) -> str:
    """The broker's addresses, without the password that the URL holds."""
    hosts = TransportURL.parse(conf, url).hosts
    return ", ".join(f"{host.hostname}:{host.port or 5672}" for host in hosts) or "localhost:5672"


#: Which option of ours an argument of a declaration comes from.
_OPTIONS = {
    "durable": "amqp_durable_queues (or rabbit_quorum_queue, which implies it)",
    "auto_delete": "amqp_auto_delete",
    "x-queue-type": "rabbit_quorum_queue",
    "x-delivery-limit": "rabbit_quorum_delivery_limit",
    "x-max-in-memory-length": "rabbit_quorum_max_memory_length",
    "x-max-in-memory-bytes": "rabbit_quorum_max_memory_bytes",
    "x-ha-policy": "rabbit_ha_queues",
}
_INEQUIVALENT = re.compile(
    r"PRECONDITION_FAILED - inequivalent arg '(?P<arg>[^']+)' for (?P<what>exchange|queue) '(?P<name>[^']+)'"
    r"[^:]*: received (?P<ours>.+?) but current is (?P<theirs>[^.\n]+)"
)


def explain(error: BaseException, where: str = "the broker") -> str:
    """What oslo.messaging or RabbitMQ said, as one sentence with a remedy where there is a known one."""
    said = str(error)
    found = _INEQUIVALENT.search(said)
    if found:
        arg, what, name = found["arg"], found["what"], found["name"]
        return (
            f"RabbitMQ has the {what} '{name}' with {arg} = {found['theirs'].strip()}, and we ask for {found['ours']}: "
            f"set [oslo_messaging_rabbit] {_OPTIONS.get(arg, arg)} as all other services that use this {what} have it, "
            f"or delete the {what} once nobody needs it"
        )
    if "ACCESS_REFUSED" in said:
        return (
            f"{where} refuses access: check user, password and virtual host of transport_url, and that the user may "
            f"configure, write and read exchange and queues ({said})"
        )
    if _behind(error, amqp.exceptions.MessageNacked):
        return (
            f"{where} refused the message (nack): a queue is full and rejects what comes, or it failed; see that it is "
            f"read, and that its limit is right"
        )
    return f"{where}: {said or type(error).__name__}"


def _behind(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Is an exception of this kind what led to the error?"""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def durability(conf: cfg.ConfigOpts, url: str | None) -> str | None:
    """A sentence when a restart of the broker would lose what it has confirmed, else None. Connects to nothing."""
    one = transport(conf, url)
    if not isinstance(one._driver, impl_rabbit.RabbitDriver):
        return None
    flags = driver_common.ConfigOptsProxy(conf, TransportURL.parse(conf, url), "oslo_messaging_rabbit")
    rabbit = flags.oslo_messaging_rabbit
    if rabbit.amqp_durable_queues or rabbit.rabbit_quorum_queue:
        return None
    return (
        "a restart of RabbitMQ loses the notifications that wait in it, since its queues are not durable: set "
        "[oslo_messaging_rabbit] rabbit_quorum_queue or amqp_durable_queues, here and in all services that read them"
    )
