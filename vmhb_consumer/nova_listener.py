"""Nova's notifications in, casts to workers out. Decides nothing: `nova_operations` does.

Keeps nothing between two notifications, so that any number of consumers may share the work.

Order: what one broker has is worked on by one thread, in the order in which it came; where several consumers share a
queue, two notifications of an instance may overtake each other, and what workers are told bears that. One broker, or
the way to one, that is away delays no other. While the workers' broker is away, notifications wait in Nova's.

Acknowledged once the workers are told, or once that has been tried for long enough. A notification that a consumer was
at when it ended is another consumer's, or its own in its next life: workers may be told twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, Protocol

from oslo_config import cfg

from vmhb_common import worker_api
from vmhb_common.app import systemd
from vmhb_common.app.ration import Ration
from vmhb_common.messaging import broker
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.messaging.sender_keys import Own
from vmhb_consumer import nova_operations
from vmhb_consumer.nova_notification import BadNotification, parse
from vmhb_consumer.nova_operations import Cast, Configure, EndSilence, ExpectSilence, Operation
from vmhb_consumer.settings import NovaNotificationSettings

with without_eventlet():
    import oslo_messaging

LOG = logging.getLogger(__name__)

#: Seconds between two attempts to tell a worker: at first, and at most.
FIRST_PAUSE = 0.5
PAUSE = 5.0
#: A clock of Nova's that is further ahead of ours than this (seconds) is wrong: a worker would wait for it.
AHEAD = 300.0
#: How often it is looked which brokers are there, to say so (seconds).
LOOK = 2.0
#: Seconds that a look at a broker may take, in the background, to say what is wrong with it.
CHECK = 10.0


class Workers(Protocol):
    """What is used of `worker_api.WorkerAPI`."""

    def configure(self, host: str, instance_uuid: str, policy: Mapping[str, str], *, observed_at: datetime) -> None: ...
    def expect_silence(
        self, host: str, instance_uuid: str, *, key: str, reason: str, timeout: float, observed_at: datetime
    ) -> None: ...
    def end_silence(self, host: str, instance_uuid: str, *, key: str, observed_at: datetime) -> None: ...


def _now() -> datetime:
    return datetime.now(timezone.utc)


class Courier:
    """Tells workers, as often as it takes and as long as it makes sense. Thread-safe.

    After `stop` nobody is told any more, and nobody waits. now: the wall clock; wait: waits for so many seconds, and is
    True where it is to end.
    """

    def __init__(
        self,
        workers: Workers,
        delivery_time: float,
        *,
        now: Callable[[], datetime] = _now,
        monotonic: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._workers = workers
        self._delivery_time = delivery_time
        self._now = now
        self._monotonic = monotonic
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait

    def stop(self) -> None:
        """Begin nothing, and try nothing again."""
        self._stopping.set()

    def tell(self, cast: Cast) -> bool:
        """BLOCKS for about delivery_time and one more cast at most. False where it was ended by `stop`: then somebody
        else is to try it."""
        until = self._monotonic() + self._delivery_time
        pause = FIRST_PAUSE
        if self._stopping.is_set():
            return False  # a broker has handed out many beforehand
        while True:
            problem, again = self._try(cast)
            if problem is None:
                LOG.info("instance %s: worker of %s told: %s", cast.instance_uuid, cast.host, _shown(cast))
                return True
            if not again or self._monotonic() >= until:
                what = (cast.instance_uuid, cast.host, _shown(cast), problem)
                LOG.warning("instance %s: worker of %s not told: %s: %s", *what)
                return True
            if self._wait(pause):
                return False
            pause = min(2 * pause, PAUSE)

    def _stale(self, cast: Cast) -> str | None:
        """Why it makes no sense any more."""
        age = (self._now() - cast.observed_at).total_seconds()
        if age < -AHEAD:  # of a policy, too: none that is told until then would count
            return f"it is of {cast.observed_at.isoformat()}, {-age:.0f} s from now: see to the clocks"
        if isinstance(cast, ExpectSilence) and age >= cast.timeout:
            return f"it came {age:.0f} s late, and would be over"
        return None

    def _try(self, cast: Cast) -> tuple[str | None, bool]:
        """What went wrong, if anything, and whether it may go well another time."""
        stale = self._stale(cast)
        if stale is not None:
            return stale, False
        try:
            match cast:
                case Configure():
                    self._workers.configure(cast.host, cast.instance_uuid, cast.knobs, observed_at=cast.observed_at)
                case ExpectSilence():
                    self._workers.expect_silence(
                        cast.host,
                        cast.instance_uuid,
                        key=cast.key,
                        reason=cast.reason,
                        timeout=cast.timeout,
                        observed_at=cast.observed_at,
                    )
                case EndSilence():
                    self._workers.end_silence(cast.host, cast.instance_uuid, key=cast.key, observed_at=cast.observed_at)
        except Exception as error:  # oslo.messaging lets through whatever amqp and kombu raise
            again = not isinstance(error, oslo_messaging.RPCVersionCapError)
            return broker.explain(error, "the workers' broker"), again
        return None, False


def _shown(cast: Cast) -> str:
    match cast:
        case Configure():
            return "it is to be monitored"
        case ExpectSilence():
            return f"{cast.reason}, silence for {cast.timeout:g} s at most ({cast.key})"
        case EndSilence():
            return f"silence is over ({cast.key})"


class Endpoint:
    """What oslo.messaging hands notifications to, by their priority. Nova uses these two. Never raises."""

    def __init__(self, tell: Callable[[Cast], bool], timeouts: Mapping[Operation, float]) -> None:
        """tell: as `Courier.tell`."""
        self._tell = tell
        self._timeouts = timeouts
        self._ration = Ration(LOG)

    def info(self, _context: Any, publisher_id: Any, event_type: Any, payload: Any, metadata: Any) -> Any:
        """An ordinary one."""
        return self._take(publisher_id, event_type, payload, metadata)

    def error(self, _context: Any, publisher_id: Any, event_type: Any, payload: Any, metadata: Any) -> Any:
        """Of something that failed."""
        return self._take(publisher_id, event_type, payload, metadata)

    def _take(self, publisher_id: Any, event_type: Any, payload: Any, metadata: Any) -> Any:
        # Without a verdict, one that we stumble over would come back for ever.
        try:
            if self._work(publisher_id, event_type, payload, metadata):
                return oslo_messaging.NotificationResult.HANDLED
        except BadNotification as error:
            self._ration.say(logging.WARNING, "a notification is ignored: %s", error)
            return oslo_messaging.NotificationResult.HANDLED
        except Exception:
            self._ration.say(logging.ERROR, "a notification is ignored: an error of our own", exc_info=True)
            return oslo_messaging.NotificationResult.HANDLED
        return oslo_messaging.NotificationResult.REQUEUE

    def _work(self, publisher_id: Any, event_type: Any, payload: Any, metadata: Any) -> bool:
        if not nova_operations.concerns(event_type):
            return True
        notification = parse(publisher_id, event_type, payload, metadata)
        return all(self._tell(cast) for cast in nova_operations.decide(notification, self._timeouts))


class Instances:
    """The instances half of a consumer. `start` and `stop` return in time, whatever the brokers do."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        settings: NovaNotificationSettings,
        line: systemd.Line | None = None,
        own: Own | None = None,
    ) -> None:
        """Connects to nothing. line: is told how it is, as `instances`. own: the key that casts are signed with."""
        self._line = line or systemd.Line()
        self._stopping = threading.Event()
        self.known = threading.Event()
        self.known.set()  # nothing keeps it from running
        workers = worker_api.WorkerAPI(worker_api.get_transport(conf), conf, own=own)
        self._courier = Courier(workers, settings.delivery_time)
        endpoint = Endpoint(self._courier.tell, settings.timeouts)
        self._listeners = [_listener(conf, url, settings, endpoint) for url in settings.transport_urls]

    def start(self) -> None:
        """Listen to all brokers, from when each is there."""
        for listener in self._listeners:
            listener.start()
        threading.Thread(target=self._say, name="vmhb-listening", daemon=True).start()

    def _say(self) -> None:
        while not self._stopping.is_set():
            there = sum(listener.connected for listener in self._listeners)
            self._line.say("instances", f"listening to {there} of Nova's {len(self._listeners)} message brokers")
            self._stopping.wait(LOOK)

    def read_again(self) -> None:
        """Nothing of it may change while it runs."""

    def stop(self, timeout: float) -> None:
        """Listen no more, to any. Returns within `timeout` seconds."""
        self._stopping.set()
        self._courier.stop()
        until = time.monotonic() + timeout
        for listener in self._listeners:
            listener.end()
        for listener in self._listeners:
            listener.join(until - time.monotonic())

    @property
    def listening(self) -> int:
        """How many of the brokers are listened to."""
        return sum(listener.listening.is_set() for listener in self._listeners)


def _listener(
    conf: cfg.ConfigOpts, url: str | None, settings: NovaNotificationSettings, endpoint: Endpoint
) -> broker.Background:
    target = oslo_messaging.Target(exchange=settings.exchange, topic=settings.topic)
    where, _ = broker.shown(conf, url)

    def make() -> Any:
        transport = broker.transport(conf, url)
        return broker.listener(transport, target, endpoint, settings.pool)

    what = f"{settings.pool or settings.topic} of {where}"
    # One thread: the order of an instance's notifications is kept.
    return broker.Background(
        f"listening to {what}",
        f"cannot listen to {what}",
        make,
        threads=1,
        why=lambda: broker.check_exchange(conf, url, settings.exchange, CHECK),
    )
