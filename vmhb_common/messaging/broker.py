"""Message brokers, as all of ours meet them: can one be used, and if not, why; how a server of ours begins and ends.

Knows nothing of what is sent. What is relied on below oslo.messaging's surface was read in its 18.3.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

from oslo_config import cfg

from vmhb_common.app.ration import Ration
from vmhb_common.messaging import looks as ways
from vmhb_common.messaging import sizes
from vmhb_common.messaging.looks import Look
from vmhb_common.messaging.no_eventlet import without_eventlet

with without_eventlet():
    import amqp
    import oslo_messaging
    from oslo_messaging._drivers import common as driver_common
    from oslo_messaging._drivers import impl_rabbit
    from oslo_messaging.transport import TransportURL

LOG = logging.getLogger(__name__)

#: Seconds between two attempts to begin, where the broker refuses us; where it is away, oslo.messaging itself waits.
RETRY = 5.0
#: Seconds after which a server that does not listen yet says so: oslo.messaging itself goes on trying for ever.
PATIENCE = 10.0


def transport(conf: cfg.ConfigOpts, url: str | None, **flags: str) -> Any:
    """A notification transport; url None: the one in [DEFAULT], never that of [oslo_messaging_notifications].

    flags: over the options of [oslo_messaging_rabbit], unless the URL has them itself. Of what comes over it each is at
    most as large as `sizes` says.
    """
    parsed = TransportURL.parse(conf, url)
    parsed.query = {**flags, **parsed.query}
    return sizes.bounded(oslo_messaging.get_notification_transport(conf, url=parsed))


def check_sending(
    conf: cfg.ConfigOpts, url: str | None, exchange: str, queues: Sequence[str], timeout: float
) -> str | None:
    """BLOCKS for `timeout` seconds at most: what stands in the way of sending, as one sentence, or None.

    Connects, and declares the exchange and the queues as the first message would. queues: <topic>.<priority>.
    """
    return check(conf, url, [ways.sending(exchange, queues)], timeout)


def check(conf: cfg.ConfigOpts, url: str | None, looks: Sequence[Look], timeout: float) -> str | None:
    """BLOCKS for `timeout` seconds at most: what stands in the way of any of these, as one sentence, or None."""

    def look(connection: Any) -> None:
        for one in looks:
            one(connection)

    return _check(conf, url, look, timeout)


def check_exchange(conf: cfg.ConfigOpts, url: str | None, exchange: str, timeout: float) -> str | None:
    """BLOCKS for `timeout` seconds at most: what is wrong with a broker that is to have this exchange, or None."""

    return check(conf, url, [ways.exchange_there(exchange)], timeout)


def _check(conf: cfg.ConfigOpts, url: str | None, look: Callable[[Any], None], timeout: float) -> str | None:
    outcome: list[str | None] = []
    probe = threading.Thread(target=lambda: outcome.append(_probe(conf, url, look)), name="vmhb-check", daemon=True)
    probe.start()
    probe.join(timeout)
    if outcome:
        return outcome[0]
    return f"no broker answered at {_where(conf, url)} within {timeout:g} s: is it running, and is transport_url right?"


def _probe(conf: cfg.ConfigOpts, url: str | None, look: Callable[[Any], None]) -> str | None:
    try:
        one = transport(conf, url)
        if isinstance(one._driver, impl_rabbit.RabbitDriver):
            # As for listening, since that has no thread of its own; from the pool, it would ignore `retry`.
            connection = one._driver._connection_pool.create(driver_common.PURPOSE_LISTEN, _other_hosts(conf, url))
            try:
                look(connection)
            finally:
                connection.close()
    except Exception as error:
        return explain(error, _where(conf, url))
    return None


def _other_hosts(conf: cfg.ConfigOpts, url: str | None) -> int:
    """How often to try again, so that each broker of the URL is tried once."""
    return max(0, len(TransportURL.parse(conf, url).hosts) - 1)


def shown(conf: cfg.ConfigOpts, url: str | None) -> tuple[str, str | None]:
    """A transport URL without its passwords, and None; or, for one that makes no sense, that and what to do."""
    try:
        parsed = TransportURL.parse(conf, url)
    except (ValueError, oslo_messaging.InvalidTransportURL):
        return "not a transport URL", "say one such as rabbit://user:password@host:5672/vhost"
    hosts = ",".join(f"{host.hostname or ''}:{host.port or 'default'}" for host in parsed.hosts)
    return f"{parsed.transport}://{hosts}/{parsed.virtual_host or ''}", None


def _where(conf: cfg.ConfigOpts, url: str | None) -> str:
    """The broker's addresses, without the password that the URL holds."""
    hosts = TransportURL.parse(conf, url).hosts
    return ", ".join(f"{host.hostname}:{host.port or 5672}" for host in hosts) or "localhost:5672"


