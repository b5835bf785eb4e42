"""Delivery through a real RabbitMQ that stops, freezes, blocks and disagrees: everything arrives, in order.

Each test has a virtual host of its own, and reads with an AMQP client of its own, not with the code under test.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import amqp
import pytest
from oslo_config import cfg

from tests.conftest import Figure
from tests.fakes import told
from tests.lab.broker import Broker
from tests.lab.processes import wait_until
from vmhb_common.messaging import publisher
from vmhb_worker.delivery.outbox import Limits, Outbox

pytestmark = pytest.mark.patient

TOPIC = "vmhb_notifications"
#: As in production but for the longest pause, so that a test does not wait for it.
LIMITS = Limits(last_retry=1.0)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """One RabbitMQ for all."""
    with Broker() as one:
        yield one


@dataclass
class Site:
    """One virtual host of the broker, an outbox that sends to it, and what can be seen there."""

    broker: Broker
    vhost: str
    folder: Path
    conf: cfg.ConfigOpts
    boxes: list[Outbox] = field(default_factory=list)
    senders: list[publisher.Sender] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Of this virtual host, with durable queues."""
        base = self.broker.transport_url.rpartition("/")[0]
        return f"{base}/{self.vhost}?amqp_durable_queues=true"

    def start(self, *topics: str, flags: str = "") -> Outbox:
        """A life of an outbox."""
        sender = publisher.Sender(self.conf, self.url + flags, "cn1")
        box = Outbox(self.folder, topics or (TOPIC,), sender.send, limits=LIMITS)
        box.load()
        self.boxes.append(box)
        self.senders.append(sender)
        return box

    def connect(self) -> amqp.Connection:
        """A connection of our own."""
        connection = amqp.Connection(
            f"127.0.0.1:{self.broker.port}", self.broker.user, self.broker.password, virtual_host=self.vhost
        )
        connection.connect()
        return connection

    def read(self, topic: str = TOPIC) -> list[dict[str, Any]]:
        """All messages of a topic's queue, which stay there no longer."""
        with self.connect() as connection:
            channel = connection.channel()
            messages = []
            while (got := channel.basic_get(f"{topic}.info", no_ack=True)) is not None:
                messages.append(json.loads(json.loads(got.body)["oslo.message"]))
            return messages

    def numbers(self, topic: str = TOPIC) -> list[int]:
        """What `told` put into them."""
        return [message["payload"]["number"] for message in self.read(topic)]


