"""Services as operators of OpenStack know them: SIGHUP reads the configuration again, SIGUSR2 has a report written, and
neither ends anything."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.conftest import Workers
from tests.functional.sites import Site, database_server, new_database
from tests.functional.test_reporting import new
from tests.functional.test_service import Systemd
from tests.lab.broker import Broker
from tests.lab.node import Node
from tests.lab.processes import wait_until
from tests.stage import tables
from tests.stage.worker import WorkerProcess
from vmhb_consumer.schema import REVISIONS

pytestmark = pytest.mark.patient

#: Of a Keystone where nobody listens.
NOWHERE: dict[str, object] = {
    **{"auth_type": "password", "auth_url": "http://127.0.0.1:1/v3", "username": "u", "password": "s3cret"},
    **{"project_name": "p", "user_domain_name": "Default", "project_domain_name": "Default"},
}
#: A consumer of before there were steps: `tests.stage.tables.OLD`.
OLD = "3"
#: Until a signal is obeyed (seconds): a file is read, on a busy machine.
OBEYED = 10.0


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """Listens."""
    one = Systemd(tmp_path / "notify")
    yield one
    one.close()


@pytest.fixture(params=["worker", "consumer"])
def service(request: pytest.FixtureRequest) -> WorkerProcess:
    """Each of our services, not yet started."""
    if request.param == "worker":
        made: WorkerProcess = request.getfixturevalue("worker")(start=False)
        return made
    site: Site = request.getfixturevalue("site")
    return site.consumer(start=False)


def hang_up(service: WorkerProcess) -> None:
    """SIGHUP, with what its options are by now in its file."""
    service.write_config()
    os.kill(service.pid, signal.SIGHUP)


def says(service: WorkerProcess, text: str, times: int = 1) -> None:
    """Until its log has this so often."""
    wait_until(lambda: service.said(text) >= times or service.ended, OBEYED, f"it says {text!r}", every=0.05)
    assert service.said(text) == times, service.log.read_text()[-4000:]


def test_a_life(service: WorkerProcess) -> None:
    """From its start on neither signal ends it, whenever it comes; each does what it is for."""
    service.start(wait=False)
    _while_it_starts(service)
    _all_obeyed(service)
    _the_log(service)
    _what_can_not_change(service)
    _no_file_at_all(service)
    _a_report(service)
    assert not service.ended
    service.stop()
    assert service.wait(1) == 0


def _while_it_starts(service: WorkerProcess) -> None:
    until = time.monotonic() + 30
    after = 0
    while after < 10 and time.monotonic() < until:
        assert not service.ended, service.folder
        if _began(service):
            os.kill(service.pid, signal.SIGHUP)
            os.kill(service.pid, signal.SIGUSR2)
        after += service.said("is running") > 0
        time.sleep(0.02)
    assert after == 10


def _all_obeyed(service: WorkerProcess) -> None:
    """It has read as often as it was told to: one that is still to come would take what is written next."""
    seen = [-1]

    def settled() -> bool:
        seen.append(service.said("reading the configuration again"))
        return seen[-1] == seen[-2] > 0

    wait_until(settled, 2 * OBEYED, "it has read, and goes on", every=1.0)


def _the_log(service: WorkerProcess) -> None:
    """Its level is another, and where somebody has moved the file away, a new one is begun."""
    assert service.said(" DEBUG ") == 0
    service.set("DEFAULT", "debug", "true")
    hang_up(service)
    says(service, "Option DEFAULT.debug changed from [None] to [true]")
    service.log.rename(service.log.with_suffix(".1"))
    hang_up(service)
    says(service, "reading the configuration again")
    service.set("DEFAULT", "debug", "false")
    hang_up(service)
    says(service, "Option DEFAULT.debug changed from [true] to [false]")


def _what_can_not_change(service: WorkerProcess) -> None:
    """It is said, and stays as it was."""
    there = service.folder / "state"
    service.set("DEFAULT", "state_path", "/elsewhere")
    hang_up(service)
    says(service, "Ignoring change to immutable option DEFAULT.state_path")
    service.set("DEFAULT", "state_path", there)


def _no_file_at_all(service: WorkerProcess) -> None:
    """Somebody is at it just now: all goes on, and the next time it is there."""
    away = service.config.rename(service.folder / "away")
    os.kill(service.pid, signal.SIGHUP)
    says(service, "the configuration is not taken: all goes on as before")
    away.rename(service.config)
    read = service.said("reading the configuration again")
    hang_up(service)
    says(service, "reading the configuration again", read + 1)


def _a_report(service: WorkerProcess) -> None:
    """All threads by name, and where they are; the configuration, without its secrets; how it is."""
    told = report(service)
    for title in ("Guru Meditation", "Package", "Threads", "Processes", "Configuration", "Names of threads"):
        assert re.search(rf"^={{3,}}\s+{title}\s+={{3,}}$", told, re.MULTILINE), title
    assert "vmhb-ending" in told
    assert "transport_url = ***" in told
    assert "Green Threads" not in told
    assert service._url.split("@")[0].rpartition(":")[2] not in told
    assert "greenlet" not in Path(f"/proc/{service.pid}/maps").read_text()


def test_the_brake_and_the_budget(worker: Workers) -> None:
    """Of a worker that runs; what makes no sense is named, and nothing else of the same file is taken either. (What
    follows from them: tests/unit/test_engine.py.)"""
    before: dict[str, object] = {"brake_count": 100, "recoveries": 1}
    after: dict[str, object] = {"brake_count": 3, "recoveries": 5}
    daemon = worker(verdict=before)
    for number, (group, name, value) in enumerate(
        [("verdict", "brake_count", "one"), ("verdict", "brake_count", "1"), ("policy", "min_interval", "-1")], 1
    ):
        daemon.set(group, name, value)
        daemon.set("verdict", "recoveries", 5)
        hang_up(daemon)
        says(daemon, f"[{group}] {name}: {value}: ")
        says(daemon, "the configuration is not taken: all goes on as before", number)
        assert daemon.said("changed from") == 0
        daemon.set(group, name, {"brake_count": 3, "min_interval": 0.2}[name])
    hang_up(daemon)
    for name, was in before.items():
        says(daemon, f"Option verdict.{name} changed from [{was}] to [{after[name]}]")
    assert not daemon.ended


def test_limits(site: Site) -> None:
    """What waits for a place has one as soon as there is one; and the consumer's own words say so."""
    workers = site.workers("cn1")
    consumer = site.consumer(recovery={"max_concurrent": 0})
    assert consumer.said("no recovery is begun by this consumer: [recovery] max_concurrent = 0") == 1
    workers.publish(new(1))
    wait_until(lambda: consumer.said("held: no recovery is begun at all") > 0, 30, "it is held", every=0.1)
    assert consumer.told("recovering") == []
    consumer.set("recovery", "max_concurrent", 5)
    hang_up(consumer)
    says(consumer, "Option recovery.max_concurrent changed from [0] to [5]")
    wait_until(lambda: consumer.told("recovering") != [], 30, "it is recovered", every=0.1)
    says(consumer, "recoveries are begun by this consumer, from now on")
    assert site.api().about()["observe_only"] is False
    consumer.set("recovery", "observe_only", "true")
    hang_up(consumer)
    wait_until(lambda: site.api().about()["observe_only"], OBEYED, "it only observes", every=0.1)


