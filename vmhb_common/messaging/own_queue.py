"""For a user of the broker who may make nothing there but its server's own queue: sending, and serving RPC, as such.

What all share (the exchange, queues of faults, RPC's queues for all servers of a topic) others have made: the
consumers. Whoever may make them may delete them, too, and read others' mail by a binding of his own. What is relied on
below oslo.messaging's surface was read in its 18.3, and in kombu 5.7.
"""

from __future__ import annotations

from typing import Any

from vmhb_common.messaging.no_eventlet import without_eventlet

with without_eventlet():
    from oslo_messaging._drivers import amqpdriver, base, impl_rabbit
    from oslo_messaging._drivers import common as driver_common


class _All:
    """Stands in for the names of the exchanges that a connection has declared: it need declare none."""

    def __contains__(self, name: object) -> bool:
        return True

    def add(self, name: str) -> None:
        pass

    def clear(self) -> None:
        """With each new connection to the broker."""


def declare_nothing(transport: Any) -> None:
    """BLOCKS. Before each message that is sent: oslo.messaging would declare the exchange. Raises as a send does.

    One thread uses the transport, so the connection that is taken here is the one that the message goes by.
    """
    if isinstance(transport._driver, impl_rabbit.RabbitDriver):
        with transport._driver._get_connection(driver_common.PURPOSE_SEND, retry=1) as connection:
            connection.connection._declared_exchanges = _All()


def serve_own_queue_only(server: Any) -> None:
    """An RPC server, not yet started, listens to the queue that has its name and to no other: not to calls to the
    topic or to all of its servers, which we never make."""
    create = server._create_listener

    def own() -> Any:
        driver = server.transport._driver
        if not isinstance(driver, impl_rabbit.RabbitDriver):
            return create()
        connection = driver._get_connection(driver_common.PURPOSE_LISTEN)
        listener = amqpdriver.RpcAMQPListener(driver, connection)
        declare = connection.connection.declare_consumer

        def declare_without_exchange(consumer: Any) -> None:
            consumer.exchange.no_declare = True
            declare(consumer)

        connection.connection.declare_consumer = declare_without_exchange
        target = server._target
        connection.declare_topic_consumer(target.exchange, f"{target.topic}.{target.server}", callback=listener)
        return base.PollStyleListenerAdapter(listener, 1, None)

    server._create_listener = own
