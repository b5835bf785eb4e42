"""Fault notifications in, rows in the database out. Decides nothing: `fault_rules` does.

A notification is acknowledged once what it means is committed. While the database is away nothing is acknowledged: what
comes waits in the broker. What makes no sense is said and dropped: it would come back for ever.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import timezone
from typing import Any

from vmhb_common.app import crashpoint
from vmhb_common.app.once import Once
from vmhb_common.app.ration import Ration
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.objects import WORKER_ALIVE, parse_fault
from vmhb_common.objects.base import data_of
from vmhb_consumer import door, fault_rules
from vmhb_consumer.counters import Tally
from vmhb_consumer.database import Away, Unfit
from vmhb_consumer.repository import Records, Sign
from vmhb_consumer.senders import OURS, Senders, Unheard

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

    def __init__(  # noqa: PLR0913, PLR0917 - what it is wired to
        self,
        records: Records,
        tally: Tally,
        now: Callable[[], float],
        changed: Callable[[], None] = lambda: None,
        wait: Callable[[float], bool] | None = None,
        allowed: Callable[[], bool] = lambda: True,
        senders: Senders | None = None,
    ) -> None:
        """now: seconds since the epoch. changed: called after a commit that brought something new. wait: waits for so
        many seconds, and is True where it is to end. allowed: BLOCKS until it is known whether any may be taken.
        senders: who may say what; None: everybody everything."""
        self._senders = senders
        self._records = records
        self._tally = tally
        self._once = Once()
        self._now = now
        self._changed = changed
        self._stopping = threading.Event()
        #: Whoever may write to the exchange may send nonsense without end.
        self._ration = Ration(LOG)
        self._wait = wait or self._stopping.wait
        self._allowed = allowed

    def stop(self) -> None:
        """Try nothing again."""
        self._stopping.set()

    def info(self, context: Any, publisher_id: Any, event_type: Any, payload: Any, metadata: Any) -> Any:
        """A notification: ours all have this priority."""
        if not self._allowed():
            return oslo_messaging.NotificationResult.REQUEUE
        try:
            work = self._meant(context, publisher_id, event_type, payload, metadata)
        except Unheard as error:  # whoever floods us with it does not fill our log: `Senders.say`
            self._tally.add(f"unheard.{error}")
            return oslo_messaging.NotificationResult.HANDLED
        except Exception as error:  # whatever a stranger can make our parsers stumble over
            self._refused(event_type, publisher_id, error)
            return oslo_messaging.NotificationResult.HANDLED
        while work is not None:
            try:
                work()
                break
            except Away as error:
                LOG.debug("the database is away, notifications wait in the broker: %s", error)
                if self._wait(PAUSE):
                    return oslo_messaging.NotificationResult.REQUEUE
            except Unfit as error:
                self._refused(event_type, publisher_id, error)
                break
            except Exception:
                self._tally.add("refused")
                said = ("a notification of %s is ignored: an error of our own", door.quoted(event_type))
                self._ration.say(logging.ERROR, *said, exc_info=True)
                break
        return oslo_messaging.NotificationResult.HANDLED

    def _meant(
        self, context: Any, publisher_id: Any, event_type: Any, payload: Any, metadata: Any
    ) -> Callable[[], None] | None:
        """What to do about it; None: nothing. Raises ValueError."""
        message = (context, publisher_id, event_type, payload, metadata)
        if event_type == WORKER_ALIVE:
            door.bounded(payload)
            sign = parse_sign(payload)
            if self._senders is not None:
                self._senders.hear_sign(sign.host, *message)
            return lambda: self._heard(sign)
        if isinstance(event_type, str) and event_type.startswith(FAULTS):
            if isinstance(publisher_id, str) and publisher_id.startswith(OURS):
                self._tally.add("faults.own")  # whichever consumer said it has it in the database
                return None
            door.bounded(payload)
            fault = fault_rules.checked(parse_fault(payload))
            old = self._senders is not None and self._senders.hear(fault.host, *message) > self._senders.memory
            return lambda: self._take(fault, old)
        return None

    def _refused(self, event_type: Any, publisher_id: Any, error: Exception) -> None:
        """In a line: it is acknowledged, and will not come again."""
        self._tally.add("refused")
        who = (door.quoted(event_type), door.quoted(publisher_id))
        text = "a notification of %s from %s is ignored: %.300s"
        self._ration.say(logging.WARNING, text, *who, ascii(str(error)))

    def _take(self, fault: Any, old: bool) -> None:
        outcome = self._records.take(fault, self._now(), old=True) if old else self._records.take(fault, self._now())
        crashpoint.reach("consumer.taken")
        self._tally.add(f"faults.{outcome}")
        LOG.debug("fault %s (%d): %s", fault.fault_id, fault.sequence, outcome)
        if outcome in fault_rules.TAKEN:
            self._changed()
        elif outcome in fault_rules.SUSPICIOUS:
            level = self._once.level(logging.ERROR, f"{outcome} {fault.host}")
            LOG.log(
                level,
                "fault %s of %s is not taken: %s",
                fault.fault_id,
                door.quoted(fault.host),
                fault_rules.SUSPICIOUS[outcome],
            )

    def _heard(self, sign: Sign) -> None:
        if self._records.heard(sign, self._now()):
            self._tally.add("signs_of_life")


def parse_sign(payload: Any) -> Sign:
    """A worker's sign of life, of any version 1.x. Raises ValueError."""
    data = data_of(payload, "WorkerPayload")
    interval = _field(data, "interval", _seconds)
    return Sign(
        host=_field(data, "host", door.a_host),
        started_at=_field(data, "started_at", _started_at),
        sequence=_field(data, "sequence", door.a_number(low=1)),
        interval=min(max(interval, MIN_INTERVAL), MAX_INTERVAL),
        instances=_field(data, "instances", door.a_number()),
    )


def _field(data: Mapping[str, Any], name: str, kind: Callable[[Any], Any]) -> Any:
    try:
        return kind(data.get(name))
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"WorkerPayload with {name!r} = {door.quoted(data.get(name))}: {error}") from error


def _started_at(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError("a time is required")
    parsed = timeutils.parse_isotime(value)
    return door.a_moment(
        parsed.replace(tzinfo=timezone.utc) if parsed.tzinfo is None else parsed.astimezone(timezone.utc)
    ).timestamp()


def _seconds(value: Any) -> float:
    """It is bounded afterwards, so that none is too long."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - not a number
        raise ValueError("a number is required")
    return min(max(value, 0), MAX_INTERVAL)
