"""Transports for a call or two: what oslo.messaging leaves of each in RabbitMQ, a queue for replies, goes with it.

By itself it leaves that queue to RabbitMQ, which removes it after rabbit_transient_queues_ttl, by default half an hour
later: one for each `--status`. What is relied on below oslo.messaging's surface was read in its 18.3.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vmhb_common.messaging.limited import Limited, NoEnd
from vmhb_common.messaging.no_eventlet import without_eventlet

with without_eventlet():
    from oslo_messaging._drivers import impl_rabbit

LOG = logging.getLogger(__name__)

#: Seconds that the end may take: oslo.messaging looks up from its queue once a second or so.
END_TIME = 4.0
#: Seconds after which RabbitMQ removes the queue of one that was killed: as text, for `worker_api.get_transport`.
FLAGS = {"rabbit_transient_queues_ttl": "60"}

_ending = Limited("letting go of the message broker", END_TIME)


@contextmanager
def short_lived(transport: Any) -> Iterator[Any]:
    """The transport, whose queue for replies and connections are gone at the end. BLOCKS there for END_TIME at most;
    raises nothing of its own. Nobody else may use the transport."""
    try:
        yield transport
    finally:
        if isinstance(transport._driver, impl_rabbit.RabbitDriver):
            try:
                _ending(lambda: _let_go(transport))
            except NoEnd as error:
                LOG.debug("%s", error)
            except Exception as error:  # the broker may be away; RabbitMQ sees to the rest
                LOG.debug("a queue for replies could not be removed: %s", error)


def _let_go(transport: Any) -> None:
    driver = transport._driver
    queue, connection = driver._reply_q, driver._reply_q_conn
    try:
        if queue is not None:
            driver._waiter.stop()  # from now on the connection is ours
            connection.connection.channel.queue_delete(queue)
    finally:
        transport.cleanup()
