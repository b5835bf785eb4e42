"""A stand-in for QEMU that a libvirtd starts and believes, with a guest that answers: hundreds fit on two processors.

Run as a script by libvirtd (``stand_in.py`` puts it there), never imported by what it serves. It speaks QMP as far as
libvirt 9.0 asks, keeps the balloon's statistics as QEMU does, and is its guest: the guest agent, and an application on
the application channel. It sleeps between what it is asked; it has no vCPU, so it shows nothing of stolen time.

Signals: SIGUSR1, the guest's kernel dies: balloon, agent and application are silent. SIGUSR2, agent and application are
silent, and the kernel lives. SIGHUP, they go on: what they were asked meanwhile is answered late, as by whoever stood
still. SIGRTMIN, its kernel dies and says so, as by a panic device. SIGSTOP and SIGCONT do to it what they do to QEMU.

What libvirt wants to know of the emulator itself, a real QEMU answers: it takes this process's place.
"""

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

QEMU = "/usr/bin/qemu-system-x86_64"
AGENT, APPLICATION, MONITOR = "org.qemu.guest_agent.0", "org.openstack.vmhb.0", "monitor"
BALLOON_BYTES = 112 << 20
#: Names of `query-migrate-capabilities` that libvirt must find to start a domain, or to take it away.
MIGRATION = ("xbzrle", "auto-converge", "events", "postcopy-ram", "return-path", "pause-before-switchover", "multifd")
STATISTICS = {
    "stat-swap-in": 0,
    "stat-swap-out": 0,
    "stat-major-faults": 1,
    "stat-minor-faults": 1,
    "stat-free-memory": 90_000_000,
    "stat-total-memory": 100_000_000,
}
VCPU = {
    "cpu-index": 0,
    "thread-id": os.getpid(),
    "props": {"core-id": 0, "thread-id": 0, "socket-id": 0},
    "qom-path": "/machine/unattached/device[0]",
    "target": "x86_64",
}
#: Commands whose answer never changes.
CONSTANT: dict[str, Any] = {
    "query-cpus-fast": [VCPU],
    "query-hotpluggable-cpus": [
        {"props": VCPU["props"], "qom-path": VCPU["qom-path"], "vcpus-count": 1, "type": "qemu64-x86_64-cpu"}
    ],
    "query-balloon": {"actual": BALLOON_BYTES},
    "query-migrate-capabilities": [{"capability": name, "state": False} for name in MIGRATION],
    "query-cpu-model-expansion": {"model": {"name": "qemu64", "props": {}}},
    "query-display-options": {"type": "none"},
    "query-dirty-rate": {"status": "unstarted", "start-time": 0, "calc-time": 0},
    "query-dump": {"status": "none", "completed": 0, "total": 0},
}
#: Commands whose answer is a list of nothing.
LISTS = frozenset(
    (
        *("query-block", "query-named-block-nodes", "query-blockstats", "query-block-jobs", "query-iothreads"),
        *("query-jobs", "query-memory-devices", "query-stats", "query-stats-schemas"),
        *("device-list-properties", "qom-list-properties"),
    )
)
PROPERTIES: dict[str, Any] = {"realized": True, "type": "qemu64-x86_64-cpu"}
#: Properties that are lists of nothing.
LIST_PROPERTIES = frozenset(("feature-words", "filtered-features", "unavailable-features"))
LINUX = {
    "id": "debian",
    "name": "Debian GNU/Linux",
    "kernel-release": "6.1.0-stand-in",
    "kernel-version": "#1 SMP PREEMPT_DYNAMIC",
    "machine": "x86_64",
}


class Balloon:
    """The statistics as QEMU's virtio-balloon keeps them: a timer hands the guest's driver its buffer, and the time of
    the report is when it comes back. While the driver is silent the buffer is out, and nothing changes."""

    def __init__(self) -> None:
        self.period = 0
        self.updated = 0  # wall clock, whole seconds; 0: never
        self.due: float | None = None
        self._out = False

    def set_period(self, seconds: int, now: float) -> None:
        """The same as before changes nothing; from none at all, the first report is asked for at once."""
        if seconds == self.period:
            return
        self.due = None if not seconds else now + seconds if self.period else now
        self.period = seconds

    def tick(self, now: float, lives: bool) -> None:
        """The timer, if it is time."""
        if self.due is None or now < self.due:
            return
        self.due = now + self.period
        if lives:
            self.updated = int(time.time())
        else:
            self._out = True

    def goes_on(self, now: float) -> None:
        """The driver runs (again): it gives back what it was handed."""
        self.updated = int(time.time()) if self._out or not self.updated else self.updated
        self._out = False
        if self.period:
            self.due = now + self.period


