"""What goes into images: the distribution, the single files, and the units that start the daemon."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.unit.guest.daemons import DaemonProcess, oldest_python
from tools.lib import guest_build
from vmhb_guest import __version__, cmd
from vmhb_guest.codec import MAX_LINE, MAX_NONCE
from vmhb_guest.conformance import schema
from vmhb_guest.conformance.rules import RULES
from vmhb_guest.daemon import FEEDS, ROUND, Settings
from vmhb_guest.port import DEVICE
from vmhb_guest.session import MAX_CHALLENGES

ROOT = Path(__file__).parent.parent.parent.parent


def test_the_single_file(tmp_path: Path) -> None:
    """One file, the same whenever it is built, answers heartbeats on the oldest Python at hand, from any folder."""
    for name in ("first", "vmhb-guest"):
        guest_build.single_file("vmhb-guest", tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "vmhb-guest").read_bytes()
    (tmp_path / "daemon").mkdir()
    with DaemonProcess(tmp_path / "daemon", python=oldest_python(), program=(str(tmp_path / "vmhb-guest"),)) as daemon:
        daemon.start()
        assert daemon.ask() == {"status": "healthy", "checks": []}


@pytest.mark.parametrize("program", guest_build.PROGRAMS)
def test_each_program_as_a_file(program: str, tmp_path: Path) -> None:
    """It runs, and finds the schema that is in it."""
    guest_build.single_file(program, tmp_path / program)
    command = [oldest_python(), str(tmp_path / program), "--version"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n"), done.stderr


def test_the_distribution(tmp_path: Path) -> None:
    """Everything is in the wheel: modules, schema, units; and it needs nothing else."""
    wheel, sdist = guest_build.distribution(tmp_path)
    assert sdist.suffixes[-2:] == [".tar", ".gz"]
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        metadata = next(packed.read(name).decode() for name in names if name.endswith("METADATA"))
        scripts = next(packed.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert {str(path.relative_to(ROOT)) for path in guest_build.sources()} <= set(names)
    for path in (ROOT / "etc/guest").iterdir():
        assert any(name.endswith(f"share/vmhb-guest/{path.name}") for name in names)
    assert "Requires-Python: >=3.8" in metadata and "Requires-Dist" not in metadata
    assert "vmhb-guest = vmhb_guest.cmd:main" in scripts and "vmhb-guest-conformance = " in scripts


def test_the_unit_and_the_rule() -> None:
    """The rule starts the unit for the port that the daemon opens, and the unit ends with it."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "etc/guest/vmhb-guest.service")
    device = DEVICE.lstrip("/").replace("-", "\\x2d").replace("/", "-") + ".device"
    assert parser["Unit"]["BindsTo"] == parser["Unit"]["After"] == device
    assert parser["Service"]["Restart"] == "on-failure", "where there is no port it ends with 0, and stays ended"
    assert parser["Service"]["RuntimeDirectoryPreserve"] == "yes"
    assert parser["Service"]["Type"] == "notify", "After= it means that its sockets are there"
    watchdog = float(parser["Service"]["WatchdogSec"])
    assert watchdog > FEEDS * ROUND, "each feed comes in time, also where rounds are late"
    assert watchdog <= 10, "sooner than it takes the default policy to tell of a fault, with time to start again"
    rule = (ROOT / "etc/guest/60-vmhb-guest.rules").read_text()
    assert f'ATTR{{name}}=="{DEVICE.rpartition("/")[2]}"' in rule and 'ENV{SYSTEMD_WANTS}+="vmhb-guest.service"' in rule


