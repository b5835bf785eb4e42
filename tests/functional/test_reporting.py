"""The faults half of a consumer on a real RabbitMQ: what workers publish reaches every reporter, whatever dies.

With SQLite here; with MariaDB and several consumers in test_replicas. The reporters are those of tests/stage/recorder.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.conftest import Figure
from tests.fakes import a_fault
from tests.functional.sites import Site
from tests.lab.processes import wait_until
from tests.stage.control_plane import FaultConsumer, FaultWorkers
from vmhb_common.model import fault as life
from vmhb_common.model.fault import Fault, Resolution
from vmhb_common.objects import fault_payload, parse_fault
from vmhb_consumer.database import FILE
from vmhb_consumer.delivery import MAX_PAUSE

pytestmark = pytest.mark.patient


def run(consumer: FaultConsumer, option: str) -> subprocess.CompletedProcess[str]:
    """The program with this consumer's configuration, until it ends."""
    return subprocess.run(
        [sys.executable, *consumer.program, "--config-file", str(consumer.config), option],
        env={**os.environ, "PYTHONPATH": consumer.plugins},
        capture_output=True,
        text=True,
        check=False,
    )


def new(number: int = 1, host: str = "cn1", action: str = "recover", **changed: Any) -> Fault:
    """A fault that is raised now, of an instance of its own. On the wire times are whole seconds."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    values: dict[str, Any] = {
        "host": host,
        "instance_uuid": str(uuid.UUID(int=number)),
        "recommended_action": action,
        "withheld": None,
        "recovery_attempt": int(action == "recover"),
        **dict.fromkeys(("occurred_at", "raised_at", "suspected_at", "last_ack_at"), now),
    }
    return a_fault(str(uuid.uuid4()), **{**values, **changed})


def cleared(fault: Fault) -> Fault:
    """It answers again."""
    return life.cleared(fault, Resolution.RECOVERED, datetime.now(timezone.utc))


def short(lines: list[dict[str, Any]], *faults: Fault) -> list[str]:
    """What a reporter was told of these faults, in order."""
    names = {fault.fault_id: chr(ord("A") + number) for number, fault in enumerate(faults)}
    return [f"{names[one['fault_id']]}{one['sequence']} {one['change']}" for one in lines if one["fault_id"] in names]


def wait_for(what: Callable[[], bool], timeout: float = 20.0) -> float:
    """Until it holds."""
    return wait_until(what, timeout, "what was expected", every=0.02)


def test_each_reporter_is_told_of_each_change(site: Site, figure: Figure) -> None:
    """Raise, update, clear: in order, once, to each that wants it; acknowledged; answered for while it is open."""
    workers, consumer = site.workers("cn1"), site.consumer()
    first, second = new(1), new(2, action="alarm")
    began = time.time()
    workers.publish(first, second)
    wait_for(lambda: len(consumer.told()) == 2 and len(consumer.told("recovering")) == 1)
    figure("fault published to reporter told", 1000 * (consumer.told()[0]["at"] - began), "ms", 2000.0)
    active = [parse_fault(one) for one in site.api().active_faults()]
    assert active == [first, second]
    assert site.api().active_faults()[0] == fault_payload(first), "as the worker itself serialises it"
    worse = replace(first, sequence=2, confidence="low", occurred_at=datetime.now(timezone.utc))
    workers.publish(worse, cleared(worse), cleared(second))
    wait_for(lambda: len(consumer.told()) == 5)
    assert short(consumer.told(), first) == ["A1 raised", "A2 updated", "A3 cleared"]
    assert short(consumer.told(), second) == ["A1 raised", "A2 cleared"]
    assert site.api().active_faults() == []
    wait_for(lambda: site.messages() == 0)
    assert consumer.stop() < 2.0


def test_strange_notifications(site: Site) -> None:
    """Duplicate, reordered, of a newer minor version, and nonsense: each has its outcome, and none stops the others."""
    workers, consumer = site.workers("cn1"), site.consumer()
    fault = new(1, action="alarm")
    later = replace(fault, sequence=3, confidence="low")
    workers.publish(fault, fault, later, replace(fault, sequence=2), later)
    newer = fault_payload(replace(fault, fault_id=str(uuid.uuid4()), instance_uuid=str(uuid.UUID(int=7))))
    newer["vmhb_object.version"] = "1.7"
    newer["vmhb_object.data"] |= {"cause": "demons", "novelty": {"x": 1}}
    workers.send("vmhb.fault.raised", newer)
    for nonsense in (
        None,
        "text",
        {"vmhb_object.name": "FaultPayload"},
        {**newer, "vmhb_object.version": "2.0"},
        {**newer, "vmhb_object.data": {**newer["vmhb_object.data"], "sequence": "many"}},
        {**newer, "vmhb_object.data": {**newer["vmhb_object.data"], "fault_id": "x" * 9999}},
        {**newer, "vmhb_object.data": {**newer["vmhb_object.data"], "evidence": {"x": "y" * 300000}}},
    ):
        workers.send("vmhb.fault.raised", nonsense)
    workers.send("vmhb.worker.alive", {"vmhb_object.name": "WorkerPayload"})
    workers.send("vmhb.of.the.future", {})
    over = cleared(later)
    workers.publish(over, over, life.reminded(over, datetime.now(timezone.utc)), replace(later, sequence=9))
    wait_for(lambda: len(consumer.told()) == 4)
    wait_for(lambda: site.messages() == 0)
    assert short(consumer.told(), fault) == ["A1 raised", "A3 updated", "A4 cleared"]
    assert [one["cause"] for one in consumer.told() if one["fault_id"] != fault.fault_id] == ["demons"]
    counts = site.api().about()["counts"]
    assert counts["refused"] == 8, "one line of the log for each"
    assert consumer.said("is ignored") == 8
    outcomes = {name: counts[f"faults.{name}"] for name in ("new", "changed", "duplicate", "old", "final")}
    assert outcomes == {"new": 2, "changed": 2, "duplicate": 3, "old": 1, "final": 2}


def test_a_reporter_that_is_down_delays_nobody(site: Site) -> None:
    """Down for the whole life of a fault: the others are told at once, and it gets raise and clear once it is back."""
    workers, consumer = site.workers("cn1"), site.consumer()
    consumer.tell("fail")
    fault = new(1)
    workers.publish(fault)
    wait_for(lambda: len(consumer.told("recovering")) == 1)
    workers.publish(cleared(fault))
    wait_for(lambda: site.messages() == 0)
    wait_for(lambda: consumer.said("recording: ") > 0)
    assert consumer.told() == []
    assert consumer.said("the backend is down") == 1, "said once, however often it is tried"
    consumer.tell("")
    wait_for(lambda: len(consumer.told()) == 2, MAX_PAUSE + 20)
    assert short(consumer.told(), fault) == ["A1 raised", "A2 cleared"]
    assert consumer.told()[0]["latest"] == 2, "it could have changed its mind"


def test_a_reporter_that_is_slow_delays_nobody(site: Site) -> None:
    """It hangs with one fault in its hands: the others are told of that one and of the next, and what is received is
    acknowledged."""
    workers, consumer = site.workers("cn1"), site.consumer()
    consumer.tell("hang 15")
    workers.publish(fault := new(1), new(2))
    wait_for(lambda: len(consumer.told("recovering")) == 2, 5)
    workers.publish(cleared(fault))
    wait_for(lambda: site.messages() == 0, 5)
    assert consumer.told() == []
    consumer.tell("")
    wait_for(lambda: len(consumer.told()) == 3, 40)
    assert short(consumer.told(), fault) == ["A1 raised", "A2 cleared"]


def test_stopped_amid_deliveries(site: Site) -> None:
    """Of a consumer with both halves, one ends while the other does: the delivery that is under way is finished, no
    other is begun, and no other consumer would wait for what was this one's."""
    workers, consumer = site.workers("cn1"), site.consumer(consumer={"halves": "instances, faults"})
    wait_for(lambda: consumer.said("listening to vmhb_instances") == 1)
    consumer.tell("hang 0.4")
    workers.publish(*(new(number) for number in range(1, 7)))
    wait_for(lambda: len(consumer.told("recovering")) == 6)
    told = len(consumer.told())
    consumer.stop()
    assert len(consumer.told()) <= told + 2, "one may have been finished, and another begun, since we looked"
    with sqlite3.connect(consumer.folder / "state" / FILE) as database:
        assert database.execute("SELECT count(*) FROM vmhb_members").fetchone() == (0,)
        (waiting,) = database.execute("SELECT count(*) FROM vmhb_outbox WHERE target = 'recording'").fetchone()
    assert waiting == 6 - len(consumer.told()), "what was told is written down"


