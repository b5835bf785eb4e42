"""From a fault to what Masakari's own engine did to an instance: its api and engine from PyPI, a Nova of ours.

Counted is what the engine asked Nova to do, not what anybody said about it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Figure
from tests.lab.broker import Broker
from tests.lab.processes import wait_until
from tests.stage.cloud import FakeServer
from tests.stage.masakari import VENV, Masakari
from tests.stage.recovery import TASKS, Delivery, Worker, now, reporter

pytestmark = pytest.mark.patient

RECOVERED = ["os-stop", "os-start"]


@pytest.fixture(scope="module")
def masakari() -> Iterator[Masakari]:
    """One for all that leave it as it was."""
    with Masakari() as one:
        yield one


def when_booted(masakari: Masakari, one: FakeServer, do: Callable[[], None]) -> None:
    """The guest answers as soon as Nova has started it."""

    def booted(server: FakeServer, what: str) -> None:
        if server is one and what in ("os-start", "reboot"):
            do()

    masakari.cloud.on_done = booted


def test_a_hung_guest_is_recovered(masakari: Masakari, figure: Figure) -> None:
    """Told once, as an unmodified engine wants to be told; the heartbeat ends it."""
    one = masakari.cloud.server()
    delivery = Delivery(reporter(masakari.cloud), one)
    when_booted(masakari, one, delivery.clear)
    began = time.monotonic()
    assert delivery.run() == "delivered"
    figure("Masakari: fault to the guest's answer, 1.0 s stop and 0.5 s boot", time.monotonic() - began, "s", 15)
    figure("Masakari: fault to the engine's first request to Nova", one.asked[0][0] - began, "s", 5)
    assert one.actions() == RECOVERED
    [told] = masakari.notifications(one.uuid)
    assert (told["type"], told["payload"]["event"], told["payload"]["vir_domain_event"]) == (
        "VM",
        "QEMU_GUEST_AGENT_ERROR",
        "STOPPED_FAILED",
    )


def test_a_consumer_that_died_after_posting_finds_its_report(masakari: Masakari) -> None:
    """What was told is found again in Masakari, without a memo; one recovery."""
    one = masakari.cloud.server(shutdown_time=3.0)
    first = Delivery(reporter(masakari.cloud), one)
    first.run(until=lambda: first.posted)
    again = Delivery(reporter(masakari.cloud), one)
    again.fault = again.latest = first.fault
    when_booted(masakari, one, again.clear)
    assert again.run() == "delivered"
    assert again.memo["notification"] == first.memo["notification"]
    assert len(masakari.notifications(one.uuid)) == 1
    assert one.actions() == RECOVERED


def test_a_guest_that_stays_silent_is_told_as_such(masakari: Masakari) -> None:
    """`finished` is Masakari's word for its own work; without a heartbeat nothing is recovered."""
    one = masakari.cloud.server()
    delivery = Delivery(reporter(masakari.cloud, heartbeat_time=1), one)
    ended = delivery.run()
    assert ended.startswith("given up: ") and "the guest still does not answer" in ended
    assert one.actions() == RECOVERED
    assert delivery.step() is not None, "it has ended"
    assert len(masakari.notifications(one.uuid)) == 1


def test_users_stop_in_progress_starts_nothing(masakari: Masakari) -> None:
    """The engine would start the instance again: it must not hear of it."""
    one = masakari.cloud.server(shutdown_time=2.0)
    assert masakari.cloud.act(one, "os-stop", by_user=True)
    delivery = Delivery(reporter(masakari.cloud), one)
    ended = delivery.run()
    assert ended.startswith("withheld: ") and "stopped" in ended
    assert any("powering-off" in said for said in delivery.said)
    assert masakari.notifications(one.uuid) == []
    assert (one.actions(), one.vm_state) == ([], "stopped")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"host": "cpt2"}, "Nova has it on cpt2"),
        ({"vm_state": "paused"}, "paused"),
        ({"vm_state": "rescued"}, "rescued"),
        ({"vm_state": "resized"}, "resized"),
        ({"metadata": {}}, "HA_Enabled=True"),
    ],
)
def test_what_must_not_be_recovered_is_not(masakari: Masakari, changed: dict[str, Any], says: str) -> None:
    """Asked of the real Nova and Masakari, and nothing is posted."""
    one = masakari.cloud.server(**changed)
    delivery = Delivery(reporter(masakari.cloud), one, host="cpt1")
    ended = delivery.run()
    assert says in ended and not ended.startswith("delivered")
    assert (masakari.notifications(one.uuid), one.actions()) == ([], [])


