"""Health through the stock guest agent: each end of a check has one meaning, and each word of the agent's, too."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.scenario import KNOWN, Guest, changed, lone
from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Action
from vmhb_worker.core import events as ev
from vmhb_worker.core.guest_exec import CHECK_TIMEOUT, PRINTED_LIMIT, PROGRAM, UNTOLD_PAUSE, GuestExec, Outcome
from vmhb_worker.core.health_absence import REFUSALS, ROWS, Absent, refused
from vmhb_worker.core.health_source import Checkup, said_with
from vmhb_worker.core.health_watch import Turn
from vmhb_worker.core.instance_state import Standing
from vmhb_worker.core.protocol import Ack, Check, Health, Status


def printed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def outcome(told: Any, at: float = 1.0) -> Outcome | None:
    """Of a check that was started at 0.0."""
    check = GuestExec()
    started = json.loads(check.step() or "")
    assert started["execute"] == "guest-exec"
    assert started["arguments"]["path"] == "/bin/sh"
    assert PROGRAM in started["arguments"]["arg"][1]
    assert check.step() is None
    assert check.replied('{"return": {"pid": 42}}', 0.0) is None
    assert json.loads(check.step() or "") == {"execute": "guest-exec-status", "arguments": {"pid": 42}}
    return check.replied(json.dumps({"return": told}), at)


def report(told: Any, at: float = 1.0) -> Health:
    ended = outcome(told, at)
    assert ended is not None
    assert ended.report is not None
    return ended.report


@pytest.mark.parametrize(
    ("told", "status", "message"),
    [
        ({"exitcode": 0}, Status.HEALTHY, ""),
        ({"exitcode": 0, "out-data": printed("fine\n")}, Status.HEALTHY, "fine"),
        ({"exitcode": 1, "out-data": printed("slow\x1b[31m")}, Status.DEGRADED, "slow [31m"),
        ({"exitcode": 1}, Status.DEGRADED, "ended with exit code 1"),
        ({"exitcode": 2}, Status.UNHEALTHY, "ended with exit code 2"),
        ({"exitcode": 126, "out-data": "no base64!"}, Status.UNHEALTHY, "ended with exit code 126"),
        ({"exitcode": 255, "out-data": printed("x" * 1000)}, Status.UNHEALTHY, "x" * 255),
        ({"exitcode": 3, "out-data": printed("[" * 5000)}, Status.UNHEALTHY, "[" * 255),
        ({"signal": 9}, Status.UNHEALTHY, "was killed by signal 9"),
    ],
)
def test_each_end_has_one_meaning(told: Any, status: Status, message: str) -> None:
    """0 healthy, 1 degraded, anything else unhealthy; what it printed is its reason, cleaned and bounded."""
    assert report({"exited": True, **told}) == Health(status, (Check("health-check", status, message),))


def test_it_may_print_a_report() -> None:
    """Checks by name, as the application channel has them. How it ended says what it comes to, not what it printed."""
    said = {"status": "healthy", "checks": [{"name": "db", "status": "unhealthy", "message": "gone"}]}
    told = report({"exited": True, "exitcode": 2, "out-data": printed(json.dumps(said))})
    assert told == Health(Status.UNHEALTHY, (Check("db", Status.UNHEALTHY, "gone"),))


@pytest.mark.parametrize(
    ("complaint", "why"),
    [
        ("missing\n", "is missing in the guest"),
        ("not executable\n", "make it executable"),
        ("not started\n", "no memory"),
        ("/bin/sh: 5: Cannot fork\n", "'/bin/sh: 5: Cannot fork'"),
    ],
)
@pytest.mark.parametrize("exitcode", [0, 2, 125, 127])
def test_a_check_that_was_not_run_says_nothing(complaint: str, why: str, exitcode: int) -> None:
    """What complains is the shell that was to run it: no exit code of its is the application's."""
    ended = outcome({"exited": True, "exitcode": exitcode, "err-data": printed(complaint)})
    assert ended is not None
    assert ended.report is None
    assert why in ended.why


