"""May a user of a broker do this? Each is tried as the real thing does it; nothing of it is left, nor seen by others.

RabbitMQ tells of a right only when it is used, and refuses by closing the channel: so each has a channel of its own.
Every function BLOCKS, takes kombu's connection, and raises amqp.exceptions.AccessRefused where it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from vmhb_common.messaging.no_eventlet import without_eventlet

with without_eventlet():
    import amqp


def publishing(connection: Any, exchange: str, key: str) -> None:
    """A message with this key, in a transaction that is rolled back: rights are looked at when it comes in, and it
    would go on its way at the end. exchange: "" for RabbitMQ's own, by which calls are answered."""
    with _channel(connection) as channel:
        channel.tx_select()
        channel._basic_publish(amqp.Message(b""), exchange, key)  # not the one that waits for a confirmation
        channel.tx_rollback()


def reading(connection: Any, queue: str, quorum: bool = False) -> None:
    """Of a queue that is there. What is got goes back to its place. quorum: such a queue counts how often that
    happens to a message, and drops it some day: one in which something waits is left alone."""
    with _channel(connection) as channel:
        if quorum and channel.queue_declare(queue, passive=True).message_count:
            return
        got = channel.basic_get(queue)
        if got is not None:
            channel.basic_reject(got.delivery_tag, requeue=True)


def there(connection: Any, exchange: str, queue: str) -> None:
    """Both are there, whoever made them; this takes no right. Raises amqp.exceptions.NotFound."""
    with _channel(connection) as channel:
        channel.exchange_declare(exchange, "topic", passive=True)
        if queue:
            channel.queue_declare(queue, passive=True)


def is_there(connection: Any, queue: str) -> bool:
    """Is there such a queue? This takes no right."""
    with _channel(connection) as channel:
        try:
            channel.queue_declare(queue, passive=True)
        except amqp.NotFound:
            return False
    return True


def remove(connection: Any, queue: str) -> None:
    """A queue of ours, unless it is read, or something is in it."""
    with _channel(connection) as channel, suppress(amqp.PreconditionFailed):
        channel.queue_delete(queue, if_unused=True, if_empty=True)


@contextmanager
def _channel(connection: Any) -> Iterator[Any]:
    channel = connection.channel()
    try:
        yield channel
    finally:
        with suppress(Exception):  # one that refused is closed
            channel.close()
