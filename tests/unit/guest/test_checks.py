"""Checks: each way to end has one meaning, and none takes longer, says more or leaves more running than it may."""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from pathlib import Path

import pytest

from vmhb_guest import programs
from vmhb_guest.checks import MAX_CHECKS, Checks, Settings, discover, judge, read_settings
from vmhb_guest.health import DEGRADED, HEALTHY, UNHEALTHY
from vmhb_guest.programs import MAX_OUTPUT, End, Outcome

#: Seconds to wait for what does happen; and for what has to be waited out.
PATIENCE, SHORT = 60.0, 0.5


def script(folder: Path, text: str, name: str = "check", mode: int = 0o755) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return str(path)


def meaning(folder: Path, text: str, timeout: float = PATIENCE) -> tuple[str, str]:
    """Run a script: status and message."""
    found = judge("check", programs.run(script(folder, text), timeout), Settings(timeout=timeout))
    return found.status, found.message


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("exit 0", HEALTHY, ""),
        ("echo; echo all well; echo more", HEALTHY, "all well"),
        ("echo slow >&2; exit 1", DEGRADED, "exit 1: slow"),
        ("exit 1", DEGRADED, "exit 1"),
        ("exit 2", UNHEALTHY, "exit 2"),
        ("echo disk full; exit 100", UNHEALTHY, "exit 100: disk full"),
        ("no-such-program", UNHEALTHY, "exit 127: {path}: 2: no-such-program: not found"),
        ("kill -KILL $$", UNHEALTHY, "killed by SIGKILL (9)"),
        ("echo bye; kill -SEGV $$", UNHEALTHY, "killed by SIGSEGV (11): bye"),
        # A limit of its own on the size of files, which no program of ours puts on it, nor hides from it.
        ("ulimit -f 0; echo x >file; exit 0", UNHEALTHY, "killed by SIGXFSZ (25)"),
        (r"printf 'a\033[31mb\n'; exit 3", UNHEALTHY, "exit 3: a [31mb"),
    ],
)
def test_ends(text: str, status: str, message: str, tmp_path: Path) -> None:
    """Only exit 0 is healthy, only exit 1 is degraded."""
    text = text.replace(">file", f">{tmp_path}/file")
    assert meaning(tmp_path, text) == (status, message.format(path=tmp_path / "check"))


def test_the_size_of_files_is_not_limited_by_us(tmp_path: Path) -> None:
    """Neither is a signal that Python ignores ignored in a check: what it writes for itself is its own affair."""
    status, _ = meaning(tmp_path, f"dd if=/dev/zero of={tmp_path}/big bs=1M count=8 2>/dev/null")
    assert status == HEALTHY
    ours = re.search(r"^SigIgn:\t(.*)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert ours is not None  # whoever started the tests may ignore others, as nohup does
    pythons = sum(1 << (number - 1) for number in (signal.SIGPIPE, signal.SIGXFSZ))
    expected = f"SigIgn: {int(ours[1], 16) & ~pythons:016x}"
    assert meaning(tmp_path, "grep SigIgn /proc/self/status") == (HEALTHY, expected)


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda folder: str(folder / "missing"), "No such file or directory"),
        (lambda folder: script(folder, "exit 0", mode=0o644), "Permission denied"),
        (lambda folder: script(folder, "", name="x") + "/y", "Not a directory"),
    ],
)
def test_what_cannot_be_run(prepare: object, why: str, tmp_path: Path) -> None:
    """Missing, or no program: unhealthy, and it is said why."""
    assert callable(prepare)
    outcome = programs.run(prepare(tmp_path), PATIENCE)
    found = judge("check", outcome, Settings())
    assert (found.status, found.message) == (UNHEALTHY, f"can't be run: {why}")


def test_a_program_whose_interpreter_is_missing(tmp_path: Path) -> None:
    """As above."""
    path = tmp_path / "check"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    assert (
        judge("check", programs.run(str(path), PATIENCE), Settings()).message
        == "can't be run: No such file or directory"
    )


def test_hung(tmp_path: Path) -> None:
    """Killed after its time, with what it started, its last words kept."""
    text = f"echo begun\nsleep 1000 & echo $! >{tmp_path}/child\ntrap '' TERM\nsleep 1000"
    status, message = meaning(tmp_path, text, SHORT)
    assert (status, message) == (UNHEALTHY, f"hung: still running after {SHORT:g} s, killed: begun")
    assert_gone(int((tmp_path / "child").read_text()))


def test_what_it_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    """A child that holds its output does not make it hang, and does not stay."""
    assert meaning(tmp_path, f"sleep 1000 & echo $! >{tmp_path}/child; echo fine") == (HEALTHY, "fine")
    assert_gone(int((tmp_path / "child").read_text()))


