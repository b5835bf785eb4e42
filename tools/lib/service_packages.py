"""Builds the packages of worker, consumer, hooks and client for Debian: with its own libraries, or with their own.

Debian's own in sid, whose OpenStack is as young as our bounds. In its releases, whose OpenStack is older, the services
have an environment under /usr/lib, and no hooks are offered: these are loaded by Nova.
"""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

from tools.lib import roots
from tools.lib.packages import PACKAGING, ROOT, current, digest_of, files_in
from tools.lib.roots import BrokenMirror, Failed, Recipe, Root

#: With the libraries of that Debian: the Debian whose OpenStack is as young as our bounds.
OF_DEBIAN = Recipe(
    "sid-build",
    "sid",
    (
        *("build-essential", "debhelper", "dh-python", "pybuild-plugin-pyproject"),
        *("python3-all", "python3-pbr", "python3-setuptools"),
    ),
)
#: With libraries of their own.
BUNDLED = {
    suite: Recipe(
        f"services-{suite}",
        suite,
        (
            *("build-essential", "debhelper", "dh-python", "lintian"),
            *("libvirt-dev", "libvirt0", "pkg-config"),
            *("python3-dev", "python3-pip", "python3-setuptools", "python3-venv"),
            *("dbus", "logrotate", "systemd", "systemd-sysv"),  # to install them into
        ),
    )
    for suite in ("bookworm", "trixie")
}
#: Of Debian's releases, for versions: 1.0~deb12 is older than 1.0~deb13, and that than sid's 1.0.
_RELEASES = {"bookworm": "~deb12", "trixie": "~deb13", "sid": ""}
SUITES = tuple(_RELEASES)
#: What is installed into the environment, besides ours: the extras of the services.
_EXTRAS = ("worker", "consumer")
#: What builds a wheel of ours, from setup.cfg.
_BUILDERS = ("pbr", "setuptools", "wheel")

#: What pip says when it is the index that is broken, and not we.
NO_INDEX = re.compile(
    "ConnectionError|NewConnectionError|Read timed out|Temporary failure|SSLError|HTTPError|Max retries"
)


def version_of_the_tag() -> str:
    """Of the last tag, as Debian writes it; 0 where there is none."""
    command = ["git", "-C", str(ROOT), "describe", "--tags", "--abbrev=0", "--match", "[0-9]*"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return re.sub(r"(\d)\.?(a|b|rc)(\d)", r"\1~\2\3", done.stdout.strip()) if done.returncode == 0 else "0"


def build(suite: str) -> Path:
    """A folder with the packages of the services for this suite; built where what they are made of has changed."""
    recipe = BUNDLED.get(suite, OF_DEBIAN)
    made_of = [path for name in _of_the_services() for path in ([name] if name.is_file() else files_in(name))]
    made_of = [path for path in made_of if path.suffix != ".pyc"]
    vendor = vendored(suite) if suite in BUNDLED else None
    version = f"{version_of_the_tag()}{_RELEASES[suite]}"

    def make(folder: Path) -> None:
        with roots.entered(recipe) as root:
            work = _source(root, version, vendor)
            root.run(f"cd {work.name}/nova-vmhb && dpkg-buildpackage -us -uc")
            shutil.rmtree(work / "nova-vmhb")
            work.rename(folder)

    key = f"{recipe.key} {version} {vendor and vendor.name} {digest_of([*made_of, Path(__file__)])}"
    return roots.kept(f"built-{suite}", key, make)


def vendored(suite: str) -> Path:
    """A folder with the wheels of all libraries of the services, for this suite's Python, in the tested versions.

    BrokenMirror where they can't be got.
    """
    recipe = BUNDLED[suite]
    told = configparser.ConfigParser()
    told.read(ROOT / "setup.cfg")
    wanted = sorted({row for extra in _EXTRAS for row in told["extras"][extra].split("\n") if row.strip()})
    constraints = (ROOT / "constraints.txt").read_text()

    def make(folder: Path) -> None:
        with roots.entered(recipe) as root:
            work = root.share / "vendor"
            work.mkdir()
            (work / "requirements.txt").write_text("".join(f"{row}\n" for row in wanted))
            (root.share / "constraints.txt").write_text(constraints)
            certificates = Path("/etc/ssl/certs/ca-certificates.crt")
            if certificates.exists():
                shutil.copy(certificates, root.share)
            try:
                root.run(
                    "python3 -m pip wheel --quiet --disable-pip-version-check --no-cache-dir -w vendor"
                    f" -c constraints.txt -r vendor/requirements.txt {' '.join(_BUILDERS)}",
                    environ={"PIP_CERT": f"/share/{certificates.name}"} if certificates.exists() else {},
                )
            except Failed as error:
                kind = BrokenMirror if NO_INDEX.search(str(error)) else Failed
                raise kind(str(error)) from error
            work.rename(folder)

    return roots.kept(f"vendored-{suite}", f"{recipe.key} {wanted} {constraints} 1", make)


def _of_the_services() -> list[Path]:
    """The files and folders that the services are built of."""
    told = configparser.ConfigParser()
    told.read(ROOT / "setup.cfg")
    names = ("etc", "packaging", "setup.cfg", "setup.py", "pyproject.toml", "requirements.txt", "LICENSE", "README.rst")
    return [ROOT / name for name in (*told["files"]["packages"].split(), *names)]


def _source(root: Root, version: str, vendor: Path | None) -> Path:
    """A folder in the share, and in it the source of the services' packages."""
    work = root.share / "services"
    source = work / "nova-vmhb"
    source.mkdir(parents=True)
    for path in _of_the_services():
        ignored = shutil.ignore_patterns("__pycache__", "guest", "debian", "rpm")
        shutil.copytree(path, source / path.name, ignore=ignored) if path.is_dir() else shutil.copy(path, source)
    shutil.copytree(PACKAGING / "debian" / "nova-vmhb", source / "debian")
    if vendor:
        shutil.copytree(vendor, source / "vendor")
        shutil.copytree(PACKAGING / "debian" / "nova-vmhb-bundled", source / "debian", dirs_exist_ok=True)
        for pattern in ("python3-nova-vmhb.*", "nova-vmhb-hooks.*"):
            for path in (source / "debian").glob(pattern):
                path.unlink()
    changelog = source / "debian" / "changelog"
    changelog.write_text(current(changelog.read_text(), version))
    return work
