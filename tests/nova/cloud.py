"""What Nova's own test fixtures give us: a compute node's driver, and a whole cloud, to be used by pytest's tests.

They last for a module, not for a test: what is asked of them here leaves nothing behind, and each takes seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import TestCase, mock

import fixtures
import nova.virt
from lxml import etree
from nova import context, objects, test
from nova.conf import CONF
from nova.network import model
from nova.tests import fixtures as nova_fixtures
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.libvirt import base
from nova.virt import driver, fake
from nova.virt.libvirt import blockinfo
from oslo_utils import uuidutils

from nova_vmhb.shim import Shim

#: Of the one instance that a ComputeNode has, and of its image.
INSTANCE = "0f9a6d3e-6a0c-4b7e-9d55-3f1c2f1e7a01"
IMAGE = "0f9a6d3e-6a0c-4b7e-9d55-3f1c2f1e7a02"
PROJECT = "6f70656e737461636b2d70726f6a6563"

STOCK = "libvirt.LibvirtDriver"
OURS = "vmhb.VmhbLibvirtDriver"

Case = TypeVar("Case", bound=TestCase)


@contextmanager
def running(case: Case) -> Iterator[Case]:
    """Keep what a test case sets up."""
    case.setUp()
    try:
        yield case
    finally:
        case.tearDown()
        case.doCleanups()


@contextmanager
def shim_in(folder: Path) -> Iterator[None]:
    """Nova finds our driver as it does on a compute node, by a file in nova.virt; here in another folder of that."""
    Shim(folder).install()
    nova.virt.__path__.append(str(folder))
    try:
        yield
    finally:
        nova.virt.__path__.remove(str(folder))


def channels(xml: str) -> list[tuple[str, str | None]]:
    """The names of its channels in order, each with the path of its socket."""
    found: list[tuple[str, str | None]] = []
    for channel in etree.fromstring(xml).iterfind("devices/channel"):
        source = channel.find("source")
        found.append((channel.find("target").get("name"), None if source is None else source.get("path")))
    return found


def elements(xml: str) -> list[str]:
    """What its metadata is made of."""
    return [element.tag for element in etree.fromstring(xml).iterfind("metadata/*")]


class ComputeNode(test.NoDBTestCase):
    """Drivers that Nova's own loader has loaded, over Nova's fake libvirt."""

    __test__ = False  # for pytest: something to be used by tests
    REQUIRES_LOCKING = True

    def setUp(self) -> None:
        """No network, no disk."""
        super().setUp()
        self._instances = self.useFixture(fixtures.TempDir()).path
        self.flags(instances_path=self._instances)
        self.useFixture(nova_fixtures.LibvirtFixture())
        self.useFixture(nova_fixtures.CGroupsFixture())
        self._drivers: dict[str, Any] = {}

    def runTest(self) -> None:
        """There is none."""

    def driver(self, name: str) -> Any:
        """The driver that `compute_driver = name` gives."""
        if name not in self._drivers:
            self._drivers[name] = driver.load_compute_driver(fake.FakeVirtAPI(), name)
        return self._drivers[name]

    def xml(
        self,
        name: str,
        extra_specs: Mapping[str, str],
        image: Mapping[str, str] | None = None,
        *,
        rescue_image: Mapping[str, str] | None = None,
    ) -> str:
        """The XML that this driver makes for an instance of this flavor from an image with these properties."""
        image = image or {}
        instance = _instance(extra_specs, image)
        properties = image if rescue_image is None else rescue_image
        meta = objects.ImageMeta.from_dict({"disk_format": "raw", "properties": dict(properties)})
        disks = blockinfo.get_disk_info("kvm", instance, meta)
        # The hour goes into the XML: it is always the same one.
        with mock.patch("nova.virt.driver.time", mock.Mock(time=lambda: 1_800_000_000)):
            config = self.driver(name)._get_guest_config(
                instance, model.NetworkInfo(), meta, disks, context=context.get_admin_context()
            )
        return str(config.to_xml()).replace(self._instances, "/var/lib/nova/instances")


def _instance(extra_specs: Mapping[str, str], image: Mapping[str, str]) -> Any:
    """Always the same one, so that two drivers can be compared."""
    flavor = objects.Flavor(
        id=2,
        flavorid="2",
        name="m1.ha",
        memory_mb=2048,
        vcpus=2,
        root_gb=10,
        ephemeral_gb=0,
        swap=0,
        extra_specs=dict(extra_specs),
    )
    return objects.Instance(
        id=1,
        uuid=INSTANCE,
        display_name="web-1",
        user_id="user",
        project_id=PROJECT,
        image_ref=IMAGE,
        kernel_id=None,
        ramdisk_id=None,
        os_type="linux",
        architecture="x86_64",
        memory_mb=2048,
        vcpus=2,
        root_gb=10,
        ephemeral_gb=0,
        vm_mode=None,
        root_device_name=None,
        default_ephemeral_device=None,
        default_swap_device=None,
        config_drive="",
        metadata={},
        system_metadata={f"image_{name}": value for name, value in image.items()},
        flavor=flavor,
        numa_topology=None,
        vcpu_model=None,
        pci_devices=objects.PciDeviceList(objects=[]),
        pci_requests=objects.InstancePCIRequests(requests=[]),
        resources=None,
        trusted_certs=None,
        ephemeral_key_uuid=None,
    )


@dataclass(frozen=True)
class Handed:
    """A domain's XML as libvirt got it, on which host, and by which of its calls."""

    host: str
    call: str
    xml: str


