"""The real daemon, a process of its own: the port, applications that are processes, the service manager, callers."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.guest.daemons import PATIENCE, ROOT, DaemonProcess, oldest_python
from vmhb_guest.conformance.cmd import PASSED, examine
from vmhb_guest.conformance.rules import Trial
from vmhb_guest.notify import MAX_OF_A_USER, MAX_OF_USERS, Relay


class Manager:
    """A service manager's ears."""

    def __init__(self, path: Path) -> None:
        self.environ = {"NOTIFY_SOCKET": str(path)}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(str(path))
        self._socket.settimeout(PATIENCE)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def told(self) -> tuple[bytes, int]:
        """The next thing that it is told, and by which process. A barrier is let go."""
        data, extra, _, _ = self._socket.recvmsg(4096, 64)
        rows = {kind: content for _, kind, content in extra}
        if socket.SCM_RIGHTS in rows:
            os.close(struct.unpack("i", rows[socket.SCM_RIGHTS])[0])
        return data, struct.unpack("iII", rows[socket.SCM_CREDENTIALS])[0]

    def all(self) -> list[bytes]:
        """What it has been told and has not read yet."""
        told = []
        self._socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(self._socket.recv(4096))
        self._socket.settimeout(PATIENCE)
        return told

    def forget(self) -> int:
        """How many things it has been told meanwhile; they are read."""
        return len(self.all())


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """One that can be started."""
    with DaemonProcess(tmp_path) as one:
        yield one


@pytest.mark.parametrize("python", [sys.executable, oldest_python()], ids=["ours", "oldest"])
def test_conformance(python: str, tmp_path: Path) -> None:
    """It keeps to every rule, beside a check that hangs and one that floods; on the oldest Python at hand too."""
    with DaemonProcess(tmp_path, python=python) as daemon:
        daemon.check("hangs", "sleep 1000", "timeout=900")
        daemon.check("floods", "exec yes x", "timeout=900")
        daemon.start()
        results = examine(Trial(daemon.host, PATIENCE, quiet=0.2))
        assert [(one.rule.name, one.outcome, one.detail) for one in results if one.outcome != PASSED] == []


def test_applications(daemon: DaemonProcess) -> None:
    """Two join; one falls silent and is named, speaks again, is killed, and is forgotten only when told to."""
    daemon.start()
    with daemon.application() as billing, daemon.application() as mail:
        billing.say("READY=1", "X-VMHB-NAME=billing", "STATUS=serving")
        mail.say("READY=1", "X-VMHB-NAME=mail")
        known = daemon.until(lambda checks: set(checks) == {"billing", "mail"})
        assert known["billing"] == {"name": "billing", "status": "healthy", "message": "serving"}
        billing.say("WATCHDOG_USEC=100000")
        daemon.until(lambda checks: checks["billing"]["message"].startswith("silent for "))
        assert daemon.ask()["checks"][0]["name"] == "billing", "the worst comes first"
        assert [one["name"] for one in daemon.status()["applications"]] == ["billing", "mail"]
        billing.say("WATCHDOG_USEC=0", "X-VMHB-HEALTH=degraded", "STATUS=slow")
        daemon.until(lambda checks: (checks["billing"]["status"], checks["billing"]["message"]) == ("degraded", "slow"))
        mail.say("STOPPING=1")
        daemon.until(lambda checks: set(checks) == {"billing"})
        billing.kill()
        ended = f"ended without STOPPING=1 (pid {billing.pid})"
        daemon.until(lambda checks: checks["billing"]["message"] == ended)
        with daemon.application() as successor:
            successor.say("READY=1", "X-VMHB-NAME=billing")
            daemon.until(lambda checks: checks["billing"]["status"] == "healthy")
            successor.kill()
        daemon.until(lambda checks: checks["billing"]["status"] == "unhealthy")
        assert daemon.command("forget", "billing").returncode == 0
        assert daemon.ask() == {"status": "healthy", "checks": []}