@pytest.fixture
def site(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A virtual host for one test."""
    vhost = request.node.name
    broker.ctl("add_vhost", vhost)
    broker.ctl("set_permissions", "-p", vhost, broker.user, ".*", ".*", ".*")
    conf = cfg.ConfigOpts()
    conf([], project="vmhb", default_config_files=[], default_config_dirs=[])
    one = Site(broker, vhost, tmp_path, conf)
    yield one
    for box in one.boxes:
        box.close(10)
    for sender in one.senders:
        sender.close()
    broker.ctl("delete_vhost", vhost)


def empty(*boxes: Outbox) -> Callable[[], bool]:
    """Has everything left?"""
    return lambda: all(box.health()["waiting"] == 0 for box in boxes)


def stored(box: Outbox, *numbers: int) -> float:
    """Commit these and wait until they are stored. Returns how many seconds the slowest took."""
    slowest = 0.0
    for number in numbers:
        done, before = threading.Event(), time.monotonic()
        box.commit(told(number), done.set)
        assert done.wait(10)
        slowest = max(slowest, time.monotonic() - before)
    return slowest


def in_order(numbers: list[int]) -> list[int]:
    """Without the copies that a confirmation that was lost makes: in each run of the same number, all but one."""
    return [number for i, number in enumerate(numbers) if i == 0 or numbers[i - 1] != number]


def test_exactly_the_messages(site: Site, figure: Figure) -> None:
    """Another process reads what was committed, as oslo.messaging would have sent it, and persistent."""
    box = site.start()
    before = time.monotonic()
    for number in range(500):
        box.commit(told(number))
    wait_until(empty(box), 60, "everything left", every=0.01)
    figure("delivery of 500 notifications", time.monotonic() - before, "s")
    with site.connect() as connection:
        first = connection.channel().basic_get(f"{TOPIC}.info", no_ack=True)
    envelope = json.loads(first.body)
    message = json.loads(envelope["oslo.message"])
    assert envelope["oslo.version"] == "2.0"
    assert first.properties["delivery_mode"] == 2
    assert (first.delivery_info["exchange"], first.delivery_info["routing_key"]) == ("vmhb", f"{TOPIC}.info")
    assert {
        key: message[key] for key in ("event_type", "priority", "publisher_id", "payload", "_context_project_id")
    } == {
        "event_type": "vmhb.fault.updated",
        "priority": "INFO",
        "publisher_id": "vmhb-worker:cn1",
        "payload": {"number": 0},
        "_context_project_id": "p1",
    }
    assert set(message) == {
        *("message_id", "publisher_id", "event_type", "priority", "payload", "timestamp"),
        *("_unique_id", "_context_project_id"),
    }
    assert site.numbers() == list(range(1, 500))


def test_latency(site: Site, figure: Figure) -> None:
    """From commit to the broker's confirmation, one at a time."""
    box = site.start()
    stored(box, 0)
    wait_until(empty(box), 20, "the connection is there", every=0.01)
    for number in range(1, 51):
        before = time.monotonic()
        box.commit(told(number))
        wait_until(empty(box), 10, "it left", every=0.0005)
        figure("commit to confirmation", 1000 * (time.monotonic() - before), "ms")
    assert site.numbers() == list(range(51))


@pytest.mark.parametrize("kill", [pytest.param(False, marks=pytest.mark.long), True], ids=["halt", "kill"])
def test_broker_away_for_a_while(site: Site, kill: bool, figure: Figure) -> None:
    """Stopped or killed: what came before, meanwhile and after arrives, in order."""
    box = site.start()
    stored(box, *range(10))
    wait_until(empty(box), 20, "the first left", every=0.01)
    site.broker.halt(kill=kill)
    try:
        slowest = stored(box, *range(10, 20))
        wait_until(lambda: TOPIC in box.health()["failing"], 20, "health says it")
        assert box.health()["waiting"] == 10
    finally:
        site.broker.boot()
    back = time.monotonic()
    stored(box, *range(20, 30))
    wait_until(empty(box), 30, "everything left", every=0.01)
    figure("broker back to everything delivered", time.monotonic() - back, "s", 10.0)
    figure("slowest commit without a broker", 1000 * slowest, "ms", 2000.0)
    assert in_order(site.numbers()) == list(range(30))


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param("frozen", marks=pytest.mark.long),
        "memory alarm",
        pytest.param("disk alarm", marks=pytest.mark.long),
    ],
)
def test_broker_that_hangs(site: Site, trouble: str, figure: Figure) -> None:
    """Neither commit nor close waits for a broker that takes the connection and answers nothing."""
    begin, end = {
        "frozen": (site.broker.freeze, site.broker.thaw),
        "memory alarm": (lambda: site.broker.memory_alarm(True), lambda: site.broker.memory_alarm(False)),
        "disk alarm": (lambda: site.broker.disk_alarm(True), lambda: site.broker.disk_alarm(False)),
    }[trouble]
    box = site.start()
    stored(box, *range(5))
    wait_until(empty(box), 20, "the first left", every=0.01)
    begin()
    try:
        figure("slowest commit while the broker hangs", 1000 * stored(box, *range(5, 15)), "ms", 2000.0)
        assert box.health()["waiting"] == 10
        before = time.monotonic()
        box.close(10)
        figure("close while the broker hangs", 1000 * (time.monotonic() - before), "ms", 2000.0)
        second = site.start()  # the worker was restarted meanwhile
        stored(second, *range(15, 20))
    finally:
        end()
    back = time.monotonic()
    wait_until(empty(second), 60, "everything left", every=0.01)
    figure("broker answers again to everything delivered", time.monotonic() - back, "s", 30.0)
    # The first life's message was on its way when it ended: at least once, at the place where it belongs or before.
    numbers = site.numbers()
    assert in_order(sorted(numbers)) == list(range(20))
    assert [number for i, number in enumerate(numbers) if number not in numbers[:i]] == list(range(20))


