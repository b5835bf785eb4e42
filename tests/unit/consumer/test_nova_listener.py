"""From a notification to the workers that are told: late, in vain, again, and not at all."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg

from tests.lab.processes import wait_until
from tests.stage.nova import NOON, UUID, Message, notification
from tests.unit.consumer.fakes import ToldWorkers, WaitedTime
from vmhb_common import worker_api
from vmhb_common.messaging import broker
from vmhb_consumer.nova_listener import FIRST_PAUSE, PAUSE, Courier, Endpoint, Instances
from vmhb_consumer.nova_operations import TIMEOUTS
from vmhb_consumer.settings import NovaNotificationSettings

HANDLED, REQUEUE = oslo_messaging.NotificationResult.HANDLED, oslo_messaging.NotificationResult.REQUEUE
AWAY = oslo_messaging.MessageDeliveryFailure("no route")


def take(workers: ToldWorkers, message: Message, time: WaitedTime | None = None) -> str:
    """Hand it to an endpoint, as oslo.messaging would. What becomes of the notification."""
    time = time or WaitedTime(NOON)
    courier = Courier(workers, 60.0, now=time.now, monotonic=time.monotonic, wait=time.wait)
    endpoint = Endpoint(courier.tell, TIMEOUTS)
    method = endpoint.error if message.priority == "ERROR" else endpoint.info
    result: str = method({}, *message.arguments)
    return result


def methods(workers: ToldWorkers) -> list[str]:
    return [method for method, *_ in workers.told]


def test_the_worker_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """One notification, one cast with all its arguments, one line of log with instance and host."""
    workers = ToldWorkers()
    with caplog.at_level(logging.INFO):
        assert take(workers, notification("power_off", "start")) == HANDLED
    silence = {"key": "power_off", "reason": "Nova powers it off", "timeout": 600.0, "observed_at": NOON}
    assert workers.told == [("expect_silence", "node1", UUID, silence)]
    (record,) = caplog.records
    assert UUID in record.message and "node1" in record.message


def test_configure_carries_the_flavors_words() -> None:
    """The worker bounds them, by its own limits; and is told of when they are: an older flavor may come last."""
    workers, knobs = ToldWorkers(), {"heartbeat": "true", "interval": "1"}
    take(workers, notification("create", "end"))
    assert workers.told == [("configure", "node1", UUID, {"policy": knobs, "observed_at": NOON})]


def test_errors_come_by_another_method() -> None:
    """Nova sends `.error` with priority ERROR, through a queue of its own."""
    workers = ToldWorkers()
    take(workers, notification("reboot", "error"))
    assert methods(workers) == ["end_silence"]


@pytest.mark.parametrize(
    "event_type", ["scheduler.select_destinations.end", "instance.update", "", None, 7, "x" * 9999]
)
def test_foreign_events_are_not_even_read(event_type: Any) -> None:
    """Most of what comes is none of our business, and can't be wrong."""
    workers = ToldWorkers()
    assert take(workers, Message("?", event_type, object(), {})) == HANDLED
    assert not workers.told


def test_garbage_is_one_line_of_log(caplog: pytest.LogCaptureFixture) -> None:
    """It is acknowledged, or it would come back for ever."""
    workers = ToldWorkers()
    assert take(workers, Message("nova-compute:a b\n", "instance.pause.start", {}, {})) == HANDLED
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "\n" not in caplog.text.strip()


