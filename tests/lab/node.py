"""A compute node of our own: a libvirtd in its own mount and UTS namespaces, and its QEMUs.

Inside, the node sees its own /etc/libvirt, /var/lib/libvirt, /run/libvirt …: libvirtd, and whatever
is run beside it, find everything at the usual paths. Outside, the same files are in ``folder``.
The machine's own libvirtd, if there is one, is neither used nor touched.
"""

from __future__ import annotations

import pathlib
import secrets
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence

from .processes import PATIENCE, Kept, LabError, Processes, ended_if_it_fails, wait_until

# The node's folder -> where libvirt looks for it.
MOUNTS = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
    "etc": "/etc/libvirt",
}

LIBVIRTD_CONF = """\
unix_sock_dir = "{folder}/run"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "{uuid}"
log_outputs = "2:file:{folder}/log/libvirtd.log"
"""

# Root and no security driver, because the paths are not those that a policy knows; no cgroups and
# no logging daemon, because neither exists without systemd. Migration listens on an address of
# loopback that is the node's own: libvirt refuses 127.0.0.1, and two nodes may want one port.
QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
migration_address = "{address}"
migration_host = "{address}"
"""

# No system bus: through it libvirtd would register our guests with the machine's systemd, under
# names that the machine's own libvirtd may want, and talk to its firewall.
LIBVIRTD_ENV = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent",
}


class Node(Kept):
    """One libvirtd.

    Thread-safe as far as libvirtd is: several threads may call ``virsh`` at once.
    """

    def __init__(
        self,
        name: str = "lab-node",
        *,
        folder: pathlib.Path | None = None,
        mounts: Mapping[str, str] | None = None,
    ) -> None:
        """``folder``: where its state is, instead of one of its own under /tmp; it must not exist,
        and its path must be short. ``mounts``: more of MOUNTS."""
        super().__init__()
        self.name = name
        self._mounts = {**MOUNTS, **(mounts or {})}
        self._folder = folder
        self.uuid = str(uuid.uuid4())
        self.address = f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(256)}.1"
        self._libvirtd = 0

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.folder if self._processes else 'stopped'}>"

    @property
    def uri(self) -> str:
        """For libvirt clients inside and outside the node's namespaces."""
        return f"qemu+unix:///system?socket={self.folder}/run/libvirt-sock"

    @property
    def pid(self) -> int:
        """libvirtd's process; another one after each restart."""
        return self._libvirtd

    def start(self) -> None:
        """Start libvirtd and wait until it answers (~1 s)."""
        # Short: a unix socket's path has 108 bytes, and libvirt puts some 80 after this.
        folder = self._folder or pathlib.Path(tempfile.mkdtemp(prefix="vmhb-", dir="/tmp"))
        for name in (*self._mounts, "etc/qemu", "etc/nwfilter", "etc/secrets", "console", "control"):
            (folder / name).mkdir(parents=True)
        (folder / "etc/libvirtd.conf").write_text(LIBVIRTD_CONF.format(folder=folder, uuid=self.uuid))
        (folder / "etc/qemu.conf").write_text(QEMU_CONF.format(address=self.address))
        for target in self._mounts.values():
            # Missing where systemd's tmpfiles never ran; an empty folder is all we leave behind.
            pathlib.Path(target).mkdir(parents=True, exist_ok=True)
        self._processes = Processes(
            folder,
            hostname=self.name,
            mounts=[(folder / source, target) for source, target in self._mounts.items()],
        )
        with ended_if_it_fails(self._processes):
            self.boot_libvirtd()

    def boot_libvirtd(self) -> None:
        """Start libvirtd where none runs, and wait until it answers; it finds its guests again."""
        config = self.folder / "etc/libvirtd.conf"
        self._libvirtd = self.spawn(
            ["/usr/sbin/libvirtd", "-f", str(config), "-p", str(self.folder / "libvirtd.pid")],
            log=self.folder / "log/libvirtd.out",
            env=LIBVIRTD_ENV,
        )
        wait_until(self._answers, 60, f"libvirtd of {self.name} answers")

    def halt_libvirtd(self, *, kill: bool = False) -> float:
        """End libvirtd only, by SIGTERM or SIGKILL; its guests keep running. Returns the moment."""
        self.processes.signal(self._libvirtd, signal.SIGCONT)
        moment = self.processes.signal(self._libvirtd, signal.SIGKILL if kill else signal.SIGTERM)
        wait_until(
            lambda: self.processes.exit_of(self._libvirtd) is not None,
            30,
            f"libvirtd of {self.name} ends",
        )
        return moment

    def restart_libvirtd(self, *, kill: bool = False) -> float:
        """halt_libvirtd() and boot_libvirtd(); returns the moment at which the old one ended."""
        moment = self.halt_libvirtd(kill=kill)
        self.boot_libvirtd()
        return moment

    def freeze(self) -> float:
        """SIGSTOP libvirtd: it accepts connections and answers nothing. Returns the moment."""
        return self.processes.signal(self._libvirtd, signal.SIGSTOP)

    def thaw(self) -> float:
        """SIGCONT libvirtd; returns the moment."""
        return self.processes.signal(self._libvirtd, signal.SIGCONT)

    def virsh(self, *args: str, timeout: float = 60, check: bool = True) -> str:
        """Run one virsh command, return its output; LabError when it fails or takes too long."""
        timeout *= PATIENCE
        try:
            done = subprocess.run(
                ["virsh", "-q", "-c", self.uri, *args],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"virsh {' '.join(args)}: no answer within {timeout:g} s") from error
        if check and done.returncode:
            raise LabError(f"virsh {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def inside(self, *argv: str) -> list[str]:
        """A command line that runs ``argv`` in the node's namespaces, for subprocess."""
        pid = str(self.processes.keeper_pid)
        return ["nsenter", "--target", pid, "--mount", "--uts", "--", *argv]

    def spawn(self, argv: Sequence[str], *, log: pathlib.Path, env: Mapping[str, str] | None = None) -> int:
        """Start a program in the node's namespaces, for as long as the node; return its pid."""
        return self.processes.spawn(argv, log=log, env=env)

    def outside(self, path: str) -> pathlib.Path:
        """Where a path that libvirt names (in a live XML, say) is seen from out here."""
        for source, target in self._mounts.items():
            if path == target or path.startswith(target + "/"):
                return self.folder / source / path[len(target) + 1 :]
        return pathlib.Path(path)

    def _answers(self) -> bool:
        code = self.processes.exit_of(self._libvirtd)
        if code is not None:
            logs = sorted(self.folder.glob("log/libvirtd.*"))  # .log may not have been reached
            said = "".join(log.read_text() for log in logs)
            raise LabError(f"libvirtd of {self.name} ended at once ({code}): {said[-2000:]}")
        try:
            self.virsh("uri", timeout=5)
        except LabError:
            return False
        return True
