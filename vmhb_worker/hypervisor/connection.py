"""libvirt's event loop, one connection to libvirtd, and several that share the calls which may block."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import libvirt
from oslo_log import log as logging

from vmhb_worker.hypervisor import names

LOG = logging.getLogger(__name__)

#: A frozen libvirtd is noticed after interval x (count + 1) seconds: virConnectSetKeepAlive.
KEEPALIVE_INTERVAL = 4
KEEPALIVE_COUNT = 3
#: libvirtd reads nothing more from a client that has `max_client_requests` (5 by default) calls under way, not even
#: the answers to its keepalive: one more than this, and all of the connection stands still, then is cut.
CALLS_PER_CONNECTION = 4

_loop_lock = threading.Lock()
_loop_threads: list[threading.Thread] = []


def start_event_loop() -> None:
    """Run libvirt's event loop on a thread of its own, once per process. Before any connection is opened.

    Keepalive, events and the news that a connection closed all come by it. It can't be stopped; it is a daemon.
    """
    with _loop_lock:
        if _loop_threads:
            return
        # libvirt prints every error to stderr unless somebody takes it; ours are in the exceptions.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()
        thread = threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True)
        _loop_threads.append(thread)
        thread.start()


def _run_event_loop() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            LOG.error("libvirt's event loop failed, going on: %s", error)
            time.sleep(1)  # only so that an error that stays does not take a whole processor


class Connection:
    """One connection. Calls on it may come from several threads; who shares it sees to CALLS_PER_CONNECTION.

    It is never closed by virConnectClose while others may use it: libvirt-python would free it below a call that is
    under way. `release` undoes what keeps it alive, and it closes when the last call on it has ended.
    """

    def __init__(self, uri: str, on_close: Callable[[str], None]) -> None:
        """BLOCKS, for ever if libvirtd is frozen. Raises libvirtError. on_close: called once, with the reason."""
        self.raw = libvirt.open(uri)
        self._undo: list[Callable[[], Any]] = []
        self._domains: dict[str, Any] = {}
        with contextlib.suppress(libvirt.libvirtError):  # the test driver, and connections within this process
            self.raw.setKeepAlive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT)
        with contextlib.suppress(libvirt.libvirtError):
            self.raw.registerCloseCallback(_closed, on_close)
            self._undo.append(self.raw.unregisterCloseCallback)

    def subscribe(self, event: int, callback: Callable[..., None]) -> None:
        """Have all domains' events of this kind. Raises libvirtError where this libvirtd does not have them."""
        number = self.raw.domainEventRegisterAny(None, event, callback, None)
        self._undo.append(lambda: self.raw.domainEventDeregisterAny(number))

    def domain(self, uuid: str) -> Any:
        """The domain, looked up once. Raises libvirtError."""
        found = self._domains.get(uuid)
        if found is None:
            found = self._domains[uuid] = self.raw.lookupByUUIDString(uuid)
        return found

    def forget(self, uuid: str) -> None:
        """Look it up anew the next time."""
        self._domains.pop(uuid, None)

    def undo(self, action: Callable[[], Any]) -> None:
        """Have this done by `release`."""
        self._undo.append(action)

    def alive(self) -> bool:
        """Is the socket open? Asks nobody."""
        with contextlib.suppress(libvirt.libvirtError):
            return bool(self.raw.isAlive())
        return False

    def ask(self) -> None:
        """The canary's question: is libvirtd serving ordinary calls?

        Of some 400 calls this is one that libvirtd's *ordinary* workers must answer (most that are as cheap are
        marked `priority: high` in remote_protocol.x and still get through when those are all taken), that concerns no
        domain, no QEMU and no disk, and that every ACL which lets us in allows: it reads two files of /sys.
        """
        self.raw.getCPUMap()

    def release(self) -> None:
        """Let go. BLOCKS while libvirtd is frozen."""
        while self._undo:
            with contextlib.suppress(libvirt.libvirtError):
                self._undo.pop()()
        self._domains.clear()


def _closed(_raw: Any, reason: int, on_close: Callable[[str], None]) -> None:
    on_close(names.closed(reason))


class NoLine(Exception):
    """Every connection carries as many calls as it may."""


class Lines:
    """Several connections that share calls which may block, the least loaded first. Any thread."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self.connections = tuple(connections)
        self._calls = [0] * len(self.connections)
        self._ended = threading.Condition()

    @contextlib.contextmanager
    def line(self, patience: float) -> Iterator[Connection]:
        """A connection for one call. Raises NoLine when none is free within `patience` seconds."""
        with self._ended:
            if not self._ended.wait_for(lambda: min(self._calls) < CALLS_PER_CONNECTION, patience):
                raise NoLine(f"{sum(self._calls)} calls to libvirt are under way")
            chosen = self._calls.index(min(self._calls))
            self._calls[chosen] += 1
        try:
            yield self.connections[chosen]
        finally:
            with self._ended:
                self._calls[chosen] -= 1
                self._ended.notify()


def lines_for(calls: int) -> int:
    """How many connections it takes to have this many calls under way."""
    return -(-calls // CALLS_PER_CONNECTION)


def gone(error: Exception) -> bool:
    """Does this error say that there is no such domain?"""
    return isinstance(error, libvirt.libvirtError) and error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