def test_applications_that_flood(daemon: DaemonProcess) -> None:
    """However many datagrams come: the host is answered, the log is not filled, and others are heard."""
    source = (
        "import itertools, socket, sys\n"
        "out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "for number in itertools.count():\n"
        "    word = ('healthy', 'unhealthy')[number % 2]\n"
        "    out.sendto(f'READY=1\\nX-VMHB-NAME=flood{number}\\nX-VMHB-HEALTH={word}'.encode(), sys.argv[1])\n"
        "    if number == 2000: print('flooding', flush=True)\n"
    )
    daemon.start()
    command = [sys.executable, "-c", source, str(daemon.run / "notify")]
    with daemon.application() as one, subprocess.Popen(command, stdout=subprocess.PIPE) as flood:
        assert flood.stdout is not None and flood.stdout.readline() == b"flooding\n"
        one.say("READY=1", "X-VMHB-NAME=quiet", "X-VMHB-HEALTH=degraded", "STATUS=heard")
        daemon.until(lambda checks: checks.get("quiet", {}).get("message") == "heard")
        flood.kill()
    assert len(daemon.log.read_text().splitlines()) < 200


def test_host_away(daemon: DaemonProcess) -> None:
    """It does not spin while nobody is at the other end, and is there again at once."""
    daemon.start()
    daemon.host.leave()
    before = daemon.status()["rounds"]
    subprocess.run(["sleep", "1"], check=True)  # the time for which it must be quiet
    assert daemon.status()["rounds"] - before < 100
    daemon.host.arrive()
    daemon.host.ask()


def test_no_ack_in_the_name_of_the_dead(daemon: DaemonProcess) -> None:
    """Not asked for health, it answers as long as its applications do."""
    daemon.start()
    with daemon.application() as one:
        one.say("READY=1", "X-VMHB-NAME=one")
        daemon.host.ask()
        one.kill()
        daemon.until(lambda checks: checks["one"]["status"] == "unhealthy")
        plain = daemon.host.challenge()
        heard = daemon.host.ask(plain.line, health=True)
        assert [one.message["health"]["status"] for one in heard] == ["unhealthy"]
        assert daemon.status()["host"]["withheld"] == 1


def test_who_speaks_is_the_kernels_word(daemon: DaemonProcess) -> None:
    """An application is the process that sent, whatever it calls itself; a message with descriptors is dropped."""
    daemon.start()
    address = str(daemon.run / "notify")
    with daemon.application() as one, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        one.say("READY=1", "MAINPID=1", "X-VMHB-NAME=first")
        daemon.until(lambda checks: set(checks) == {"first"})
        assert [row["pid"] for row in daemon.status()["applications"]] == [one.pid]
        read, write = os.pipe()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", write))
        out.sendmsg([b"READY=1\nX-VMHB-NAME=thief"], [rights], 0, address)
        os.close(write)
        assert os.read(read, 1) == b"", "nobody keeps the descriptor open, as BARRIER=1 of systemd's wants it"
        os.close(read)
        out.sendto(b"X" * 5000, address)
        out.sendto(b"READY=1\nX-VMHB-NAME=me", address)
        daemon.until(lambda checks: set(checks) == {"first", "me"})
        assert daemon.status()["dropped"] == 2


def test_a_barrier_is_let_go_when_the_service_manager_has_read_it(daemon: DaemonProcess, tmp_path: Path) -> None:
    """And not before: whoever waits for that must live until then, or its words are nobody's (sd_notify_barrier(3))."""
    with Manager(tmp_path / "manager") as manager, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        daemon.start(environ=manager.environ)
        manager.told()
        read = send(out, b"BARRIER=1", *os.pipe(), address=str(daemon.run / "services"))
        daemon.status()
        assert held(read)
        assert manager.told() == (b"BARRIER=1", os.getpid())
        assert not held(read)
        os.close(read)


def test_what_waits_when_we_end(daemon: DaemonProcess, tmp_path: Path) -> None:
    """Is passed on as long as the service manager reads, however slowly."""
    with Manager(tmp_path / "manager") as manager:
        daemon.start(environ=manager.environ)
        with daemon.application() as one:
            for number in range(30):
                one.say(f"STATUS={number}")
            daemon.signal(signal.SIGTERM)
            told = [manager.told()[0] for _ in range(31)]
        assert told == [b"READY=1", *(f"STATUS={number}".encode() for number in range(30))]
        assert daemon.wait() == 0


