"""Whom vmhb-guest takes for an application, and whom it accuses, beside a real systemd: in a container, without a VM.

The kit is the host. None is told apart by who sends: helpers, starters and successors of a service speak for it.
"""

from __future__ import annotations

import itertools
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from tests.lab import container
from tests.lab.container import Container
from vmhb_guest.conformance.host import Host

pytestmark = [
    pytest.mark.patient,
    pytest.mark.long,
    pytest.mark.skipif(container.cgroups() is None, reason="no control groups of version 2 on this machine"),
]

#: Seconds to wait for what does happen; and in which what must not happen would have, thrice over.
PATIENCE, QUIET = 60.0, 3.0
UNIT = pathlib.Path(__file__).parent.parent.parent / "etc/guest/vmhb-guest.service"
#: systemd hears nothing of this one, or it would end it by the same deadline.
UNHEARD = "Type=exec"
#: A service, as its options have it: `start` seconds until it is ready, `slow` seconds to end on SIGTERM, the `code`
#: then; `name`; `deadline`, in seconds, fed while there is no file /run/hung; `main`: a child of it is the service, and
#: it ends itself. On SIGUSR1 it ends, on SIGUSR2 it hands over to a child.
SERVICE = """#!/usr/bin/python3
import os, signal, socket, sys, time
options = dict(one.split("=") for one in sys.argv[1:])
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def say(*rows):
    out.sendto("\\n".join(rows).encode(), os.environ["NOTIFY_SOCKET"])
def ends(*_):
    time.sleep(float(options.get("slow", 0)))
    os._exit(int(options.get("code", 0)))
def hands_over(*_):
    child = os.fork()
    if child:
        return
    say(f"MAINPID={os.getpid()}", "READY=1", *name)
    serve()
def serve():
    signal.signal(signal.SIGTERM, ends)
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(0))
    signal.signal(signal.SIGUSR2, hands_over)
    while True:
        time.sleep(0.2)
        if deadline and not os.path.exists("/run/hung"):
            say("WATCHDOG=1")
name = [f"X-VMHB-NAME={options['name']}"] if "name" in options else []
time.sleep(float(options.get("start", 0)))
deadline = options.get("deadline")
watchdog = [f"WATCHDOG_USEC={int(float(deadline) * 1e6)}"] if deadline else []
if "main" in options:
    child = os.fork()
    if child:
        say(f"MAINPID={child}", "READY=1", *name, *watchdog)
        time.sleep(1)
        os._exit(0)
else:
    say("READY=1", *name, *watchdog)
serve()
"""
#: A supervisor, whose children are applications of their own.
SUPERVISOR = "/usr/bin/service name=supervisor & /usr/bin/service name=one & exec /usr/bin/service name=two"