class Port:
    """A character device's socket: listens while nobody is connected, and hands on what is said, line by line."""

    def __init__(self, machine: "Machine", role: str, listener: socket.socket) -> None:
        self.role = role
        self._machine = machine
        self._listener = listener
        self._peer: socket.socket | None = None
        self._begun = b""
        self._listen()

    def _listen(self) -> None:
        self._machine.ports[self._listener.fileno()] = self.accept
        self._machine.poll.register(self._listener, select.EPOLLIN)

    def accept(self) -> None:
        """Somebody connects; others wait until he leaves."""
        self._peer, _ = self._listener.accept()
        self._machine.poll.unregister(self._listener)
        self._machine.ports[self._peer.fileno()] = self.read
        self._begun = b""
        self._machine.poll.register(self._peer, 0)
        self.attend()
        self._machine.connected(self)

    def attend(self) -> None:
        """Read what comes, or, while nobody in the guest does, only notice that the other side leaves."""
        if self._peer is not None:
            heard = self.role == MONITOR or not self._machine.mute
            self._machine.poll.modify(self._peer, select.EPOLLIN if heard else 0)

    def read(self) -> None:
        """Take what came."""
        assert self._peer is not None
        try:
            data = self._peer.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._machine.poll.unregister(self._peer)
            del self._machine.ports[self._peer.fileno()]
            self._peer.close()
            self._peer = None
            self._listen()
            return
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            try:
                told = json.loads(line.strip(b"\xff \r\0"))
            except ValueError:
                continue
            self._machine.told(self, told)

    def say(self, message: Any, before: bytes = b"", after: bytes = b"\n") -> None:
        """One message; who has left does not hear it."""
        if self._peer is not None:
            with contextlib.suppress(OSError):
                self._peer.sendall(before + json.dumps(message).encode() + after)


