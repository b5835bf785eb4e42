"""Guests in a process of their own: unix sockets that answer challenges, and a hypervisor that shows them.

    python -m benchmarks.guests FOLDER NUMBER    is that process: says "ready", and at its end what it saw, as JSON

It keeps when each challenge came, so that it can tell how late they were: later than the earliest of the same guest
would have it, at the interval that was asked for.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import select
import socket
import subprocess
import sys
import time
from array import array
from pathlib import Path
from typing import Any

from vmhb_common.model.policy import POLICY_NS
from vmhb_worker.core import events as ev
from vmhb_worker.interfaces import Post

_XML = """<domain type='simulated'><name>bench-{number}</name><uuid>{uuid}</uuid>
<metadata><vmhb:heartbeat xmlns:vmhb='{ns}' version='1' {knobs}/></metadata>
<devices><channel type='unix'><source mode='bind' path='{path}'/>
<target type='virtio' name='org.openstack.vmhb.0' state='connected'/></channel></devices></domain>"""


def unlimited(number: int) -> None:
    """Room for so many sockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, number + 256), hard))


class Hypervisor:
    """Implements `interfaces.Hypervisor` for instances whose guests are in another process."""

    def __init__(self, folder: Path, number: int, knobs: dict[str, str]) -> None:
        words = " ".join(f"{name}='{value}'" for name, value in {"channel": "application", **knobs}.items())
        self.uuids = [f"00000000-0000-4000-8000-{n:012x}" for n in range(number)]
        self._domains = tuple(
            ev.DomainSeen(
                uuid,
                _XML.format(number=n, uuid=uuid, ns=POLICY_NS, knobs=words, path=folder / str(n)),
                *("running", "booted", "boot-1"),
            )
            for n, uuid in enumerate(self.uuids)
        )
        self._post: Post = lambda report: None
        self.folder: Path | None = None

    def open(self, post: Post) -> None:
        """Connected at once, and heard for as long as this lasts."""
        self._post = post
        post(ev.HypervisorUp(self._domains))

    def describe(self, uuid: str) -> None:
        """Nobody asks."""

    def look(self, uuid: str, look: ev.Look) -> None:
        """Nothing can be told."""
        self._post(ev.Happened(uuid, ev.Looked(look, ev.Unavailable("simulated"))))

    def agent_command(self, uuid: str, command: str, timeout: int) -> str:
        """They have no agent."""
        raise AssertionError

    def write_state(self, uuid: str, element: str) -> None:
        """Nobody reads it."""

    def provision(self, uuid: str, step: ev.Step) -> None:
        """Nothing is missing."""

    def identity(self) -> str | None:
        """Its own."""
        return f"bench-{os.getpid()}"

    def close(self, timeout: float) -> None:
        """Stop posting."""
        self._post = lambda report: None


class Guests:
    """The other process, for whoever measures. Guest 0 floods while it is told to."""

    def __init__(self, folder: Path, number: int) -> None:
        command = [sys.executable, "-m", "benchmarks.guests", str(folder), str(number)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._read() == "ready"

    def tell(self, word: str) -> None:
        """`mark`: what is seen counts from now on. `flood`, `calm`: guest 0. `mute`: guest 1 answers no more."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        assert self._read() == word

    def end(self) -> dict[str, Any]:
        """What it saw since the last mark: challenges, how late each was (seconds), and how many were skipped."""
        assert self._process.stdin is not None
        self._process.stdin.write("end\n")
        self._process.stdin.flush()
        seen: dict[str, Any] = json.loads(self._read())
        self._process.wait()
        return seen

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class _Process:
    def __init__(self, folder: Path, number: int) -> None:
        unlimited(2 * number)
        self._epoll = select.epoll()
        self._listeners: dict[int, tuple[int, socket.socket]] = {}
        self._guests: dict[int, tuple[int, socket.socket]] = {}
        self._tails: dict[int, bytes] = {}
        self._times = [array("d") for _ in range(number)]
        self._flooding = False
        self._mute = -1
        for n in range(number):
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(str(folder / str(n)))
            listener.listen(1)
            self._listeners[listener.fileno()] = (n, listener)
            self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._epoll.register(0, select.EPOLLIN)

    def run(self) -> None:
        print("ready", flush=True)
        while True:
            for fd, ready in self._epoll.poll(0 if self._flooding else None, 512):
                if fd == 0:
                    if self._told(sys.stdin.readline().strip()):
                        return
                elif fd in self._listeners:
                    self._accept(*self._listeners[fd])
                else:
                    self._answer(fd, ready)
            if self._flooding:
                self._flood()

    def _told(self, word: str) -> bool:
        if word == "end":
            seen = [lateness(times) for times in self._times[2:]]
            late = [value for values, _ in seen for value in values]
            skipped = sum(number for _, number in seen)
            print(json.dumps({"challenges": sum(map(len, self._times)), "late": late, "skipped": skipped}), flush=True)
            return True
        if word == "mark":
            self._times = [array("d") for _ in self._times]
        if word in ("flood", "calm"):
            self._flooding = word == "flood"
        if word == "mute":
            self._mute = 1
        print(word, flush=True)
        return False

    def _accept(self, number: int, listener: socket.socket) -> None:
        sock, _ = listener.accept()
        self._epoll.unregister(listener.fileno())
        del self._listeners[listener.fileno()]
        listener.close()  # a process has so many descriptors, and one for each guest is what there must be
        sock.setblocking(False)
        self._guests[sock.fileno()] = (number, sock)
        self._tails[number] = b""
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _answer(self, fd: int, ready: int) -> None:
        number, sock = self._guests[fd]
        data = b""
        with contextlib.suppress(ConnectionError):  # closed over what it had not read
            data = sock.recv(65536) if ready & select.EPOLLIN else b""
        if not data:
            self._epoll.unregister(fd)
            del self._guests[fd]
            sock.close()
            return
        *lines, self._tails[number] = (self._tails[number] + data).split(b"\n")
        now = time.monotonic()
        for line in lines:
            if not line or b'"challenge"' not in line:
                continue
            self._times[number].append(now)
            if number == self._mute:
                continue
            asked = json.loads(line)
            answer = {"type": "ack", "seq": asked["seq"], "nonce": asked["nonce"]}
            with contextlib.suppress(BlockingIOError, ConnectionError):  # guest 0, while it floods; or the end
                sock.send(json.dumps(answer).encode() + b"\n")

    def _flood(self) -> None:
        for number, sock in self._guests.values():
            if number == 0:
                try:
                    while True:
                        sock.send(b'{"type":"ack","seq":1,"nonce":"0123456789abcdef"}\n' * 256)
                except BlockingIOError:
                    return


def lateness(times: array[float], interval: float = 1.0) -> tuple[list[float], int]:
    """How late each was, and how many never came that were due between two that did.

    The grid is that of the earliest: nothing is sent before its time. Nor is anything sent more than half an interval
    late: that beat is skipped, see `vmhb_worker.core.beats.TARDY`.
    """
    if len(times) < 2:
        return [], 0
    beats = [0]
    for before, at in itertools.pairwise(times):
        beats.append(beats[-1] + max(1, round((at - before) / interval)))
    first = min(at - beat * interval for beat, at in zip(beats, times, strict=True))
    late = [at - beat * interval - first for beat, at in zip(beats, times, strict=True)]
    return late, beats[-1] + 1 - len(times)


if __name__ == "__main__":
    _Process(Path(sys.argv[1]), int(sys.argv[2])).run()
