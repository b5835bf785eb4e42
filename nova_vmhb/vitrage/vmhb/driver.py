"""Vitrage's driver: fault notifications in, events for its transformer out; and all open faults, asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_log import log
from vitrage import messaging
from vitrage.common.constants import DatasourceAction
from vitrage.common.constants import DatasourceProperties as DSProps
from vitrage.datasources.driver_base import DriverBase

from nova_vmhb.vitrage.faults import BOARD, EVENT_TYPES, Board, entity
from nova_vmhb.vitrage.vmhb import VMHB_DATASOURCE

LOG = log.getLogger(__name__)


class VmhbDriver(DriverBase):
    """Made by Vitrage, once. Threads: `enrich_event` on any number at a time, `get_all` on one of its own."""

    def __init__(
        self,
        active_faults: Callable[[], list[Any]] | None = None,
        board: Board = BOARD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """active_faults: asks the consumer."""
        super().__init__()
        self._active_faults = active_faults or _ask_the_consumer
        self._board = board
        self._clock = clock

    @staticmethod
    def get_event_types() -> list[str]:
        """Exactly these: Vitrage's documentation promises prefixes, its code compares."""
        return list(EVENT_TYPES)

    def enrich_event(self, event: Any, event_type: str) -> dict[str, Any] | None:
        """Which of several is the newest is the transformer's affair, which runs under Vitrage's lock."""
        return self._event(event, DatasourceAction.UPDATE, event_type)

    def get_all(self, datasource_action: str) -> list[dict[str, Any]]:
        """BLOCKS for `rpc_timeout`. Raises when the consumer doesn't answer: then Vitrage leaves its alarms alone,
        where an empty list would delete them all."""
        found = [self._event(payload, datasource_action) for payload in self._active_faults()]
        events = [event for event in found if event is not None]
        listed = {event["fault_id"] for event in events}
        recent = self._board.on_their_way(listed, self._clock())
        return [*events, *(self._of(one, datasource_action) for one in recent)]

    @staticmethod
    def should_delete_outdated_entities() -> bool:
        """An alarm that is not among all open faults is over: its clear was lost."""
        return True

    def _event(self, payload: Any, action: str, event_type: str | None = None) -> dict[str, Any] | None:
        try:
            one = entity(payload)
        except ValueError as error:
            LOG.warning("a fault notification is ignored: %s", error)
            return None
        return None if one is None else self._of(one, action, event_type)

    def _of(self, one: dict[str, Any], action: str, event_type: str | None = None) -> dict[str, Any]:
        if event_type is not None:
            one[DSProps.EVENT_TYPE] = event_type
        made: dict[str, Any] = self.make_pickleable([one], VMHB_DATASOURCE, action)[0]
        return made


def _ask_the_consumer() -> list[Any]:
    options = cfg.CONF[VMHB_DATASOURCE]
    client = oslo_messaging.get_rpc_client(
        messaging.get_rpc_transport(options.transport_url),
        oslo_messaging.Target(exchange="vmhb", topic="vmhb_consumer", version="1.0"),
        timeout=options.rpc_timeout,
        retry=1,
    )
    answer: list[Any] = client.call({}, "active_faults")
    return answer
