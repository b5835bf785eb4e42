"""The ways into an image: diskimage-builder's element, and cloud-init's user data. Nobody touches the guest."""

from __future__ import annotations

import functools
import pathlib
import shutil
import subprocess

from tests.functional.conftest import Guests
from tests.functional.hosts import Hosts
from tests.functional.test_guest_systemd import shown
from tests.lab.image import Image
from tests.packages import guest_image
from tests.packages.conftest import built, got
from tests.packages.test_guest import FIRST_BOOT, boot, broken
from tools.lib import roots
from tools.lib.packages import NOW, PACKAGING
from tools.lib.roots import Recipe

SUITE = "trixie"
#: What diskimage-builder of that suite makes: it asks for packages, and for a suite's name, that trixie gave up.
MADE = "bookworm"
#: What diskimage-builder needs of the machine that builds.
BUILDER = Recipe(
    "image-builder",
    SUITE,
    (
        *("ca-certificates", "curl", "debootstrap", "dosfstools", "e2fsprogs", "gdisk", "kpartx", "parted", "procps"),
        *("python3-diskimage-builder", "qemu-utils", "sudo", "udev"),
    ),
)
#: An image as clouds have them, and nothing of ours.
CLOUD = Recipe("guest-cloud-init", SUITE, (*guest_image.PACKAGES, "apt-utils", "cloud-init"))
#: MiB: cloud-init brings much along.
CLOUD_MEMORY = 2048


def _deb() -> pathlib.Path:
    return next((built() / NOW).glob("*.deb"))


def _made_by_the_element(folder: pathlib.Path) -> None:
    """Into this folder, an image's files. A tree and no disk: not each machine has what partitions are made with."""
    mirror = roots.mirror()
    with roots.entered(BUILDER) as root:
        shutil.copytree(PACKAGING / "diskimage-builder", root.share / "elements")
        shutil.copy(_deb(), root.share)
        environ = {
            "DIB_RELEASE": MADE,
            "DIB_VMHB_GUEST": f"/share/{_deb().name}",
            "ELEMENTS_PATH": "/share/elements",
            "DIB_NO_TMPFS": "1",
            "DIB_DISTRIBUTION_MIRROR": mirror,
            "DIB_APT_SOURCES_CONF": f"default:deb {mirror} {MADE} main",
        }
        try:
            root.run("disk-image-create -t tar -o guest debian-minimal vmhb-guest", environ=environ)
        except roots.Failed as error:
            raise (roots.BrokenMirror if roots.BROKEN.search(str(error)) else roots.Failed)(str(error)) from error
        folder.mkdir()
        subprocess.run(["tar", "-C", folder, "-xf", root.share / "guest.tar", "--exclude=./dev/*"], check=True)


@functools.cache
def _of_the_element() -> Image:
    files = sorted(path for path in (PACKAGING / "diskimage-builder").rglob("*") if path.is_file())
    key = f"{BUILDER.key} {MADE} {_deb()} {[path.read_text() for path in files]}"
    tree = roots.kept("image", key, _made_by_the_element)
    kernel = roots.made(guest_image.RECIPES[MADE])
    return guest_image.build("image", [], lower=tree, kernel_of=kernel)


def _given_user_data(tree: pathlib.Path) -> None:
    """As the metadata service, or a drive, would give them. The repository is a folder in the guest."""
    archive = tree / "root/archive"
    archive.mkdir()
    shutil.copy(_deb(), archive)
    subprocess.run(["chroot", tree, "sh", "-ec", "cd /root/archive && apt-ftparchive packages . >Packages"], check=True)
    seed = tree / "var/lib/cloud/seed/nocloud"
    seed.mkdir(parents=True)
    user_data = (PACKAGING / "cloud-init/vmhb-guest.yaml").read_text()
    (seed / "user-data").write_text(user_data.replace("REPOSITORY ./", "file:/root/archive ./"))
    (seed / "meta-data").write_text("instance-id: first\n")


@functools.cache
def _of_cloud_init() -> Image:
    files = [PACKAGING / "cloud-init/vmhb-guest.yaml", _deb()]
    return guest_image.build("cloud-init", files, _given_user_data, lower=roots.made(CLOUD))


def test_the_element(guests: Guests, hosts: Hosts) -> None:
    """An image that was made with it answers as soon as an instance of it is up."""
    image = got(_of_the_element)
    guest = boot(guests, image)
    host = hosts.at(guest)
    host.patience = FIRST_BOOT
    host.ask()
    guest.wait_ready(FIRST_BOOT)
    assert shown(guest)["NRestarts"] == "0"
    assert "vmhb" not in broken(guest)


def test_user_data(guests: Guests, hosts: Hosts) -> None:
    """An instance of an image without it, given the user data, answers during its first boot."""
    image = got(_of_cloud_init)
    guest = boot(guests, image, CLOUD_MEMORY)
    host = hosts.at(guest)
    host.patience = FIRST_BOOT
    host.ask()
    guest.wait_ready(FIRST_BOOT)
    assert shown(guest)["NRestarts"] == "0"
    assert "install ok installed" in guest.run("dpkg-query -W -f '${Status}' vmhb-guest")
