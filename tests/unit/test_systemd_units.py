"""Every unit of ours says what its process may do to the host, and systemd reads it as we mean it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ROLES = "deploy/ansible_collections/nova_vmhb/deploy/roles"


@dataclass(frozen=True)
class Unit:
    """exposure: what `systemd-analyze security` may say at most, times ten: 0 is the best. None: it is another
    program's unit, of which ours is a part, or an engine's, that runs the program; why. calls: its system calls."""

    exposure: int | None
    why: str = ""
    calls: tuple[str, ...] = ("@system-service", "~@privileged @resources")


UNITS = {
    "etc/systemd/vmhb-worker.service": Unit(30),
    "etc/systemd/nova-vmhb-consumer.service": Unit(15),
    "etc/guest/vmhb-guest.service": Unit(
        100,
        "its checks do what their authors want them to",
        ("~@module @raw-io @reboot @swap @obsolete @cpu-emulation",),
    ),
    "etc/guest/vmhb-guest-shutdown.service": Unit(100, "says one word, as root", ("@system-service",)),
    f"{ROLES}/vmhb_worker/templates/container.service.j2": Unit(None, "the engine bounds it: --pids-limit, --cap-drop"),
    f"{ROLES}/vmhb_consumer/templates/container.service.j2": Unit(
        None, "the engine bounds it: --pids-limit, --cap-drop"
    ),
    f"{ROLES}/vmhb_worker/templates/program.conf.j2": Unit(None, "another command for the unit above"),
    f"{ROLES}/vmhb_consumer/templates/program.conf.j2": Unit(None, "another command for the unit above"),
    f"{ROLES}/vmhb_hooks/templates/compute.service.j2": Unit(None, "a part of Nova's unit"),
    f"{ROLES}/vmhb_masakari/templates/engine.service.j2": Unit(None, "a part of Masakari's unit"),
}
OURS = [name for name, unit in UNITS.items() if unit.exposure is not None]
ANALYZE = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this machine")


def test_every_unit_has_its_row() -> None:
    """Whoever adds one says what it may do."""
    places = [ROOT / folder for folder in ("etc", "deploy", "packaging", "devstack")]
    files = [path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    units = {
        path for path in files if re.search(r"(?m)^\[Service\]$", path.read_text(encoding="utf-8", errors="replace"))
    }
    assert {str(path.relative_to(ROOT)) for path in units} == {*UNITS}


@pytest.mark.parametrize("name", OURS)
def test_calls_and_tasks_are_bounded(name: str) -> None:
    """What a process has no business with is refused it, and it can't fill the host with threads."""
    text = (ROOT / name).read_text(encoding="utf-8")
    said = re.findall(r"(?m)^SystemCallFilter=(.*)$", text)
    assert tuple(said) == UNITS[name].calls
    # Refused, not ended: a library that tries something new goes on without it.
    assert "\nSystemCallErrorNumber=EPERM\n" in text
    found = re.search(r"(?m)^TasksMax=(\d+)$", text)
    assert found and int(found[1]) <= 1024


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith("container.service.j2")])
def test_containers_are_bounded(name: str) -> None:
    """As the units without one are."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "'--pids-limit', '512'" in text and "'--cap-drop', 'ALL'" in text


@ANALYZE
@pytest.mark.parametrize("name", OURS)
def test_systemd_reads_it(name: str, tmp_path: Path) -> None:
    """No unknown name, no value that systemd would ignore."""
    unit = tmp_path / Path(name).name
    # Its program need not be installed here.
    text = (ROOT / name).read_text(encoding="utf-8")
    unit.write_text(re.sub(r"(?m)^(ExecStart=)/usr/bin/(vmhb|nova-vmhb)\S+", r"\1/bin/true", text))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert unit.name not in done.stderr, done.stderr


@ANALYZE
@pytest.mark.parametrize("name", OURS)
def test_what_systemd_says_of_it(name: str) -> None:
    """It is not more exposed than it was."""
    most = UNITS[name].exposure
    words = ["systemd-analyze", "security", "--offline=true", f"--threshold={most}", str(ROOT / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd analyzes no files")
    assert done.returncode == 0, done.stdout.splitlines()[-1] + done.stderr
