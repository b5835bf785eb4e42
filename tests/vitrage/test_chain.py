"""From a fault on RabbitMQ to an alarm in the graph of a real Vitrage, to what its template deduces of it, and by its
notifier to Aodh; and all of it undone when the fault is over. Vitrage and Aodh run in Pythons of their own."""

from __future__ import annotations

import pathlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from oslo_config import cfg

from tests.conftest import Figure
from tests.fakes import a_fault
from tests.lab.broker import Broker
from tests.lab.mariadb import MariaDB
from tests.lab.processes import LabError, wait_until
from tests.stage.cloud import Cloud
from tests.stage.control_plane import FaultConsumer, FaultWorkers
from tests.stage.receiver import Receiver
from tests.stage.telemetry import Aodh
from tests.stage.vitrage import Vertex, Vitrage
from vmhb_common.messaging import broker
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.model.fault import Fault, Resolution, cleared

with without_eventlet():
    import oslo_messaging

#: Of Vitrage, on a busy machine.
LONG = 60.0
TOPICS = ("vmhb_notifications", "vitrage_notifications")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A RabbitMQ, with durable queues for all."""
    with Broker() as one:
        yield f"{one.transport_url}?amqp_durable_queues=true"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """Keystone and Nova, with nova-compute on cn1."""
    with Cloud(hosts=["cn1"]) as one:
        yield one


@pytest.fixture(scope="module")
def vitrage(url: str, cloud: Cloud) -> Iterator[Vitrage]:
    """One for all."""
    with MariaDB() as database, Vitrage(url, database.url, cloud) as one:
        yield one


class Nova:
    """As Vitrage hears of an instance: nova-compute tells of it, and Nova's API lists it from then on."""

    def __init__(self, url: str, cloud: Cloud) -> None:
        self._cloud = cloud
        conf = cfg.ConfigOpts()
        conf([], project="stage", default_config_files=[], default_config_dirs=[])
        transport = broker.transport(conf, url)
        conf.set_override("control_exchange", "nova")
        self._notifier = oslo_messaging.Notifier(
            transport, driver="messagingv2", topics=["vitrage_notifications"], publisher_id="nova-compute:cn1"
        )

    def create(self, project: str = "p1") -> str:
        """An instance on cn1; its uuid."""
        one = self._cloud.server(host="cn1", project_id=project).uuid
        data = {"uuid": one, "host_name": "vm1", "state": "active", "host": "cn1", "tenant_id": project}
        self._notifier.info({}, "instance.create.end", {"nova_object.data": data})
        return one


@pytest.fixture(scope="module")
def nova(url: str, cloud: Cloud) -> Nova:
    """Publishes."""
    return Nova(url, cloud)


@pytest.fixture
def workers(url: str) -> Iterator[FaultWorkers]:
    """Publish faults, to Vitrage's topic as well."""
    one = FaultWorkers(url, topics=TOPICS)
    yield one
    one.close()


def fresh(**changed: Any) -> Fault:
    """Raised now, with an alarm only."""
    moment = datetime.now(timezone.utc)
    fields = {"suspected_at": moment, "raised_at": moment, "occurred_at": moment}
    return a_fault(str(uuid.uuid4()), **{**fields, "instance_uuid": str(uuid.uuid4()), **changed})


def over(fault: Fault) -> Fault:
    """Its clear."""
    return cleared(fault, Resolution.RECOVERED, datetime.now(timezone.utc))


def seen(vitrage: Vitrage, what: str, found: Callable[[list[Vertex], list[tuple[Vertex, str, Vertex]]], bool]) -> float:
    """Wait until the graph has it; when, to within a tenth of a second."""
    try:
        return wait_until(lambda: found(*vitrage.graph()), LONG, what, every=0.05)
    except LabError as error:
        vertices, edges = vitrage.graph()
        links = [(source.get("name"), how, target.get("name")) for source, how, target in edges]
        raise LabError(f"{error}\n{vertices}\n{links}\n{vitrage.programs.log('vitrage-graph')[-5000:]}") from error


