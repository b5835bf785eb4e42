"""The template for a reporter, as an author finds it: it is installed, is tested with the kit, and says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from vmhb_consumer.reporters.base import Reporter
from vmhb_consumer.reporters.loader import NAMESPACE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest's own

ROOT = Path(__file__).parent.parent.parent.parent.parent
FOLDER = ROOT / "etc/reporter"


def test_it_passes_the_kits_cases() -> None:
    """As its author runs them: by themselves, in that folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(FOLDER), str(ROOT)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(FOLDER), str(FOLDER)]
    done = subprocess.run(command, env=environment, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "14 passed" in done.stdout


def test_its_entry_point() -> None:
    """What it installs is the reporter of that name."""
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())
    ((name, where),) = project["project"]["entry-points"][NAMESPACE].items()
    module, _, attribute = where.partition(":")
    assert project["tool"]["setuptools"]["py-modules"] == [module]
    namespace: dict[str, object] = {"__name__": module}
    exec(compile((FOLDER / f"{module}.py").read_text(), module, "exec"), namespace)  # noqa: S102
    reporter = namespace[attribute]
    assert isinstance(reporter, type) and issubclass(reporter, Reporter) and reporter.name == name


def test_its_types() -> None:
    """What is copied is checked as strictly as our own."""
    mypy = (sys.executable, "-m", "mypy")
    done = subprocess.run(
        # The template itself, whatever releases of OpenStack's libraries are beside it: older ones have no types.
        [*mypy, "--strict", "--follow-imports=silent", "--ignore-missing-imports", str(FOLDER / "vmhb_pager.py")],
        env={**os.environ, "MYPYPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
