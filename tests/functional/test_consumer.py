"""The consumer on a real RabbitMQ: Nova publishes as Nova does, workers' RPC servers note what arrives.

Each test has virtual hosts of its own; what a broker holds is asked of the broker.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import amqp
import pytest
from oslo_config import cfg

from tests.conftest import Figure, Repetitions
from tests.fakes import a_fault
from tests.lab.broker import Broker
from tests.lab.processes import wait_until
from tests.stage.control_plane import FaultWorkers, Hosts, Nova, NovaConsumer, Told
from tests.stage.nova import NOON, Message, notification, samples
from vmhb_common.app.ration import MOST
from vmhb_common.model.fault import Change
from vmhb_consumer.nova_notification import parse
from vmhb_consumer.nova_operations import Configure, EndSilence, ExpectSilence, decide
from vmhb_consumer.reporters.aodh import AodhReporter
from vmhb_consumer.reporters.base import Case
from vmhb_worker.core.announced_silences import Hint, Hints

pytestmark = pytest.mark.patient

#: SIGTERM is obeyed within this time (seconds), whatever hangs.
END = 2.0


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """Of Nova and of the workers."""
    with Broker() as one:
        yield one


@pytest.fixture(scope="module")
def other_broker() -> Iterator[Broker]:
    """Of another cell, or of the workers alone."""
    with Broker() as one:
        yield one


@dataclass
class Site:
    """Virtual hosts of one test, and what runs in them."""

    folder: Path
    name: str
    consumers: list[NovaConsumer] = field(default_factory=list)
    hosts: list[Hosts] = field(default_factory=list)
    vhosts: list[tuple[Broker, str]] = field(default_factory=list)

    def url(self, broker: Broker, suffix: str = "") -> str:
        """Of a virtual host of this test; made, where it is not there."""
        vhost = f"{self.name}{suffix}"
        if (broker, vhost) not in self.vhosts:
            everything = {"configure": ".*", "write": ".*", "read": ".*"}
            permissions = [{"user": broker.user, "vhost": vhost, **everything}]
            definitions = self.folder / "vhost.json"
            definitions.write_text(json.dumps({"vhosts": [{"name": vhost}], "permissions": permissions}))
            broker.ctl("import_definitions", str(definitions))
            self.vhosts.append((broker, vhost))
        return f"{broker.transport_url.rpartition('/')[0]}/{vhost}?amqp_durable_queues=true"

    def consumer(self, url: str, *nova_urls: str, start: bool = True, **options: object) -> NovaConsumer:
        """One that runs and listens. options: of [nova_notifications]."""
        one = NovaConsumer(self.folder, url, nova_urls, {"nova_notifications": options} if options else None)
        self.consumers.append(one)
        if start:
            one.start()
            wait_until(lambda: one.said("listening to") > 0, 30, "it listens")
        return one

    def workers(self, url: str, *names: str) -> Hosts:
        """Of these hosts."""
        one = Hosts(url, *names)
        self.hosts.append(one)
        return one

    def queues(self, broker: Broker, suffix: str = "") -> dict[str, int]:
        """Queue -> messages, acknowledged or not."""
        said = broker.ctl("list_queues", "-p", f"{self.name}{suffix}", "--no-table-headers", "name", "messages")
        return {name: int(number) for name, number in (line.split() for line in said.splitlines())}


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """For one test."""
    one = Site(tmp_path, re.sub(r"\W", "-", request.node.name))
    yield one
    for consumer in one.consumers:
        if not consumer.ended:
            consumer.stop()
    for hosts in one.hosts:
        hosts.close()


def asked_for(message: Message) -> Message:
    """The same, of a flavor that asks for monitoring."""
    flavor = message.data.get("flavor") if isinstance(message.payload, dict) else None
    if flavor:
        flavor["nova_object.data"]["extra_specs"] = {"hw:heartbeat": "true", "hw:heartbeat_interval": "2"}
    return message


def expected(messages: list[Message]) -> list[str]:
    """What is to arrive, by the table, which tests/unit holds against Nova's records."""
    lines = []
    for message in messages:
        if message.event_type.startswith("instance."):
            for cast in decide(parse(*message.arguments)):
                match cast:
                    case Configure():
                        lines.append(f"{cast.host}: configure")
                    case ExpectSilence():
                        lines.append(f"{cast.host}: expect {cast.key}")
                    case EndSilence():
                        lines.append(f"{cast.host}: end {cast.key}")
    return lines


