"""For a user of the broker who may make nothing but its own queue: a few rules that need no broker."""

from __future__ import annotations

from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg

from tests.fakes import FlakyTransport, a_row
from vmhb_common import worker_api
from vmhb_common.messaging import own_queue, publisher
from vmhb_common.messaging.short_lived import short_lived


@pytest.fixture
def conf() -> cfg.ConfigOpts:
    """A configuration of its own."""
    conf = cfg.ConfigOpts()
    conf([], project="vmhb", default_config_files=[], default_config_dirs=[])
    return conf


def test_what_is_sent_makes_no_queue(conf: cfg.ConfigOpts) -> None:
    """Neither the first nor a later one: each is to be returned where there is none."""
    transport = FlakyTransport([])
    sender = publisher.Sender(conf, None, "cn1", connect=lambda _conf, _url: transport, declare=False)
    sender.send("t", a_row(1))
    sender.send("t", a_row(2))
    assert transport.sent == [("mandatory", 1), ("mandatory", 2)]


def test_a_queue_that_is_not_there_is_said(conf: cfg.ConfigOpts) -> None:
    """It is nobody's to make here: the text says whose. What was to be sent is kept, as after any failure."""
    gone = oslo_messaging.MessageUndeliverable("returned", "vmhb", "t.info", None)
    transports = iter([FlakyTransport([gone]), FlakyTransport([])])
    sender = publisher.Sender(conf, None, "cn1", connect=lambda _conf, _url: next(transports), declare=False)
    with pytest.raises(publisher.DeliveryError, match=r"there is no queue t\.info, .* start a consumer"):
        sender.send("t", a_row(1))
    sender.send("t", a_row(1))


def test_a_server_of_another_driver_is_as_it_was(conf: cfg.ConfigOpts) -> None:
    """`fake://` has no rights, and no queues that are somebody's."""
    transport = worker_api.get_transport(conf, "fake://")
    target = oslo_messaging.Target(exchange="vmhb", topic="vmhb_worker", server="alone")
    server: Any = oslo_messaging.get_rpc_server(transport, target, [])
    own_queue.serve_own_queue_only(server)
    assert type(server._create_listener()) is type(transport._listen(target, 1, None))


def test_a_transport_for_a_call_or_two(conf: cfg.ConfigOpts) -> None:
    """Its queue for replies lasts a minute at most, should we be killed; what the URL says goes before."""
    query = worker_api.get_transport(conf, "rabbit://h/", rabbit_transient_queues_ttl="60")._driver._url.query
    assert query["rabbit_transient_queues_ttl"] == "60"
    url = "rabbit://h/?rabbit_transient_queues_ttl=7"
    query = worker_api.get_transport(conf, url, rabbit_transient_queues_ttl="60")._driver._url.query
    assert query["rabbit_transient_queues_ttl"] == "7"


def test_what_asked_nothing_has_nothing_to_remove(conf: cfg.ConfigOpts) -> None:
    """No connection is made for it; and an error inside is the caller's own."""
    with pytest.raises(ValueError, match="ours"), worker_api.asking(conf, "rabbit://127.0.0.1:1/"):
        raise ValueError("ours")
    with short_lived(worker_api.get_transport(conf, "fake://")) as transport:
        assert transport is not None