def test_a_barrier_that_is_passed_on_to_nobody(daemon: DaemonProcess) -> None:
    """There is nobody to wait for."""
    daemon.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        read = send(out, b"BARRIER=1", *os.pipe(), address=str(daemon.run / "notify"))
        assert os.read(read, 1) == b""
        os.close(read)
    assert daemon.status()["dropped"] == 0


def test_what_is_no_barrier_is_not_kept(daemon: DaemonProcess, tmp_path: Path) -> None:
    """A descriptor of another message, or of anything but a pipe: closed, whatever it is."""
    daemon.start()
    daemon.status()
    before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        address = str(daemon.run / "notify")
        for data in (b"FDSTORE=1", b"BARRIER=1\nREADY=1", b"BARRIER=0"):
            read = send(out, data, *os.pipe(), address=address)
            assert os.read(read, 1) == b""
            os.close(read)
        ours, theirs = socket.socketpair()
        send(out, b"BARRIER=1", -1, theirs.detach(), address=address)
        assert ours.recv(1) == b""
        ours.close()
        two = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("ii", out.fileno(), out.fileno()))]
        out.sendmsg([b"BARRIER=1"], two, 0, address)
    assert daemon.status()["dropped"] == 3
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) <= before + 1, "one is of the caller that asked for the status"


def send(out: socket.socket, data: bytes, read: int, write: int, *, address: str) -> int:
    """With a descriptor, which is only theirs from then on. The other end of it."""
    out.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", write))], 0, address)
    os.close(write)
    return read


def held(read: int) -> bool:
    """Does anybody have the other end of this pipe?"""
    poll = select.poll()
    poll.register(read, 0)
    return not poll.poll(200)


@pytest.mark.parametrize("rows", [("READY=1",), ("WATCHDOG=1",), ("X-VMHB-HEALTH=degraded",)])
def test_a_helper_is_no_application(daemon: DaemonProcess, rows: tuple[str, ...]) -> None:
    """It says something, and ends: nobody is accused of that. How many there were is told."""
    daemon.start()
    with daemon.application() as one:
        one.say(*rows)
        daemon.until(lambda checks: len(checks) == 1)
        one.kill()
    daemon.until(lambda checks: not checks)
    assert daemon.status()["helpers"] == 1
    assert daemon.ask() == {"status": "healthy", "checks": []}


def test_one_that_hands_over(daemon: DaemonProcess) -> None:
    """To whom it names; and when that ends, it is accused."""
    daemon.start()
    with daemon.application() as old, daemon.application() as new:
        old.say("READY=1", "X-VMHB-NAME=web")
        old.say(f"MAINPID={new.pid}")
        daemon.until(lambda _: new.pid in {one["pid"] for one in daemon.status()["applications"]})
        old.kill()
        daemon.until(lambda _: [one["pid"] for one in daemon.status()["applications"]] == [new.pid])
        assert {one["name"]: one["status"] for one in daemon.ask()["checks"]} == {"web": "healthy"}
        new.kill()
        daemon.until(lambda checks: checks["web"]["message"] == f"ended without STOPPING=1 (pid {new.pid})")


def test_its_last_words(daemon: DaemonProcess) -> None:
    """An application that speaks once more and is gone when that is heard: its end is noticed all the same."""
    daemon.start()
    for number in range(5):
        with daemon.application() as one:
            one.say("READY=1", f"X-VMHB-NAME={number}")
            daemon.until(lambda checks, name=str(number): name in checks)  # type: ignore[misc]
            daemon.signal(signal.SIGSTOP)
            one.say("WATCHDOG=1")
            one.kill()
            daemon.signal(signal.SIGCONT)
            daemon.until(lambda checks, name=str(number): checks[name]["status"] == "unhealthy")  # type: ignore[misc]


def test_a_new_daemon_knows_a_helper_for_one(daemon: DaemonProcess) -> None:
    """Also one that ended while nobody was there to see it."""
    daemon.start()
    with daemon.application() as one:
        one.say("READY=1")
        daemon.until(lambda checks: len(checks) == 1)
        daemon.status()  # answered after the round in which it was written down
        daemon.signal(signal.SIGKILL)
        daemon.wait()
    daemon.start()
    assert daemon.ask() == {"status": "healthy", "checks": []}


