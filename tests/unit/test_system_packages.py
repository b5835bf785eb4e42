"""What Debian's and RPM's packages are made of agrees with what it describes. tests/packages builds them."""

from __future__ import annotations

import argparse
import configparser
import os
import re
import subprocess
import sys
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.unit.test_extras import extras
from tools.lib import packages, run_packages
from tools.lib.packages import PACKAGING, current
from tools.lib.roots import BROKEN, BrokenMirror, Failed, kept
from vmhb_consumer.cmd import manage
from vmhb_guest import cmd
from vmhb_guest.conformance import cmd as conformance

ROOT = packages.ROOT
SERVICES = PACKAGING / "debian" / "nova-vmhb"
BUNDLED = PACKAGING / "debian" / "nova-vmhb-bundled"
#: Extra -> the binary package that depends on what it lists; what of it stands with a package that this one depends on.
PACKAGES = {"client": "python3-nova-vmhb", "worker": "vmhb-worker", "consumer": "nova-vmhb-consumer"}
#: How a library is named in Debian, where that is not python3- and its name in lower case.
IN_DEBIAN = {"libvirt-python": "python3-libvirt"}


def depends(control: Path, package: str) -> dict[str, str]:
    """What a binary package depends on, and its bounds without epochs: the lower one, and the upper one behind "<"."""
    paragraph = next(one for one in control.read_text().split("\n\n") if f"Package: {package}\n" in f"{one}\n")
    found: dict[str, str] = {}
    for name, how, version in re.findall(
        r"^ ([a-z0-9.-]+)(?: \((>?=|<<) (?:\d+:)?([^)]+)\))?,$", paragraph, re.MULTILINE
    ):
        found[name] = f"{found[name]},<{version.removesuffix('~')}" if how == "<<" else version
    return found


@pytest.mark.parametrize("extra", [*PACKAGES, "nova"])
def test_dependencies(extra: str) -> None:
    """A package depends on what the extra of its role lists, with the same bounds."""
    package = PACKAGES.get(extra, "nova-vmhb-hooks")
    found = depends(SERVICES / "control", package)
    if extra != "client":
        assert "python3-nova-vmhb" in found
        found = {**depends(SERVICES / "control", PACKAGES["client"]), **found}
    for name, bound in extras()[extra].items():
        debian = IN_DEBIAN.get(name, f"python3-{name.lower()}")
        assert found[debian] == re.sub(r"^(\[\w+\])?>=", "", bound), name


def our_programs() -> set[str]:
    """All that are installed, by name."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return {row.split(" = ")[0] for row in setup["entry_points"]["console_scripts"].strip().splitlines()}


def test_every_program_is_in_a_package() -> None:
    """In one of Debian's; and but for the hooks' in the environment's, too."""
    programs = our_programs()
    patterns = {line.split()[0] for path in SERVICES.glob("*.install") for line in path.read_text().splitlines()}
    assert {
        program for program in programs if any(Path(f"usr/bin/{program}").match(one) for one in patterns)
    } == programs
    rules = (BUNDLED / "rules").read_text()
    for program in programs - {"nova-vmhb-driver"}:
        assert re.search(rf"\b{program}\b", rules), program


#: What a unit may be given by systemd, and below which folder.
DIRECTORIES = {
    "Cache": "/var/cache",
    "Configuration": "/etc",
    "Logs": "/var/log",
    "Runtime": "/run",
    "State": "/var/lib",
}
#: Whose each folder is, and its mode: what units and tmpfiles have to agree on.
Owners = dict[str, set[tuple[str, str, str]]]


def owners(units: dict[str, str], tmpfiles: dict[str, str]) -> Owners:
    """Folder -> everybody whom it is given to, by the texts of units and of files of systemd-tmpfiles."""
    found: Owners = {}
    for text in units.values():
        settings: dict[str, str] = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
        user = settings.get("User", "root")
        for kind, below in DIRECTORIES.items():
            for name in settings.get(f"{kind}Directory", "").split():
                owner = (user, settings.get("Group", user), settings.get(f"{kind}DirectoryMode", "0755"))
                found.setdefault(f"{below}/{name}", set()).add(owner)
    for text in tmpfiles.values():
        for path, mode, user, group in re.findall(r"^[dDvqQez]\S* (\S+) (\S+) (\S+) (\S+)", text, re.MULTILINE):
            found.setdefault(path, set()).add((user, group, mode))
    return found


def written_below(*patterns: str) -> dict[str, str]:
    """Files of ours and their texts."""
    folders = (ROOT / name for name in ("etc", "packaging", "deploy"))
    paths = [path for folder in folders for pattern in patterns for path in folder.rglob(pattern)]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths if not path.is_symlink()}


