"""The process that holds the cloud, and how others speak with it.

`python -m tests.cloud.holder [OWNER]` brings the cloud up, says so on its standard output, and serves until it is told
to end, or gets SIGTERM, or the process OWNER ends. The keepers of `tests.lab` end everything with it, however it ends.
Requests and answers are JSON objects, one a line, one at a time, on a socket in the cloud's folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from tests.cloud import configs
from tests.cloud.cloud import Cloud
from tests.cloud.site import FOLDER, Site
from tests.lab.processes import LabError

#: Held by the holder. In the folder, and stays there.
LOCK = FOLDER / "lock"
SOCKET = FOLDER / "holder.sock"
#: What is left of a cloud that was up.
LOG = FOLDER / "log"
#: What the holder says; its last line is READY or begins with FAILED.
PROGRESS = FOLDER / "progress"
READY, FAILED = "the cloud is up", "FAILED: "
DOWN_SECONDS = 60.0
#: MariaDB, RabbitMQ, libvirtd, guests, and the processes that keep them.
REST = "the rest"


class Busy(LabError):
    """There is a cloud on this machine already."""


# -- the holder ------------------------------------------------------------------------------------------------------


class Holder:
    """Serves one cloud."""

    def __init__(self, cloud: Cloud, owner: int | None) -> None:
        self.cloud = cloud
        self._owner = owner  # a pidfd
        self._ending = False
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)

    def serve(self) -> None:
        """Until somebody wants it to end."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(SOCKET))
            listener.listen()
            watched: list[Any] = [listener, self._woken]
            watched += [] if self._owner is None else [self._owner]
            while not self._ending:
                ready, _, _ = select.select(watched, [], [])
                if ready != [listener]:
                    return
                connection, _ = listener.accept()
                with connection, connection.makefile("rw") as stream:
                    self._answer(stream)

    def _answer(self, stream: Any) -> None:
        request = json.loads(stream.readline() or "{}")
        verb = request.pop("do", "nothing")
        try:
            answer = {"answer": getattr(self, f"do_{verb}")(**request)}
        except Exception as error:  # whoever asked is told
            answer = {"error": f"{verb}: {type(error).__name__}: {error}"}
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(answer), file=stream, flush=True)

    def do_end(self) -> int:
        """End after this answer: this process ends last. Its pid."""
        self._ending = True
        return os.getpid()

    def do_site(self) -> dict[str, Any]:
        """What a client of the cloud has to know."""
        site = self.cloud.site
        return {"transport_url": site.transport_url, "ports": site.ports}

    def do_status(self) -> list[dict[str, Any]]:
        """Name, pid and memory (bytes, proportional, with its children) of each service that was started; and of REST,
        with the pid of this process, all else that runs because of this cloud."""
        services = {name: service for name, service in self.cloud.services.items() if service.pid}
        trees = {name: set(_tree(service.pid)) for name, service in services.items()}
        rest = {os.getpid(), *self.do_family()}.difference(*trees.values())
        return [
            *(
                {"name": name, "pid": service.pid, "runs": service.runs, "pss": _pss(trees[name])}
                for name, service in services.items()
            ),
            {"name": REST, "pid": os.getpid(), "runs": True, "pss": _pss(rest)},
        ]

    def do_halt(self, name: str, kill: bool = False) -> float:
        """End a service; the moment it was told (monotonic seconds)."""
        return self.cloud.services[name].halt(kill=kill)

    def do_boot(self, name: str) -> None:
        """Start it again."""
        self.cloud.services[name].boot()

    def do_broker(self, kill: bool = False) -> float:
        """Restart RabbitMQ."""
        return self.cloud.broker.restart(kill=kill)

    def do_libvirtd(self, node: str, kill: bool = False) -> float:
        """Restart a node's libvirtd."""
        return self.cloud.nodes[node].restart_libvirtd(kill=kill)

    def do_driver(self, node: str, driver: str) -> None:
        """Restart nova-compute with another compute_driver."""
        config = configs.text(configs.nova_compute(self.cloud.site, node, driver))
        configs.put(self.cloud.site.etc / "nova" / f"{node}.conf", config)
        service = self.cloud.services[f"nova-compute-{node}"]
        service.halt()
        service.boot()

    def do_tasks(self, ours: bool) -> None:
        """Restart masakari-engine with our recovery tasks, or with its own."""
        config: configs.Config = {**configs.masakari(self.cloud.site), **(configs.OUR_TASKS if ours else {})}
        configs.put(self.cloud.site.etc / "masakari/masakari.conf", configs.text(config))
        service = self.cloud.services["masakari-engine"]
        service.halt()
        service.boot()

    def do_qemu(self, node: str, domain: str, number: int) -> float:
        """Signal a guest's QEMU; the moment."""
        lab = self.cloud.nodes[node]
        pid = int((lab.folder / "run/qemu" / f"{domain}.pid").read_text())
        return lab.processes.signal(pid, signal.Signals(number))

    def do_family(self) -> list[int]:
        """The pids of everything that runs because of this cloud, but for this process."""
        keepers = [self.cloud.control, self.cloud.broker.processes, *(n.processes for n in self.cloud.nodes.values())]
        return sorted({pid for keeper in keepers for pid in (keeper.keeper_pid, *keeper.family())})


