"""Fault notifications in, rows in the database out. Decides nothing: `book` does.

A notification is acknowledged once what it means is committed. While the database is away nothing is acknowledged: what
comes waits in the broker. What makes no sense is said and dropped: it would come back for ever.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from vmhb_common.app import crashpoint
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.objects import WORKER_ALIVE, parse_fault
from vmhb_common.objects.base import data_of
from vmhb_consumer import fault_rules as book
from vmhb_consumer.counters import Tally
from vmhb_consumer.database import Away
from vmhb_consumer.fault_rules import Outcome
from vmhb_consumer.repository import Records, Sign

with without_eventlet():
    import oslo_messaging
    from oslo_utils import timeutils

LOG = logging.getLogger(__name__)

#: Seconds between two attempts to commit.
PAUSE = 1.0
#: Bounds of what a worker says of its next sign of life (seconds).
MIN_INTERVAL, MAX_INTERVAL = 1.0, 3600.0
FAULTS = "vmhb.fault."


class Endpoint:
    """What oslo.messaging hands notifications to. Never raises. One thread: order is kept, for what it is worth."""

    def __init__(
        self,
        records: Records,
        tally: Tally,
        now: Callable[[], float],
        changed: Callable[[], None] = lambda: None,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        """now: seconds since the epoch. changed: called after a commit that brought something new. wait: waits for so
        many seconds, and is True where it is to end."""
        self._records = records
        self._tally = tally
        self._now = now
        self._changed = changed
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._away = False

    def stop(self) -> None:
        """Try nothing again."""
        self._stopping.set()

    def info(self, _context: Any, publisher_id: Any, event_type: Any, payload: Any, _metadata: Any) -> Any:
        """A notification: ours all have this priority."""
        try:
            work = self._meant(event_type, payload)
        except Exception as error:  # whatever a stranger can make our parsers stumble over
            self._tally.add("refused")
            LOG.warning("a notification of %.80r from %.80r is ignored: %.300r", event_type, publisher_id, str(error))
            return oslo_messaging.NotificationResult.HANDLED
        while work is not None:
            try:
                work()
                break
            except Away as error:
                self._say_away(error)
                if self._wait(PAUSE):
                    return oslo_messaging.NotificationResult.REQUEUE
            except Exception:
                self._tally.add("refused")
                LOG.exception("a notification of %.80r is ignored: an error of our own", event_type)
                break
        if self._away and work is not None:
            self._away = False
            LOG.info("the database is back")
        return oslo_messaging.NotificationResult.HANDLED

    def _meant(self, event_type: Any, payload: Any) -> Callable[[], None] | None:
        """What to do about it; None: nothing. Raises ValueError."""
        if event_type == WORKER_ALIVE:
            sign = parse_sign(payload)
            return lambda: self._heard(sign)
        if isinstance(event_type, str) and event_type.startswith(FAULTS):
            fault = book.checked(parse_fault(payload))
            return lambda: self._take(fault)
        return None

    def _take(self, fault: Any) -> None:
        outcome = self._records.take(fault, self._now())
        crashpoint.reach("consumer.taken")
        self._tally.add(f"faults.{outcome}")
        LOG.debug("fault %s (%d): %s", fault.fault_id, fault.sequence, outcome)
        if outcome in (Outcome.NEW, Outcome.CHANGED, Outcome.REMINDED):
            self._changed()

    def _heard(self, sign: Sign) -> None:
        if self._records.heard(sign, self._now()):
            self._tally.add("signs_of_life")

    def _say_away(self, error: Away) -> None:
        if not self._away:
            LOG.error("the database is away, notifications wait in the broker: %s", error)
        self._away = True


def parse_sign(payload: Any) -> Sign:
    """A worker's sign of life, of any version 1.x. Raises ValueError."""
    data = data_of(payload, "WorkerPayload")
    host = data.get("host")
    if not isinstance(host, str) or not 0 < len(host) <= book.MAX_HOST:
        raise ValueError(f"WorkerPayload with 'host' = {host!r:.80}: a name is required")
    started_at = data.get("started_at")
    if not isinstance(started_at, str):
        raise ValueError(f"WorkerPayload with 'started_at' = {started_at!r:.80}: a time is required")
    return Sign(
        host=host,
        started_at=timeutils.normalize_time(timeutils.parse_isotime(started_at)).timestamp(),
        sequence=_number(data, "sequence", 1, book.MAX_SEQUENCE),
        interval=min(max(_float(data, "interval"), MIN_INTERVAL), MAX_INTERVAL),
        instances=_number(data, "instances", 0, book.MAX_SEQUENCE),
    )


def _number(data: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"WorkerPayload with {name!r} = {value!r:.80}: a number of {low} to {high} is required")
    return value


def _float(data: Mapping[str, Any], name: str) -> float:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - not a number
        raise ValueError(f"WorkerPayload with {name!r} = {value!r:.80}: a number is required")
    return float(value)