def test_a_mistake_of_ours_does_not_come_back_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever we stumble over is logged with its traceback, and acknowledged."""

    def tell(_cast: Any) -> bool:
        raise KeyError("ours")

    assert Endpoint(tell, TIMEOUTS).info({}, *notification("pause", "start").arguments) == HANDLED
    assert "KeyError" in caplog.text


def test_the_workers_broker_comes_back() -> None:
    """It is tried again, with growing pauses, and order is kept: nothing else is told meanwhile."""
    workers, clock = ToldWorkers(AWAY, AWAY, AWAY), WaitedTime(NOON)
    assert take(workers, notification("reboot", "end"), clock) == HANDLED
    assert methods(workers) == ["configure", "end_silence", "end_silence", "end_silence"]
    assert clock.waited == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]


def test_the_workers_broker_stays_away(caplog: pytest.LogCaptureFixture) -> None:
    """After delivery_time the next has its turn, and the log says whose hint was lost."""
    workers, clock = ToldWorkers(*[AWAY] * 100), WaitedTime(NOON)
    assert take(workers, notification("create", "end"), clock) == HANDLED
    assert not workers.told
    assert 60 <= clock.monotonic() <= 60 + PAUSE
    assert f"instance {UUID}: worker of node1 not told: " in caplog.text
    assert "no route" in caplog.text


def test_a_hint_is_not_told_once_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """A pause that was expected to take a minute is not announced ten minutes later; its end is."""
    workers, clock = ToldWorkers(), WaitedTime(NOON)
    take(workers, notification("pause", "start", at=-600), clock)
    assert not workers.told and "600 s late" in caplog.text
    take(workers, notification("pause", "end", at=-599), clock)
    assert methods(workers) == ["end_silence"]


def test_a_hint_gets_too_old_while_the_broker_is_away() -> None:
    """It is given up when it is over, not only after delivery_time."""
    workers, clock = ToldWorkers(*[AWAY] * 100), WaitedTime(NOON)
    take(workers, notification("pause", "start", at=-50), clock)
    assert clock.monotonic() < 20


def test_a_clock_of_novas_that_is_ahead(caplog: pytest.LogCaptureFixture) -> None:
    """A worker would be silent until that time has come: it is refused, and said."""
    workers = ToldWorkers()
    take(workers, notification("pause", "start", at=3600))
    assert not workers.told and "see to the clocks" in caplog.text
    take(workers, notification("pause", "start", at=60))
    assert methods(workers) == ["expect_silence"], "a minute is nothing"


def test_what_cannot_go_well_is_not_repeated() -> None:
    """A call that [upgrade_levels] forbids stays forbidden."""
    workers, clock = ToldWorkers(oslo_messaging.RPCVersionCapError(version="1.0", version_cap="0.9")), WaitedTime(NOON)
    take(workers, notification("pause", "start"), clock)
    assert not workers.told and not clock.waited


def test_ending_gives_the_notification_back() -> None:
    """A consumer that is told to end while it tries leaves the rest to another."""
    workers = ToldWorkers(*[AWAY] * 100)
    assert take(workers, notification("create", "end"), WaitedTime(NOON, ends_after=3)) == REQUEUE


def test_stop_wakes_whoever_waits() -> None:
    """The real courier, in the middle of a pause."""
    workers = ToldWorkers(*[AWAY] * 1000)
    courier = Courier(workers, 60.0)
    endpoint = Endpoint(courier.tell, TIMEOUTS)
    outcomes: list[Any] = []
    telling = threading.Thread(
        target=lambda: outcomes.append(endpoint.info({}, *notification("create", "end").arguments))
    )
    telling.start()
    wait_until(lambda: len(workers.errors) < 1000, 10, "it was tried")
    courier.stop()
    telling.join(10)
    assert outcomes == [REQUEUE]


def test_what_a_broker_handed_out_beforehand_goes_back() -> None:
    """After the stop nobody is told anything: the next consumer does that, and none of it is told twice."""
    workers = ToldWorkers()
    courier = Courier(workers, 60.0)
    endpoint = Endpoint(courier.tell, TIMEOUTS)
    assert endpoint.info({}, *notification("create", "end").arguments) == HANDLED
    courier.stop()
    assert endpoint.info({}, *notification("create", "end").arguments) == REQUEUE
    assert len(workers.told) == 1


def test_brokers_that_are_away_hold_up_neither_start_nor_end() -> None:
    """Four cells' brokers are away, and so is the workers'."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    worker_api.get_transport(conf, "fake://")  # registers [DEFAULT] transport_url
    conf.set_override("transport_url", "rabbit://u:p@127.0.0.1:1/")
    urls = tuple(f"rabbit://u:p@127.0.0.1:{port}/" for port in (2, 3, 4, 5))
    began = time.monotonic()
    half = Instances(conf, NovaNotificationSettings(transport_urls=urls))
    half.start()
    assert half.listening == 0
    half.stop(0.2)
    assert time.monotonic() - began < 2


def test_a_url_has_its_own_way() -> None:
    """How much is prefetched is ours to say, unless a broker's URL says it; and nothing of the URL is lost."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    ours = {"rabbit_qos_prefetch_count": "100"}
    url = "rabbit://127.0.0.1:1/?rabbit_quorum_queue=true"
    query = broker.transport(conf, url, **ours)._driver._url.query
    assert query == {"rabbit_quorum_queue": "true", **ours}
    query = broker.transport(conf, f"{url}&rabbit_qos_prefetch_count=7", **ours)._driver._url.query
    assert query["rabbit_qos_prefetch_count"] == "7"
