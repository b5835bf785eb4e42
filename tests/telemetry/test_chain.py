"""From a fault on RabbitMQ to the action of an Aodh alarm, and to that of the alarm which says that it is over: by our
consumer, straight to Aodh's listener; and through ceilometer, which is only configured."""

from __future__ import annotations

import contextlib
import json
import pathlib
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import amqp
import kombu
import pytest
from oslo_config import cfg

from tests.conftest import Figure
from tests.fakes import a_fault
from tests.lab.broker import Broker
from tests.lab.processes import wait_until
from tests.stage.control_plane import FaultConsumer, FaultWorkers
from tests.stage.receiver import Posted, Receiver
from tests.stage.telemetry import Aodh, Ceilometer
from vmhb_common.model.fault import Fault, Resolution, cleared
from vmhb_consumer.reporters.aodh import AodhReporter

#: Of Aodh and ceilometer, on a busy machine.
LONG = 60.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A RabbitMQ, with durable queues for all."""
    with Broker() as one:
        yield f"{one.transport_url}?amqp_durable_queues=true"


@pytest.fixture(scope="module")
def aodh(url: str) -> Iterator[Aodh]:
    """One for all."""
    with Aodh(url) as one:
        yield one


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Whom the alarms tell."""
    with Receiver() as one:
        yield one


@pytest.fixture
def project(aodh: Aodh, receiver: Receiver) -> str:
    """One with the sample alarms, and nobody else's."""
    name = uuid.uuid4().hex
    aodh.alarms(name, f"{receiver.url}{name}")
    assert aodh.states(name) == {"vmhb_raised": "insufficient data", "vmhb_cleared": "insufficient data"}
    return name


@pytest.fixture
def consumer(url: str, tmp_path: pathlib.Path) -> Iterator[FaultConsumer]:
    """With our reporter."""
    options = {"consumer": {"reporters": "recording, aodh, log"}, "reporter_aodh": {"transport_url": url}}
    one = FaultConsumer(tmp_path, url, options=options)
    one.start()
    yield one
    one.stop()


def fresh(project: str, **changed: Any) -> Fault:
    """Raised now."""
    moment = datetime.now(timezone.utc)
    fields = {"suspected_at": moment, "raised_at": moment, "occurred_at": moment, "instance_uuid": str(uuid.uuid4())}
    return a_fault(str(uuid.uuid4()), **{**fields, "project_id": project, **changed})


def over(fault: Fault) -> Fault:
    """Its clear."""
    return cleared(fault, Resolution.RECOVERED, datetime.now(timezone.utc))


def traits(one: Posted) -> dict[str, Any]:
    """Of the event that fired an alarm."""
    return {name: value for name, _, value in one.body["reason_data"]["event"]["traits"]}


def fired(receiver: Receiver, fault: Fault, alarm: str) -> Posted:
    """Wait until the action of this alarm of the fault's project has told of the fault."""
    return receiver.wait(
        lambda one: (
            one.path == f"/{fault.project_id}"
            and one.body["alarm_name"] == alarm
            and traits(one)["fault_id"] == fault.fault_id
        ),
        LONG,
    )


def whole(told: dict[str, Any], fault: Fault) -> None:
    """What an event says of its fault, whichever way it came."""
    named = ("fault_id", "severity", "cause", "confidence", "recommended_action", "host", "display_name", "reason")
    assert {name: told[name] for name in named} == {name: str(getattr(fault, name)) for name in named}
    assert (told["resource_id"], told["project_id"]) == (fault.instance_uuid, fault.project_id)
    assert (told["sequence"], told["drill"], told["tenant_id"]) == (fault.sequence, "False", fault.project_id)
    assert told["occurred_at"] == fault.occurred_at.replace(tzinfo=None, microsecond=0).isoformat()


def test_direct(
    aodh: Aodh, consumer: FaultConsumer, url: str, receiver: Receiver, project: str, figure: Figure
) -> None:
    """Consumer and reporter: one alarm's action for the raise, another's for the clear; no other project hears."""
    other = uuid.uuid4().hex
    aodh.alarms(other, f"{receiver.url}{other}")
    workers = FaultWorkers(url)
    workers.publish(warm := fresh(project))
    fired(receiver, warm, "vmhb_raised")
    fault = fresh(project)
    began = time.monotonic()
    workers.publish(fault)
    told = fired(receiver, fault, "vmhb_raised")
    figure("Aodh, direct: raised to the alarm's action", told.at - began, "s")
    whole(traits(told), fault)
    assert aodh.states(project) == {"vmhb_raised": "alarm", "vmhb_cleared": "insufficient data"}
    ended = over(fault)
    began = time.monotonic()
    workers.publish(ended)
    told = fired(receiver, fault, "vmhb_cleared")
    figure("Aodh, direct: cleared to the alarm's action", told.at - began, "s")
    assert traits(told)["resolution"] == "recovered"
    assert aodh.states(project) == {"vmhb_raised": "alarm", "vmhb_cleared": "alarm"}
    assert set(aodh.states(other).values()) == {"insufficient data"}
    assert not [one for one in receiver.got if one.path == f"/{other}"]


def test_one_instance_and_no_drill(
    aodh: Aodh, consumer: FaultConsumer, url: str, receiver: Receiver, project: str
) -> None:
    """The sample's query: an alarm for one instance hears of that one; and none of a drill. Of an unknown cause, as of
    any other."""
    mine, drill = fresh(project), fresh(project, drill=True)
    aodh.alarms(project, f"{receiver.url}mine", str(mine.instance_uuid))
    workers = FaultWorkers(url)
    workers.publish(drill, fresh(project), mine, last := fresh(project, cause="guest_silent"))
    fired(receiver, last, "vmhb_raised")
    receiver.wait(lambda one: one.path == "/mine", LONG)
    assert [traits(one)["fault_id"] for one in receiver.got if one.path == "/mine"] == [mine.fault_id]
    assert drill.fault_id not in [traits(one)["fault_id"] for one in receiver.got]