def _began(service: WorkerProcess) -> bool:
    """Is it there for them? Before, it is Python that starts."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(caught & (1 << (signal.SIGHUP - 1))) and bool(caught & (1 << (signal.SIGUSR2 - 1)))


def report(service: WorkerProcess) -> str:
    """What it wrote for SIGUSR2."""
    out = service.folder / "worker.out"
    before = out.read_text()
    os.kill(service.pid, signal.SIGUSR2)
    wait_until(lambda: "How it is" in out.read_text()[len(before) :], OBEYED, "a report", every=0.1)
    time.sleep(0.2)
    return out.read_text()[len(before) :]


def test_a_report_of_one_that_hangs(worker: Workers, tmp_path: Path) -> None:
    """That is what it is for: its main thread stands still, and the report says where; here into [oslo_reports]
    log_dir."""
    daemon = worker(start=False, oslo_reports={"log_dir": tmp_path})
    daemon.program = (
        "-c",
        "import signal, threading, sys; from vmhb_worker.cmd.worker import main\n"
        "def stands_still(*_): threading.Event().wait()\n"
        "signal.signal(signal.SIGALRM, stands_still)\n"
        "main()",
    )
    daemon.start()
    os.kill(daemon.pid, signal.SIGALRM)
    time.sleep(0.5)
    os.kill(daemon.pid, signal.SIGUSR2)

    def written() -> str:
        return "".join(one.read_text() for one in tmp_path.glob("vmhb-worker_gurumeditation_*"))

    wait_until(lambda: "How it is" in written(), OBEYED, "the file", every=0.1)
    assert "in stands_still" in written()
    daemon.kill()


# -- what systemd is told ----------------------------------------------------------------------------------------------


def status(systemd: Systemd) -> str:
    """What `systemctl status` would show."""
    lines = [line for _, text in list(systemd.told) for line in text.splitlines() if line.startswith("STATUS=")]
    return lines[-1].removeprefix("STATUS=") if lines else ""


def _says_of_itself(systemd: Systemd, text: str, says_so: bool) -> None:
    wait_until(lambda: status(systemd).startswith(text) is says_so, OBEYED, "it says so")


def ready(systemd: Systemd) -> bool:
    """Did somebody say READY=1?"""
    return bool(systemd.moments("READY=1"))


def test_a_second_worker_is_never_ready(worker: Workers, systemd: Systemd) -> None:
    """Somebody watches this libvirt already: that is refused before it is ready."""
    first = worker()
    first.api  # noqa: B018 - it has libvirt for itself by then
    second = worker(start=False, host="another")
    second.start(systemd.environ, wait=False)
    assert second.wait(30) == 1
    assert not ready(systemd), systemd.told


def test_a_worker_that_may_not_write(worker: Workers, systemd: Systemd) -> None:
    """Nor one whose folder can't be used, or whose configuration makes no sense."""
    daemon = worker(start=False)
    daemon.set("DEFAULT", "state_path", "/proc/nowhere")
    daemon.start(systemd.environ, wait=False)
    assert daemon.wait(30) == 1
    daemon.set("verdict", "brake_count", 1)
    daemon.start(systemd.environ, wait=False)
    assert daemon.wait(30) == 1
    assert not ready(systemd), systemd.told


