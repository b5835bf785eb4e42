"""The test seam kills where it is told to, and nowhere else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vmhb_common
from vmhb_common.app.crashpoint import POINTS, VARIABLE, reach, warning

ROOT = Path(vmhb_common.__file__).parent.parent
PACKAGES = ("nova_vmhb", "vmhb_common", "vmhb_consumer", "vmhb_worker")


def test_kills_at_the_named_point_only() -> None:
    """A process dies by SIGKILL at the point that the variable names, and passes all others."""
    program = (
        "from vmhb_common.app.crashpoint import reach\n"
        "reach('send.before'); print('passed', flush=True); reach('commit.after'); print('late')"
    )
    child = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {VARIABLE: "commit.after"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert child.stdout == "passed\n"


def test_the_name_may_be_in_a_file(tmp_path: Path) -> None:
    """A process lives past a point until the file names it; a file that isn't there names none."""
    file = tmp_path / "point"
    program = (
        "import pathlib, sys; from vmhb_common.app.crashpoint import reach\n"
        "reach('send.before'); pathlib.Path(sys.argv[1]).write_text('send.before\\n'); reach('send.deleted')\n"
        "print('passed', flush=True); reach('send.before'); print('late')"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, str(file)],
        env=os.environ | {VARIABLE: str(file)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert child.stdout == "passed\n"


def test_passes_without_the_variable() -> None:
    """In production nothing happens."""
    assert VARIABLE not in os.environ
    reach("commit.before")


def test_every_point_in_the_code_is_in_the_table() -> None:
    """Whoever adds a point says what it means, and a point that is gone leaves the table."""
    reached = {
        name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r'\breach\("([a-z_.]+)"\)', path.read_text(encoding="utf-8"))
    }
    assert reached == {point.name for point in POINTS}
    assert all(point.meaning.endswith(".") for point in POINTS)


def test_it_is_said_at_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever left it in an environment is told what it does, in one line, whatever it is."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert warning() is None
    for value in ("commit.after", "/tmp/point", "", "\udcff\n"):
        monkeypatch.setenv(VARIABLE, value)
        said = warning() or ""
        assert said.startswith(f"VMHB_CRASH_AT is set to {value!a}: ")
        assert said.isprintable()
