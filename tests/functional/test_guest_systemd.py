"""vmhb-guest in Debian as it is: installed as the docs say, started by udev and systemd, beside a service of systemd's.

The kit is the host. The service, ``billing``, knows nothing of vmhb-guest.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping

import pytest

from tests.conftest import Figure
from tests.functional.conftest import Guests, Workers, acks, assert_quiet
from tests.functional.hosts import Hosts, until
from tests.lab import debian
from tests.lab.guest import BOOT_TIMEOUT, Guest
from tests.lab.image import Image
from tests.lab.processes import wait_until
from tests.stage.consumer import ConsumerProcess
from vmhb_guest.conformance.cmd import PASSED, examine
from vmhb_guest.conformance.host import Host
from vmhb_guest.conformance.rules import Trial

pytestmark = pytest.mark.patient

#: Seconds: WatchdogSec= of billing.service. It says that it is alive every half of them.
WATCHDOG = 10
#: Seconds that a slow service takes to stop.
SLOW = 20


@pytest.fixture
def guest(guests: Guests, debian_image: Image) -> Guest:
    """One with the port."""
    return guests.get(application=True, memory=debian.MEMORY, guest_image=debian_image)


@pytest.fixture
def host(guest: Guest, hosts: Hosts) -> Host:
    """At that guest's port, and answered."""
    one = hosts.at(guest)
    one.ask()
    return one


def shown(guest: Guest, unit: str = "vmhb-guest") -> dict[str, str]:
    """What systemd says of a unit."""
    return dict(row.split("=", 1) for row in guest.run(f"systemctl show {unit}").splitlines() if "=" in row)


def wait_shown(guest: Guest, wanted: Mapping[str, str], unit: str = "vmhb-guest") -> None:
    """Until systemd says this of the unit."""
    wait_until(lambda: wanted.items() <= shown(guest, unit).items(), BOOT_TIMEOUT, f"{unit}: {wanted}", every=0.3)


def lines(guest: Guest, unit: str = "vmhb-guest") -> list[str]:
    """What is in the journal of it, systemd's own lines included."""
    return guest.run(f"journalctl -q -o cat -u {unit}").splitlines()


def signal(guest: Guest, name: str, unit: str) -> None:
    """To the main process of the unit."""
    guest.deed(f"kill -{name} {shown(guest, unit)['MainPID']}")


def failed(guest: Guest) -> str:
    """The units that failed, and those that still start."""
    return guest.run("systemctl --plain --no-legend --failed; systemctl --plain --no-legend list-jobs")


def do(guest: Guest, command: str) -> None:
    """A command that must succeed, however long an emulated systemd takes."""
    guest.run(command, BOOT_TIMEOUT)


def start_billing(guest: Guest) -> None:
    """Join it as the docs say. systemctl comes back when it has said READY=1 to systemd."""
    unit = "/etc/systemd/system/billing.service.d"
    guest.deed(f"mkdir -p {unit} && cat >{unit}/override.conf <<'END'\n{debian.drop_in()}\nEND")
    do(guest, "systemctl daemon-reload && systemctl restart billing")
    found = shown(guest, "billing")
    assert (found["ActiveState"], found["StatusText"], found["NRestarts"]) == ("active", "serving", "0")
    assert guest.run(f"cat /proc/{found['MainPID']}/comm").strip() == "billing", "exec becomes the program"


def joined(host: Host) -> bool:
    """Is billing there, and well?"""
    return until(host, lambda checks: "billing" in checks)["billing"]["status"] == "healthy"


def assert_same_life(guest: Guest, before: Mapping[str, str]) -> None:
    """billing is active, and was all the time."""
    after = shown(guest, "billing")
    same = ("ActiveState", "MainPID", "NRestarts", "InvocationID", "Result")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}