class Machine:
    """A container with vmhb-guest, and the host at its port."""

    def __init__(self, inside: Container, folder: pathlib.Path) -> None:
        self.inside = inside
        self.host = Host(str(folder / "port"), listen=True, patience=PATIENCE)
        (folder / "port").chmod(0o666)
        rows = [row for row in UNIT.read_text().splitlines() if "virtio" not in row]
        text = "\n".join(rows).replace("vmhb-guest run", "vmhb-guest run --port /share/port")
        inside.write("/etc/systemd/system/vmhb-guest.service", text)
        inside.write("/usr/bin/service", SERVICE, 0o755)
        inside.run("getent group vmhb || echo vmhb:x:4711: >>/etc/group")
        inside.run("systemctl daemon-reload && systemctl start vmhb-guest")
        self.host.arrive()
        self.host.ask()

    def unit(self, name: str, command: str, *rows: str) -> str:
        """A service that speaks through vmhb-guest, started: its unit's name."""
        usual = "[Unit]\nAfter=vmhb-guest.service\n[Service]\nType=notify\nTimeoutStartSec=30\n"
        text = f"{usual}ExecStart=/usr/bin/env vmhb-guest exec -- {command}\n" + "\n".join(rows) + "\n"
        self.inside.write(f"/etc/systemd/system/{name}.service", text)
        self.inside.run(f"systemctl daemon-reload && systemctl start {name}")
        return name

    def checks(self) -> dict[str, Mapping[str, str]]:
        """What is said of the applications, by name."""
        return {one["name"]: one for one in self.host.ask(health=True)[-1].message["health"]["checks"]}

    def until(self, condition: Callable[[dict[str, Mapping[str, str]]], bool]) -> dict[str, Mapping[str, str]]:
        """Ask until it is so."""
        deadline = time.monotonic() + PATIENCE
        while not condition(checks := self.checks()):
            assert time.monotonic() < deadline, checks
            time.sleep(0.05)
        return checks

    def quiet(self, seconds: float = QUIET) -> set[str]:
        """For so long nobody is accused. The names of those that were there at the end."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            checks = self.checks()
            assert [one for one in checks.values() if one["status"] != "healthy"] == []
            time.sleep(0.05)
        return set(checks)

    def accused(self, name: str) -> str:
        """Until it is, and why."""
        return self.until(lambda checks: checks.get(name, {}).get("status") == "unhealthy")[name]["message"]

    def forget(self, name: str) -> None:
        """With its unit."""
        self.inside.run(f"systemctl stop {name}; systemctl reset-failed {name}; vmhb-guest forget {name}", check=False)
        self.until(lambda checks: name not in checks)

    def main(self, unit: str) -> str:
        return self.inside.shown(unit)["MainPID"]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """One for all tests here but those that shut it down."""
    with ExitStack() as stack:
        yield begin(stack)


@pytest.fixture
def names(machine: Machine) -> Iterator[Iterator[str]]:
    """Of units of this test's own, which are gone afterwards."""
    made = (f"{word}-{number}" for number, word in enumerate(itertools.repeat("billing")))
    used: list[str] = []

    def each() -> Iterator[str]:
        for name in made:
            used.append(name)
            yield name

    machine.inside.run("rm -f /run/hung")
    yield each()
    for name in used:
        machine.inside.run(f"systemctl kill -s KILL {name}; systemctl stop {name}", check=False)
        machine.inside.run(f"systemctl reset-failed {name}", check=False)
        machine.inside.run(f"rm -f /etc/systemd/system/{name}.service; vmhb-guest forget {name}", check=False)
    machine.inside.run("systemctl daemon-reload")
    machine.until(lambda checks: not checks)


def begin(stack: ExitStack) -> Machine:
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmhb-share-")))
    inside = stack.enter_context(Container(folder))
    machine = Machine(inside, folder)
    stack.callback(machine.host.close)
    return machine


# -- who speaks for it

NOBODY = ("User=nobody", "SupplementaryGroups=vmhb", "NotifyAccess=all")
FEEDS = "while :; do systemd-notify WATCHDOG=1; sleep 0.5; done"


@pytest.mark.parametrize("rows", [("NotifyAccess=all",), NOBODY], ids=["root", "nobody"])
@pytest.mark.parametrize("words", ["--ready", "--ready --status=up", "--ready --no-block", "--ready --pid"])
def test_a_shell_whose_helpers_speak(machine: Machine, names: Iterator[str], words: str, rows: tuple[str, ...]) -> None:
    """One application, its unit, whoever sends; the end of each helper is nobody's. That of the service is."""
    wait = "sleep 0.5; " if "no-block" in words else ""  # systemd may not know who it was: it is asked for again
    unit = machine.unit(
        name := next(names), f"/bin/sh -c 'systemd-notify {words}; {wait}systemd-notify --ready; {FEEDS}'", *rows
    )
    assert machine.quiet() == {name}
    machine.inside.run(f"systemctl kill -s KILL --kill-who=main {unit}")
    assert machine.accused(name).startswith("ended without STOPPING=1")