#: Which option of ours an argument of a declaration comes from.
_OPTIONS = {
    "durable": "amqp_durable_queues (or rabbit_quorum_queue, which implies it)",
    "auto_delete": "amqp_auto_delete",
    "x-queue-type": "rabbit_quorum_queue",
    "x-delivery-limit": "rabbit_quorum_delivery_limit",
    "x-max-in-memory-length": "rabbit_quorum_max_memory_length",
    "x-max-in-memory-bytes": "rabbit_quorum_max_memory_bytes",
    "x-ha-policy": "rabbit_ha_queues",
}
_INEQUIVALENT = re.compile(
    r"PRECONDITION_FAILED - inequivalent arg '(?P<arg>[^']+)' for (?P<what>exchange|queue) '(?P<name>[^']+)'"
    r"[^:]*: received (?P<ours>.+?) but current is (?P<theirs>[^.\n]+)"
)
#: Queues that oslo.messaging makes for each process, and the exchange of some: they follow an option of their own.
_TRANSIENT = re.compile(r"(^reply_|_fanout(_|$))")
_NAMED = re.compile(r"(?:queue|exchange) '(?P<name>[^']+)'")
#: What RabbitMQ 4 says where it is told to refuse queues that are neither durable nor exclusive.
_DENIED = "transient_nonexcl_queues"
_TRANSIENT_OPTION = "rabbit_transient_quorum_queue"
#: Of exchanges of our own, who makes them.
_OF_OURS = {"vmhb": "; a consumer makes it, and a worker without [DEFAULT] own_queue_only"}
_MISSING = re.compile(r"NOT_FOUND - no exchange '(?P<name>[^']+)'")


def explain(error: BaseException, where: str = "the broker") -> str:
    """What oslo.messaging or RabbitMQ said, as one sentence with a remedy where there is a known one."""
    said = str(error)
    found = _INEQUIVALENT.search(said)
    if found:
        arg, what, name = found["arg"], found["what"], found["name"]
        option = _TRANSIENT_OPTION if _TRANSIENT.search(name) else _OPTIONS.get(arg, arg)
        return (
            f"RabbitMQ has the {what} '{name}' with {arg} = {found['theirs'].strip()}, and we ask for {found['ours']}: "
            f"set [oslo_messaging_rabbit] {option} as all other services that use this {what} have it, "
            f"or delete the {what} once nobody needs it"
        )
    missing = _MISSING.search(said)
    if missing:
        return (
            f"{where} has no exchange '{missing['name']}': say the transport_url of a broker that has it, and mind its "
            f"virtual host" + _OF_OURS.get(missing["name"], "")
        )
    refused = _refused(said, where)
    if refused is not None:
        return refused
    if _behind(error, amqp.exceptions.MessageNacked):
        return (
            f"{where} refused the message (nack): a queue is full and rejects what comes, or it failed; see that it is "
            f"read, and that its limit is right"
        )
    return f"{where}: {said or type(error).__name__}"


def _refused(said: str, where: str) -> str | None:
    """What it is that we may not do, where it is that."""
    if _DENIED in said:
        return (
            f"{where} permits no queues that are neither durable nor exclusive, as RPC's own are: set "
            f"[oslo_messaging_rabbit] {_TRANSIENT_OPTION} = true, and rabbit_quorum_queue = true, here and in all "
            f"services that share an exchange with us ({said})"
        )
    if "ACCESS_REFUSED" not in said:
        return None
    name = _name_in(said)
    if _TRANSIENT.search(name):
        return (
            f"{where} refuses us one of RPC's own queues, {name}: let the user configure, write and read such queues; "
            f"where it is queues that are not durable that are refused, set [oslo_messaging_rabbit] "
            f"{_TRANSIENT_OPTION} = true ({said})"
        )
    return (
        f"{where} refuses access: check user, password and virtual host of transport_url, and that the user may "
        f"configure, write and read exchange and queues ({said})"
    )


def _name_in(said: str) -> str:
    found = _NAMED.search(said)
    return found["name"] if found else ""


