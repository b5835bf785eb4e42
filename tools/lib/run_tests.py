"""`tools/test`: lint, unit, fuzz, tests inside Nova, functional tests, tests in a whole cloud, and a count of them.

What computes runs first, by itself. Most functional tests wait, for a broker to come back, say: they run side by side,
in two lanes, of which the one that measures times has the processors first.
"""

from __future__ import annotations

import argparse
import configparser
import enum
import os
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cloud import requirements as cloud_requirements
from tests.lab import requirements
from tools.lib import prepare
from tools.lib.prepare import ROOT, Environment, Wants, say

LINT = (
    ("ruff", "check", "--no-cache", "."),
    ("ruff", "format", "--no-cache", "--check", "."),
    ("mypy",),
    ("reno", "-q", "lint"),
)
#: What decides, "is this VM dead?" above all: every branch is tested, or this fails.
DECIDES = Path(__file__).with_name("decides.coveragerc")
#: The plugin that keeps a job to its share. Not imported here: pytest is in the environments only.
SELECTION = "tools.lib.selection"
NO_CACHE = "-p no:cacheprovider"
#: Of ours, what is installed beside OpenStack, and what tests it.
EXTRAS = ("client", "worker", "consumer", "nova", "vitrage", "test")
#: How much what measures nothing gives way to what does.
NICE = 5


class Ran(enum.Enum):
    """What a run of pytest was: all tests of the job, or those that the caller selected."""

    ALL = enum.auto()
    SELECTED = enum.auto()