MONITOR = """
import sys
import masakarimonitors.conf
from masakarimonitors.ha import masakari
from oslo_utils import timeutils
masakarimonitors.conf.CONF(sys.argv[3:], project="masakarimonitors", default_config_files=[], default_config_dirs=[])
masakari.SendNotification().send_notification(0, 0, {"notification": {
    "type": "VM", "hostname": sys.argv[1], "generated_time": timeutils.utcnow(),
    "payload": {"event": "LIFECYCLE", "instance_uuid": sys.argv[2], "vir_domain_event": "STOPPED_FAILED"}}})
"""


def instancemonitor(masakari: Masakari, one: FakeServer) -> None:
    """What masakari-instancemonitor sends of a QEMU that crashed, through its own client."""
    conf = masakari.folder / "monitor.conf"
    conf.write_text(
        f"[api]\nauth_type = password\nauth_url = {masakari.cloud.url}/v3\nusername = admin\npassword = secret\n"
        "project_name = admin\nuser_domain_name = Default\nproject_domain_name = Default\nregion = RegionOne\n"
    )
    subprocess.run(
        [VENV / "bin/python", "-c", MONITOR, one.host, one.uuid, "--config-file", conf],
        check=True,
        timeout=60,
        capture_output=True,
    )


def test_one_crash_that_two_report_is_one_recovery_ours_second(masakari: Masakari) -> None:
    """masakari-instancemonitor was first: its report is followed."""
    one = masakari.cloud.server()
    instancemonitor(masakari, one)
    delivery = Delivery(reporter(masakari.cloud), one, cause="qemu_failed")
    when_booted(masakari, one, delivery.clear)
    assert delivery.run() == "delivered"
    assert len(masakari.notifications(one.uuid)) == 1
    assert one.actions() == RECOVERED


def test_one_crash_that_two_report_is_one_recovery_ours_first(masakari: Masakari) -> None:
    """Masakari calls theirs a duplicate of ours."""
    one = masakari.cloud.server(shutdown_time=0.2)
    delivery = Delivery(reporter(masakari.cloud), one, cause="qemu_failed")
    delivery.run(until=lambda: delivery.posted)
    instancemonitor(masakari, one)
    when_booted(masakari, one, delivery.clear)
    if one.done == RECOVERED:  # the engine was quicker than their client
        delivery.clear()
    assert delivery.run() == "delivered"
    assert len(masakari.notifications(one.uuid)) == 1
    assert one.actions() == RECOVERED


def test_a_host_that_masakari_does_not_know(masakari: Masakari) -> None:
    """Said with the command that registers it; then the recovery goes on by itself. So on maintenance."""
    one = masakari.cloud.server(host="cpt9")
    delivery = Delivery(reporter(masakari.cloud), one)
    assert delivery.step() is None
    assert "openstack segment host create cpt9" in delivery.said[-1]
    host = masakari.register("cpt9")
    masakari.maintenance(host, True)
    assert delivery.step() is None
    assert "maintenance" in delivery.said[-1]
    masakari.maintenance(host, False)
    when_booted(masakari, one, delivery.clear)
    assert delivery.run() == "delivered"
    assert one.actions() == RECOVERED


def test_credentials_wrong_then_right(masakari: Masakari) -> None:
    """Without a restart: nothing of the refusal is kept."""
    one = masakari.cloud.server()
    delivery = Delivery(reporter(masakari.cloud), one)
    masakari.cloud.password = "another"
    assert delivery.step() is None
    assert "credentials" in delivery.said[-1]
    assert delivery.reporter.check() is not None
    masakari.cloud.password = "secret"
    assert delivery.reporter.check() is None
    when_booted(masakari, one, delivery.clear)
    assert delivery.run() == "delivered"


