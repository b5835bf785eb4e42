"""The application channels: one unix socket for each instance, on the engine's own loop. No thread, no call of libvirt.

Decides nothing about a guest. Connects to where QEMU listens, and again when that ends; hands lines over as messages;
reads no more of a guest than its share. Everything here belongs to the engine's thread, and nothing blocks.
"""

from __future__ import annotations

import errno
import functools
import heapq
import logging
import math
import random
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vmhb_worker.core.codec import GREETING, LINE_LIMIT, Codec, encode
from vmhb_worker.core.events import ChannelDown, ChannelUp, Happened, Said
from vmhb_worker.core.nonce_window import MOST
from vmhb_worker.core.protocol import Message
from vmhb_worker.interfaces import Post, Watcher
from vmhb_worker.settings import ChannelSettings

LOG = logging.getLogger(__name__)

#: What is read at a time, at most, so that nobody keeps the loop for long (bytes).
CHUNK = 16384
#: After a connection that failed or ended (seconds): doubled each time up to the second, and a random part of it.
RETRY_FIRST, RETRY_LAST = 0.1, 10.0
#: From this attempt on, some seconds after the first, it is no guest that has just been stopped or rebooted.
LASTING = 5
#: A connection that lasted for this long was a good one (seconds).
LASTED = 5.0
#: What is written at once for one guest never exceeds this (bytes): the challenges that may be out, and some answers.
OUTPUT_LIMIT = 2 * MOST * 128
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_OVER = select.EPOLLHUP | select.EPOLLERR


@dataclass(slots=True)
class Allowance:
    """What a guest may still say: lines and bytes, which fill up with time."""

    per_second: float
    lines: float
    most: float
    at: float

    def refill(self, now: float) -> None:
        """Time passed."""
        self.lines = min(self.most, self.lines + (now - self.at) * self.per_second)
        self.at = now

    def spend(self, lines: float, clock: Callable[[], float]) -> bool:
        """Deduct `lines`; return True if the allowance is used up. It never goes below zero, so that one burst does not
        mute a guest for long."""
        self.lines -= lines
        if self.lines <= 0.0:  # what has come back meanwhile matters only now
            self.refill(clock())
            self.lines = max(0.0, self.lines)
        return self.lines <= 0.0

    @property
    def back_at(self) -> float:
        """When enough of it is back: reading again sooner would be for a line at a time."""
        return self.at + self.most / 8 / self.per_second


@dataclass(slots=True)
class Totals:
    """Over all guests, since the start."""

    connects: int = 0
    failures: int = 0
    ends: int = 0
    throttled: int = 0
    overflows: int = 0


@dataclass(slots=True)
class _Line:
    """One instance's socket, and what belongs to it. due: when it is seen to without its being ready."""

    uuid: str
    path: str
    codec: Codec
    allowance: Allowance
    sock: socket.socket | None = None
    output: bytearray = field(default_factory=bytearray)
    watching: int = 0
    reading: bool = True
    due: float = math.inf
    attempt: int = 0
    since: float = 0.0  # when it was connected
    throttled: int = 0
    overflows: int = 0
    mishaps: int = 0
    why: str = ""