def test_no_folder_has_two_owners() -> None:
    """What two services on one host are both given, each start would take from the other; mode and all."""
    units = written_below("*.service", "*.service.j2")
    # Files of tmpfiles are named so where debhelper installs them, and otherwise known by where they go.
    others = re.findall(r"(\S+) \S*usr/lib/tmpfiles.d", "\n".join(written_below("install", "*.install").values()))
    tmpfiles = written_below("*.tmpfiles") | {name: (ROOT / name).read_text() for name in others}
    found = owners(units, tmpfiles)
    assert {path: whose for path, whose in found.items() if len(whose) > 1} == {}
    assert {"/var/lib/vmhb", "/var/lib/vmhb-consumer", "/var/log/vmhb", "/var/log/vmhb-consumer", "/run/vmhb"} <= {
        *found
    }
    assert not [name for name, text in tmpfiles.items() if not re.search(r"^d ", text, re.MULTILINE)]
    # And that it can fail: by unit and unit, by unit and tmpfiles.
    root, other = "User=root\nLogsDirectory=x\n", "User=u\nStateDirectory=y\nLogsDirectory=x z\n"
    assert len(owners({"a": root, "b": other}, {})["/var/log/x"]) == 2
    assert len(owners({"b": other}, {"t": "d /var/lib/y 0750 u u\n"})["/var/lib/y"]) == 2


@pytest.mark.parametrize("service", ["vmhb-worker", "nova-vmhb-consumer"])
def test_the_log_is_turned_over_where_the_unit_writes_it(service: str) -> None:
    """logrotate, the purge and systemd name one folder."""
    unit = (ROOT / f"etc/systemd/{service}.service").read_text()
    (name,) = re.findall(r"^LogsDirectory=(\S+)$", unit, re.MULTILINE)
    for kind in ("logrotate", "tmpfiles", "postrm"):
        assert re.search(rf"/var/log/{name}\b(?!-)", (SERVICES / f"{service}.{kind}").read_text()), kind


@pytest.mark.parametrize("name", ["vmhb-worker", "nova-vmhb-consumer"])
def test_configuration(name: str) -> None:
    """What a package installs as configuration sets nothing, and names options of the sample."""
    sample = (ROOT / f"etc/vmhb/{name}.conf.sample").read_text()
    sections = re.split(r"^(\[\w+\])$", sample, flags=re.MULTILINE)
    options = dict(zip(sections[1::2], sections[2::2], strict=True))
    section = ""
    for line in (PACKAGING / "conf" / f"{name}.conf").read_text().splitlines():
        if line.startswith("["):
            section = line
        elif option := re.match(r"#(\w+) = ", line):
            assert f"\n#{option[1]} = " in options[section], line
        else:
            assert not line or line.startswith("#"), line


def test_manual_pages(capsys: pytest.CaptureFixture[str]) -> None:
    """They name each command and each option."""
    page = (PACKAGING / "man/vmhb-guest.8.rst").read_text()
    kit = (PACKAGING / "man/vmhb-guest-conformance.1.rst").read_text()
    verbs = ("run", "status", "maintenance", "goodbye", "forget", "exec")
    asked = [[], *([verb] for verb in verbs)]
    for parser, arguments, text in ((conformance._parser(), [], kit), *((cmd._parser(), one, page) for one in asked)):
        with pytest.raises(SystemExit):
            parser.parse_args([*arguments, "--help"])
        words = set(re.findall(r"--[a-z]+", capsys.readouterr().out))
        assert words and {word for word in words if word not in text} == set(), arguments
    for verb in verbs:
        assert f"\n{verb}\n    " in page