def test_masakari_down_then_up() -> None:
    """What is still wanted is told when it is back; what is over by then never reaches it."""
    with Masakari() as masakari:
        dead, well = masakari.cloud.server(), masakari.cloud.server()
        masakari.halt()
        delivery = Delivery(reporter(masakari.cloud), dead)
        over = Delivery(reporter(masakari.cloud), well, fault_id="11111111-5b7d-4d4b-9a57-0c8f5b1f7c11")
        assert (delivery.step(), over.step()) == (None, None)
        assert "Masakari can't be asked" in delivery.said[-1]
        over.clear()
        masakari.boot()
        when_booted(masakari, dead, delivery.clear)
        assert over.run().startswith("withheld: ")
        assert delivery.run() == "delivered"
        assert (dead.actions(), well.actions()) == (RECOVERED, [])
        assert masakari.notifications(well.uuid) == []


# -- our tasks in its engine -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tasked() -> Iterator[tuple[Masakari, Worker]]:
    """A Masakari whose engine has our tasks, and a worker beside it on one RabbitMQ."""
    with Broker() as broker:
        worker = Worker(broker.transport_url)
        with Masakari(broker.transport_url, TASKS) as masakari:
            yield masakari, worker
        worker.close()


def reported(masakari: Masakari, one: FakeServer) -> None:
    """As the reporter does, with nobody who follows it."""
    told = {"type": "VM", "hostname": "cpt1", "generated_time": now().isoformat()}
    payload = {"event": "QEMU_GUEST_AGENT_ERROR", "instance_uuid": one.uuid, "vir_domain_event": "STOPPED_FAILED"}
    masakari.ask("POST", "/notifications", notification={**told, "payload": payload})


def ends(masakari: Masakari, one: FakeServer, status: str) -> None:
    """With this status, and stays so: the engine's second look at what went wrong comes every 10 s here."""
    wait_until(lambda: masakari.notifications(one.uuid)[0]["status"] == status, 60, f"it is {status}", every=0.3)
    time.sleep(12)
    assert masakari.notifications(one.uuid)[0]["status"] == status


def test_our_tasks_reboot_a_dead_guest_and_wait_for_its_answer(tasked: tuple[Masakari, Worker], figure: Figure) -> None:
    """No minute for a clean shutdown; finished is what answers."""
    masakari, worker = tasked
    one = masakari.cloud.server(shutdown_time=60.0)
    worker.is_silent(one, "guest_hung")
    delivery = Delivery(reporter(masakari.cloud), one)
    began = time.monotonic()
    delivery.run(until=lambda: one.done == ["reboot"])
    figure("Masakari with our tasks: fault to the reboot's end, 0.5 s boot", time.monotonic() - began, "s", 10)
    time.sleep(3)  # Nova says active; the guest has not answered yet
    assert [told["status"] for told in masakari.notifications(one.uuid)] == ["running"]
    worker.answers(one)
    wait_until(lambda: masakari.notifications(one.uuid)[0]["status"] == "finished", 15, "the engine is done", every=0.3)
    delivery.clear()
    assert delivery.run() == "delivered"
    assert one.actions() == ["reboot"]


def test_our_tasks_stop_cleanly_what_is_not_known_to_be_dead(tasked: tuple[Masakari, Worker]) -> None:
    """A kernel that lives gets its clean shutdown."""
    masakari, worker = tasked
    one = masakari.cloud.server()
    worker.is_silent(one, "agent_unresponsive")
    delivery = Delivery(reporter(masakari.cloud), one, cause="agent_unresponsive")

    def booted() -> None:
        worker.answers(one)
        delivery.clear()

    when_booted(masakari, one, booted)
    assert delivery.run() == "delivered"
    assert one.actions() == RECOVERED


