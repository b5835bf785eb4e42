"""What Nova's own test fixtures give us: a compute node's driver, and a whole cloud, to be used by pytest's tests.

They last for a module, not for a test: what is asked of them here leaves nothing behind, and each takes seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest import TestCase, mock

import fixtures
import nova.virt
from lxml import etree
from nova import context, objects, test
from nova.network import model
from nova.tests import fixtures as nova_fixtures
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.libvirt import base
from nova.virt import driver, fake
from nova.virt.libvirt import blockinfo

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


class Cloud(base.ServersTestBase):
    """nova-api, scheduler, conductor and computes. `defined`: all XML that was handed to libvirt, in order."""

    __test__ = False
    ADMIN_API = True
    microversion = "2.86"
    COMPUTES: Sequence[str] = ("compute1",)

    def setUp(self) -> None:
        """Start it."""
        super().setUp()
        self.defined: list[str] = []
        define = fakelibvirt.Connection.defineXML

        def spy(connection: Any, xml: str) -> Any:
            # The fake keeps neither channels nor metadata, so this is where they are to be seen.
            self.defined.append(xml)
            return define(connection, xml)

        self.useFixture(fixtures.MonkeyPatch("nova.tests.fixtures.libvirt.Connection.defineXML", spy))
        for compute in self.COMPUTES:
            self.start_compute(compute)

    def _setup_compute_service(self) -> None:
        self.flags(compute_driver=OURS)
        # No part of Nova's package: pip puts it here, where Nova's fixtures do not look.
        self.flags(api_paste_config=os.path.join(sys.prefix, "etc/nova/api-paste.ini"), group="wsgi")

    def runTest(self) -> None:
        """There is none."""