@pytest.mark.long
def test_frozen_for_longer_than_a_heartbeat(site: Site, figure: Figure) -> None:
    """The connection is given up, and whatever is tried meanwhile fails; after the thaw it goes on by itself."""
    box = site.start(flags="&heartbeat_timeout_threshold=4")
    stored(box, 0)
    wait_until(empty(box), 20, "the first left", every=0.01)
    site.broker.freeze()
    try:
        stored(box, 1, 2)
        wait_until(lambda: TOPIC in box.health()["failing"], 60, "the connection is given up")
        stored(box, 3)
    finally:
        site.broker.thaw()
    back = time.monotonic()
    wait_until(empty(box), 60, "everything left", every=0.01)
    figure("thaw after a long freeze to everything delivered", time.monotonic() - back, "s", 30.0)
    numbers = site.numbers()
    assert [number for i, number in enumerate(numbers) if number not in numbers[:i]] == [0, 1, 2, 3]


def test_queue_deleted_under_our_hands(site: Site) -> None:
    """The broker would confirm and drop; the queue is declared again, and the message is in it."""
    box = site.start()
    stored(box, 0)
    wait_until(empty(box), 20, "the first left", every=0.01)
    site.broker.ctl("delete_queue", "-p", site.vhost, f"{TOPIC}.info")
    stored(box, 1, 2)
    wait_until(empty(box), 20, "everything left", every=0.01)
    assert site.numbers() == [1, 2]


def test_full_queue_refuses_and_then_takes(site: Site) -> None:
    """`overflow: reject-publish`, as we recommend: a nack is no delivery, and nothing is lost by it."""
    policy = json.dumps({"max-length": 3, "overflow": "reject-publish"})
    site.broker.ctl("set_policy", "-p", site.vhost, "--apply-to", "queues", "full", TOPIC, policy)
    box = site.start()
    stored(box, *range(8))
    wait_until(lambda: "queue is full" in box.health()["failing"].get(TOPIC, ""), 30, "health says it")
    taken = site.numbers()
    site.broker.ctl("clear_policy", "-p", site.vhost, "full")
    wait_until(empty(box), 30, "everything left", every=0.01)
    assert taken + site.numbers() == list(range(8))


def test_inequivalent_exchange_is_explained_and_harms_no_other_topic(site: Site) -> None:
    """Durable or not: one sentence with the option's name, at the check and at the send; the other topic flows."""
    with site.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("broken.info", durable=False, auto_delete=False)
    box = site.start(TOPIC, "broken")
    stored(box, *range(5))
    wait_until(lambda: "broken" in box.health()["failing"], 20, "health says it")
    wait_until(lambda: box.health()["waiting"] == 5, 20, "the other left", every=0.01)
    stored(box, *range(5, 10))
    wait_until(lambda: box.health()["waiting"] == 10, 20, "the other left", every=0.01)
    sentence = box.health()["failing"]["broken"]
    assert "the queue 'broken.info' with durable = 'false'" in sentence
    assert "[oslo_messaging_rabbit] amqp_durable_queues" in sentence
    assert site.numbers() == list(range(10))

    other = site.url.replace("amqp_durable_queues=true", "amqp_durable_queues=false")
    checked = publisher.check(site.conf, other, [TOPIC], 10)
    assert checked is not None and "the exchange 'vmhb' with durable = 'true', and we ask for 'false'" in checked


def test_check(site: Site) -> None:
    """Reachable and usable, or a sentence within the time."""
    assert publisher.check(site.conf, site.url, [TOPIC, "other"], 10) is None
    wrong = site.url.replace(site.broker.password, "wrong")
    assert "refuses access" in str(publisher.check(site.conf, wrong, [TOPIC], 10))
    site.broker.freeze()
    try:
        before = time.monotonic()
        assert "no broker answered" in str(publisher.check(site.conf, site.url, [TOPIC], 1.0))
        assert time.monotonic() - before < 3
    finally:
        site.broker.thaw()


def test_the_same_message_keeps_its_identity(site: Site) -> None:
    """A duplicate is recognised by message_id and timestamp, across lives and topics."""
    first, second = site.start("t", "u"), "u"
    stored(first, 1)
    wait_until(empty(first), 20, "it left", every=0.01)
    (one,), (copy,) = site.read("t"), site.read(second)
    assert (one["message_id"], one["timestamp"]) == (copy["message_id"], copy["timestamp"])
