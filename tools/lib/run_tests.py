"""`tools/test`: lint, docs, unit, fuzz, tests inside Nova, functional tests, a whole cloud, and a count of them.

What computes runs first: unit tests, and all else beside them. Most functional tests wait, for a broker to come back,
say: they run after it, in four lanes, of which those that measure have the processors first.
"""

from __future__ import annotations

import argparse
import configparser
import enum
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cloud import requirements as cloud_requirements
from tests.deploy import requirements as deploy_requirements
from tests.lab import requirements
from tools.lib import prepare
from tools.lib.prepare import ROOT, Environment, Wants, say

LINT = (
    ("ruff", "check", "--no-cache", "."),
    ("ruff", "format", "--no-cache", "--check", "."),
    ("mypy",),
    ("reno", "-q", "lint"),
)
#: The site and the manual pages: what is warned of is an error.
SITE = ("html", "man")
#: What decides, "is this VM dead?" above all: every branch is tested, or this fails.
DECIDES = Path(__file__).with_name("decides.coveragerc")
#: The plugin that keeps a job to its share. Not imported here: pytest is in the environments only.
SELECTION = "tools.lib.selection"
NO_CACHE = "-p no:cacheprovider"
#: tests/conftest.py has it: what `--all` is for pytest.
REPEAT = "--repetitions-all"
#: Of ours, what is installed beside OpenStack, and what tests it.
EXTRAS = ("client", "worker", "consumer", "nova", "vitrage", "test")
#: How much what measures nothing gives way to what does.
NICE = 5
#: Of what a failed test said, how many lines are said once more at the end: the last ones tell what was expected.
LAST_LINES = 25
#: Before the title of such a part: `tell_more` of tests/conftest.py.
TITLE = re.compile(r"^(-{3,} .+ -{3,})$", re.MULTILINE)
#: tests/lab/processes.py has it: what measures nothing, and gives way to what does, is waited for longer.
PATIENCE = {"VMHB_TEST_PATIENCE": "3"}


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
    #: Of each that failed, its name and what it said. An hour's output of several jobs buries it.
    failures: list[str] = field(default_factory=list)

    def check(self, good: bool, what: str) -> None:
        self.passed += good
        if not good:
            self.fail(what)

    def fail(self, what: str) -> None:
        self.failed += 1
        self.failures.append(what)

    def add(self, other: Tally) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures

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

    @property
    def chosen(self) -> Sequence[str]:
        """What the caller told pytest: of `--all`, which everything is run by, there is a word among its options."""
        return [option for option in self.for_pytest if option != REPEAT]

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
            self._check(command)

    def docs(self) -> None:
        """The site, its manual pages; and of each command in them, what runs it."""
        with tempfile.TemporaryDirectory(prefix="vmhb-docs-") as scratch:
            for builder in () if self.chosen else SITE:
                build = ("sphinx-build", "-q", "-W", "--keep-going", "-b", builder, "-d", f"{scratch}/read")
                self.say(f"$ {' '.join(build[:6])} docs")
                self._check((*build, "docs", f"{scratch}/{builder}"))
        self._pytest(("python", "-m", "pytest", "--durations=5"), "tests/docs")

    def unit(self) -> None:
        """Of what was selected no coverage is told: some tests cover some of it."""
        with tempfile.TemporaryDirectory(prefix="vmhb-coverage-") as scratch:
            environ = {"COVERAGE_FILE": f"{scratch}/coverage"}  # one for each run: there may be two
            if self._pytest(("coverage", "run", "-m", "pytest"), "tests/unit", environ=environ) is Ran.SELECTED:
                return
            self._call(("coverage", "report", f"--omit={','.join(decides())}"), environ)
            self.say(f"$ branch coverage of what decides, which must be complete: {DECIDES.relative_to(ROOT)}")
            complete = ("coverage", "report", f"--rcfile={DECIDES}")
            self._check(complete, environ)

    def fuzz(self) -> None:
        """Guided by coverage, for seconds: tests/fuzz."""
        if any(self.folder.glob("lib/python*/site-packages/atheris")):
            self._check(("python", "-m", "tests.fuzz"))
        else:
            self.say("(fuzz: skipped, there is no atheris for this Python)")
            self.tally.skipped += 1

    def openstack_2025_2(self) -> None:
        self._bounds(prepare.OPENSTACK_2025_2)

    def openstack_2026_1(self) -> None:
        self._bounds(prepare.OPENSTACK_2026_1)

    def oldest(self) -> None:
        """What of ours is installed on Python 3.10, and all else that the unit tests know."""
        self._pytest(("python", "-m", "pytest", "--disable-warnings"), "tests/unit")

    def newest(self) -> None:
        """With the newest of the index; of what is capped, with what the cap keeps out: to know before others do."""
        if not self.for_pytest:
            self._find(prepare.NEWEST, EXTRAS)
            beyond = "pip install --upgrade --no-deps oslo.messaging"  # capped, since its private API is used
            self.say(f"$ {beyond}")
            self.tally.check(prepare.goes_beyond(prepare.NEWEST, self.folder, "oslo.messaging"), beyond)
        self._pytest(("python", "-m", "pytest", "--disable-warnings"), "tests/unit")

    def _bounds(self, environment: Environment) -> None:
        """In exactly the versions of an OpenStack release: does pip find each extra, and do we run with it?"""
        for extra in () if self.for_pytest else (*((one,) for one in EXTRAS), EXTRAS):
            self._find(environment, extra)
        self._pytest(("python", "-m", "pytest", "--disable-warnings"), "tests/unit")

    def _find(self, environment: Environment, extras: Sequence[str]) -> None:
        pins = f"-c {environment.constraints} " if environment.constraints else ""
        command = f"pip install --dry-run {pins}'.[{','.join(extras)}]'"
        self.say(f"$ {command}")
        self.tally.check(prepare.finds(environment, self.folder, extras), command)

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
        self._functional("-patient,-unhurried")

    def unhurried(self) -> None:
        self._functional("unhurried,-patient")

    def patient(self) -> None:
        self._functional("patient", PATIENCE, "1/2")

    def patient_2(self) -> None:
        self._functional("patient", PATIENCE, "2/2")

    def _functional(self, marked: str, environ: dict[str, str] | None = None, part: str = "1/1") -> None:
        self._pytest(("python", "-m", "pytest", "-v", "--durations=10"), "tests/functional", marked, environ, part)

    def cloud(self) -> None:
        """One story, unless it is the long run: a whole OpenStack has many."""
        command = ("python", "-m", "pytest", "-v", "--disable-warnings", "--durations=10")
        self._pytest(command, "tests/cloud", environ=PATIENCE)

    def deploy(self) -> None:
        """The tools that bring us into a cloud."""
        self._pytest(("python", "-m", "pytest", "-v", "--disable-warnings", "--durations=10"), "tests/deploy")

    def rollout(self) -> None:
        """One playbook, three hosts, and a cloud that lends them the rest."""
        self._pytest(("python", "-m", "pytest", "-v", "--disable-warnings", "--durations=10"), "tests/rollout")

    def _pytest(
        self,
        command: Sequence[str],
        tests: str,
        marked: str = "",
        environ: dict[str, str] | None = None,
        part: str = "1/1",
    ) -> Ran:
        """Run pytest, count what it ran, and return whether that was all there is.

        tests: the job's share, a folder or file; marked, part: of these, as `selection` has it. What the caller asks
        for holds within it: a path, say, is given to every job, and means something to one. That pytest did not get so
        far as to run anything counts as one failure.
        """
        with tempfile.TemporaryDirectory(prefix="vmhb-test-") as scratch:
            report, told = Path(scratch) / "report.xml", Path(scratch) / "told"
            # `testpaths` gives way to the caller's paths, where an argument would be one more.
            share = ["-o", f"testpaths={tests}", "-p", SELECTION, f"--share={tests}", f"--marked={marked}"]
            share += [f"--part={part}"]
            # For --lf: in the environment, so that nothing appears among the project's own files.
            cache = self.folder / "pytest" / f"{tests.replace('/', '-')}{marked}{part[0]}"
            share += ["-o", f"addopts={_with_cache(self.root)}", "-o", f"cache_dir={cache}"]
            code = self._call([*command, *share, f"--junitxml={report}", f"--told={told}", *self.for_pytest], environ)
            before = self.tally.failed
            if report.exists():
                self._count(report)
            # Other codes than these: it never came to run any, which is said below, once.
            ran = Ran.SELECTED if told.exists() or code not in (0, 1, 5) else Ran.ALL
        # 5: there were no tests. 1: some failed, and were counted.
        if code not in (0, 5) and self.tally.failed == before:
            self.tally.fail(f"pytest {tests}: exit code {code}")
        return ran

    def _check(self, command: Sequence[str], environ: dict[str, str] | None = None) -> None:
        """Run it: what exits with another code than 0 has failed."""
        self.tally.check(self._call(command, environ) == 0, " ".join(command))

    def _count(self, report: Path) -> None:
        for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314 -- pytest has just written it
            ran, failed, broken, skipped = (int(suite.get(k, "0")) for k in ("tests", "failures", "errors", "skipped"))
            self.tally.failed += failed + broken
            self.tally.skipped += skipped
            self.tally.passed += ran - failed - broken - skipped
            self.tally.failures += [
                f"{test.get('classname')}::{test.get('name')}\n{_last(outcome.text or '')}"
                for test in suite.iter("testcase")
                for outcome in (*test.iter("failure"), *test.iter("error"))
            ]

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


