"""A guest with what images are made of: Debian's own systemd, udev and Python, and vmhb-guest as docs/guest.rst says.

It boots as any Debian does, udev loading the drivers of what it finds, but for its disk: all of it is in the initramfs.
Give it MEMORY. Knows nothing of libvirt; ``guest.py`` boots what this builds.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import tempfile

from tools.lib import guest_build

from . import image
from .image import DEFAULT_CACHE, HERE, Image, built, files_in, hash_of

ROOTFS = HERE / "rootfs-debian"
ROOT = guest_build.ROOT
DOCS = ROOT / "docs" / "guest.rst"
#: MiB: while it boots, archive and files are in memory both.
MEMORY = 512

SUITE = "bookworm"
PACKAGES = (
    "dbus",  # systemctl's restarts and reloads go without, but no image does
    "kmod",
    "procps",
    "python3",
    "python3-pip",
    "qemu-guest-agent",
    "systemd",
    "systemd-sysv",
    "udev",
    "usr-is-merged",  # and not usrmerge, which wants all of Perl
)
#: Folders and files of the kernel's drivers: udev loads what it finds a device for.
DRIVERS = ("virtio", "char/virtio_console.ko", "misc/pvpanic")
MODULE_LISTS = ("modules.order", "modules.builtin", "modules.builtin.modinfo")
#: Left out of the initramfs, which is copied by an emulated processor at each boot. pip has done its work by then.
LEFT_OUT = (
    "etc/ssl",
    "etc/udev/hwdb.bin",
    "usr/lib/python3/dist-packages/pip",
    "usr/lib/python3/dist-packages/setuptools",
    "usr/lib/udev/hwdb.bin",
    "usr/lib/udev/hwdb.d",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/perl",
    "usr/lib/x86_64-linux-gnu/perl-base",
    "usr/share/bash-completion",
    "usr/share/ca-certificates",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl",
    "var/cache",
    "var/lib/apt",
    "var/lib/dpkg",
)
#: Where pip puts, on Debian, what docs/guest.rst installs by hand afterwards.
SHARE = "usr/local/share/vmhb-guest"


def build(cache: pathlib.Path = DEFAULT_CACHE) -> Image:
    """Return it; build it when it isn't there: Debian once (~40 s), what is ours on top of it (~5 s).

    Two processes may call it at once: one builds, the other waits.
    """
    own, base = _base(cache)
    sources = [*own, *files_in(ROOTFS), *files_in(image.ROOTFS), *guest_build.sources(), DOCS]
    sources += [*files_in(ROOT / "etc" / "guest"), *files_in(ROOT / "packaging" / "guest")]

    def make(work: pathlib.Path) -> None:
        _build(work, base)

    folder = built(cache, f"systemd-{hash_of(sources, base.name)}", make)
    return Image(base / "vmlinuz", folder / "initrd")


def tree(target: pathlib.Path, cache: pathlib.Path = DEFAULT_CACHE) -> None:
    """All of its files, for `container.py`: a copy, in a folder that is not there yet."""
    _fill(target, _base(cache)[1])


def commands() -> str:
    """What docs/guest.rst tells a builder of images to run, in the folder of the units."""
    section = DOCS.read_text().partition("\nInto an image\n")[2]
    return "\n".join(_blocks(section)[0])


def drop_in() -> str:
    """What docs/guest.rst adds to the unit of a service, to have it joined."""
    section = DOCS.read_text().partition("# systemctl edit billing\n")[2]
    return "\n".join(_blocks(section)[0])


def _blocks(text: str) -> list[list[str]]:
    """The indented blocks of a text, without the indent."""
    found = re.findall(r"(?:^ {4,}\S.*\n)+", text, re.MULTILINE)
    return [[line.strip() for line in block.splitlines()] for block in found]


def _base(cache: pathlib.Path) -> tuple[tuple[pathlib.Path, ...], pathlib.Path]:
    """Debian, without anything of ours, and what it is built by."""
    own = (pathlib.Path(__file__), pathlib.Path(image.__file__))
    return own, built(cache, f"debian-{hash_of(own)}", _build_debian)


def _build_debian(work: pathlib.Path) -> None:
    """Debian itself, from where this machine has it, with the drivers of its cloud kernel."""
    out, kernel = work / "out", work / "kernel"
    root = out / "root"
    for folder in (out, kernel):
        folder.mkdir()
    sources = work / "sources.list"
    sources.write_text("".join(f"{row}\n" for row in apt_sources()))
    options = ("--quiet", "--mode=root", "--format=directory", "--variant=essential")
    _run("mmdebstrap", *options, f"--include={','.join(PACKAGES)}", SUITE, root, sources)
    image.download((image.kernel_package(),), work)
    _run("dpkg-deb", "-x", next(work.glob("linux-image-*.deb")), kernel)
    shutil.copy(next(kernel.glob("boot/vmlinuz-*")), out / "vmlinuz")
    modules = next(kernel.glob("lib/modules/*"))
    target = root / "usr/lib/modules" / modules.name
    for name in DRIVERS:
        source, place = modules / "kernel/drivers" / name, target / "kernel/drivers" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place)
    for name in MODULE_LISTS:
        shutil.copy(modules / name, target)
    _run("chroot", root, "depmod", modules.name)


def apt_sources() -> list[str]:
    """This machine's own sources of Debian, and no others, in the format of sources.list."""
    row = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", row, "Created-By: Packages", "Origin: Debian"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows = list(dict.fromkeys(row for row in done.stdout.splitlines() if f" {SUITE}" in row))
    if not rows:
        raise RuntimeError(f"apt knows no sources of Debian {SUITE} (apt-get update?)")
    return rows


def _build(work: pathlib.Path, base: pathlib.Path) -> None:
    """An archive of that tree, as a kernel wants it."""
    files, out = work / "tree", work / "out"
    out.mkdir()
    _fill(files, base)
    with open(out / "initrd", "wb") as initrd:
        initrd.writelines(image.newc(files))


def _fill(tree: pathlib.Path, base: pathlib.Path) -> None:
    """Debian with vmhb-guest, and what the tests want in it."""
    _run("cp", "-a", "--reflink=auto", base / "root", tree)
    _install_vmhb_guest(tree)
    shutil.copytree(ROOTFS, tree, symlinks=True, dirs_exist_ok=True)
    shutil.copy(image.ROOTFS / "bin/control", tree / "usr/local/lib/lab-control")
    (tree / "init").symlink_to("usr/lib/systemd/systemd")
    (tree / "etc/hostname").write_text("guest\n")
    (tree / "etc/machine-id").write_text("")  # a new one with each boot
    guest_build.single_file("vmhb-guest", tree / "root/vmhb-guest")
    for name in LEFT_OUT:
        path = tree / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _install_vmhb_guest(tree: pathlib.Path) -> None:
    """As a package, by the commands of the docs."""
    with tempfile.TemporaryDirectory(dir=tree) as scratch:
        wheel = guest_build.distribution(pathlib.Path(scratch))[0]
        options = ("--quiet", "--no-cache-dir", "--root-user-action=ignore", "--break-system-packages")
        _run("chroot", tree, "pip", "install", *options, f"/{wheel.relative_to(tree)}")
    _run("chroot", tree, "sh", "-ec", f"cd /{SHARE}\n{commands()}")


def _run(*command: object) -> None:
    """A program that must succeed; RuntimeError with its last words."""
    words = [str(word) for word in command]
    done = subprocess.run(words, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stdout[-2000:]}")