def test_what_a_reporter_wants(site: Site) -> None:
    """It is tried again when it says, with its memo; what it gives up is said and kept; then the next has its turn."""
    workers, consumer = site.workers("cn1"), site.consumer()
    consumer.tell("again 0.1")
    fault = new(1, action="alarm")
    workers.publish(fault)
    wait_for(lambda: site.api().about()["counts"].get("postponed.recording", 0) >= 3)
    consumer.kill()
    consumer.start()
    consumer.tell("")
    wait_for(lambda: len(consumer.told()) == 1)
    assert consumer.told()[0]["memo"]["tries"] >= 3, "also over a restart"
    consumer.tell("give up")
    worse = replace(fault, sequence=2, confidence="low")
    workers.publish(worse)
    wait_for(lambda: consumer.said("given up: the backend says that this is nonsense") == 1)
    consumer.tell("")
    workers.publish(cleared(worse))
    wait_for(lambda: len(consumer.told()) == 2)
    assert short(consumer.told(), fault) == ["A1 raised", "A3 cleared"]
    asked = run(consumer, "--status")
    assert asked.returncode == 0, asked.stderr
    told = json.loads(asked.stdout)
    assert told.keys() == site.api().about().keys()
    assert told["undelivered"] == [["recording", "given up", 1]]
    assert told["counts"]["given_up.recording"] == 1


