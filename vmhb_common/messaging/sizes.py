"""How large a message from a broker may be, on any connection of ours: **the one place that says so**. Knows nothing of
what is in it.

A broker passes on what its users send, 16 MiB (RabbitMQ 4) or 128 MiB (3) at a time; oslo.messaging, kombu and amqp
take all of it into memory, and unpack what is packed, before anybody of ours sees it; and up to a prefetch of them. So
it is looked at below them, in amqp's frames: what is too large is read away piece by piece, kept nowhere, and rejected,
which takes it out of its queue. What is packed is unpacked here, as far as it may be large. Only our own transports do
so: those of a service that ours live in are as they were.

What is relied on was read in amqp 5.3 and 5.4, kombu 5.5 to 5.7, oslo.messaging 17.3 to 18.3; tests hold it against the
real ones.
"""

from __future__ import annotations

import bz2
import logging
import zlib
from collections.abc import Callable, Mapping
from struct import unpack_from
from typing import Any

from vmhb_common.app.ration import Ration
from vmhb_common.messaging.no_eventlet import without_eventlet

with without_eventlet():
    from amqp.method_framing import frame_handler
    from kombu.transport import pyamqp
    from oslo_messaging._drivers import impl_rabbit

LOG = logging.getLogger(__name__)

#: Bytes of any message: a notification, a call, an answer. The largest honest one is Nova's of an instance whose
#: metadata is as full as its quota permits, with every character escaped twice: 0.9 MiB. Ours have some KiB.
MAX_MESSAGE = 1024 * 1024
#: Of an answer that lists all that there is, for whoever asked for just that and then ends: 10 000 faults are 20 MiB.
MAX_LIST = 32 * 1024 * 1024
#: Messages that a broker hands out before one is acknowledged: so many may be held in memory at a time, parsed. More
#: would save little: they are worked on one after the other. [oslo_messaging_rabbit] rabbit_qos_prefetch_count goes
#: first.
PREFETCH = 8
#: A value of JSON takes 60 bytes of memory, and may take two of a message: so many may be in it, per MiB. More than the
#: commas that fit into the metadata of an instance: 65 280.
VALUES_PER_MIB = 100_000

#: Frames of amqp's: a header, a piece of a body. A header begins with class, weight and the body's size.
_HEADER, _BODY, _CLASS_AND_WEIGHT, _TO_PROPERTIES = 2, 3, 4, 12


class TooLarge(ValueError):
    """The text says how large, and what is taken."""


def bounded(transport: Any, limit: int = MAX_MESSAGE) -> Any:
    """The same transport of oslo.messaging's, which takes no message of more than so many bytes. To be called before
    its first use."""
    driver = transport._driver
    if isinstance(driver, impl_rabbit.RabbitDriver):
        driver._connection_pool.connection_cls = _connections(limit)
    return transport


def fit(body: bytes | str, headers: Mapping[str, Any], limit: int) -> bytes | str:
    """A message's body as it was before it was packed. str: where amqp has decoded it. Raises TooLarge, or ValueError
    where it can't be unpacked."""
    if len(body) > limit:
        raise TooLarge(f"{len(body)} bytes, and {limit} are taken at most")
    packed = headers.get("compression")
    if packed:
        body = _unpacked(body if isinstance(body, bytes) else body.encode(), packed, limit)
    most = VALUES_PER_MIB * max(1, limit // MAX_MESSAGE)
    values = map(body.count, ",[{") if isinstance(body, str) else map(body.count, (b",", b"[", b"{"))
    if sum(values) > most:
        raise TooLarge(f"{len(body)} bytes of more than {most} values")
    return body


def _unpacked(body: bytes, packed: Any, limit: int) -> bytes:
    make = _PACKED.get(packed) if isinstance(packed, str) else None
    if make is None:
        raise ValueError(f"packed as {packed!a:.40}, and {', '.join(sorted(_PACKED))} are what is unpacked")
    unpack, is_whole = make()
    try:
        whole: bytes = unpack(body, limit + 1)
    except (OSError, zlib.error) as error:
        raise ValueError(f"packed as {packed}, and broken: {error}") from error
    if len(whole) > limit:
        raise TooLarge(f"more than {limit} bytes once it is unpacked")
    if not is_whole():
        raise ValueError(f"packed as {packed}, and cut off")
    return whole


def _zlib() -> tuple[Callable[[bytes, int], bytes], Callable[[], bool]]:
    one = zlib.decompressobj()
    return one.decompress, lambda: one.eof


def _bz2() -> tuple[Callable[[bytes, int], bytes], Callable[[], bool]]:
    one = bz2.BZ2Decompressor()
    return one.decompress, lambda: one.eof


#: What [oslo_messaging_rabbit] kombu_compression offers, by the names that kombu writes into a header, or reads there.
_PACKED: Mapping[str, Callable[[], tuple[Callable[[bytes, int], bytes], Callable[[], bool]]]] = {
    **dict.fromkeys(("application/x-gzip", "gzip", "zlib"), _zlib),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), _bz2),
}