#: A health check's text -> its exit code, what is kept of its output, and what the shell complains of.
CHECKS = {
    "exit 0": (0, b"", b""),
    "echo no database; exit 2": (2, b"no database\n", b""),
    "head -c 9000000 /dev/zero | tr '\\000' x; exit 1": (1, b"x" * PRINTED_LIMIT, b""),
    "head -c 9000000 /dev/zero >&2; exit 3": (3, b"", b""),
    "echo before; kill -9 $$": (137, b"before\n", b""),
    "exec >&- 2>&-; exit 4": (4, b"", b""),
    "(sleep 0.2; echo late) & exit 5": (5, b"late\n", b""),
    "echo 0 >&4; exit 6": (6, b"", b""),
}


@pytest.mark.parametrize("text", CHECKS)
def test_whatever_it_prints_is_cut_in_the_guest(text: str, tmp_path: Path) -> None:
    """libvirt gives up on an agent whose reply is too long. The rest is read: nothing that prints is killed for it."""
    program = tmp_path / "check"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    assert run(program) == CHECKS[text]


def test_a_check_that_cannot_be_run(tmp_path: Path) -> None:
    """Is told from one that ends in an error."""
    program = tmp_path / "check"
    assert run(program) == (127, b"", b"missing\n")
    program.write_text("#!/bin/sh\nexit 0\n")
    assert run(program) == (126, b"", b"not executable\n")


@pytest.mark.parametrize("missing", ["ls", "readlink"])
def test_what_cannot_be_seen_is_not_run(missing: str, tmp_path: Path) -> None:
    """A guest without the means to look: unknown is not good."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in {"ls", "readlink", "head", "cat", "id", "tr"} - {missing}:
        (tools / name).symlink_to(shutil.which(name) or "")
    program = tmp_path / "check"
    (tmp_path / "target").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "target").chmod(0o755)
    program.symlink_to(tmp_path / "target")
    code, _printed, complained = run(program, str(tools))
    assert (code, complained.split()[0]) == (126, b"unsafe")


def run(program: Path, path: str = os.defpath, shell: str = "") -> tuple[int, bytes, bytes]:
    """As the guest's agent does it, which has this PATH."""
    arguments = json.loads(GuestExec().step() or "")["arguments"]
    argv = [shell or arguments["path"], *(one.replace(PROGRAM, str(program)) for one in arguments["arg"])]
    env = {"PATH": path}
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False, env=env)
    return done.returncode, done.stdout, done.stderr


