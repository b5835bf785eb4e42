"""The real daemon, and users of the machine who mean no good: what they can do to others."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.unit.guest.daemons import Application, DaemonProcess
from vmhb_guest.client import notify

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")

NOBODY = 65534
#: Seconds: root's service must be heard within this. Beside a flood its feed may wait for a quarter of it at most, on
#: however busy a machine, and one in two for a hundredth: some 2 and 0.2 ms where nothing else runs.
DEADLINE = 2.0
LIMIT, USUALLY = DEADLINE / 4, DEADLINE / 100

#: Sends the same datagram for as long as it lives, as that user.
FLOOD = (
    "import os, socket, sys\n"
    "uid = int(sys.argv[1])\n"
    "os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)\n"
    "out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    "out.connect(sys.argv[2])\n"
    "data = sys.argv[3].replace(';', chr(10)).encode()\n"
    "for number in range(1 << 62):\n"
    "    out.send(data)\n"
    "    if number == 2000: print('flooding', flush=True)\n"
)


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    """One that has started, in a folder that others may enter."""
    with tempfile.TemporaryDirectory(prefix="vmhb-guest-") as folder:
        os.chmod(folder, 0o755)
        with DaemonProcess(Path(folder)) as one:
            one.start()
            yield one


@contextmanager
def flooding(daemon: DaemonProcess, *rows: str, users: tuple[int, ...] = (NOBODY,)) -> Iterator[None]:
    """A process of each of these users floods while the body runs."""
    with ExitStack() as stack:
        for uid in users:
            command = [sys.executable, "-c", FLOOD, str(uid), str(daemon.run / "notify"), ";".join(rows)]
            one = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(one.kill)
            assert one.stdout is not None and one.stdout.readline() == b"flooding\n"
        yield


def one_of(daemon: DaemonProcess, uid: int = NOBODY) -> Application:
    return Application(daemon.run / "notify", uid)


def healthy(daemon: DaemonProcess) -> None:
    """It answers, and no fault of its own was counted."""
    daemon.host.ask(health=True)
    assert daemon.status()["faults"] == 0


def test_names_that_are_made_for_one_another(daemon: DaemonProcess) -> None:
    """Four processes of a user: as long as names may be, and what is made of them where they are taken."""
    with ExitStack() as stack:
        last, *others = [stack.enter_context(one_of(daemon)) for _ in range(4)]
        mine = f"[{last.pid}]"
        for one, name in zip(others, ("b" * 64, "b" * 52 + mine, "b" * (64 - len(mine)) + mine), strict=True):
            one.say(f"X-VMHB-NAME={name}")
        last.say("X-VMHB-NAME=" + "b" * 64)
        known = daemon.until(lambda checks: len(checks) == 4)
        assert max(map(len, known)) == 64
        daemon.host.ask()
        for one in (last, *others):
            one.say("STOPPING=1")
        daemon.until(lambda checks: not checks)
    healthy(daemon)


@pytest.mark.parametrize(
    "said", ["²", "1①", "٣٤", "𝟗", "+1", "1_0", "-1", "nan", "inf", "1e999", "", "9" * 3000, "0x10"]
)
def test_numbers_in_any_spelling(daemon: DaemonProcess, said: str) -> None:
    """No deadline, no more: of the one who said it."""
    with one_of(daemon) as one, one_of(daemon, 0) as other:
        other.say("READY=1", "X-VMHB-NAME=other", "WATCHDOG_USEC=3600000000")
        one.say("X-VMHB-NAME=one", f"WATCHDOG_USEC={said}")
        daemon.until(lambda checks: set(checks) == {"one", "other"})
        found = {row["name"]: row["watchdog"] for row in daemon.status()["applications"]}
        assert found == {"one": None, "other": 3600.0}
        healthy(daemon)


@pytest.mark.parametrize("users", [(NOBODY,), (NOBODY,) * 4, (33, 34, 100_000, 100_001)], ids=["one", "four", "users"])
@pytest.mark.parametrize("said", [("READY=1", "X-VMHB-NAME=billing"), ("A=1;" * 1000,)], ids=["joining", "large"])
def test_floods(daemon: DaemonProcess, users: tuple[int, ...], said: tuple[str, ...], figure: Figure) -> None:
    """Root's service is heard, within a fraction of its deadline, whatever others send; the host is answered."""
    waited = []
    with flooding(daemon, *said, users=users), one_of(daemon, 0) as service:
        service.say("READY=1", "X-VMHB-NAME=billing", f"WATCHDOG_USEC={int(DEADLINE * 1e6)}")
        daemon.until(lambda checks: "billing" in checks)
        for _ in range(40):
            began = time.monotonic()
            service.say("WATCHDOG=1")
            waited.append(time.monotonic() - began)
            report = {one["name"]: one for one in daemon.ask()["checks"]}
            assert report["billing"]["status"] == "healthy"
            daemon.host.watch(DEADLINE / 20)
        found = [one for one in daemon.status()["applications"] if one["name"] == "billing"]
        assert [(one["pid"], one["uid"]) for one in found] == [(service.pid, 0)]
    figure("root's feeds beside a flood, longest", max(waited) * 1000, "ms", LIMIT * 1000)
    assert max(waited) < LIMIT and statistics.median(waited) < USUALLY
    assert daemon.status()["not_listened_to"] > 1000
    assert len(daemon.log.read_text().splitlines()) < 200
    healthy(daemon)


