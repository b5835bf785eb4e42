"""`tools/test`: what a job makes of pytest's options, on a project of two small test files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.lib import run_tests
from tools.lib.prepare import ROOT
from tools.lib.run_tests import JOBS, Run, Tally

PYPROJECT = """
[tool.pytest.ini_options]
addopts = "-p no:cacheprovider"
markers = ["patient", "unhurried", "long"]
[tool.coverage.run]
branch = true
source = ["vmhb_worker"]
"""
CORE = "def decide(a):\n    return 1 if a else 2\n"
FIRST = """
import pytest
from vmhb_worker.core.a import decide

@pytest.mark.patient
def test_beats(): assert decide(True) == 1

def test_skips(): assert decide(False) == 2
"""
SECOND = "def test_other(): pass\n"
#: Besides what tests/conftest.py has.
TELLS = """
@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        tell_more(report, "log of a program", "\\n".join(f"line {number}" for number in range(1000)))
    return report
"""
BROKEN = """
import pytest

@pytest.fixture
def lab(): raise OSError("no such lab")

def test_wrong(): assert 7 == 8

def test_without(lab): pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Its unit tests cover all of its core, but not each by itself. The environment's programs are this one's."""
    root = tmp_path / "project"
    for folder in ("vmhb_worker/core", "tests/unit", "tests/functional"):
        (root / folder).mkdir(parents=True)
    for package in ("vmhb_worker", "vmhb_worker/core"):
        (root / package / "__init__.py").touch()
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "vmhb_worker/core/a.py").write_text(CORE)
    (root / "tests/unit/test_first.py").write_text(FIRST)
    (root / "tests/unit/test_second.py").write_text(SECOND)
    (root / "tests/functional/test_third.py").write_text(FIRST)
    (root / "tools").symlink_to(ROOT / "tools")
    binaries = tmp_path / "environment/bin"
    binaries.mkdir(parents=True)
    for name, program in (("python", sys.executable), ("coverage", f"{sys.executable} -m coverage")):
        (binaries / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        (binaries / name).chmod(0o755)
    return root


def run(project: Path, job: str, *options: str) -> str:
    """Its tally, as it is printed."""
    return str(tallied(project, job, *options))


def tallied(project: Path, job: str, *options: str) -> Tally:
    """What came of it."""
    one = Run(project.parent / "environment", options, 0, "", project)
    next(row.what for row in JOBS if row.name == job)(one)
    return one.tally


def test_what_failed_is_named_with_what_it_said(project: Path) -> None:
    """A test that fails, one whose fixture does, and a check."""
    (project / "tests/unit/test_second.py").write_text(BROKEN)
    one = Run(project.parent / "environment", (), 0, "", project)
    one.unit()
    assert [failure.partition("\n")[0].partition(" ")[0] for failure in one.tally.failures] == [
        "tests.unit.test_second::test_wrong",
        "tests.unit.test_second::test_without",
    ]
    assert "assert 7 == 8" in one.tally.failures[0]
    assert "no such lab" in one.tally.failures[1]
    (project / "vmhb_worker/core/b.py").write_text(CORE)
    one.unit()
    assert one.tally.failures[-1].startswith("coverage report --rcfile=")


@pytest.mark.parametrize("options", [(), ("-v", "-s", "tests/unit", "-k", "not nowhere")])
def test_all_unit_tests_are_judged_by_their_coverage(project: Path, options: tuple[str, ...]) -> None:
    """Options that leave nothing out change nothing: three tests, and the check of the core's coverage."""
    assert run(project, "unit", *options) == "4 passed, 0 failed, 0 skipped"
    (project / "vmhb_worker/core/b.py").write_text(CORE)
    assert run(project, "unit", *options) == "3 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize(
    ("options", "tally"),
    [
        (("-k", "beats"), "1 passed, 0 failed, 0 skipped"),
        (("-m", "patient"), "1 passed, 0 failed, 0 skipped"),
        (("tests/unit/test_second.py",), "1 passed, 0 failed, 0 skipped"),
        (("tests/unit/test_first.py::test_skips", "tests/unit/test_second.py"), "2 passed, 0 failed, 0 skipped"),
        (("--deselect", "tests/unit/test_first.py::test_beats"), "2 passed, 0 failed, 0 skipped"),
        (("--ignore=tests/unit/test_first.py",), "1 passed, 0 failed, 0 skipped"),
        (("--collect-only",), "0 passed, 0 failed, 0 skipped"),
        (("-k", "nowhere"), "0 passed, 0 failed, 0 skipped"),
        (("tests/functional",), "0 passed, 0 failed, 0 skipped"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_some_unit_tests_are_not_judged_by_their_coverage(
    project: Path, options: tuple[str, ...], tally: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever leaves out tests: those that are left pass, and nothing is said of a coverage that is not theirs."""
    assert run(project, "unit", *options) == tally
    assert "branch coverage" not in capfd.readouterr().out


def test_the_last_failures(project: Path) -> None:
    """--lf runs what failed last, and no more; where nothing did, it is everything. Nothing is left in the project."""
    other = project / "tests/unit/test_second.py"
    other.write_text("def test_other(): assert False\n")
    assert run(project, "unit") == "3 passed, 1 failed, 0 skipped"
    other.write_text(SECOND)
    assert run(project, "unit", "--lf") == "1 passed, 0 failed, 0 skipped"
    assert run(project, "unit", "--lf") == "4 passed, 0 failed, 0 skipped"
    assert not (project / ".pytest_cache").exists()


def test_what_failed_is_told_at_the_end(project: Path) -> None:
    """What it expected, and the end of what its programs did, however much that was."""
    (project / "tests/conftest.py").write_text((ROOT / "tests/conftest.py").read_text() + TELLS)
    (project / "tests/unit/test_second.py").write_text("def test_other(): assert 7 == 8\n")
    (failure,) = tallied(project, "unit").failures
    lines = [line.strip() for line in failure.splitlines()]
    assert "E   assert 7 == 8" in lines and any("log of a program, its end" in line for line in lines)
    assert "line 999" in lines and "line 900" not in lines


def test_an_early_end_is_not_judged(project: Path) -> None:
    """-x leaves out what comes after the first failure: that is one failure, and not another one of coverage."""
    (project / "tests/unit/test_a.py").write_text("def test_fails(): assert False\n")
    assert run(project, "unit", "-x") == "0 passed, 1 failed, 0 skipped"


def test_what_cannot_run_is_one_failure(project: Path) -> None:
    """An option or a path that pytest does not know is said by pytest, and counts."""
    assert run(project, "unit", "--no-such-option") == "0 passed, 1 failed, 0 skipped"
    assert run(project, "unit", "tests/unit/test_nowhere.py") == "0 passed, 1 failed, 0 skipped"


def test_a_file_that_cannot_be_imported_is_one_failure(project: Path) -> None:
    """Nothing ran then, so there is no coverage to be judged; that it failed is enough."""
    (project / "tests/unit/test_third.py").write_text("import nowhere\n")
    assert run(project, "unit") == "0 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize(
    ("options", "timed", "patient"),
    [
        ((), 1, 1),
        (("-k", "beats"), 0, 1),
        (("-m", "patient"), 0, 1),
        (("tests",), 1, 1),
        (("tests/unit/test_first.py",), 0, 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_jobs_of_one_step_share_the_tests(project: Path, options: tuple[str, ...], timed: int, patient: int) -> None:
    """Each runs those of the selected that are its own, also by a mark or a path of the caller's; none is an answer."""
    assert run(project, "timed", *options) == f"{timed} passed, 0 failed, 0 skipped"
    assert run(project, "patient", *options) == f"{patient} passed, 0 failed, 0 skipped"
    assert run(project, "patient-2", *options) == "0 passed, 0 failed, 0 skipped"


def test_each_functional_test_is_run_by_one_job(project: Path) -> None:
    """Whichever marks it has, be it all of them."""
    (project / "tests/functional/test_third.py").unlink()
    for number, marks in enumerate(("patient", "unhurried", "patient unhurried", "")):
        marked = "".join(f"@pytest.mark.{mark}\n" for mark in marks.split())
        (project / f"tests/functional/test_{number}.py").write_text(f"import pytest\n{marked}def test_it(): pass\n")
    functional = [job.name for job in JOBS if job.step == "functional"]
    counts = [int(run(project, name).partition(" ")[0]) for name in functional]
    assert sum(counts) == 4
    assert dict(zip(functional, counts, strict=True))["unhurried"] == 1


def test_two_jobs_share_what_waits_by_files(project: Path) -> None:
    """Whole files, the longest first, and every one of them in one part."""
    for name, tests in (("a", 1), ("b", 3), ("c", 2)):
        body = "".join(f"@pytest.mark.patient\ndef test_{number}(): pass\n" for number in range(tests))
        (project / f"tests/functional/test_{name}.py").write_text("import pytest\n" + body)
    assert run(project, "patient") == "4 passed, 0 failed, 0 skipped"
    assert run(project, "patient-2") == "3 passed, 0 failed, 0 skipped"


def test_long_tests_are_left_out_by_nobody(project: Path) -> None:
    """Those that the project itself leaves out are no selection: all others are judged by their coverage."""
    conftest = (
        "def pytest_collection_modifyitems(config, items):\n"
        "    gone = [one for one in items if one.get_closest_marker('long')]\n"
        "    items[:] = [one for one in items if one not in gone]\n"
        "    config.hook.pytest_deselected(items=gone)\n"
    )
    (project / "tests/conftest.py").write_text(conftest)
    (project / "tests/unit/test_second.py").write_text(f"import pytest\n{SECOND}@pytest.mark.long\ndef test_l(): 1/0\n")
    assert run(project, "unit") == "4 passed, 0 failed, 0 skipped"


@pytest.mark.parametrize("step", ["lint", "fuzz"])
def test_what_runs_no_pytest_takes_no_options(step: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Options are never ignored: a step that has no use for them is refused, or, where it was not named, left out."""
    with pytest.raises(SystemExit):
        run_tests._arguments([step, "unit", "--", "-k", "beats"])
    assert f"{step} runs no pytest, and would ignore -k beats" in capsys.readouterr().err
    names = {job.name for job in run_tests._jobs(*run_tests._arguments(["--", "-k", "beats"]))}
    assert names == {"docs", "unit", "nova", "timed", "unhurried", "patient", "patient-2", "cloud"}
    names = {job.name for job in run_tests._jobs(*run_tests._arguments([]))}
    assert step in names


def test_every_job_has_its_turn() -> None:
    """A lane that is of no phase would never run, and nobody would miss it."""
    lanes = [lane for phase in run_tests.PHASES for lane in phase]
    assert len(lanes) == len({*lanes})
    assert {job.lane for job in JOBS} == {*lanes}