def others_may_write(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def a_group_may_write(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o020)


def another_user_has_it(path: Path) -> None:
    os.chown(path, 65534, -1)


def it_is_like_tmp(path: Path) -> None:
    path.chmod(0o1777)


#: A check's first line, in a folder with an interpreter in bin/ -> the parts of it that must be root's alone.
FIRST_LINES = {
    "#!/bin/sh": ("etc/check", "etc"),
    "#! {folder}/bin/own-sh -e": ("etc/check", "etc", "bin/own-sh", "bin"),
    "#!/usr/bin/env own-sh": ("etc/check", "etc", "bin/own-sh", "bin"),
    "#!/usr/bin/env -S A=1 own-sh -e": ("etc/check", "etc", "bin/own-sh", "bin"),
    "#!{folder}/bin/script": ("etc/check", "etc", "bin/script", "bin/own-sh", "bin"),
}
HARM = [others_may_write, a_group_may_write, it_is_like_tmp]
SHELLS = [one for one in map(shutil.which, ("dash", "bash")) if one]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("linked", [False, True], ids=["itself", "linked"])
@pytest.mark.parametrize("line", FIRST_LINES)
def test_only_what_is_roots_alone_is_run(line: str, linked: bool, shell: str, tmp_path: Path) -> None:
    """The agent is root: whoever may write the check, its folder, or what its #! names would be, too."""
    places, bin_ = {"etc": tmp_path / "etc"}, tmp_path / "bin"
    for folder in (*places.values(), bin_):
        folder.mkdir()
    shutil.copy("/bin/sh", bin_ / "own-sh", follow_symlinks=True)
    (bin_ / "script").write_text(f"#!{bin_}/own-sh\n. $1\n")
    check = tmp_path / "etc/check"
    check.write_text(f"{line.format(folder=tmp_path)}\necho run; exit 2\n")
    for one in (check, bin_ / "own-sh", bin_ / "script"):
        one.chmod(0o755)
    called = check
    if linked:
        (tmp_path / "links").mkdir()
        called = tmp_path / "links/check"
        called.symlink_to("../etc/check")
    path = f"{bin_}:/usr/bin:/bin"
    assert run(called, path, shell) == (2, b"run\n", b"")
    ways = [*HARM, another_user_has_it] if os.getuid() == 0 else HARM
    for part in FIRST_LINES[line]:
        for harm in ways:
            one = tmp_path / part
            mode, owner = one.stat().st_mode, one.stat().st_uid
            if harm is it_is_like_tmp and not one.is_dir():
                continue
            harm(one)
            code, out, complaint = run(called, path, shell)
            assert (code, out) == (126, b"") and complaint.startswith(f"unsafe {one}".encode()), (part, harm.__name__)
            os.chown(one, owner, -1)
            one.chmod(mode)
    assert run(called, path, shell) == (2, b"run\n", b"")


def test_what_must_not_be_run_is_said() -> None:
    """What it is, and what to do; it is no word on the application."""
    ended = outcome({"exited": True, "exitcode": 126, "err-data": printed("unsafe /etc/vmhb/\x1b.\n")})
    assert ended is not None
    assert (ended.report, ended.absent) == (None, Absent.UNSAFE)
    assert "may write '/etc/vmhb/ .': chown root, chmod go-w" in ended.why


def test_one_that_hangs_is_unhealthy() -> None:
    """It is not started twice; and it is looked for until it ends."""
    assert outcome({"exited": False}) is None
    assert report({"exited": False}, CHECK_TIMEOUT).checks[0].message == "has been running for 30 s"


@pytest.mark.parametrize(
    "reply",
    [
        *("", "[" * 5000, "7", "{}", '{"return": 7}', '{"return": {"exited": true}}'),
        '{"return": {"exited": true, "exitcode": true}}',
    ],
)
def test_a_reply_that_makes_no_sense_tells_nothing(reply: str) -> None:
    """And the next check begins anew."""
    check = GuestExec()
    check.step()
    check.replied('{"return": {"pid": 42}}', 0.0)
    check.step()
    ended = check.replied(reply, 1.0)
    assert ended is not None
    assert (ended.report, ended.why) == (None, "the agent's reply about its check makes no sense")
    assert "guest-exec-status" not in (check.step() or "")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("The command guest-exec has been disabled for this instance", "forbids guest-exec"),
        ("The command guest-exec has not been found", "forbids guest-exec"),
        ("Command guest-exec has been disabled: the agent is in frozen state", "frozen"),
        ("Failed to execute child process (No such file or directory)", "/bin/sh is missing"),
        ("Failed to execute child process (Permission denied)", "security policy"),
        ("no\nwords", "'no words'"),
    ],
)
def test_a_refusal_is_said_in_our_words(said: str, why: str) -> None:
    """What is wrong, and what to do."""
    check = GuestExec()
    check.step()
    ended = check.failed(True, said)
    assert ended is not None
    assert ended.report is None
    assert why in ended.why
    check.step()
    assert check.failed(False, "timed out") is None


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    told=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["exited", "exitcode", "signal", "out-data", "pid"]) | st.text(), inner)
        ),
        max_leaves=8,
    )
)
def test_any_reply(told: Any) -> None:
    """A guest controls every byte: nothing is raised, and all that comes out can be written down."""
    check = GuestExec()
    for reply in (json.dumps({"return": told}), '{"return": {"pid": 1}}', json.dumps({"return": told})):
        check.step()
        ended = check.replied(reply, 100.0)
        if ended is not None and ended.report is not None:
            json.dumps(ended.report.told()).encode()


# -- one at a time


def starts(check: GuestExec, until: float, failed: Callable[[GuestExec], object], every: float = 1.0) -> int:
    """How many checks are started, step after step, each of which ends as `failed` has it."""
    started, now = 0, 0.0
    while now < until:
        command = check.step(now)
        started += command is not None and json.loads(command)["execute"] == "guest-exec"
        if command is not None:
            failed(check)
        now += every
    return started