def test_a_consumer_that_must_not_run(site: Site, systemd: Systemd) -> None:
    """Another one has the file, or keeps faults in another database; its folder can't be used."""
    first = site.consumer()
    same = site.consumer(start=False)
    same.set("DEFAULT", "state_path", first.folder / "state")
    other, nowhere = site.consumer(start=False), site.consumer(start=False)
    nowhere.set("DEFAULT", "state_path", "/proc/nowhere")
    for one, why in ((same, "another consumer uses"), (other, "in another database"), (nowhere, "can't be written")):
        one.start(systemd.environ, wait=False)
        assert one.wait(30) == 1
        assert one.said(why) == 1
    assert not ready(systemd), systemd.told


def test_a_consumer_whose_database_is_behind(site: Site, systemd: Systemd, request: pytest.FixtureRequest) -> None:
    """On a server, where no service takes a step by itself: with no tables, with those of before there were steps, and
    one step behind; until `db sync` was run."""
    with database_server("mariadb") as server:
        url = new_database(server, request)
        consumer = site.consumer(start=False)
        consumer.set("database", "connection", url)
        _refused(consumer, systemd, "has none of our tables: run `nova-vmhb-manage db sync`")
        tables.lay(url, OLD)
        _refused(consumer, systemd, "run `nova-vmhb-manage db sync`", times=2)
        tables.sync(url)
        tables.execute(url, f"UPDATE {REVISIONS} SET version_num = '0002'")  # noqa: S608 -- ours
        _refused(consumer, systemd, "has tables of revision 0002, and this program needs 0003: run")
        tables.sync(url)
        consumer.start(systemd.environ, listens=False)
        wait_until(lambda: ready(systemd), 30, "it is ready")
        consumer.stop()


def _refused(service: WorkerProcess, systemd: Systemd, why: str, times: int = 1) -> None:
    """It ends by itself, says why, and was never ready."""
    service.start(systemd.environ, wait=False)
    assert service.wait(30) == 1
    assert service.said(why) == times
    assert not ready(systemd), systemd.told