def of(told: list[Told], host: str) -> list[str]:
    """What one host was told, in order."""
    return [str(one) for one in told if one.host == host]


def pair(number: int, host: str = "node1") -> tuple[Message, Message]:
    """Start and end of a pause, of an instance and a request of its own."""
    who, request, publisher = str(uuid.UUID(int=number + 1)), f"req-{number}", f"nova-compute:{host}"
    return (
        notification("pause", "start", publisher=publisher, uuid=who, request_id=request),
        notification("pause", "end", publisher=publisher, uuid=who, request_id=request),
    )


def test_a_recorded_cloud(broker: Broker, site: Site) -> None:
    """All that a real Nova sent, in its order: each worker is told its own in that order, and nothing is stolen."""
    url = site.url(broker)
    messages = sorted((asked_for(one) for one in samples()), key=lambda one: one.metadata["timestamp"])
    lines = expected(messages)
    assert len(lines) > 15
    hosts = site.workers(url, "node1", "node2")
    site.consumer(url)
    Nova(url).publish(*messages)
    told = hosts.wait(len(lines))
    time.sleep(0.5)
    assert len(hosts.told) == len(lines), "and no more"
    for host in ("node1", "node2"):
        assert of(told, host) == [line for line in lines if line.startswith(host)]
    (configured,) = {one.arguments["policy"]["interval"] for one in told if one.method == "configure"}
    assert configured == "2"
    wait_until(lambda: site.queues(broker)["vmhb_instances.info"] == 0, 10, "all are acknowledged", every=0.5)
    assert site.queues(broker)["versioned_notifications.info"] == len(messages)


def test_latency(broker: Broker, site: Site, repetitions: Repetitions, figure: Figure) -> None:
    """From Nova's call to the worker's hands: a hint must be there before Nova has done what it announces."""
    url = site.url(broker)
    hosts = site.workers(url, "node1")
    site.consumer(url)
    nova = Nova(url)
    for number in range(repetitions(30, 300)):
        start, end = pair(number)
        hosts.forget()
        began = time.monotonic()
        nova.publish(start)
        (told,) = hosts.wait(1)
        if number:  # the first waits for connections
            figure("power-off's start event to the worker", 1000 * (told.at - began), "ms", 500.0)
        nova.publish(end)
        hosts.wait(2)


@pytest.mark.long
def test_throughput(broker: Broker, site: Site, figure: Figure) -> None:
    """A backlog, of which one in ten is of a flavor that asks."""
    url = site.url(broker)
    hosts = site.workers(url, "node1")
    nova = Nova(url, ["vmhb_instances"])
    others = [notification("pause", "start", specs={}) for _ in range(9)]
    for number in range(100):
        nova.publish(*others, pair(number)[0])
    consumer = site.consumer(url)
    began = time.monotonic()
    cpu = consumer.cpu
    hosts.wait(100, 60)
    figure("backlog of 1000 notifications, 100 of them for workers", time.monotonic() - began, "s", 30.0)
    figure("CPU of the consumer for it", consumer.cpu - cpu, "s")
    figure("resident memory of the consumer", consumer.rss / 2**20, "MiB", 150.0)


def believed(told: list[Told]) -> set[tuple[str, str]]:
    """Which silences the workers believe in, after all this."""
    hints, wall = Hints(), time.time()
    for one in told:
        if one.method != "configure":
            who, key = one.arguments["instance_uuid"], one.arguments["key"]
            at = one.arguments["observed_at"].timestamp()
            if one.method == "end_silence":
                hints.end(who, key, at)
            else:
                hints.expect(who, key, Hint("", at, at + one.arguments["timeout"]), wall)
    uuids = {one.arguments["instance_uuid"] for one in told}
    return {(who, key) for who in uuids for key in hints.of(who, wall)}


