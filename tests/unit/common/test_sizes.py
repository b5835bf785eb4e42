"""No message is larger than what is taken, on any connection of ours, packed or not; what is, costs itself alone."""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from pathlib import Path
from struct import pack
from typing import Any

import amqp
import oslo_messaging
import pytest
from amqp import spec
from amqp.serialization import dumps
from oslo_config import cfg

from vmhb_common import worker_api
from vmhb_common.messaging import broker, sizes
from vmhb_common.messaging.sizes import MAX_MESSAGE, VALUES_PER_MIB, TooLarge, fit

GZIP, BZ2 = {"compression": "application/x-gzip"}, {"compression": "application/x-bz2"}
LIMIT = 1000
URL = "rabbit://u:p@127.0.0.1:1/"


class Line:
    """A connection of amqp's that was never made: what a broker would say on it is shown to it, frame by frame."""

    def __init__(self) -> None:
        self.connection: Any = sizes._amqp(LIMIT)()
        self.sent: list[tuple[Any, ...]] = []
        self.connection._frame_writer = lambda *said: self.sent.append(said)
        self.connection._transport = object()
        self.channels = [self.connection.Channel(self.connection, number) for number in (1, 2)]
        self.heard: list[tuple[int, Any]] = []
        for number, channel in enumerate(self.channels, 1):
            channel.is_open = True
            channel.callbacks["c"] = lambda message, of=number: self.heard.append((of, message.body))
            self.connection.channels[number] = channel
        self.frame = self.connection.frame_handler_cls(self.connection, self.connection.on_inbound_method)

    def begins(self, body: bytes, channel: int = 1, size: int | None = None, **properties: Any) -> None:
        arguments = dumps("sLbss", ("c", 7, False, "vmhb", "vmhb_notifications.info\n"))
        assert not self.frame((1, channel, pack(">HH", *spec.Basic.Deliver) + arguments))
        message = amqp.Message(body, **properties)
        header = pack(">HHQ", 60, 0, len(body) if size is None else size) + message._serialize_properties()
        self.frame((2, channel, header))

    def says(self, body: bytes, channel: int = 1, piece: int = 300, **properties: Any) -> None:
        self.begins(body, channel, **properties)
        for at in range(0, len(body), piece):
            self.frame((3, channel, body[at : at + piece]))

    @property
    def rejected(self) -> int:
        """Of what was sent, all of which are rejections that take a message out of its queue."""
        assert all(said[2] == spec.Basic.Reject and said[3] == dumps("Lb", (7, False)) for said in self.sent)
        return len(self.sent)


def test_what_is_too_large_is_read_away() -> None:
    """None of its body is kept; what comes before, between and after it is taken, on its channel and on others."""
    line = Line()
    line.says(b"before")
    line.begins(b"", size=2**62)  # of which the broker has gone on to send this much
    for _ in range(1000):
        assert not line.frame((3, 1, b"x" * 1000))
        line.frame((8, 0, b""))
    line.says(b"beside", channel=2)
    assert line.heard == [(1, b"before"), (2, b"beside")] and not line.sent
    line = Line()
    line.says(b"x" * (LIMIT + 1))
    assert line.rejected == 1
    line.says(b"y" * LIMIT)
    line.says(b"")
    assert line.heard == [(1, b"y" * LIMIT), (1, "")] and line.rejected == 1


def test_it_is_said_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    """Where to, how large, and what is taken, in a line each; a flood's number."""
    line = Line()
    for _ in range(100):
        line.says(b"x" * 5000)
    assert line.rejected == 100
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == (
        "a message to vmhb_notifications.info\\n of exchange vmhb is dropped: 5000 bytes, and 1000 are taken at most"
    )
    assert len(said) == 11 and "counted, and not said" in said[-1]


def test_what_is_packed_is_unpacked_or_dropped() -> None:
    """As kombu would, so that a service with kombu_compression is understood."""
    line = Line()
    line.says(zlib.compress(b'{"a": 1}'), application_headers=dict(GZIP))
    line.says(zlib.compress(b"x" * 100_000), application_headers=dict(GZIP))
    assert (line.heard, line.rejected) == ([(1, b'{"a": 1}')], 1)


def test_nothing_that_it_stumbles_over_ends_a_connection() -> None:
    """It would be made anew, and the same message would come first."""
    line = Line()
    line.says(b"{}", application_headers={"compression": ["x"]})
    line.says(b"\xff\xfe", content_encoding="no such encoding")
    line.says("{}".encode("utf-16"), content_encoding="utf-16")
    line.channels[0].no_ack_consumers.add("c")
    line.says(b"x" * 5000)
    assert line.heard == [(1, b"\xff\xfe"), (1, "{}")] and line.rejected == 1