def test_a_consumer_whose_database_is_away(site: Site, systemd: Systemd) -> None:
    """It can't be told whether it may run: it does, and says what it waits for."""
    consumer = site.consumer(start=False)
    consumer.set("database", "connection", "mysql+pymysql://u:s3cret@127.0.0.1:1/vmhb")
    consumer.start(systemd.environ, listens=False)
    wait_until(lambda: ready(systemd), OBEYED, "it is ready")
    wait_until(lambda: "the database is away" in status(systemd), OBEYED, "it says so")
    assert "not yet reading faults" in status(systemd)
    assert "s3cret" not in status(systemd)
    assert loud(consumer) == consumer.said("the database is away, notifications wait in the broker") == 1


def test_the_status_of_a_consumer(broker: Broker, site: Site, systemd: Systemd) -> None:
    """What is so, from when it is, until it is not. Of a broker that is away, from which the library comes back by
    itself, systemd is told, and the log has one line."""
    consumer = site.consumer(start=False)
    consumer.set("consumer", "halves", "instances, faults")
    consumer.start(systemd.environ)
    both = re.compile("reading faults from .*; listening to 1 of Nova's 1 message brokers")
    wait_until(lambda: bool(both.fullmatch(status(systemd))), 30, "it listens")
    assert ready(systemd)
    never = "no recovery is begun by this consumer: [recovery] observe_only = true; reading faults"
    for value, says_so in (("true", True), ("false", False)):
        consumer.set("recovery", "observe_only", value)
        hang_up(consumer)
        _says_of_itself(systemd, never, says_so)
    before = loud(consumer)
    broker.halt()
    try:
        gone = re.compile("the message broker is away: no faults from .*; listening to 0 of Nova's 1 message brokers")
        wait_until(lambda: bool(gone.fullmatch(status(systemd))), 20, "it is away")
    finally:
        broker.boot()
    wait_until(lambda: bool(both.fullmatch(status(systemd))), 60, "it is back")
    assert loud(consumer) - before == 1, consumer.log.read_text()[-6000:]  # and not with each try of each connection


# -- a thing is said once ----------------------------------------------------------------------------------------------


def loud(service: WorkerProcess, text: str = "") -> int:
    """How many of its lines are a warning or worse, and have this text."""
    lines = service.log.read_text(errors="replace").splitlines()
    return sum(bool(re.search(r"^\S+ \S+ \d+ (WARNING|ERROR|CRITICAL) ", line)) and text in line for line in lines)


def test_keystone_is_away(site: Site) -> None:
    """Three faults whose recovery needs it: what can't be asked is said once each, not by each try of each of them."""
    workers = site.workers("cn1")
    consumer = site.consumer(start=False, nova=NOWHERE)
    consumer.set("consumer", "reporters", "masakari, log")
    consumer.start()
    before = loud(consumer)
    workers.publish(*(new(number) for number in range(1, 4)))
    wait_until(lambda: consumer.said("can't be asked") >= 3, 30, "all three have been tried", every=0.1)
    time.sleep(8)  # for the tries after 1, 2 and 4 s
    assert loud(consumer) - before == 1, consumer.log.read_text()[-6000:]
    assert consumer.said("127.0.0.1:1/v3") > 0


# -- what systemd is told, of a worker ---------------------------------------------------------------------------------


def test_the_status_of_a_worker(node: Node, worker: Workers, systemd: Systemd) -> None:
    """How many it watches; and libvirt that is away."""
    daemon = worker(start=False)
    daemon.start(systemd.environ)
    wait_until(lambda: ready(systemd), OBEYED, "it is ready")
    well = "instances: 0 watched, 0 with an open fault"
    wait_until(lambda: status(systemd) == well, OBEYED, "it has libvirt")
    node.halt_libvirtd()
    try:
        wait_until(lambda: status(systemd).startswith("libvirt is away, no instance is judged: "), 20, "it is away")
    finally:
        node.boot_libvirtd()
    wait_until(lambda: status(systemd) == well, 30, "it is back")
    daemon.stop()
    assert status(systemd) == "stopping"
