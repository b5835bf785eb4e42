"""From a fault notification to an alarm in Vitrage's graph and back, with no broker, database or Keystone."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg
from vitrage import messaging
from vitrage.common import config as vitrage_config
from vitrage.datasources import utils
from vitrage.entity_graph.driver_exec import DriverExec, DriversNotificationEndpoint
from vitrage.entity_graph.processor.processor import Processor
from vitrage.graph.driver.networkx_graph import NXGraph

from nova_vmhb.vitrage.notifiers.vmhb_aodh.notifier import VmhbAodhNotifier
from nova_vmhb.vitrage.vmhb import driver as vmhb_driver
from tests.fakes import a_fault
from vmhb_common.messaging.publisher import Sender
from vmhb_common.model.fault import Change, Fault, FaultState, Resolution
from vmhb_common.objects import fault_payload

VALUES = Path(__file__).parent.parent.parent / "etc/vitrage/datasources_values"
CONFIG = """\
[DEFAULT]
transport_url = fake://
use_nova_versioned_notifications = true
[datasources]
types = nova.host,nova.instance,vmhb
path = vitrage.datasources,nova_vmhb.vitrage
[entity_graph]
datasources_values_dir = {values}
[vmhb]
rpc_timeout = 1
"""


@dataclass
class Row:
    """As `Sender` wants it."""

    message_id: str
    event_type: str
    project_id: str | None
    payload: str
    created: float


class Vitrage:
    """One process's worth of it."""

    def __init__(self, folder: Path) -> None:
        config = folder / "vitrage.conf"
        config.write_text(CONFIG.format(values=VALUES))
        vitrage_config.parse_config(["vitrage-graph", "--config-file", str(config)])
        self.graph = NXGraph("Entity Graph")
        self._processor = Processor(self.graph)
        self._lock = threading.Lock()
        self.listener = DriversNotificationEndpoint(self.process).init().get_listener()
        self.listener.start()
        self.exec = DriverExec(self.process, None, self.graph)
        self.nova = oslo_messaging.Notifier(
            messaging.get_transport(), driver="messagingv2", topics=["vitrage_notifications"], publisher_id="nova"
        )
        self.sender = Sender(
            cfg.CONF, None, "cn1", exchange="vitrage", connect=lambda conf, url: messaging.get_transport()
        )

    def process(self, events: Any) -> int:
        """As EventsCoordination: one at a time, under a lock."""
        count = 0
        for event in events:
            with self._lock:
                self._processor.process_event(event)
            count += 1
        return count

    def tell(self, change: Change, fault: Fault) -> None:
        """As a worker does."""
        payload = json.dumps(fault_payload(fault))
        row = Row(str(uuid.uuid4()), str(change), fault.project_id, payload, time.time())
        self.sender.send("vitrage_notifications", row)

    def create(self, instance: str) -> None:
        """As nova-compute says that it made one."""
        data = {"uuid": instance, "host_name": "vm1", "state": "active", "host": "cn1", "tenant_id": "p1"}
        self.nova.info({}, "instance.create.end", {"nova_object.data": data})

    def alarms(self) -> list[Any]:
        """That are on."""
        return [
            v
            for v in self.graph.get_vertices({"vitrage_category": "ALARM"})
            if not v.get("vitrage_is_deleted") and v.get("vitrage_type") == "vmhb"
        ]

    def on(self, alarm: Any) -> list[tuple[str, str]]:
        """What an alarm is on: type and id."""
        edges = self.graph.get_edges(alarm.vertex_id)
        targets = [self.graph.get_vertex(edge.target_id) for edge in edges if edge.source_id == alarm.vertex_id]
        return [(vertex["vitrage_type"], vertex["id"]) for vertex in targets]


def wait(condition: Callable[[], bool], seconds: float = 10) -> float:
    """How long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "not in time"
        time.sleep(0.005)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def vitrage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vitrage]:
    """One for all: Vitrage's configuration is the process's."""
    one = Vitrage(tmp_path_factory.mktemp("vitrage"))
    yield one
    one.listener.stop()
    one.listener.wait()


def fresh(**changed: Any) -> Fault:
    return a_fault(str(uuid.uuid4()), **changed)


def over(fault: Fault) -> Fault:
    return replace(fault, sequence=fault.sequence + 1, state=FaultState.CLEARED, resolution=Resolution.RECOVERED)


def of(vitrage: Vitrage, fault: Fault) -> list[Any]:
    return [alarm for alarm in vitrage.alarms() if alarm["id"] == fault.fault_id]


def test_raise_update_clear(vitrage: Vitrage, figure: Any) -> None:
    """The alarm is on Nova's own vertex of the instance, changes with the fault, and goes with it."""
    fault = fresh(instance_uuid=str(uuid.uuid4()))
    assert fault.instance_uuid
    vitrage.create(fault.instance_uuid)
    vitrage.tell(Change.RAISED, fault)
    figure("Vitrage, in one process: raised to alarm", wait(lambda: bool(of(vitrage, fault))), "s")
    (alarm,) = of(vitrage, fault)
    assert vitrage.on(alarm) == [("nova.instance", fault.instance_uuid)]
    assert (alarm["name"], alarm["vitrage_operational_severity"]) == (fault.cause, fault.severity.upper())
    changed = replace(fault, sequence=fault.sequence + 1, cause="guest_hung")
    vitrage.tell(Change.UPDATED, changed)
    wait(lambda: of(vitrage, fault)[0]["name"] == "guest_hung")
    vitrage.tell(Change.CLEARED, over(changed))
    figure("Vitrage, in one process: cleared to gone", wait(lambda: not of(vitrage, fault)), "s")