def test_a_service_whose_user_may_not_join(machine: Machine, names: Iterator[str]) -> None:
    """It is a service to systemd as ever. Its health is told, whoever of it speaks; its end is nobody's."""
    script = f"systemd-notify --ready X-VMHB-HEALTH=unhealthy --status=up; {FEEDS}"
    unit = machine.unit(
        name := next(names), f"/bin/sh -c '{script}'", "User=nobody", "NotifyAccess=all", "WatchdogSec=3"
    )
    told = machine.until(lambda checks: name in checks)[name]
    assert told["status"] == "degraded" and told["message"].endswith(": says that it is unhealthy: up")
    deadline = time.monotonic() + 2 * QUIET  # longer than its watchdog, which systemd must hear
    while time.monotonic() < deadline:
        machine.host.ask()
        time.sleep(0.2)
    assert machine.inside.shown(unit)["ActiveState"] == "active"
    machine.inside.run(f"systemctl kill -s KILL {unit}")
    machine.until(lambda checks: name not in checks)
    machine.host.ask()


def test_a_starter_that_says_who_is_the_service(machine: Machine, names: Iterator[str]) -> None:
    """It ends, the service doesn't. When that ends, it is accused."""
    unit = machine.unit(name := next(names), "/usr/bin/service main=1", "NotifyAccess=all")
    assert machine.quiet() == {name}
    pid = machine.main(unit)
    machine.inside.run(f"kill -KILL {pid}")
    assert machine.accused(name) == f"ended without STOPPING=1 (pid {pid})"


@pytest.mark.parametrize("words", ["", "name=web"])
def test_a_server_that_replaces_itself(machine: Machine, names: Iterator[str], words: str) -> None:
    """A successor says MAINPID=, and the old one ends: one application. Then the successor is killed."""
    unit = machine.unit(next(names), f"/usr/bin/service {words}", "NotifyAccess=all")
    old = machine.main(unit)
    machine.inside.run(f"kill -USR2 {old}")
    machine.until(lambda _: machine.main(unit) != old)
    machine.inside.run(f"kill -USR1 {old}")
    [name] = machine.quiet()
    new = machine.main(unit)
    machine.inside.run(f"kill -KILL {new}")
    assert machine.accused(name) == f"ended without STOPPING=1 (pid {new})"
    machine.forget(name)


def test_a_supervisor_of_several(machine: Machine, names: Iterator[str]) -> None:
    """In one unit, each under a name of its own: the death of one is told, though the unit lives."""
    unit = machine.unit(next(names), f"/bin/sh -c '{SUPERVISOR}'", "NotifyAccess=all")
    machine.until(lambda checks: set(checks) == {"supervisor", "one", "two"})
    assert machine.quiet() == {"supervisor", "one", "two"}
    machine.inside.run("pkill -KILL -f [n]ame=one")
    machine.accused("one")
    assert machine.inside.shown(unit)["ActiveState"] == "active"
    for name in ("one", "two", "supervisor"):
        machine.inside.run(f"systemctl stop {unit}; vmhb-guest forget {name}", check=False)


def test_two_units_of_one_program(machine: Machine, names: Iterator[str]) -> None:
    """Each is one, by the name of its unit."""
    first, second = (machine.unit(next(names), "/usr/bin/service") for _ in range(2))
    assert machine.quiet(1.0) == {first, second}
    machine.inside.run(f"systemctl kill -s KILL {second}")
    machine.accused(second)
    assert machine.checks()[first]["status"] == "healthy"


# -- who has ended, and why


@pytest.mark.parametrize("wanted", [True, False], ids=["enabled", "not enabled"])
@pytest.mark.parametrize(
    "words", ["", "code=143", "slow=2", "slow=30", "name=web"], ids=["well", "143", "slowly", "killed at last", "named"]
)
def test_stopped_by_its_operator(machine: Machine, names: Iterator[str], words: str, wanted: bool) -> None:
    """Without a STOPPING=1: however it ends then, nobody minds."""
    install = "[Install]\nWantedBy=multi-user.target"
    unit = machine.unit(next(names), f"/usr/bin/service {words}", "TimeoutStopSec=4", install)
    if wanted:
        machine.inside.run(f"systemctl enable {unit}")
    machine.quiet(1.0)
    machine.inside.run(f"systemctl stop --no-block {unit}")
    machine.quiet(1.0)
    machine.until(lambda _: machine.inside.shown(unit)["ActiveState"] in ("inactive", "failed"))
    assert machine.quiet(1.0) == set()
    machine.inside.run(f"systemctl disable {unit}")