def test_the_machine_shuts_down(daemon: DaemonProcess) -> None:
    """Goodbye at once, and no answer after it; nobody is accused; services are passed on as before."""
    daemon.start()
    with daemon.application() as one:
        one.say("READY=1", "X-VMHB-NAME=one", "WATCHDOG_USEC=100000")
        daemon.until(lambda checks: checks.get("one", {}).get("status") == "unhealthy")
        assert daemon.command("goodbye", "--shutdown").returncode == 0
        daemon.host.say(daemon.host.challenge(health=True).line)
        acks = len(list(daemon.host.said("ack")))
        daemon.host.watch(1.0)
        assert [message["reason"] for message in daemon.host.said("goodbye")] == ["the machine shuts down"]
        assert len(list(daemon.host.said("ack"))) == acks
        status = daemon.status()
        assert (status["status"], status["host"]["left"]) == ("healthy", "the machine shuts down")
        assert "left: the machine shuts down" in daemon.command("status").stdout
        # A host that lets nobody go who is in trouble.
        refusal = {"type": "error", "code": "refused", "detail": "goodbye: not now"}
        daemon.host.ask(json.dumps(refusal).encode() + b"\n")


def test_the_service_manager_hears_as_before(daemon: DaemonProcess, tmp_path: Path) -> None:
    """What a service says is passed on, in its own name; what is meant for us alone isn't. We ourselves are ready."""
    with Manager(tmp_path / "manager") as manager:
        daemon.start(environ=manager.environ)
        assert manager.told() == (b"READY=1", daemon.pid)
        with daemon.application() as one:
            one.say("READY=1", "X-VMHB-NAME=one", "STATUS=up")
            assert manager.told() == (b"READY=1\nSTATUS=up", one.pid)
            one.say("X-VMHB-HEALTH=degraded")
            one.say("STOPPING=1")
            assert manager.told() == (b"STOPPING=1", one.pid)


def test_the_service_manager_hears_without_us(daemon: DaemonProcess, tmp_path: Path) -> None:
    """A service speaks to one path all its life: we hear it while we run, its service manager always."""
    with Manager(tmp_path / "manager") as manager:
        daemon.start(environ=manager.environ)
        manager.told()
        with daemon.application("services") as billing:
            billing.say("READY=1", "X-VMHB-NAME=billing")
            assert manager.told() == (b"READY=1", billing.pid)
            daemon.until(lambda checks: set(checks) == {"billing"})
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
            billing.say("WATCHDOG=1", "STATUS=alone")
            assert manager.told() == (b"WATCHDOG=1\nSTATUS=alone", billing.pid)
            daemon.start(environ=manager.environ)
            assert manager.told() == (b"READY=1", daemon.pid)
            billing.say("WATCHDOG=1", "STATUS=together")
            daemon.until(lambda checks: checks["billing"]["message"] == "together")
            assert manager.told() == (b"WATCHDOG=1\nSTATUS=together", billing.pid)


def test_the_service_manager_has_a_watchdog(daemon: DaemonProcess, tmp_path: Path) -> None:
    """The loop feeds it for as long as it goes round, in our own name, and before what others say."""
    with Manager(tmp_path / "manager") as manager:
        daemon.start(environ={**manager.environ, "WATCHDOG_USEC": "400000"})
        assert [manager.told() for _ in range(5)] == [(b"READY=1", daemon.pid)] + [(b"WATCHDOG=1", daemon.pid)] * 4
        daemon.signal(signal.SIGSTOP)
        manager.forget()
        subprocess.run(["sleep", "1"], check=True)  # the time in which it must not be fed
        assert manager.forget() == 0
        daemon.signal(signal.SIGCONT)
        assert manager.told() == (b"WATCHDOG=1", daemon.pid)


