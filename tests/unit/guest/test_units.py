"""What control groups and systemd's words mean; and how both are asked: files in a folder, a program that answers."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmhb_guest import processes, systemd, units
from vmhb_guest.faults import Faults
from vmhb_guest.senders import Sender
from vmhb_guest.systemd import MAX_UNITS, PAUSE, Answer, ControlGroups, Systemd
from vmhb_guest.units import NOWHERE, PROPERTIES, SHUTDOWN, STATES, Home, Told, Word

#: Seconds to wait for what does happen.
PATIENCE = 30.0
USER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("group", "home"),
    [
        ("/system.slice/billing.service", Home("/system.slice/billing.service", "billing.service")),
        (
            "/system.slice/system-web.slice/web@1.service",
            Home("/system.slice/system-web.slice/web@1.service", "web@1.service"),
        ),
        ("/billing.service", Home("/billing.service", "billing.service")),
        # A part of it, of its own making: a payload, a worker.
        ("/system.slice/box.service/libpod-payload-1", Home("/system.slice/box.service", "box.service")),
        # Its name begins as the kernel's own files do.
        ("/system.slice/_cpu.service", Home("/system.slice/_cpu.service", "cpu.service")),
        (r"/system.slice/a\x2db.service", Home(r"/system.slice/a\x2db.service", r"a\x2db.service")),
        # A user's own manager, its services, and what is not one.
        (f"{USER}/app.slice/billing.service", Home(f"{USER}/app.slice/billing.service", "user@1000.service")),
        (f"{USER}/init.scope", Home("", "user@1000.service")),
        ("/user.slice/user-1000.slice/session-3.scope", Home("", "session-3.scope")),
        # Containers: without a systemd, and with one.
        ("/system.slice/docker-0a1b.scope", Home("", "docker-0a1b.scope")),
        (
            "/machine.slice/box.scope/system.slice/web.service",
            Home("/machine.slice/box.scope/system.slice/web.service", "box.scope"),
        ),
        ("/lxc.payload.box/system.slice/web.service", Home("/lxc.payload.box/system.slice/web.service", "")),
        ("/docker/0a1b", NOWHERE),
        ("/init.scope", Home("", "init.scope")),
        ("/", NOWHERE),
        ("/system.slice", NOWHERE),
        ("/../../other.service", NOWHERE),
        ("/system.slice/two words.service", NOWHERE),
        ("/system.slice/*.service", NOWHERE),
        ("/system.slice/-p.service", Home("/system.slice/-p.service", "-p.service")),
    ],
)
def test_where_a_process_belongs(group: str, home: Home) -> None:
    """The innermost unit decides: a service is one thing, a scope is whatever somebody has put there."""
    assert units.home(f"0::{group}\n") == home
    assert units.home(f"12:pids:/\n1:name=systemd:{group}\n0::/\n") == home
    assert units.home("") == NOWHERE


def test_what_a_service_is_called() -> None:
    """As people call it."""
    assert units.title("/system.slice/web@1.service") == "web@1"
    assert units.title("/system.slice/_cpu.service") == "cpu"
    assert units.title("") == ""


#: Of a unit, and what is meant. Times are microseconds: began, left the state "active", ended; 0: not.
ENDED_BY_ITSELF, STOPPED, NEVER = (10, 31, 30), (10, 20, 30), (0, 0, 0)
SHOWN: list[tuple[dict[str, str], tuple[int, int, int], Word]] = [
    ({"ActiveState": "active"}, (10, 0, 0), Word.RUNS),
    ({"ActiveState": "active"}, (30, 20, 0), Word.RUNS),
    ({"ActiveState": "reloading"}, (10, 0, 0), Word.RUNS),
    ({"ActiveState": "refreshing"}, (10, 0, 0), Word.RUNS),
    ({"ActiveState": "maintenance"}, (10, 0, 0), Word.RUNS),
    ({"ActiveState": "activating", "SubState": "start", "NRestarts": "0"}, (30, 20, 0), Word.STARTS),
    ({"ActiveState": "activating", "SubState": "start"}, (30, 20, 0), Word.STARTS),
    ({"ActiveState": "activating", "SubState": "start", "NRestarts": "1"}, (30, 20, 0), Word.BROKE),
    ({"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "0"}, ENDED_BY_ITSELF, Word.BROKE),
    ({"ActiveState": "activating", "SubState": "auto-restart-queued"}, ENDED_BY_ITSELF, Word.BROKE),
    ({"ActiveState": "deactivating", "Result": "success"}, (10, 20, 0), Word.STOPPING),
    ({"ActiveState": "deactivating", "Result": "success"}, STOPPED, Word.STOPPING),
    ({"ActiveState": "deactivating", "Result": "success"}, (10, 0, 0), Word.STOPPING),
    ({"ActiveState": "deactivating", "Result": "exit-code"}, STOPPED, Word.STOPPING),
    ({"ActiveState": "deactivating", "Result": "timeout"}, (10, 20, 0), Word.STOPPING),
    ({"ActiveState": "deactivating", "Result": "watchdog"}, (10, 20, 0), Word.BROKE),
    ({"ActiveState": "deactivating", "Result": "oom-kill"}, (10, 20, 0), Word.BROKE),
    ({"ActiveState": "deactivating", "Result": "signal"}, ENDED_BY_ITSELF, Word.BROKE),
    ({"ActiveState": "deactivating", "Result": "success"}, ENDED_BY_ITSELF, Word.BROKE),
    ({"ActiveState": "inactive", "Result": "success"}, STOPPED, Word.STOPPED),
    ({"ActiveState": "inactive", "Result": "success"}, NEVER, Word.STOPPED),
    ({"ActiveState": "inactive", "Result": "success"}, ENDED_BY_ITSELF, Word.BROKE),
    ({"ActiveState": "failed", "Result": "exit-code"}, STOPPED, Word.STOPPED),
    ({"ActiveState": "failed", "Result": "signal"}, STOPPED, Word.STOPPED),
    ({"ActiveState": "failed", "Result": "core-dump"}, STOPPED, Word.STOPPED),
    ({"ActiveState": "failed", "Result": "timeout"}, STOPPED, Word.STOPPED),
    ({"ActiveState": "failed", "Result": "exit-code"}, ENDED_BY_ITSELF, Word.BROKE),
    ({"ActiveState": "failed", "Result": "signal"}, ENDED_BY_ITSELF, Word.BROKE),
    ({"ActiveState": "failed", "Result": "watchdog"}, STOPPED, Word.BROKE),
    ({"ActiveState": "failed", "Result": "oom-kill"}, STOPPED, Word.BROKE),
    ({"ActiveState": "failed", "Result": "start-limit-hit"}, ENDED_BY_ITSELF, Word.BROKE),
    # It left in an earlier life, and in this one it failed before it was active.
    ({"ActiveState": "failed", "Result": "exit-code"}, (30, 20, 40), Word.BROKE),
    ({"ActiveState": "failed", "Result": "exit-code"}, NEVER, Word.BROKE),
    ({"ActiveState": "unheard-of", "Result": "success"}, STOPPED, Word.UNKNOWN),
    ({}, STOPPED, Word.UNKNOWN),
    ({"Id": "docker-1.scope", "ActiveState": "deactivating", "Result": "success"}, (0, 20, 0), Word.STOPPING),
    ({"Id": "docker-1.scope", "ActiveState": "inactive", "Result": "success"}, NEVER, Word.UNKNOWN),
    ({"Id": "docker-1.scope", "ActiveState": "failed", "Result": "oom-kill"}, (0, 20, 0), Word.UNKNOWN),
    ({"Id": "session-3.scope", "ActiveState": "active"}, NEVER, Word.UNKNOWN),
]


@pytest.mark.parametrize(("shown", "times", "word"), SHOWN)
def test_what_systemd_means(shown: dict[str, str], times: tuple[int, int, int], word: Word) -> None:
    """On purpose is what had left "active" before its main process ended, and not for what that did."""
    names = ("ExecMainStart", "ActiveExit", "ExecMainExit")
    stamps = {f"{name}TimestampMonotonic": str(time) for name, time in zip(names, times, strict=True)}
    assert units.word({**stamps, **shown}) is word


def test_each_state_and_each_word_has_a_row() -> None:
    """systemd's states of a unit, as `systemctl --state=help` names them, and one that came later."""
    known = {"active", "reloading", "inactive", "failed", "activating", "deactivating", "maintenance", "refreshing"}
    assert (
        set(STATES)
        == known
        == {shown["ActiveState"] for shown, _, _ in SHOWN if "ActiveState" in shown} - {"unheard-of"}
    )
    assert {word for _, _, word in SHOWN} == set(Word)
    asked = {f"{name}TimestampMonotonic" for name in ("ExecMainStart", "ActiveExit", "ExecMainExit")}
    assert asked | {"Id", "ActiveState", "SubState", "Result", "NRestarts", "Job"} == set(PROPERTIES)


