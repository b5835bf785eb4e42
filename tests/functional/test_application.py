"""Applications on real VMs: vmhb-guest answers over its own port, and the worker hears how they are."""

from __future__ import annotations

import pytest

from tests.functional.conftest import DETECTION, Guests, Workers, acks, assert_quiet, faults
from tests.lab.application import Application
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.processes import wait_until
from tests.stage.consumer import ConsumerProcess, Notification
from tests.stage.worker import WorkerProcess

pytestmark = pytest.mark.patient

POLICY = {"channel": "application", "health_check": True, "action": "recover_unresponsive"}
#: An emulated guest that shares two processors with everything else; what is asserted is what is said, not how soon.
PATIENCE = 60.0


@pytest.fixture
def guest(guests: Guests, application_image: Image) -> Guest:
    """With both channels, vmhb-guest and qemu-ga."""
    return guests.get(application=True, memory=160, guest_image=application_image, policy=POLICY)


def watched(worker: Workers, guest: Guest) -> WorkerProcess:
    """A worker that has its answers. It runs where its node's libvirt puts the channels' sockets."""
    daemon = worker(start=False)
    daemon.where = guest.node.inside
    daemon.start()
    daemon.wait_known(guest.uuid)
    wait_until(lambda: acks(daemon, guest), PATIENCE, f"{guest.name} acknowledges", every=0.2)
    return daemon


def joined(daemon: WorkerProcess, guest: Guest, *names: str) -> None:
    """The applications of these names are in its health report."""

    def there() -> bool:
        report = (daemon.show(guest.uuid).get("health") or {}).get("report") or {"checks": []}
        return {check["name"] for check in report["checks"]} >= set(names)

    wait_until(there, PATIENCE, f"{', '.join(names)} are in the report of {guest.name}", every=0.2)


def ended(consumer: ConsumerProcess, guest: Guest, since: float) -> Notification:
    """It was told that it need not answer."""

    def found(one: Notification) -> bool:
        return one.event_type == "vmhb.heartbeat.ended" and one.instance_uuid == guest.uuid

    return consumer.wait_for(f"vmhb.heartbeat.ended of {guest.name}", found, PATIENCE, since)


def recovered(consumer: ConsumerProcess, raised: Notification, since: float) -> None:
    """The fault is over, and was the only one."""
    cleared = consumer.wait_fault("cleared", raised.instance_uuid, PATIENCE, since)
    assert (cleared.fault_id, cleared.resolution) == (raised.fault_id, "recovered")


def test_applications_are_named(guest: Guest, worker: Workers, consumer: ConsumerProcess) -> None:
    """Unhealthy with its reason; degraded is no fault; of two, the one that dies without a word is named."""
    daemon = watched(worker, guest)
    web, db = Application(guest, "web"), Application(guest, "db")
    web.start()
    db.start()
    joined(daemon, guest, "web", "db")
    said = db.say("degraded", "40 s behind")
    assert_quiet(daemon, consumer, guest, said)
    said = db.say("unhealthy", "disk full")
    raised = consumer.wait_fault("raised", guest.uuid, PATIENCE, said)
    assert (raised.cause, raised.recommended_action, raised.withheld) == ("application_unhealthy", "alarm", "hold")
    assert raised.reason.endswith("db: disk full")
    assert {check["name"]: check["status"] for check in raised.health["checks"]} == {
        "db": "unhealthy",
        "web": "healthy",
    }
    said = db.say("healthy")
    recovered(consumer, raised, said)
    killed = web.kill()
    raised = consumer.wait_fault("raised", guest.uuid, PATIENCE, killed)
    assert raised.cause == "application_unhealthy"
    assert "web" in raised.reason
    again = web.start()
    recovered(consumer, raised, again)
    left = web.leave()
    db.leave()
    assert_quiet(daemon, consumer, guest, left)


