"""How a consumer is called over RPC: the contract, and the client. Knows nothing of what the consumer does.

For whoever keeps a view of the open faults and must make it anew: the Vitrage datasource, an operator's tool, tests.
"""

from __future__ import annotations

from typing import Any

from vmhb_common.messaging.limited import Limited
from vmhb_common.messaging.no_eventlet import without_eventlet

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


class ConsumerAPI:
    """Calls to the consumers; any of them answers. Threads: may be shared.

    A call raises oslo_messaging.MessagingTimeout where no consumer answers, MessageDeliveryFailure where the broker
    was lost, and oslo_messaging.RemoteError where the consumer met an error: its database may be away. And
    limited.NoEnd where the broker keeps it waiting, for `timeout` and CONNECT_TIME.
    """

    def __init__(self, transport: Any, timeout: float = CALL_TIMEOUT) -> None:
        """transport: of oslo.messaging, for RPC. timeout: seconds that a call may take."""
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
        why recoveries wait: `held`, `paused`, `observe_only`. What is new in it an older consumer leaves out."""
        found: dict[str, Any] = self._within(lambda: self._client.call({}, "about"))
        return found