def test_the_unit_of_a_shutdown() -> None:
    """Every shutdown wants it, it waits for nothing, and it asks the daemon only where there is one."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "etc/guest/vmhb-guest-shutdown.service")
    assert parser["Unit"]["DefaultDependencies"] == "no" and not {"After", "Before", "Requires"} & set(parser["Unit"])
    assert parser["Unit"]["ConditionPathExists"] == Settings().control
    assert float(parser["Service"]["TimeoutStartSec"]) >= 30, "a machine that is hard pressed takes its time"
    command = parser["Service"]["ExecStart"].removeprefix("-/usr/bin/env vmhb-guest ").split()
    asked = cmd._parser().parse_args(command)
    assert (asked.verb, asked.shutdown) == ("goodbye", True)
    docs = (ROOT / "docs/guest.rst").read_text()
    assert "ln -sf ../vmhb-guest-shutdown.service /lib/systemd/system/shutdown.target.wants/\n" in docs
    for path in (ROOT / "etc/guest").iterdir():
        assert path.name in docs, "who builds an image is told of it"


def test_every_unit_is_bounded() -> None:
    """In its processes, and in what it asks of the kernel; what is refused is an error, and no death."""
    units = sorted((ROOT / "etc/guest").glob("*.service"))
    assert units
    for path in units:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(path)
        assert 0 < int(parser["Service"]["TasksMax"]) <= 1024 and parser["Service"]["SystemCallFilter"], path.name
        assert parser["Service"]["SystemCallErrorNumber"] == "EPERM", path.name


def test_the_way_before_and_after_the_daemon() -> None:
    """At boot, and however the daemon ended, the path that services speak to leads to systemd."""
    way = Settings().way
    rows = [line.split() for line in (ROOT / "etc/guest/vmhb-guest.conf").read_text().splitlines() if line[0] != "#"]
    assert ["L", way.manager, "-", "-", "-", "-", "/run/systemd/notify"] in rows
    assert ["L", way.link, "-", "-", "-", "-", os.path.basename(way.manager)] in rows
    unit = (ROOT / "etc/guest/vmhb-guest.service").read_text()
    assert f"\nExecStopPost=-/bin/ln -sfn {os.path.basename(way.manager)} {way.link}\n" in unit
    assert way.link in (ROOT / "docs/guest.rst").read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this machine")
@pytest.mark.parametrize("name", ["vmhb-guest.service", "vmhb-guest-shutdown.service"])
def test_systemd_reads_the_unit(name: str, tmp_path: Path) -> None:
    """No unknown name, no value that systemd would ignore."""
    unit = tmp_path / name
    shutil.copy(ROOT / "etc/guest" / name, unit)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert name not in done.stderr, done.stderr


def test_the_example_check() -> None:
    """It is a check, with settings, and is not unhealthy here unless the disk is full."""
    from vmhb_guest.checks import read_settings  # noqa: PLC0415

    path = ROOT / "etc/guest/example-check"
    assert read_settings(str(path)).interval == 60.0
    done = subprocess.run([path], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 2) and done.stdout.startswith("/ is ")


def test_the_docs_name_every_rule_and_limit() -> None:
    """docs/protocol.rst has the kit's rules, word for word, and the limits that the code has."""
    text = (ROOT / "docs/protocol.rst").read_text()
    for rule in RULES:
        assert f"{f'``{rule.name}``':<25}  {rule.says}\n" in text
    for limit in (f"at most **{MAX_LINE} bytes**", f"string, 1 to {MAX_NONCE} characters", f"newest {MAX_CHALLENGES}:"):
        assert limit in text
    for name in schema.SCHEMA["$defs"]["from_guest"]["anyOf"] + schema.SCHEMA["$defs"]["from_host"]["anyOf"]:
        assert f"``{name['$ref'].rpartition('/')[2]}``" in text


def test_the_conversation_in_the_docs_is_legal() -> None:
    """Every message that is written out in full."""
    rows = re.findall(r"^    [HG]  (\{.*\})(?: +armed)?$", (ROOT / "docs/protocol.rst").read_text(), re.MULTILINE)
    messages = [json.loads(row) for row in rows if "{…}" not in row and ",…" not in row]
    assert len(messages) > 7
    assert [fault for message in messages for fault in schema.faults(message, message["type"])] == []