@pytest.mark.parametrize("failure", ev.Failure)
def test_a_start_whose_answer_is_lost_may_have_started_it(failure: ev.Failure) -> None:
    """However it was lost: no other start before the first may be taken for hung. But for what the agent refused."""
    checkup = Checkup(False)
    begun: list[float] = []
    for second in range(int(2 * CHECK_TIMEOUT)):
        command = checkup.step(float(second))
        if command is None:
            continue
        begun.append(float(second))
        words = "Cannot allocate memory" if failure is ev.Failure.GARBLED else "whatever libvirt says"
        outcome = checkup.replied(ev.AgentReplied(None, failure, words), float(second))
        assert (outcome is not None) is (failure is ev.Failure.GARBLED), "silence is the heartbeat's business"
    assert begun == ([float(at) for at in range(60)] if failure is ev.Failure.GARBLED else [0.0, CHECK_TIMEOUT])


def test_a_start_that_never_left_started_nothing() -> None:
    """A heartbeat went first, say: it is tried again with the next beat."""
    assert starts(GuestExec(), 10.0, lambda check: check.failed(False, "withdrawn", left=False)) == 10


def test_the_next_boot_ends_the_wait() -> None:
    """What ran before runs no more, and what was under way then is not taken for an answer of this boot's."""
    check = GuestExec()
    check.step(0.0)
    check.failed(False, "timed out")
    assert check.step(1.0) is None
    check.reset()
    assert check.step(1.0) is not None
    check.reset()
    assert check.step(2.0) is None, "it has not ended"
    assert check.replied('{"return": {"pid": 42}}', 2.0) is None
    assert json.loads(check.step(2.0) or "")["execute"] == "guest-exec"
    check.reset()
    assert check.failed(True, "no such thing") is None
    assert json.loads(check.step(3.0) or "")["execute"] == "guest-exec"


@pytest.mark.parametrize(
    ("refusal", "next_start"),
    [
        ("Command guest-exec-status has been disabled: the agent is in frozen state", None),  # it is asked for again
        ("Invalid parameter 'pid'", CHECK_TIMEOUT),  # the agent was restarted, or its answer was lost
        ("Cannot allocate memory", CHECK_TIMEOUT),
        ("no words of ours", CHECK_TIMEOUT),
        ("The command guest-exec-status has been disabled for this instance", CHECK_TIMEOUT),
    ],
)
def test_a_check_that_cannot_be_asked_for_may_run_on(refusal: str, next_start: float | None) -> None:
    """So no other is started beside it; what is only frozen is found again."""
    check = GuestExec()
    check.step(0.0)
    check.replied('{"return": {"pid": 42}}', 0.0)
    check.step(1.0)
    outcome = check.failed(True, refusal)
    assert outcome is not None
    assert outcome.report is None
    if next_start is None:
        assert json.loads(check.step(1.5) or "") == {"execute": "guest-exec-status", "arguments": {"pid": 42}}
        return
    assert check.step(next_start - 0.1) is None
    assert json.loads(check.step(next_start) or "")["execute"] == "guest-exec"


def test_an_agent_that_may_start_checks_and_may_not_tell_of_them() -> None:
    """It keeps all that they print: so it is given ever fewer."""
    check, begun = GuestExec(), []
    for second in range(2000):
        command = json.loads(check.step(float(second)) or "{}").get("execute")
        if command == "guest-exec":
            begun.append(float(second))
            check.replied('{"return": {"pid": 42}}', float(second))
        elif command:
            check.failed(True, "The command guest-exec-status has been disabled for this instance")
    assert begun == [0.0, CHECK_TIMEOUT, *(CHECK_TIMEOUT + number * UNTOLD_PAUSE for number in (1, 2, 3))]


@pytest.mark.parametrize("refusal", ["no words of ours", '{"class": "GenericError"}'])
def test_words_that_are_not_known_may_mean_that_it_was_started(refusal: str) -> None:
    """What we can't read is no word that nothing was."""
    assert starts(GuestExec(), CHECK_TIMEOUT, lambda check: check.failed(True, refusal)) == 1


