"""A tap on libvirtd's socket: passes everything on, and notes the guest-agent commands that go by.

Whoever connects to ``uri`` instead of the node's own speaks to the same libvirtd. What is counted is what is really in
libvirtd at a time, seen from outside of the client, however it counts itself.

Wire format: libvirt's ``virnetprotocol.x`` (length, program, version, procedure, type, serial, status; XDR) and
``qemu_protocol.x`` (program 0x20008087, procedure 3; its first argument is a domain: name, uuid, id).
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

HEADER = struct.Struct(">7I")
QEMU_PROGRAM, AGENT_COMMAND = 0x20008087, 3
CALL, REPLY = 0, 1


@dataclasses.dataclass
class Command:
    """One guest-agent command: of whom, when it was sent, and when its answer came (monotonic seconds)."""

    uuid: str
    asked: float
    answered: float | None = None
    ok: bool = False


@dataclasses.dataclass
class _Pipe:
    """One direction of one connection. ``open``: the connection's commands without an answer, by serial."""

    source: socket.socket
    sink: socket.socket
    open: dict[int, Command]
    unread: bytes = b""


class Tap:
    """Listens beside the node's socket, from its construction to ``close``. ``commands`` only grows."""

    def __init__(self, folder: pathlib.Path) -> None:
        """``folder``: the node's ``run``; there libvirtd's own socket is."""
        self._libvirtd = folder / "libvirt-sock"
        self._path = folder / "tapped-sock"
        self.uri = f"qemu+unix:///system?socket={self._path}"
        self.commands: list[Command] = []
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

    def most(self, which: str | None = None) -> int:
        """How many commands (to one domain) were under way at a time, at most."""
        commands = [c for c in self.commands if which in (None, c.uuid)]
        changes = [(c.asked, 1) for c in commands] + [(c.answered, -1) for c in commands if c.answered]
        return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)

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
        commands: dict[int, Command] = {}
        self._selector.register(client, selectors.EVENT_READ, _Pipe(client, libvirtd, commands))
        self._selector.register(libvirtd, selectors.EVENT_READ, _Pipe(libvirtd, client, commands))

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
            for command in pipe.open.values():
                command.answered = time.monotonic()
            pipe.open.clear()

    def _note(self, pipe: _Pipe, received: bytes) -> None:
        pipe.unread += received
        while len(pipe.unread) >= HEADER.size:
            length, program, _, procedure, kind, serial, status = HEADER.unpack_from(pipe.unread)
            if len(pipe.unread) < length:
                return
            message, pipe.unread = pipe.unread[:length], pipe.unread[length:]
            if (program, procedure) == (QEMU_PROGRAM, AGENT_COMMAND):
                self._note_command(pipe, message, kind, serial, status)

    def _note_command(self, pipe: _Pipe, message: bytes, kind: int, serial: int, status: int) -> None:
        now = time.monotonic()
        if kind == CALL:
            name_length = int.from_bytes(message[HEADER.size : HEADER.size + 4], "big")
            at = HEADER.size + 4 + (name_length + 3) // 4 * 4
            command = Command(str(uuid.UUID(bytes=message[at : at + 16])), now)
            pipe.open[serial] = command
            self.commands.append(command)
        elif kind == REPLY and serial in pipe.open:
            command = pipe.open.pop(serial)
            command.answered, command.ok = now, status == 0
