"""Nova's notifications: what a real Nova 34 sent (tests/samples/nova), and what it would have sent of other events.

`notification("power_off", "start", host="cn1")` is the real one where there is one, with these changes. Where there is
none, it is made of that of another action, with the same kind of payload.
"""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parent.parent / "samples" / "nova"
#: When things happen, unless a test says when.
NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
UUID = "9d1f0e52-8d5a-4d0e-9d62-0f2f8f6f3b21"
#: A flavor that asks for monitoring.
ASKS = {"hw:heartbeat": "true", "hw:heartbeat_interval": "1", "hw:cpu_policy": "dedicated"}


@dataclass(frozen=True)
class Message:
    """As it is handed to an endpoint, and what a publisher needs beside that."""

    publisher_id: str
    event_type: str
    payload: Any
    metadata: dict[str, Any]
    priority: str = "INFO"

    @property
    def arguments(self) -> tuple[Any, Any, Any, Any]:
        """For `parse`."""
        return self.publisher_id, self.event_type, self.payload, self.metadata

    @property
    def data(self) -> dict[str, Any]:
        """The payload's fields."""
        fields: dict[str, Any] = self.payload["nova_object.data"]
        return fields


@functools.cache
def _read(event_type: str) -> str | None:
    path = SAMPLES / f"{event_type}.json"
    return path.read_text() if path.exists() else None


def sample(event_type: str) -> Message:
    """As Nova sent it."""
    text = _read(event_type)
    assert text is not None, event_type
    return Message(**json.loads(text))


def samples() -> list[Message]:
    """All of them, by event type."""
    return [sample(path.name.removesuffix(".json")) for path in sorted(SAMPLES.glob("*.json"))]


def notification(
    action: str,
    phase: str = "",
    *,
    publisher: str = "nova-compute:node1",
    at: datetime | float = 0.0,
    specs: dict[str, str] | None = None,
    **data: Any,
) -> Message:
    """One that a publisher sends at a time, or so many seconds after NOON. data: fields of the payload.

    specs: the flavor's extra specs, by default ASKS.
    """
    event_type = f"instance.{action}.{phase}" if phase else f"instance.{action}"
    like = sample(event_type if _read(event_type) else "instance.power_off.start")
    payload = copy.deepcopy(like.payload)
    fields = payload["nova_object.data"]
    fields.update({"uuid": UUID, "request_id": "req-1"} | data)
    fields["flavor"]["nova_object.data"]["extra_specs"] = dict(ASKS if specs is None else specs)
    when = at if isinstance(at, datetime) else NOON + timedelta(seconds=at)
    stamp = str(when.astimezone(timezone.utc).replace(tzinfo=None))  # as oslo.messaging writes it
    return Message(
        publisher,
        event_type,
        payload,
        {"message_id": f"{event_type}@{stamp}", "timestamp": stamp},
        "ERROR" if phase == "error" else "INFO",
    )
