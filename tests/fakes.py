"""Every fake of the unit tests, written by hand. One section for each module that is stood in for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

# -- for rpc: the engine -----------------------------------------------------------------------------------------------


class CalledEngine:
    """Notes what it is called with. Answers `answers[name]`; raises it, where that is an exception."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.called = threading.Event()

    def __call__(self, name: str, arguments: dict[str, Any]) -> Any:
        self.calls.append((name, arguments))
        self.called.set()
        answer = self.answers.get(name)
        if isinstance(answer, Exception):
            raise answer
        return answer


# -- for systemd: its socket -------------------------------------------------------------------------------------------


class NotifySocket:
    """The receiving end of sd_notify, at a path, or at a name of the abstract namespace."""

    def __init__(self, address: str) -> None:
        self.environ = {"NOTIFY_SOCKET": address}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def received(self) -> str:
        """The next datagram that has arrived."""
        return self._socket.recv(4096).decode()

    def close(self) -> None:
        self._socket.close()


# -- for --check-config: files, and things to reach --------------------------------------------------------------------


def write_config(folder: Path, text: str) -> list[str]:
    """Write a configuration file; the arguments that name it."""
    path = folder / "vmhb-worker.conf"
    path.write_text(text)
    return ["--config-file", str(path)]


def hangs() -> str | None:
    """Something to reach that never answers. Its thread is a daemon, and ends with the tests."""
    threading.Event().wait()
    return None


def raises(error: Exception) -> Callable[[], str | None]:
    """Something to reach that fails in a way that nobody thought of."""

    def look() -> str | None:
        raise error

    return look