def test_when_somebody_started_it() -> None:
    """Not where systemd did, by itself."""
    shown = {"ActiveState": "active", "ExecMainStartTimestampMonotonic": "2500000", "NRestarts": "0"}
    assert units.told(shown) == Told(Word.RUNS, 2.5)
    assert units.told({**shown, "NRestarts": "3"}) == units.told({"ActiveState": "active"}) == Told(Word.RUNS)
    assert units.told({**shown, "ExecMainStartTimestampMonotonic": "²"}) == Told(Word.RUNS)


def test_the_beginning_of_a_shutdown() -> None:
    """From its job on."""
    assert units.shuts_down({}) is None
    assert units.shuts_down({"ActiveState": "inactive", "Job": "0"}) is False
    assert units.shuts_down({"ActiveState": "inactive"}) is False
    assert units.shuts_down({"ActiveState": "inactive", "Job": "273"}) is True
    assert units.shuts_down({"ActiveState": "active", "Job": ""}) is True


# -- systemctl


def systemctl(folder: Path, text: str) -> Systemd:
    """A question put to a program that does this, and where the answer is heard of."""
    program = folder / "systemctl"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    rung = threading.Event()
    one = Systemd(rung.set, Faults(), command=[str(program)])
    one.ask({"billing.service"})
    assert rung.wait(PATIENCE)
    return one