def test_restarted_by_its_operator(machine: Machine, names: Iterator[str]) -> None:
    """Healthy all the time."""
    unit = machine.unit(name := next(names), "/usr/bin/service slow=1")
    machine.inside.run(f"systemctl restart --no-block {unit}")
    assert machine.quiet() == {name}


def test_restarted_by_its_operator_and_slow_to_be_ready(machine: Machine, names: Iterator[str]) -> None:
    """systemd takes it for active from the first: nobody is accused until it says that it is ready."""
    unit = machine.unit(next(names), "/usr/bin/service name=web start=2", UNHEARD)
    machine.until(lambda checks: set(checks) == {"web"})
    machine.inside.run(f"systemctl restart {unit}")
    machine.quiet(1.5)
    machine.until(lambda checks: set(checks) == {"web"})
    assert machine.quiet(1.0) == {"web"}
    machine.inside.run(f"systemctl stop {unit}")
    machine.until(lambda checks: not checks)


def test_restarted_by_systemd(machine: Machine, names: Iterator[str]) -> None:
    """Accused while it is away, and healthy when it is back."""
    unit = machine.unit(name := next(names), "/usr/bin/service", "Restart=always", "RestartSec=3")
    machine.inside.run(f"systemctl kill -s KILL {unit}")
    machine.accused(name)
    machine.until(lambda checks: checks[name]["status"] == "healthy")
    assert machine.quiet() == {name}


@pytest.mark.parametrize(
    "how", ["kill -s KILL", "kill -s SEGV", "kill -s USR1"], ids=["killed", "crashed", "by itself"]
)
def test_ended(machine: Machine, names: Iterator[str], how: str) -> None:
    """By nobody's wish: accused, until it is started again."""
    unit = machine.unit(name := next(names), "/usr/bin/service", "[Install]\nWantedBy=multi-user.target")
    machine.inside.run(f"systemctl enable {unit}")  # else systemd forgets one that ended well
    pid = machine.main(unit)
    machine.inside.run(f"systemctl {how} {unit}")
    assert machine.accused(name) == f"ended without STOPPING=1 (pid {pid})"
    machine.inside.run(f"systemctl start {unit}")
    assert machine.quiet(1.0) == {name}
    machine.inside.run(f"systemctl disable {unit}")


def test_ended_by_its_watchdog(machine: Machine, names: Iterator[str]) -> None:
    """systemd's own, which has begun to stop it before it ended: that is no wish."""
    unit = machine.unit(name := next(names), "/usr/bin/service deadline=2 slow=1", "WatchdogSec=2", "NotifyAccess=all")
    machine.quiet()
    pid = machine.main(unit)
    machine.inside.run("touch /run/hung")
    assert machine.accused(name).startswith(("silent for", "ended"))
    machine.until(lambda checks: checks[name]["message"] == f"ended without STOPPING=1 (pid {pid})")
    assert machine.inside.shown(unit)["Result"] == "watchdog"


def test_hung(machine: Machine, names: Iterator[str]) -> None:
    """By its own deadline; and stopped by its operator, who sees that."""
    unit = machine.unit(name := next(names), "/usr/bin/service deadline=1 slow=2", UNHEARD)
    machine.quiet(2.0)
    machine.inside.run("touch /run/hung")
    assert machine.accused(name).startswith("silent for")
    machine.inside.run(f"systemctl stop --no-block {unit}")
    machine.until(lambda checks: not checks)