class Machine:
    """QEMU and its guest."""

    def __init__(self, arguments: list[str]) -> None:
        self.poll = select.epoll()
        self.ports: dict[int, Callable[[], None]] = {}
        self.balloon = Balloon()
        self.running = False
        self.dead = self.mute = False
        self._devices = [json.loads(text) for text in values(arguments, "-device") if text.startswith("{")]
        self._chardevs = [fields(text) for text in values(arguments, "-chardev")]
        named = {one["chardev"]: one["name"] for one in self._devices if one.get("driver") == "virtserialport"}
        roles = {"charmonitor": MONITOR, **named}
        self._ports = [
            Port(self, roles.get(one["id"], ""), listening(one)) for one in self._chardevs if one["type"] == "socket"
        ]
        for path in values(arguments, "-pidfile"):
            with open(path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        signal.signal(signal.SIGUSR1, lambda *_: self.fall_silent(dead=True))
        signal.signal(signal.SIGUSR2, lambda *_: self.fall_silent(dead=False))
        signal.signal(signal.SIGHUP, lambda *_: self.go_on())
        signal.signal(signal.SIGRTMIN, lambda *_: self.panic())

    def run(self) -> None:
        """Until libvirt ends it."""
        while True:
            due = self.balloon.due if self.running else None
            for number, _ in self.poll.poll(None if due is None else max(0.0, due - time.monotonic())):
                if number in self.ports:
                    self.ports[number]()
            if self.running:
                self.balloon.tick(time.monotonic(), not self.dead)

    # -- the guest

    def fall_silent(self, dead: bool) -> None:
        """Agent and application, and with dead the kernel."""
        self.dead, self.mute = dead, True
        self._attend()

    def panic(self) -> None:
        """The kernel, with its last words."""
        self.fall_silent(dead=True)
        self._tell("GUEST_PANICKED", action="run")

    def power_off(self) -> None:
        """The guest does as it is told, at once; libvirt ends the process."""
        self.fall_silent(dead=True)
        self._tell("POWERDOWN")
        self._tell("SHUTDOWN", guest=True, reason="guest-shutdown")

    def _tell(self, event: str, **data: Any) -> None:
        now = {"seconds": int(time.time()), "microseconds": 0}
        for port in self._ports:
            if port.role == MONITOR:
                port.say({"event": event, **({"data": data} if data else {}), "timestamp": now}, after=b"\r\n")

    def go_on(self) -> None:
        """Everybody."""
        self.balloon.goes_on(time.monotonic())
        self.dead = self.mute = False
        self._attend()

    def _attend(self) -> None:
        for port in self._ports:
            port.attend()

    def connected(self, port: Port) -> None:
        """Somebody is there: QEMU greets, and so does the application."""
        if port.role == MONITOR:
            version = {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "stand-in"}
            port.say({"QMP": {"version": version, "capabilities": ["oob"]}}, after=b"\r\n")
        elif port.role == APPLICATION and not self.mute:
            port.say({"type": "hello", "version": 1, "name": "stand-in", "system": "linux"}, before=b"\n")

    def told(self, port: Port, message: Any) -> None:
        """One line."""
        if port.role == MONITOR:
            self._command(port, message)
        elif port.role == AGENT:
            self._agent(port, message)
        elif port.role == APPLICATION and message.get("type") == "challenge":
            health = {"health": {"status": "healthy", "checks": []}} if message.get("health") else {}
            port.say({"type": "ack", "seq": message["seq"], "nonce": message["nonce"], **health})

    @staticmethod
    def _agent(port: Port, message: Any) -> None:
        name = message.get("execute")
        answers: dict[str, Any] = {"guest-ping": {}, "guest-fsfreeze-status": "thawed", "guest-get-osinfo": LINUX}
        if name in ("guest-sync", "guest-sync-delimited"):
            before = b"\xff" if name == "guest-sync-delimited" else b""
            port.say({"return": message["arguments"]["id"]}, before=before)
        elif name in answers:
            port.say({"return": answers[name]})
        else:
            why = f"The command {name} has not been found"
            port.say({"error": {"class": "CommandNotFound", "desc": why}})

    # -- QMP

    def _command(self, port: Port, message: Any) -> None:
        name, arguments = message.get("execute"), message.get("arguments", {})
        answer = {"return": self._qmp(name, arguments)}
        port.say({**answer, "id": message["id"]} if "id" in message else answer, after=b"\r\n")
        if name in ("cont", "stop"):
            self._tell("RESUME" if name == "cont" else "STOP")
        elif name == "system_powerdown":
            self.power_off()
        elif name == "quit":
            self._tell("SHUTDOWN", guest=False, reason="host-qmp-quit")
            sys.exit()

    def _qmp(self, name: str, arguments: dict[str, Any]) -> Any:
        if name in ("cont", "stop"):
            self.running = name == "cont"
            if self.running and not self.dead:
                self.balloon.goes_on(time.monotonic())
        if name == "query-status":
            return {"running": self.running, "status": "running" if self.running else "prelaunch"}
        if name == "query-chardev":
            return [{"label": one["id"], "frontend-open": True, "filename": "unix"} for one in self._chardevs]
        if name == "qom-list":
            return self._properties_of(arguments["path"])
        if name == "qom-get":
            return self._get(arguments["property"])
        if name == "qom-set" and arguments["property"] == "guest-stats-polling-interval":
            self.balloon.set_period(arguments["value"], time.monotonic())
        return [] if name in LISTS else CONSTANT.get(name, {})

    def _properties_of(self, path: str) -> list[dict[str, str]]:
        balloons = [one["id"] for one in self._devices if one.get("driver", "").startswith("virtio-balloon")]
        if path == "/machine/peripheral":
            return [{"name": name, "type": "child<virtio-balloon-pci>"} for name in balloons]
        if path.rpartition("/")[2] in balloons:
            names = {"guest-stats": "guest statistics", "guest-stats-polling-interval": "int"}
            return [{"name": name, "type": kind} for name, kind in names.items()]
        return []

    def _get(self, name: str) -> Any:
        if name == "guest-stats":
            return {"stats": STATISTICS, "last-update": self.balloon.updated}
        if name == "guest-stats-polling-interval":
            return self.balloon.period
        return [] if name in LIST_PROPERTIES else PROPERTIES.get(name, 0)


def values(arguments: list[str], option: str) -> list[str]:
    """What follows each of these options."""
    return [value for name, value in itertools.pairwise(arguments) if name == option]


def fields(text: str) -> dict[str, str]:
    """`socket,id=charmonitor,fd=22,server=on`; the first is its type."""
    kind, *rest = text.split(",")
    return {"type": kind, **dict(part.partition("=")[::2] for part in rest)}


def listening(chardev: dict[str, str]) -> socket.socket:
    """Its socket: handed on by libvirt, or to be bound where libvirt says."""
    if "fd" in chardev:
        return socket.socket(fileno=int(chardev["fd"]))
    one = socket.socket(socket.AF_UNIX)
    one.bind(chardev["path"])
    one.listen(1)
    return one


def asks_of_the_emulator(arguments: list[str]) -> bool:
    """Does libvirt want to know what QEMU can do, and no guest?"""
    machines = values(arguments, "-machine") + values(arguments, "-M")
    return any(one.startswith("none") for one in machines) or bool({"-version", "--version", "-help"} & set(arguments))


if __name__ == "__main__":
    if asks_of_the_emulator(sys.argv[1:]):
        os.execv(QEMU, [QEMU, *sys.argv[1:]])  # noqa: S606 - that is what it is for
    Machine(sys.argv[1:]).run()