@pytest.mark.parametrize("point", ["consumer.taken", "consumer.claimed", "consumer.granted", "consumer.delivered"])
def test_killed_between_receiving_and_posting(site: Site, point: str) -> None:
    """kill -9 there: nothing is lost, the order is kept, and the recovery is posted once."""
    workers, consumer = site.workers("cn1"), site.consumer(start=False)
    consumer.start({"VMHB_CRASH_AT": point})
    fault = new(1)
    workers.publish(fault)
    assert consumer.wait(20) == -9
    workers.publish(cleared(fault)) if point == "consumer.taken" else None
    consumer.start()
    if point != "consumer.taken":
        wait_for(lambda: bool(consumer.told("recovering")))
        workers.publish(cleared(fault))
    wait_for(lambda: any(one["change"] == "cleared" for one in consumer.told()))
    # At least once, in order: what was done when it died may be done again.
    once = list(dict.fromkeys(short(consumer.told(), fault)))
    assert once == ["A1 raised", "A2 cleared"]
    assert len(consumer.told("recovering")) <= 1
    wait_for(lambda: site.messages() == 0)


def test_broker_restarted(site: Site) -> None:
    """What is published before, while it is away and after: all of it arrives, in order."""
    workers, consumer = site.workers("cn1"), site.consumer()
    faults = [new(number, action="alarm") for number in range(1, 21)]
    workers.publish(*faults)
    site.broker.restart()
    for fault in faults:  # a worker keeps what the broker does not take: here, until it takes it
        _patiently(workers, cleared(fault))
    wait_for(lambda: len({(one["fault_id"], one["sequence"]) for one in consumer.told()}) == 40, 60)
    for fault in faults:
        assert list(dict.fromkeys(short(consumer.told(), fault))) == ["A1 raised", "A2 cleared"]
    wait_for(lambda: site.messages() == 0, 30)


def _patiently(workers: FaultWorkers, fault: Fault) -> None:
    for _ in range(100):
        try:
            return workers.publish(fault)
        except Exception:
            time.sleep(0.3)
    raise AssertionError("the broker does not come back")


def test_the_brake_holds_two_hundred_faults(site: Site, figure: Figure) -> None:
    """200 at once on 20 hosts: all are known at once, recoveries are let through at their rate, none twice."""
    workers = site.workers(*(f"cn{number}" for number in range(20)))
    limits = {"max_concurrent": 10, "rate": 30, "recovery_time": 86400}
    consumer = site.consumer(recovery=limits)
    faults = [
        new(number, host=f"cn{number % 20}", cause="qemu_failed", project_id=f"p{number % 2}")
        for number in range(1, 201)
    ]
    began = time.time()
    workers.publish(*faults)
    wait_for(lambda: len(consumer.told()) == 200, 60)
    figure("200 faults at once, all told to a reporter", time.time() - began, "s", 60.0)
    wait_for(lambda: len(consumer.told("recovering")) == 10, 30)
    assert consumer.said("recoveries are held: 10 recoveries are under way") == 1
    time.sleep(3)
    assert len(consumer.told("recovering")) == 10
    assert "under way" in site.api().about()["held"]
    done = [one["fault_id"] for one in consumer.told("recovering")]
    workers.publish(*(cleared(fault) for fault in faults if fault.fault_id in done))
    # The ten are recovered: others have their turn, as far as the rate lets them.
    wait_for(lambda: len(consumer.told("recovering")) == 20, 40)
    keys = [tuple(one["key"]) for one in consumer.told("recovering")]
    assert len(set(keys)) == len(keys) == 20
    figure("lines of the log for it", sum(1 for _ in consumer.log.open()), "lines", 2000)


