"""Which hosts there are: those on which Nova has a nova-compute. Reads Nova's list now and then, and decides nothing.

Whoever may write to the broker can make names up. What is said of a host that Nova does not know costs a look into a
set. Where there is no Nova to ask, or it has not answered for long, nobody is unknown.

Threads: any; one of its own reads, and nobody waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from vmhb_common.app.once import Once
from vmhb_common.model.words import StrEnum
from vmhb_consumer.doubt_rules import Unknown

LOG = logging.getLogger(__name__)

#: Seconds between two readings at least, and after which it is read anew although nobody is missed.
SOONEST, LATEST = 30.0, 600.0
#: A list that is older (seconds) tells nobody apart: hosts may have come since.
TOO_OLD = 3600.0
#: Of so many that are not in it, it is kept since when they are missed.
MOST = 10_000


class Known(StrEnum):
    """What is known of a host."""

    THERE = "there"
    #: Not in the list that was read last; it is being read, or will be.
    NOT_YET = "not yet"
    #: Nor in one that was read since it was met first.
    UNKNOWN = "unknown"
    #: The first list is being read: what can be said again may be left alone until it is there.
    STARTING = "starting"
    #: There is no list.
    CANT_TELL = "can't tell"


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="vmhb-hosts", daemon=True).start()


class Hosts:
    """As one consumer knows them."""

    def __init__(
        self,
        ask: Callable[[], frozenset[str] | Unknown] | None,
        now: Callable[[], float] = time.monotonic,
        begin: Callable[[Callable[[], None]], None] = _in_background,
    ) -> None:
        """ask: BLOCKS; the hosts that Nova has, raises nothing; None: there is no Nova. begin: runs beside us."""
        self._ask = ask
        self._now = now
        self._begin = begin
        self._once = Once()
        self._lock = threading.Lock()
        self._names: frozenset[str] = frozenset()
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._reading = False
        self._failed = False
        self._missed: dict[str, float] = {}

    def known(self, host: str) -> Known:
        """Of this one. Never blocks."""
        if self._ask is None:
            return Known.CANT_TELL
        now = self._now()
        with self._lock:
            there = host in self._names
            fresh = self._read_at is not None and now - self._read_at <= (LATEST if there else SOONEST)
            read = not (fresh or self._reading) and (self._tried_at is None or now - self._tried_at >= SOONEST)
            if read:
                self._reading, self._tried_at = True, now
            said = self._said(host, there, now)
        if read:
            self._begin(partial(self._read, self._ask))
        return said

    def _said(self, host: str, there: bool, now: float) -> Known:
        if there:
            return Known.THERE
        if self._read_at is None and not self._failed:
            return Known.STARTING
        if self._read_at is None or now - self._read_at > TOO_OLD:
            return Known.CANT_TELL
        if host not in self._missed and len(self._missed) >= MOST:
            return Known.UNKNOWN
        return Known.UNKNOWN if self._missed.setdefault(host, now) < self._read_at else Known.NOT_YET

    def _read(self, ask: Callable[[], frozenset[str] | Unknown]) -> None:
        began = self._now()
        try:
            said = ask()
        except Exception as error:  # a mistake of ours: the next reading is another
            said = Unknown(f"an error of our own: {error!a:.300}")
        with self._lock:
            self._reading = False
            if isinstance(said, frozenset) and said:
                self._names, self._read_at = said, began
                self._missed = {host: at for host, at in self._missed.items() if host not in said}
                return
            self._failed = True
        why = said.why if isinstance(said, Unknown) else "Nova lists no nova-compute at all"
        text = f"which hosts there are can't be told, all are taken for known that were, or were not asked for: {why}"
        LOG.log(self._once.level(logging.WARNING, text), "%s", text)