def test_port_at_boot(guests: Guests, debian_image: Image, hosts: Hosts, figure: Figure) -> None:
    """udev starts it, systemd knows when it is ready, and it keeps to every rule."""
    began = time.monotonic()
    guest = guests.get(application=True, memory=debian.MEMORY, guest_image=debian_image)
    figure("Debian guest, from power on to its agent's answer", time.monotonic() - began, "s")
    host = hosts.at(guest)
    host.ask()
    figure("Debian guest, from power on to its first ack", time.monotonic() - began, "s")
    found = shown(guest)
    assert (found["ActiveState"], found["SubState"], found["Type"], found["NRestarts"]) == (
        *("active", "running", "notify", "0"),
    )
    assert failed(guest) == ""
    results = examine(Trial(host, BOOT_TIMEOUT))
    assert [(one.rule.name, one.outcome, one.detail) for one in results if one.outcome != PASSED] == []


@pytest.mark.long  # it waits for watchdogs
def test_a_service_with_a_watchdog(guest: Guest, host: Host) -> None:
    """Its words reach systemd and the cloud both; so does its silence."""
    start_billing(guest)
    assert until(host, lambda checks: "billing" in checks)["billing"]["message"] == "serving"
    known = json.loads(guest.run("vmhb-guest status --json"))["applications"]
    assert [(one["name"], one["watchdog"]) for one in known] == [("billing", WATCHDOG)]
    before = shown(guest, "billing")
    time.sleep(1.5 * WATCHDOG)  # the time for which systemd must not end it
    assert_same_life(guest, before)
    assert shown(guest, "billing")["WatchdogTimestampMonotonic"] > before["WatchdogTimestampMonotonic"]
    signal(guest, "STOP", "billing")
    until(host, lambda checks: checks["billing"]["status"] == "unhealthy")
    wait_shown(guest, {"ActiveState": "failed", "Result": "watchdog"}, "billing")
    told = until(host, lambda checks: not checks["billing"]["message"].startswith("silent for"))
    assert told["billing"]["message"] == f"ended without STOPPING=1 (pid {before['MainPID']})"
    do(guest, "systemctl restart billing")
    assert joined(host)
    pid = shown(guest, "billing")["MainPID"]
    signal(guest, "KILL", "billing")
    told = until(host, lambda checks: checks["billing"]["status"] == "unhealthy")
    assert told["billing"]["message"] == f"ended without STOPPING=1 (pid {pid})"
    do(guest, "systemctl restart billing && systemctl stop billing")
    until(host, lambda checks: not checks)


@pytest.mark.long  # it waits for watchdogs
def test_killed(guest: Guest, host: Host) -> None:
    """systemd starts it again, who had joined is known, and no service is ended for its absence."""
    start_billing(guest)
    assert joined(host)
    before, restarts = shown(guest, "billing"), int(shown(guest)["NRestarts"])
    signal(guest, "KILL", "vmhb-guest")
    host.ask()
    assert joined(host)
    assert int(shown(guest)["NRestarts"]) == restarts + 1
    do(guest, "systemctl stop vmhb-guest")
    assert shown(guest)["Result"] == "success"
    time.sleep(1.5 * WATCHDOG)  # systemd must hear billing without us
    assert_same_life(guest, before)
    do(guest, "systemctl start vmhb-guest")
    assert guest.run("systemctl is-active vmhb-guest") == "active\n"
    assert joined(host)
    assert_same_life(guest, before)
    do(guest, "systemctl stop billing")
    until(host, lambda checks: not checks)


@pytest.mark.long  # it waits for watchdogs
def test_hung(guest: Guest, host: Host) -> None:
    """A loop that goes round no more is ended by systemd and started again, and who had joined is known."""
    start_billing(guest)
    assert joined(host)
    before, pid = shown(guest), shown(guest)["MainPID"]
    signal(guest, "STOP", "vmhb-guest")
    wait_until(lambda: shown(guest)["MainPID"] not in (pid, "0"), BOOT_TIMEOUT, "another vmhb-guest", every=0.3)
    host.ask(health=True)
    assert int(shown(guest)["NRestarts"]) == int(before["NRestarts"]) + 1
    assert any("Watchdog timeout" in line for line in lines(guest))
    assert "billing" in {one["name"] for one in json.loads(guest.run("vmhb-guest status --json"))["applications"]}
    # Nobody passed its words on for longer than its own watchdog allows: that it was ended is right.
    do(guest, "systemctl restart billing")
    assert joined(host)
    do(guest, "systemctl stop billing")
    until(host, lambda checks: not checks)


