"""Brokers that let us listen to faults, and not call: RPC's own queues are refused, or RPC's broker is away or frozen.

RabbitMQ 4 can be told to refuse queues that are neither durable nor exclusive, as those for replies and for calls to
all are. Rights that forbid them are the same to us, at the same place, on any RabbitMQ.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Figure
from tests.functional.sites import Site
from tests.functional.test_reporting import new, wait_for
from tests.lab.broker import Broker, free_ports
from tests.stage.control_plane import FaultConsumer
from tests.stage.worker import WorkerProcess

pytestmark = pytest.mark.patient

#: Seconds of a processor that a check and a status may take, most of it the start of Python.
CHECKED, ASKED = 6.0, 6.0
#: Seconds by the clock: longer than whatever they wait for, on a processor that has others to serve first, and not as
#: long as a broker may keep silent. Faults are read within READ of a start.
ANSWERED, READ = 45.0, 30.0
#: What the user may configure, by what is refused.
REFUSED = {
    "replies": "^(?!reply_).*$",
    "calls to all": "^(?!.*_fanout_).*$",
    "both": "^(?!reply_|.*_fanout_).*$",
}


@pytest.fixture
def site(site: Site) -> Iterator[Site]:
    """The shared one. Its consumers are killed: with a broker that refuses or is away, they may not end well."""
    yield site
    for consumer in site.consumers:
        if not consumer.ended:
            consumer.kill()


def vhost(site: Site) -> str:
    return site.url.rpartition("/")[2].partition("?")[0]


def refuse(site: Site, what: str) -> None:
    """From now on its user may not make these."""
    site.broker.ctl("set_permissions", "-p", vhost(site), site.broker.user, REFUSED[what], ".*", ".*")


def queues(site: Site) -> list[str]:
    said = site.broker.ctl("list_queues", "-p", vhost(site), "--no-table-headers", "name")
    return sorted(said.split())


def ask(program: WorkerProcess, option: str, limit: float, figure: Figure) -> tuple[int, str]:
    """Exit code, and what it said. limit: of a processor's time."""
    program.write_config()
    environ = {**os.environ, "PYTHONPATH": program.plugins} if isinstance(program, FaultConsumer) else None
    argv = [sys.executable, *program.program, "--config-file", str(program.config), option]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    figure(option, time.monotonic() - began, "s", ANSWERED)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figure(f"{option}: of a processor", used, "s", limit)
    return done.returncode, done.stdout + done.stderr


def reads(site: Site, consumer: FaultConsumer, figure: Figure, limit: float = READ) -> None:
    """It is told of a fault that waited for its start."""
    site.workers().publish(new(1))
    began = time.monotonic()
    consumer.start(wait=False)
    wait_for(lambda: len(consumer.told()) == 1, 60)
    figure("start to a fault that is told", time.monotonic() - began, "s", limit)


@pytest.mark.parametrize("what", REFUSED)
def test_faults_are_read_where_rpc_is_refused(site: Site, what: str, figure: Figure) -> None:
    """Faults nobody reads are recoveries nobody gets. It says what is refused, and what to do; so does the check."""
    consumer = site.consumer(start=False)
    refuse(site, what)
    (consumer.folder / "state").mkdir(parents=True)
    code, said = ask(consumer, "--check-config", CHECKED, figure)
    assert code == 1
    assert len(said.splitlines()) == 1, said
    assert said.startswith("[DEFAULT] transport_url: rabbit://")
    assert "rabbit_transient_quorum_queue" in said and "ACCESS_REFUSED" in said
    reads(site, consumer, figure)
    wait_for(lambda: consumer.said("RPC is not served, and workers cannot be asked now: ") == 1)
    assert consumer.said("rabbit_transient_quorum_queue") > 0
    code, said = ask(consumer, "--status", ASKED, figure)
    assert code == 1
    assert said.startswith(("no consumer can be asked: ", "no consumer answers: ")), said
    assert not consumer.ended
    figure("SIGTERM to the end", consumer.stop(), "s", 2.0)


def test_all_is_well_once_it_is_permitted(site: Site, figure: Figure) -> None:
    """Nobody has to start the consumer again: it asks on, and serves RPC from then on."""
    consumer = site.consumer(start=False)
    refuse(site, "both")
    reads(site, consumer, figure)
    wait_for(lambda: consumer.said("other consumers can't be asked for their database, faults are read") > 0)
    site.broker.ctl("set_permissions", "-p", vhost(site), site.broker.user, ".*", ".*", ".*")
    wait_for(lambda: consumer.said("RPC is served") > 0, 60)
    assert site.api().about()["counts"]["open_faults"] == 1
    assert ask(consumer, "--status", ASKED, figure)[0] == 0


