"""What one turn of the engine's loop changed, gathered into one commit: rows, faults, and the notifications of both.

Belongs to the engine's thread. Must not decide anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from vmhb_common.model.fault import Fault, Identity
from vmhb_common.objects import (
    WORKER_ALIVE,
    HeartbeatChange,
    HeartbeatState,
    SignOfLife,
    fault_as_told,
    fault_payload,
    heartbeat_payload,
    worker_payload,
)
from vmhb_worker.core.fault_register import Entry
from vmhb_worker.interfaces import Commit, InstanceRow, Message, Store


class Changes:
    """The commit in the making."""

    def __init__(self, host: str, store: Store) -> None:
        self._host = host
        self._store = store
        self._clear()

    def fault(self, entry: Entry) -> None:
        """A change of a fault, or a reminder of it."""
        fault = entry.fault
        self._faults[fault.fault_id] = fault
        self._announce[fault.fault_id] = entry.owed
        self.drop(entry.dropped)
        collapse = f"reminder:{fault.fault_id}" if entry.reminder else ""
        payload = _payload(fault)
        self._messages.append(Message(str(entry.change), payload, fault.project_id, fault.fault_id, collapse))

    def drop(self, fault_ids: Iterable[str]) -> None:
        """These are told no more, and so need not be known; what has been told of them goes its way."""
        self._announce.update(dict.fromkeys(fault_ids, 0))

    def heartbeat(self, who: Identity, channel: str, wall: datetime, ended: str | None = None) -> None:
        """Monitoring of an instance began, or ended for the reason given."""
        state = HeartbeatState.ESTABLISHED if ended is None else HeartbeatState.ENDED
        change = HeartbeatChange(self._host, who, channel, state, wall, ended)
        self._messages.append(Message(state.event_type, heartbeat_payload(change), who.project_id))

    def alive(self, sign: SignOfLife) -> None:
        """The worker's sign of life."""
        self._messages.append(Message(WORKER_ALIVE, worker_payload(sign), collapse="alive"))

    def instance(self, row: InstanceRow) -> None:
        """What must be known of an instance after a restart."""
        self._forget.discard(row.uuid)
        self._rows[row.uuid] = row

    def forget(self, uuid: str) -> None:
        """Nothing of this instance need be known any more."""
        self._rows.pop(uuid, None)
        self._forget.add(uuid)

    def probe(self, uuid: str, period: int | None, done: Callable[[], None] | None = None) -> None:
        """A balloon period that is to be put back, or (None) has been. done: called once that is stored."""
        self._probes[uuid] = period
        if done is not None:
            self._done.append(done)

    def flush(self) -> None:
        """Hand it to the store, as one transaction."""
        if not (self._rows or self._forget or self._announce or self._probes or self._messages):
            return
        commit = Commit(
            instances=tuple(self._rows.values()),
            forget=tuple(self._forget),
            faults=tuple(self._faults.values()),
            announce=self._announce,
            probes=self._probes,
            messages=tuple(self._messages),
        )
        callbacks = self._done

        def done() -> None:
            for callback in callbacks:
                callback()

        self._store.commit(commit, done if callbacks else None)
        self._clear()  # only now: what was not taken goes with the next turn's

    def _clear(self) -> None:
        self._rows: dict[str, InstanceRow] = {}
        self._forget: set[str] = set()
        self._faults: dict[str, Fault] = {}
        self._announce: dict[str, int] = {}
        self._probes: dict[str, int | None] = {}
        self._messages: list[Message] = []
        self._done: list[Callable[[], None]] = []


def _payload(fault: Fault) -> dict[str, Any]:
    """As our own words make it; or as it was told, of one that a newer worker has left here."""
    try:
        return fault_payload(fault)
    except ValueError:
        return fault_as_told(fault)