def answered(one: Systemd) -> Answer:
    answer = one.answer()
    assert answer is not None and one.answer() is None
    return answer


def test_an_answer(tmp_path: Path) -> None:
    """What it says of each unit, in whatever order; and whether the machine goes down."""
    blocks = (
        f"ActiveState=inactive\\nId={SHUTDOWN}\\nJob=7",
        "Id=billing.service\\nActiveState=failed\\nResult=signal\\n"
        "ActiveExitTimestampMonotonic=2\\nExecMainExitTimestampMonotonic=1\\nExecMainStartTimestampMonotonic=1",
    )
    one = systemctl(tmp_path, f"echo \"$@\" >{tmp_path}/asked; printf '{blocks[0]}\\n\\n{blocks[1]}\\n'")
    answer = answered(one)
    assert (answer.units, answer.shuts_down) == ({"billing.service": Told(Word.BROKE, 1e-6)}, True)
    assert (tmp_path / "asked").read_text() == f"show --property={','.join(PROPERTIES)} -- {SHUTDOWN} billing.service\n"


@pytest.mark.parametrize(
    "text",
    [
        "exit 1",
        "echo 'System has not been booted with systemd as init system' >&2; exit 1",
        "echo Id=billing.service; echo ActiveState=active; exit 1",
        "echo nonsense",
        "head -c 1000000 /dev/zero",
        "printf '\\377\\n\\nId=\\n'",
        "kill -KILL $$",
        "echo ActiveState=active",
    ],
)
def test_no_answer_is_none(tmp_path: Path, text: str) -> None:
    """Nothing is known then."""
    answer = answered(systemctl(tmp_path, text))
    assert (answer.units, answer.shuts_down) == ({"billing.service": Told(Word.UNKNOWN)}, None)


def test_one_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and that is all."""
    monkeypatch.setattr(systemd, "PATIENCE", 0.2)
    assert answered(systemctl(tmp_path, "sleep 1000")).shuts_down is None


def test_a_machine_without_it() -> None:
    """The same."""
    rung = threading.Event()
    one = Systemd(rung.set, Faults(), command=["/no/such/program"])
    one.ask({"billing.service"})
    assert rung.wait(PATIENCE)
    assert answered(one).units == {"billing.service": Told(Word.UNKNOWN)}


def test_one_question_at_a_time(tmp_path: Path) -> None:
    """However many want to know; and not all the time. Nor of more than there is room for in an answer."""
    moments, rung = [0.0], threading.Event()
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\necho x >>{tmp_path}/count\necho $# >{tmp_path}/asked\n")
    program.chmod(0o755)
    one = Systemd(rung.set, Faults(), command=[str(program)], clock=lambda: moments[0])
    names = {f"{number}.service" for number in range(100)}
    for _ in range(10):
        one.ask(names)
    assert rung.wait(PATIENCE)
    one.ask(names)
    assert len(answered(one).units) == MAX_UNITS
    one.ask(names)
    moments[0] = PAUSE
    one.close()
    one.ask(names)
    assert (tmp_path / "count").read_text() == "x\n"
    assert int((tmp_path / "asked").read_text()) == MAX_UNITS + len(["show", "--property", "--", SHUTDOWN])


def test_no_room_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known, and it is tried again."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    one = Systemd(lambda: None, Faults())
    one.ask({"billing.service"})
    assert answered(one).units == {"billing.service": Told(Word.UNKNOWN)}


# -- control groups


def tree(folder: Path, **events: str) -> ControlGroups:
    """A tree with a unit, and what its file says."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.controllers").touch()
    for name, text in events.items():
        (folder / f"{name}.service").mkdir()
        (folder / f"{name}.service/cgroup.events").write_text(text)
    return ControlGroups(str(folder))