def test_a_reply_to_a_start_that_makes_no_sense() -> None:
    """The same."""
    assert starts(GuestExec(), CHECK_TIMEOUT, lambda check: check.replied("{}", 0.0)) == 1


# -- why there is no report


@pytest.mark.parametrize(
    ("says", "absent"),
    [
        ("Command guest-exec has been disabled: the agent is in frozen state", Absent.FROZEN),
        ("The command guest-exec has been disabled for this instance", Absent.FORBIDDEN),
        ("The command guest-exec has not been found", Absent.FORBIDDEN),
        ('error was "Failed to fork (Cannot allocate memory)"', Absent.NO_ROOM),
        ("Failed to fork (Resource temporarily unavailable)", Absent.NO_ROOM),
        ("Failed to create pipe for communicating with child process (Too many open files)", Absent.NO_ROOM),
        ("Failed to execute child process (No such file or directory)", Absent.NO_SHELL),
        ("Failed to execute child process (Permission denied)", Absent.NOT_ALLOWED),
        ("Failed to execute child process (Operation not permitted)", Absent.NOT_ALLOWED),
        ("Invalid parameter 'pid'", Absent.LOST),
        ("no space of ours", Absent.OTHER),
    ],
)
def test_what_a_refusal_means(says: str, absent: Absent) -> None:
    """By QEMU's agent's words, and GLib's."""
    assert refused(says) is absent


def absences() -> dict[Absent, Outcome]:
    """Each reason, as it comes out of whoever was asked."""
    made = []
    for says, _ in REFUSALS:
        check = GuestExec()
        check.step()
        made.append(check.failed(True, says))
    check = GuestExec()
    check.step()
    made += [check.failed(True, "words"), check.replied("nonsense", 0.0)]
    made += [
        outcome({"exited": True, "err-data": printed(said)}) for said in ("missing", "not executable", "unsafe /x")
    ]
    made += [said_with(Ack(1, "n")), said_with(Ack(1, "n", None, "status must be one of us"))]
    return {one.absent: one for one in made if one is not None and one.absent is not None}


#: The reasons by which an unhealthy fault ends without a report that is well.
ENDS = {Absent.FORBIDDEN, Absent.MISSING, Absent.UNSAID}


def test_each_reason_has_a_row_and_comes_from_somewhere() -> None:
    """And words of its own. Only where somebody has seen to it that nobody asks any more may a fault end by it."""
    made = absences()
    assert set(ROWS) == set(Absent) == set(made)
    assert {reason for reason, row in ROWS.items() if row.ends} == ENDS
    assert len({one.why for one in made.values()}) == len(made)


@pytest.mark.parametrize("absent", Absent)
def test_no_reason_clears_or_doubles_but_those_that_end_the_asking(absent: Absent) -> None:
    """Unhealthy, then no report for this reason, then unhealthy again: one fault, found once."""
    checkup, why = Checkup(False), absences()[absent]
    bad = Outcome(Health(Status.UNHEALTHY))
    assert [checkup.heard(bad, 2, 0.0) for _ in range(2)] == [Turn.NONE, Turn.BAD]
    turns = {checkup.heard(why, 2, 1.0) for _ in range(10)}
    assert turns == ({Turn.NONE, Turn.UNKNOWN} if absent in ENDS else {Turn.NONE})
    assert checkup.bad is (absent not in ENDS)
    assert checkup.told(1.0)["unavailable"] == why.why
    if absent not in ENDS:
        assert {checkup.heard(bad, 2, 2.0) for _ in range(4)} == {Turn.NONE}
        assert [checkup.heard(Outcome(Health(Status.HEALTHY)), 2, 3.0) for _ in range(2)] == [Turn.NONE, Turn.WELL]


# -- in an instance's life


def checked(**knobs: Any) -> Guest:
    guest = lone(interval=1.0, timeout=1.0, health_check=True, **knobs)
    guest.run(20.0)
    guest.transcript.clear()
    return guest


def words(guest: Guest) -> list[str]:
    return [line.split(" ", 1)[1] for line in guest.transcript]


