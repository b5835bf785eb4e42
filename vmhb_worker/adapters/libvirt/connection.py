"""libvirt's event loop, one connection to libvirtd, and several that share the calls which may block."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import libvirt
from oslo_log import log as logging

from vmhb_worker.adapters.libvirt import constants

LOG = logging.getLogger(__name__)

#: A frozen libvirtd is noticed after interval x (count + 1) seconds: virConnectSetKeepAlive.
KEEPALIVE_INTERVAL = 4
KEEPALIVE_COUNT = 3
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
        except Exception as error:  # libvirt's own, or a callback's that its binding did not take
            LOG.error("libvirt's event loop failed, going on: %s", error)
            time.sleep(1)  # only so that an error that stays does not take a whole processor


class Connection:
    """One connection, for one call at a time.

    libvirt allows more, and then is unreliable. Of two threads that call on one connection the first reads for both,
    and must be woken to send what the second asks. libvirt 9.0 loses that wake-up now and then (1 call in 8 or so was
    measured): while the first waits for a hung QEMU or agent, the second stands still until the next keepalive, 4 to
    5 s later, whatever it asked. And libvirtd stops reading a connection with `max_client_requests` (5) calls under
    way, keepalive included. Neither matters to a connection that serves one call at a time.

    Whoever shares a connection with others holds `turn` while he calls; `release` does, too. When keepalive gave up on
    a connection with two calls under way, the second was seen to wait for ever, also after libvirtd went on.

    It is never closed by virConnectClose while others may use it: libvirt-python would free it below a call that is
    under way. `release` undoes what keeps it alive, and it closes when the last call on it has ended.
    """

    def __init__(self, uri: str, on_close: Callable[[str], None]) -> None:
        """BLOCKS, for ever if libvirtd is frozen. Raises libvirtError. on_close: called once, with the reason."""
        self.raw = libvirt.open(uri)
        self.turn = threading.Lock()
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

    def urgent(self) -> None:
        """A question that libvirtd answers by workers of their own, also when all ordinary ones are taken. BLOCKS while
        libvirtd is frozen. Raises libvirtError.
        """
        self.raw.getLibVersion()

    def release(self) -> None:
        """Let go, once the call that is under way has ended. BLOCKS while libvirtd is frozen."""
        with self.turn:
            while self._undo:
                with contextlib.suppress(libvirt.libvirtError):
                    self._undo.pop()()
            self._domains.clear()


def _closed(_raw: Any, reason: int, on_close: Callable[[str], None]) -> None:
    on_close(constants.closed(reason))


class NoLine(Exception):
    """As many calls as there may be are under way."""


class Gate:
    """Has calls that may wait for a QEMU begin one by one, each when libvirtd has taken the one before off its queue.

    libvirtd starts with 5 ordinary workers. When a call arrives it starts another, up to `max_workers`, if as many
    calls wait as workers are idle; but if more calls than that wait, it starts none, for it computes the difference
    without a sign (virThreadPoolSendJob in src/util/virthreadpool.c). So of eight calls that arrive at the same moment,
    for eight hung QEMUs, six are worked on, two wait, and everybody's ordinary calls wait behind them for as long as
    the QEMUs hang. Seen on a busy machine in 1 run of 7.
    """

    #: Seconds for the call that went through last to reach libvirtd.
    SPACING = 0.005

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._last = 0.0

    def enter(self) -> None:
        """BLOCKS while libvirtd serves no ordinary calls. Raises libvirtError."""
        with self._lock:
            time.sleep(max(0.0, self._last + self.SPACING - time.monotonic()))
            with self._connection.turn:
                self._connection.ask()
            self._last = time.monotonic()


class Lines:
    """Connections for calls that may block, one call on each. Any thread.

    All are opened beforehand: opening is what keepalive does not guard, so that whoever opened one for his call would
    wait for as long as libvirtd is frozen.
    """

    def __init__(self, connections: Sequence[Connection], gate: Gate | None = None) -> None:
        self.connections = tuple(connections)
        self._gate = gate
        self._free = list(connections)
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def line(self, patience: float) -> Iterator[Connection]:
        """A connection for one call. Raises NoLine when none is free within `patience` seconds; where there is a gate,
        BLOCKS as it does, and raises libvirtError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free, patience):
                raise NoLine(f"{len(self.connections)} calls to libvirt are under way")
            # The one used last is used next: it has looked up the domains that are asked about most.
            connection = self._free.pop()
        try:
            if self._gate is not None:
                self._gate.enter()
            with connection.turn:
                yield connection
        finally:
            with self._changed:
                self._free.append(connection)
                self._changed.notify()


def gone(error: Exception) -> bool:
    """Does this error say that there is no such domain?"""
    return isinstance(error, libvirt.libvirtError) and error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