def _pss(pids: Iterable[int]) -> int:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, StopIteration):
            lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _tree(int(child))


def main() -> int:
    """Exit code: 0 it was up and is down; 1 it did not come up; 2 there is another."""
    owner = os.pidfd_open(int(sys.argv[1])) if len(sys.argv) > 1 else None
    began = time.monotonic()
    try:
        lock = hold()
    except Busy as error:
        print(f"{FAILED}{error}", flush=True)
        return 2

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - began:5.1f}] {text}", flush=True)

    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the terminal is that of whoever started us
    cloud = None
    code = 1
    try:
        _empty()
        cloud = Cloud(Site(), tell)
        cloud.up()
        holder = Holder(cloud, owner)
        signal.signal(signal.SIGTERM, lambda *_: None)  # it wakes the holder, who ends
        tell(READY)
        holder.serve()
        code = 0
    except LabError as error:
        print(f"{FAILED}{error}", flush=True)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if cloud is not None:
            cloud.down()
        if code == 0:  # or else somebody wants to see why it did not come up
            _empty(LOG)
        with contextlib.suppress(OSError):
            SOCKET.unlink()
        os.close(lock)
    return code


def hold() -> int:
    """The lock of this machine's cloud. Raises Busy."""
    FOLDER.mkdir(mode=0o755, exist_ok=True)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Busy(
            f"a cloud is up, or coming up, on this machine already, and there is room for one: {FOLDER}. "
            "tools/cloud status says what runs in it, tools/cloud down ends it."
        ) from None
    return lock


def _empty(*kept: pathlib.Path) -> None:
    for entry in FOLDER.iterdir():
        if entry not in (LOCK, PROGRESS, *kept):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _stop(number: int, frame: object) -> NoReturn:
    raise LabError("told to end before it was up")


# -- whoever speaks with it ------------------------------------------------------------------------------------------


class Client:
    """The way to the holder of this machine's cloud."""

    def ask(self, verb: str, **arguments: Any) -> Any:
        """Raises LabError: there is none, or it could not."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(SOCKET))
                with connection.makefile("rw") as stream:
                    print(json.dumps({"do": verb, **arguments}), file=stream, flush=True)
                    answer = json.loads(stream.readline())
        except (OSError, ValueError) as error:
            raise LabError(f"no cloud is up on this machine ({error}): tools/cloud up") from error
        if "error" in answer:
            raise LabError(answer["error"])
        return answer["answer"]

    @property
    def site(self) -> Site:
        """The cloud's."""
        told = self.ask("site")
        return Site(FOLDER, told["transport_url"], told["ports"])

    def end(self) -> None:
        """Returns when nothing of the cloud runs any more."""
        try:
            holder = os.pidfd_open(self.ask("end"))
        except ProcessLookupError:
            return  # it was quick
        ended, _, _ = select.select([holder], [], [], DOWN_SECONDS)
        os.close(holder)
        if not ended:
            raise LabError(f"the cloud does not end: see {PROGRESS}")


def is_up() -> bool:
    """Is there a cloud that answers?"""
    try:
        Client().ask("site")
    except LabError:
        return False
    return True


def start(owner: int | None = None, show: Any = print) -> Client:
    """Start a holder, and show what it says until the cloud is up. owner: the pid of whoever it must not outlive.

    Raises Busy, LabError.
    """
    os.close(hold())  # before its progress is overwritten
    with PROGRESS.open("wb") as progress:
        holder = subprocess.Popen(
            [sys.executable, "-m", "tests.cloud.holder", *([] if owner is None else [str(owner)])],
            stdin=subprocess.DEVNULL,
            stdout=progress,
            stderr=progress,
            start_new_session=True,
        )
    last = ""
    with PROGRESS.open() as said:
        while True:
            ended = holder.poll() is not None
            while line := said.readline():
                last = line.rstrip("\n")
                show(last)
            if last.endswith(READY):
                return Client()
            if ended:
                raise LabError(f"the cloud did not come up: {last}. Logs: {FOLDER}/log")
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
