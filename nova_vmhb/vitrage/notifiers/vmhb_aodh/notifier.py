"""Vitrage's alarms, deduced ones as well, as events for Aodh: `vitrage.alarm.activate` and `vitrage.alarm.deactivate`.

In the place of `vitrage.notifier.plugins.aodh`, which has raised a TypeError for each alarm since 2019. An event alarm
of whoever wants to hear of it fires on the event type, with the resource in its query.
"""

from __future__ import annotations

from collections.abc import Callable
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
#: The queue is bound to it, whatever exchange aodh-listener has; the first message declares both.
EXCHANGE = "vmhb"


def event(data: dict[str, Any], event_type: str) -> dict[str, Any]:
    """As aodh-listener wants it, of the alarm's vertex. Nothing that is unknown is in it."""
    resource = data.get(VProps.RESOURCE) or {}
    resource = resource.get("properties", resource)  # a vertex, as it comes out of JSON
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
    """Made by vitrage-notifier, once; called by any of its threads."""

    def __init__(self, send: Callable[[dict[str, Any]], None] | None = None) -> None:
        """send: gives an event to aodh-listener's broker."""
        super().__init__()
        self._send = send or _sender()

    @staticmethod
    def get_notifier_name() -> str:
        """As in `[DEFAULT] notifiers`."""
        return "vmhb_aodh"

    def process_event(self, data: dict[str, Any], event_type: str) -> None:
        """BLOCKS while the broker is away, as `retry` says. Raises nothing: Vitrage asks its other notifiers next."""
        if event_type not in NotifierEventTypes.ALARMS:
            return
        try:
            self._send(event(data, event_type))
        except Exception as error:
            LOG.error("%s of alarm %s is lost to Aodh: %s", event_type, data.get(VProps.NAME), error)


def _sender() -> Callable[[dict[str, Any]], None]:
    """`oslo_messaging.Notifier` hides failures, and can't be told an exchange: so it is the transport below it."""
    options = cfg.CONF.vmhb_aodh
    # Not Vitrage's cached one: that is for its own broker, whatever URL is asked for.
    transport = messaging.get_transport(options.transport_url, cache=False)
    target = oslo_messaging.Target(exchange=EXCHANGE, topic=f"{options.topic}.sample")

    def send(one: dict[str, Any]) -> None:
        message = {
            "message_id": one["message_id"],
            "publisher_id": "vitrage.vmhb_aodh",
            "event_type": "event",  # not looked at: the event has its own
            "priority": "SAMPLE",
            "payload": [one],
            "timestamp": str(timeutils.utcnow()),
        }
        transport._send_notification(target, {}, message, version=2.0, retry=options.retry)

    return send
