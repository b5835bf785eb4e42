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
  as long as it lasts when it has blocked us by a memory or disk alarm. So after SEND_TIME it has failed, for us; until
  it has really ended nothing else is sent to that topic. That may be with success, and then it is sent twice.
"""

from __future__ import annotations

import functools
import json
import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, Protocol

from oslo_config import cfg

from vmhb_common.messaging import broker, looks, own_queue, signing
from vmhb_common.messaging.limited import Limited, NoEnd
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.messaging.sender_keys import Own

with without_eventlet():
    import oslo_messaging

LOG = logging.getLogger(__name__)

#: The exchange that all our notifications go through.
EXCHANGE = "vmhb"
#: Vitrage hears no other. The severity is in the payload.
PRIORITY = "INFO"
#: Seconds that a send may take: more than oslo.messaging needs to tell that a broker is frozen.
SEND_TIME = 90.0


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

    def __init__(  # noqa: PLR0913 - by name
        self,
        conf: cfg.ConfigOpts,
        url: str | None,
        host: str,
        *,
        exchange: str = EXCHANGE,
        program: str = "vmhb-worker",
        connect: Callable[[cfg.ConfigOpts, str | None], Any] | None = None,
        own: Own | None = None,
        declare: bool = True,
    ) -> None:
        """conf: with oslo.messaging's options; url: of the broker, None for the one in [DEFAULT]. Connects to nothing.

        program, host: the publisher's id; a worker's host as nova-compute names it. connect: `brokers.transport`, or
        another. own: the key that it is signed with; None: it is not. declare: makes exchange and queues where they are
        not there; else somebody else does, and until then nothing is delivered.
        """
        self._own, self._declare = own, declare
        self._connect = functools.partial(connect or broker.transport, conf, url)
        self._exchange = exchange
        self._publisher_id = f"{program}:{host}"
        self._lines: dict[str, Line] = {}

    def send(self, topic: str, row: Notification) -> None:
        """BLOCKS for SEND_TIME at most. Returns once the broker has confirmed that a queue holds the message, else
        raises DeliveryError."""
        line = self._lines.get(topic)
        if line is None:
            line = self._lines[topic] = Line(self._connect, self._exchange, topic, declare=self._declare)
        # The context names the instance's project: Mistral and Aodh choose their receivers by it.
        message = self._envelope(row)
        line.send({"project_id": row.project_id, **self._seal(message)}, message)

    def close(self) -> None:
        """Let go of all connections, without waiting. For whoever goes on living; a process that ends need not."""
        for line in self._lines.values():
            line.discard()

    def _seal(self, message: dict[str, Any]) -> dict[str, str]:
        """Anew at each attempt: a key may have been replaced since."""
        seal = None
        if self._own is not None:
            names = ("publisher_id", "event_type", "payload", "message_id", "timestamp")
            seal = self._own.sign(signing.NOTIFICATION, signing.notification(*(message[name] for name in names)))
        return {} if seal is None else {signing.SEAL: seal}

    def _envelope(self, row: Notification) -> dict[str, Any]:
        """As `oslo_messaging.Notifier` builds it, except that id and time stay the same at every attempt."""
        return {
            "message_id": row.message_id,
            "publisher_id": self._publisher_id,
            "event_type": row.event_type,
            "priority": PRIORITY,
            "payload": json.loads(row.payload),
            "timestamp": str(datetime.fromtimestamp(row.created, timezone.utc).replace(tzinfo=None)),
        }


class Line:
    """One topic's own transport, and with it one connection. Belongs to the topic's thread."""

    def __init__(
        self,
        connect: Callable[[], Any],
        exchange: str,
        topic: str,
        priority: str = PRIORITY,
        limit: float = SEND_TIME,
        declare: bool = True,
    ) -> None:
        """connect: makes a transport. limit: seconds that a send may take. declare: as `Sender`.

        Connects to nothing."""
        self._declare = declare
        self._connect = connect
        self._target = oslo_messaging.Target(exchange=exchange, topic=f"{topic}.{priority.lower()}")
        self._transport: Any = None
        # One: the order is kept, and a connection has one user.
        self._within = Limited(f"sending to {self._target.topic} (has an alarm blocked the broker?)", limit, most=1)

    def send(self, ctxt: dict[str, Any], message: dict[str, Any]) -> None:
        """BLOCKS for `limit` seconds at most. Send, and start afresh after any failure. Returns and raises as
        `Sender.send`."""
        try:
            self._within(lambda: self._send(ctxt, message))
        except NoEnd as error:
            raise DeliveryError(str(error)) from error

    def _send(self, ctxt: dict[str, Any], message: dict[str, Any]) -> None:
        try:
            try:
                self._try(ctxt, message)
            except oslo_messaging.MessageUndeliverable:
                if not self._declare:
                    raise
                LOG.warning("%s: the queue is gone, declaring it again", self._target.topic)
                self.discard()
                self._try(ctxt, message)
        except oslo_messaging.MessageUndeliverable as error:
            self.discard()
            raise DeliveryError(
                f"there is no queue {self._target.topic}, and it is not ours to make ([DEFAULT] own_queue_only): start "
                f"a consumer with this broker, whose [vmhb_notifications] topics names it"
            ) from error
        except Exception as error:
            self.discard()
            raise DeliveryError(broker.explain(error)) from error

    def _try(self, ctxt: dict[str, Any], message: dict[str, Any]) -> None:
        content = dict(message)  # the driver adds fields of its own
        fresh = self._transport is None
        if fresh:
            self._transport = self._connect()
        if not self._declare:
            own_queue.declare_nothing(self._transport)
        if fresh and self._declare:
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


def check(
    conf: cfg.ConfigOpts,
    url: str | None,
    topics: Sequence[str],
    timeout: float,
    *,
    exchange: str = EXCHANGE,
    declare: bool = True,
) -> str | None:
    """BLOCKS for `timeout` seconds at most: what stands in the way of sending, as one sentence, or None.

    Connects, and declares the exchange and the queues as the first message would. declare: as `Sender`.
    """
    return broker.check(conf, url, [sending(topics, exchange=exchange, declare=declare)], timeout)


def sending(topics: Sequence[str], *, exchange: str = EXCHANGE, declare: bool = True) -> looks.Look:
    """The same, for `brokers.check`."""
    return looks.sending(exchange, [queue_of(topic) for topic in topics], declare)


def queue_of(topic: str) -> str:
    """The queue that a topic's notifications go to, by default, and the key that they are sent with."""
    return f"{topic}.{PRIORITY.lower()}"