def test_frozen(machine: Machine, names: Iterator[str]) -> None:
    """Nobody is accused for what stands still by an operator's wish; and it has its time again afterwards."""
    unit = machine.unit(name := next(names), "/usr/bin/service deadline=1", UNHEARD)
    machine.until(lambda checks: name in checks)
    machine.inside.run(f"systemctl freeze {unit}")
    assert machine.quiet(4.0) == {name}
    assert machine.checks()[name]["message"] == "frozen, so it is not judged"
    machine.inside.run(f"systemctl thaw {unit}")
    assert machine.quiet(2.0) == {name}
    machine.inside.run("touch /run/hung")
    assert machine.accused(name).startswith("silent for")


def test_a_container_without_systemd(machine: Machine) -> None:
    """A scope of processes that somebody else has started: each is for itself, as where there is no systemd at all."""
    run = "systemd-run --scope --unit=box env NOTIFY_SOCKET=/run/vmhb/notify /usr/bin/service name=boxed"
    machine.inside.run(f"{run} >/run/box.log 2>&1 &")
    machine.until(lambda checks: "boxed" in checks)
    machine.inside.run("pkill -KILL -f [n]ame=boxed")
    machine.accused("boxed")
    machine.inside.run("vmhb-guest forget boxed")


def test_vmhb_guest_itself_is_started_anew(machine: Machine, names: Iterator[str]) -> None:
    """Who stopped meanwhile has left, who was killed has ended, who speaks by helpers goes on."""
    stopped, killed = (machine.unit(next(names), "/usr/bin/service") for _ in range(2))
    helped = machine.unit(next(names), f"/bin/sh -c 'systemd-notify --ready; {FEEDS}'", *NOBODY)
    machine.until(lambda checks: set(checks) == {stopped, killed, helped})
    machine.inside.run("systemctl kill -s STOP vmhb-guest && sleep 0.1")  # it must not see how they end
    machine.inside.run(f"systemctl stop {stopped}; systemctl kill -s KILL {killed}")
    machine.inside.run("systemctl kill -s KILL vmhb-guest")
    machine.host.arrive()
    machine.accused(killed)
    machine.until(
        lambda checks: (
            {name: one["status"] for name, one in checks.items()}
            == {
                killed: "unhealthy",
                helped: "healthy",
            }
        )
    )


# -- the whole machine


def test_shutdown() -> None:
    """Goodbye at its beginning, though the service that speaks through us takes long to end. Nobody is accused, and
    nothing is answered, which would be taken for a return.
    """
    with ExitStack() as stack:
        machine = begin(stack)
        machine.unit("billing", "/usr/bin/service slow=6")
        machine.unit("mail", "/usr/bin/service deadline=1")
        machine.quiet(1.0)
        began = time.monotonic()
        machine.inside.run("systemctl poweroff --no-block")
        while not list(machine.host.said("goodbye")):
            assert time.monotonic() < began + 3.0, "at the beginning, it said"
            machine.host.watch(0.05)
        answered = len(list(machine.host.said("ack")))
        while machine.inside.alive:
            if machine.host.here:
                machine.host.say(machine.host.challenge(health=True).line)
                machine.host.watch(0.2)
        assert machine.inside.wait_down(PATIENCE) - began > 5.0
        assert next(machine.host.said("goodbye"))["reason"] == "the machine shuts down"
        assert len(list(machine.host.said("ack"))) == answered


def test_a_shutdown_that_is_called_off(machine: Machine, names: Iterator[str]) -> None:
    """We are back: it is systemd's word whether the machine goes down."""
    name = machine.unit(next(names), "/usr/bin/service")
    machine.inside.run("vmhb-guest goodbye --shutdown")

    def acks(seconds: float) -> int:
        """Answers to challenges of so long."""
        before = len(list(machine.host.said("ack")))
        for _ in range(int(seconds / 0.2)):
            machine.host.say(machine.host.challenge(health=True).line)
            machine.host.watch(0.2)
        return len(list(machine.host.said("ack"))) - before

    assert acks(3.0) == 0
    assert acks(15.0) > 0
    assert machine.quiet(1.0) == {name}
