"""Guests of Debian's suites, that have their dpkg and what is to be installed: with the port, and nobody at it yet.

As `tests/lab/debian.py`, of which it takes what is not of bookworm. Knows nothing of the packages.
"""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Sequence

from tests.lab import debian, image
from tests.lab.image import Image
from tools.lib import roots
from tools.lib.roots import Recipe

#: MiB: archive and files are in memory both while it boots, and dpkg wants some.
MEMORY = 1024
SUITES = ("bookworm", "trixie")
PACKAGES = (
    *("dbus", "kmod", "linux-image-cloud-amd64", "procps", "python3", "qemu-guest-agent"),
    *("systemd", "systemd-sysv", "udev", "usr-is-merged"),
)
RECIPES = {suite: Recipe(f"guest-{suite}", suite, PACKAGES) for suite in SUITES}
#: What no test wants to wait for, on an emulated processor.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
)
#: dpkg; the scripts of packages, which speak Perl; and what cloud-init does not start without, the CAs' certificates.
KEPT = {"etc/ssl", "usr/lib/x86_64-linux-gnu/perl-base", "var/lib/dpkg"}
LEFT_OUT = (
    *(path for path in debian.LEFT_OUT if path not in KEPT),
    *("boot", "initrd.img", "initrd.img.old", "vmlinuz", "vmlinuz.old", "usr/lib/modules", "usr/share/initramfs-tools"),
)


def build(
    name: str,
    files: Sequence[pathlib.Path],
    change: Callable[[pathlib.Path], None] | None = None,
    *,
    lower: pathlib.Path,
    kernel_of: pathlib.Path | None = None,
) -> Image:
    """A guest with the files of that root, and these files in /root besides.

    change: does something with them to its tree, before it is packed. kernel_of: another root, whose kernel it boots.
    Kept under the name; another one is made where anything of it has changed.
    """
    system = kernel_of or lower
    own = [pathlib.Path(__file__), *image.files_in(debian.ROOTFS), *image.files_in(image.ROOTFS)]
    contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    key = f"{image.hash_of(own)} {lower.name} {system.name} {contents}"

    def make(folder: pathlib.Path) -> None:
        tree = folder.parent / "tree"
        subprocess.run(["cp", "-a", "--reflink=auto", lower, tree], check=True)
        _fill(tree, system)
        for file in files:
            shutil.copy(file, tree / "root")
        if change:
            change(tree)
        folder.mkdir()
        shutil.copy(next(system.glob("boot/vmlinuz-*")), folder / "vmlinuz")
        with open(folder / "initrd", "wb") as initrd:
            initrd.writelines(image.newc(tree))

    folder = roots.kept(f"booted-{name}", key, make)
    return Image(folder / "vmlinuz", folder / "initrd")


def _fill(tree: pathlib.Path, system: pathlib.Path) -> None:
    """Take out what no guest wants, put in the tests' own way to it."""
    for name in LEFT_OUT:
        path = tree / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    modules = next(system.glob("usr/lib/modules/*"))
    target = tree / "usr/lib/modules" / modules.name
    for name in debian.DRIVERS:
        found = next(iter(modules.glob(f"kernel/drivers/{name}*")), None)
        if found is not None:  # built in, in some kernels
            place = target / found.relative_to(modules)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(found, place) if found.is_dir() else shutil.copy(found, place)
    for name in debian.MODULE_LISTS:
        shutil.copy(modules / name, target)
    subprocess.run(["chroot", tree, "depmod", modules.name], check=True)
    shutil.copytree(debian.ROOTFS, tree, symlinks=True, dirs_exist_ok=True)
    (tree / "usr/local/lib").mkdir(parents=True, exist_ok=True)
    shutil.copy(image.ROOTFS / "bin/control", tree / "usr/local/lib/lab-control")
    for folder in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    for name in MASKED:
        unit = tree / "etc/systemd/system" / name
        unit.unlink(missing_ok=True)
        unit.symlink_to("/dev/null")
    (tree / "init").symlink_to("usr/lib/systemd/systemd")
    (tree / "etc/hostname").write_text("guest\n")
    (tree / "etc/machine-id").write_text("")  # a new one with each boot
