"""A whole Nova, from a flavor and an image to the XML that libvirt gets, and what planned operations make of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import pytest
from nova.conf import CONF
from oslo_utils import uuidutils

from nova_vmhb import driver
from tests.nova.cloud import Cloud, channels, elements, running
from vmhb_worker.core import domain_xml
from vmhb_worker.core.policy import POLICY_NS, PORT_NAMES, Channel

ON = {"hw:heartbeat": "true"}
ON_APPLICATION = {**ON, "hw:heartbeat_channel": "application", "hw:heartbeat_interval": "0.5"}
BOTH = [PORT_NAMES[Channel.AGENT], PORT_NAMES[Channel.APPLICATION]]
ELEMENT = f"{{{POLICY_NS}}}heartbeat"


class TwoHosts(Cloud):
    """Instances can move."""

    COMPUTES = ("compute1", "compute2")

    def flavor(self, extra_specs: Mapping[str, str], memory: int = 512) -> str:
        """Its id."""
        flavor: str = self._create_flavor(memory_mb=memory, disk=1, ephemeral=0, extra_spec=dict(extra_specs))
        return flavor

    def image(self, properties: Mapping[str, str]) -> str:
        """Its id."""
        image = {**self.glance.image1, "id": uuidutils.generate_uuid(), "properties": dict(properties)}
        self.glance.create(None, image)
        return str(image["id"])

    def server(self, extra_specs: Mapping[str, str], image: Mapping[str, str] | None = None) -> Any:
        """Boot one on compute1."""
        return self._create_server(
            flavor_id=self.flavor(extra_specs),
            image_uuid=self.image(image or {}),
            networks="none",
            host="compute1",
            api=self.admin_api,
        )

    def xml(self, server: Any) -> str:
        """The last that libvirt got for this server. It is taken away, so that each is looked at once."""
        xml = next(xml for xml in reversed(self.defined) if server["id"] in xml)
        self.defined.clear()
        return xml

    def act(self, server: Any, action: str, state: str, body: Any = None) -> None:
        """Do it, and wait until it is done."""
        self.admin_api.post_server_action(server["id"], {action: body})
        self._wait_for_state_change(server, state)

    def resize(self, server: Any, flavor: str) -> None:
        """Up to the point where it waits for a yes or no."""
        migrate = "nova.virt.libvirt.driver.LibvirtDriver.migrate_disk_and_power_off"
        with mock.patch(migrate, return_value="{}"):
            self._resize_server(server, flavor)


@pytest.fixture(scope="module")
def cloud() -> Iterator[TwoHosts]:
    """Two compute nodes."""
    with running(TwoHosts()) as cloud:
        yield cloud


def names(xml: str) -> list[str]:
    """Its channels."""
    return [name for name, _ in channels(xml)]


def asked(xml: str) -> Mapping[str, str] | None:
    """What the worker reads in it; our element is there once."""
    assert elements(xml).count(ELEMENT) == 1
    return domain_xml.read(xml).asked


def is_stock(xml: str) -> bool:
    """Nothing in it is ours."""
    return not channels(xml) and ELEMENT not in elements(xml)


def test_spawn(cloud: TwoHosts) -> None:
    """The flavor alone: the image says nothing, and has no word about an agent."""
    xml = cloud.xml(cloud.server(ON_APPLICATION))
    assert names(xml) == BOTH
    assert asked(xml) == {"heartbeat": "true", "channel": "application", "interval": "0.5"}
    assert elements(xml)[0] == f"{{{domain_xml.NOVA_NS}}}instance"


def test_a_silent_flavor(cloud: TwoHosts) -> None:
    """Nothing, whatever the image says."""
    assert is_stock(cloud.xml(cloud.server({}, {"hw_heartbeat": "true", "hw_heartbeat_channel": "application"})))


def test_an_image_has_its_say(cloud: TwoHosts) -> None:
    """Its properties come all the way from Glance, although Nova's objects do not know them."""
    xml = cloud.xml(cloud.server(ON, {"hw_heartbeat_channel": "application", "hw_heartbeat_interval": "60"}))
    assert names(xml) == BOTH
    assert asked(xml) == {"heartbeat": "true", "channel": "application", "interval": "60"}
    xml = cloud.xml(cloud.server(ON, {"hw_heartbeat": "no"}))
    assert names(xml) == []
    assert asked(xml) == {"heartbeat": "false"}