def slow_billing(guest: Guest) -> None:
    """It takes SLOW to stop, and says nothing of it: no STOPPING=1."""
    start_billing(guest)
    do(guest, "systemctl stop billing")  # as it was, and not slowly yet
    rows = f"[Service]\nExecStop=/bin/sleep {SLOW}\nKillSignal=SIGKILL\nTimeoutStopSec={3 * SLOW}\nWatchdogSec=0\n"
    # Without systemd's watchdog it has none of ours either, and must be told a pace.
    rows += "Environment=WATCHDOG_USEC=2000000\n"
    guest.deed(f"printf '{rows}' >/etc/systemd/system/billing.service.d/slow.conf")
    do(guest, "systemctl daemon-reload && systemctl start billing")


def nobody_accused(host: Host, since: int) -> None:
    """In all that it said from this line on."""
    said = [one.message for one in host.heard[since:] if isinstance(one.message, dict)]
    reports = [one["health"] for one in said if one["type"] == "ack" and "health" in one]
    assert [one for one in reports if one["status"] != "healthy"] == []


@pytest.mark.long  # it waits for a service that takes its time
def test_a_service_that_is_stopped_slowly(guest: Guest, host: Host) -> None:
    """By its operator: nobody is accused, and nothing is left of it."""
    slow_billing(guest)
    assert joined(host)
    since = len(host.heard)
    do(guest, "systemctl stop --no-block billing")
    until(host, lambda checks: not checks)
    nobody_accused(host, since)
    do(guest, "rm /etc/systemd/system/billing.service.d/slow.conf && systemctl daemon-reload")


@pytest.mark.long  # it waits for watchdogs
def test_a_frozen_service(guest: Guest, host: Host) -> None:
    """It is not judged while it is frozen, for longer than its watchdog allows; when it goes on it is as it was."""
    start_billing(guest)
    guest.deed("mkdir -p /run/systemd/system/billing.service.d")
    rows = f"[Service]\nWatchdogSec=0\nEnvironment=WATCHDOG_USEC={WATCHDOG}000000\n"  # or systemd would end it
    guest.deed(f"printf '{rows}' >/run/systemd/system/billing.service.d/unwatched.conf")
    do(guest, "systemctl daemon-reload && systemctl restart billing")
    assert joined(host)
    before, since = shown(guest, "billing"), len(host.heard)
    do(guest, "systemctl freeze billing")
    for _ in range(3 * WATCHDOG):
        host.ask(health=True)
        time.sleep(0.5)
    do(guest, "systemctl thaw billing")
    assert joined(host)
    nobody_accused(host, since)
    assert_same_life(guest, before)
    do(guest, "rm -r /run/systemd/system/billing.service.d && systemctl daemon-reload && systemctl stop billing")
    until(host, lambda checks: not checks)


@pytest.mark.long  # it shuts down, and boots
def test_an_orderly_reboot(guests: Guests, debian_image: Image, hosts: Hosts) -> None:
    """Goodbye before anything has been stopped, no answer after it, and nobody accused; then it boots, and answers."""
    guest = guests.get(fresh=True, application=True, memory=debian.MEMORY, guest_image=debian_image)
    host = hosts.at(guest)
    host.ask()
    slow_billing(guest)
    assert joined(host)
    since = len(host.heard)
    began = guest.begin("systemctl reboot --no-block")
    while not list(host.said("goodbye")):
        host.watch(0.2)
        assert time.monotonic() < began + SLOW, "before the slow one has stopped"
    at = len(host.heard)
    while not [one for one in host.heard[at:] if isinstance(one.message, dict) and one.message["type"] == "hello"]:
        host.say(host.challenge(health=True).line)
        host.watch(1.0)
        assert time.monotonic() < began + SLOW + 2 * BOOT_TIMEOUT, "it boots"
    until(host, lambda checks: not checks)
    before_the_boot = itertools.takewhile(lambda one: one.message["type"] != "hello", host.heard[at:])
    assert [one.message["type"] for one in before_the_boot if one.message["type"] == "ack"] == []
    nobody_accused(host, since)