@dataclass
class Tally:
    """How it went. Each test counts one, and so does each check of the lint step."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def check(self, good: bool) -> None:
        self.passed += good
        self.failed += not good

    def add(self, other: Tally) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass
class Run:
    """One job while it runs: its environment, its tally, and where its output goes."""

    folder: Path
    for_pytest: Sequence[str]
    nice: int
    prefix: str  # of each line, where several jobs share the screen; "" for a job that has it to itself
    root: Path = ROOT
    tally: Tally = field(default_factory=Tally)

    def say(self, text: str) -> None:
        """A line of our own."""
        say(f"{self.prefix}{text}")

    def lint(self) -> None:
        for command in LINT:
            if command[0] == "reno" and not (self.root / ".git").exists():
                self.say("(reno lint: skipped, it wants git's history)")
                self.tally.skipped += 1
                continue
            self.say("$ " + " ".join(command))
            self.tally.check(self._call(command) == 0)

    def unit(self) -> None:
        """Of what was selected no coverage is told: some tests cover some of it."""
        with tempfile.TemporaryDirectory(prefix="vmhb-coverage-") as scratch:
            environ = {"COVERAGE_FILE": f"{scratch}/coverage"}  # one for each run: there may be two
            if self._pytest(("coverage", "run", "-m", "pytest"), "tests/unit", environ=environ) is Ran.SELECTED:
                return
            self._call(("coverage", "report", f"--omit={','.join(decides())}"), environ)
            self.say(f"$ branch coverage of what decides, which must be complete: {DECIDES.relative_to(ROOT)}")
            complete = ("coverage", "report", f"--rcfile={DECIDES}")
            self.tally.check(self._call(complete, environ) == 0)

    def fuzz(self) -> None:
        """Guided by coverage, for seconds: tests/fuzz."""
        if any(self.folder.glob("lib/python*/site-packages/atheris")):
            self.tally.check(self._call(("python", "-m", "tests.fuzz")) == 0)
        else:
            self.say("(fuzz: skipped, there is no atheris for this Python)")
            self.tally.skipped += 1

    def openstack_2025_2(self) -> None:
        self._bounds(prepare.OPENSTACK_2025_2)

    def openstack_2026_1(self) -> None:
        self._bounds(prepare.OPENSTACK_2026_1)

    def _bounds(self, environment: Environment) -> None:
        """In exactly the versions of an OpenStack release: does pip find all extras, and do we run with it?"""
        if not self.for_pytest:
            self.say(f"$ pip install --dry-run -c {environment.constraints} '.[{','.join(EXTRAS)}]'")
            self.tally.check(prepare.finds(environment, self.folder, EXTRAS))
        self._pytest(("python", "-m", "pytest", "--disable-warnings"), "tests/unit")

    def nova(self) -> None:
        quiet = ("--log-level=INFO", "--disable-warnings", "--durations=10")
        self._pytest(("python", "-m", "pytest", *quiet), "tests/nova")

    def vitrage(self) -> None:
        """The datasource inside Vitrage, in one process."""
        quiet = ("--disable-warnings", "--durations=5")
        self._pytest(("python", "-m", "pytest", *quiet), "tests/vitrage/test_datasource.py")

    def mistral(self) -> None:
        self._chain("tests/mistral")

    def telemetry(self) -> None:
        self._chain("tests/telemetry")

    def graph(self) -> None:
        self._chain("tests/vitrage/test_chain.py")

    def _chain(self, tests: str) -> None:
        """From a fault to what a service, in its own Python, makes of it, and back."""
        self._pytest(("python", "-m", "pytest", "-v", "--disable-warnings", "--durations=5"), tests)

    def packages(self) -> None:
        """Built, and installed where they are meant to be: hundreds of MiB of Debian in .lab the first time."""
        self._pytest(("python", "-m", "pytest", "-v", "--durations=10"), "tests/packages")

    def timed(self) -> None:
        self._pytest(("python", "-m", "pytest", "-v", "--durations=10"), "tests/functional", "-patient")

    def patient(self) -> None:
        self._pytest(("python", "-m", "pytest", "-v", "--durations=10"), "tests/functional", "patient")

    def cloud(self) -> None:
        """One story, unless it is the long run: a whole OpenStack has many."""
        self._pytest(("python", "-m", "pytest", "-v", "--disable-warnings", "--durations=10"), "tests/cloud")

    def _pytest(
        self, command: Sequence[str], tests: str, marked: str = "", environ: dict[str, str] | None = None
    ) -> Ran:
        """Run pytest, count what it ran, and return whether that was all there is.

        tests: the job's share, a folder or file; marked: of these, as `selection` has it. What the caller asks for
        holds within it: a path, say, is given to every job, and means something to one. That pytest did not get so far
        as to run anything counts as one failure.
        """
        with tempfile.TemporaryDirectory(prefix="vmhb-test-") as scratch:
            report, told = Path(scratch) / "report.xml", Path(scratch) / "told"
            # `testpaths` gives way to the caller's paths, where an argument would be one more.
            share = ["-o", f"testpaths={tests}", "-p", SELECTION, f"--share={tests}", f"--marked={marked}"]
            # For --lf: in the environment, so that nothing appears among the project's own files.
            cache = self.folder / "pytest" / f"{tests.replace('/', '-')}{marked}"
            share += ["-o", f"addopts={_with_cache(self.root)}", "-o", f"cache_dir={cache}"]
            code = self._call([*command, *share, f"--junitxml={report}", f"--told={told}", *self.for_pytest], environ)
            before = self.tally.failed
            if report.exists():
                self._count(report)
            # Other codes than these: it never came to run any, which is said below, once.
            ran = Ran.SELECTED if told.exists() or code not in (0, 1, 5) else Ran.ALL
        # 5: there were no tests. 1: some failed, and were counted.
        if code not in (0, 5) and self.tally.failed == before:
            self.tally.failed += 1
        return ran

    def _count(self, report: Path) -> None:
        for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314 -- pytest has just written it
            ran, failed, broken, skipped = (int(suite.get(k, "0")) for k in ("tests", "failures", "errors", "skipped"))
            self.tally.failed += failed + broken
            self.tally.skipped += skipped
            self.tally.passed += ran - failed - broken - skipped

    def _call(self, command: Sequence[str], environ: dict[str, str] | None = None) -> int:
        """Run a program of the environment, and show what it says, as it says it."""
        program = [str(self.folder / "bin" / command[0]), *command[1:]]
        if self.nice:
            program = ["nice", "-n", str(self.nice), *program]
        environment = {**os.environ, **(environ or {}), "PYTHONUNBUFFERED": "1"}
        environment["PATH"] = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        environment.pop("PYTHONPATH", None)
        if not self.prefix:
            return subprocess.run(program, cwd=self.root, env=environment, check=False).returncode
        pipe, both = subprocess.PIPE, subprocess.STDOUT
        with subprocess.Popen(program, cwd=self.root, env=environment, stdout=pipe, stderr=both) as process:
            for line in process.stdout or ():
                self.say(line.decode(errors="replace").rstrip("\n"))
        return process.returncode


def _with_cache(root: Path) -> str:
    """The project's options for pytest, without the one by which a run by hand keeps no cache."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    return str(project["tool"]["pytest"]["ini_options"]["addopts"]).replace(NO_CACHE, "")