def test_groups(tmp_path: Path) -> None:
    """Frozen, empty, and what is neither."""
    groups = tree(tmp_path, a="populated 1\nfrozen 1\n", b="populated 0\nfrozen 0\n", c="populated 1\n", d="")
    assert [groups.frozen(0, f"/{name}.service") for name in "abcde"] == [True, False, False, False, False]
    assert [groups.empty(f"/{name}.service") for name in "abcde"] == [False, True, False, False, True]
    assert not groups.frozen(os.getpid(), ""), "ours is not in that tree"
    assert not groups.frozen(2**22 + 1, ""), "nobody's"


def test_groups_beside_those_of_version_1(tmp_path: Path) -> None:
    """Where systemd has them."""
    tree(tmp_path / "unified", a="populated 0\nfrozen 1\n")
    groups = ControlGroups(str(tmp_path))
    assert groups.frozen(0, "/a.service") and groups.empty("/a.service")


def test_no_groups(tmp_path: Path) -> None:
    """Nothing is known."""
    groups = ControlGroups(str(tmp_path))
    assert not groups.frozen(0, "/a.service") and not groups.empty("/a.service")


# -- MAINPID


@pytest.fixture(scope="module", autouse=True)
def somebody() -> Iterator[int]:
    """A process beside this one. Not its parent: that may be process 1, which is never a service."""
    with subprocess.Popen(["sleep", "600"]) as process:
        SOMEBODY.append(process.pid)
        yield process.pid
        process.kill()


#: Its pid.
SOMEBODY: list[int] = []


def looked_at(uid: int = 0) -> Sender:
    """That process, as one that speaks."""
    return processes.look(SOMEBODY[-1], uid, closely=True)


def test_who_is_the_service() -> None:
    """Another process of the same user's, or itself; anybody's for root. Never process 1, nor we."""
    sender = looked_at()
    assert processes.main_of(sender, {"MAINPID": str(sender.pid)}, NOWHERE) == sender
    for spelt in ("1", "0", "", "-5", "x", "²", "9" * 30, str(os.getpid()), str(2**22 + 1)):
        assert processes.main_of(sender, {"MAINPID": spelt}, NOWHERE) is None
    with_a_child = os.fork()
    if not with_a_child:
        time.sleep(PATIENCE)
        os._exit(0)
    try:
        said = {"MAINPID": str(with_a_child)}
        found = processes.main_of(sender, said, NOWHERE)
        assert found is not None and (found.pid, found.uid, found.program) == (with_a_child, os.getuid(), found.program)
        assert processes.main_of(looked_at(uid=12345), said, NOWHERE) is None, "another user's"
        gone = Sender(4000000, os.getuid(), "", 0)
        assert processes.main_of(gone, said, NOWHERE) == found, "a starter that has ended by now"
        assert processes.main_of(gone, {"MAINPID": "4000000"}, NOWHERE) is None
        assert processes.main_of(Sender(4000000, 12345, "", 0), said, NOWHERE) is None
        assert processes.main_of(gone, {"MAINPID": "2"}, NOWHERE) is None, "the kernel's own"
    finally:
        os.kill(with_a_child, 9)
        os.waitpid(with_a_child, 0)
    assert processes.main_of(sender, said, NOWHERE) is None, "it has ended"


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes namespaces")
def test_who_is_the_service_in_a_container() -> None:
    """Its numbers are others than ours: whom it means is not known."""
    script = "sleep 1000 & echo; wait"
    command = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        one.stdout.readline()
        inside = int(Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text().split()[0])
        sender = processes.look(inside, 0, closely=True)
        assert processes.main_of(sender, {"MAINPID": str(SOMEBODY[-1])}, NOWHERE) is None
        assert processes.main_of(sender, {"MAINPID": str(inside)}, NOWHERE) == sender
        one.kill()
