"""For all tests: figures that are printed at the end of a run, and how often a measurement is repeated."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

Figure = Callable[..., None]
Repetitions = Callable[[int, int], int]


@dataclass
class Series:
    """The values that one figure took, one for each repetition. `limit`: none may be above it."""

    unit: str
    limit: float | None
    values: list[float] = field(default_factory=list)

    def row(self, name: str) -> tuple[str, ...]:
        limit = "" if self.limit is None else f"{self.limit:.6g}"
        numbers = (min(self.values), statistics.median(self.values), max(self.values))
        return (name, str(len(self.values)), *(f"{number:.4g}" for number in numbers), limit, self.unit)


FIGURES = pytest.StashKey[dict[str, Series]]()
#: Of what a program of a failed test said, its last lines are shown.
SHOWN = 120
HEADINGS = ("figure", "n", "min", "median", "max", "limit", "unit")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`tools/test --all` becomes `--repetitions-all`."""
    parser.addoption(
        "--repetitions-all", action="store_true", help="repeat measurements as often as the long run wants"
    )


def pytest_configure(config: pytest.Config) -> None:
    """One table for the whole run."""
    config.stash[FIGURES] = {}
    config.addinivalue_line("markers", "long: a variation that only `tools/test --all` has the time for")
    config.addinivalue_line("markers", "unhurried: measures tens of seconds, and mostly waits; runs beside `timed`")
    config.addinivalue_line("markers", "patient: measures nothing that a busy machine could spoil; runs beside others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long variations to `tools/test --all`; pytest counts them as deselected."""
    if config.getoption("--repetitions-all"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)


@pytest.fixture
def figure(pytestconfig: pytest.Config) -> Figure:
    """figure(name, value, unit, limit=None): print it at the end of the run; above the limit, the test fails.

    Several values of one name are shown as one line with their number, minimum, median and maximum.
    """

    def note(name: str, value: float, unit: str, limit: float | None = None) -> None:
        series = pytestconfig.stash[FIGURES].setdefault(name, Series(unit, limit))
        series.values.append(value)
        if limit is not None and value > limit:
            pytest.fail(f"{name}: {value:.6g} {unit}, which is more than {limit:.6g} {unit}")

    return note


@pytest.fixture
def repetitions(pytestconfig: pytest.Config) -> Repetitions:
    """repetitions(few, many): how often to repeat; `many` in `tools/test --all`."""
    every = bool(pytestconfig.getoption("--repetitions-all"))
    return lambda few, many: many if every else few


def tell_more(report: pytest.TestReport, name: str, text: str) -> None:
    """With what a failed test said, the end of what one of its programs did."""
    end = "\n".join(text.splitlines()[-SHOWN:])
    # Of an exception, it is a part of the text that the report's file has; other sections are on the screen alone.
    add = getattr(report.longrepr, "addsection", None)
    if add is None:
        report.sections.append((f"{name}, its end", end))
    else:
        add(f"{name}, its end", end)


def tell_log(report: pytest.TestReport, name: str, log: Path) -> None:
    """The same of a file, which need not be there."""
    tell_more(report, name, log.read_text(errors="replace") if log.exists() else "(none)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table."""
    figures = config.stash[FIGURES]
    if not figures:
        return
    rows = [HEADINGS, *(series.row(name) for name, series in figures.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    terminalreporter.section("figures")
    for row in rows:
        cells = [
            cell.ljust(width) if i in (0, 6) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        terminalreporter.line("  ".join(cells).rstrip())
