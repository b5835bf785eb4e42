"""Whoever may write into a server's queue neither has its answers sent elsewhere, nor its threads wait."""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg
from oslo_messaging._drivers import amqpdriver

from vmhb_common import worker_api
from vmhb_common.app.once import same
from vmhb_common.app.ration import MOST
from vmhb_common.messaging import replies

URL = "rabbit://u:p@127.0.0.1:1/"
HEX = uuid.uuid4().hex


class Called:
    """A server on a broker that was never reached: calls are shown to it as they would come in."""

    def __init__(self, there: bool = True) -> None:
        """there: is there a queue for the answers?"""
        conf = cfg.ConfigOpts()
        conf([], project="vmhb", default_config_files=[], default_config_dirs=[])
        transport = worker_api.get_transport(conf, URL)
        self.there, self.done, self.sent = there, 0, list[str]()
        target = oslo_messaging.Target(exchange="vmhb", topic="vmhb_worker", server="cn1", version="1.0")
        policy = oslo_messaging.DefaultRPCAccessPolicy
        made = oslo_messaging.get_rpc_server(transport, target, [self], access_policy=policy)
        self.server: Any = replies.careful(made)
        self.driver: Any = transport._driver
        self.driver._get_connection = self._connection
        self._gone = amqpdriver.ObsoleteReplyQueuesCache()

    def show(self, context: Any) -> str:
        """What can be called."""
        self.done += 1
        return "shown"

    @contextmanager
    def _connection(self, *_: Any, **__: Any) -> Any:
        yield SimpleNamespace(direct_send=self._send)

    def _send(self, queue: str, _message: Any) -> None:
        if not self.there:
            raise oslo_messaging.MessageUndeliverable("returned", "", queue, None)
        self.sent.append(queue)

    def call(self, queue: Any, number: Any = HEX, method: str = "show") -> None:
        """One."""
        message = {"method": method, "args": {}, "version": "1.0"}
        listener = SimpleNamespace(driver=self.driver)
        incoming = amqpdriver.AMQPIncomingMessage(listener, {}, message, "u", number, queue, None, self._gone, None)
        incoming.acknowledge = lambda: None
        self.server._process_incoming([incoming])


@pytest.mark.parametrize(
    ("queue", "number", "done"),
    [
        (f"reply_{HEX}", HEX, True),
        ("reply_ctl-1:nova-vmhb-consumer:1", HEX, True),
        (None, None, True),  # a cast
        ("vmhb_notifications.info", HEX, False),
        ("vmhb_worker.cn2", HEX, False),
        ("reply_x\nERROR all is lost", HEX, False),
        (f"reply_{'x' * 241}", HEX, False),
        ([1], HEX, False),
        (f"reply_{HEX}", {"a": 1}, False),
        (f"reply_{HEX}", "x", False),
        (f"reply_{HEX}", None, False),
        (None, HEX, False),
    ],
)
def test_where_answers_go(queue: Any, number: Any, done: bool) -> None:
    """To a queue for answers; what is to be answered elsewhere is not even done."""
    one = Called()
    one.call(queue, number)
    assert one.done == int(done)
    assert one.sent == ([queue] if done and number else [])


def test_nobody_waits_for_a_queue_that_is_not_there() -> None:
    """Or four calls a minute, with queues that were made up, keep a worker from answering any."""
    one = Called(there=False)
    began = time.monotonic()
    for _ in range(20):
        one.call(f"reply_{uuid.uuid4().hex}")
    assert time.monotonic() - began < 5 and one.done == 20


def test_what_makes_no_sense_is_said_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    """In a line each, without a traceback; and the caller is told."""
    caplog.set_level(logging.INFO)
    one = Called()
    for number in range(100):
        one.call(f"reply_{HEX}", method=f"no_such_{number}\n")
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == MOST + 1 and not any(record.exc_info or "\n" in record.getMessage() for record in said)
    assert len(one.sent) == 100


def test_what_the_library_says_of_such_queues_is_the_same_each_time() -> None:
    """It says it of each call, by its number."""
    texts = {same(f"reply_{uuid.uuid4().hex} doesn't exist, drop reply to {uuid.uuid4().hex}") for _ in range(5)}
    assert len(texts) == 1


def test_every_server_is_careful() -> None:
    """Of ours."""
    root = Path(replies.__file__).parent.parent.parent
    for package in ("vmhb_common", "vmhb_consumer", "vmhb_worker"):
        for path in (root / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "get_rpc_server(" not in text or "replies.careful(" in text, path
