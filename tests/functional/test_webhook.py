"""The webhook reporter from a worker's notification on a real RabbitMQ to a real HTTP server, over outages."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.functional.sites import Site
from tests.functional.test_reporting import cleared, new, wait_for
from vmhb_common.model import fault as life
from vmhb_consumer.reporters.testing import Backend, Reply

pytestmark = pytest.mark.patient


def told(backend: Backend) -> list[str]:
    """What it was told, without what it refused or never answered."""
    bodies = [json.loads(one.body) for one in backend.received]
    return [f"{one['event_type'].rpartition('.')[2]} {one['fault']['sequence']}" for one in bodies]


def test_from_the_raise_to_the_clear(site: Site) -> None:
    """Over an outage of the server and a death of the consumer; it is told no clear of what it was never told of."""
    with Backend() as backend:
        consumer = site.consumer(
            consumer={"reporters": "webhook"}, reporter_webhook={"url": backend.url, "timeout": 2, "token": "t"}
        )
        workers = site.workers("cn1")
        fault, never = new(1, action="alarm"), new(2, action="alarm")
        backend.reply = Reply(400, b"no")
        workers.publish(never)
        wait_for(lambda: consumer.said("given up: webhook says 400 'no'") == 1)
        backend.reply = Reply(503, b"later")
        workers.publish(cleared(never), fault)
        wait_for(lambda: consumer.said("not delivered yet: webhook says 503 'later'") == 1)
        consumer.kill()
        backend.received.clear()
        backend.reply = Reply()
        consumer.start()
        wait_for(lambda: told(backend) == ["raised 1"])
        worse = replace(fault, sequence=2, confidence="low")
        again = life.reminded(worse, worse.occurred_at)
        workers.publish(worse, again, cleared(again))
        wait_for(lambda: len(backend.received) == 3)
        assert told(backend) == ["raised 1", "updated 2", "cleared 4"]
        assert {one.headers["authorization"] for one in backend.received} == {"Bearer t"}