@pytest.mark.parametrize("flags", ["amqp_durable_queues=true", "rabbit_quorum_queue=true", "both"])
def test_a_check_leaves_no_transient_queue(site: Site, flags: str, figure: Figure) -> None:
    """As the first call would, it makes queues for replies and for calls to all; and removes them. The others stay."""
    base = site.url.partition("?")[0]
    site.url = f"{base}?{flags.replace('both', 'rabbit_quorum_queue=true&rabbit_transient_quorum_queue=true')}"
    consumer = site.consumer(start=False)
    (consumer.folder / "state").mkdir(parents=True)
    for _ in range(2):
        assert ask(consumer, "--check-config", CHECKED, figure) == (0, "configuration is good\n")
        assert queues(site) == sorted(["vmhb_consumer", f"vmhb_consumer.{consumer.host}", "vmhb_notifications.info"])
    consumer.start()
    wait_for(lambda: consumer.said("RPC is served") > 0)
    before = queues(site)
    assert ask(consumer, "--check-config", CHECKED, figure) == (0, "configuration is good\n")
    assert queues(site) == before, "one that runs is left alone"
    assert ask(consumer, "--status", ASKED, figure)[0] == 0


def worker(site: Site) -> WorkerProcess:
    """One without a libvirt."""
    return WorkerProcess(
        site.folder / "worker", uri=f"qemu+unix:///system?socket={site.folder}/none", transport_url=site.url, host="cn1"
    )


def test_a_workers_check(site: Site, figure: Figure) -> None:
    """It makes and removes a queue for calls to all, as its server would; it needs none for replies."""
    daemon = worker(site)
    _, said = ask(daemon, "--check-config", CHECKED, figure)
    assert [line.partition(":")[0] for line in said.splitlines()] == ["[libvirt] connection_uri"]
    assert queues(site) == ["vmhb_notifications.info", "vmhb_worker", "vmhb_worker.cn1"]
    refuse(site, "replies")
    _, said = ask(daemon, "--check-config", CHECKED, figure)
    assert "transport_url" not in said
    refuse(site, "calls to all")
    code, said = ask(daemon, "--check-config", CHECKED, figure)
    assert code == 1
    line = next(line for line in said.splitlines() if line.startswith("[DEFAULT] transport_url"))
    assert "vmhb_worker_fanout_" in line and "rabbit_transient_quorum_queue" in line


def test_a_worker_says_that_it_can_not_be_asked(site: Site) -> None:
    """It watches all the same, and says once what keeps its RPC from being served."""
    refuse(site, "calls to all")
    daemon = worker(site)
    daemon.start(wait=False)
    try:
        wait_for(lambda: daemon.said("RPC cannot be served, after 10 s: ") == 1, 60)
        assert daemon.said("rabbit_transient_quorum_queue") > 0
    finally:
        daemon.stop()


def test_faults_are_read_where_the_brokers_of_rpc_are_away(site: Site, figure: Figure) -> None:
    """Two brokers, one for faults, one for RPC: that one does not keep the faults of the other."""
    consumer = site.consumer(start=False, vmhb_notifications={"transport_url": site.url})
    consumer.set("DEFAULT", "transport_url", f"rabbit://x:y@127.0.0.1:{free_ports(1)[0]}/")
    reads(site, consumer, figure)
    code, said = ask(consumer, "--status", ASKED, figure)
    assert code == 1
    assert said.startswith("no consumer can be asked: ")
    figure("SIGTERM to the end", consumer.stop(), "s", 2.0)


def test_faults_are_read_where_the_broker_of_rpc_is_frozen(site: Site, figure: Figure) -> None:
    """It takes connections, and answers nothing: no better than one that is away, and no worse."""
    with Broker() as frozen:
        consumer = site.consumer(start=False, vmhb_notifications={"transport_url": site.url})
        consumer.set("DEFAULT", "transport_url", frozen.transport_url)
        frozen.freeze()
        try:
            reads(site, consumer, figure)
            code, said = ask(consumer, "--status", ASKED, figure)
            assert code == 1
            assert said.startswith("no consumer can be asked: ")
            figure("SIGTERM to the end", consumer.stop(), "s", 2.0)
        finally:
            frozen.thaw()


def test_a_broker_that_an_alarm_has_blocked(site: Site, figure: Figure) -> None:
    """Nobody may publish, so nobody can be asked: a status ends, and says that none answers."""
    consumer = site.consumer()
    wait_for(lambda: consumer.said("RPC is served") > 0)
    site.broker.memory_alarm(True)
    try:
        code, said = ask(consumer, "--status", ASKED, figure)
        assert code == 1
        assert said.startswith("no consumer can be asked: "), said
    finally:
        site.broker.memory_alarm(False)


def test_what_another_consumer_is_to_have_is_not_taken(site: Site) -> None:
    """Listening comes first, but what comes is held until the other was asked for its database: it loses nothing."""
    workers, first = site.workers(), site.consumer()
    wait_for(lambda: first.said("RPC is served") > 0)
    other = site.consumer(start=False)
    other.start(wait=False)
    number = 0
    while not other.ended:
        number += 1
        workers.publish(new(number, action="alarm"))
        time.sleep(0.02)
    assert other.wait(30) == 1
    assert other.said("keeps faults in another database than ours") == 1
    wait_for(lambda: site.api().about()["counts"].get("faults.new", 0) == number, 30)
