"""vmhb-guest's packages: looked at by Debian's own tools, and in Debian's guests: installed, upgraded, purged.

The conformance kit is the host. Nobody starts anything in a guest: that is udev's and dpkg's affair.
"""

from __future__ import annotations

import functools
import json
import pathlib
import re
import shutil
import time

import pytest

from tests.functional.conftest import Guests
from tests.functional.hosts import Hosts, until
from tests.functional.test_guest_systemd import do, shown, start_billing, wait_shown
from tests.lab.guest import BOOT_TIMEOUT, Guest
from tests.lab.image import Image
from tests.packages import guest_image
from tests.packages.conftest import built, got
from tests.packages.guest_image import MEMORY, SUITES
from tools.lib import roots
from tools.lib.packages import LATER, NOW, WORKSHOP
from vmhb_guest import __version__
from vmhb_guest.conformance.cmd import PASSED, examine
from vmhb_guest.conformance.host import Host
from vmhb_guest.conformance.rules import Trial

#: Of lintian's hints none but these, which it calls mere information. Why each is as it should be:
INFORMATION = {
    "systemd-service-file-missing-install-key": "udev wants the service, and every shutdown the other one, by a link",
    "no-homepage-field": "there is no page yet",
}
#: Seconds, on an emulated processor that others want, too: from power on to the first heartbeat's answer.
FIRST_BOOT = 600.0
#: On the kernel's command line: as long may udev take to find a port, for which systemd waits 90 s by itself.
PATIENT = f"systemd.default_device_timeout_sec={FIRST_BOOT:.0f}"
#: In the guest.
DEB, LATER_DEB = f"/root/vmhb-guest_{__version__}_all.deb", f"/root/vmhb-guest_{__version__}+later_all.deb"


@functools.cache
def _booted(suite: str) -> Image:
    debs = [next((built() / one).glob("*.deb")) for one in (NOW, LATER)]
    return guest_image.build(suite, debs, lower=roots.made(guest_image.RECIPES[suite]))


def _rpm() -> Image:
    lower = roots.made(guest_image.RECIPES["trixie"])
    return guest_image.build("rpm", list(built().glob("*.rpm")), _rpm_installed, lower=lower)


def _rpm_installed(tree: pathlib.Path) -> None:
    """By Debian's rpm, with a database of its own."""
    with roots.entered(WORKSHOP, beside=tree) as root:
        root.run("rpm --root /mnt --initdb && rpm -i --root /mnt --nodeps /mnt/root/*.rpm")
        assert root.run("rpm -q --root /mnt --qf '%{VERSION}' vmhb-guest").endswith(__version__)


def broken(guest: Guest) -> str:
    """The units that failed. (Debian goes on starting for long after the agents answer.)"""
    return guest.run("systemctl --plain --no-legend --failed")


def boot(guests: Guests, image: Image, memory: int = MEMORY) -> Guest:
    """One that has just been switched on, with the port. On an emulated processor it takes its time: FIRST_BOOT."""
    return guests.get(wait=False, application=True, memory=memory, guest_image=image, cmdline=PATIENT)


def _at(hosts: Hosts, guest: Guest) -> Host:
    """A host at its port, which may wait for a package: nobody has opened the other end yet."""
    host = Host(str(guest.channel_socket()), patience=BOOT_TIMEOUT)
    hosts.made.append(host)
    host.arrive()
    return host


def _files(guest: Guest) -> set[str]:
    """All that is named after it, anywhere but in /root, and in what the kernel and systemd show."""
    found = guest.run("find / -xdev \\( -name '*vmhb*' -o -path '/etc/vmhb/*' \\) ! -path '/root/*' ! -path '/proc/*'")
    return {path for path in found.split() if not path.startswith(("/dev", "/run", "/sys"))}


