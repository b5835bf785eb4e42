"""`tools/test`: lint, unit tests, tests inside Nova, functional tests, and one line at the end that counts them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import requirements
from tools.lib import prepare
from tools.lib.prepare import ROOT, say

STEPS = ("lint", "unit", "nova", "vitrage", "functional")
LINT = (
    ("ruff", "check", "--no-cache", "."),
    ("ruff", "format", "--no-cache", "--check", "."),
    ("mypy",),
    ("reno", "-q", "lint"),
)
#: Where "is this VM dead?" is decided: every branch is tested, or this fails.
CORE = "vmhb_worker/core/*"


@dataclass
class Tally:
    """How it went. Each test counts one, and so does each check of the lint step."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def check(self, good: bool) -> None:
        self.passed += good
        self.failed += not good

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def main() -> int:
    """Exit code: 0 all good, 1 something failed, 2 the machine is not ready or the command makes no sense."""
    asked, for_pytest = _arguments(sys.argv[1:])
    steps = [step for step in STEPS if step in (asked.steps or STEPS)]
    try:
        folders = _prepare(steps)
    except prepare.NotReady as error:
        print(error, file=sys.stderr)
        return 2
    tally = Tally()
    options = [*for_pytest, *(["--repetitions-all"] if asked.all else [])]
    for step in steps:
        say(f"\n== {step} ==")
        began = time.monotonic()
        getattr(Run(folders[step], tally, options), step)()
        say(f"== {step}: {time.monotonic() - began:.0f} s ==")
    say(f"\n{tally}")
    return int(tally.failed > 0 or tally.passed == 0)


def _arguments(given: Sequence[str]) -> tuple[argparse.Namespace, Sequence[str]]:
    parser = argparse.ArgumentParser(
        prog="tools/test", description="Test nova-vmhb.", epilog="What follows a -- goes to pytest: -- -k reboot"
    )
    parser.add_argument("--all", action="store_true", help="repeat the measurements as often as the long run wants")
    parser.add_argument("steps", nargs="*", metavar="step", help=f"{', '.join(STEPS)}; all of them when none is named")
    end = list(given).index("--") if "--" in given else len(given)
    asked = parser.parse_args(given[:end])
    for step in asked.steps:
        if step not in STEPS:
            parser.error(f"{step} is not a step; say one or more of {', '.join(STEPS)}")
    return asked, given[end + 1 :]


def _prepare(steps: Sequence[str]) -> dict[str, Path]:
    """Step -> the environment that it runs in. All of them are made before anything starts."""
    others = {"nova": prepare.NOVA, "vitrage": prepare.VITRAGE}
    ours = [step for step in steps if step not in others]
    wants = prepare.Wants(requirements.missing, requirements.install) if "functional" in ours else None
    folders = dict.fromkeys(ours, prepare.prepare(prepare.FULL, wants)) if ours else {}
    folders |= {step: prepare.prepare(environment) for step, environment in others.items() if step in steps}
    return folders


@dataclass(frozen=True)
class Run:
    """The steps. Each adds to the tally, and leaves its output on the screen."""

    folder: Path
    tally: Tally
    for_pytest: Sequence[str]

    def lint(self) -> None:
        for command in LINT:
            if command[0] == "reno" and not (ROOT / ".git").exists():
                say("(reno lint: skipped, it wants git's history)")
                self.tally.skipped += 1
                continue
            say("$ " + " ".join(command))
            self.tally.check(self._call(command) == 0)

    def unit(self) -> None:
        with tempfile.TemporaryDirectory(prefix="vmhb-coverage-") as scratch:
            os.environ["COVERAGE_FILE"] = f"{scratch}/coverage"  # one for each run: there may be two
            self._pytest(("coverage", "run", "-m", "pytest"), "tests/unit")
            self._call(("coverage", "report", f"--omit={CORE}"))
            say(f"$ branch coverage of {CORE}, which must be complete")
            self.tally.check(self._call(("coverage", "report", f"--include={CORE}", "--fail-under=100")) == 0)

    def nova(self) -> None:
        self._pytest(
            ("python", "-m", "pytest", "--log-level=INFO", "--disable-warnings", "--durations=10"), "tests/nova"
        )

    def vitrage(self) -> None:
        self._pytest(("python", "-m", "pytest", "--disable-warnings", "--durations=5"), "tests/vitrage")

    def functional(self) -> None:
        self._pytest(("python", "-m", "pytest", "-v", "--durations=10"), "tests/functional")

    def _pytest(self, command: Sequence[str], tests: str) -> None:
        """Run pytest and count what it ran. That it did not get so far counts as one failure."""
        with tempfile.TemporaryDirectory(prefix="vmhb-test-") as scratch:
            report = Path(scratch) / "report.xml"
            code = self._call([*command, tests, f"--junitxml={report}", *self.for_pytest])
            before = self.tally.failed
            if report.exists():
                self._count(report)
        # 5: there were no tests. 1: some failed, and were counted.
        if code not in (0, 5) and self.tally.failed == before:
            self.tally.failed += 1

    def _count(self, report: Path) -> None:
        for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314 -- pytest has just written it
            ran, failed, broken, skipped = (int(suite.get(k, "0")) for k in ("tests", "failures", "errors", "skipped"))
            self.tally.failed += failed + broken
            self.tally.skipped += skipped
            self.tally.passed += ran - failed - broken - skipped

    def _call(self, command: Sequence[str]) -> int:
        program = str(self.folder / "bin" / command[0])
        environment = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
        environment.pop("PYTHONPATH", None)
        return subprocess.run([program, *command[1:]], cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
