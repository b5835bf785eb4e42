"""How a consumer is called over RPC: the contract, and the client. Knows nothing of what the consumer does.

For whoever keeps a view of the open faults and must make it anew: the Vitrage datasource, an operator's tool, tests.
"""

from __future__ import annotations

import secrets
from typing import Any

from vmhb_common.messaging import signing
from vmhb_common.messaging.limited import Limited
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.messaging.sender_keys import Trusted
from vmhb_common.model.senders import NotHeard, Role, SenderCheck, judge

with without_eventlet():
    import oslo_messaging

#: Named in every Target: a message to another exchange is lost without an error.
EXCHANGE = "vmhb"
TOPIC = "vmhb_consumer"
#: 1.0: active_faults, about.
VERSION = "1.0"
#: Seconds that a call may take.
CALL_TIMEOUT = 10
#: Seconds more for what comes before its answer: a connection, and with the first one a reply queue.
CONNECT_TIME = 3.0


class Unproven(Exception):
    """Somebody answered, and that it was a consumer is not shown."""


class ConsumerAPI:
    """Calls to the consumers; any of them answers. Threads: may be shared.

    A call raises oslo_messaging.MessagingTimeout where no consumer answers, MessageDeliveryFailure where the broker
    was lost, and oslo_messaging.RemoteError where the consumer met an error: its database may be away. And
    limited.NoEnd where the broker keeps it waiting, for `timeout` and CONNECT_TIME.
    """

    def __init__(
        self,
        transport: Any,
        timeout: float = CALL_TIMEOUT,
        trusted: Trusted | None = None,
        check: SenderCheck = SenderCheck.OFF,
    ) -> None:
        """transport: of oslo.messaging, for RPC. timeout: seconds that a call may take. trusted: keys of consumers;
        check: what is done with an `about` that is not signed by one of those."""
        self._trusted, self.check = trusted, check
        target = oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC, version=VERSION)
        # retry: how often a broken connection is mended before a call fails, rather than for ever.
        self._client = oslo_messaging.get_rpc_client(transport, target, timeout=timeout, retry=1)
        self._within = Limited("a call to the consumers", timeout + CONNECT_TIME)

    def active_faults(self) -> list[dict[str, Any]]:
        """All open faults, drills included, as serialised FaultPayloads: the newest of each, oldest fault first."""
        found: list[dict[str, Any]] = self._within(lambda: self._client.call({}, "active_faults"))
        return found

    def about(self) -> dict[str, Any]:
        """Of the consumer that answers: `version`, `host`, `database` (the same for all who share one), `counts`, and
        why recoveries wait: `held`, `paused`, `observe_only`. What is new in it an older consumer leaves out. Raises
        Unproven, where that is checked."""
        nonce = secrets.token_hex(8)
        told, seal = signing.opened(self._within(lambda: self._client.call({signing.NONCE: nonce}, "about")))
        if self._trusted is not None and self.check is not SenderCheck.OFF:
            signature = self._trusted.check(seal, signing.ANSWER, signing.answer(TOPIC, "about", {}, nonce, told))
            decision = judge(self.check, signature, Role.CONSUMER, None)
            if isinstance(decision, NotHeard):
                raise Unproven(f"what answered as a consumer is not believed: it is {decision.why}")
        if not isinstance(told, dict):
            raise Unproven("what answered as a consumer is none: it says nothing of itself")
        return told