def test_another_process_has_the_watchdog(daemon: DaemonProcess, tmp_path: Path) -> None:
    """A watchdog of another process's, or none that can be read: it is not fed."""
    with Manager(tmp_path / "manager") as manager:
        for environ in (
            {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"},
            {"WATCHDOG_USEC": "²"},
            {"WATCHDOG_USEC": "0"},
        ):
            daemon.start(environ={**manager.environ, **environ})
            assert manager.told() == (b"READY=1", daemon.pid)
            subprocess.run(["sleep", "0.5"], check=True)  # the time in which it must not be fed
            assert manager.forget() == 0
            daemon.signal(signal.SIGKILL)
            daemon.wait()


def test_where_it_hung_is_told(daemon: DaemonProcess) -> None:
    """The signal by which a service manager ends what does not feed its watchdog leaves a trace in the log."""
    daemon.start()
    daemon.signal(signal.SIGABRT)
    assert daemon.wait() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in daemon.log.read_text() and "in _rounds" in daemon.log.read_text()


def test_what_is_passed_on_beside_a_slow_service_manager(tmp_path: Path) -> None:
    """One user's flood leaves room for others', all users' for root's, and our own goes first."""
    with Manager(tmp_path / "manager") as manager:
        relay = Relay(manager.environ["NOTIFY_SOCKET"])
        pid = os.getpid()
        while not relay.waiting:
            relay.send(b"STATUS=x", (pid, 0, 0))
        for uid in (65534, 33):
            for _ in range(1000):
                relay.send(b"STATUS=flood", (pid, uid, uid))
        assert relay.lost == 2 * (1000 - MAX_OF_A_USER)
        for uid in range(100_000, 101_000):
            relay.send(b"STATUS=flood", (pid, uid, uid))
        lost = relay.lost
        for _ in range(100):
            relay.send(b"WATCHDOG=1\nX-VMHB-NAME=billing", (pid, 0, 0))
        for _ in range(1000):
            relay.say(b"STATUS=ours")
        assert relay.lost == lost, "there was room for all of root's, and for ours"
        told = []
        while relay.waiting:
            told += manager.all()
            relay.flush()
        told += manager.all()
        relay.close()
    assert told.count(b"STATUS=ours") == 1 and told.count(b"WATCHDOG=1") == 100
    assert told.index(b"STATUS=ours") < told.index(b"STATUS=flood")
    assert told.count(b"STATUS=flood") == MAX_OF_USERS


def test_stopped_and_continued(daemon: DaemonProcess) -> None:
    """A daemon that was not scheduled accuses nobody: what an application said meanwhile is heard first."""
    daemon.start()
    with daemon.application() as one:
        one.say("READY=1", "X-VMHB-NAME=one", "WATCHDOG_USEC=4000000")
        daemon.until(lambda checks: set(checks) == {"one"})
        daemon.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, daemon.pid, os.WSTOPPED | os.WNOWAIT)
        subprocess.run(["sleep", "5"], check=True)  # the time for which it is not scheduled: longer than the watchdog's
        daemon.signal(signal.SIGCONT)
        assert daemon.ask()["status"] == "healthy"
        assert daemon.status()["unscheduled"] >= 3.0
        daemon.until(lambda checks: checks["one"]["message"].startswith("silent for "))


def test_a_new_daemon_remembers(daemon: DaemonProcess) -> None:
    """Killed and started again: who lives is an application still, who ended meanwhile is a fault."""
    daemon.start()
    with daemon.application() as one, daemon.application() as two:
        one.say("READY=1", "X-VMHB-NAME=one")
        two.say("READY=1", "X-VMHB-NAME=two")
        daemon.until(lambda checks: set(checks) == {"one", "two"})
        daemon.status()  # answered after the round in which it was written down
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        two.kill()
        daemon.start()
        checks = {row["name"]: row["status"] for row in daemon.ask()["checks"]}
        assert checks == {"one": "healthy", "two": "unhealthy"}


def test_maintenance_and_goodbye(daemon: DaemonProcess) -> None:
    """As commands; and SIGTERM says goodbye, and ends with 0."""
    daemon.start()
    assert daemon.command("maintenance", "40m", "--reason", "kernel").returncode == 0
    assert daemon.command("goodbye", "--reason", "for now").returncode == 0
    daemon.host.ask()
    assert list(daemon.host.said("maintenance")) == [{"type": "maintenance", "seconds": 2400, "reason": "kernel"}]
    assert 2300 < daemon.status()["maintenance"] <= 2400
    shown = daemon.command("status").stdout
    assert "health       healthy" in shown and "host         connected" in shown and "maintenance  2" in shown
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    daemon.host.watch(PATIENCE)
    assert [one["reason"] for one in daemon.host.said("goodbye")] == ["for now", "vmhb-guest was stopped (SIGTERM)"]


