"""What a check does on a connection to a broker: each thing that is needed there, tried as our programs do it.

Knows nothing of how one connects, nor of what is made of an error: that is `broker`'s. What is relied on below
oslo.messaging's surface was read in its 18.3.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from vmhb_common.messaging import trying
from vmhb_common.messaging.no_eventlet import without_eventlet

with without_eventlet():
    import kombu
    from oslo_messaging._drivers import impl_rabbit

#: What is done with a connection, to see whether a broker lets us; it raises where it doesn't.
Look = Callable[[Any], None]


def sending(exchange: str, queues: Sequence[str], declare: bool = True) -> Look:
    """For `check`: notifications are sent; they leave their queues. declare: the sender makes those, and the exchange;
    else somebody else has."""

    def look(connection: Any) -> None:
        for queue in queues:
            if declare:
                _declare(connection, exchange, queue)
            else:
                trying.there(connection.connection, exchange, queue)
            trying.publishing(connection.connection, exchange, queue)

    return look


def serving(exchange: str, topic: str, server: str, own_only: bool = False) -> Look:
    """For `check`: RPC is served, and answered. The queues of topic and server stay, as the server leaves them; one of
    the kind that each server has of its own for calls to all is made, and removed.

    own_only: it listens to the queue of its name, and to no other (`own_queue`).
    """

    def look(connection: Any) -> None:
        own = f"{topic}.{server}"
        if own_only:
            trying.there(connection.connection, exchange, "")
            _declare(connection, exchange, own, with_exchange=False)
        else:
            _declare(connection, exchange, topic)
            _declare(connection, exchange, own)
            _read(connection, topic)
            _try_transient(connection, f"{topic}_fanout_{uuid.uuid4().hex}", f"{topic}_fanout", topic)
        _read(connection, own)
        trying.publishing(connection.connection, "", own)

    return look


def listening(exchange: str, queue: str, key: str) -> Look:
    """For `check`: notifications are read, from a queue of this name, of what is sent with this key. A queue that was
    not there goes again, unless something has come into it: nobody may be there yet who reads it."""

    def look(connection: Any) -> None:
        was_there = trying.is_there(connection.connection, queue)
        _declare(connection, exchange, queue, key)
        _read(connection, queue)
        if not was_there:
            trying.remove(connection.connection, queue)

    return look


def calling(exchange: str, key: str) -> Look:
    """For `check`: RPC is called, by this key. A queue for replies is made, and removed."""

    def look(connection: Any) -> None:
        telling(exchange, key)(connection)
        _try_transient(connection, f"reply_{uuid.uuid4().hex}", "", "")

    return look


def telling(exchange: str, key: str) -> Look:
    """For `check`: RPC is cast, by this key: nobody answers."""

    def look(connection: Any) -> None:
        _exchange(connection, exchange)(connection.channel).declare()
        trying.publishing(connection.connection, exchange, key)

    return look


def exchange_there(exchange: str) -> Look:
    """For `check`: somebody has made it."""
    return lambda connection: trying.there(connection.connection, exchange, "")


def _exchange(connection: Any, name: str, **more: bool) -> Any:
    """As oslo.messaging's Connection.topic_send makes it. more: of kombu's."""
    entity: Any = kombu.entity  # half of it has types
    flags = {"durable": connection.durable, "auto_delete": connection.amqp_auto_delete}
    return entity.Exchange(name=name, type="topic", **flags, **more)


def _read(connection: Any, queue: str) -> None:
    trying.reading(connection.connection, queue, quorum=connection.rabbit_quorum_queue)


def _declare(connection: Any, exchange: str, queue: str, key: str | None = None, with_exchange: bool = True) -> None:
    """As oslo.messaging's Connection.notify_send and _publish_and_creates_default_queue do. key: by default the queue's
    name."""
    entity: Any = kombu.entity
    flags = {"durable": connection.durable, "auto_delete": connection.amqp_auto_delete}
    arguments = impl_rabbit._get_queue_arguments(
        connection.rabbit_ha_queues, 0, connection.rabbit_quorum_queue, connection.rabbit_quorum_queue_config, False
    )
    entity.Queue(
        channel=connection.channel,
        exchange=_exchange(connection, exchange, no_declare=not with_exchange),
        name=queue,
        routing_key=key or queue,
        queue_arguments=arguments,
        **flags,
    ).declare()


def _try_transient(connection: Any, queue: str, fanout: str, key: str) -> None:
    """As oslo.messaging's Connection.declare_direct_consumer and declare_fanout_consumer do, and away with it.

    fanout: the exchange that it is bound to, or "".
    """
    stream = bool(fanout) and connection.rabbit_stream_fanout
    if stream:
        return  # a log that all share and that lasts: nothing of it is transient, and it is not ours to remove
    quorum = connection.rabbit_transient_quorum_queue
    entity: Any = kombu.entity
    arguments = impl_rabbit._get_queue_arguments(
        connection.rabbit_ha_queues,
        connection.rabbit_transient_queues_ttl,
        quorum,
        connection.rabbit_quorum_queue_config,
        False,
    )
    one = entity.Queue(
        channel=connection.channel,
        # The exchange goes with the last queue that is bound to it.
        exchange=entity.Exchange(name=fanout, type="fanout" if fanout else "direct", durable=quorum, auto_delete=True),
        name=queue,
        routing_key=key,
        queue_arguments=arguments,
        durable=quorum,
        auto_delete=False,
    )
    one.declare()
    try:
        trying.reading(connection.connection, queue)
    finally:
        one.delete()
