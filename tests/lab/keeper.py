"""A small process that keeps the lab's processes, and ends all of them when its owner ends.

Run as a script, never imported by what it serves (``processes.py`` is the other end of its
socket). It stands between the owner and libvirtd or RabbitMQ for three reasons:

* libvirtd daemonises QEMU and Erlang daemonises epmd, out of reach of any parent. The keeper is
  their *child subreaper*: whatever loses its parent below it becomes its child.
* The owner may die of SIGKILL. The keeper holds a pidfd of it, which, unlike a pipe, no forked
  sibling can keep open, and, unlike PR_SET_PDEATHSIG, does not fire when a mere thread ends.
* A child that was not reaped keeps its pid, and the keeper alone reaps: so a signal can't reach
  a stranger who was given the pid of one of ours.

It is two processes, so that it may be killed too: one serves the owner, the other only watches.
When the server dies, its children become the watcher's, who ends them; when the watcher dies, the
server is told (PR_SET_PDEATHSIG) and ends everything itself.

One request and one answer at a time, JSON objects, one per line, on fd 0.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
PR_SET_CHILD_SUBREAPER = 36


class OwnerGone(Exception):
    """The owner ended, or wants us to: time to end everything."""


def parent_and_name(pid: int) -> tuple[int, str, str]:
    """Parent pid, command name and state letter of a process (proc(5), /proc/PID/stat)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
        text = stat.read()
    name = text[text.index("(") + 1 : text.rindex(")")]
    state, parent = text[text.rindex(")") + 2 :].split()[:2]
    return int(parent), name, state


def family() -> dict[int, str]:
    """All living descendants of this process: pid -> command name."""
    seen: dict[int, tuple[int, str, str]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            # It may end while we look.
            with contextlib.suppress(OSError, ValueError):
                seen[int(entry)] = parent_and_name(int(entry))
    ours: dict[int, str] = {}
    generation = {os.getpid()}
    while generation:
        generation = {pid for pid, (parent, _, _) in seen.items() if parent in generation}
        ours.update((pid, seen[pid][1]) for pid in generation if seen[pid][2] != "Z")
    return ours


class Keeper:
    """Serves one owner, of whom it has a pidfd, until either side ends."""

    def __init__(self, owner: int) -> None:
        self.exits: dict[int, int] = {}
        self.spawned: set[int] = set()
        self.owner = owner
        self.socket = socket.socket(fileno=0)
        self.woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)

    def serve(self) -> None:
        """Answer until the owner is gone."""
        unread = b""
        while True:
            ready, _, _ = select.select([self.owner, self.socket.fileno(), self.woken], [], [])
            if self.woken in ready and signal.SIGTERM in os.read(self.woken, 4096):
                raise OwnerGone
            self.reap()
            if self.owner in ready:
                raise OwnerGone
            if self.socket.fileno() in ready:
                received = self.socket.recv(65536)
                if not received:
                    raise OwnerGone
                *lines, unread = (unread + received).split(b"\n")
                for line in lines:
                    self.socket.sendall(json.dumps(self.answer(json.loads(line))).encode() + b"\n")

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one request asks; an OSError becomes the answer's ``error``."""
        verb = request.pop("do")
        try:
            return dict(getattr(self, f"do_{verb}")(**request))
        except OSError as error:
            return {"error": str(error)}

    def do_spawn(self, argv: list[str], env: dict[str, str], log: str, folder: str) -> dict[str, Any]:
        """Start a program; its output is appended to ``log``."""
        with open(log, "ab") as output:
            child = subprocess.Popen(
                argv,
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.spawned.add(child.pid)
        child.returncode = 0  # reap() collects it; Popen must not try
        return {"pid": child.pid}

    def do_signal(self, pid: int, number: int) -> dict[str, Any]:
        """Signal one of ours; tells the moment of it (CLOCK_MONOTONIC, the same for all)."""
        with contextlib.closing(_Pidfd(pid)) as process:
            # Checked after the pidfd was opened: from here on it means this very process.
            if pid not in family():
                return {"error": f"process {pid} is not one of the lab's"}
            moment = time.monotonic()
            signal.pidfd_send_signal(process.fd, number)
        return {"moment": moment}

    def do_exit_of(self, pid: int) -> dict[str, Any]:
        """How a spawned program ended (as Popen's returncode), None while it runs."""
        if pid not in self.spawned:
            return {"error": f"process {pid} was not spawned here"}
        return {"code": self.exits.get(pid)}

    def do_family(self) -> dict[str, Any]:
        """Every living process of ours: pid, command name."""
        return {"family": sorted(family().items())}

    def reap(self) -> None:
        """Collect the exits of children, adopted ones included."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid in self.spawned:
                    self.exits[pid] = os.waitstatus_to_exitcode(status)


class _Pidfd:
    """A pidfd that ``contextlib.closing`` can close."""

    def __init__(self, pid: int) -> None:
        self.fd = os.pidfd_open(pid)

    def close(self) -> None:
        os.close(self.fd)


def end_family() -> None:
    """SIGKILL every descendant, generation by generation.

    Only direct children are signalled: they can't be reaped but by us, so their pids are theirs.
    The children of each one killed become ours, until waitpid() says that nobody is left.
    """
    while True:
        for pid in family():
            with contextlib.suppress(OSError):
                if parent_and_name(pid)[0] == os.getpid():
                    os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def subreaper() -> None:
    """Adopt whoever loses its parent among our descendants (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def prepare(plan: dict[str, Any]) -> dict[str, Any]:
    """Name and furnish the namespaces that we were started in; the first answer to the owner."""
    if plan["hostname"]:
        socket.sethostname(plan["hostname"])
    for source, target in plan["mounts"]:
        done = subprocess.run(["mount", "--bind", source, target], check=False, capture_output=True, text=True)
        if done.returncode:
            return {"error": f"mount --bind {source} {target}: {done.stderr.strip()}"}
    return {"ready": True}


def serve(owner: int, watcher: int, plan: dict[str, Any]) -> None:
    """The serving process: prepare the namespaces, answer until owner or watcher is gone."""
    subreaper()
    keeper = Keeper(owner)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != watcher:
        return
    with contextlib.suppress(OwnerGone, BrokenPipeError, ConnectionResetError):
        keeper.socket.sendall(json.dumps(prepare(plan)).encode() + b"\n")
        keeper.serve()


def watch(server: int) -> None:
    """The watching process: wait until the server is gone, or until we are told to end."""
    os.close(0)  # or else the owner would not notice that the server is gone
    while os.waitpid(-1, 0)[0] != server:
        pass


def main() -> None:
    """``keeper.py OWNER PLAN``: the plan is ``{hostname, mounts: [[from, to]], remove: path}``.

    Host name and mounts are only for a keeper that was started in namespaces of its own.
    """
    owner, plan = int(sys.argv[1]), json.loads(sys.argv[2])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    subreaper()
    owner_pidfd = os.pidfd_open(owner)
    if os.getppid() != owner:
        return  # it ended before we could hold on to it
    watcher = os.getpid()
    server = os.fork()
    try:
        if server:
            watch(server)
        else:
            serve(owner_pidfd, watcher, plan)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing interrupts this
        end_family()
        shutil.rmtree(plan["remove"], ignore_errors=True)


if __name__ == "__main__":
    main()