def test_an_instance_has_a_budget(site: Site) -> None:
    """One that dies again and again is recovered so often, and then left to somebody."""
    workers = site.workers("cn1")
    consumer = site.consumer(recovery={"recoveries": 2})
    for _ in range(3):
        fault = new(1)
        workers.publish(fault)
        wait_for(lambda known=fault.fault_id: any(one["fault_id"] == known for one in consumer.told()))  # type: ignore[misc]
        time.sleep(0.5)
        workers.publish(cleared(fault))
    wait_for(lambda: consumer.said("withheld: the instance had 2 recoveries") == 1)
    assert len(consumer.told("recovering")) == 2


def test_hours_old(site: Site) -> None:
    """A host that comes back delivers a `recover` of hours ago: its worker is asked first, and nothing comes of it."""
    workers, consumer = site.workers("back"), site.consumer()
    then = datetime.now(timezone.utc) - timedelta(hours=3)
    over = new(1, host="back", occurred_at=then, raised_at=then)
    workers.shown["back"][str(over.instance_uuid)] = {"state": "alive", "fault": None}
    workers.publish(over)
    wait_for(lambda: consumer.said("withheld: the worker on back does not know of the fault any more") == 1)
    still = new(2, host="back", occurred_at=then, raised_at=then)
    workers.publish(still)
    wait_for(lambda: len(consumer.told("recovering")) == 1)
    assert consumer.told("recovering")[0]["fault_id"] == still.fault_id
    workers.publish(new(3, host="gone", occurred_at=then, raised_at=then))
    wait_for(lambda: consumer.said("not confirmed: the worker on gone does not answer") == 1)
    assert len(consumer.told("recovering")) == 1


def test_who_answers_is_not_recovered(site: Site) -> None:
    """However young its fault: it answered while the recovery was on its way. When it falls silent again, it is."""
    workers, consumer = site.workers("cn1"), site.consumer()
    fault = new(1)
    silent = {"state": "silent", "answered_since_miss": False, "fault": {"fault_id": fault.fault_id}}
    shown = workers.shown["cn1"]
    shown[str(fault.instance_uuid)] = {**silent, "state": "alive", "answered_since_miss": True}
    workers.publish(fault)
    wait_for(lambda: consumer.said("not now: it has answered since its last miss, the worker on cn1 says") == 1)
    assert consumer.told("recovering") == []
    shown[str(fault.instance_uuid)] = silent
    wait_for(lambda: len(consumer.told("recovering")) == 1, 30)


def test_a_drill_leads_to_nothing(site: Site) -> None:
    """Who tells is told of it, who acts is not."""
    workers, consumer = site.workers("cn1"), site.consumer()
    workers.publish(new(1, drill=True))
    wait_for(lambda: len(consumer.told()) == 1)
    time.sleep(1)
    assert consumer.told("recovering") == []


def test_one_open_fault_per_guest_and_channel(site: Site) -> None:
    """Without a Nova to ask, the newest raise is believed; the other is closed, and everybody hears of that."""
    workers, reader = site.workers("old", "new"), site.reader("vitrage_notifications")
    consumer = site.consumer(vmhb_notifications={"topics": "vmhb_notifications, vitrage_notifications"})
    earlier = datetime.now(timezone.utc) - timedelta(seconds=20)
    first, second = new(1, host="old", raised_at=earlier), new(1, host="new")
    workers.publish(first)
    wait_for(lambda: len(consumer.told()) == 1)
    workers.publish(second)
    told = reader.wait_fault("cleared", str(first.instance_uuid), 20)
    assert told.publisher_id.startswith("nova-vmhb-consumer:faults-")
    assert (told.fault_id, told.sequence, told.resolution) == (first.fault_id, 2, "superseded")
    wait_for(lambda: len(consumer.told()) == 3)
    assert short(consumer.told(), first, second) == ["A1 raised", "B1 raised", "A2 cleared"]
    workers.publish(life.reminded(first, datetime.now(timezone.utc)), first)
    wait_for(lambda: site.messages() == 0)
    assert [parse_fault(one).fault_id for one in site.api().active_faults()] == [second.fault_id]