def test_a_hosts_fault_is_on_the_host(vitrage: Vitrage) -> None:
    """host_suspect has no instance."""
    fault = fresh(instance_uuid=None, project_id=None, cause="host_suspect")
    vitrage.tell(Change.RAISED, fault)
    wait(lambda: bool(of(vitrage, fault)))
    assert vitrage.on(of(vitrage, fault)[0]) == [("nova.host", fault.host)]
    vitrage.tell(Change.CLEARED, over(fault))
    wait(lambda: not of(vitrage, fault))


def test_no_alarm_sticks_however_messages_are_shuffled(vitrage: Vitrage) -> None:
    """Raise and clear of 100 faults in any order: none is on in the end, and one that was told last is."""
    faults = [fresh() for _ in range(100)]
    told = [(Change.RAISED, f) for f in faults] + [(Change.CLEARED, over(f)) for f in faults]
    random.Random(4).shuffle(told)
    for change, fault in told:
        vitrage.tell(change, fault)
    last = fresh()
    vitrage.tell(Change.RAISED, last)
    wait(lambda: bool(of(vitrage, last)), 30)
    wait(lambda: [alarm["id"] for alarm in vitrage.alarms()] == [last.fault_id], 30)
    vitrage.tell(Change.CLEARED, over(last))
    wait(lambda: not vitrage.alarms())


def test_resynchronisation(vitrage: Vitrage) -> None:
    """What the consumer lists is on; what it does not is off; and where it does not answer, all stays as it is."""
    (driver,) = utils.get_drivers_by_name(["vmhb"])
    missed, lost_clear = fresh(), fresh()
    vitrage.tell(Change.RAISED, lost_clear)
    wait(lambda: bool(of(vitrage, lost_clear)))
    assert vitrage.exec.get_all("vmhb", "snapshot") == 0  # nobody answers the RPC
    assert of(vitrage, lost_clear)
    driver._active_faults = lambda: [fault_payload(missed)]
    driver._clock = lambda: time.monotonic() + 3600
    time.sleep(1.1)  # Vitrage's time has whole seconds
    vitrage.exec.get_all("vmhb", "snapshot")
    assert of(vitrage, missed) and not of(vitrage, lost_clear)
    driver._active_faults = list
    time.sleep(1.1)
    vitrage.exec.get_all("vmhb", "snapshot")
    assert vitrage.alarms() == []
    driver._active_faults, driver._clock = vmhb_driver._ask_the_consumer, time.monotonic


def test_the_consumers_broker_is_away(vitrage: Vitrage) -> None:
    """Vitrage waits for it no longer than it is told, and asks no second time meanwhile; its alarms stay."""
    vitrage.tell(Change.RAISED, fault := fresh())
    wait(lambda: bool(of(vitrage, fault)))
    cfg.CONF.set_override("transport_url", "rabbit://127.0.0.1:1/", group="vmhb")
    try:
        for within in (5.0, 0.5):
            began = time.monotonic()
            assert vitrage.exec.get_all("vmhb", "snapshot") == 0
            assert time.monotonic() - began < within
        assert of(vitrage, fault)
    finally:
        cfg.CONF.clear_override("transport_url", group="vmhb")
        vmhb_driver._ASKING = vmhb_driver.Asking(vmhb_driver._call_the_consumer)
    vitrage.tell(Change.CLEARED, over(fault))
    wait(lambda: not of(vitrage, fault))


def test_asked_again_once_the_broker_is_back() -> None:
    """And what the consumer says, or raises, is what comes of it."""
    back = threading.Event()
    said: list[list[int] | Exception] = [[1], [2], OSError("no")]

    def ask() -> list[int]:
        back.wait()
        answer = said.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    asking = vmhb_driver.Asking(ask)
    with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
        asking.within(0.1)
    with pytest.raises(TimeoutError, match="since it was asked before"):
        asking.within(5)
    back.set()
    wait(lambda: len(said) == 2)
    assert asking._thread is not None
    asking._thread.join()
    assert asking.within(5) == [2]
    with pytest.raises(OSError, match="no"):
        asking.within(5)


def test_not_ours(vitrage: Vitrage) -> None:
    """A drill, and what is no fault of ours, make no alarm, and the next one does."""
    vitrage.tell(Change.RAISED, replace(fresh(), drill=True))
    vitrage.nova.info({}, "vmhb.fault.raised", {"x": 1})
    fault = fresh()
    vitrage.tell(Change.RAISED, fault)
    wait(lambda: bool(of(vitrage, fault)))
    assert len(vitrage.alarms()) == 1
    vitrage.tell(Change.CLEARED, over(fault))
    wait(lambda: not vitrage.alarms())


def test_an_alarm_for_aodh() -> None:
    """The notifier makes an event of an alarm's vertex, of others nothing; and one that is lost stops no other."""
    sent: list[dict[str, Any]] = []
    notifier = VmhbAodhNotifier(sent.append)
    alarm = {"name": "guest_hung", "vitrage_type": "vmhb", "project_id": "p1", "resource": {"id": "i1"}}
    notifier.process_event(alarm, "vitrage.mark_down.activate")
    assert sent == []
    notifier.process_event(alarm, "vitrage.alarm.activate")
    (event,) = sent
    assert event["event_type"] == "vitrage.alarm.activate"
    assert sorted(event["traits"]) == [
        ["alarm_name", 1, "guest_hung"],
        ["project_id", 1, "p1"],
        ["resource_id", 1, "i1"],
        ["vitrage_type", 1, "vmhb"],
    ]

    def lose(_: dict[str, Any]) -> None:
        raise OSError("no broker")

    VmhbAodhNotifier(lose).process_event(alarm, "vitrage.alarm.deactivate")
