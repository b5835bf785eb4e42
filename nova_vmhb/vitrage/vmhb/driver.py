"""Vitrage's driver: fault notifications in, events for its transformer out; and all open faults, asked for."""

from __future__ import annotations

import functools
import queue
import threading
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
        """BLOCKS for `rpc_timeout` and a second. Raises when the consumer doesn't answer: then Vitrage leaves its
        alarms alone, where an empty list would delete them all."""
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


class Asking:
    """Asks, and waits no longer than it is told: oslo.messaging's first call waits for a broker that is away, for ever,
    and vitrage-graph would not even start meanwhile. One call at a time. Threads: Vitrage's, one at a time."""

    def __init__(self, ask: Callable[[], list[Any]]) -> None:
        """ask: BLOCKS, maybe for ever."""
        self._ask = ask
        self._thread: threading.Thread | None = None

    def within(self, seconds: float) -> list[Any]:
        """The answer. BLOCKS for so many seconds. Raises TimeoutError, or what `ask` raises."""
        if self._thread is not None and self._thread.is_alive():
            raise TimeoutError("nova-vmhb-consumer can't be asked: its broker has been away since it was asked before")
        answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(answers,), name="vmhb-active-faults", daemon=True)
        self._thread.start()
        try:
            answer = answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"nova-vmhb-consumer can't be asked within {seconds:g} s: is its broker away?") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _run(self, answers: queue.SimpleQueue[list[Any] | Exception]) -> None:
        try:
            answers.put(self._ask())
        except Exception as error:
            answers.put(error)


def _call_the_consumer() -> list[Any]:
    options = cfg.CONF[VMHB_DATASOURCE]
    target = oslo_messaging.Target(exchange="vmhb", topic="vmhb_consumer", version="1.0")
    client = oslo_messaging.get_rpc_client(
        _transport(options.transport_url), target, timeout=options.rpc_timeout, retry=1
    )
    answer: list[Any] = client.call({}, "active_faults")
    return answer


@functools.lru_cache(maxsize=1)
def _transport(url: str | None) -> Any:
    """One for the process: each leaves a queue for replies in RabbitMQ, for half an hour."""
    return messaging.get_rpc_transport(url)


_ASKING = Asking(_call_the_consumer)


def _ask_the_consumer() -> list[Any]:
    # The call itself ends after rpc_timeout, and says then what it waited for.
    return _ASKING.within(cfg.CONF[VMHB_DATASOURCE].rpc_timeout + 1)
