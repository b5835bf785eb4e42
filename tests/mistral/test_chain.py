"""From a fault on RabbitMQ to a workflow that Mistral ran, and to the one that undoes it: by its event engine, which is
only configured, and by our consumer, which starts workflows itself.

One Mistral serves all tests. Each says what it wants to find there: `triggers`, or `no_triggers`."""

from __future__ import annotations

import pathlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.conftest import Figure
from tests.fakes import a_fault
from tests.lab.broker import Broker
from tests.lab.processes import wait_until
from tests.stage.cloud import PASSWORD, Cloud
from tests.stage.control_plane import FaultConsumer, FaultWorkers
from tests.stage.mistral import Mistral
from tests.stage.receiver import Receiver
from vmhb_common.model.fault import Fault, Resolution, cleared

ROOT = pathlib.Path(__file__).parent.parent.parent
#: Of Mistral, on a busy machine.
LONG = 60.0
#: Mistral's queue for all triggers on our exchange.
POOL = "mistral-vmhb-events"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A RabbitMQ, with our policies."""
    with Broker() as one:
        ours = (ROOT / "etc/rabbitmq/vmhb-policies.json").read_text()
        file = tmp_path_factory.mktemp("broker") / "policies.json"
        file.write_text(ours.replace('"vhost": "/"', f'"vhost": "{one.vhost}"'))
        one.ctl("import_definitions", str(file))
        yield one


@pytest.fixture(scope="module")
def url(broker: Broker) -> str:
    """Mistral's queues are as durable as ours, or it would be refused our exchange."""
    return f"{broker.transport_url}?amqp_durable_queues=true"


@pytest.fixture(scope="module")
def mistral(url: str) -> Iterator[Mistral]:
    """One for all."""
    with Mistral(url) as one:
        yield one


@pytest.fixture
def workers(url: str) -> Iterator[FaultWorkers]:
    """Publish faults, and stand by them when they are asked."""
    one = FaultWorkers(url, a_fault().host)
    yield one
    one.close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Whom the sample workflow tells."""
    with Receiver() as one:
        yield one


def listeners(broker: Broker) -> list[str]:
    """Of Mistral, on our events: the channel of each."""
    said = broker.ctl("list_consumers", "-p", broker.vhost, "--no-table-headers", "queue_name", "channel_pid")
    return [channel for queue, channel in (line.split("\t") for line in said.splitlines()) if queue == POOL]


def messages(broker: Broker) -> int | None:
    """That wait for Mistral's listener; None: there is no queue."""
    said = broker.ctl("list_queues", "-p", broker.vhost, "--no-table-headers", "name", "messages")
    waiting = dict(line.split("\t") for line in said.splitlines()).get(POOL)
    return None if waiting is None else int(waiting)


@pytest.fixture
def triggers(mistral: Mistral, receiver: Receiver, broker: Broker) -> None:
    """etc/mistral/triggers.sh has run, and Mistral listens, with one listener."""
    if not mistral.ask("GET", "/event_triggers")["event_triggers"]:
        mistral.triggers(url=receiver.url)
    wait_until(lambda: len(listeners(broker)) == 1, LONG, "Mistral listens", every=0.5)


def forget_triggers(mistral: Mistral, broker: Broker) -> None:
    """As an operator should: one by one, each after the listener without the last one is there."""
    left = [one["id"] for one in mistral.ask("GET", "/event_triggers")["event_triggers"]]
    while left:
        before = listeners(broker)
        mistral.ask("DELETE", f"/event_triggers/{left.pop()}")

        def settled(number: int = min(len(left), 1), before: list[str] = before) -> bool:
            now = listeners(broker)
            return len(now) == number and now != before

        wait_until(settled, LONG, "Mistral listens to what is left", every=0.5)


@pytest.fixture
def no_triggers(mistral: Mistral, broker: Broker) -> None:
    """The sample workflow is there, and no trigger starts it; nothing is left of those that there may have been."""
    mistral.workflow()
    forget_triggers(mistral, broker)
    if messages(broker) is not None:
        broker.ctl("delete_queue", "-p", broker.vhost, POOL)


def fresh(age: float = 0.0, **changed: Any) -> Fault:
    """Raised so many seconds ago."""
    moment = datetime.now(timezone.utc) - timedelta(seconds=age)
    fields = {"suspected_at": moment, "raised_at": moment, "occurred_at": moment, "instance_uuid": str(uuid.uuid4())}
    return a_fault(str(uuid.uuid4()), **{**fields, **changed})