def test_our_tasks_leave_what_its_user_stops_after_the_report(tasked: tuple[Masakari, Worker]) -> None:
    """The race that no reporter can win: told, and only then is it stopped. Masakari's own tasks would start it."""
    masakari, worker = tasked
    one = masakari.cloud.server(shutdown_time=2.0)
    worker.is_silent(one, "guest_hung")
    assert masakari.cloud.act(one, "os-stop", by_user=True)
    reported(masakari, one)
    wait_until(lambda: masakari.notifications(one.uuid)[0]["status"] == "ignored", 20, "it is ignored", every=0.3)
    wait_until(lambda: one.vm_state == "stopped", 10, "it is stopped")
    time.sleep(12)  # the engine's second look at what went wrong comes every 10 s here
    assert (one.actions(), one.vm_state) == ([], "stopped")


def test_our_tasks_leave_who_has_answered_since_the_report(tasked: tuple[Masakari, Worker]) -> None:
    """Healed while its report waited: by its worker's fault, which is over, or by an answer since its last miss."""
    masakari, worker = tasked
    over, answered = masakari.cloud.server(), masakari.cloud.server()
    worker.answers(over)
    worker.is_silent(answered, "guest_silent")
    worker.shown[answered.uuid] |= {"state": "alive", "answered_since_miss": True}
    reported(masakari, over)
    reported(masakari, answered)
    ends(masakari, over, "ignored")
    ends(masakari, answered, "ignored")
    assert (over.actions(), answered.actions()) == ([], [])


def test_our_tasks_leave_whom_nobody_knows_of(tasked: tuple[Masakari, Worker]) -> None:
    """Its worker can't be asked: neither dead nor failed. An error would be repeated."""
    masakari, _worker = tasked
    one = masakari.cloud.server(host="cpt7")
    reported(masakari, one)
    ends(masakari, one, "ignored")
    assert one.actions() == []


@pytest.mark.long
def test_a_recovery_that_nobody_can_confirm_is_not_repeated(tasked: tuple[Masakari, Worker]) -> None:
    """The guest may answer, and would be rebooted once more."""
    masakari, worker = tasked
    one = masakari.cloud.server(extra_specs={"hw:heartbeat": "true"})
    worker.is_silent(one, "guest_hung")
    when_booted(masakari, one, lambda: worker.shown.pop(one.uuid))
    reported(masakari, one)
    ends(masakari, one, "ignored")
    assert one.actions() == ["reboot"]


@pytest.mark.long
def test_our_tasks_fail_without_an_answer(tasked: tuple[Masakari, Worker]) -> None:
    """A guest that boots and does not answer is not recovered, and the reporter says so with the task's words."""
    masakari, worker = tasked
    one = masakari.cloud.server(extra_specs={"hw:heartbeat": "true"})
    worker.is_silent(one, "guest_hung")
    delivery = Delivery(reporter(masakari.cloud), one)
    ended = delivery.run(120)
    assert ended.startswith("given up: ") and "could not recover it" in ended and "No heartbeat" in ended
    assert one.actions() == ["reboot", "reboot"], "Masakari tries once more by itself"


def test_masakaris_own_tasks_start_it_again(masakari: Masakari) -> None:
    """Why the reporter asks Nova first, and what our tasks are for: if this fails, Masakari has mended it.

    Its first try comes while the user's stop is in progress, and is refused; its second and last finds it stopped.
    """
    cloud = masakari.cloud
    one = cloud.server(shutdown_time=600.0)
    cloud.on_refused = lambda server, _what: cloud.finish(server, "os-stop") if server is one else None
    assert cloud.act(one, "os-stop", by_user=True)
    told = {"type": "VM", "hostname": "cpt1", "generated_time": now().isoformat()}
    payload = {"event": "QEMU_GUEST_AGENT_ERROR", "instance_uuid": one.uuid, "vir_domain_event": "STOPPED_FAILED"}
    masakari.ask("POST", "/notifications", notification={**told, "payload": payload})
    wait_until(lambda: "os-start" in one.actions(), 60, "the engine starts it", every=0.3)
    assert one.actions() == RECOVERED
