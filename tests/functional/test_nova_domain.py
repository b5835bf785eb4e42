"""A guest booted from the XML that our driver made inside Nova: from a flavor to a heartbeat, nothing in between."""

from __future__ import annotations

import copy
import socket
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.functional.conftest import Workers, acks
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.processes import wait_until
from vmhb_common.model.policy import PORT_NAMES, Channel
from vmhb_worker.core import domain_xml

pytestmark = pytest.mark.patient

SAMPLES = Path(__file__).parent.parent / "samples" / "domains"

#: What the lab's guests have of their own: no disk and no display, a processor that is emulated, the lab's kernel.
LABS_OWN = ("memory", "vcpu", "os", "features", "clock", "on_poweroff", "on_reboot", "on_crash")
ABSENT = ("sysinfo", "iothreads", "cpu")
DEVICES_ABSENT = ("disk", "serial", "graphics", "video", "input", "controller", "rng")
DEVICES_OF_THE_LAB = ("emulator", "serial", "controller")


class NovasGuest(Guest):
    """A guest whose metadata, channels and balloon are, element by element, those that Nova gave it."""

    def __init__(self, node: Node, image: Image, sample: str) -> None:
        self.sample = ElementTree.parse(SAMPLES / sample).getroot()
        super().__init__(node, self.sample.findtext("name", ""), guest_image=image)
        self.uuid = self.sample.findtext("uuid", "")

    @property
    def xml(self) -> str:
        """Nova's, where this machine can have it."""
        domain, lab = copy.deepcopy(self.sample), ElementTree.fromstring(super().xml)
        domain.set("type", "qemu")
        for element in [each for each in domain if each.tag in (*LABS_OWN, *ABSENT)]:
            domain.remove(element)
        domain.extend([each for each in lab if each.tag in LABS_OWN])
        devices = domain.find("devices")
        assert devices is not None
        for element in [each for each in devices if each.tag in DEVICES_ABSENT]:
            devices.remove(element)
        devices.extend([each for each in lab.iterfind("devices/*") if each.tag in DEVICES_OF_THE_LAB])
        devices.extend(lab.iterfind("devices/channel[target][last()]"))  # what a test speaks to the guest through
        return ElementTree.tostring(domain, encoding="unicode")


@pytest.fixture
def boot(node: Node, image: Image, request: pytest.FixtureRequest) -> Iterator[NovasGuest]:
    """The guest of the sample that the test names. Gone with the test: all of them are one and the same instance."""
    guest = NovasGuest(node, image, request.param)
    guest.define()
    guest.boot()
    yield guest
    guest.destroy()
    guest.undefine()


def live(guest: NovasGuest) -> str:
    """Its XML as libvirt has it."""
    return guest.node.virsh("dumpxml", guest.name)


@pytest.mark.parametrize("boot", ["nova-agent.xml"], indirect=True)
def test_the_flavor_is_all_it_takes(boot: NovasGuest, worker: Workers) -> None:
    """The worker finds it, with the flavor's policy, and it acknowledges."""
    daemon = worker()
    daemon.wait_known(boot.uuid)
    wait_until(lambda: acks(daemon, boot), 30, "it acknowledges")
    policy = daemon.show(boot.uuid)["policy"]
    assert (policy["interval"], policy["timeout"], policy["threshold"]) == ("1", "1", "3")


@pytest.mark.parametrize("boot", ["nova-application.xml"], indirect=True)
def test_libvirt_places_the_applications_channel(boot: NovasGuest) -> None:
    """A socket that can be connected to, beside the agent's, which works; and the policy is still there."""
    view = domain_xml.read(live(boot))
    assert view.asked == {"heartbeat": "true", "channel": "application"}
    assert f"{PORT_NAMES[Channel.AGENT]}.{boot.name}.sock" in str(view.ports[Channel.AGENT].path)
    path = view.ports[Channel.APPLICATION].path
    assert path is not None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(boot.node.outside(path)))


@pytest.mark.parametrize("boot", ["nova-application.xml"], indirect=True)
def test_a_saved_guest_comes_back_with_both(boot: NovasGuest) -> None:
    """Suspend and resume, as Nova does it: policy and channels are as before, whatever the socket's new path."""
    before = domain_xml.read(live(boot))
    boot.managedsave()
    boot.start()
    boot.wait_agent()
    after = domain_xml.read(live(boot))
    assert after.asked == before.asked
    assert set(after.ports) == set(before.ports) == set(Channel)
