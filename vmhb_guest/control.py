"""How `vmhb-guest status` and its like reach the daemon: one JSON object there, one back, over a socket of root's."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from collections.abc import Callable, Mapping
from typing import Any

from vmhb_guest.faults import Faults
from vmhb_guest.notify import remove_socket

#: Callers at a time, the bytes of a question, and how long one may take its time, in seconds.
MAX_CALLERS, MAX_REQUEST, PATIENCE = 8, 4096, 10.0
#: Bytes of an answer that a caller reads: many times of what a daemon can have to say.
MAX_ANSWER = 4 << 20


class _Caller:
    def __init__(self, connection: socket.socket, until: float) -> None:
        self.socket = connection
        self.until = until
        self.asked = b""
        self.answer = b""


class Desk:
    """The daemon's end. Not thread-safe; nothing blocks."""

    def __init__(
        self, path: str, answer: Callable[[Mapping[str, Any]], Mapping[str, Any]], faults: Faults | None = None
    ) -> None:
        """Bind it; OSError where that can't be. `answer` must return at once; ValueError says what is wrong."""
        self.path = path
        self._faults = faults or Faults()
        self._answer = answer
        self._callers: dict[int, _Caller] = {}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        remove_socket(path)
        self.socket.bind(path)
        os.chmod(path, 0o600)
        self.socket.listen(MAX_CALLERS)

    def accept(self, poll: select.epoll, now: float) -> None:
        """Somebody calls."""
        with contextlib.suppress(OSError):
            connection, _ = self.socket.accept()
            connection.setblocking(False)
            if len(self._callers) >= MAX_CALLERS:
                connection.close()
                return
            self._callers[connection.fileno()] = _Caller(connection, now + PATIENCE)
            poll.register(connection.fileno(), select.EPOLLIN)

    def serve(self, fd: int, poll: select.epoll) -> bool:
        """Go on with a caller; False for what isn't one's descriptor."""
        caller = self._callers.get(fd)
        if caller is None:
            return False
        try:
            if caller.answer:
                caller.answer = caller.answer[caller.socket.send(caller.answer) :]
                if not caller.answer:
                    self._leave(fd, poll)
                return True
            data = caller.socket.recv(MAX_REQUEST)
        except BlockingIOError:
            return True
        except OSError:
            self._leave(fd, poll)
            return True
        caller.asked += data
        if b"\n" in caller.asked:
            caller.answer = self._reply(caller.asked.partition(b"\n")[0])
            poll.modify(fd, select.EPOLLOUT)
        elif not data or len(caller.asked) > MAX_REQUEST:
            self._leave(fd, poll)
        return True

    def tidy(self, poll: select.epoll, now: float) -> None:
        """Hang up on those who say nothing."""
        for fd in [fd for fd, caller in self._callers.items() if caller.until < now]:
            self._leave(fd, poll)

    def close(self) -> None:
        """No more calls."""
        for caller in self._callers.values():
            caller.socket.close()
        self.socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def _leave(self, fd: int, poll: select.epoll) -> None:
        poll.unregister(fd)
        self._callers.pop(fd).socket.close()

    def _reply(self, line: bytes) -> bytes:
        reply = _line({"error": "vmhb-guest failed at this question: see its log"})
        with self._faults.of("a caller's question"):
            reply = self._judge(line)
        return reply

    def _judge(self, line: bytes) -> bytes:
        try:
            asked = json.loads(line.decode())
            if not isinstance(asked, dict):
                raise ValueError("not an object")
            answer = dict(self._answer(asked))
        except (ValueError, RecursionError) as error:
            answer = {"error": str(error)}
        return _line(answer)


def _line(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def call(path: str, timeout: float = PATIENCE, **question: Any) -> dict[str, Any]:
    """Ask the daemon. OSError where there is none, ValueError with what it objects to. Blocks for `timeout` seconds."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(timeout)
        one.connect(path)
        one.sendall(json.dumps(question).encode() + b"\n")
        with one.makefile("rb") as answers:
            line = answers.readline(MAX_ANSWER)
    answer = json.loads(line) if line else {"error": "the daemon hung up"}
    if not isinstance(answer, dict) or "error" in answer:
        raise ValueError(answer["error"] if isinstance(answer, dict) else "the daemon talks nonsense")
    return answer
