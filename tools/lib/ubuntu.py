"""A Python that this machine has not, out of a root of Ubuntu: an environment that is made of it runs in there.

Whoever starts its `bin/python` need not know: that is a script, which enters the root, where the project, the
environment and the folder for what is temporary have the names that they have here. Wants root. Must not know what is
run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":  # by the script, whose folder is on the path instead of the project's
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tools.lib import roots

#: Python -> the release that has it.
SUITES = {"3.10": "jammy"}
ARCHIVE = "http://archive.ubuntu.com/ubuntu"
#: Of the archive's keys, which Debian has not: as a package, and what it must be.
KEYRING = f"{ARCHIVE}/pool/main/u/ubuntu-keyring/ubuntu-keyring_2021.03.26_all.deb"
KEYRING_SHA256 = "0d0e7ed6b112f5d03eabf3c7eb01ebdacf9c57714b279e90495cfc58c8c4520f"
KEYS = "usr/share/keyrings/ubuntu-archive-keyring.gpg"
#: What libvirt-python is compiled with, and what the unit tests start.
PACKAGES = (
    *("ca-certificates", "dpkg-dev", "gcc", "git", "libc6-dev", "libvirt-dev", "pkg-config", "procps"),
    *("python3", "python3-dev", "python3-venv"),
)
#: Where Debian and Ubuntu have whom pip believes. This machine's, since its index may have a certificate of its own.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
#: Its own are too old for a project that is used where it is (64); what pbr of 2025.2 asks of it is gone again (82).
BUILDERS = ("setuptools>=64,<82",)
#: Seconds in which the archive begins to answer.
PATIENCE = 30.0
#: pip's own list, which knows no certificate but the public ones, is not asked.
FOR_PIP = {"PIP_CERT": str(CERTIFICATES)}
#: What is handed on to programs in the root: their own options, and nothing of this machine's.
HANDED_ON = ("COVERAGE", "HYPOTHESIS", "PBR_", "PYTEST", "PYTHON", "VMHB_")


class Unavailable(Exception):
    """There is no such root, and none can be made. The text says why."""


def unavailable(python: str) -> str:
    """Why there is none of this Python; "": there is. Makes it, since only then that is known: a minute or less."""
    try:
        made(python)
    except Unavailable as error:
        return str(error)
    return ""


def key(python: str) -> str:
    """Of another key it is another root."""
    return f"{SUITES.get(python, 'none')} {ARCHIVE} {KEYRING_SHA256} {' '.join(PACKAGES)} 1"


def made(python: str) -> Path:
    """The root's folder; made if it is not there. Raises Unavailable where that can't be done here, or not today;
    Failed where it is our own mistake."""
    if python not in SUITES:
        raise Unavailable(f"none of the releases that are known here has Python {python}")
    if os.geteuid() != 0:
        raise Unavailable("only root can make a root")
    if lacking := [name for name in ("dpkg-deb", "mmdebstrap", "unshare") if not shutil.which(name)]:
        raise Unavailable(f"{', '.join(lacking)}: missing on this machine")
    try:
        return roots.kept(f"python-{python}", key(python), lambda folder: _bootstrap(SUITES[python], folder))
    except roots.BrokenMirror as error:
        raise Unavailable(f"its archive is broken: {error}") from error


def _bootstrap(suite: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="vmhb-keyring-") as scratch:
        options = (f"--keyring={_keyring(Path(scratch))}", "--components=main,universe")
        roots.bootstrap(suite, PACKAGES, target, ARCHIVE, options)
    # The project is there as it is here, whoever owns it.
    (target / "etc/gitconfig").write_text("[safe]\n\tdirectory = *\n")


def _keyring(scratch: Path, address: str = KEYRING) -> Path:
    """By its digest: who hands it out need not be trusted."""
    package = scratch / "keyring.deb"
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:  # noqa: S310 -- one address, ours
            package.write_bytes(answer.read())
    except (OSError, urllib.error.URLError) as error:
        raise roots.BrokenMirror(f"{address}: {error}") from error
    if (found := hashlib.sha256(package.read_bytes()).hexdigest()) != KEYRING_SHA256:
        raise roots.BrokenMirror(f"{address} has the digest {found}, and ours is {KEYRING_SHA256}")
    subprocess.run(["dpkg-deb", "-x", str(package), str(scratch)], check=True)
    return scratch / KEYS


def make(python: str, folder: Path, project: Path) -> None:
    """Fill this empty folder with an environment of that Python, which may see the project. Raises Unavailable."""
    lower = made(python)
    with _entered(lower, folder, project) as root:
        root.run(f"/usr/bin/python{python} -m venv {folder}")
    program = folder / "bin" / "python"
    program.unlink()  # a link into the root; those beside it, which the scripts name, stay
    words = [sys.executable, str(Path(__file__).resolve()), str(lower), str(folder), str(project), python]
    program.write_text(script(words), encoding="utf-8")
    program.chmod(0o755)


def script(words: list[str]) -> str:
    """That starts these, with what it was given behind them."""
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    return f'#!/bin/sh\nexec {quoted} "$@"\n'


@contextmanager
def _entered(lower: Path, folder: Path, project: Path) -> Iterator[roots.Root]:
    """With all that has the same name there, from the outside in: one may be below another."""
    same = sorted({Path(tempfile.gettempdir()), project, folder})
    with roots.over(lower, same=same) as root:
        believe(root.changed())
        yield root


def believe(tree: Path, certificates: Path = CERTIFICATES) -> None:
    """Put this machine's certificates where the root has its own, if there are any."""
    if certificates.exists():
        copy = tree / CERTIFICATES.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(certificates, copy)


def handed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """What of this a program in the root is given."""
    return {name: value for name, value in environ.items() if name.startswith(HANDED_ON)}


def main(lower: str, folder: str, project: str, python: str, *words: str) -> int:
    """Run the environment's Python with these words, where we are; its exit code."""
    inside = f"{folder}/bin"
    environ = {**handed_on(os.environ), **FOR_PIP, "PATH": f"{inside}:/usr/sbin:/usr/bin:/sbin:/bin"}
    with _entered(Path(lower), Path(folder), Path(project)) as root:
        return root.show(f"{inside}/python{python}", *words, cwd=Path.cwd(), environ=environ)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
