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
#: What these warn of they raise as well, and whoever catches it says what follows.
RAISING = "keystoneauth"
#: Of one broker that is away it says so in five ways: of each connection, at its heartbeat, of each that is to be made.
RABBIT = "oslo.messaging._drivers.impl_rabbit"
SERVER = re.compile(r"AMQP server on \S+:\d+")
#: What it says where it has ended …
OVER = re.compile(r"^(\[[^]]*\] )?Reconnected to ")
#: … for one of its connections: after so many seconds all is news.
SETTLED = 30.0
#: An object's address, ids, seconds until the next try, the number of a try, ports that the kernel chooses.
_CHANCE = re.compile(
    r"0x[0-9a-f]+|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\breq-\S+|\b\d+(?:\.\d+)? (?:seconds?|attempts?)\b"
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
        self._lock = threading.Lock()
        self._last: OrderedDict[tuple[str, str], float] = OrderedDict()

    def new(self, text: str, about: str = "") -> bool:
        """Is it news? It has happened, in any case. about: whose it is, where it is meant for each by itself."""
        now, key = self._now(), (about, same(text))
        with self._lock:
            last = self._last.pop(key, None)
            self._last[key] = now
            while len(self._last) > MOST:
                self._last.popitem(last=False)
        return last is None or now - last > self._forget

    def over(self, about: str, settled: float = SETTLED) -> None:
        """Of this one all is news again, in so many seconds."""
        again = self._now() - self._forget + settled
        with self._lock:
            for key in self._last:
                if key[0] == about:
                    self._last[key] = min(self._last[key], again)

    def knows(self, about: str) -> bool:
        """Has anything happened of this one, that would be no news?"""
        now = self._now()
        with self._lock:
            return any(key[0] == about and now - last <= self._forget for key, last in self._last.items())


class _Repeats(logging.Filter):
    """Lets through what is news of what these libraries complain about."""

    def __init__(self, once: Once) -> None:
        super().__init__()
        self._once = once

    def filter(self, record: logging.LogRecord) -> bool:
        # There may be several handlers, a file and the journal, and what is news is news to each.
        if not hasattr(record, "vmhb_news"):
            record.vmhb_news = self._is_news(record)
        return bool(record.vmhb_news)

    def _is_news(self, record: logging.LogRecord) -> bool:
        name = f"{record.name}."
        if name.startswith(f"{RAISING}."):
            return record.levelno != logging.WARNING
        if record.name == RABBIT:
            return self._of_rabbit(record)
        if record.levelno < logging.WARNING or not any(name.startswith(f"{one}.") for one in TALKATIVE):
            return True
        return self._once.new(record.getMessage(), record.name)

    def _of_rabbit(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if OVER.match(text):
            self._once.over(RABBIT)
        if record.levelno < logging.WARNING:
            return True
        server = SERVER.search(text)
        if server is None and self._once.knows(RABBIT):
            return False
        return self._once.new(server[0] if server else text, RABBIT)


def hush(once: Once) -> None:
    """Of all that is logged from now on. Again after the log's own configuration was read again."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(one, _Repeats) for one in handler.filters):
            handler.addFilter(_Repeats(once))
