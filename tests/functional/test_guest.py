"""vmhb-guest in a real VM, over the real virtio port: the conformance kit is the host. No worker, no broker."""

from __future__ import annotations

import json
import time

import pytest

from tests.functional.conftest import Guests
from tests.functional.hosts import Hosts, until
from tests.lab.application import Application
from tests.lab.guest import BOOT_TIMEOUT, Guest
from tests.lab.image import Image
from tests.lab.processes import wait_until
from vmhb_guest.conformance.cmd import PASSED, examine
from vmhb_guest.conformance.rules import Trial

pytestmark = pytest.mark.patient

#: What the image with Python needs.
MEMORY = 160


@pytest.fixture
def guest(guests: Guests, application_image: Image) -> Guest:
    """One in which vmhb-guest runs, beside qemu-ga."""
    return guests.get(application=True, memory=MEMORY, guest_image=application_image)


def rounds(guest: Guest) -> int:
    """How often vmhb-guest has woken up so far."""
    return int(json.loads(guest.run("vmhb-guest status --json"))["rounds"])


def test_conformance(guest: Guest, hosts: Hosts) -> None:
    """Every rule of the protocol, beside a check that hangs."""
    guest.run("printf '#!/bin/sh\\n# vmhb: timeout=900\\nsleep 1000\\n' >/etc/vmhb/checks.d/hangs")
    guest.run("chmod +x /etc/vmhb/checks.d/hangs && killall -HUP vmhb-guest")
    host = hosts.at(guest)
    results = examine(Trial(host, BOOT_TIMEOUT))
    guest.run("rm /etc/vmhb/checks.d/hangs && killall sleep && killall -HUP vmhb-guest")
    assert [(one.rule.name, one.outcome, one.detail) for one in results if one.outcome != PASSED] == []


def test_applications(guest: Guest, hosts: Hosts) -> None:
    """Two in a VM: degraded, unhealthy, hung, killed, come back, left: each is told, and by name."""
    host = hosts.at(guest)
    billing, mail = Application(guest, "billing", watchdog=10), Application(guest, "mail", watchdog=3600)
    billing.start()
    mail.start()
    until(
        host,
        lambda checks: (
            {name: one["status"] for name, one in checks.items()} == dict.fromkeys(("billing", "mail"), "healthy")
        ),
    )
    billing.say("degraded", "replica is behind")
    until(host, lambda checks: checks["billing"]["status"] == "degraded")
    billing.say("unhealthy", "no database")
    told = until(host, lambda checks: checks["billing"]["status"] == "unhealthy")
    assert told["billing"]["message"] == "no database" and told["mail"]["status"] == "healthy"
    billing.say("healthy")
    until(host, lambda checks: checks["billing"]["status"] == "healthy")
    billing.hang()
    told = until(host, lambda checks: checks["billing"]["status"] == "unhealthy")
    assert told["billing"]["message"].endswith("its watchdog allows 10 s")
    billing.go_on()
    until(host, lambda checks: checks["billing"]["status"] == "healthy")
    mail.kill()
    told = until(host, lambda checks: checks["mail"]["status"] == "unhealthy")
    assert told["mail"]["message"].startswith("ended without STOPPING=1")
    mail.start()
    until(host, lambda checks: checks["mail"]["status"] == "healthy")
    mail.leave()
    billing.leave()
    until(host, lambda checks: not checks)


def test_stopped_while_the_agent_answers(guest: Guest, hosts: Hosts) -> None:
    """Its port takes challenges and nobody answers, while qemu-ga does; and what it finds afterwards harms nothing."""
    host = hosts.at(guest)
    host.ask()
    guest.stop_vmhb_guest()
    host.watch(1.0)  # what it said before: its hello may come after its first answer
    asked = [host.challenge() for _ in range(40)]
    host.say(b"".join(one.line for one in asked))
    wait_until(guest.agent_answers, 10, "qemu-ga answers beside it")
    assert host.watch(1.0) == 0
    guest.continue_vmhb_guest()
    assert [one.message.get("nonce") for one in host.hear_until(asked[-1])] == [one.nonce for one in asked]
    assert "unscheduled" in guest.run("vmhb-guest status --json")


def test_port_opened_late(guest: Guest, hosts: Hosts) -> None:
    """The oldest challenges come first, and are acknowledged as well as the newest; in another life, nothing is."""
    guest.kill_vmhb_guest(restart=False)
    host = hosts.at(guest)
    asked = [host.challenge() for _ in range(64)]
    host.say(b"".join(one.line for one in asked))
    guest.allow_vmhb_guest()
    acks = [one.message for one in host.hear_until(asked[-1]) if one.message["type"] == "ack"]
    assert [one["nonce"] for one in acks] == [one.nonce for one in asked]
    host.leave()
    before = rounds(guest)
    time.sleep(2)  # the time for which it must be quiet
    assert rounds(guest) - before < 100, "it spins while the host is away"
    host.arrive()
    host.ask()
    assert len([one for one in host.heard if one.message["type"] == "ack"]) == len(asked) + 1


def test_rebooted(guest: Guest, hosts: Hosts) -> None:
    """The host's connection outlives it; after the boot a hello, and acks again."""
    host = hosts.at(guest)
    host.ask()
    before = len(host.heard)
    guest.reboot()
    deadline = time.monotonic() + BOOT_TIMEOUT
    while len(host.heard) == before:
        assert time.monotonic() < deadline, guest.last_words()
        host.watch(0.5)
    assert host.heard[before].message["type"] == "hello"
    assert host.ask(health=True)[-1].message["health"] == {"status": "healthy", "checks": []}
    guest.wait_agent()


def test_plugged_in_later(guests: Guests, application_image: Image, hosts: Hosts) -> None:
    """A port that appears in a running VM is answered on; when it is gone, the daemon ends with 0, and one line."""
    guest = guests.get(fresh=True, memory=MEMORY, guest_image=application_image)
    assert "nothing to do here" in guest.run("vmhb-guest run 2>&1; echo exit $?").replace("exit 0", "")
    guest.plug_channel()
    hosts.at(guest).ask()
    guest.unplug_channel()
    deadline = time.monotonic() + BOOT_TIMEOUT
    while "vmhb-guest ended: 0" not in guest.last_words(50):
        assert time.monotonic() < deadline, guest.last_words(50)
        time.sleep(0.2)
    assert "there is no port /dev/virtio-ports/org.openstack.vmhb.0 any more: ending" in guest.last_words(50)