class SocketChannels:
    """Implements `interfaces.Channels`."""

    def __init__(self, settings: ChannelSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._due: list[tuple[float, str]] = []
        self._post: Post = lambda report: None
        self._watcher: Watcher | None = None
        self.totals = Totals()

    def open(self, post: Post, watcher: Watcher) -> None:
        """Begin."""
        self._post, self._watcher = post, watcher

    def connect(self, uuid: str, path: str, rate: float) -> None:
        """See the contract."""
        line = self._lines.get(uuid)
        if line is not None and line.path == path:
            line.allowance.per_second = self._per_second(rate)
            return
        self.forget(uuid)
        now, most = self._clock(), float(self._settings.burst)
        self._lines[uuid] = line = _Line(uuid, path, Codec(), Allowance(self._per_second(rate), most, most, now))
        self._connect(line, now)

    def forget(self, uuid: str) -> None:
        """See the contract."""
        line = self._lines.pop(uuid, None)
        if line is not None:
            self._close(line)

    def send(self, uuid: str, message: Message) -> bool:
        """See the contract."""
        line = self._lines.get(uuid)
        if line is None or line.sock is None:
            return False
        data = encode(message)
        if not line.output:
            try:
                sent = line.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return False  # its end is about to be read
            if sent == len(data):
                return True
            data = data[sent:]
        elif len(line.output) + len(data) > OUTPUT_LIMIT:
            line.overflows += 1
            self.totals.overflows += 1
            return False
        line.output += data
        self._watch(line)
        return True

    def read(self, uuid: str) -> None:
        """See the contract."""
        line = self._lines.get(uuid)
        if line is not None and line.sock is not None and line.reading:
            self._apart(line, self._read)

    def deadline(self) -> float:
        """See the contract."""
        return self._due[0][0] if self._due else math.inf

    def tick(self, now: float) -> None:
        """See the contract."""
        while self._due and self._due[0][0] <= now:
            at, uuid = heapq.heappop(self._due)
            line = self._lines.get(uuid)
            if line is None or line.due != at:
                continue
            line.due = math.inf
            self._apart(line, functools.partial(self._due_again, now=now))

    def told(self, uuid: str) -> dict[str, Any] | None:
        """See the contract."""
        line = self._lines.get(uuid)
        if line is None:
            return None
        counters = line.codec.counters
        return {
            "too_long": counters.too_long,
            "garbled": counters.garbled,
            "unknown": counters.unknown,
            "bad": counters.bad,
            "throttled": line.throttled,
            "overflows": line.overflows,
            "mishaps": line.mishaps,
            "waiting": len(line.output),
        }

    def close(self) -> None:
        """Let go of all of them."""
        for uuid in list(self._lines):
            self.forget(uuid)

    def _due_again(self, line: _Line, now: float) -> None:
        if line.sock is None:
            self._connect(line, now)
        else:
            line.allowance.refill(now)
            line.reading = True
            self._watch(line)

    def _apart(self, line: _Line, work: Callable[[_Line], None]) -> None:
        """A fault of ours about one connection ends that one, and nothing beside it: it is made again, as one that
        QEMU closed, and what was half said is lost."""
        try:
            work(line)
        except Exception:
            line.mishaps += 1
            if line.mishaps & (line.mishaps - 1) == 0:  # the 1st, 2nd, 4th, 8th …: it may be each of its lines
                LOG.exception(
                    "instance %s: its application channel could not be seen to, a fault of ours; the %d. so far",
                    *(line.uuid, line.mishaps),
                )
            self._close(line)
            self._retry(line, self._clock(), "a fault of the worker's, see its log")

    # -- one connection ------------------------------------------------------------------------------------------

    def _connect(self, line: _Line, now: float) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(line.path)  # at once, or not: nothing is ever under way on such a socket
            sock.send(GREETING)
        except OSError as error:  # BlockingIOError: somebody else is connected, or QEMU is slow to accept
            sock.close()
            self.totals.failures += 1
            self._retry(line, now, in_words(error))
            return
        line.sock, line.since = sock, now
        line.reading, line.why = True, ""
        line.codec.restart()
        line.output.clear()
        self.totals.connects += 1
        self._watch(line)
        self._post(Happened(line.uuid, ChannelUp()))

    def _retry(self, line: _Line, now: float, why: str) -> None:
        news = why != line.why
        if news:
            line.why = why
            self._post(Happened(line.uuid, ChannelDown(why)))
        delay = min(RETRY_LAST, RETRY_FIRST * 2.0 ** min(line.attempt, 16))
        line.attempt += 1
        if line.attempt == LASTING or (news and line.attempt > LASTING):
            LOG.warning("instance %s: application channel %s: %s", line.uuid, line.path, why)
        # Not for secrets: so that those of a host that was away do not come back in step.
        self._wake_at(line, now + delay * (0.5 + random.random() / 2))  # noqa: S311

    def _wake_at(self, line: _Line, at: float) -> None:
        line.due = at
        heapq.heappush(self._due, (at, line.uuid))

    def _close(self, line: _Line) -> None:
        if line.sock is not None:
            if self._watcher is not None:
                self._watcher.unwatch(line.sock.fileno())
            line.sock.close()
        line.sock, line.watching, line.due = None, 0, math.inf
        line.output.clear()

    def _watch(self, line: _Line) -> None:
        events = (_IN if line.reading else 0) | (_OUT if line.output else 0)
        if line.sock is None or self._watcher is None or (events == line.watching and events):
            return
        line.watching = events
        self._watcher.watch(line.sock.fileno(), events, functools.partial(self._called, line))

    def _called(self, line: _Line, ready: int) -> None:
        self._apart(line, functools.partial(self._ready, ready=ready))

    def _ready(self, line: _Line, ready: int) -> None:
        if ready & _OUT:
            self._write(line)
        if ready & _IN:
            self._read(line)
        elif ready & _OVER:
            self._ended(line, "closed by QEMU")

    def _write(self, line: _Line) -> None:
        if line.sock is None or not line.output:
            return
        try:
            del line.output[: line.sock.send(line.output)]
        except BlockingIOError:
            return
        except OSError as error:
            self._ended(line, in_words(error))
            return
        self._watch(line)

    def _read(self, line: _Line) -> None:
        if line.sock is None:
            return
        try:
            data = line.sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._ended(line, in_words(error))
            return
        if not data:
            self._ended(line, "closed by QEMU")
            return
        for message in line.codec.receive(data):
            self._post(Happened(line.uuid, Said(message)))
        self._charge(line, data)

    def _charge(self, line: _Line, data: bytes) -> None:
        """Lines count, and what is longer than most lines counts for more."""
        allowance = line.allowance
        if allowance.spend(max(data.count(b"\n"), len(data) / LINE_LIMIT), self._clock):
            line.throttled += 1
            self.totals.throttled += 1
            line.reading = False
            self._watch(line)
            self._wake_at(line, allowance.back_at)

    def _ended(self, line: _Line, why: str) -> None:
        self._close(line)
        self.totals.ends += 1
        now = self._clock()
        if now - line.since > LASTED:
            line.attempt = 0
        self._retry(line, now, why)

    def _per_second(self, rate: float) -> float:
        return max(1.0, self._settings.lines_per_beat * rate)


def in_words(error: OSError) -> str:
    """What an operator can do something with."""
    if error.errno == errno.EAGAIN:
        return "nobody accepts the connection: another client may hold it"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{error.strerror}: the worker must run as root or in QEMU's group"
    return error.strerror or str(error)
