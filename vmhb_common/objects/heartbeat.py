"""The payload of `vmhb.heartbeat.established` and `vmhb.heartbeat.ended`: nobody leaves monitoring unseen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oslo_versionedobjects import base
from oslo_versionedobjects import fields as ovo

from vmhb_common.model.fault import Identity
from vmhb_common.model.policy import Channel
from vmhb_common.model.words import StrEnum
from vmhb_common.objects.base import Payload
from vmhb_common.objects.fault import words


class HeartbeatState(StrEnum):
    """Did the monitoring of an instance begin, or end?"""

    ESTABLISHED = "established"
    ENDED = "ended"

    @property
    def event_type(self) -> str:
        """The event type of its notification."""
        return f"vmhb.heartbeat.{self}"


@base.VersionedObjectRegistry.register
class HeartbeatPayload(Payload):
    """An instance answered for the first time ever, or is no longer expected to. Never a fault."""

    # 1.0: first version
    VERSION = "1.0"

    fields = {  # noqa: RUF012 # oslo's way
        "host": ovo.StringField(),
        "instance_uuid": ovo.UUIDField(),
        "instance_name": ovo.StringField(nullable=True),
        "display_name": ovo.StringField(nullable=True),
        "project_id": ovo.StringField(nullable=True),
        "flavor_name": ovo.StringField(nullable=True),
        "channel": ovo.EnumField(words(Channel)),
        "occurred_at": ovo.DateTimeField(),
        "reason": ovo.StringField(nullable=True),
        "state": ovo.EnumField(words(HeartbeatState)),
    }


@dataclass(frozen=True, slots=True)
class HeartbeatChange:
    """What is to be said. channel: `agent` or `application`. occurred_at: aware, in UTC. reason: one sentence."""

    host: str
    who: Identity
    channel: str
    state: HeartbeatState
    occurred_at: datetime
    reason: str | None = None


def heartbeat_payload(change: HeartbeatChange) -> dict[str, Any]:
    """The serialised primitive. ValueError where a field is not of its type."""
    return HeartbeatPayload(
        host=change.host,
        instance_uuid=change.who.instance_uuid,
        instance_name=change.who.instance_name,
        display_name=change.who.display_name,
        project_id=change.who.project_id,
        flavor_name=change.who.flavor_name,
        channel=str(change.channel),
        occurred_at=change.occurred_at,
        reason=change.reason,
        state=str(change.state),
    ).to_dict()
