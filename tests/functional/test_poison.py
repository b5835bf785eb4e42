"""Whatever a broker hands out costs the message that it is: what came before and after is read, nothing grows."""

from __future__ import annotations

import json
import uuid
import zlib
from pathlib import Path
from typing import Any

import amqp
import oslo_messaging
import pytest
from kombu import connection

from tests.functional.sites import Site
from tests.functional.test_reporting import new
from tests.lab.processes import wait_until
from vmhb_common import worker_api
from vmhb_common.messaging import sizes
from vmhb_common.objects import fault_payload
from vmhb_worker.adapters.rpc_server import Server

pytestmark = pytest.mark.patient

#: RabbitMQ 4 takes 16 MiB, with all that is around it.
LARGEST = 16 * 1024 * 1024 - 4096
#: What a consumer may grow by (MiB) while it reads all of this: what it parses at a time, and Python keeps.
GROWTH = 40


class Stranger:
    """Whoever may write to the broker, below oslo.messaging."""

    def __init__(self, url: str) -> None:
        made: Any = connection.Connection
        self._connection = made("amqp://" + url.partition("://")[2].partition("?")[0])
        self._channel = self._connection.channel()

    def says(self, body: bytes, key: str = "vmhb_notifications.info", **properties: Any) -> None:
        kind = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
        self._channel._basic_publish(amqp.Message(body, **kind), exchange="vmhb", routing_key=key)

    def close(self) -> None:
        self._connection.release()


@pytest.fixture
def stranger(site: Site) -> Stranger:
    one = Stranger(site.url)
    site.others.append(one)
    return one


def enveloped(text: str) -> bytes:
    return json.dumps({"oslo.version": "2.0", "oslo.message": text}).encode()


def notification(payload: str, **changed: str) -> bytes:
    fields = {"message_id": '"m"', "publisher_id": '"vmhb-worker:evil"', "event_type": '"vmhb.fault.raised"'}
    fields |= {"priority": '"INFO"', "timestamp": '"2026-11-29 06:00:00"', "payload": payload, **changed}
    return enveloped("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}")


def fault(**changed: Any) -> str:
    payload = fault_payload(new(2, action="alarm"))
    payload["vmhb_object.data"] |= {"fault_id": str(uuid.uuid4()), **changed}
    return json.dumps(payload)


BODIES: dict[str, bytes] = {
    "not JSON": b"\xff\xfe{",
    "empty": b"",
    "a number": b"1",
    "a list": b"[1,2]",
    "deep": b"[" * 200_000,
    "no envelope": b'{"oslo.version":"2.0"}',
    "an envelope of a number": b'{"oslo.version":"2.0","oslo.message":5}',
    "a deep envelope": enveloped("[" * 200_000),
    "another version": b'{"oslo.version":"99.0","oslo.message":"{}"}',
    "a deep payload": notification("[" * 90_000 + "]" * 90_000),
    "no event type": enveloped('{"payload":{}}'),
    "an event type that is an object": notification(fault(), event_type='{"a":1}'),
    "a priority": notification(fault(), priority='"__class__"'),
    "a priority that is a list": notification(fault(), priority="[1]"),
    "a number of 5000 digits": notification("9" * 5000),
    "not a number": notification("NaN"),
    "a time that is a list": notification(fault(), timestamp="[]"),
    "an id that is an object": notification(fault(), _unique_id='{"a":1}', _context_x='{"a":[1]}'),
    "a surrogate": notification(fault(host="cn\ud800")),
    "year 1": notification(fault(suspected_at="0001-01-01T00:00:00Z")),
    "year 9999": notification(fault(occurred_at="9999-12-31T23:59:59Z")),
    "digits": notification(fault(fault_id="\u0660" * 8 + "-5b7d-4d4b-9a57-0c8f5b1f7c11")),
    "a path": notification(fault(instance_uuid="../flavors")),
    "deep evidence": notification(fault(evidence={"x": json.loads("[" * 900 + "]" * 900)})),
    "too large": notification(json.dumps("x" * LARGEST)),
    "many values": notification("[" + "[]," * 300_000 + "1]"),
}
PACKED = {
    "a bomb": (zlib.compress(notification(json.dumps("x" * 200_000_000))), "application/x-gzip"),
    "unknown": (b"junk", "application/x-lzma"),
    "broken": (b"junk", "application/x-gzip"),
}


