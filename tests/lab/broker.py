"""A RabbitMQ of our own: own node, own epmd, own port, own files, on loopback only.

The machine's own rabbitmq-server, running or not, is neither used nor touched: nothing of
/etc/rabbitmq or /var/lib/rabbitmq is read. The epmd is private too, on a port of its own: a shared
one would have to outlive whichever of its users started it.
"""

from __future__ import annotations

import json
import pathlib
import random
import secrets
import signal
import socket
import subprocess
import tempfile

from .processes import PATIENCE, Kept, LabError, Processes, ended_if_it_fails, wait_until

# The package's own programs; those in /usr/sbin are wrappers that insist on the rabbitmq user.
BIN = pathlib.Path("/usr/lib/rabbitmq/bin")

# Below Linux' range of ephemeral ports: between a halt and a boot, no outgoing connection of
# anybody's can be given our port.
PORTS = range(20000, 32000)

MEMORY = "512MiB"
DISK = "100MB"

CONF = """\
listeners.tcp.1 = 127.0.0.1:{port}
load_definitions = {folder}/definitions.json
vm_memory_high_watermark.absolute = {memory}
disk_free_limit.absolute = {disk}
log.console = false
"""

# Nobody listens but on loopback; schedulers that don't spin leave the CPU to the guests.
ERL_ARGS = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none +S 2:2"


class Broker(Kept):
    """One RabbitMQ node, and its epmd."""

    user = "vmhb"
    vhost = "vmhb"

    def __init__(self, *, folder: pathlib.Path | None = None, more: str = "", plugins: tuple[str, ...] = ()) -> None:
        """``folder``: where its state is, instead of one of its own under /tmp; it must be there and empty. ``more``:
        lines of rabbitmq.conf. ``plugins``: of RabbitMQ's own, enabled."""
        super().__init__()
        self._folder = folder
        self._more = more
        self._plugins = plugins
        self.password = secrets.token_hex(8)
        self.port = 0
        self._ports = [0, 0, 0]
        self._server = 0

    def __repr__(self) -> str:
        return f"<Broker 127.0.0.1:{self.port}{'' if self._processes else ' stopped'}>"

    @property
    def transport_url(self) -> str:
        """For oslo.messaging."""
        return f"rabbit://{self.user}:{self.password}@127.0.0.1:{self.port}/{self.vhost}"

    @property
    def pid(self) -> int:
        """Erlang's process; another one after each boot."""
        for pid, name in self.processes.family().items():
            if name == "beam.smp" and pid != self._server:
                return pid
        raise LabError("RabbitMQ does not run")

    def start(self) -> None:
        """Start the node on free ports and wait until it is ready (~5 s)."""
        folder = self._folder or pathlib.Path(tempfile.mkdtemp(prefix="vmhb-", dir="/tmp"))
        self._ports = free_ports(3)
        self.port = self._ports[0]
        (folder / "definitions.json").write_text(json.dumps(self._definitions()))
        (folder / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        conf = CONF.format(folder=folder, port=self.port, memory=MEMORY, disk=DISK)
        (folder / "rabbitmq.conf").write_text(conf + self._more)
        self._processes = Processes(folder)
        with ended_if_it_fails(self._processes):
            self.boot()

    def boot(self) -> None:
        """Start the node where it was halted: same port, durable queues and what is in them."""
        self._server = self.processes.spawn(
            [str(BIN / "rabbitmq-server")], log=self.folder / "server.out", env=self._env()
        )
        wait_until(self._ready, 180, "RabbitMQ is ready", every=0.2)

    def halt(self, *, kill: bool = False) -> float:
        """End the node, orderly or by SIGKILL, and keep its files. Returns the moment."""
        erlang = self.pid
        self.processes.signal(erlang, signal.SIGCONT)
        moment = self.processes.signal(erlang, signal.SIGKILL if kill else signal.SIGTERM)
        wait_until(
            lambda: self.processes.exit_of(self._server) is not None and erlang not in self.processes.family(),
            60,
            "RabbitMQ ends",
        )
        return moment

    def restart(self, *, kill: bool = False) -> float:
        """halt() and boot(); returns the moment at which the old one was told to end."""
        moment = self.halt(kill=kill)
        self.boot()
        return moment

    def freeze(self) -> float:
        """SIGSTOP: connections stay open and nothing is answered. Returns the moment."""
        return self.processes.signal(self.pid, signal.SIGSTOP)

    def thaw(self) -> float:
        """SIGCONT; returns the moment."""
        return self.processes.signal(self.pid, signal.SIGCONT)

    def memory_alarm(self, on: bool) -> None:
        """Raise or end the memory alarm: publishers are blocked while it is on."""
        limit = ["0"] if on else ["absolute", MEMORY]
        self.ctl("set_vm_memory_high_watermark", *limit)

    def disk_alarm(self, on: bool) -> None:
        """Raise or end the disk alarm: publishers are blocked while it is on."""
        self.ctl("set_disk_free_limit", "1000000GB" if on else DISK)

    def alarms(self) -> str:
        """The alarms in effect, as RabbitMQ prints them; empty when there are none."""
        alarms = self.ctl("eval", "rabbit_alarm:get_alarms().").strip()
        return "" if alarms == "[]" else alarms

    def ctl(self, *args: str, timeout: float = 60) -> str:
        """Run one rabbitmqctl command (~1 s), return its output; LabError when it fails or takes timeout x PATIENCE."""
        timeout *= PATIENCE
        try:
            done = subprocess.run(
                [BIN / "rabbitmqctl", "-q", *args],
                check=False,
                env=self._env(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"rabbitmqctl {args[0]}: no answer within {timeout:g} s") from error
        if done.returncode:
            raise LabError(f"rabbitmqctl {args[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def environ(self) -> dict[str, str]:
        """For who calls rabbitmqctl himself, of BIN."""
        return self._env()

    def _env(self) -> dict[str, str]:
        _, dist, epmd = self._ports
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),  # of Erlang's cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd),
            "RABBITMQ_NODENAME": "vmhb@localhost",
            "RABBITMQ_DIST_PORT": str(dist),
            "RABBITMQ_BASE": str(self.folder),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERL_ARGS,
        }

    def _definitions(self) -> dict[str, object]:
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        return {
            "users": [{"name": self.user, "password": self.password, "tags": "administrator"}],
            "vhosts": [{"name": self.vhost}],
            "permissions": [{"user": self.user, "vhost": self.vhost, **everything}],
        }

    def _ready(self) -> bool:
        """The port opens last of all, after users and queues are there."""
        code = self.processes.exit_of(self._server)
        if code is not None:
            said = (self.folder / "server.out").read_text()
            raise LabError(f"RabbitMQ ended at once ({code}): {said[-2000:]}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                # It answers what is not AMQP with the version it speaks.
                connection.sendall(b"AMQP\x00\x00\x00\x00")
                return connection.recv(4) == b"AMQP"
        except OSError:
            return False


def free_ports(number: int) -> list[int]:
    """So many ports of loopback that nobody listens on now."""
    found: list[int] = []
    while len(found) < number:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