def decides() -> list[str]:
    """The files whose branches are all tested, as coverage.py takes them: relative, with wildcards."""
    told = configparser.ConfigParser()
    told.read_string(DECIDES.read_text(encoding="utf-8"))
    return told["report"]["include"].split()


@dataclass(frozen=True)
class Job:
    """What runs at a time, as part of a step. lane: jobs of one lane run one after the other; those of FIRST before all
    others, the other lanes side by side."""

    step: str
    name: str
    what: Callable[[Run], None]
    environment: Environment
    lane: str
    nice: int = 0
    only_all: bool = False  # for `--all`, or where it is named
    beside: tuple[Environment, ...] = ()  # what its tests start from there, besides

    @property
    def runs_pytest(self) -> bool:
        """Do pytest's options mean anything to it?"""
        return self.what not in (Run.lint, Run.fuzz)


FIRST = "first"
JOBS = (
    Job("lint", "lint", Run.lint, prepare.FULL, FIRST),
    Job("unit", "unit", Run.unit, prepare.FULL, FIRST),
    Job("fuzz", "fuzz", Run.fuzz, prepare.FULL, FIRST),
    Job("bounds", "2025.2", Run.openstack_2025_2, prepare.OPENSTACK_2025_2, FIRST, only_all=True),
    Job("bounds", "2026.1", Run.openstack_2026_1, prepare.OPENSTACK_2026_1, FIRST, only_all=True),
    Job("nova", "nova", Run.nova, prepare.NOVA, FIRST),
    Job("nova-33", "nova-33", Run.nova, prepare.NOVA_33, FIRST, only_all=True),
    Job("vitrage", "vitrage", Run.vitrage, prepare.VITRAGE, FIRST, only_all=True),
    Job("functional", "timed", Run.timed, prepare.FULL, "timed"),
    Job("functional", "patient", Run.patient, prepare.FULL, "patient", NICE, beside=(prepare.MASAKARI, prepare.BEFORE)),
    Job("mistral", "mistral", Run.mistral, prepare.FULL, "patient", NICE, True, (prepare.MISTRAL,)),
    Job("telemetry", "telemetry", Run.telemetry, prepare.FULL, "patient", NICE, True, (prepare.TELEMETRY,)),
    Job("vitrage", "graph", Run.graph, prepare.FULL, "patient", NICE, True, (prepare.VITRAGE, prepare.TELEMETRY)),
    Job("packages", "packages", Run.packages, prepare.FULL, "patient", NICE, True),
    Job("cloud", "cloud", Run.cloud, prepare.CLOUD, "patient", NICE),
)
STEPS = tuple(dict.fromkeys(job.step for job in JOBS))
#: For the chains: no VMs.
SERVERS = {name: requirements.PACKAGES[name] for name in ("rabbitmq-server", "mariadb-server")}
CHAINS = Wants(lambda: requirements.missing(SERVERS), lambda: requirements.install(SERVERS))
WANTS_OF_THE_LAB = Wants(requirements.missing, requirements.install)
#: What a step needs on the machine, besides its environment.
WANTS = {
    "functional": WANTS_OF_THE_LAB,
    "mistral": CHAINS,
    "telemetry": CHAINS,
    "vitrage": CHAINS,
    "packages": WANTS_OF_THE_LAB,
    "cloud": Wants(cloud_requirements.missing, cloud_requirements.install),
}