def test_lintian(guest_packages: pathlib.Path) -> None:
    """Of today's Debian: no error, no warning, no override; and of lesser hints only those that are meant."""
    with roots.entered(WORKSHOP) as root:
        shutil.copytree(guest_packages, root.share / "built")
        assert not list((root.share / "built").rglob("*override*"))
        said = root.run(
            "lintian --allow-root --display-info --pedantic --show-overrides built/now/*.changes", check=False
        )
    hints = [line for line in said.splitlines() if re.match(r"[A-Z]: ", line)]
    names = {match[1] for line in hints if (match := re.match(r"[IP]: vmhb-guest(?: source)?: ([\w-]+)", line))}
    assert [line for line in hints if not line.startswith(("I:", "P:"))] == [], said
    assert names <= set(INFORMATION), said


@pytest.mark.parametrize("suite", SUITES)
def test_piuparts(guest_packages: pathlib.Path, suite: str) -> None:
    """In a root of each suite: installed, removed and purged, nothing is left behind. (Upgraded: `test_a_guest`.)"""
    bare = got(lambda: roots.made(guest_image.RECIPES[suite]))
    with roots.entered(WORKSHOP, beside=bare) as root:
        shutil.copytree(guest_packages, root.share / "built")
        options = f"--distribution={suite} --existing-chroot=/mnt --no-upgrade-test --no-eatmydata --no-adequate"
        said = root.run(f"piuparts {options} built/now/*.deb", check=False)
    if roots.BROKEN.search(said) and "PASS: All tests" not in said:
        pytest.skip(f"NOT TESTED, since Debian's archive is broken: {said[-2000:]}")
    assert "PASS: All tests" in said, said[-3000:]


@pytest.mark.parametrize("suite", SUITES)
def test_a_guest(guests: Guests, hosts: Hosts, guest_packages: pathlib.Path, suite: str) -> None:
    """Installed where the port is already: it answers at once. Upgraded: it answers on, and nobody was ended.

    Purged: the port is not answered, what services spoke through leads to systemd, and no file of it is left.
    """
    guest = boot(guests, got(lambda: _booted(suite)))
    guest.wait_ready(FIRST_BOOT)
    before = _files(guest)
    host = _at(hosts, guest)
    do(guest, f"dpkg -i {DEB}")
    host.ask()  # the first heartbeat
    found = shown(guest)
    assert (found["ActiveState"], found["SubState"], found["NRestarts"]) == ("active", "running", "0")
    assert broken(guest) == ""
    results = examine(Trial(host, BOOT_TIMEOUT))
    assert [(one.rule.name, one.outcome, one.detail) for one in results if one.outcome != PASSED] == []
    start_billing(guest)
    until(host, lambda checks: "billing" in checks)
    billing, pid = shown(guest, "billing"), found["MainPID"]

    do(guest, f"dpkg -i {LATER_DEB}")
    wait_shown(guest, {"ActiveState": "active"})
    assert shown(guest)["MainPID"] != pid, "the new one runs"
    until(host, lambda checks: "billing" in checks)
    known = json.loads(guest.run("vmhb-guest status --json"))["applications"]
    assert [one["name"] for one in known] == ["billing"]

    do(guest, "dpkg --purge vmhb-guest")
    wait_shown(guest, {"ActiveState": "inactive"})
    time.sleep(15)  # longer than billing's watchdog, 10 s
    same = ("MainPID", "NRestarts", "InvocationID")
    assert {one: shown(guest, "billing")[one] for one in same} == {one: billing[one] for one in same}
    assert broken(guest) == ""
    assert _files(guest) == before
    assert "vmhb" not in guest.run("udevadm info /dev/virtio-ports/org.openstack.vmhb.0 | grep WANTS || true")


def test_the_rpm(guests: Guests, hosts: Hosts, guest_packages: pathlib.Path) -> None:
    """It brings the files to where the .deb does; a guest with them answers. (Not tried on an Enterprise Linux.)"""
    guest = boot(guests, got(_rpm))
    host = hosts.at(guest)
    host.patience = FIRST_BOOT
    host.ask()
    guest.wait_ready(FIRST_BOOT)
    assert broken(guest) == ""
    results = examine(Trial(host, BOOT_TIMEOUT))
    assert [(one.rule.name, one.outcome, one.detail) for one in results if one.outcome != PASSED] == []