def over(fault: Fault) -> Fault:
    """Its clear."""
    return cleared(fault, Resolution.RECOVERED, datetime.now(timezone.utc))


def done(mistral: Mistral, fault: Fault, *expected: str) -> list[dict[str, Any]]:
    """Wait until workflows ended that did this about the fault, in this order."""

    def ended() -> bool:
        found = mistral.executions(fault.fault_id)
        assert all(one["state"] == "SUCCESS" for one in found), found
        return len(found) >= len(expected)

    wait_until(ended, LONG, f"workflows did {expected}", every=0.2)
    found = mistral.executions(fault.fault_id)
    assert sorted(one["output"]["done"] for one in found) == sorted(expected)
    return found


def posted(receiver: Receiver, fault: Fault, change: str) -> float:
    """Wait until the workflow has told of it; when."""

    def found(one: Any) -> bool:
        body = one.body
        return bool(body["event_type"] == f"vmhb.fault.{change}" and body["fault"]["fault_id"] == fault.fault_id)

    return receiver.wait(found, LONG).at


def test_event_engine(
    mistral: Mistral, triggers: None, workers: FaultWorkers, receiver: Receiver, figure: Figure
) -> None:
    """Only configured: the sample workflow runs for the raise, and for the clear, and knows all of the fault."""
    workers.publish(warm := fresh())
    posted(receiver, warm, "raised")
    fault = fresh()
    began = time.monotonic()
    workers.publish(fault)
    figure("Mistral, event engine: raised to the workflow's action", posted(receiver, fault, "raised") - began, "s")
    began = time.monotonic()
    workers.publish(over(fault))
    figure("Mistral, event engine: cleared to the workflow's action", posted(receiver, fault, "cleared") - began, "s")
    for one in done(mistral, fault, "raised", "cleared"):
        assert one["output"]["instance_uuid"] == fault.instance_uuid


def test_the_pool_is_bounded(broker: Broker, triggers: None) -> None:
    """Mistral's queue of our events grows while Mistral is away: our policies bound it, and it refuses nothing, since
    that would keep our events from all others."""
    said = broker.ctl("list_queues", "-p", broker.vhost, "--no-table-headers", "name", "policy")
    assert dict(line.split("\t") for line in said.splitlines())[POOL] == "vmhb-mistral"


def test_what_is_old_and_what_is_a_drill(mistral: Mistral, triggers: None, workers: FaultWorkers) -> None:
    """The sample workflow looks at the event's age, as Mistral does not; and acts on no drill. A cause that it does not
    know is none of its affair."""
    old, drill, new = fresh(age=3600), fresh(drill=True), fresh(cause="guest_silent")
    workers.publish(old, drill, new)
    done(mistral, old, "nothing, it is too old")
    done(mistral, drill, "nothing")
    done(mistral, new, "raised")
    workers.publish(over(new))
    done(mistral, new, "raised", "cleared")


def test_the_pool_outlives_its_triggers(
    mistral: Mistral, broker: Broker, triggers: None, workers: FaultWorkers
) -> None:
    """Mistral's queue stays, and fills, once nobody listens: whoever deletes the last trigger deletes it as well."""
    forget_triggers(mistral, broker)
    workers.publish(fresh())
    wait_until(lambda: messages(broker) == 1, LONG, "it waits", every=0.2)
    assert listeners(broker) == []
    broker.ctl("delete_queue", "-p", broker.vhost, POOL)


def test_event_engine_down(mistral: Mistral, triggers: None, workers: FaultWorkers) -> None:
    """What is raised and cleared meanwhile waits in RabbitMQ, in the pool's queue; what is no fault of ours harms
    nothing."""
    mistral.kill()
    fault = fresh()
    workers.send("vmhb.fault.raised", {"not": "ours"})
    workers.publish(fault, over(fault))
    mistral.start()
    done(mistral, fault, "raised", "cleared")


def consumer(folder: pathlib.Path, url: str, mistral: Mistral, **options: object) -> FaultConsumer:
    """With our reporter; not started."""
    given = {"auth_type": "none", "endpoint_override": mistral.url, "workflow": "vmhb_fault", **options}
    return FaultConsumer(
        folder, url, options={"consumer": {"reporters": "recording, mistral, log"}, "reporter_mistral": given}
    )


def heard(mine: FaultConsumer, fault: Fault) -> int:
    """How many changes of it this consumer knows: its queue may have had others' faults as well."""
    return sum(line["fault_id"] == fault.fault_id for line in mine.told())