def test_silence_is_told_from_death(guest: Guest, worker: Workers, consumer: ConsumerProcess) -> None:
    """vmhb-guest stopped while qemu-ga answers, with a restart of the worker in the middle; and the other way round."""
    daemon = watched(worker, guest)
    stopped = guest.stop_vmhb_guest()
    raised = consumer.wait_fault("raised", guest.uuid, PATIENCE, stopped)
    assert raised.at - stopped < DETECTION + 10.0
    told = consumer.wait_for(
        "the agent's word",
        lambda one: one.data.get("evidence", {}).get("other_channel", {}).get("value") is True,
        PATIENCE,
        stopped,
    )
    assert (told.cause, told.channel) == ("application_unresponsive", "application")
    daemon.stop()
    daemon.start()
    daemon.wait_known(guest.uuid)
    assert daemon.show(guest.uuid)["fault"]["fault_id"] == raised.fault_id
    healed = guest.continue_vmhb_guest()
    recovered(consumer, raised, healed)
    agent = guest.stop_agent()
    assert_quiet(daemon, consumer, guest, agent)
    guest.continue_agent()


def test_leaving_is_no_fault_and_is_told(guest: Guest, worker: Workers, consumer: ConsumerProcess) -> None:
    """Maintenance, and its overrun, which is a fault of its own; stopped in good order; rebooted; opened late."""
    daemon = watched(worker, guest)
    # Long enough for an emulated guest to be stopped before it is over: who answers afterwards has come back.
    said = guest.deed("vmhb-guest maintenance 20 --reason index")
    assert "'index'" in ended(consumer, guest, said).reason
    stopped = guest.stop_vmhb_guest()
    overdue = consumer.wait_fault("raised", guest.uuid, PATIENCE, stopped)
    assert (overdue.cause, overdue.recommended_action) == ("maintenance_overdue", "alarm")
    healed = guest.continue_vmhb_guest()
    recovered(consumer, overdue, healed)
    left = guest.deed("touch /run/no-guest; killall -TERM vmhb-guest")
    assert "goodbye" in ended(consumer, guest, left).reason
    daemon.stop()
    daemon.start()
    daemon.wait_known(guest.uuid)
    assert "goodbye" in daemon.show(guest.uuid)["silences"]
    assert faults(consumer, guest, left) == []
    opened = guest.allow_vmhb_guest()
    assert_quiet(daemon, consumer, guest, opened)
    rebooted = guest.reboot()
    wait_until(
        lambda: daemon.show(guest.uuid)["state"] == "waiting", PATIENCE, f"{guest.name} is waited for", every=0.1
    )
    assert_quiet(daemon, consumer, guest, rebooted)


def test_a_check_through_the_stock_agent(guests: Guests, worker: Workers, consumer: ConsumerProcess) -> None:
    """/etc/vmhb/health-check, run by qemu-ga: missing, unhealthy with what it prints, well again."""
    guest = guests.get(policy={"health_check": True})
    guest.run("rm -f /etc/vmhb/health-check")
    daemon = watched(worker, guest)
    wait_until(
        lambda: "is missing" in str((daemon.show(guest.uuid).get("health") or {}).get("unavailable")),
        PATIENCE,
        "it is said that there is no check",
        every=0.2,
    )
    begun = guest.deed(
        "printf '#!/bin/sh\\necho no database; exit 2\\n' >/etc/vmhb/hc; chmod +x /etc/vmhb/hc; "
        "mv /etc/vmhb/hc /etc/vmhb/health-check"
    )
    raised = consumer.wait_fault("raised", guest.uuid, PATIENCE, begun)
    assert raised.cause == "application_unhealthy"
    assert raised.reason.endswith("health-check: no database")
    healed = guest.deed("printf '#!/bin/sh\\nexit 0\\n' >/etc/vmhb/health-check")
    recovered(consumer, raised, healed)
    guest.run("rm -f /etc/vmhb/health-check")