@pytest.mark.parametrize(
    ("body", "headers", "fits"),
    [
        (b"x" * MAX_MESSAGE, {}, True),
        (b"x" * (MAX_MESSAGE + 1), {}, False),
        ("x" * MAX_MESSAGE, {}, True),
        (b"," * VALUES_PER_MIB, {}, True),
        (b"[]," * VALUES_PER_MIB, {}, False),
        ("{}," * VALUES_PER_MIB, {}, False),
        (zlib.compress(b"x" * MAX_MESSAGE), GZIP, True),
        (zlib.compress(b"x" * (MAX_MESSAGE + 1)), GZIP, False),
        (zlib.compress(b"[]," * VALUES_PER_MIB), GZIP, False),
        (zlib.compress(b"x" * 200_000_000), GZIP, False),
        (bz2.compress(b"x" * 10_000_000), BZ2, False),
        (bz2.compress(b"{}"), BZ2, True),
        (zlib.compress(b"{}")[:-1], GZIP, False),
        (b"{}", GZIP, False),
        ("{}", BZ2, False),
        (bz2.compress(b"{}"), {"compression": "bzip2"}, True),
        (zlib.compress(b"{}"), {"compression": "gzip"}, True),
        (lzma.compress(b"{}"), {"compression": "application/x-lzma"}, False),
        (b"{}", {"compression": {"a": 1}}, False),
        (b"{}", {"compression": ""}, True),
    ],
    ids=str,
)
def test_fit(body: bytes | str, headers: dict[str, Any], fits: bool) -> None:
    """Bytes, values, and both of what is packed, of which no more than the limit is unpacked."""
    if fits:
        assert len(fit(body, headers, MAX_MESSAGE)) <= MAX_MESSAGE
    else:
        with pytest.raises(ValueError) as said:
            fit(body, headers, MAX_MESSAGE)
        assert len(str(said.value)) < 200 and str(said.value).isprintable()


def test_the_largest_of_novas_fits() -> None:
    """An instance with as much metadata as its quota permits, and every character of it escaped twice."""
    metadata = {f"{number:03}" + "\U0001f600" * 252: "\U0001f600" * 255 for number in range(128)}
    message = json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps({"payload": {"metadata": metadata}})})
    assert len(fit(message.encode(), {}, MAX_MESSAGE)) > MAX_MESSAGE * 0.8
    commas = json.dumps({f"{number:03}" + "," * 252: "," * 255 for number in range(128)})
    assert fit(commas.encode(), {}, MAX_MESSAGE)


def test_an_answer_that_lists_everything() -> None:
    """Whoever asked for it takes more."""
    rows = json.dumps([{"fault_id": f"{number:036}", "evidence": ["x" * 1500]} for number in range(10_000)])
    assert fit(rows.encode(), {}, sizes.MAX_LIST)
    with pytest.raises(TooLarge):
        fit(rows.encode(), {}, MAX_MESSAGE)


# -- every connection of ours ------------------------------------------------------------------------------------------


def a_conf() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([], project="test", default_config_files=[], default_config_dirs=[])
    return conf


@pytest.mark.parametrize(
    "transport", [lambda: broker.transport(a_conf(), URL), lambda: worker_api.get_transport(a_conf(), URL)]
)
def test_every_transport_is_bounded(transport: Any) -> None:
    """However it is made; oslo.messaging's own kind of connection stands behind it."""
    kind = transport()._driver._connection_pool.connection_cls
    assert kind.__module__ == sizes.__name__
    assert issubclass(kind, oslo_messaging._drivers.impl_rabbit.Connection)


def test_others_are_as_they_were() -> None:
    """A service that ours live in has transports of its own, of which we know nothing; and so has a test."""
    theirs = oslo_messaging.get_notification_transport(a_conf(), url=URL)._driver._connection_pool.connection_cls
    assert theirs is oslo_messaging._drivers.impl_rabbit.Connection
    fake = oslo_messaging.get_notification_transport(a_conf(), url="fake://")
    assert sizes.bounded(fake) is fake


def test_a_connection_is_of_our_kind_from_the_first_on() -> None:
    """To each broker of its URL; and no more is handed out at a time than is held in memory."""
    made: list[Any] = []

    class Noted(worker_api.get_transport(a_conf(), URL)._driver._connection_pool.connection_cls):  # type: ignore[misc]
        def _set_current_channel(self, channel: Any) -> None:
            made.append((self.connection.transport.Connection, self.rabbit_qos_prefetch_count))
            raise ZeroDivisionError  # before it connects

    pool = worker_api.get_transport(a_conf(), URL)._driver._connection_pool
    with pytest.raises(ZeroDivisionError):
        Noted(pool.conf, pool.url, "listen")
    ((kind, prefetch),) = made
    assert kind.__module__ == sizes.__name__ and prefetch == sizes.PREFETCH


def test_nobody_makes_a_transport_without_it() -> None:
    """One module for notifications, one for RPC; what runs in other services is theirs."""
    root = Path(sizes.__file__).parent.parent.parent
    makers = {"get_notification_transport(", "get_rpc_transport(", "get_transport(conf, url=", "kombu.Connection("}
    found = {
        str(path.relative_to(root))
        for package in ("vmhb_common", "vmhb_consumer", "vmhb_worker")
        for path in (root / package).rglob("*.py")
        if any(maker in path.read_text(encoding="utf-8") for maker in makers)
    }
    assert found == {"vmhb_common/messaging/broker.py", "vmhb_common/worker_api.py"}