def test_two_replicas_share(broker: Broker, site: Site) -> None:
    """Each notification is worked on by one of them; what overtakes what does no harm."""
    url = site.url(broker)
    hosts = site.workers(url, "node1")
    both = [site.consumer(url), site.consumer(url)]
    open_ended = notification("suspend", "start", uuid=str(uuid.UUID(int=999)), request_id="req-open")
    Nova(url).publish(*itertools.chain(*(pair(number) for number in range(100))), open_ended)
    told = hosts.wait(201)
    time.sleep(0.5)
    assert len(hosts.told) == 201
    assert believed(told) == {(str(uuid.UUID(int=999)), "suspend:req-open")}
    assert all(one.said("told: ") > 20 for one in both)


def test_killed_in_the_middle(broker: Broker, site: Site, figure: Figure) -> None:
    """What was queued is not lost, whatever it was doing; what is told twice does no harm."""
    url = site.url(broker)
    hosts = site.workers(url, "node1")
    consumer = site.consumer(url)
    messages = [message for number in range(300) for message in pair(number)]
    nova = Nova(url, ["vmhb_instances"])
    nova.publish(*messages[:300])
    hosts.wait(50)
    consumer.kill()
    nova.publish(*messages[300:])
    consumer.start()
    wait_until(lambda: len({str(one) for one in hosts.told}) == 600, 60, "everything arrived", every=0.1)
    assert believed(hosts.told) == set()
    figure("told twice, of 600, after kill -9", len(hosts.told) - 600, "casts")
    wait_until(lambda: site.queues(broker)["vmhb_instances.info"] == 0, 10, "all are acknowledged", every=0.5)


def test_stopped_in_the_middle(broker: Broker, site: Site, figure: Figure) -> None:
    """SIGTERM, with a queue before it: another goes on where it was."""
    url = site.url(broker)
    hosts = site.workers(url, "node1")
    consumer = site.consumer(url)
    Nova(url, ["vmhb_instances"]).publish(*(message for number in range(300) for message in pair(number)))
    hosts.wait(50)
    figure("SIGTERM to the end, with a queue before it", consumer.stop(), "s", END)
    assert consumer.wait(1) == 0
    assert len(hosts.told) < 600, "the queue is not worked off before"
    site.consumer(url)
    wait_until(lambda: len({str(one) for one in hosts.told}) == 600, 60, "everything arrived", every=0.1)
    assert believed(hosts.told) == set()
    figure("told twice, of 600, after SIGTERM", len(hosts.told) - 600, "casts")


def test_sigterm_that_another_thread_takes(broker: Broker, site: Site, figure: Figure) -> None:
    """The kernel may hand it to any, and does so on a busy host: it is obeyed all the same, by a consumer at rest."""
    consumer = site.consumer(site.url(broker))
    time.sleep(1)
    figure("SIGTERM to the end, not taken by the main thread", consumer.stop_by_another_thread(), "s", END)
    assert consumer.wait(1) == 0


def test_broker_restart(broker: Broker, site: Site, figure: Figure) -> None:
    """It comes back by itself, and nothing that Nova could publish is lost or left behind unacknowledged."""
    url = site.url(broker)
    hosts = site.workers(url, "node1")
    site.consumer(url)
    nova = Nova(url)
    nova.publish(*pair(0))
    hosts.wait(2)
    broker.restart()
    booted = time.monotonic()
    nova.publish(*pair(1))
    wait_until(lambda: "node1: end pause:req-1" in of(hosts.told, "node1"), 60, "what comes then arrives")
    figure("broker back to a hint at the worker", hosts.told[-1].at - booted, "s", 30.0)
    wait_until(lambda: site.queues(broker)["vmhb_instances.info"] == 0, 30, "all are acknowledged", every=0.5)