def main() -> int:
    """Exit code: 0 all good, 1 something failed, 2 the machine is not ready or the command makes no sense."""
    asked, for_pytest = _arguments(sys.argv[1:])
    jobs = _jobs(asked, for_pytest)
    try:
        folders = _prepare(jobs)
    except prepare.NotReady as error:
        print(error, file=sys.stderr)
        return 2
    options = [*for_pytest, *(["--repetitions-all"] if asked.all else [])]
    total = Tally()
    for tally in _run(jobs, folders, options):
        total.add(tally)
    say(f"\n{total}")
    return int(total.failed > 0 or total.passed == 0)


def _jobs(asked: argparse.Namespace, for_pytest: Sequence[str]) -> list[Job]:
    """What is to run. Where tests are asked for, by pytest's options, nothing but tests."""
    jobs = [job for job in JOBS if (job.step in asked.steps if asked.steps else asked.all or not job.only_all)]
    return [job for job in jobs if job.runs_pytest or not for_pytest]


def _arguments(given: Sequence[str]) -> tuple[argparse.Namespace, Sequence[str]]:
    parser = argparse.ArgumentParser(
        prog="tools/test", description="Test nova-vmhb.", epilog="What follows a -- goes to pytest: -- -k reboot"
    )
    parser.add_argument("--all", action="store_true", help="repeat the measurements as often as the long run wants")
    parser.add_argument("steps", nargs="*", metavar="step", help=f"{', '.join(STEPS)}; by default what CI runs")
    end = list(given).index("--") if "--" in given else len(given)
    asked = parser.parse_args(given[:end])
    for step in asked.steps:
        if step not in STEPS:
            parser.error(f"{step} is not a step; say one or more of {', '.join(STEPS)}")
    for_pytest = given[end + 1 :]
    for step in asked.steps if for_pytest else ():
        if not any(job.runs_pytest for job in JOBS if job.step == step):
            parser.error(f"{step} runs no pytest, and would ignore {' '.join(for_pytest)}: leave one of them out")
    return asked, for_pytest


def _prepare(jobs: Sequence[Job]) -> dict[Environment, Path]:
    """Make all environments before anything starts."""
    folders: dict[Environment, Path] = {}
    for environment in dict.fromkeys(job.environment for job in jobs):
        steps = {job.step for job in jobs if job.environment == environment}
        wants = dict.fromkeys(WANTS[step] for step in STEPS if step in steps & WANTS.keys())
        folders[environment] = prepare.prepare(environment, _together(list(wants)))
    for environment in dict.fromkeys(one for job in jobs for one in job.beside):
        if problem := prepare.unavailable(environment):
            say(f"({problem}: its tests are skipped)")
        else:
            prepare.prepare(environment)
    return folders


def _together(wants: Sequence[Wants]) -> Wants:
    """All of them."""

    def install() -> None:
        for one in wants:
            if one.missing():
                one.install()

    return Wants(lambda: list(dict.fromkeys(sentence for one in wants for sentence in one.missing())), install)


def _run(jobs: Sequence[Job], folders: dict[Environment, Path], for_pytest: Sequence[str]) -> list[Tally]:
    """Run them, and what each tallied."""
    runs = {
        job: Run(folders[job.environment], for_pytest, job.nice, f"{job.name:>8} | " if len(jobs) > 1 else "")
        for job in jobs
    }

    def run_lane(lane: str) -> None:
        for job, run in runs.items():
            if job.lane != lane:
                continue
            began = time.monotonic()
            run.say(f"== {job.name} ==")
            try:
                job.what(run)
            except Exception as error:  # whatever it is, it must not look like success
                run.say(f"{type(error).__name__}: {error}")
                run.tally.failed += 1
            run.say(f"== {job.name}: {run.tally}, {time.monotonic() - began:.0f} s ==")

    run_lane(FIRST)
    others = dict.fromkeys(job.lane for job in jobs if job.lane != FIRST)
    lanes = [threading.Thread(target=run_lane, args=(lane,)) for lane in others]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    return [run.tally for run in runs.values()]


if __name__ == "__main__":
    sys.exit(main())