@pytest.mark.long  # it shuts down, and boots
@pytest.mark.parametrize("health_check", [True, False])
def test_an_orderly_reboot_is_no_fault(
    guests: Guests, debian_image: Image, worker: Workers, consumer: ConsumerProcess, health_check: bool
) -> None:
    """Of a guest that is judged by its application, though the service in it takes its time."""
    policy = {"channel": "application", "health_check": health_check, "action": "recover_unresponsive"}
    guest = guests.get(fresh=True, application=True, memory=debian.MEMORY, guest_image=debian_image, policy=policy)
    daemon = worker(start=False)
    daemon.where = guest.node.inside  # where its libvirt puts the channels' sockets
    daemon.start()
    daemon.wait_known(guest.uuid)
    wait_until(lambda: acks(daemon, guest), BOOT_TIMEOUT, f"{guest.name} acknowledges", every=0.2)
    slow_billing(guest)
    began = guest.begin("systemctl reboot --no-block")
    wait_until(
        lambda: "goodbye" in str(daemon.show(guest.uuid)["silences"]), SLOW, "goodbye at the beginning", every=0.2
    )
    time.sleep(SLOW)
    assert_quiet(daemon, consumer, guest, began)


def test_callers(guest: Guest, host: Host) -> None:
    """status and maintenance, by the operator of the guest."""
    said = guest.run("vmhb-guest status")
    assert said.startswith("health       healthy\nhost         connected, challenged ")
    assert guest.run("vmhb-guest maintenance 5m --reason 'kernel update'") == "asked for 300 s of maintenance\n"
    host.ask()
    assert [(one["seconds"], one["reason"]) for one in host.said("maintenance")] == [(300, "kernel update")]
    assert "\nmaintenance  " in guest.run("vmhb-guest status")
    guest.deed("vmhb-guest maintenance 0")


def test_the_single_file(guest: Guest, host: Host) -> None:
    """It runs in the place of the package, by the same unit."""
    guest.deed("mv /usr/local/bin/vmhb-guest /root/package && cp /root/vmhb-guest /usr/bin/vmhb-guest")
    do(guest, "systemctl restart vmhb-guest")
    host.ask()
    assert "/usr/bin/vmhb-guest" in guest.run(f"tr '\\0' ' ' </proc/{shown(guest)['MainPID']}/cmdline")
    do(guest, "mv /root/package /usr/local/bin/vmhb-guest && rm /usr/bin/vmhb-guest && systemctl restart vmhb-guest")
    host.ask()


@pytest.mark.long  # it waits for watchdogs
def test_plugged_in_later(guests: Guests, debian_image: Image, hosts: Hosts) -> None:
    """Without the port nothing is started and nothing fails. With it, it starts; without it again, it ends in order.

    A service that was started before is heard from then on, and outlives it.
    """
    guest = guests.get(fresh=True, memory=debian.MEMORY, guest_image=debian_image)
    wait_until(lambda: failed(guest) == "", BOOT_TIMEOUT, "the boot is over", every=1)
    assert (shown(guest)["ActiveState"], lines(guest)) == ("inactive", [])
    assert guest.run("vmhb-guest run 2>&1").splitlines() == [
        "INFO there is no port /dev/virtio-ports/org.openstack.vmhb.0: nothing to do here"
    ]
    start_billing(guest)
    before = shown(guest, "billing")
    for _ in range(2):
        guest.plug_channel()
        host = hosts.at(guest)
        assert joined(host)
        assert shown(guest)["ActiveState"] == "active"
        host.leave()
        guest.unplug_channel()
        wait_shown(guest, {"ActiveState": "inactive", "Result": "success", "NRestarts": "0"})
        assert failed(guest) == ""
        time.sleep(1.5 * WATCHDOG)  # systemd must hear billing without us
        assert_same_life(guest, before)