def test_a_cell_whose_broker_is_away_delays_no_other(
    broker: Broker, other_broker: Broker, site: Site, figure: Figure
) -> None:
    """Away at the start, frozen in the middle, back again: the other cell does not notice."""
    here, there = site.url(broker), site.url(other_broker)
    nowhere = "rabbit://u:p@127.0.0.1:1/"
    hosts = site.workers(here, "node1", "node2")
    consumer = site.consumer(here, nowhere, there, here)
    wait_until(lambda: consumer.said("listening to") == 2, 30, "it listens to both that are there")
    nova, other_nova = Nova(here), Nova(there)
    other_nova.publish(*pair(0, "node2"))
    hosts.wait(2)
    other_broker.freeze()
    try:
        for number in range(1, 11):
            hosts.forget()
            began = time.monotonic()
            nova.publish(*pair(number))
            told = hosts.wait(2)
            figure("start and end to a worker, another cell frozen", 1000 * (told[-1].at - began), "ms", 1000.0)
    finally:
        other_broker.thaw()
    hosts.forget()
    other_nova.publish(*pair(11, "node2"))
    assert of(hosts.wait(2, 90), "node2") == ["node2: expect pause:req-11", "node2: end pause:req-11"]


def test_the_workers_broker_is_away(broker: Broker, other_broker: Broker, site: Site, figure: Figure) -> None:
    """Notifications wait in Nova's broker, and are told in order once the workers' is back."""
    nova_url, url = site.url(broker), site.url(other_broker)
    hosts = site.workers(url, "node1")
    consumer = site.consumer(url, nova_url)
    nova = Nova(nova_url)
    nova.publish(*pair(0))
    hosts.wait(2)
    other_broker.halt()
    began = time.monotonic()
    nova.publish(*(message for number in range(1, 101) for message in pair(number)))
    figure("publishing 200 notifications meanwhile", time.monotonic() - began, "s", 30.0)
    time.sleep(3)
    other_broker.boot()
    back = time.monotonic()
    told = hosts.wait(202, 90)
    figure("workers' broker back to all told", told[-1].at - back, "s", 60.0)
    lines = list(dict.fromkeys(of(told, "node1")))  # one may have been told twice
    assert lines == [f"node1: {verb} pause:req-{number}" for number in range(101) for verb in ("expect", "end")]
    assert consumer.said("not told: ") == 0


def test_no_worker_there(broker: Broker, site: Site) -> None:
    """A host without a worker costs nobody anything."""
    url = site.url(broker)
    hosts = site.workers(url, "node1")
    site.consumer(url)
    nova = Nova(url)
    nova.publish(*(pair(number, "desert")[0] for number in range(20)), *pair(20))
    assert of(hosts.wait(2, 10), "node1") == ["node1: expect pause:req-20", "node1: end pause:req-20"]


GARBAGE = {
    "not JSON": b"\xff\xfe garbage",
    "empty": b"",
    "a number": b"7",
    "a list": b"[1, 2]",
    "an envelope of nothing": b'{"oslo.version": "2.0", "oslo.message": ""}',
    "an envelope of a list": b'{"oslo.version": "2.0", "oslo.message": "[]"}',
    "an envelope of a number": b'{"oslo.version": "2.0", "oslo.message": "7"}',
    "an envelope of an unknown version": b'{"oslo.version": "9.0", "oslo.message": "{}"}',
    "no fields": b'{"oslo.version": "2.0", "oslo.message": "{}"}',
    "an unknown priority": b'{"oslo.version": "2.0", "oslo.message": "{\\"priority\\": \\"LOUD\\"}"}',
    "a priority that is none": b'{"oslo.version": "2.0", "oslo.message": "{\\"priority\\": 7}"}',
    "a nest": b'{"oslo.version": "2.0", "oslo.message": "' + 500 * b"[" + 500 * b"]" + b'"}',
}


def bad_fields() -> list[Message]:
    """Well-formed, and wrong in one field each."""
    found = []
    values: tuple[Any, ...] = (None, 7, "", "a b\n#", [], {})
    for name, value in itertools.product(("uuid", "host", "request_id", "flavor"), values):
        message = notification("pause", "start")
        message.data[name] = value
        found.append(message)
    found += [Message("nova-compute:two words", "instance.pause.start", {}, {}), Message("x", "y", None, {})]
    huge = notification("pause", "start", metadata={str(number): 1000 * "x" for number in range(3000)})
    huge.data["uuid"] = "huge"
    return [*found, huge, Message("nova-compute:node1", "instance.pause.start", {"nova_object.data": []}, {})]