def _last(text: str) -> str:
    """Of what a test said, and of what each of its programs did."""
    said, *more = TITLE.split(text)
    lines = said.strip("\n").splitlines()[-LAST_LINES:]
    for title, did in zip(more[::2], more[1::2], strict=True):
        lines += [title, *did.strip("\n").splitlines()[-LAST_LINES:]]
    return "\n".join(f"    {line}" for line in lines)


def _with_cache(root: Path) -> str:
    """The project's options for pytest, without the one by which a run by hand keeps no cache."""
    # Not by tomllib: tests import this, and run in Python 3.10 as well, which has none.
    options = re.search(r'^addopts = "(.*)"$', (root / "pyproject.toml").read_text(), re.MULTILINE)
    if options is None:
        raise ValueError("pyproject.toml has no addopts in one line: put them there, or read it otherwise here")
    return options[1].replace(NO_CACHE, "")


def decides() -> list[str]:
    """The files whose branches are all tested, as coverage.py takes them: relative, with wildcards."""
    told = configparser.ConfigParser()
    told.read_string(DECIDES.read_text(encoding="utf-8"))
    return told["report"]["include"].split()


@dataclass(frozen=True)
class Job:
    """What runs at a time, as part of a step. lane: jobs of one lane run one after the other, and lanes of one row of
    PHASES side by side."""

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


