"""Builds vmhb-guest's packages for the system's own package manager: .deb and .rpm.

Nothing of the day is in what it builds: dates are those of the changelogs.
"""

from __future__ import annotations

import email.utils
import hashlib
import re
import shutil
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from tools.lib import guest_build, roots
from tools.lib.roots import Recipe, Root
from vmhb_guest import __version__ as guest_version

ROOT = guest_build.ROOT
PACKAGING = ROOT / "packaging"
#: Where everything for guests is built and looked at: by the Debian of today.
WORKSHOP = Recipe(
    "workshop",
    "trixie",
    (
        *("build-essential", "debhelper", "dh-python", "fakeroot", "python3-all", "python3-docutils"),
        *("lintian", "mmdebstrap", "piuparts"),
        "rpm",
    ),
)
#: Makes the original archive of a folder, always the same.
_TAR = "tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=go=rX,u+rw,a-s -c {} | gzip -n >{}"
_TOP = re.compile(r"(?P<name>\S+) \((?P<version>\S+)\) .*?\n -- (?P<by>.*?>)  (?P<date>[^\n]+)\n", re.DOTALL)


#: In the folder that guest() makes: what was built, and the same once more, as a later version.
NOW, LATER = "now", "later"


def guest() -> Path:
    """A folder with vmhb-guest's packages, .deb and .rpm; built where what they are made of has changed."""
    folders = [
        ROOT / "etc" / "guest",
        *(PACKAGING / one for one in ("bin", "debian/vmhb-guest", "guest", "man", "rpm")),
    ]
    made_of = [*guest_build.sources(), *(path for one in folders for path in files_in(one)), Path(__file__)]

    def make(folder: Path) -> None:
        folder.mkdir()
        with roots.entered(WORKSHOP) as root:
            guest_deb(root).rename(folder / NOW)
            guest_deb(root, "+later").rename(folder / LATER)
            shutil.move(guest_rpm(root), folder)

    return roots.kept("built-guest", f"{WORKSHOP.key} {digest_of(made_of)}", make)


def guest_deb(root: Root, revision: str = "") -> Path:
    """The folder, in the root's share, with vmhb-guest's .deb, .dsc and .changes. revision: of another build, "+b" say.

    A native package: what packages it lies beside what is packaged.
    """
    work = _guest_source(root, "deb")
    source = work / f"vmhb-guest-{guest_version}"
    shutil.copytree(PACKAGING / "debian" / "vmhb-guest", source / "debian")
    changelog = source / "debian" / "changelog"
    changelog.write_text(current(changelog.read_text(), f"{guest_version}{revision}"))
    for name in ("pyproject.toml", "setup.cfg"):
        (source / name).unlink()  # of the wheel, which is not made
    root.run(f"cd /share/deb/{source.name} && dpkg-buildpackage -us -uc")
    shutil.rmtree(source)
    return work


def guest_rpm(root: Root) -> Path:
    """vmhb-guest's .rpm, in the root's share."""
    work = _guest_source(root, "rpm")
    spec = (PACKAGING / "rpm" / "vmhb-guest.spec").read_text()
    (work / "vmhb-guest.spec").write_text(re.sub(r"(?m)^Version:.*$", f"Version:        {guest_version}", spec))
    root.run(
        f"cd /share/rpm && {_TAR.format(f'vmhb-guest-{guest_version}', f'vmhb-guest-{guest_version}.tar.gz')}"
        " && rpmbuild -bb --define '_topdir /share/rpm/top' --define '_sourcedir /share/rpm' vmhb-guest.spec"
    )
    return next((work / "top").rglob("*.rpm"))


def current(changelog: str, version: str) -> str:
    """Debian's changelog, with an entry on top for this version if the last one is of another: a second younger."""
    top = _TOP.match(changelog)
    if top is None:
        raise ValueError(f"not a changelog of Debian's: {changelog[:80]!r}")
    if top["version"] == version:
        return changelog
    date = email.utils.format_datetime(email.utils.parsedate_to_datetime(top["date"]) + timedelta(seconds=1))
    entry = f"{top['name']} ({version}) unstable; urgency=medium\n\n  * Release {version}.\n\n"
    return f"{entry} -- {top['by']}  {date}\n\n{changelog}"


def files_in(folder: Path) -> list[Path]:
    """All of them, always in the same order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def digest_of(files: Iterable[Path]) -> str:
    """Of these files of the project: names, contents, and who may run them."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"\0{path.relative_to(ROOT)}\0{path.stat().st_mode}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _guest_source(root: Root, kind: str) -> Path:
    """A folder of this name in the share, and in it the source, unpacked."""
    work = root.share / kind
    source = work / f"vmhb-guest-{guest_version}"
    source.mkdir(parents=True)
    guest_build.lay_out(source)
    for name in ("bin", "man"):
        shutil.copytree(PACKAGING / name, source / "packaging" / name)
    return work