def test_garbage_and_foreign_messages(broker: Broker, site: Site) -> None:
    """Whoever may write to the queue can send nonsense: it is gone, logged, and what comes after it arrives."""
    url = site.url(broker)
    hosts = site.workers(url, "node1")
    consumer = site.consumer(url)
    nova = Nova(url)
    nova.publish(*pair(0))
    hosts.wait(2)
    with amqp.Connection(
        f"127.0.0.1:{broker.port}", broker.user, broker.password, virtual_host=site.name
    ) as connection:
        channel = connection.channel()
        for body in GARBAGE.values():
            for content_type in ("application/json", "application/octet-stream", "application/x-python-serialize"):
                message = amqp.Message(body, content_type=content_type, content_encoding="utf-8")
                channel.basic_publish(message, exchange="nova", routing_key="vmhb_instances.info")
    nova.publish(*bad_fields(), *pair(77))
    known = {f"node1: {verb} pause:req-77" for verb in ("expect", "end")}
    wait_until(lambda: known <= set(of(hosts.told, "node1")), 60, "what comes after it arrives")
    assert consumer.said("a notification is ignored") >= MOST
    assert consumer.said("more like these are counted, and not said") > 0
    assert not consumer.ended
    wait_until(lambda: site.queues(broker)["vmhb_instances.info"] == 0, 30, "nothing is left", every=0.5)


def test_a_pool_of_its_own(broker: Broker, site: Site) -> None:
    """Where Nova can't be told to send to our topic: copies, and everybody else gets everything as well."""
    url = site.url(broker)
    hosts = site.workers(url, "node1")
    site.consumer(url, topic="versioned_notifications", pool="vmhb")
    Nova(url, ["versioned_notifications"]).publish(*pair(0), notification("reboot", "error"))
    told = hosts.wait(3)
    assert sorted(of(told, "node1")) == [
        "node1: end pause:req-0",
        "node1: end reboot",
        "node1: expect pause:req-0",
    ]
    wait_until(lambda: site.queues(broker)["vmhb"] == 0, 10, "all are acknowledged", every=0.5)
    queues = site.queues(broker)
    assert (queues["versioned_notifications.info"], queues["versioned_notifications.error"]) == (2, 1)


def dead(broker: Broker) -> Callable[[], None]:
    """Stop it; returns what brings it back."""
    broker.halt()
    return broker.boot


def frozen(broker: Broker) -> Callable[[], None]:
    """Freeze it; returns what brings it back."""
    broker.freeze()
    return lambda: print(broker.thaw())


@pytest.mark.long
@pytest.mark.parametrize("trouble", [dead, frozen])
@pytest.mark.parametrize("whose", ["Nova's", "the workers'"])
def test_sigterm_whatever_hangs(
    whose: str,
    trouble: Callable[[Broker], Callable[[], None]],
    broker: Broker,
    other_broker: Broker,
    site: Site,
    figure: Figure,
) -> None:
    """In the middle of telling, and with a broker that is away or silent: it ends in time, with 0."""
    nova_url, url = site.url(broker), site.url(other_broker)
    hosts = site.workers(url, "node1")
    consumer = site.consumer(url, nova_url)
    nova = Nova(nova_url)
    nova.publish(*pair(0))
    hosts.wait(2)
    mend = trouble(broker if whose == "Nova's" else other_broker)
    try:
        if whose != "Nova's":
            nova.publish(*pair(1))
        time.sleep(1)
        figure(f"SIGTERM to the end, {whose} broker {trouble.__name__}", consumer.stop(), "s", END)
        assert consumer.wait(1) == 0
    finally:
        mend()
    if whose != "Nova's":  # what it was at is told by its next life
        consumer.start()
        wait_until(lambda: "node1: end pause:req-1" in of(hosts.told, "node1"), 90, "the rest arrives")