# -- below oslo.messaging: a connection of its own kind, whose channels let in what is fit ----------------------------


def _connections(limit: int) -> type:
    transport = type("Transport", (pyamqp.Transport,), {"Connection": _amqp(limit)})

    class Connection(impl_rabbit.Connection):  # type: ignore[misc] # oslo.messaging has no types
        rabbit_qos_prefetch_count: int

        def ensure_connection(self) -> None:
            # What its own class would choose it chooses anew with each broker of a URL; and once so far, to be shown.
            self.connection.get_transport_cls = lambda: transport
            if not isinstance(self.connection.transport, transport):
                self.connection._transport = None
            # Of a server for RPC, too, for which oslo.messaging's own default is no bound at all.
            self.rabbit_qos_prefetch_count = self.rabbit_qos_prefetch_count or PREFETCH
            super().ensure_connection()

    return Connection


def _amqp(limit: int) -> type:
    ration = Ration(LOG)

    class Channel(pyamqp.Channel):
        def _on_basic_deliver(
            self, consumer_tag: str, delivery_tag: int, redelivered: bool, exchange: str, routing_key: str, msg: Any
        ) -> None:
            try:
                if (size := getattr(msg, "read_away", 0)) > 0:
                    raise TooLarge(f"{size} bytes, and {limit} are taken at most")
                headers = msg.properties.get("application_headers") or {}
                msg.body = fit(msg.body, headers, limit)
                headers.pop("compression", None)
            except Exception as error:  # what escapes here ends the connection, and the message comes again
                where = f"{routing_key} of exchange {exchange or '(default)'}"
                ration.say(logging.WARNING, "a message to %s is dropped: %s", ascii(where)[1:-1], error)
                if consumer_tag not in (self.no_ack_consumers or ()):
                    self.basic_reject(delivery_tag, requeue=False)
                return
            super()._on_basic_deliver(consumer_tag, delivery_tag, redelivered, exchange, routing_key, msg)

    def frames(connection: Any, callback: Callable[..., Any], **options: Any) -> Callable[[Any], bool]:
        return _Frames(connection, callback, limit, options)

    class Connection(pyamqp.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "frame_handler": frames})

    Connection.Channel = Channel
    return Connection


class _Frames:
    """Stands before amqp's own handler of what comes in, and shows it a message that is too large as one without a
    body. What follows as that body is let go. One thread at a time, as there."""

    def __init__(self, connection: Any, callback: Callable[..., Any], limit: int, options: Mapping[str, Any]) -> None:
        self._connection = connection
        self._callback = callback
        self._limit = limit
        self._take = frame_handler(connection, self._whole, **options)
        #: Channel -> bytes of the body that are to come; the message that they are not kept of, as it was delivered.
        self._left: dict[int, int] = {}
        self._held: dict[int, tuple[Any, ...]] = {}
        self._size: dict[int, int] = {}

    def __call__(self, frame: tuple[int, int, Any]) -> bool:
        kind, channel, content = frame
        if kind == _HEADER:
            size = unpack_from(">Q", content, _CLASS_AND_WEIGHT)[0]
            if size > self._limit:
                self._left[channel] = self._size[channel] = size
                content = bytes(content[:_CLASS_AND_WEIGHT]) + bytes(8) + bytes(content[_TO_PROPERTIES:])
                self._take((kind, channel, content))
                return False
        elif kind == _BODY and channel in self._left:
            return self._let_go(channel, len(content))
        return bool(self._take((kind, channel, content)))

    def _whole(self, channel: int, method: Any, arguments: Any, message: Any) -> None:
        """As amqp's handler says that one is complete."""
        if channel in self._left:
            self._held[channel] = (method, arguments, message)
        else:
            self._callback(channel, method, arguments, message)

    def _let_go(self, channel: int, size: int) -> bool:
        self._connection.bytes_recv += 1  # it is a sign of life of the broker's
        self._left[channel] -= size
        if self._left[channel] > 0:
            return False
        del self._left[channel]
        method, arguments, message = self._held.pop(channel)
        message.read_away = self._size.pop(channel)
        self._callback(channel, method, arguments, message)
        return True