def test_the_manual_page_of_the_operators_door() -> None:
    """It names every command."""
    page = (PACKAGING / "man/nova-vmhb-manage.8").read_text().replace("\\-", "-")
    commands = [f"{thing} {act}" for thing, one in _commands(manage._parser()).items() for act in _commands(one)]
    assert "db sync" in commands and [one for one in commands if f"\\fB{one}\\fR" not in page] == []


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (action,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return dict(action.choices)


def test_what_is_installed_from_here_is_here() -> None:
    """Each file of ours that a package names; and each program that is installed has its manual page."""
    named = [
        line.split()[0]
        for kind in ("manpages", "examples", "install")
        for path in (*SERVICES.glob(f"*.{kind}"), *BUNDLED.glob(f"*.{kind}"))
        for line in path.read_text().splitlines()
        if line.startswith(("etc/", "packaging/", "docs/"))
    ]
    assert named and [name for name in named if not (ROOT / name).exists()] == []
    programs = our_programs()
    pages = {Path(name).stem for name in named if name.startswith("packaging/man/")}
    ours = {path.name.partition(".")[0] for path in (PACKAGING / "man").iterdir()}
    assert {one for one in programs if not one.startswith("vmhb-guest")} == pages
    assert programs <= ours


def test_a_changelog_of_another_version() -> None:
    """It gets an entry for what is built, younger than the last; one of the same version is left as it is."""
    before = (SERVICES / "changelog").read_text()
    top = re.search(r"\(([^)]+)\)", before)
    assert top and current(before, top[1]) == before
    after = current(before, "7.0~deb12")
    assert after.startswith("nova-vmhb (7.0~deb12) unstable; urgency=medium\n") and after.endswith(before)
    dates = [parsedate_to_datetime(date) for date in re.findall(r"^ -- .*>  (.*)$", after, re.MULTILINE)]
    assert dates == sorted(dates, reverse=True) and len(set(dates)) == len(dates)
    with pytest.raises(ValueError, match="not a changelog"):
        current("nonsense", "1")


def test_what_is_kept(tmp_path: Path) -> None:
    """Made once; made anew of another key, and the old one is gone; of a making that failed nothing is left."""
    made: list[str] = []

    def make(folder: Path) -> None:
        made.append("made")
        folder.mkdir()

    def fail(folder: Path) -> None:
        folder.mkdir()
        raise RuntimeError("half made")

    other = kept("root-of-another", "key", make, tmp_path)
    first = kept("root", "key", make, tmp_path)
    assert kept("root", "key", make, tmp_path) == first and made == ["made", "made"]
    second = kept("root", "another key", make, tmp_path)
    assert second.exists() and not first.exists() and other.exists()
    with pytest.raises(RuntimeError):
        kept("root", "a third key", fail, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [other]


def test_whose_fault() -> None:
    """Debian's archive is at fault where apt says so of it; a package that nobody has ever had is a mistake of ours."""
    theirs = (
        "E: Failed to fetch http://deb.debian.org/debian/pool/main/x_1_all.deb  404  Not Found",
        "W: Failed to fetch http://deb.debian.org/debian/dists/sid/InRelease  Could not resolve 'deb.debian.org'",
        "E: Release file is not valid yet (invalid for another 2h)",
        "The following packages have unmet dependencies:",
        "File has unexpected size (1 != 2). Mirror sync in progress?",
    )
    ours = ("E: Unable to locate package vmhb-gest", "dpkg-buildpackage: error: debian/rules binary", "lintian: E: x")
    assert all(BROKEN.search(text) for text in theirs)
    assert not any(BROKEN.search(text) for text in ours)


#: Two tests of hosts that can't be made, one of a host that is made wrongly, and one that makes its own.
OF_HOSTS = """
import pytest
from tools.lib.roots import BrokenMirror, Failed
@pytest.fixture(scope="module")
def host(): raise BrokenMirror("E: Failed to fetch this")
@pytest.fixture
def wrong(): raise Failed("of ours")
def test_one(host): pass
def test_other(host): pass
def test_wrong(wrong): pass
def test_own(): raise BrokenMirror("E: Failed to fetch that")
"""


@pytest.mark.parametrize("folder", ["deploy", "rollout"])
def test_a_broken_archive_is_no_success(folder: str, tmp_path: Path) -> None:
    """Whoever wants hosts is skipped, loudly; what is our own mistake fails all the same."""
    text = (ROOT / "tests" / folder / "conftest.py").read_text()
    assert all(f"pytest_runtest_{when}" in text for when in ("setup", "call"))
    (tmp_path / "conftest.py").write_text(
        "from tests.deploy.conftest import pytest_runtest_call, pytest_runtest_setup  # noqa: F401\n"
    )
    (tmp_path / "test_hosts.py").write_text(OF_HOSTS)
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=tmp_path, env=environ, check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 skipped, 1 error" in done.stdout
    assert "NOT TESTED, since Debian's archive is broken: E: Failed to fetch this" in done.stdout


def test_what_is_built_is_put_where_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tools/packages`: the guest's into the folder itself, where the docs have them, a suite's into one of its own."""
    ours, suites = tmp_path / "guest", tmp_path / "trixie"
    for path in ("guest/a.rpm", "guest/now/a.deb", "guest/now/a.buildinfo", "guest/later/b.deb", "trixie/c.deb"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    monkeypatch.setattr("tools.lib.run_packages.requirements.missing", lambda _wanted: [])
    monkeypatch.setattr("tools.lib.run_packages.packages.guest", lambda: ours)
    monkeypatch.setattr("tools.lib.run_packages.service_packages.build", lambda _suite: suites)
    folder = tmp_path / "dist"
    assert run_packages.main(["--folder", str(folder), "guest", "trixie"]) == 0
    put = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert put == {"a.rpm", "a.deb", "trixie/c.deb"}
    assert capsys.readouterr().out.splitlines() == [str(folder / one) for one in ("a.rpm", "a.deb", "trixie/c.deb")]


@pytest.mark.parametrize(("error", "code"), [(BrokenMirror("Failed to fetch"), 2), (Failed("lintian"), 1)])
def test_what_can_not_be_built(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The archive is not there, or we are at fault: two exit codes, and apt's own words."""

    def build(_suite: str) -> Path:
        raise error

    monkeypatch.setattr("tools.lib.run_packages.requirements.missing", lambda _wanted: [])
    monkeypatch.setattr("tools.lib.run_packages.service_packages.build", build)
    assert run_packages.main(["sid"]) == code
    assert str(error) in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run_packages.main(["jessie"])