def instance(vertices: list[Vertex], fault: Fault) -> Vertex | None:
    """The fault's."""
    return next((v for v in vertices if v["vitrage_type"] == "nova.instance" and v["id"] == fault.instance_uuid), None)


def known(vertices: list[Vertex], *faults: Fault) -> bool:
    """Is there an alarm of any of them?"""
    return bool({fault.fault_id for fault in faults} & {vertex.get("id") for vertex in vertices})


def state(vertices: list[Vertex], fault: Fault) -> str | None:
    """Of the fault's instance, as Vitrage sees it."""
    one = instance(vertices, fault)
    return None if one is None else str(one.get("vitrage_operational_state"))


def edge(edges: list[tuple[Vertex, str, Vertex]], source: str, label: str, target: str) -> bool:
    """Between vertices with these ids."""
    return any(s.get("id") == source and how == label and t.get("id") == target for s, how, t in edges)


def deduced(edges: list[tuple[Vertex, str, Vertex]], fault: Fault) -> bool:
    """Is Vitrage's own alarm there, caused by ours?"""
    return any(
        s.get("id") == fault.fault_id and how == "causes" and t["name"] == "VM does not respond" for s, how, t in edges
    )


def test_graph(vitrage: Vitrage, nova: Nova, workers: FaultWorkers, figure: Figure) -> None:
    """The alarm is on Nova's own vertex; the instance is in error and Vitrage's own alarm there; it changes with the
    fault, and all of it goes with the fault."""
    workers.publish(warm := fresh(instance_uuid=nova.create()))
    seen(vitrage, "the first", lambda v, e: deduced(e, warm))
    fault = fresh(instance_uuid=nova.create())
    seen(vitrage, "the instance", lambda v, e: instance(v, fault) is not None)
    began = time.monotonic()
    workers.publish(fault)
    at = seen(vitrage, "the alarm", lambda v, e: edge(e, fault.fault_id, "on", str(fault.instance_uuid)))
    figure("Vitrage: raised to the alarm in the graph", at - began, "s")
    at = seen(vitrage, "what it means", lambda v, e: deduced(e, fault) and state(v, fault) == "ERROR")
    figure("Vitrage: raised to the deduced state and alarm", at - began, "s")
    changed = replace(
        fault, sequence=2, cause="agent_exited", severity="warning", occurred_at=datetime.now(timezone.utc)
    )
    workers.publish(changed)
    seen(vitrage, "the change", lambda v, e: state(v, fault) == "SUBOPTIMAL" and not deduced(e, fault))
    (alarm,) = vitrage.alarms(fault.fault_id)
    assert (alarm["name"], alarm["vitrage_operational_severity"]) == ("agent_exited", "WARNING")
    began = time.monotonic()
    workers.publish(over(changed))
    gone = seen(vitrage, "the clear", lambda v, e: not known(v, fault))
    figure("Vitrage: cleared to the alarm gone", gone - began, "s")
    at = seen(vitrage, "all undone", lambda v, e: state(v, fault) == "OK")
    figure("Vitrage: cleared to the state undone", at - began, "s")
    workers.publish(over(warm))
    seen(vitrage, "all undone", lambda v, e: not deduced(e, warm) and state(v, warm) == "OK")


def test_root_cause(vitrage: Vitrage, nova: Nova, workers: FaultWorkers) -> None:
    """A host's fault is the cause of those of its instances: whatever they are called, known to the template or not."""
    host = fresh(instance_uuid=None, project_id=None, cause="host_suspect")
    fault = fresh(instance_uuid=nova.create(), cause="guest_silent")
    workers.publish(host, fault)
    seen(vitrage, "the cause", lambda v, e: edge(e, host.fault_id, "causes", fault.fault_id))
    workers.publish(over(host), over(fault))
    seen(vitrage, "none", lambda v, e: not known(v, host, fault))