def test_a_failure_of_ours_fails_no_spawn(
    cloud: TwoHosts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The guest boots without us, and the log names it."""
    monkeypatch.setattr(driver, "asked", mock.Mock(side_effect=RuntimeError("ours")))
    server = cloud.server(ON_APPLICATION)
    assert server["status"] == "ACTIVE"
    assert is_stock(cloud.xml(server))
    record = next(record for record in caplog.records if record.name == "nova_vmhb.driver")
    assert record.__dict__["instance"].uuid == server["id"]


@pytest.mark.parametrize("extra_specs", [ON_APPLICATION, {}])
def test_whenever_nova_writes_it_anew(cloud: TwoHosts, extra_specs: Mapping[str, str]) -> None:
    """Hard reboot, start, rescue, unshelve, cold migration: once, and as at the first time; or nothing, each time."""
    server = cloud.server(extra_specs)
    first = cloud.xml(server)

    def same(xml: str) -> bool:
        return channels(xml) == channels(first) and elements(xml) == elements(first)

    assert is_stock(first) == (not extra_specs)
    cloud._reboot_server(server, hard=True, api=cloud.admin_api)
    assert same(cloud.xml(server))
    cloud.act(server, "os-stop", "SHUTOFF")
    cloud.act(server, "os-start", "ACTIVE")
    assert same(cloud.xml(server))
    os.makedirs(os.path.join(CONF.instances_path, server["id"]), exist_ok=True)
    cloud.act(server, "rescue", "RESCUE")
    assert same(cloud.xml(server))
    with mock.patch("nova.virt.libvirt.utils.load_file", return_value=first):
        cloud.act(server, "unrescue", "ACTIVE")
    with mock.patch("nova.virt.libvirt.driver.LibvirtDriver.snapshot"):
        cloud.act(server, "shelve", "SHELVED_OFFLOADED")
    cloud.defined.clear()
    cloud.act(server, "unshelve", "ACTIVE")
    assert same(cloud.xml(server))


def test_rebuild_with_another_image(cloud: TwoHosts) -> None:
    """The policy is that of the flavor and the image that it now has."""
    server = cloud.server(ON, {"hw_heartbeat_channel": "application"})
    assert names(cloud.xml(server)) == BOTH
    cloud._rebuild_server(server, cloud.image({}))
    xml = cloud.xml(server)
    assert names(xml) == BOTH[:1]
    assert asked(xml) == {"heartbeat": "true"}
    cloud._rebuild_server(server, cloud.image({"hw_heartbeat": "false"}))
    assert asked(cloud.xml(server)) == {"heartbeat": "false"}
    cloud._rebuild_server(server, cloud.image({"hw_heartbeat_grace": "0"}))
    assert asked(cloud.xml(server)) == {"heartbeat": "true", "grace": "0"}


def test_resize(cloud: TwoHosts) -> None:
    """To another policy and back, to another and on, out of monitoring and into it."""
    server = cloud.server(ON, {"hw_heartbeat_channel": "application"})
    cloud.xml(server)
    slower = cloud.flavor({**ON, "hw:heartbeat_interval": "30"}, memory=1024)
    cloud.resize(server, slower)
    assert asked(cloud.xml(server)) == {"heartbeat": "true", "interval": "30", "channel": "application"}
    cloud._revert_resize(server)
    assert asked(cloud.xml(server)) == {"heartbeat": "true", "channel": "application"}
    cloud.resize(server, slower)
    cloud._confirm_resize(server)
    assert asked(cloud.xml(server)) == {"heartbeat": "true", "interval": "30", "channel": "application"}
    cloud.resize(server, cloud.flavor({}, memory=2048))
    assert is_stock(cloud.xml(server))
    cloud._confirm_resize(server)
    cloud.resize(server, cloud.flavor(ON, memory=1024))
    xml = cloud.xml(server)
    assert names(xml) == BOTH
    assert asked(xml) == {"heartbeat": "true", "channel": "application"}


def test_evacuation(cloud: TwoHosts) -> None:
    """When its host is gone, it is made anew on another, with what it had. Comes last: the host stays away."""
    server = cloud.server(ON_APPLICATION)
    first = cloud.xml(server)
    cloud.computes["compute1"].stop()
    service = cloud.admin_api.get_services(host="compute1", binary="nova-compute")[0]["id"]
    cloud.admin_api.put_service_force_down(service, True)
    cloud._evacuate_server(server, expected_host="compute2", expected_state="ACTIVE")
    again = cloud.xml(server)
    assert names(again) == names(first) == BOTH
    assert asked(again) == asked(first)
