"""A thing is said once, however often it happens, and by however many parts. Knows nothing of what is said.

Who tries again does so for ever, and each try fails for the same reason: the first is news, and so is one after it had
been quiet for a while. What differs between two tries, and tells nobody anything, is left out of the comparison.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

#: Seconds in which something must not have happened to be news again: longer than anybody of ours, or of the
#: libraries', waits between two tries.
FORGET = 600.0
#: So many things are remembered; of more the oldest is news again.
MOST = 1000
#: Libraries that say each try of theirs, whoever of ours it is that has them try.
TALKATIVE = ("amqp", "kombu", "openstack", "oslo.messaging", "oslo_db", "oslo_messaging", "urllib3")
#: What this one warns of it raises as well, and whoever catches it says what follows; or, of a discovery that failed,
#: it goes on with the address that it has, which fails as well. A redirect `reporters/keystone.py` tells of.
RAISING = "keystoneauth"
#: Of one broker that is away it says so in five ways: of each connection, at its heartbeat, of each that is to be made.
RABBIT = "oslo.messaging._drivers.impl_rabbit"
SERVER = re.compile(r"AMQP server (?:on )?(\S+:\d+)")
#: Of one that is away: in whichever words, it is one thing. All else (refused, blocked, a certificate) is another.
GONE = re.compile(
    r"ECONNREFUSED|ECONNRESET|EPIPE|EHOSTUNREACH|ENETUNREACH|timed out|Broken pipe|reset by peer|unexpectedly closed"
    r"|Connection refused|No route to host|Network is unreachable|heartbeat|RecoverableConnectionError"
    r"|CONNECTION_FORCED",
    re.IGNORECASE,
)
#: The connection that a line is of.
CONNECTION = re.compile(r"^\[[^]]*\] ")
#: What it says where it has ended …
OVER = re.compile(r"^(\[[^]]*\] )?Reconnected to ")
#: … for one of its connections: after so many seconds all is news.
SETTLED = 30.0
#: Of a record of the log: is it news?
NEWS = "vmhb_news"
#: An object's address, queues for answers, ids, seconds until the next try, the number of a try, ports that the kernel
#: chooses.
_CHANCE = re.compile(
    r"0x[0-9a-f]+|\breply_[!-~]+|\b[0-9a-f]{32}\b"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\breq-\S+|\b\d+(?:\.\d+)? (?:seconds?|attempts?)\b"
    r"|\bclient port: \d+|\brecovery \d+\b",
    re.IGNORECASE,
)


def same(text: str) -> str:
    """Two texts that say the same have the same of this."""
    return _CHANCE.sub("*", text)


class Once:
    """Thread-safe."""

    def __init__(self, forget: float = FORGET, now: Callable[[], float] = time.monotonic) -> None:
        """forget: seconds."""
        self._forget = forget
        self._now = now
        # The garbage collector may run anywhere, and what it ends may have something to say, in this thread.
        self._lock = threading.RLock()
        self._last: OrderedDict[tuple[str, str], float] = OrderedDict()
        #: Of whom it was over, and when that is settled: what was last before then is news after it.
        self._settled: dict[str, float] = {}
        #: When anything was last of whom.
        self._lately: dict[str, float] = {}

    def new(self, text: str, about: str = "") -> bool:
        """Is it news? It has happened, in any case. about: whose it is, where it is meant for each by itself."""
        now, key = self._now(), (about, same(text))
        with self._lock:
            last = self._last.pop(key, None)
            self._last[key] = now
            self._lately[about] = now
            while len(self._last) > MOST:
                self._last.popitem(last=False)
            return last is None or last < self._since(about, now)

    def level(self, loud: int, text: str, about: str = "") -> int:
        """For the log: `loud` where it is news, as `new` has it."""
        return loud if self.new(text, about) else logging.DEBUG

    def over(self, about: str, settled: float = SETTLED) -> None:
        """Of this one all is news again, in so many seconds, however often it is over until then."""
        now = self._now()
        with self._lock:
            if self._settled.get(about, now) <= now:
                self._settled[about] = now + settled

    def knows(self, about: str) -> bool:
        """Has anything happened of this one, that would be no news?"""
        now = self._now()
        with self._lock:
            since = self._since(about, now)
            return self._lately.get(about, since - 1) >= since

    def _since(self, about: str, now: float) -> float:
        """What was last before this is forgotten."""
        settled = self._settled.get(about, now)
        return max(now - self._forget, settled) if settled < now else now - self._forget


class _Repeats(logging.Filter):
    """Lets through what is news of what these libraries complain about."""

    def __init__(self, once: Once) -> None:
        super().__init__()
        self._once = once

    def filter(self, record: logging.LogRecord) -> bool:
        # There may be several handlers, a file and the journal, and what is news is news to each.
        said = vars(record)
        if NEWS not in said:
            try:
                said[NEWS] = self._is_news(record)
            except Exception:  # a library's own mistake in what it says: logging tells it, and raises nothing
                said[NEWS] = True
        return bool(said[NEWS])

    def _is_news(self, record: logging.LogRecord) -> bool:
        name = f"{record.name}."
        if name.startswith(f"{RAISING}."):
            return record.levelno != logging.WARNING
        if record.name == RABBIT:
            return self._of_rabbit(record)
        if record.levelno < logging.WARNING or not any(name.startswith(f"{one}.") for one in TALKATIVE):
            return True
        raised = record.exc_info and record.exc_info[1]
        return self._once.new(f"{record.getMessage()} {raised!r}" if raised else record.getMessage(), record.name)

    def _of_rabbit(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if OVER.match(text):
            self._once.over(RABBIT)
        if record.levelno < logging.WARNING:
            return True
        server = SERVER.search(text)
        if GONE.search(text):
            if server is None and self._once.knows(RABBIT):
                return False
            text = server[1] if server else text
        return self._once.new(CONNECTION.sub("", text), RABBIT)


def hush(once: Once) -> None:
    """Of all that is logged from now on. Again after the log's own configuration was read again."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(one, _Repeats) for one in handler.filters):
            handler.addFilter(_Repeats(once))