def test_unhealthy_by_its_check() -> None:
    """As on the application channel: debounced, with its reason, cleared when it is well for as long."""
    guest = checked()
    guest.check = {"exited": True, "exitcode": 2, "out-data": printed("no database")}
    guest.run(40.0)
    assert words(guest) == ["raised application_unhealthy"]
    assert guest.raised[0].reason.endswith("health-check: no database")
    guest.check = {"exited": True, "exitcode": 0}
    guest.run(60.0)
    assert words(guest)[-1] == "cleared application_unhealthy: recovered"


def test_what_cannot_be_checked_is_said_once() -> None:
    """And accuses nobody; it is said again when it is for another reason."""
    guest = checked()
    guest.check = "The command guest-exec has been disabled"
    guest.run(60.0)
    guest.check = "No such file or directory"
    guest.run(90.0)
    assert [line.split(":")[0] for line in words(guest)] == ["remark", "remark"]
    assert "missing" in guest.monitor.told(90.0)["health"]["unavailable"]
    guest.boots(after=1.0)
    guest.run(100.0)
    assert guest.fault is None


FROZEN = "Command guest-exec has been disabled: the agent is in frozen state"


@pytest.mark.parametrize("why", [FROZEN, "Failed to fork (Cannot allocate memory)", "words that nobody knows"])
def test_unhealthy_and_then_it_cannot_be_asked(why: str) -> None:
    """A backup, say, or no memory for the check: it is as ill as it was. One fault, and one recovery."""
    guest = checked(action=Action.RECOVER_UNRESPONSIVE)
    guest.check = {"exited": True, "exitcode": 2, "out-data": printed("no database")}
    guest.run(40.0)
    guest.check = why
    guest.run(400.0)
    assert guest.fault is not None
    assert "unavailable" in guest.monitor.told(400.0)["health"]
    guest.check = {"exited": True, "exitcode": 2, "out-data": printed("no database")}
    guest.run(600.0)
    assert [line for line in words(guest) if "remark" not in line] == ["raised application_unhealthy, recover"]
    guest.check = {"exited": True, "exitcode": 0}
    guest.run(700.0)
    assert words(guest)[-1] == "cleared application_unhealthy: recovered"


@pytest.mark.parametrize(
    "why", ["The command guest-exec has been disabled", {"exited": True, "err-data": printed("missing")}]
)
def test_unhealthy_and_then_nobody_asks_any_more(why: Any) -> None:
    """The image's owner took the check away: what it found is nobody's to clear."""
    guest = checked()
    guest.check = {"exited": True, "exitcode": 2}
    guest.run(40.0)
    guest.check = why
    guest.run(100.0)
    assert words(guest)[-1] == "cleared application_unhealthy: unmonitored"


def test_a_hung_agent_is_found_all_the_same() -> None:
    """Its silence is the heartbeat's business; what comes of its check afterwards is nobody's."""
    guest = checked(memory=lone().monitor.memory(0.0))
    guest.agent_stops()
    guest.run(60.0)
    assert guest.fault is not None
    assert guest.fault.cause == "agent_unresponsive"
    guest.agent_goes_on()
    guest.run(70.0)
    assert guest.fault is None
    guest.happens(ev.PolicyChanged(replace(guest.monitor.policy, health_check=False)))
    guest.happens(ev.AgentReplied(None, ev.Failure.GARBLED, "late"))
    assert guest.monitor.told(70.0)["health"] is None


def test_unhealthy_before_a_restart_and_silent_after_it() -> None:
    """When it answers again it is as ill as it was, though nobody has asked it yet in this life of the worker."""
    guest = lone(
        interval=1.0,
        timeout=1.0,
        health_check=True,
        memory=changed(KNOWN, standing=Standing(Cause.APPLICATION_UNHEALTHY)),
    )
    guest.check = {"exited": False}
    guest.agent_stops()
    guest.run(60.0)
    assert words(guest) == ["raised agent_unresponsive"]
    guest.agent_goes_on()
    guest.run(70.0)
    assert words(guest)[-1] == "updated application_unhealthy"
    assert guest.fault is not None
    assert guest.fault.reason == "the application says that it is unhealthy"
