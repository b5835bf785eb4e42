"""How a worker is called over RPC: the contract that both ends share, and the client. Knows nothing of what it does.

Imported by the worker's server, the operator's command, the consumer and tests.
"""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from oslo_config import cfg

from vmhb_common.conf import upgrade_levels
from vmhb_common.messaging import signing, sizes
from vmhb_common.messaging.limited import Limited
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.messaging.sender_keys import Own, Trusted
from vmhb_common.messaging.short_lived import FLAGS, short_lived
from vmhb_common.model.senders import NotHeard, Role, SenderCheck, judge

with without_eventlet():
    import oslo_messaging

#: Named in every Target: a message to another exchange is lost without an error.
EXCHANGE = "vmhb"
TOPIC = "vmhb_worker"
#: 1.0: list, show, configure, expect_silence, end_silence. 1.1: `observed_at` of configure. 1.2: release_brake.
VERSION = "1.2"
#: What calls are sent as that have not changed since: a worker that is older understands them.
_FIRST, _TIMED, _RELEASED = "1.0", "1.1", "1.2"

#: The worker takes a reason of so many characters.
MAX_REASON = 255
#: The worker answers a call within this many seconds, if only to say that it cannot.
ANSWER_TIME = 5.0
#: So the client need not wait much longer, whatever [DEFAULT] rpc_response_timeout says.
CALL_TIMEOUT = 10
#: Seconds more for what comes before a call's answer: a connection, and with the first one a reply queue.
CONNECT_TIME = 3.0
#: What a cast may take: it has no answer, and may have to connect, to each broker of the URL in turn.
CAST_TIME = 10.0


#: oslo.messaging registers these on the global cfg.CONF only, and reads them from whatever it is handed.
_GLOBAL_ONLY = (
    ("oslo_messaging._metrics.client", "oslo_messaging_metrics"),
    ("oslo_messaging._tracing.client", "oslo_messaging_tracing"),
)


#: The module that the exceptions below are sent as: the one that a client of the release before knows them by, and has
#: in its own list. A stub of that name stands there for one release more; then they are sent as this module's.
_SENT_AS = "vmhb_worker.rpcapi"


class InvalidArgument(Exception):
    """You broke the rules: the text names the argument, its value and what it must be."""

    __module__ = _SENT_AS


class WorkerBusy(Exception):
    """The worker lives, but its engine did not answer within ANSWER_TIME. Try again."""

    __module__ = _SENT_AS


class WorkerFailed(Exception):
    """The worker met an error of its own; its log says more."""

    __module__ = _SENT_AS


class Unproven(Exception):
    """Somebody answered, and that it was the worker who was asked is not shown. Never sent."""


_ERRORS = (InvalidArgument, WorkerBusy, WorkerFailed)


def get_transport(conf: cfg.ConfigOpts, url: str | None = None, limit: int = sizes.MAX_MESSAGE, **flags: str) -> Any:
    """A transport over which the exceptions above arrive as themselves. url: by default [DEFAULT] transport_url. limit:
    bytes of any message that comes over it; `sizes.MAX_LIST` for whoever asks for a list of all that there is. flags:
    over the options of [oslo_messaging_rabbit], unless the URL has them itself."""
    for module, name in _GLOBAL_ONLY:
        with suppress(ImportError, AttributeError):
            conf.register_opts(getattr(importlib.import_module(module), name), group=name)
    where: Any = url
    if flags:
        where = oslo_messaging.TransportURL.parse(conf, url)
        where.query = {**flags, **where.query}
    transport = oslo_messaging.get_rpc_transport(conf, url=where, allowed_remote_exmods=[__name__, _SENT_AS])
    return sizes.bounded(transport, limit)


@contextmanager
def asking(conf: cfg.ConfigOpts, url: str | None = None, limit: int = sizes.MAX_LIST) -> Iterator[Any]:
    """The same, for a call or two: nothing of it is left in the broker at the end. BLOCKS there for
    `short_lived.END_TIME` at most."""
    with short_lived(get_transport(conf, url, limit, **FLAGS)) as transport:
        yield transport