class Cloud(base.ServersTestBase):
    """nova-api, scheduler, conductor and computes. `handed`: all XML that libvirt got from Nova, in order."""

    __test__ = False
    ADMIN_API = True
    microversion = "2.86"
    COMPUTES: Sequence[str] = ("compute1",)
    compute_driver = OURS

    def setUp(self) -> None:
        """Start it."""
        super().setUp()
        self.handed: list[Handed] = []
        self._keep_xml()
        for compute in self.COMPUTES:
            self.start_compute(compute)

    def _keep_xml(self) -> None:
        """Nova's fake of libvirt forgets channels and metadata. Let it tell what it was handed, as libvirt does."""
        of_domain = fakelibvirt.Domain.__init__
        define, create = fakelibvirt.Connection.defineXML, fakelibvirt.Connection.createXML

        def initialise(domain: Any, connection: Any, xml: str, running: bool = False, transient: bool = False) -> None:
            of_domain(domain, connection, xml, running, transient)
            domain.handed = xml

        def spy_on_define(connection: Any, xml: str) -> Any:
            self.handed.append(Handed(connection.getHostname(), "defineXML", xml))
            return define(connection, xml)

        def spy_on_create(connection: Any, xml: str, flags: Any) -> Any:
            self.handed.append(Handed(connection.getHostname(), "createXML", xml))
            return create(connection, xml, flags)

        def tell(domain: Any, flags: int) -> str:
            return str(domain.handed)

        for name, instead in (
            ("Domain.__init__", initialise),
            ("Domain.XMLDesc", tell),
            ("Connection.defineXML", spy_on_define),
            ("Connection.createXML", spy_on_create),
        ):
            self.useFixture(fixtures.MonkeyPatch(f"nova.tests.fixtures.libvirt.{name}", instead))

    def _setup_compute_service(self) -> None:
        self.flags(compute_driver=self.compute_driver)
        # No part of Nova's package: pip puts it here, where Nova's fixtures do not look.
        self.flags(api_paste_config=os.path.join(sys.prefix, "etc/nova/api-paste.ini"), group="wsgi")

    def runTest(self) -> None:
        """There is none."""


