"""What a fault notification says, as Vitrage's driver hands it on; and which of several about one fault is the newest.

Pure, and standard library only: no Vitrage, no clock, no log. Time comes in as an argument.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

EVENT_TYPES = ("vmhb.fault.raised", "vmhb.fault.updated", "vmhb.fault.cleared")

#: Faults that are remembered, cleared ones among them: a late message about one that is forgotten would count.
REMEMBERED = 100_000
#: Seconds for which a fault that the consumer does not list yet is believed to be on its way to it.
ON_ITS_WAY = 60.0

_FIELDS = (
    *("fault_id", "sequence", "state", "severity", "occurred_at", "cause", "confidence", "recommended_action"),
    *("withheld", "resolution", "host", "instance_uuid", "display_name", "project_id", "reason"),
)
_REQUIRED = ("fault_id", "sequence", "state", "severity", "occurred_at", "cause", "host")


def entity(payload: Any) -> dict[str, Any] | None:
    """The fields of a serialised FaultPayload, version 1.x, that an alarm has; None for a drill.

    Raises ValueError, with one sentence, where it is not one. Words that a newer worker has for cause, severity and the
    like pass as they are: what is not `cleared` is open, and Vitrage has a severity for those that it does not know.
    """
    data = payload.get("vmhb_object.data") if isinstance(payload, Mapping) else None
    if not isinstance(data, Mapping) or payload.get("vmhb_object.name") != "FaultPayload":
        raise ValueError("it is not a FaultPayload: somebody else sends notifications of our event types")
    version = str(payload.get("vmhb_object.version"))
    if version.partition(".")[0] != "1":
        raise ValueError(f"FaultPayload has version {version}, and 1.x is what is understood here: upgrade nova-vmhb")
    missing = [name for name in _REQUIRED if data.get(name) is None]
    if missing:
        raise ValueError(f"FaultPayload without {', '.join(missing)}")
    if not isinstance(data["sequence"], int) or isinstance(data["sequence"], bool):
        raise ValueError(f"FaultPayload with sequence {data['sequence']!r:.40}: a number is required")
    for name in _FIELDS:
        if name != "sequence" and not isinstance(data.get(name), str | None):
            raise ValueError(f"FaultPayload with {name} of type {type(data[name]).__name__}: a text is required")
    if not _is_time(data["occurred_at"]):
        raise ValueError(f"FaultPayload with occurred_at {data['occurred_at'][:40]!r}: an ISO 8601 time is required")
    if data.get("drill"):
        return None
    return {name: data.get(name) for name in _FIELDS}


def _is_time(text: str) -> bool:
    """What Vitrage can't read would be an error in the middle of its graph."""
    try:
        datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Known:
    entity: dict[str, Any]
    at: float

    @property
    def cleared(self) -> bool:
        return bool(self.entity["state"] == "cleared")


class Board:
    """The newest that is known of each fault. Thread-safe.

    Vitrage's listener hands messages to 64 threads, so a `cleared` may come before its own `raised`. A `cleared` is
    final for its fault_id.
    """

    def __init__(self, limit: int = REMEMBERED) -> None:
        """limit: of faults that are remembered; those unchanged for longest go first."""
        self._limit = limit
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, one: dict[str, Any], now: float) -> dict[str, Any] | None:
        """What an update means: it, or None where it is overtaken. now: monotonic seconds."""
        with self._lock:
            before = self._known.get(one["fault_id"])
            if before is not None and (before.cleared or one["sequence"] < before.entity["sequence"]):
                return None
            self._note(one, now)
            return one

    def confirm(self, one: dict[str, Any], now: float) -> dict[str, Any] | None:
        """What it means that the consumer lists this fault as open: it, or what is newer here; None when it is over."""
        with self._lock:
            before = self._known.get(one["fault_id"])
            if before is not None and before.cleared:
                return None
            if before is not None and one["sequence"] < before.entity["sequence"]:
                return {**one, **{name: before.entity[name] for name in _FIELDS}}
            self._note(one, now)
            return one

    def on_their_way(self, listed: set[str], now: float) -> list[dict[str, Any]]:
        """Open faults that the consumer doesn't list, told of so recently that it may not know them yet."""
        with self._lock:
            return [
                {name: known.entity[name] for name in _FIELDS}
                for fault_id, known in self._known.items()
                if fault_id not in listed and not known.cleared and now - known.at < ON_ITS_WAY
            ]

    def _note(self, one: dict[str, Any], now: float) -> None:
        self._known[one["fault_id"]] = _Known({name: one[name] for name in _FIELDS}, now)
        self._known.move_to_end(one["fault_id"])
        if len(self._known) > self._limit:
            self._known.popitem(last=False)


#: Of this process. Driver and transformer of a datasource are made by Vitrage, and share nothing else.
BOARD = Board()