def test_stopped(tmp_path: Path) -> None:
    """What runs is ended with the daemon, with what it started."""
    script(tmp_path, f"sleep 1000 & echo $! >{tmp_path}/.child; wait")
    checks = Checks(str(tmp_path))
    checks.start()
    wait_for(lambda: (tmp_path / ".child").exists() and (tmp_path / ".child").read_text())
    checks.stop()
    assert_gone(int((tmp_path / ".child").read_text()))


def test_output_without_end(tmp_path: Path) -> None:
    """Its time is measured all the same, and little of it is kept."""
    outcome = programs.run(script(tmp_path, "yes x"), SHORT)
    assert (outcome.end, len(outcome.output)) == (End.HUNG, MAX_OUTPUT)


def test_closed_output(tmp_path: Path) -> None:
    """One that closes its output is waited for by its end."""
    assert meaning(tmp_path, "exec >&- 2>&-; sleep 0.3; exit 1") == (DEGRADED, "exit 1")


def test_not_scheduled_ourselves(tmp_path: Path) -> None:
    """Time in which we did not run is not its time: here the clock jumps by an hour at each look."""
    jumps = itertools.count(0, 3600)
    outcome = programs.run(script(tmp_path, "sleep 0.3; exit 1"), PATIENCE, clock=lambda: float(next(jumps)))
    assert (outcome.end, outcome.number) == (End.EXITED, 1)


def test_settings(tmp_path: Path) -> None:
    """In a comment of a script, or a file beside a program; the file goes first. Nonsense is said, and not used."""
    path = script(tmp_path, "# vmhb: interval=5 timeout=0.5\nexit 0")
    assert read_settings(path) == Settings(5.0, 0.5)
    (tmp_path / "check.conf").write_text("# timeout = 1\ninterval = 7\n")
    assert read_settings(path) == Settings(7.0, 10.0)
    for wrong in ("interval = soon", "interval = 0", "interval = nan", "interval = 1e9", "interval = -1"):
        (tmp_path / "check.conf").write_text(wrong)
        assert read_settings(path).interval == 30.0 and "30 is used" in read_settings(path).problem
    found = judge("check", Outcome(End.EXITED), read_settings(path))
    assert (found.status, found.message) == (DEGRADED, read_settings(path).problem)


def test_what_is_a_check(tmp_path: Path) -> None:
    """Programs and what should be one; not what editors and package managers leave."""
    for name in ("a", "b.sh", "b.sh.conf", "c.conf", ".hidden", "d~", "e.dpkg-old", "f.rpmsave", "README.md"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("/nowhere")
    assert [os.path.basename(path) for path in discover(str(tmp_path))] == ["a", "b.sh", "c", "dangling"]
    assert discover(str(tmp_path / "missing")) == []


def test_too_many(tmp_path: Path) -> None:
    """Bounded, and said."""
    for number in range(MAX_CHECKS + 2):
        script(tmp_path, "# vmhb: interval=3600\nexit 0", f"check-{number:02}")
    checks = Checks(str(tmp_path))
    checks.start()
    wait_for(lambda: len(checks.findings()) == MAX_CHECKS + 1)
    checks.stop()
    extra = next(one for one in checks.findings() if one.name == "checks.d")
    assert (extra.status, extra.message) == (DEGRADED, f"2 checks more than the {MAX_CHECKS} that are run")


def test_a_run_that_cannot_be_ended(tmp_path: Path) -> None:
    """As one on a file system that hangs: known for hung by its time, though nothing comes back from it."""
    now = [0.0]
    fifo = tmp_path / "check.conf"  # reading its settings blocks
    os.mkfifo(fifo)
    script(tmp_path, "exit 0")
    checks = Checks(str(tmp_path), clock=lambda: now[0])
    checks.start()
    wait_for(lambda: bool(checks.describe()))
    assert checks.findings() == []
    now[0] = 25.0
    assert [(one.name, one.status) for one in checks.findings()] == [("check", UNHEALTHY)]
    assert checks.findings()[0].message == "hung: began 25 s ago and can't be ended"
    fifo.write_text("interval = 3600\n")  # it goes on after all
    wait_for(lambda: [one.status for one in checks.findings()] == [HEALTHY])
    checks.stop()


def test_checks_come_and_go(tmp_path: Path) -> None:
    """What an administrator takes away is no finding any more; what comes is run."""
    script(tmp_path, "exit 1", "a")
    checks = Checks(str(tmp_path))
    checks.start()
    wait_for(lambda: [one.name for one in checks.findings()] == ["a"])
    os.unlink(tmp_path / "a")
    script(tmp_path, "exit 1", "b")
    checks.rescan()
    wait_for(lambda: [one.name for one in checks.findings()] == ["b"])
    checks.stop()


def wait_for(condition: object) -> None:
    """Until it is so."""
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_gone(pid: int) -> None:
    """Ended, or about to; reaped or not."""

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_for(gone)