def test_commands_that_cannot_be_done(daemon: DaemonProcess) -> None:
    """Exit codes and a line that says what is the matter."""
    nobody = daemon.command("status")
    assert nobody.returncode == 1 and nobody.stderr.startswith("vmhb-guest: no daemon at ")
    daemon.start()
    for words in (("maintenance", "soon"), ("maintenance", "-5m"), (), ("dance",)):
        assert daemon.command(*words).returncode == 2
    stranger = daemon.command("forget", "nobody")
    assert (stranger.returncode, stranger.stderr) == (
        1,
        "vmhb-guest: no application 'nobody' has ended: see vmhb-guest status\n",
    )
    assert daemon.command("maintenance", "300d").returncode == 1


def test_one_at_a_time(daemon: DaemonProcess) -> None:
    """A second one takes nothing from the first."""
    daemon.start()
    second = daemon.command("run", "--port", str(daemon.folder / "port"))
    assert second.returncode == 1 and "another vmhb-guest runs" in second.stderr
    daemon.host.ask()
    assert daemon.status()["status"] == "healthy"


def test_no_port(tmp_path: Path) -> None:
    """In an image that runs where there is no such port: exit 0, one line, nothing touched, no failure to systemd."""
    command = [
        sys.executable,
        "-m",
        "vmhb_guest",
        "--folder",
        str(tmp_path / "run"),
        "run",
        "--port",
        str(tmp_path / "no"),
    ]
    with Manager(tmp_path / "manager") as manager:
        env = {**os.environ, **manager.environ}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, f"INFO there is no port {tmp_path / 'no'}: nothing to do here\n")
        assert manager.told()[0] == b"READY=1", (
            "to end before that would be a failure to systemd, and it would try again"
        )
    assert not (tmp_path / "run").exists()


def test_exec(daemon: DaemonProcess, tmp_path: Path) -> None:
    """A service is joined where there is a daemon, and left to its service manager where there is none."""
    words = ("exec", "--", "sh", "-c", "echo $NOTIFY_SOCKET")
    alone = daemon.command(*words)
    assert (alone.returncode, alone.stdout.strip()) == (0, os.environ.get("NOTIFY_SOCKET", ""))
    daemon.start()
    assert daemon.command(*words).stdout.strip() == str(daemon.run / "notify")
    assert daemon.command("exec", "--", "/no/such/program").returncode == 1


def test_exec_beside_a_service_manager(daemon: DaemonProcess, tmp_path: Path) -> None:
    """A service's words take the way that leads to us or to its manager; another manager's service is left as it is."""

    def becomes(said: str) -> str:
        return daemon.command("exec", "--", "sh", "-c", "echo $NOTIFY_SOCKET", NOTIFY_SOCKET=said).stdout.strip()

    with Manager(tmp_path / "manager") as manager:
        ours, users = manager.environ["NOTIFY_SOCKET"], "/run/user/1000/systemd/notify"
        assert becomes(ours) == ours
        daemon.start(environ=manager.environ)
        way = str(daemon.run / "services")
        assert (becomes(ours), becomes(users), becomes("")) == (way, users, str(daemon.run / "notify"))
        daemon.signal(signal.SIGTERM)
        daemon.wait()
        assert (becomes(ours), becomes(users), becomes("")) == (way, users, "")


def test_the_helper_for_python(daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten lines, and what they say arrives."""
    source = (
        "import sys; from vmhb_guest.client import notify\n"
        "print(notify(ready=1, name='billing', watchdog_usec=60_000_000, status='a\\nb'), flush=True); sys.stdin.read()"
    )
    daemon.start()
    environ = {**os.environ, "VMHB_NOTIFY": str(daemon.run / "notify")}
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None and one.stdout.readline() == b"True\n"
        daemon.until(lambda checks: checks.get("billing", {}).get("message") == "a b")
        assert one.stdin is not None
        one.stdin.close()
    from vmhb_guest.client import notify  # noqa: PLC0415 -- as an application would

    monkeypatch.setenv("VMHB_NOTIFY", "/nowhere")
    assert notify(watchdog=1) is False
