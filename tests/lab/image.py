"""The guest: Debian's cloud kernel and an initramfs with busybox and the real qemu-guest-agent.

It needs no disk and no network. A variant, for applications, has Python and vmhb-guest besides. Knows
nothing of libvirt; ``guest.py`` boots what this builds.
"""

from __future__ import annotations

import dataclasses
import fcntl
import gzip
import hashlib
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator

from tools.lib import guest_build

HERE = pathlib.Path(__file__).parent
ROOTFS = HERE / "rootfs"
ROOTFS_APPLICATION = HERE / "rootfs-application"
DEFAULT_CACHE = HERE.parent.parent / ".lab" / "guest"

KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
PACKAGES = (  # qemu-ga, what it links with, a shell, and chrt
    "qemu-guest-agent",
    "busybox-static",
    "libc6",
    "libgcc-s1",
    "libglib2.0-0",
    "libnuma1",
    "libpcre2-8-0",
    "libudev1",
    "liburing2",
    "util-linux",
)
MODULES = (  # in the order in which they depend on each other
    "virtio/virtio_ring",
    "virtio/virtio",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci",
    "virtio/virtio_balloon",
    "char/virtio_console",
    "misc/pvpanic/pvpanic",
    "misc/pvpanic/pvpanic-mmio",  # drives the ISA device too
)
PROGRAMS = {
    "usr/sbin/qemu-ga": "bin/qemu-ga",
    "bin/busybox": "bin/busybox",
    "usr/bin/chrt": "bin/chrt",  # a starved guest needs a real-time loop
}
LIBRARIES = (
    "libc.so.6",
    "libgcc_s.so.1",
    "libglib-2.0.so.0",
    "libgmodule-2.0.so.0",
    "libm.so.6",
    "libnuma.so.1",
    "libpcre2-8.so.0",
    "libudev.so.1",
    "liburing.so.2",
)
#: For applications: Debian's own Python, without what no program of ours imports.
PYTHON = "usr/lib/python3.11"
PYTHON_PACKAGES = ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libexpat1", "zlib1g")
PYTHON_PROGRAMS = {"usr/bin/python3.11": "usr/bin/python3"}
PYTHON_LIBRARIES = ("libexpat.so.1", "libz.so.1")
#: Folders of the standard library that are left out.
NO_PYTHON = {
    *("asyncio", "concurrent", "ctypes", "curses", "dbm", "distutils", "email", "ensurepip", "html", "http", "idlelib"),
    *(
        "lib-dynload",
        "lib2to3",
        "multiprocessing",
        "pydoc_data",
        "sqlite3",
        "tkinter",
        "turtledemo",
        "unittest",
        "urllib",
    ),
    *("venv", "wsgiref", "xml", "xmlrpc", "test", "zoneinfo", "config-3.11-x86_64-linux-gnu"),
}
#: Compiles each file in place of its source. Run by the guest's Python, on the host.
COMPILE = """
import os, py_compile, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        if name.endswith(".py"):
            path = os.path.join(folder, name)
            unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(path, path + "c", name, True, invalidation_mode=unchecked)
            os.unlink(path)
"""


@dataclasses.dataclass(frozen=True)
class Image:
    """What a direct kernel boot needs."""

    kernel: pathlib.Path
    initrd: pathlib.Path


def build(cache: pathlib.Path = DEFAULT_CACHE, *, applications: bool = False) -> Image:
    """Return the guest of the present recipe; download and build it when it isn't there (~10 s).

    applications: with Python and vmhb-guest; give it 160 MiB of memory.
    Two processes may call it at once: one builds, the other waits.
    """

    def make(work: pathlib.Path) -> None:
        _build(work, applications=applications)

    folder = built(cache, recipe_hash(applications=applications), make)
    return Image(folder / "vmlinuz", folder / "initrd")


