"""What goes over the wire, what becomes of failures, and what an operator is told about them."""

from __future__ import annotations

import socket
import threading
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg

from tests.fakes import BlockedTransport, FlakyTransport, a_row
from tests.lab.processes import wait_until
from vmhb_common.messaging import broker, publisher
from vmhb_common.model.fault import Change


@pytest.fixture
def conf() -> cfg.ConfigOpts:
    """A configuration of its own: ours never needs the global one."""
    conf = cfg.ConfigOpts()
    conf([], project="vmhb", default_config_files=[], default_config_dirs=[])
    return conf


def taken(transport: Any, topic: str) -> Any:
    """(context, message) of the next message of a queue of `fake://`."""
    exchange = transport._driver._exchange_manager.get_exchange("vmhb")
    return exchange.poll(oslo_messaging.Target(topic=topic), None)[:2]


def test_wire_form_is_that_of_oslos_notifier(conf: cfg.ConfigOpts) -> None:
    """Receivers can't tell us from a service that uses oslo.messaging's own driver `messagingv2`."""
    transport = broker.transport(conf, "fake://")
    conf.set_override("control_exchange", "vmhb")
    theirs = broker.transport(conf, "fake://")
    notifier = oslo_messaging.Notifier(theirs, "vmhb-worker:cn1", driver="messagingv2", topics=["theirs"])
    notifier.info({}, "vmhb.fault.updated", {"number": 7})
    _, expected = taken(theirs, "theirs.info")

    publisher.Sender(conf, "fake://", "cn1").send("ours", a_row(7))
    context, message = taken(transport, "ours.info")

    assert context == {"project_id": "p1"}
    assert message | {"message_id": "m7"} == expected | {"message_id": "m7", "timestamp": "1970-01-01 00:00:01.500000"}
    assert len(expected["timestamp"]) == len(message["timestamp"])


def test_each_attempt_sends_the_same(conf: cfg.ConfigOpts) -> None:
    """A duplicate can be recognised by its message_id."""
    transport = broker.transport(conf, "fake://")
    sender = publisher.Sender(conf, "fake://", "cn1")
    sender.send("twice", a_row(1))
    sender.send("twice", a_row(1))
    assert taken(transport, "twice.info") == taken(transport, "twice.info")


def test_topics_have_their_own_transports_and_copies(conf: cfg.ConfigOpts) -> None:
    """What breaks one topic can't touch another."""
    transports: list[FlakyTransport] = []

    def connect(_conf: cfg.ConfigOpts, _url: str | None) -> FlakyTransport:
        transports.append(FlakyTransport([]))
        return transports[-1]

    sender = publisher.Sender(conf, None, "cn1", connect=connect)
    for topic in ("t", "u", "t"):
        sender.send(topic, a_row(1))
    assert [one.sent for one in transports] == [[("declares", 1), ("mandatory", 1)], [("declares", 1)]]


def test_failure_raises_and_spoils_the_transport(conf: cfg.ConfigOpts) -> None:
    """No channel of which we don't know what it still has to say is used again."""
    transports = [FlakyTransport([ConnectionError("reset by peer")]), FlakyTransport([])]
    used = iter(transports)
    sender = publisher.Sender(conf, None, "cn1", connect=lambda _conf, _url: next(used))
    with pytest.raises(publisher.DeliveryError, match="the broker: reset by peer"):
        sender.send("t", a_row(1))
    sender.send("t", a_row(1))
    assert transports[0].cleaned.wait(10)
    assert transports[1].sent == [("declares", 1)]


def test_a_send_that_does_not_end(conf: cfg.ConfigOpts) -> None:
    """It has failed after its limit, and says so. Nothing overtakes it: the next is sent once it has ended."""
    over = threading.Event()
    transport = BlockedTransport(over)
    line = publisher.Line(lambda: transport, "vmhb", "t", limit=0.2)
    with pytest.raises(publisher.DeliveryError, match=r"no end of sending to t\.info .* within 0\.2 s"):
        line.send({}, {"payload": {"number": 1}})
    with pytest.raises(publisher.DeliveryError, match="is not begun"):
        line.send({}, {"payload": {"number": 1}})
    over.set()
    wait_until(lambda: bool(transport.sent), 10, "what was blocked is sent")
    line.send({}, {"payload": {"number": 1}})
    assert transport.sent == [("declares", 1), ("mandatory", 1)]


