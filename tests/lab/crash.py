"""A guest that saves its memory when its kernel dies: Debian, and the kernel that the dying one starts (kdump).

What Debian's own kdump-tools do at a boot, without a disk: the crash kernel has an initramfs of its own, which reads
/proc/vmcore for as long as it is told, and reboots. Give it MEMORY and CMDLINE, and have `load` run in it.
"""

from __future__ import annotations

import gzip
import pathlib
import shutil
import subprocess

from . import debian, image
from .image import DEFAULT_CACHE, HERE, Image, built, files_in, hash_of

ROOTFS = HERE / "rootfs-crash"
#: MiB: Debian's, what is kept for the crash kernel, and that kernel's own files.
MEMORY = debian.MEMORY + 256
#: `crash_kexec_post_notifiers`: without it a kernel starts the crash kernel before it tells anybody that it panics.
CMDLINE = "crashkernel=192M crash_kexec_post_notifiers"
#: Loads it by kexec_file_load(2), number 320, KEXEC_FILE_ON_CRASH; fails where the kernel refuses.
LOAD = """\
import ctypes, os
words = b"console=ttyS0 no_timer_check nr_cpus=1 reset_devices dump={seconds}\\0"
kernel, initrd = (os.open("/crash/" + name, os.O_RDONLY) for name in ("vmlinuz", "initrd"))
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(320, kernel, initrd, ctypes.c_ulong(len(words)), words, ctypes.c_ulong(2)):
    raise SystemExit(os.strerror(ctypes.get_errno()))
"""


def build(cache: pathlib.Path = DEFAULT_CACHE) -> Image:
    """Return it; build it when it isn't there (~5 s on top of Debian)."""
    base = debian.build(cache)
    sources = [pathlib.Path(__file__), pathlib.Path(image.__file__), *files_in(ROOTFS)]

    def make(work: pathlib.Path) -> None:
        _build(work, base)

    folder = built(cache, f"crash-{hash_of(sources, base.initrd.parent.name)}", make)
    return Image(base.kernel, folder / "initrd")


def load(seconds: float) -> str:
    """A shell command for the guest: from now on its kernel is saved for so long when it dies."""
    return f"python3 - <<'END'\n{LOAD.format(seconds=f'{seconds:g}')}END\n"


def _build(work: pathlib.Path, base: Image) -> None:
    """Debian's archive, and behind it another one: a kernel unpacks both."""
    small, tree, out, packages = (work / name for name in ("small", "tree", "out", "packages"))
    for folder in (small / "bin", tree / "crash", out, packages):
        folder.mkdir(parents=True)
    image.download(("busybox-static",), packages)
    subprocess.run(["dpkg-deb", "-x", next(packages.glob("*.deb")), packages / "root"], check=True)
    shutil.copy(packages / "root/bin/busybox", small / "bin/busybox")
    shutil.copytree(ROOTFS, small, dirs_exist_ok=True)
    (tree / "crash/initrd").write_bytes(gzip.compress(b"".join(image.newc(small)), mtime=0))
    shutil.copy(base.kernel, tree / "crash/vmlinuz")
    with open(out / "initrd", "wb") as initrd:
        initrd.write(base.initrd.read_bytes())
        initrd.writelines(image.newc(tree))