def _behind(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Is an exception of this kind what led to the error?"""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def durability(conf: cfg.ConfigOpts, url: str | None) -> str | None:
    """A sentence when a restart of the broker would lose what it has confirmed, else None. Connects to nothing."""
    one = transport(conf, url)
    if not isinstance(one._driver, impl_rabbit.RabbitDriver):
        return None
    flags = driver_common.ConfigOptsProxy(conf, TransportURL.parse(conf, url), "oslo_messaging_rabbit")
    rabbit = flags.oslo_messaging_rabbit
    if rabbit.amqp_durable_queues or rabbit.rabbit_quorum_queue:
        return None
    return (
        "a restart of RabbitMQ loses the notifications that wait in it, since its queues are not durable: set "
        "[oslo_messaging_rabbit] rabbit_quorum_queue or amqp_durable_queues, here and in all services that read them"
    )


# -- listening to notifications ----------------------------------------------------------------------------------------


def listener(transport: Any, target: Any, endpoint: Any, pool: str | None = None) -> Any:
    """A server that hands notifications to the endpoint, at least once; one that returns REQUEUE goes back.

    oslo.messaging remembers the last 16 that it handed out. Where the connection breaks before their acknowledgement is
    sent, which takes it up to 5 s, they come again, and are neither handed out nor ever acknowledged: they stay in the
    queue for as long as this process lives, and RabbitMQ (from 3.12 on) closes the channel every 30 min because of
    them. So here it remembers none, and they are handed out twice.

    And what it stumbles over itself, since it is no notification at all, would go back for ever: that is dropped.
    """
    server = oslo_messaging.get_notification_listener(
        transport, [target], [endpoint], executor="threading", allow_requeue=True, pool=pool
    )
    create, dispatch = server._create_listener, server.dispatcher.dispatch
    ration = Ration(LOG)

    def forgetful() -> Any:
        made = create()
        inner: Any = getattr(made, "_poll_style_listener", None)
        if hasattr(inner, "msg_id_cache"):
            inner.msg_id_cache = _Forgetful()
        return made

    def sturdy(incoming: Any) -> Any:
        try:
            return dispatch(incoming)
        except Exception as error:
            ration.say(logging.WARNING, "a message that is no notification is dropped: %s", type(error).__name__)
            return oslo_messaging.NotificationResult.HANDLED

    server._create_listener, server.dispatcher.dispatch = forgetful, sturdy
    return server


class _Forgetful:
    """Stands in for oslo.messaging's `_MsgIdCache`."""

    def check_duplicate_message(self, message: dict[str, Any]) -> Any:
        return message.pop("_unique_id", None)

    def add(self, unique_id: Any) -> None:
        pass


# -- a server that begins in the background ----------------------------------------------------------------------------


class Background:
    """A server of oslo.messaging, for RPC or notifications, that holds nobody up: neither its start nor its end.

    Threads: all from any.
    """

    def __init__(
        self,
        served: str,
        refused: str,
        make: Callable[[], Any],
        threads: int,
        why: Callable[[], str | None] = lambda: None,
        patience: float = PATIENCE,
    ) -> None:
        """served, refused: for the log. make: gives a new server. threads: messages that are worked on at a time.

        why: BLOCKS for some seconds; what stands in the way, for the log, where it has not begun after `patience` s.
        """
        self._served = served
        self._refused = refused
        self._make = make
        self._threads = threads
        self._why = why
        self._patience = patience
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._server: Any = None
        self._ending: threading.Thread | None = None
        self.listening = threading.Event()

    def start(self) -> None:
        """Begin, in the background: returns at once. Tried until it works."""
        threading.Thread(target=self._run, name="vmhb-begin", daemon=True).start()
        threading.Thread(target=self._watch, name="vmhb-begun", daemon=True).start()

    def end(self) -> None:
        """Begin to stop listening. Returns at once, whatever the broker does; what is left ends with us."""
        self._stopping.set()
        self.listening.clear()
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            self._ending = threading.Thread(target=_end, args=(server,), name="vmhb-end", daemon=True)
            self._ending.start()

    @property
    def connected(self) -> bool:
        """Does it listen, and is its broker there, as far as that was noticed? oslo.messaging connects again by itself,
        and tells nobody."""
        with self._lock:
            server = self._server
        return server is not None and _is_connected(server)

    def join(self, timeout: float) -> None:
        """After `end`: wait until it is done, for `timeout` seconds at most."""
        if self._ending is not None:
            self._ending.join(max(0.0, timeout))

    def stop(self, timeout: float = 0.5) -> None:
        """Both."""
        self.end()
        self.join(timeout)

    def _run(self) -> None:
        said = ""
        while not self._stopping.is_set():
            try:
                self._begin()
                return
            except Exception as error:
                why = explain(error)
                level = logging.DEBUG if why == said else logging.WARNING
                LOG.log(level, "%s: %s; trying again every %g s", self._refused, why, RETRY)
                said = why
            self._stopping.wait(RETRY)

    def _watch(self) -> None:
        """Say once that it takes long, and why."""
        if self.listening.wait(self._patience) or self._stopping.is_set():
            return
        try:
            why = self._why() or "the broker has not let us begin"
        except Exception as error:
            why = explain(error)
        if not (self.listening.is_set() or self._stopping.is_set()):
            LOG.error("%s, after %g s: %s; tried until it works", self._refused, self._patience, why)

    def _begin(self) -> None:
        server = self._make()
        server.start(override_pool_size=self._threads)  # blocks while the broker is away
        with self._lock:
            begun = not self._stopping.is_set()
            if begun:
                self._server = server
                self.listening.set()
        if begun:
            LOG.info("%s", self._served)
        else:
            _end(server)


def _is_connected(server: Any) -> bool:
    """Of RabbitMQ's driver only: below it, kombu knows."""
    try:
        return bool(server.listener._poll_style_listener.conn.connection.connection.connected)
    except AttributeError:
        return True


def _end(server: Any) -> None:
    try:
        server.stop()
        server.wait()
    except Exception as error:  # the broker may be gone, and so are we
        LOG.debug("a server did not end in order: %s", error)
