"""A plugin of pytest for `tools/test`: keeps a job to its share of the tests, and tells whether that was all of them.

Loaded by `-p`, with the options below. Knows nothing of the jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

#: `tools/test --all` alone has the time for them: that they are left out is no selection of the caller's.
LONG = "long"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Those that a job gives. The caller's own, -k and -m among them, hold besides."""
    parser.addoption("--share", metavar="PATH", help="keep to this file, or to what is below this folder")
    parser.addoption("--marked", metavar="MARK,-MARK", help="keep to what has these marks, and not those with a '-'")
    parser.addoption("--part", metavar="K/N", help="of N parts of these files, keep to the K-th")
    parser.addoption("--told", metavar="FILE", help="make this file where the caller left out some of the share")


def pytest_configure(config: pytest.Config) -> None:
    """Nothing, where the plugin is loaded and not asked for anything."""
    if config.getoption("--share"):
        selection = Selection(config)
        config.pluginmanager.register(selection, "vmhb-selection")
        config.args[:] = selection.within(config.args, config.invocation_params.dir)
        if not config.args:
            selection.tell()
            pytest.exit("no path is of this job", returncode=pytest.ExitCode.NO_TESTS_COLLECTED)


class Selection:
    """Of one run."""

    def __init__(self, config: pytest.Config) -> None:
        self._share = config.rootpath / str(config.getoption("--share"))
        marks = str(config.getoption("--marked") or "")
        self._marked = [mark for mark in marks.split(",") if mark]
        self._part, self._parts = (int(number) for number in str(config.getoption("--part") or "1/1").split("/"))
        self._told: str | None = config.getoption("--told")
        #: By the caller's options. A test that is named, in its file, leaves out the file's others unsaid.
        self._left_out = sum("::" in argument for argument in config.args)

    def within(self, arguments: Sequence[str], folder: Path) -> list[str]:
        """The paths to collect, of those that were asked for: another job's tests may not even load here.

        One that does not exist is kept, for pytest to say so.
        """
        found = []
        for argument in arguments:
            path = (folder / argument.partition("::")[0]).resolve()
            if path.is_relative_to(self._share) or not path.exists():
                found.append(argument)
            elif self._share.is_relative_to(path):
                found.append(str(self._share))
        return found

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep to the marks, and to the part. Last: what the caller left out is counted by then, and this is not."""
        before = self._left_out
        marked = [item for item in items if self._is_marked(item)]
        mine = self._files_of_the_part(marked)
        kept = {item for item in marked if item.path in mine}
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = [item for item in items if item in kept]
        self._left_out = before

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """By -k, by -m, by whatever there is."""
        self._left_out += sum(item.get_closest_marker(LONG) is None for item in items)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell it."""
        if not self._is_all(session):
            self.tell()

    def tell(self) -> None:
        """That some were selected."""
        if self._told is not None:
            Path(self._told).touch()

    def _is_marked(self, item: pytest.Item) -> bool:
        return all(
            (item.get_closest_marker(mark.removeprefix("-")) is not None) is not mark.startswith("-")
            for mark in self._marked
        )

    def _files_of_the_part(self, items: Sequence[pytest.Item]) -> set[Path]:
        """Whole files, since their tests share what is dear; each part has about as many tests as another."""
        tests = Counter(item.path for item in items)
        parts: list[set[Path]] = [set() for _ in range(self._parts)]
        for path in sorted(tests, key=lambda path: (-tests[path], path)):
            min(parts, key=lambda part: sum(tests[one] for one in part)).add(path)
        return parts[self._part - 1]

    def _is_all(self, session: pytest.Session) -> bool:
        """Every file there is, nothing left out of them, and none skipped by an early end or for `--collect-only`."""
        files = {self._share} if self._share.is_file() else set(self._share.rglob("test_*.py"))
        collected = {item.path for item in session.items}
        early = session.config.getoption("collectonly") or session.shouldstop or session.shouldfail
        return not self._left_out and not early and files <= collected
