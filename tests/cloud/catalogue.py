"""What an operator puts into a new cloud: users, endpoints, images, flavors, Masakari's segment. By their APIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import openstack

from tests.cloud.site import NODES, PASSWORD, REGION, SERVICES, Site
from tests.lab.image import Image

#: openstacksdk's Connection. Its types allow for services of other versions than ours, and so for what cannot be here.
Api: TypeAlias = Any

#: Of Nova's API: that of 2026.2 but for a flavor's, where our validators come in from 2.86 on.
MICROVERSION = "2.96"
#: MiB, of a guest; of the flavor to resize to; of a guest with Python in its initramfs.
SMALL, LARGE, PYTHON = 128, 144, 176

PLAIN, AGENT, APPLICATION = "guest", "guest-with-agent", "guest-with-applications"
#: No image of a guest says what follows; its init does (tests/lab/rootfs/init).
CMDLINE = "console=ttyS0 quiet panic=0 no_timer_check vmhb.control=no"

#: As an operator would set them, but for the times: a fault 3 to 4.5 s after the last acknowledgement.
FAST = {
    "hw:heartbeat": "true",
    "hw:heartbeat_interval": "1",
    "hw:heartbeat_timeout": "1",
    "hw:heartbeat_threshold": "3",
}
FLAVORS: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "plain": (SMALL, {}),
    "monitored": (SMALL, {**FAST, "hw:heartbeat_action": "recover_unresponsive"}),
    "monitored-large": (LARGE, {**FAST, "hw:heartbeat_action": "recover_unresponsive"}),
    "watched": (SMALL, {**FAST, "hw:heartbeat_action": "alarm"}),
    "application": (
        PYTHON,
        {
            **FAST,
            "hw:heartbeat_channel": "application",
            "hw:heartbeat_health_check": "true",
            "hw:heartbeat_action": "recover",
        },
    ),
    "application-recovered": (
        PYTHON,
        {**FAST, "hw:heartbeat_channel": "application", "hw:heartbeat_action": "recover_unresponsive"},
    ),
}


def connect(site: Site) -> Api:
    """As the administrator."""
    return openstack.connect(
        auth_url=site.auth_url,
        username="admin",
        password=PASSWORD,
        project_name="admin",
        user_domain_id="default",
        project_domain_id="default",
        region_name=REGION,
        compute_default_microversion=MICROVERSION,
    )


def register(cloud: Api, site: Site) -> None:
    """Each service's user, with its roles, and its endpoint."""
    identity = cloud.identity
    project = identity.create_project(name="service", domain_id="default")
    roles = [identity.find_role(name) or identity.create_role(name=name) for name in ("admin", "service")]
    for name, (kind, _) in SERVICES.items():
        user = identity.create_user(name=name, password=PASSWORD, domain_id="default", default_project_id=project.id)
        for role in roles:
            identity.assign_project_role_to_user(project, user, role)
        service = identity.create_service(name=name, type=kind)
        identity.create_endpoint(service_id=service.id, interface="public", region_id=REGION, url=site.endpoint(name))


def images(cloud: Api, site: Site, guest: Image, applications: Image) -> None:
    """The lab's guest, twice: one says nothing of an agent, one is as level 0 wants it. And the one with vmhb-guest."""
    kernel = _image(cloud, "guest-kernel", str(guest.kernel), "aki", "aki")
    initrd = _image(cloud, "guest-initrd", str(guest.initrd), "ari", "ari")
    richer = _image(cloud, f"{APPLICATION}-initrd", str(applications.initrd), "ari", "ari")
    disk = site.data / "empty.raw"
    with disk.open("wb") as file:
        file.truncate(1 << 20)
    boots = {
        "kernel_id": kernel,
        "ramdisk_id": initrd,
        "os_command_line": CMDLINE,
        "hw_machine_type": "pc",
        "hw_rng_model": "virtio",
        "hw_video_model": "none",
        "hw_input_bus": "virtio",
    }
    _image(cloud, PLAIN, str(disk), "raw", "bare", **boots)
    _image(cloud, AGENT, str(disk), "raw", "bare", **boots, hw_qemu_guest_agent="yes")
    _image(cloud, APPLICATION, str(disk), "raw", "bare", **{**boots, "ramdisk_id": richer})


def flavors(cloud: Api) -> None:
    """Those of FLAVORS, at a microversion at which Nova validates what they say."""
    for name, (memory, extra_specs) in FLAVORS.items():
        flavor = cloud.compute.create_flavor(name=name, ram=memory, vcpus=1, disk=0, is_public=True)
        if extra_specs:
            cloud.compute.create_flavor_extra_specs(flavor, dict(extra_specs))


def segment(cloud: Api) -> None:
    """Masakari's: both nodes, each the other's refuge."""
    masakari = cloud.instance_ha
    made = masakari.create_segment(name="cloud", recovery_method="auto", service_type="compute")
    for node in NODES:
        masakari.create_host(
            made.uuid, name=node, type="COMPUTE", control_attributes="SSH", reserved=False, on_maintenance=False
        )


def hypervisors(cloud: Api) -> set[str]:
    """The nodes that Nova knows and says are up."""
    return {str(one.name) for one in cloud.compute.hypervisors() if one.state == "up"}


def _image(cloud: Api, name: str, path: str, disk: str, container: str, **properties: str) -> str:
    image = cloud.image.create_image(
        name,
        filename=path,
        disk_format=disk,
        container_format=container,
        visibility="public",
        use_import=False,
        validate_checksum=False,
        **properties,
    )
    return str(image.id)