def test_listener_down(aodh: Aodh, consumer: FaultConsumer, url: str, receiver: Receiver, project: str) -> None:
    """What is raised and cleared meanwhile waits in RabbitMQ."""
    aodh.kill("aodh-listener")
    fault = fresh(project)
    workers = FaultWorkers(url)
    workers.publish(fault, over(fault))
    wait_until(lambda: len(consumer.told()) >= 2, LONG, "the consumer has both")
    aodh.start("aodh-listener")
    fired(receiver, fault, "vmhb_raised")
    fired(receiver, fault, "vmhb_cleared")


@pytest.fixture
def another() -> Iterator[Broker]:
    """A RabbitMQ of Aodh's own; nobody reads it, so that all of it can be looked at."""
    with Broker() as one:
        yield one


def events(broker: Broker) -> list[dict[str, Any]]:
    """Take what is there for aodh-listener, the oldest first."""
    found: list[dict[str, Any]] = []
    untyped: Any = kombu
    with untyped.Connection(broker.transport_url.replace("rabbit://", "amqp://")) as connection:
        queue = untyped.Queue("alarm.all.sample")(connection.channel())
        with contextlib.suppress(amqp.exceptions.NotFound):  # nothing was ever sent
            while (message := queue.get(no_ack=True)) is not None:
                found += json.loads(json.loads(message.body)["oslo.message"])["payload"]
    return found


def test_aodhs_broker_down(another: Broker, url: str, tmp_path: pathlib.Path) -> None:
    """It refuses our user, then is away for the whole life of a fault: others are told at once; once it is back and
    takes us, it has raise and clear in order, with no restart of ours."""
    there = another.transport_url.replace(another.password, "mended") + "?amqp_durable_queues=true"
    options = {"consumer": {"reporters": "recording, aodh, log"}, "reporter_aodh": {"transport_url": there}}
    mine = FaultConsumer(tmp_path, url, options=options)
    mine.start()
    workers = FaultWorkers(url)
    try:
        workers.publish(first := fresh("p1"))
        wait_until(lambda: mine.said("refuses access") > 0, LONG, "it is refused")
        another.halt()
        workers.publish(second := fresh("p1"), over(second))
        wait_until(lambda: [one["fault_id"] for one in mine.told()].count(second.fault_id) == 2, LONG, "others know")
        another.boot()
        another.ctl("change_password", another.user, "mended")
        another.password = "mended"
        got: list[tuple[str, str]] = []

        def all_there() -> bool:
            for event in events(another):
                told = {name: value for name, _, value in event["traits"]}
                got.append((event["event_type"], told["fault_id"]))
            return len(got) >= 3

        wait_until(all_there, 2 * LONG, "all is there", every=1.0)
        assert [what for what, whose in got if whose == second.fault_id] == ["vmhb.fault.raised", "vmhb.fault.cleared"]
        assert [what for what, whose in got if whose == first.fault_id] == ["vmhb.fault.raised"]
    finally:
        mine.stop()
        workers.close()


def test_flags_unlike_aodhs(aodh: Aodh, url: str) -> None:
    """Said by --check-config, with the option's name: Aodh's queue is there, and durable."""
    conf = cfg.ConfigOpts()
    conf.register_opts(AodhReporter.options(), group="reporter_aodh")
    conf([], default_config_files=[], default_config_dirs=[])
    conf.set_override("transport_url", url.partition("?")[0], group="reporter_aodh")
    said = AodhReporter(conf.reporter_aodh, lambda: datetime.now(timezone.utc)).check()
    assert "set [oslo_messaging_rabbit] amqp_durable_queues" in str(said)


@pytest.fixture(scope="module")
def ceilometer(url: str) -> Iterator[Ceilometer]:
    """Its agent."""
    with Ceilometer(url) as one:
        yield one


def test_through_ceilometer(
    aodh: Aodh, ceilometer: Ceilometer, url: str, receiver: Receiver, project: str, figure: Figure
) -> None:
    """Workers publish to ceilometer's topic as well; no consumer of ours runs. The same alarms are told the same."""
    workers = FaultWorkers(url, topics=("vmhb_notifications", "notifications"))
    workers.publish(warm := fresh(project))
    fired(receiver, warm, "vmhb_raised")
    fault = fresh(project)
    began = time.monotonic()
    workers.publish(fault)
    told = fired(receiver, fault, "vmhb_raised")
    figure("Aodh, through ceilometer: raised to the alarm's action", told.at - began, "s")
    whole(traits(told), fault)
    began = time.monotonic()
    workers.publish(over(fault))
    told = fired(receiver, fault, "vmhb_cleared")
    figure("Aodh, through ceilometer: cleared to the alarm's action", told.at - began, "s")
    assert traits(told)["resolution"] == "recovered"
    assert aodh.states(project) == {"vmhb_raised": "alarm", "vmhb_cleared": "alarm"}


def test_ceilometer_down(aodh: Aodh, ceilometer: Ceilometer, url: str, receiver: Receiver, project: str) -> None:
    """What is raised and cleared meanwhile waits in RabbitMQ; of a drill, no alarm is told here either."""
    ceilometer.kill()
    fault, drill = fresh(project), fresh(project, drill=True)
    workers = FaultWorkers(url, topics=("vmhb_notifications", "notifications"))
    workers.publish(drill, fault, over(fault))
    ceilometer.start()
    fired(receiver, fault, "vmhb_raised")
    fired(receiver, fault, "vmhb_cleared")
    assert drill.fault_id not in [traits(one)["fault_id"] for one in receiver.got]