class TwoHosts(base.LibvirtMigrationMixin, Cloud):
    """Instances can move."""

    COMPUTES = ("compute1", "compute2")

    def flavor(self, extra_specs: Mapping[str, str], memory: int = 512, name: str | None = None) -> str:
        """Its id, which is its name if it has one."""
        flavor: str = self._create_flavor(
            id=name, name=name, memory_mb=memory, disk=1, ephemeral=0, extra_spec=dict(extra_specs)
        )
        return flavor

    def image(self, properties: Mapping[str, str], uuid: str | None = None) -> str:
        """Its id."""
        image = {**self.glance.image1, "id": uuid or uuidutils.generate_uuid(), "properties": dict(properties)}
        self.glance.create(None, image)
        return str(image["id"])

    def server(self, extra_specs: Mapping[str, str], image: Mapping[str, str] | None = None) -> Any:
        """Boot one on compute1."""
        return self.boot(self.flavor(extra_specs), self.image(image or {}))

    def boot(self, flavor: str, image: str, name: str | None = None) -> Any:
        """Boot one on compute1."""
        return self._create_server(
            name=name, flavor_id=flavor, image_uuid=image, networks="none", host="compute1", api=self.admin_api
        )

    def host(self, server: Any) -> str:
        """Where it is now."""
        return str(self.admin_api.get_server(server["id"])["OS-EXT-SRV-ATTR:host"])

    def other(self, host: str) -> str:
        """There are two."""
        (other,) = set(self.COMPUTES) - {host}
        return other

    def take(self, server: Any) -> list[Handed]:
        """What libvirt got for this server since the last time; what it got for others is forgotten."""
        taken = [handed for handed in self.handed if server["id"] in handed.xml]
        self.handed.clear()
        return taken

    def xml(self, server: Any) -> str:
        """The last that libvirt got for this server. It is taken away, so that each is looked at once."""
        return self.take(server)[-1].xml

    def act(self, server: Any, action: str, state: str, body: Any = None) -> None:
        """Do it, and wait until it is done."""
        self.admin_api.post_server_action(server["id"], {action: body})
        self._wait_for_state_change(server, state)

    def hard_reboot(self, server: Any) -> None:
        """Wait until it is done, as all these do."""
        self.admin_api.post_server_action(server["id"], {"reboot": {"type": "HARD"}})
        self.notifier.wait_for_versioned_notifications("instance.reboot.end")
        self._wait_for_state_change(server, "ACTIVE")

    def rebuild(self, server: Any, image: str) -> None:
        """From this image."""
        self._rebuild_server(server, image)

    def rescue(self, server: Any) -> None:
        """Nova writes the domain's XML to a file, in a folder that its fixtures never make."""
        os.makedirs(os.path.join(CONF.instances_path, server["id"]), exist_ok=True)
        self.act(server, "rescue", "RESCUE")

    def shelve(self, server: Any) -> None:
        """There is no disk to upload."""
        with mock.patch("nova.virt.libvirt.driver.LibvirtDriver.snapshot"):
            self.act(server, "shelve", "SHELVED_OFFLOADED")

    def resize(self, server: Any, flavor: str) -> None:
        """Up to the point where it waits for a yes or no."""
        migrate = "nova.virt.libvirt.driver.LibvirtDriver.migrate_disk_and_power_off"
        with mock.patch(migrate, return_value="{}"):
            self._resize_server(server, flavor)

    def revert(self, server: Any) -> None:
        """No to the resize."""
        self._revert_resize(server)

    def confirm(self, server: Any) -> None:
        """Yes to the resize."""
        self._confirm_resize(server)

    def unshelve(self, server: Any) -> None:
        """On compute1, where all begin."""
        with mock.patch.object(self.admin_api, "microversion", "2.91"):
            self.act(server, "unshelve", "ACTIVE", {"host": "compute1"})

    def live_migrate(self, server: Any) -> None:
        """To the other host."""
        there = self.other(self.host(server))
        self._destination = self.computes[there].driver._host.get_connection()
        body = {"os-migrateLive": {"host": there, "block_migration": "auto"}}
        self.admin_api.post_server_action(server["id"], body)
        self._wait_for_migration_status(server, ["completed"])
        self._wait_for_state_change(server, "ACTIVE")

    def _migrate_stub(self, domain: Any, destination: str, params: Mapping[str, Any], flags: int) -> None:
        """What libvirt does, and its fake does not: the guest is then there, and no longer here."""
        assert params["persistent_xml"] == params["destination_xml"]
        self._destination.createXML(params["destination_xml"], 0)
        domain.undefine()
        domain.complete_job()

    def evacuate(self, server: Any) -> None:
        """Its host is gone, and stays away: comes last."""
        here = self.host(server)
        service = self.admin_api.get_services(host=here, binary="nova-compute")[0]
        if not service["forced_down"]:
            self.computes[here].stop()
            self.admin_api.put_service_force_down(service["id"], True)
        self._evacuate_server(server, expected_host=self.other(here), expected_state="ACTIVE")