#: Lanes that run side by side; the next row's once all of them are through.
PHASES = (("unit", "checks"), ("timed", "unhurried", "patient", "patient-2"))
#: What functional tests start beside us.
BESIDE = (prepare.MASAKARI, prepare.BEFORE)
JOBS = (
    Job("lint", "lint", Run.lint, prepare.FULL, "checks", NICE),
    Job("docs", "docs", Run.docs, prepare.FULL, "checks", NICE),
    Job("unit", "unit", Run.unit, prepare.FULL, "unit"),
    Job("fuzz", "fuzz", Run.fuzz, prepare.FULL, "checks", NICE),
    Job("bounds", "2025.2", Run.openstack_2025_2, prepare.OPENSTACK_2025_2, "unit", only_all=True),
    Job("bounds", "2026.1", Run.openstack_2026_1, prepare.OPENSTACK_2026_1, "unit", only_all=True),
    Job("bounds", "oldest", Run.oldest, prepare.OLDEST, "unit", only_all=True),
    Job("bounds", "newest", Run.newest, prepare.NEWEST, "unit", only_all=True),
    Job("nova", "nova", Run.nova, prepare.NOVA, "checks", NICE),
    Job("nova-33", "nova-33", Run.nova, prepare.NOVA_33, "checks", NICE, only_all=True),
    Job("nova-32", "nova-32", Run.nova, prepare.NOVA_32, "checks", NICE, only_all=True),
    Job("vitrage", "vitrage", Run.vitrage, prepare.VITRAGE, "checks", NICE, only_all=True),
    Job("functional", "timed", Run.timed, prepare.FULL, "timed"),
    Job("functional", "unhurried", Run.unhurried, prepare.FULL, "unhurried"),
    Job("functional", "patient", Run.patient, prepare.FULL, "patient", NICE, beside=BESIDE),
    Job("functional", "patient-2", Run.patient_2, prepare.FULL, "patient-2", NICE, beside=BESIDE),
    Job("mistral", "mistral", Run.mistral, prepare.FULL, "patient", NICE, True, (prepare.MISTRAL,)),
    Job("telemetry", "telemetry", Run.telemetry, prepare.FULL, "patient", NICE, True, (prepare.TELEMETRY,)),
    Job("vitrage", "graph", Run.graph, prepare.FULL, "patient", NICE, True, (prepare.VITRAGE, prepare.TELEMETRY)),
    Job("packages", "packages", Run.packages, prepare.FULL, "patient", NICE, True),
    Job("cloud", "cloud", Run.cloud, prepare.CLOUD, "patient", NICE),
    Job("deploy", "deploy", Run.deploy, prepare.FULL, "patient", NICE, True, (prepare.KOLLA,)),
    Job("deploy", "rollout", Run.rollout, prepare.CLOUD, "patient", NICE, True, (prepare.FULL,)),
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
    "deploy": Wants(deploy_requirements.missing, deploy_requirements.install),
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
    options = [*for_pytest, *([REPEAT] if asked.all else [])]
    total = Tally()
    for tally in _run(jobs, folders, options):
        total.add(tally)
    for failure in total.failures:
        say(f"\nFAILED {failure}")
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
    """Make all environments before anything starts. One whose Python this machine has not is left out."""
    folders: dict[Environment, Path] = {}
    for environment in dict.fromkeys(job.environment for job in jobs):
        if environment.python and prepare.unavailable(environment):
            continue
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
    """Run them, and what each tallied. One without an environment is skipped, and says so where it is seen: last."""
    left_out = [job for job in jobs if job.environment not in folders]
    runs = {
        job: Run(folders[job.environment], for_pytest, job.nice, f"{job.name:>9} | " if len(jobs) > 1 else "")
        for job in jobs
        if job not in left_out
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
                run.tally.fail(f"{job.name}: {type(error).__name__}: {error}")
            run.say(f"== {job.name}: {run.tally}, {time.monotonic() - began:.0f} s ==")

    for phase in PHASES:
        lanes = [threading.Thread(target=run_lane, args=(lane,)) for lane in phase]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
    for job in left_out:
        say(f"\n!! {job.name}: SKIPPED, nothing of it was tested. {prepare.unavailable(job.environment)}.")
    return [*(run.tally for run in runs.values()), *(Tally(skipped=1) for _ in left_out)]


if __name__ == "__main__":
    sys.exit(main())