def test_reporter(
    mistral: Mistral, no_triggers: None, url: str, workers: FaultWorkers, tmp_path: pathlib.Path, figure: Figure
) -> None:
    """Consumer and reporter: the same workflow runs, once for the raise and once for the clear."""
    mine = consumer(tmp_path, url, mistral)
    mine.start()
    try:
        workers.publish(warm := fresh())
        done(mistral, warm, "raised")
        fault = fresh()
        began = time.monotonic()
        workers.publish(fault, fault)
        done(mistral, fault, "raised")
        figure("Mistral, reporter: raised to the end of the workflow", time.monotonic() - began, "s")
        began = time.monotonic()
        workers.publish(over(fault))
        done(mistral, fault, "raised", "cleared")
        figure("Mistral, reporter: cleared to the end of the workflow", time.monotonic() - began, "s")
    finally:
        mine.stop()


def test_reporter_while_mistral_is_down(
    mistral: Mistral, no_triggers: None, url: str, workers: FaultWorkers, tmp_path: pathlib.Path
) -> None:
    """Down for the whole life of a fault, and the consumer killed meanwhile: it is told of raise and clear, in this
    order, once each. What recovers is not started any more."""
    mine = consumer(tmp_path, url, mistral, recovery_workflow="vmhb_fault")
    mine.start()
    try:
        mistral.kill()
        fault = fresh(recommended_action="recover", withheld=None, recovery_attempt=1)
        workers.publish(fault)
        wait_until(lambda: mine.said("mistral: ") > 0, LONG, "it finds Mistral away")
        mine.kill()
        mine.start()
        workers.publish(over(fault))
        wait_until(lambda: heard(mine, fault) == 2, LONG, "the clear is there")
        mistral.start()
        found = done(mistral, fault, "raised", "cleared")
        assert [one["output"]["done"] for one in found] == ["raised", "cleared"]
        wait_until(lambda: mine.said("withheld: no recovery") == 1, LONG, "the recovery is withheld")
        assert len(mistral.executions(fault.fault_id)) == 2
    finally:
        mine.stop()


def test_recovery_once(
    mistral: Mistral, no_triggers: None, url: str, workers: FaultWorkers, tmp_path: pathlib.Path
) -> None:
    """One execution for each attempt, whatever is repeated, and whoever is restarted in between: even where Mistral
    has removed the execution meanwhile."""
    mine = consumer(tmp_path, url, mistral, workflow="", recovery_workflow="vmhb_fault")
    mine.start()
    try:
        fault = fresh(recommended_action="recover", withheld=None, recovery_attempt=1)
        workers.publish(fault)
        (first,) = done(mistral, fault, "raised")
        # Until Mistral has answered, and that is written down, it is Mistral that knows the execution's id. Then it
        # has heard of the fault, and what is handed on is an update.
        wait_until(lambda: mine.said(f"fault {fault.fault_id} (1) updated delivered") == 1, LONG, "it is written down")
        mistral.ask("DELETE", f"/executions/{first['id']}")
        mine.kill()
        mine.start()
        workers.publish(replace(fault, sequence=2, reason="again", occurred_at=datetime.now(timezone.utc)))
        wait_until(lambda: heard(mine, fault) == 2, LONG, "the reminder is there")
        workers.publish(marker := fresh(recommended_action="recover", withheld=None, recovery_attempt=1))
        done(mistral, marker, "raised")
        assert mistral.executions(fault.fault_id) == []
    finally:
        mine.stop()


def test_credentials_wrong_then_right(
    mistral: Mistral, no_triggers: None, url: str, workers: FaultWorkers, tmp_path: pathlib.Path
) -> None:
    """Keystone refuses us, and then does not: without a restart, and nothing of what came meanwhile is lost."""
    with Cloud() as cloud:
        access = {"auth_type": "password", "auth_url": f"{cloud.url}/v3", "username": "vmhb", "password": PASSWORD}
        access |= {"project_name": "service", "user_domain_id": "default", "project_domain_id": "default"}
        cloud.password = "another"
        mine = consumer(tmp_path, url, mistral, **access)
        mine.start()
        try:
            fault = fresh()
            workers.publish(fault, over(fault))
            wait_until(lambda: mine.said("mistral: instance") > 0 and heard(mine, fault) == 2, LONG, "it is refused")
            assert mistral.executions(fault.fault_id) == []
            cloud.password = PASSWORD
            found = done(mistral, fault, "raised", "cleared")
            assert [one["output"]["done"] for one in found] == ["raised", "cleared"]
        finally:
            mine.stop()
