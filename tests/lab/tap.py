"""A tap on libvirtd's socket: passes everything on, and notes the calls that go by and take one of libvirtd's workers.

Whoever connects to ``uri`` instead of the node's own speaks to the same libvirtd. What is counted is what is really in
libvirtd at a time, seen from outside of the client, however it counts itself.

Wire format: libvirt's ``virnetprotocol.x`` (length, program, version, procedure, type, serial, status; XDR),
``remote_protocol.x`` (program 0x20008086) and ``qemu_protocol.x`` (program 0x20008087). A domain is name, uuid, id, and
the first argument of whatever concerns one.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import selectors
import socket
import struct
import threading
import time
import types
import uuid
from collections.abc import Collection, Iterable

HEADER = struct.Struct(">7I")
REMOTE_PROGRAM, QEMU_PROGRAM = 0x20008086, 0x20008087
AGENT_COMMAND = (QEMU_PROGRAM, 3)
ALL_STATISTICS = (REMOTE_PROGRAM, 344)
#: Of what clients of ours say, what remote_protocol.x marks `priority: high`: libvirtd has workers of their own for it,
#: who serve nothing else. Open, close, type, look up, features, authentication; state, control info, is it active or
#: persistent, version; lists of domains; events. Whatever does not stand here is taken for ordinary.
URGENT = frozenset((1, 2, 3, 23, 24, 60, 66, 150, 151, 157, 167, 168, 212, 229, 273, 316, 317))
#: Whose first argument is no domain, though it may look like one: capabilities, the map of processors.
OF_NO_DOMAIN = frozenset((7, 293))
#: A call that takes no longer (seconds) waited for nobody.
A_MOMENT = 0.5
CALL, REPLY = 0, 1


@dataclasses.dataclass
class Call:
    """One call: what, of which domains, when it was sent, and when its answer came (monotonic seconds)."""

    what: tuple[int, int]  # program, procedure
    uuids: tuple[str, ...]
    asked: float
    answered: float | None = None
    ok: bool = False

    @property
    def uuid(self) -> str:
        """Of the one domain that it concerns."""
        return self.uuids[0] if self.uuids else ""

    @property
    def is_agent_command(self) -> bool:
        """It comes back after its time-out, whatever the guest does."""
        return self.what == AGENT_COMMAND


@dataclasses.dataclass
class _Pipe:
    """One direction of one connection. ``open``: the connection's calls without an answer, by serial."""

    source: socket.socket
    sink: socket.socket
    open: dict[int, Call]
    unread: bytes = b""