def check(consumer: NovaConsumer) -> tuple[int, list[str]]:
    """Exit code and lines of `--check-config`."""
    argv = [sys.executable, *consumer.program, "--config-file", str(consumer.write_config()), "--check-config"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_check_config(broker: Broker, site: Site) -> None:
    """A broker that Nova never used is told from one that it did; nothing is made there by looking."""
    url = site.url(broker)
    consumer = site.consumer(url, start=False)
    code, (line,) = check(consumer)
    assert code == 1
    assert "[nova_notifications] transport_url" in line and "has no exchange 'nova'" in line
    assert site.queues(broker) == {}
    Nova(url).publish(*pair(0))
    assert check(consumer) == (0, ["configuration is good"])


def test_everything_names_its_exchange(broker: Broker, site: Site) -> None:
    """Casts go to vmhb, notifications come from nova: on oslo.messaging's default exchange there is nothing of ours."""
    url = site.url(broker)
    hosts = site.workers(url, "node1")
    site.consumer(url)
    Nova(url).publish(*pair(0))
    hosts.wait(2)
    said = broker.ctl("list_bindings", "-p", site.name, "--no-table-headers", "source_name", "destination_name")
    bound = {tuple(line.split("\t")) for line in said.splitlines() if not line.startswith("\t")}
    assert {exchange for exchange, queue in bound if queue.startswith("vmhb_instances")} == {"nova"}
    assert {exchange for exchange, queue in bound if queue == "vmhb_worker.node1"} == {"vmhb"}
    assert not any(exchange == "openstack" for exchange, _ in bound)


#: `[vmhb_notifications] topics` where Vitrage and ceilometer are to hear of faults.
FAULT_TOPICS = ("vmhb_notifications", "vitrage_notifications", "notifications")


def aodh_reporter(url: str) -> AodhReporter:
    """Publishes for Aodh's listener."""
    conf = cfg.ConfigOpts()
    conf.register_opts(AodhReporter.options(), group="reporter_aodh")
    conf([], default_config_files=[], default_config_dirs=[])
    conf.set_override("transport_url", url, group="reporter_aodh")
    return AodhReporter(conf.reporter_aodh, lambda: NOON)


def test_the_policies_bound_our_queues(broker: Broker, site: Site) -> None:
    """etc/rabbitmq: each queue that we or our settings make has a bound, and RabbitMQ takes the file as it is. Those of
    faults lose nothing: what is too much is refused, and kept by who sends it."""
    url = site.url(broker)
    hosts = site.workers(url, "node1")
    site.consumer(url)
    Nova(url).publish(*pair(0), notification("reboot", "error"))
    hosts.wait(3)
    FaultWorkers(url, topics=FAULT_TOPICS).publish(a_fault())
    aodh_reporter(url).deliver(Case(Change.RAISED, a_fault(), a_fault(), NOON, 1))
    policies = Path(__file__).parent.parent.parent / "etc/rabbitmq/vmhb-policies.json"
    ours = site.folder / "policies.json"
    ours.write_text(policies.read_text().replace('"vhost": "/"', f'"vhost": "{site.name}"'))
    broker.ctl("import_definitions", str(ours))

    def bound() -> dict[str, str]:
        said = broker.ctl("list_queues", "-p", site.name, "--no-table-headers", "name", "policy")
        return {line.split("\t")[0]: line.split("\t")[1] for line in said.splitlines()}

    wait_until(lambda: bound().get("vmhb_worker") == "vmhb-rpc", 10, "policies are in force", every=0.5)
    queues = {name: policy for name, policy in bound().items() if "_fanout_" not in name}
    assert queues == {
        "vmhb_instances.info": "vmhb-hints",
        "vmhb_instances.error": "vmhb-hints",
        "vmhb_worker": "vmhb-rpc",
        "vmhb_worker.node1": "vmhb-rpc",
        "versioned_notifications.info": "nova-versioned-notifications",
        "versioned_notifications.error": "nova-versioned-notifications",
        **dict.fromkeys((*(f"{topic}.info" for topic in FAULT_TOPICS), "alarm.all.sample"), "vmhb-faults"),
    }
    assert {policy for name, policy in bound().items() if "_fanout_" in name} == {"vmhb-rpc"}
    found = {one["name"]: one["definition"] for one in json.loads(policies.read_text())["policies"]}
    assert found["vmhb-faults"] == {"max-length": 500000, "overflow": "reject-publish"}