def test_queue_that_vanished_is_declared_again_at_once(conf: cfg.ConfigOpts) -> None:
    """The broker would ack and drop: it is asked not to, and the queue comes back."""
    gone = oslo_messaging.MessageUndeliverable("returned", "vmhb", "t.info", None)
    transports = [FlakyTransport([]), FlakyTransport([])]
    used = iter(transports)
    sender = publisher.Sender(conf, None, "cn1", connect=lambda _conf, _url: next(used))
    sender.send("t", a_row(1))
    transports[0].errors.append(gone)
    sender.send("t", a_row(2))
    assert transports[1].sent == [("declares", 2)]
    assert transports[0].cleaned.wait(10)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "(406) PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'vmhb' in vhost '/': "
            "received 'true' but current is 'false'",
            "exchange 'vmhb' with durable = 'false', and we ask for 'true': set [oslo_messaging_rabbit] "
            "amqp_durable_queues (or rabbit_quorum_queue",
        ),
        (
            "(406) PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'notifications.info' in vhost '/': "
            "received none but current is the value 'quorum' of type 'longstr'",
            "queue 'notifications.info' with x-queue-type = the value 'quorum' of type 'longstr', and we ask for none: "
            "set [oslo_messaging_rabbit] rabbit_quorum_queue",
        ),
        (
            "(406) PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'vmhb_worker_fanout' in vhost '/': "
            "received 'false' but current is 'true'",
            "and we ask for 'false': set [oslo_messaging_rabbit] rabbit_transient_quorum_queue as all",
        ),
        (
            "Queue.declare: (541) INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated. Its use is not "
            "permitted per the configuration",
            "b permits no queues that are neither durable nor exclusive, as RPC's own are: set [oslo_messaging_rabbit] "
            "rabbit_transient_quorum_queue = true",
        ),
        *(
            (
                f"(403) ACCESS_REFUSED - configure access to queue '{queue}' in vhost 'v' refused for user 'vmhb'",
                f"b refuses us one of RPC's own queues, {queue}: let the user configure, write and read such queues; "
                "where it is queues that are not durable that are refused, set [oslo_messaging_rabbit] "
                "rabbit_transient_quorum_queue = true",
            )
            for queue in ("reply_0a", "vmhb_worker_fanout_0a", "vmhb_consumer_fanout_0a")
        ),
        (
            "(403) ACCESS_REFUSED - configure access to queue 'vmhb_worker.reply_1' in vhost 'v' refused",
            "b refuses access: check user",
        ),
        ("(403) ACCESS_REFUSED - Login was refused", "b refuses access: check user, password and virtual host"),
        ("[Errno 111] Connection refused", "b: [Errno 111] Connection refused"),
        ("", "b: ConnectionError"),
    ],
)
def test_errors_are_explained(said: str, sentence: str) -> None:
    """What RabbitMQ says becomes one sentence that names the option to change, where there is one."""
    assert sentence in broker.explain(ConnectionError(said), "b")


def test_check_names_the_broker_that_does_not_answer(conf: cfg.ConfigOpts) -> None:
    """An address, and never the password."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found = publisher.check(conf, f"rabbit://me:geheim@127.0.0.1:{port}/", ["t"], 0.2)
    assert found is not None and f"no broker answered at 127.0.0.1:{port} within 0.2 s" in found
    assert "geheim" not in found


def test_check_is_content_in_process(conf: cfg.ConfigOpts) -> None:
    """`fake://` needs no broker."""
    assert publisher.check(conf, "fake://", ["t"], 5) is None


def test_queues_that_a_restart_empties_are_said(conf: cfg.ConfigOpts) -> None:
    """Durable or quorum, or a sentence."""
    url = "rabbit://me:pw@127.0.0.1:1/"
    said = broker.durability(conf, url)
    assert said is not None and "rabbit_quorum_queue or amqp_durable_queues" in said
    assert broker.durability(conf, url + "?amqp_durable_queues=true") is None
    conf.set_override("rabbit_quorum_queue", True, "oslo_messaging_rabbit")
    assert broker.durability(conf, url) is None
    assert broker.durability(conf, "fake://") is None


def test_event_types_are_those_of_the_design() -> None:
    """Receivers match exact strings."""
    assert [str(change) for change in Change] == ["vmhb.fault.raised", "vmhb.fault.updated", "vmhb.fault.cleared"]