class WorkerAPI:
    """Calls and casts to workers, by the host that they are on. Threads: may be shared.

    A call raises oslo_messaging.MessagingTimeout where no worker answers, or one of the above. A cast tells nothing,
    and raises oslo_messaging.MessageDeliveryFailure where the broker cannot be reached. Both raise limited.NoEnd where
    the broker keeps them waiting, for `timeout` and CONNECT_TIME, or CAST_TIME: which says nothing of the worker.
    """

    def __init__(
        self,
        transport: Any,
        conf: cfg.ConfigOpts | None = None,
        timeout: float = CALL_TIMEOUT,
        own: Own | None = None,
        trusted: Trusted | None = None,
        check: SenderCheck = SenderCheck.OFF,
    ) -> None:
        """conf: where [upgrade_levels] vmhb_worker is read from. timeout: seconds that a call may take. own: the key
        that is signed with; trusted: those of workers; check: what is done with an answer that is not signed."""
        self._own, self._trusted = own, trusted
        self.check = check
        cap = None
        if conf is not None:
            upgrade_levels.register(conf)
            cap = conf.upgrade_levels.vmhb_worker
        target = oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC, version=_FIRST)
        # retry: how often a broken connection is mended before a call or cast fails, rather than for ever.
        self._client = oslo_messaging.get_rpc_client(
            transport, target, version_cap=cap or VERSION, timeout=timeout, retry=1
        )
        self._within_call = Limited("a call to a worker", timeout + CONNECT_TIME)
        self._within_cast = Limited("telling a worker", CAST_TIME)

    def list(self, host: str) -> list[dict[str, Any]]:
        """The instances that this worker watches, one dict each."""
        result: list[dict[str, Any]] = self._call(host, "list")
        return result

    def show(self, host: str, instance_uuid: str) -> dict[str, Any] | None:
        """All that this worker knows of one instance; None where it does not watch it."""
        result: dict[str, Any] | None = self._call(host, "show", instance_uuid=instance_uuid)
        return result

    def configure(
        self, host: str, instance_uuid: str, policy: Mapping[str, str], *, observed_at: datetime | None = None
    ) -> None:
        """Cast: this instance's flavor asks for monitoring; see to it that its domain says so, and has its channels.

        policy: the flavor's knobs by their bare names, as text: `model.policy.knobs_of_extra_specs`. The worker bounds
        them as it bounds those that it finds in a domain. observed_at: when they were seen, aware; by default when they
        arrive. May come late, any number of times, and after a newer one, which stays. Workers that speak 1.0 are not
        told the time: where [upgrade_levels] says that there are some.
        """
        arguments: dict[str, Any] = {"instance_uuid": instance_uuid, "policy": dict(policy)}
        client = self._to(host)
        if observed_at is not None and self._client.can_send_version(_TIMED):
            arguments["observed_at"] = observed_at.isoformat()
            client = self._client.prepare(server=host, version=_TIMED)
        self._cast(client, host, "configure", **arguments)

    def expect_silence(
        self, host: str, instance_uuid: str, *, key: str, reason: str, timeout: float, observed_at: datetime
    ) -> None:
        """Cast: expect no heartbeats of this instance, for `timeout` seconds from observed_at at the longest.

        key: names this silence among those of the instance, for `end_silence`. observed_at: when what brings the
        silence about was seen, aware; what arrives late or out of order is told by it.
        """
        self._cast(
            self._to(host),
            host,
            "expect_silence",
            instance_uuid=instance_uuid,
            key=key,
            reason=reason,
            timeout=timeout,
            observed_at=observed_at.isoformat(),
        )

    def end_silence(self, host: str, instance_uuid: str, *, key: str, observed_at: datetime) -> None:
        """Cast: the silence of this key is over."""
        self._cast(
            self._to(host),
            host,
            "end_silence",
            instance_uuid=instance_uuid,
            key=key,
            observed_at=observed_at.isoformat(),
        )

    def release_brake(self, host: str, reason: str) -> bool:
        """Hold back no recovery on this host any more for the sake of those who are silent now. Was any held back?

        Workers before 1.2 have no brake: raises oslo_messaging.RemoteError, UnsupportedVersion.
        """
        released: bool = self._call(host, "release_brake", _RELEASED, reason=reason)
        return released

    def _call(self, host: str, method: str, version: str = _FIRST, **arguments: Any) -> Any:
        client = self._client.prepare(server=host, version=version)
        nonce = secrets.token_hex(8)
        context = {**self._context(host, method, arguments), signing.NONCE: nonce}
        try:
            answer = self._within_call(lambda: client.call(context, method, **arguments))
            return self._proven(answer, host, method, arguments, nonce)
        except _ERRORS as error:
            # oslo.messaging puts the worker's traceback into the text, and derives a class of its own.
            kind = next(kind for kind in _ERRORS if isinstance(error, kind))
            raise kind(str(error).partition("\n")[0]) from None

    def _proven(self, answer: Any, host: str, method: str, arguments: Mapping[str, Any], nonce: str) -> Any:
        """A worker that has a key signs its answer, to this very call; an older one, or one without, just answers.
        Raises Unproven."""
        answer, seal = signing.opened(answer)
        if self._trusted is not None and self.check is not SenderCheck.OFF:
            said = signing.answer(host, method, arguments, nonce, answer)
            decision = judge(self.check, self._trusted.check(seal, signing.ANSWER, said), Role.WORKER, host)
            if isinstance(decision, NotHeard):
                raise Unproven(f"what answered as the worker on {host} is not believed: {decision.why}")
        return answer

    def _context(self, host: str, method: str, arguments: Mapping[str, Any]) -> dict[str, str]:
        seal = self._own and self._own.sign(signing.CAST, signing.call(host, method, arguments))
        return {signing.SEAL: seal} if seal else {}

    def _cast(self, client: Any, host: str, method: str, **arguments: Any) -> None:
        context = self._context(host, method, arguments)
        self._within_cast(lambda: client.cast(context, method, **arguments))

    def _to(self, host: str) -> Any:
        return self._client.prepare(server=host)