def test_the_python_helper_beside_a_flood(daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits a moment for its turn rather than to lose what it was told to say."""
    monkeypatch.setenv("VMHB_NOTIFY", str(daemon.run / "notify"))
    with flooding(daemon, "A=1", users=(NOBODY,) * 4):
        assert [notify(ready=1, name="billing")] + [notify(watchdog=1) for _ in range(50)] == [True] * 51
        daemon.until(lambda checks: "billing" in checks)
    notify(stopping=1)
    healthy(daemon)


def test_the_python_helper_beside_a_daemon_that_hangs(daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it was not heard, in no time."""
    monkeypatch.setenv("VMHB_NOTIFY", str(daemon.run / "notify"))
    daemon.signal(signal.SIGSTOP)
    try:
        for _ in range(2000):
            began = time.monotonic()
            if not notify(status="x"):
                break
        else:
            raise AssertionError("nobody reads, and all of it had room")
        assert time.monotonic() - began < 0.1 + LIMIT
    finally:
        daemon.signal(signal.SIGCONT)


def test_a_user_with_many_users(daemon: DaemonProcess) -> None:
    """Users hold places, root's service has one, under the name that is its own; and its death is told."""
    with ExitStack() as stack:
        for number in range(56):
            one = stack.enter_context(one_of(daemon, 100_000 + number // 7))
            one.say(f"X-VMHB-NAME={'database' if number == 0 else number}")
        daemon.until(lambda _: len(daemon.status()["applications"]) == 48)
        with one_of(daemon, 0) as database:
            database.say("READY=1", "X-VMHB-NAME=database")
            daemon.until(lambda _: len(daemon.status()["applications"]) == 49)
            known = {one["name"]: one for one in daemon.status()["applications"]}
            assert (known["database"]["pid"], known["database"]["uid"]) == (database.pid, 0)
            database.kill()
            ended = f"ended without STOPPING=1 (pid {database.pid})"
            daemon.until(lambda checks: checks.get("database", {}).get("message") == ended)
    healthy(daemon)


def test_whose_end_it_was_is_said(daemon: DaemonProcess) -> None:
    """A member can call a process as a service is called: told as that user's, and gone when the service comes."""
    daemon.again("--members", str(NOBODY))
    with one_of(daemon) as thief:
        thief.say("READY=1", "X-VMHB-NAME=postgresql")
        daemon.until(lambda checks: "postgresql" in checks)
        thief.kill()
    ended = f"ended without STOPPING=1 (pid {thief.pid}, uid {NOBODY})"
    daemon.until(lambda checks: checks["postgresql"]["message"] == ended)
    with one_of(daemon, 0) as service:
        service.say("READY=1", "X-VMHB-NAME=postgresql")
        known = daemon.until(lambda checks: len(checks) == 2)
        assert known["postgresql"]["status"] == "healthy"
        assert known[f"postgresql[{thief.pid}]"]["message"] == ended


# -- who may join


@pytest.mark.parametrize("last", [(), ("WATCHDOG=trigger",), ("X-VMHB-HEALTH=unhealthy",), ("WATCHDOG_USEC=50000",)])
def test_a_user_who_may_not_join(daemon: DaemonProcess, last: tuple[str, ...]) -> None:
    """Whatever it says, and however it ends: the heartbeat is answered, and the machine is not unhealthy."""
    with one_of(daemon) as one:
        one.say("READY=1", "X-VMHB-NAME=postgresql", "WATCHDOG_USEC=100000")
        known = daemon.until(lambda checks: "postgresql" in checks)
        assert known["postgresql"] == {"name": "postgresql", "status": "healthy", "message": f"uid {NOBODY}"}
        if last:
            one.say(*last)
        time.sleep(0.3)  # longer than its deadlines
        daemon.host.ask()
        assert daemon.ask()["status"] != "unhealthy"
        assert [row["joined"] for row in daemon.status()["applications"]] == [False]
        one.kill()
    daemon.until(lambda checks: not checks)
    daemon.host.ask()
    healthy(daemon)
    assert f"pid {one.pid} (uid {NOBODY}) may not join, but root, @vmhb: its health is told" in daemon.log.read_text()


def test_its_health_is_told(daemon: DaemonProcess) -> None:
    """As its user's, after all that speaks for the machine; degraded at the worst."""
    with one_of(daemon) as one, one_of(daemon, 0) as database:
        database.say("READY=1", "X-VMHB-NAME=a database")
        one.say("X-VMHB-NAME=a database", "X-VMHB-HEALTH=unhealthy", "STATUS=no disk")
        daemon.until(lambda checks: len(checks) == 2)
        report = daemon.ask()
        assert report["status"] == "degraded"
        said = f"uid {NOBODY}: says that it is unhealthy: no disk"
        assert [(row["name"], row["status"], row["message"]) for row in report["checks"]] == [
            ("a database", "healthy", ""),
            (f"a database[{one.pid}]", "degraded", said),
        ]
        assert "(its user may not join)" in daemon.command("status").stdout
        one.say("STOPPING=1")
        daemon.until(lambda checks: len(checks) == 1)


@pytest.mark.parametrize(
    ("members", "uid", "groups"),
    [
        ("4711", 4711, ()),
        ("@4712", NOBODY, (4712,)),
        ("@4713", 4713, ()),
        ("everybody", NOBODY, ()),
        ("nobody", NOBODY, ()),
    ],
)
def test_who_may_join(daemon: DaemonProcess, members: str, uid: int, groups: tuple[int, ...]) -> None:
    """By number or name, by a process's own groups, whichever of them: its end is the machine's."""
    daemon.again("--members", members)
    with Application(daemon.run / "notify", uid, groups) as one:
        one.say("READY=1", "X-VMHB-NAME=one")
        daemon.until(lambda _: [row["joined"] for row in daemon.status()["applications"]] == [True])
        one.kill()
    daemon.until(lambda checks: checks["one"]["status"] == "unhealthy")


def test_a_member_beside_floods(daemon: DaemonProcess) -> None:
    """However many users flood: it joins, by its group alone, and is not taken for silent."""
    daemon.again("--members", "@4712")
    with flooding(daemon, "A=1", "X-VMHB-HEALTH=healthy", users=(NOBODY, 33, 34, 100_000)):
        for number in range(3):
            with Application(daemon.run / "notify", 1000, (4712,)) as one:
                one.say("READY=1", f"X-VMHB-NAME={number}", f"WATCHDOG_USEC={int(DEADLINE * 1e6)}")
                daemon.until(lambda checks, name=str(number): name in checks)  # type: ignore[misc]
                for _ in range(10):
                    one.say("WATCHDOG=1")
                    assert {row["name"]: row["status"] for row in daemon.ask()["checks"]}[str(number)] == "healthy"
                    daemon.host.watch(DEADLINE / 20)
                one.say("STOPPING=1")
    healthy(daemon)


def test_who_joined_before_an_upgrade(daemon: DaemonProcess) -> None:
    """By the rules of then: it stays, also when it is started anew; a line in the log says that it may not any more."""
    with one_of(daemon) as one:
        daemon.again("--members", "everybody")
        one.say("READY=1", "X-VMHB-NAME=one")
        daemon.until(lambda checks: "one" in checks)
        daemon.status()  # answered after the round in which it was written down
        daemon.again()
        assert [(row["name"], row["joined"]) for row in daemon.status()["applications"]] == [("one", True)]
        warned = f"WARNING application one of uid {NOBODY} joined before, and may not any more"
        assert warned in daemon.log.read_text()
        one.kill()
        daemon.until(lambda checks: checks["one"]["status"] == "unhealthy")
    with one_of(daemon) as again, one_of(daemon) as other:
        other.say("READY=1", "X-VMHB-NAME=other")
        again.say("READY=1", "X-VMHB-NAME=one")
        daemon.until(lambda checks: len(checks) == 2 and checks["one"]["status"] == "healthy")
        rows = {row["name"]: row["joined"] for row in daemon.status()["applications"]}
        assert rows == {"one": True, "other": False}


def test_a_memory_that_others_may_write(daemon: DaemonProcess) -> None:
    """It says nothing; the host is answered."""
    with one_of(daemon, 0) as one:
        one.say("READY=1", "X-VMHB-NAME=one")
        daemon.until(lambda checks: "one" in checks)
        daemon.status()  # answered after the round in which it was written down
        daemon.run.chmod(0o777)
        daemon.again()
        assert daemon.ask() == {"status": "healthy", "checks": []}
        assert "so who joined before is not known: others than root may write to" in daemon.log.read_text()


# -- numbers of processes that are given again

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@contextmanager
def reborn(daemon: DaemonProcess, pid: int, uid: int) -> Iterator[Application]:
    """A process of this user's that has the number of one that has ended."""
    for _ in range(200):
        LAST_PID.write_text(str(pid - 1))
        with one_of(daemon, uid) as one:
            if one.pid == pid:
                yield one
                return
    pytest.skip("somebody else has that number")


@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="this kernel doesn't let us choose numbers of processes")
@pytest.mark.parametrize("said", [("READY=1",), ("STOPPING=1",), ("WATCHDOG=1", "X-VMHB-NAME=mine")])
def test_a_number_that_is_given_again(daemon: DaemonProcess, said: tuple[str, ...]) -> None:
    """Root's service ends unseen, and a user's process has its number: the service has ended all the same."""
    with one_of(daemon, 0) as service:
        service.say("READY=1", "X-VMHB-NAME=database")
        daemon.until(lambda checks: "database" in checks)
        daemon.signal(signal.SIGSTOP)
        service.kill()
        with reborn(daemon, service.pid, NOBODY) as thief:
            thief.say(*said)
            daemon.signal(signal.SIGCONT)
            ended = f"ended without STOPPING=1 (pid {service.pid})"
            daemon.until(lambda checks: checks["database"]["message"] == ended)
            assert not [row for row in daemon.status()["applications"] if row["uid"] == NOBODY and row["joined"]]
    assert daemon.status()["faults"] == 0


@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="this kernel doesn't let us choose numbers of processes")
def test_a_word_of_roots_is_not_a_users(daemon: DaemonProcess) -> None:
    """Root's helper has ended when it is heard, and a user's process has its number: that has not joined as root's."""
    with one_of(daemon, 0) as helper:
        daemon.signal(signal.SIGSTOP)
        helper.say("READY=1", "X-VMHB-NAME=backup")
        helper.kill()
    with reborn(daemon, helper.pid, NOBODY) as thief:
        thief.say("STATUS=I am that user's by now")
        daemon.signal(signal.SIGCONT)
        daemon.until(lambda _: daemon.status()["refused"] == 1)
        assert daemon.ask() == {"status": "healthy", "checks": []}
    healthy(daemon)