def test_reminders_stopped(site: Site) -> None:
    """Their workers are asked before anything is closed; one that does not answer is no reason."""
    workers = site.workers("cn1")
    consumer = site.consumer(consumer={"reminder_interval": 1})
    kept, answers, unwatched, mute = (
        new(number, host=host, action="alarm") for number, host in ((1, "cn1"), (2, "cn1"), (3, "cn1"), (4, "mute"))
    )
    workers.shown["cn1"] = {
        str(kept.instance_uuid): {"state": "silent", "fault": {"fault_id": kept.fault_id}},
        str(answers.instance_uuid): {"state": "alive", "fault": None},
    }
    workers.publish(kept, answers, unwatched, mute)
    wait_for(lambda: sum(one["change"] == "cleared" for one in consumer.told()) == 2, 30)
    wait_for(lambda: consumer.said("stays: the worker on mute does not answer") > 0, 30)
    ended = {one["fault_id"]: one["resolution"] for one in consumer.told() if one["change"] == "cleared"}
    assert ended == {answers.fault_id: "recovered", unwatched.fault_id: "unmonitored"}
    assert {parse_fault(one).fault_id for one in site.api().active_faults()} == {kept.fault_id, mute.fault_id}
    assert ("cn1", str(kept.instance_uuid)) in workers.asked


def test_a_worker_is_lost_and_found(site: Site, figure: Figure) -> None:
    """One that is silent and does not answer; said again like any other fault; over with its next sign of life."""
    workers, reader = site.workers("talks"), site.reader("vitrage_notifications")
    consumer = site.consumer(
        consumer={"reminder_interval": 2}, vmhb_notifications={"topics": "vmhb_notifications, vitrage_notifications"}
    )
    began = datetime.now(timezone.utc)
    workers.alive("gone", began, 1)
    workers.alive("talks", began, 1)
    silent = time.monotonic()

    def lost(n: Any) -> bool:
        return bool(n.event_type == "vmhb.fault.raised" and n.host == "gone")

    raised = reader.wait_for("worker_lost", lost, 40)
    figure("worker's last sign (every 1 s) to worker_lost", raised.at - silent, "s", 20.0)
    assert (raised.cause, raised.instance_uuid, raised.recommended_action) == ("worker_lost", None, "alarm")
    reader.wait_for("reminder", lambda n: n.event_type == "vmhb.fault.updated" and n.host == "gone", 20)
    workers.alive("gone", began, 2)
    over = reader.wait_for("clear", lambda n: n.event_type == "vmhb.fault.cleared" and n.host == "gone", 20)
    assert (over.fault_id, over.resolution) == (raised.fault_id, "recovered")
    assert not [n for n in reader.read if n.host == "talks"], "it answered when it was asked"
    assert consumer.said("the worker on talks answers, and its signs of life don't arrive") > 0


def test_one_consumer_for_sqlite(site: Site) -> None:
    """A second one with the same file, and one with another file on the same broker, refuse with a clear error."""
    first = site.consumer()
    path = first.folder / "state"
    second = site.consumer(start=False, DEFAULT={"state_path": path})
    second.start(wait=False)
    assert second.wait(30) == 1
    assert second.said("another consumer uses") == 1
    other = site.consumer(start=False)
    other.start(wait=False)
    assert other.wait(30) == 1
    assert other.said("keeps faults in another database than ours") == 1
    assert not first.ended


def test_queues_unlike_the_clouds(site: Site) -> None:
    """Flags of queues that are not those that everybody else has: a clear error at start, and no end in itself."""
    workers = site.workers()
    workers.publish(new(1))
    consumer = FaultConsumer(site.folder, site.url.partition("?")[0])
    site.consumers.append(consumer)
    consumer.start(listens=False)
    wait_for(
        lambda: consumer.said("with durable = 'true', and we ask for 'false': set [oslo_messaging_rabbit]") > 0, 30
    )
    time.sleep(1)
    assert not consumer.ended
    checked = run(consumer, "--check-config")
    assert checked.returncode == 1
    assert "[vmhb_notifications] topics: vmhb_notifications of " in checked.stderr
    assert "set [oslo_messaging_rabbit] amqp_durable_queues" in checked.stderr


def test_check_config(site: Site) -> None:
    """What runs is told to be good."""
    consumer = site.consumer(start=False)
    consumer.write_config()
    (consumer.folder / "state").mkdir()
    checked = run(consumer, "--check-config")
    assert (checked.returncode, checked.stdout) == (0, "configuration is good\n"), checked.stderr
