"""Vitrage's alarms, deduced ones as well, as events for Aodh: `vitrage.alarm.activate` and `vitrage.alarm.deactivate`.

In the place of `vitrage.notifier.plugins.aodh`, which has raised a TypeError for each alarm since 2019. An event alarm
of whoever wants to hear of it fires on the event type, with the resource in its query.
"""

from __future__ import annotations

from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_log import log
from oslo_utils import timeutils, uuidutils
from vitrage import messaging
from vitrage.common.constants import NotifierEventTypes
from vitrage.common.constants import VertexProperties as VProps
from vitrage.notifier.plugins.base import NotifierBase

LOG = log.getLogger(__name__)

#: Of a trait, as Aodh numbers them.
TEXT = 1


def event(data: dict[str, Any], event_type: str) -> dict[str, Any]:
    """As aodh-listener wants it. Nothing that is unknown is in it."""
    resource = data.get(VProps.RESOURCE) or {}
    traits = {
        "project_id": data.get(VProps.VITRAGE_RESOURCE_PROJECT_ID) or data.get(VProps.PROJECT_ID),
        "resource_id": resource.get(VProps.ID) or data.get(VProps.RESOURCE_ID),
        "resource_type": data.get(VProps.VITRAGE_RESOURCE_TYPE),
        "alarm_name": data.get(VProps.NAME),
        "vitrage_type": data.get(VProps.VITRAGE_TYPE),
        "vitrage_id": data.get(VProps.VITRAGE_ID),
        "severity": data.get(VProps.VITRAGE_OPERATIONAL_SEVERITY),
        "reason": data.get(VProps.RAWTEXT),
    }
    return {
        "message_id": uuidutils.generate_uuid(),
        "event_type": event_type,
        "generated": timeutils.utcnow().isoformat(),
        "traits": [[name, TEXT, str(value)] for name, value in traits.items() if value is not None],
    }


class VmhbAodhNotifier(NotifierBase):
    """Made by vitrage-notifier, once."""

    def __init__(self, sender: Any = None) -> None:
        """sender: an oslo.messaging Notifier."""
        super().__init__()
        self._sender = sender or _sender()

    @staticmethod
    def get_notifier_name() -> str:
        """As in `[DEFAULT] notifiers`."""
        return "vmhb_aodh"

    def process_event(self, data: dict[str, Any], event_type: str) -> None:
        """BLOCKS while the broker is away, as `retry` says."""
        if event_type in NotifierEventTypes.ALARMS:
            self._sender.sample({}, "event", [event(data, event_type)])


def _sender() -> Any:
    options = cfg.CONF.vmhb_aodh
    return oslo_messaging.Notifier(
        # Not Vitrage's cached one: that is for its own broker, whatever URL is asked for.
        messaging.get_transport(options.transport_url, cache=False),
        driver="messagingv2",
        publisher_id="vitrage.vmhb_aodh",
        topics=[options.topic],
        retry=options.retry,
    )