def test_whatever_is_in_the_queue_of_faults(site: Site, stranger: Stranger) -> None:
    """Each of these, and then an honest fault: it is told, the queue is empty, RPC answers, nobody has died."""
    workers, consumer = site.workers("cn1"), site.consumer()
    api = site.api()
    workers.publish(first := new(1000, action="alarm"))
    wait_until(lambda: any(one["fault_id"] == first.fault_id for one in consumer.told()), 30.0, "the first")
    before = consumer.rss
    for _ in range(8):
        stranger.says(BODIES["too large"])
    for body in BODIES.values():
        stranger.says(body)
    for body, packed in PACKED.values():
        stranger.says(body, application_headers={"compression": packed})
    for kind in ("application/x-python-serialize", "application/x-yaml", "text/plain", "application/data"):
        stranger.says(b"cos\nsystem\n(S'exit 1'\ntR.", content_type=kind, content_encoding="binary")
    stranger.says(zlib.compress(notification(fault(host="packed"))), application_headers={"compression": "gzip"})
    workers.publish(last := new(1001, action="alarm"))
    wait_until(lambda: any(one["fault_id"] == last.fault_id for one in consumer.told()), 60.0, "the last")
    assert not consumer.ended
    known = {one["vmhb_object.data"]["fault_id"] for one in api.active_faults()}
    assert {first.fault_id, last.fault_id} <= known
    assert "packed" in {one["vmhb_object.data"]["host"] for one in api.active_faults()}, "what is packed is unpacked"
    wait_until(lambda: site.messages() == 0, 30.0, "an empty queue")
    assert (consumer.rss - before) / 2**20 < GROWTH
    log = Path(consumer.log).read_text(encoding="utf-8")
    assert "error of our own" not in log and "Logging error" not in log
    assert f"{sizes.MAX_MESSAGE} are taken at most" in log


CALLS: dict[str, bytes] = {
    "not JSON": b"\xff",
    "deep": b"[" * 100_000,
    "no method": enveloped("{}"),
    "a method of Python's": enveloped('{"method":"__init__","args":{},"version":"1.0","namespace":null}'),
    "a method of ours": enveloped('{"method":"_put","args":{"kind":"list","check":5},"version":"1.0"}'),
    "a list of arguments": enveloped('{"method":"list","args":[1],"version":"1.0"}'),
    "a version": enveloped('{"method":"list","args":{},"version":"x"}'),
    "a version that is a list": enveloped('{"method":"list","args":{},"version":[1]}'),
    "an id": enveloped('{"method":"list","args":{},"version":"1.0","_msg_id":{"a":1},"_reply_q":[1]}'),
    "a deep argument": enveloped(
        '{"method":"show","args":{"instance_uuid":%s},"version":"1.0"}' % ("[" * 400 + "]" * 400)
    ),
    "a long number": enveloped('{"method":"show","args":{"instance_uuid":%s},"version":"1.0"}' % ("9" * 4000)),
    "too large": enveloped('{"method":"show","args":{"instance_uuid":"%s"},"version":"1.0"}' % ("x" * LARGEST)),
}


def test_whatever_a_worker_or_a_consumer_is_called_with(site: Site, stranger: Stranger) -> None:
    """Each of these, and then a call, which is answered."""
    site.consumer()
    api = site.api()
    api.about()
    conf = api._client.conf
    server = Server(worker_api.get_transport(conf, site.url), "cn1", lambda _question: {"state": "alive"})
    server.start()
    assert server.listening.wait(15.0)
    worker = worker_api.WorkerAPI(worker_api.get_transport(conf, site.url), timeout=5.0)
    for body in CALLS.values():
        stranger.says(body, "vmhb_worker.cn1")
        stranger.says(body, "vmhb_consumer")
        assert worker.show("cn1", str(uuid.uuid4())) == {"state": "alive"}
    assert api.about()["host"]
    server.stop(2.0)


def test_an_answer_that_is_too_large_is_none(site: Site) -> None:
    """Whoever asked is told that none came, within the time that it gave; one that lists everything may be larger."""
    conf = site.api()._client.conf
    large = [{"instance": "x" * 1000}] * 3000
    server = Server(worker_api.get_transport(conf, site.url), "cn1", lambda _question: large)
    server.start()
    assert server.listening.wait(15.0)
    transport = worker_api.get_transport(conf, site.url, limit=sizes.MAX_LIST)
    assert worker_api.WorkerAPI(transport, timeout=10.0).list("cn1") == large
    with pytest.raises(oslo_messaging.MessagingTimeout):
        worker_api.WorkerAPI(worker_api.get_transport(conf, site.url), timeout=3.0).list("cn1")
    server.stop(2.0)