class Tap:
    """Listens beside the node's socket, from its construction to ``close``. ``calls`` only grows."""

    def __init__(self, folder: pathlib.Path) -> None:
        """``folder``: the node's ``run``; there libvirtd's own socket is."""
        self._libvirtd = folder / "libvirt-sock"
        self._path = folder / "tapped-sock"
        self.uri = f"qemu+unix:///system?socket={self._path}"
        self.calls: list[Call] = []
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)
        self._thread.start()

    def __enter__(self) -> Tap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: types.TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Break all connections."""
        self._closing = True
        self._thread.join()
        self._path.unlink()

    @property
    def commands(self) -> list[Call]:
        """Of the calls, those of guest agents."""
        return [call for call in self.calls if call.is_agent_command]

    def most_calls(self) -> int:
        """How many calls of any kind were under way at a time, at most."""
        return _most(self.calls)

    def most_stuck(self, uuids: Collection[str], since: float = 0.0) -> int:
        """How many calls to these domains waited for QEMU at a time, at most: not for an agent, nor but a moment."""
        now = time.monotonic()
        waited = [c for c in self.calls if c.asked >= since and (c.answered or now) - c.asked >= A_MOMENT]
        return _most([c for c in waited if not c.is_agent_command and not set(uuids).isdisjoint(c.uuids)])

    def most(self, which: str | None = None) -> int:
        """How many commands (to one domain) were under way at a time, at most."""
        return _most([c for c in self.commands if which in (None, c.uuid)])

    def most_to_one(self) -> int:
        """The same, of the domain that had most."""
        return max((self.most(which) for which in {c.uuid for c in self.commands}), default=0)

    def answered(self, which: str) -> int:
        """How many commands to this domain were answered well."""
        return sum(c.ok for c in self.commands if c.uuid == which)

    def last_answer(self, which: str, before: float) -> float:
        """When a command to this domain was last answered well, before a moment."""
        return max(c.answered for c in self.commands if c.uuid == which and c.ok and c.answered and c.answered < before)

    def widest_gap(self, which: str, since: float, until: float) -> float:
        """The longest time (s) in which no command to this domain was answered well, between two moments."""
        answers = sorted(c.answered for c in self.commands if c.uuid == which and c.ok and c.answered is not None)
        moments = [since, *(at for at in answers if since < at < until), until]
        return max(after - before for before, after in itertools.pairwise(moments))

    def _run(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select(0.2):
                if key.data is None:
                    self._accept()
                else:
                    self._pass_on(key.data)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        libvirtd = socket.socket(socket.AF_UNIX)
        try:
            libvirtd.connect(str(self._libvirtd))
        except OSError:  # it does not run: neither do we
            client.close()
            libvirtd.close()
            return
        calls: dict[int, Call] = {}
        self._selector.register(client, selectors.EVENT_READ, _Pipe(client, libvirtd, calls))
        self._selector.register(libvirtd, selectors.EVENT_READ, _Pipe(libvirtd, client, calls))

    def _pass_on(self, pipe: _Pipe) -> None:
        try:
            received = pipe.source.recv(1 << 16)
            if received:
                self._note(pipe, received)  # before it is passed on: an answer must not overtake its question
                pipe.sink.sendall(received)
        except OSError:
            received = b""
        if not received:
            for end in (pipe.source, pipe.sink):
                if end.fileno() != -1:
                    self._selector.unregister(end)
                    end.close()
            for call in pipe.open.values():
                call.answered = time.monotonic()
            pipe.open.clear()

    def _note(self, pipe: _Pipe, received: bytes) -> None:
        pipe.unread += received
        while len(pipe.unread) >= HEADER.size:
            length, program, _, procedure, kind, serial, status = HEADER.unpack_from(pipe.unread)
            if len(pipe.unread) < length:
                return
            message, pipe.unread = pipe.unread[:length], pipe.unread[length:]
            if program == QEMU_PROGRAM or (program == REMOTE_PROGRAM and procedure not in URGENT):
                self._note_call(pipe, (program, procedure), message, kind, serial, status)

    def _note_call(
        self, pipe: _Pipe, what: tuple[int, int], message: bytes, kind: int, serial: int, status: int
    ) -> None:
        now = time.monotonic()
        if kind == CALL:
            call = Call(what, _domains(what, message[HEADER.size :]), now)
            pipe.open[serial] = call
            self.calls.append(call)
        elif kind == REPLY and serial in pipe.open:
            call = pipe.open.pop(serial)
            call.answered, call.ok = now, status == 0


def _most(calls: Iterable[Call]) -> int:
    changes = [change for c in calls for change in ((c.asked, 1), (c.answered or float("inf"), -1))]
    return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)


def _domains(what: tuple[int, int], arguments: bytes) -> tuple[str, ...]:
    """The uuids of the domains that a call is about; none where it names none."""
    if what[0] == REMOTE_PROGRAM and what[1] in OF_NO_DOMAIN:
        return ()
    number, at = 1, 0
    if what == ALL_STATISTICS:
        number, at = int.from_bytes(arguments[:4], "big"), 4
    found = []
    for _ in range(number):
        length = int.from_bytes(arguments[at : at + 4], "big")
        at += 4 + (length + 3) // 4 * 4
        if at + 20 > len(arguments):
            break
        found.append(str(uuid.UUID(bytes=arguments[at : at + 16])))
        at += 20
    return tuple(found)