def built(cache: pathlib.Path, name: str, make: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """The folder of this name in the cache. `make` is given another one, to leave in its ``out`` what belongs there."""
    cache.mkdir(parents=True, exist_ok=True)
    ignore = cache.parent / ".gitignore"
    if cache == DEFAULT_CACHE and not ignore.exists():
        ignore.write_text("*\n")
    folder = cache / name
    with open(cache / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as building:
                make(pathlib.Path(building))
                # In one step: a killed builder leaves no half image under the final name.
                os.rename(pathlib.Path(building) / "out", folder)
    return folder


def pvpanic(cache: pathlib.Path = DEFAULT_CACHE) -> pathlib.Path:
    """A program for guests that talks to the panic device, compiled: see its source."""
    source = pathlib.Path(__file__).with_name("pvpanic.c")

    def make(work: pathlib.Path) -> None:
        (work / "out").mkdir()
        options = ("-O1", "-static", "-nostdlib", "-fno-stack-protector", "-fno-pie", "-no-pie")
        subprocess.run(["gcc", *options, "-o", str(work / "out" / "pvpanic"), str(source)], check=True)

    return built(cache, f"pvpanic-{hash_of([source])}", make) / "pvpanic"


def recipe_hash(*, applications: bool = False) -> str:
    """Names this recipe: a changed script or list is another image."""
    files = [pathlib.Path(__file__), *files_in(ROOTFS)]
    if applications:
        files += [*files_in(ROOTFS_APPLICATION), *guest_build.sources()]
    return hash_of(files)


def files_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """All of them, always in the same order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def hash_of(files: Iterable[pathlib.Path], *words: str) -> str:
    """A name for these files of the project, and these words."""
    digest = hashlib.sha256("\0".join(words).encode())
    for path in files:
        digest.update(f"\0{path.relative_to(HERE.parent.parent)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _build(work: pathlib.Path, *, applications: bool) -> None:
    debs, root, tree, out = (work / name for name in ("debs", "root", "tree", "out"))
    for folder in (debs, root, tree, out):
        folder.mkdir()
    download((kernel_package(), *PACKAGES, *(PYTHON_PACKAGES if applications else ())), debs)
    for deb in debs.glob("*.deb"):
        _unpack(deb, root)
    _fill(tree, root)
    if applications:
        _fill_for_applications(tree, root)
    # Compressed: the kernel holds archive and files at the same time, in very little memory.
    (out / "initrd").write_bytes(gzip.compress(b"".join(newc(tree)), mtime=0))
    shutil.copy(next(root.glob("boot/vmlinuz-*")), out / "vmlinuz")


def kernel_package() -> str:
    """The versioned package that the metapackage stands for today."""
    depends = subprocess.run(
        ["apt-cache", "depends", KERNEL_METAPACKAGE], check=True, capture_output=True, text=True
    ).stdout
    return next(line.split()[1] for line in depends.splitlines() if "Depends:" in line)


def download(packages: tuple[str, ...], folder: pathlib.Path) -> None:
    done = subprocess.run(
        # The sandbox user could not write into a folder of root's.
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"apt-get download failed (apt-get update?): {done.stderr.strip()}")


def _unpack(deb: pathlib.Path, root: pathlib.Path) -> None:
    """Unpack the few files that are used: of the kernel's package that is one file in a hundred."""
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as packed,
        tarfile.open(fileobj=packed.stdout, mode="r|") as members,
    ):
        for member in members:
            path = pathlib.PurePosixPath(member.name)
            if not _wanted(path):
                continue
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.issym():
                target.symlink_to(member.linkname)
            elif (content := members.extractfile(member)) is not None:
                target.write_bytes(content.read())
                target.chmod(member.mode)
    if packed.returncode:
        raise RuntimeError(f"{deb.name} can't be unpacked")


def _wanted(path: pathlib.PurePosixPath) -> bool:
    return (
        path.match("boot/vmlinuz-*")
        or str(path) in {*PROGRAMS, *PYTHON_PROGRAMS}
        or _wanted_of_python(path)
        or path.match("x86_64-linux-gnu/*.so.*")
        or any(path.match(f"drivers/{module}.ko") for module in MODULES)
    )


def _wanted_of_python(path: pathlib.PurePosixPath) -> bool:
    if not path.is_relative_to(PYTHON) or path.suffix != ".py":
        return False
    return not NO_PYTHON.intersection(path.relative_to(PYTHON).parts)


def _fill_for_applications(tree: pathlib.Path, root: pathlib.Path) -> None:
    """Add Python, vmhb-guest and an application."""
    shutil.copytree(ROOTFS_APPLICATION, tree, dirs_exist_ok=True)
    (tree / "etc/vmhb/checks.d").mkdir(parents=True)
    shutil.copytree(root / PYTHON, tree / PYTHON)
    (tree / PYTHON / "lib-dynload").mkdir()  # without it Python complains
    for source, target in PYTHON_PROGRAMS.items():
        (tree / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / source, tree / target)
    for library in PYTHON_LIBRARIES:
        shutil.copy(next(root.glob(f"**/x86_64-linux-gnu/{library}")), tree / "lib")
    # Compiled here: it takes a guest under emulation seconds, at each boot.
    loader, interpreter = str(tree / "lib64/ld-linux-x86-64.so.2"), str(tree / "usr/bin/python3")
    command = [loader, "--library-path", str(tree / "lib"), interpreter, "-S", "-c", COMPILE, str(tree / PYTHON)]
    environ = {"PYTHONHOME": str(tree / "usr"), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(command, check=True, env=environ)
    guest_build.single_file("vmhb-guest", tree / "bin/vmhb-guest", b"#!/usr/bin/python3 -S\n")


def _fill(tree: pathlib.Path, root: pathlib.Path) -> None:
    """Gather the initramfs in ``tree`` from the unpacked packages in ``root``."""
    shutil.copytree(ROOTFS, tree, dirs_exist_ok=True)
    for folder in ("dev", "etc/vmhb", "lib/modules", "lib64", "proc", "run", "sys", "tmp", "var"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    (tree / "var/run").symlink_to("/run")
    for source, target in PROGRAMS.items():
        shutil.copy(root / source, tree / target)
    for library in LIBRARIES:
        shutil.copy(next(root.glob(f"**/x86_64-linux-gnu/{library}")), tree / "lib")
    shutil.copy(next(root.glob("**/x86_64-linux-gnu/ld-linux-x86-64.so.2")), tree / "lib64")
    drivers = next(root.glob("lib/modules/*/kernel/drivers"))
    present = [name for name in MODULES if (drivers / f"{name}.ko").exists()]
    for name in present:
        shutil.copy(drivers / f"{name}.ko", tree / "lib/modules")
    order = [pathlib.PurePath(name).name for name in present]
    (tree / "lib/modules.order").write_text("\n".join(order) + "\n")


def newc(tree: pathlib.Path) -> Iterator[bytes]:
    """A folder as a cpio archive.

    Format: "newc" of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    for inode, path in enumerate(sorted(tree.rglob("*")), 1):
        mode = path.lstat().st_mode & ~0o022  # whatever ours is here: checks are run where nobody else may write
        body = b""
        if stat.S_ISLNK(mode):
            body = os.readlink(path).encode()
        elif stat.S_ISREG(mode):
            body = path.read_bytes()
            mode |= 0o555 if mode & 0o100 else 0o444
        yield _newc_entry(str(path.relative_to(tree)), inode, mode, body)
    yield _newc_entry("TRAILER!!!", 0, 0, b"")


def _newc_entry(name: str, inode: int, mode: int, body: bytes) -> bytes:
    # inode mode uid gid links mtime size, device and special device (major, minor), name, check
    path = name.encode() + b"\0"  # its length is one of bytes
    fields = (inode, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + body + bytes(-len(body) % 4)