def test_root_cause_of_another_monitor(vitrage: Vitrage, nova: Nova, workers: FaultWorkers) -> None:
    """What OPNFV doctor's inspector says of a host is the cause of what we say of its instances."""
    fault = fresh(instance_uuid=nova.create())
    workers.publish(fault)
    vitrage.doctor("cn1", "down")

    def caused(edges: list[tuple[Vertex, str, Vertex]]) -> bool:
        named = ("doctor", "compute.host.down")
        found = [(s["vitrage_type"], s["name"]) for s, how, t in edges if how == "causes" and t["id"] == fault.fault_id]
        return named in found

    seen(vitrage, "the cause", lambda v, e: caused(e))
    vitrage.doctor("cn1", "up")
    seen(vitrage, "none", lambda v, e: not any(one["vitrage_type"] == "doctor" for one in v) and not caused(e))
    workers.publish(over(fault))
    seen(vitrage, "none", lambda v, e: not known(v, fault))


def test_graph_down(vitrage: Vitrage, nova: Nova, url: str, workers: FaultWorkers, tmp_path: pathlib.Path) -> None:
    """What waits in RabbitMQ is applied; what never came to it is asked of the consumer: raised is raised, and cleared
    is cleared."""
    consumer = FaultConsumer(tmp_path, url)
    consumer.start()
    try:
        instances = [nova.create() for _ in range(3)]
        waits, missed, stuck = (fresh(instance_uuid=one) for one in instances)
        workers.publish(stuck)
        seen(vitrage, "the alarm", lambda v, e: edge(e, stuck.fault_id, "on", str(stuck.instance_uuid)))
        vitrage.kill()
        workers.publish(waits)
        unheard = FaultWorkers(url)  # not by Vitrage
        unheard.publish(missed, over(stuck))
        wait_until(lambda: len(consumer.told()) >= 4, LONG, "the consumer knows")
        vitrage.start()
        seen(vitrage, "one that waited", lambda v, e: known(v, waits))
        seen(vitrage, "one that was missed", lambda v, e: known(v, missed))
        assert vitrage.alarms(stuck.fault_id) == []
        workers.publish(over(waits), over(missed))
        seen(vitrage, "none", lambda v, e: not known(v, waits, missed))
    finally:
        consumer.stop()


def test_to_aodh(vitrage: Vitrage, nova: Nova, url: str, workers: FaultWorkers, figure: Figure) -> None:
    """Our notifier: an Aodh alarm of the tenant's fires when Vitrage has an alarm on his instance, and another one when
    it is gone; for what Vitrage deduced as well."""
    project = uuid.uuid4().hex
    with Aodh(url) as aodh, Receiver() as receiver:
        fault = fresh(instance_uuid=nova.create(project), project_id=project)
        seen(vitrage, "the instance", lambda v, e: instance(v, fault) is not None)
        aodh.alarms(project, receiver.url, str(fault.instance_uuid), vitrage=True)

        def told(event: str, alarm: str) -> float:
            def found(one: Any) -> bool:
                fired = one.body["reason_data"]["event"]
                traits = {name: value for name, _, value in fired["traits"]}
                return bool(fired["event_type"] == event and traits["alarm_name"] == alarm)

            return receiver.wait(found, LONG).at

        began = time.monotonic()
        workers.publish(fault)
        at = told("vitrage.alarm.activate", fault.cause)
        figure("Vitrage to Aodh: raised to the alarm's action", at - began, "s")
        told("vitrage.alarm.activate", "VM does not respond")
        began = time.monotonic()
        workers.publish(over(fault))
        at = told("vitrage.alarm.deactivate", fault.cause)
        figure("Vitrage to Aodh: cleared to the alarm's action", at - began, "s")
        told("vitrage.alarm.deactivate", "VM does not respond")
