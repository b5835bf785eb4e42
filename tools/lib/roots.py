"""Debian of any suite in a folder: made by mmdebstrap, kept, and entered without a trace left in it.

Packages are built in one and installed into another. Wants root. Must not know what is built.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
#: Not in git: gigabytes.
CACHE = ROOT / ".lab" / "packages"
#: What apt, dpkg and mmdebstrap say when it is the archive that is broken, and not we: it can't be reached, is half
#: updated, or (sid) has packages that do not fit together today.
BROKEN = re.compile(
    "Failed to fetch|Unable to fetch|Could not resolve|Could not connect|Connection (failed|refused|timed out)"
    "|Hash Sum mismatch|Mirror sync in progress|is not valid yet|does not have a Release file|unmet dependencies"
    "|Unable to correct problems|Temporary failure|error processing archive|NO_PUBKEY",
)
#: In namespaces of its own: the folder below ($1) with all changes in the one above ($2, $3: overlayfs's own), what is
#: shared ($4) as /share, perhaps another tree ($6) as /mnt, folders that are where they are here (up to --), and what
#: programs expect of a machine; then becomes the command.
_ENTER = """set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$5"
mkdir -p "$5/share"
mount --bind "$4" "$5/share"
test -z "$6" || mount --bind "$6" "$5/mnt"
mount -t proc proc "$5/proc"
mount -t sysfs -o ro sysfs "$5/sys"
mount --rbind /dev "$5/dev"
for name in resolv.conf hosts; do test ! -e /etc/$name || cat /etc/$name >"$5/etc/$name"; done
root=$5
shift 6
while test "$1" != --; do mkdir -p "$root$1"; mount --bind "$1" "$root$1"; shift; done
shift
exec chroot "$root" "$@"
"""


class BrokenMirror(Exception):
    """Debian's archive, as this machine reaches it, can't give what is asked for today. The text is apt's own."""


class Failed(Exception):
    """A command in a root failed; its last words."""


@dataclass(frozen=True)
class Recipe:
    """Of one root: Debian's suite, and the packages that it has besides the essential ones."""

    name: str
    suite: str
    packages: tuple[str, ...]

    @property
    def key(self) -> str:
        """Another recipe is another root."""
        return f"{self.suite} {' '.join(sorted(self.packages))} {mirror()} 1"


class Root:
    """One that has been entered: what is done in it is undone when it is left."""

    def __init__(self, lower: Path, scratch: Path, beside: Path | None, same: Sequence[Path] = ()) -> None:
        self._beside = "" if beside is None else str(beside)
        self._same = [*map(str, same)]
        self.share = scratch / "share"
        self._layers = [lower, *(scratch / name for name in ("upper", "work"))]
        self._on = scratch / "root"
        for folder in (self.share, *self._layers[1:], self._on):
            folder.mkdir()

    def run(self, command: str, *, check: bool = True, environ: Mapping[str, str] | None = None) -> str:
        """A shell command, as root, in /share: what it printed. Failed where it fails, if that matters."""
        done = subprocess.run(
            self._entering("sh", "-ec", f"cd /share\n{command}"),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self._environ(environ),
        )
        if check and done.returncode:
            raise Failed(f"{command!r} ended with {done.returncode}: {done.stdout[-4000:]}")
        return done.stdout

    def show(self, *words: str, cwd: Path, environ: Mapping[str, str] | None = None) -> int:
        """A program, as root, in a folder that is there too: what it says goes where ours does. Its exit code."""
        command = self._entering("sh", "-ec", 'cd "$1"; shift; exec "$@"', "show", str(cwd), *words)
        return subprocess.run(command, check=False, env=self._environ(environ)).returncode

    def _entering(self, *words: str) -> list[str]:
        paths = [*map(str, self._layers), str(self.share), str(self._on), self._beside, *self._same, "--"]
        spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        return [*spaces, "sh", "-c", _ENTER, "enter", *paths, *words]

    def _environ(self, more: Mapping[str, str] | None) -> dict[str, str]:
        return {**_ENVIRON, **_for_pip(), **(more or {})}

    def changed(self) -> Path:
        """The folder with what is not as it was made."""
        return self._layers[1]


_ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}


def _for_pip() -> dict[str, str]:
    """How this machine's pip finds its index, for the pip in a root."""
    return {key: value for key, value in os.environ.items() if key.startswith("PIP_INDEX") or "proxy" in key.lower()}


def made(recipe: Recipe) -> Path:
    """The root's folder; made if it is not there. BrokenMirror, or Failed."""
    return kept(recipe.name, recipe.key, lambda folder: bootstrap(recipe.suite, recipe.packages, folder))


def kept(name: str, key: str, make: Callable[[Path], None], cache: Path = CACHE) -> Path:
    """A folder of the cache: of this name, the one made of this key. `make` is given one that is not there.

    Two processes may call it at once: one makes it, the other waits. What was made of another key is thrown away.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    with open(cache / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for other in cache.glob(f"{name}-{'[0-9a-f]' * 12}"):
                shutil.rmtree(other)
            with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as scratch:
                make(Path(scratch) / "made")
                # In one step: a killed builder leaves nothing half made under the final name.
                os.rename(Path(scratch) / "made", folder)
    return folder


@contextmanager
def entered(recipe: Recipe, beside: Path | None = None) -> Iterator[Root]:
    """A root, for as long. beside: another tree, which is there as /mnt."""
    with over(made(recipe), beside) as root:
        yield root


@contextmanager
def over(lower: Path, beside: Path | None = None, same: Sequence[Path] = ()) -> Iterator[Root]:
    """The same, of a tree that is made. same: folders that are there by the names they have here, to be written."""
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="entered-") as scratch:
        yield Root(lower, Path(scratch), beside, same)


def bootstrap(suite: str, packages: Sequence[str], target: Path, archive: str = "", more: Sequence[str] = ()) -> None:
    """A tree of this suite. The archive's dates are not asked after: a mirror may stand still for a while.

    archive: its address, where it is not the one that this machine has Debian from. more: options of mmdebstrap's.
    """
    # Not --quiet: what apt says of a broken archive would be left out as well.
    options = ["--mode=root", "--format=directory", "--variant=minbase", *more]
    options += ['--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=Apt::Install-Recommends "false"']
    options += ['--aptopt=Acquire::Retries "3"', "--dpkgopt=path-exclude=/usr/share/locale/*"]
    command = ["mmdebstrap", *options, f"--include={','.join(packages)}", suite, str(target), archive or mirror()]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        kind = BrokenMirror if BROKEN.search(done.stdout) else Failed
        raise kind(f"mmdebstrap {suite} ended with {done.returncode}: {done.stdout[-3000:]}")


def mirror() -> str:
    """Where this machine has Debian from: the archive that has all suites."""
    row = "$(REPO_URI)"
    command = ["apt-get", "indextargets", "--format", row, "Created-By: Packages", "Origin: Debian", "Label: Debian"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    if not done.stdout.strip():
        raise BrokenMirror("apt knows no archive of Debian on this machine (apt-get update?)")
    return done.stdout.split()[0]
