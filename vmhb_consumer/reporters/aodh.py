"""Publishes each change of a fault as an event for Aodh, straight to the queue of its listener: no ceilometer between.

The shape of an event is aodh.event's and aodh.evaluator.event's, unchanged from Aodh 22.0 to 23.0: a notification of
priority `sample`, whose payload is a list of `{message_id, event_type, generated, traits: [[name, type, value], …]}`.
Knows no alarm: those belong to whoever wants to hear of a fault, in the instance's project.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from oslo_config import cfg

from vmhb_common.conf.types import Word, prose
from vmhb_common.messaging import broker
from vmhb_common.messaging.publisher import EXCHANGE, DeliveryError, Line
from vmhb_common.model.fault import Change, Fault
from vmhb_consumer.reporters.base import CannotBeMade, Case, Done, Later, Outcome, Refused, Reporter, made

#: Of a trait, as Aodh numbers them.
TEXT, INTEGER, TIME = 1, 2, 4
#: Aodh's listener has no other.
PRIORITY = "SAMPLE"
#: `Reporter.check` may take 4 s.
CHECK = 3.5

_TEXTS = (
    *("fault_id", "state", "severity", "cause", "confidence", "recommended_action", "withheld", "resolution"),
    *("host", "instance_name", "display_name", "flavor_name", "channel", "reason"),
)


def event(change: Change, fault: Fault, project_id: str) -> dict[str, Any]:
    """The event of a change. Told twice, it is the same: message_id comes of fault_id and sequence."""
    traits = [
        # Aodh finds its alarms by project_id, and so does whoever lists events by tenant_id.
        ["project_id", TEXT, project_id],
        ["tenant_id", TEXT, project_id],
        ["service", TEXT, "nova-vmhb"],
        *(["resource_id", TEXT, uuid] for uuid in [fault.instance_uuid] if uuid is not None),
        *([name, TEXT, str(getattr(fault, name))] for name in _TEXTS if getattr(fault, name) is not None),
        ["drill", TEXT, str(fault.drill)],  # as ceilometer makes it of the notification
        ["sequence", INTEGER, fault.sequence],
        ["recovery_attempt", INTEGER, fault.recovery_attempt],
        ["occurred_at", TIME, _iso(fault.occurred_at)],
        ["raised_at", TIME, _iso(fault.raised_at)],
    ]
    return {
        "message_id": message_id(fault),
        "event_type": str(change),
        "generated": _iso(fault.occurred_at),
        "traits": traits,
    }


def message_id(fault: Fault) -> str:
    """The same for ever for the same fault_id and sequence."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"nova-vmhb:{fault.fault_id} {fault.sequence}"))


def _iso(moment: datetime) -> str:
    """UTC without an offset, which is what Aodh has."""
    return moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat()


class AodhReporter(Reporter):
    """See the module. One connection, which is made with the first event. BLOCKS for
    `notifications.SEND_TIME` at most."""

    name = "aodh"
    summary = "Events for Aodh's event alarms, published straight to its listener"
    #: An alarm's action may: so its query has to say `traits.drill=string::False`, as in our samples.
    acts = False
    by_project = True

    @classmethod
    def options(cls) -> Sequence[cfg.Opt]:
        """Its group."""
        return _OPTIONS

    def __init__(
        self,
        options: Any,
        now: Callable[[], datetime],
        connect: Callable[[cfg.ConfigOpts, str | None], Any] = broker.transport,
    ) -> None:
        """As the contract says. connect: makes a transport."""
        if not options.transport_url:
            raise ValueError("transport_url is missing: say which message broker aodh-listener reads")
        _, problem = broker.shown(_messaging(), options.transport_url)
        if problem is not None:
            raise ValueError(f"transport_url is not a transport URL: {problem}")
        self._conf = _messaging()
        self._url: str = options.transport_url
        self._exchange: str = options.exchange
        self._topic: str = options.topic
        self._host_project: str | None = options.host_project_id
        self._now = now
        self._line = Line(lambda: connect(self._conf, self._url), self._exchange, self._topic, PRIORITY)

    def check(self) -> str | None:
        """Connects, and declares exchange and queue as the first event would."""
        queue = f"{self._topic}.{PRIORITY.lower()}"
        return broker.check_sending(self._conf, self._url, self._exchange, [queue], CHECK)

    def wants(self, change: Change, fault: Fault) -> bool:
        """Not what no project would see."""
        return self._project(fault) is not None

    def deliver(self, case: Case) -> Outcome:
        """Done once the broker has confirmed that the listener's queue holds it."""
        project = self._project(case.fault)
        if project is None:
            return Done(known=False)
        try:
            told = made(lambda: event(case.change, case.fault, project), "an event", case.fault)
        except CannotBeMade as error:
            return Refused(str(error))
        message = {
            "message_id": message_id(case.fault),
            "publisher_id": "nova-vmhb-consumer",
            "event_type": "event",  # not looked at: the events have theirs
            "priority": PRIORITY,
            "payload": [told],
            "timestamp": str(self._now().astimezone(timezone.utc).replace(tzinfo=None)),
        }
        try:
            self._line.send({"project_id": project}, message)
        except DeliveryError as error:
            return Later(None, str(error))
        return Done()

    def close(self) -> None:
        """Without waiting for the broker."""
        self._line.discard()

    def _project(self, fault: Fault) -> str | None:
        """Whose alarms see it."""
        return fault.project_id or self._host_project


def _messaging() -> cfg.ConfigOpts:
    """A configuration of its own, with oslo.messaging's defaults: what differs from them stands in the URL."""
    conf = cfg.ConfigOpts()
    conf([], project="nova-vmhb", default_config_files=[], default_config_dirs=[])
    return conf


_OPTIONS = (
    cfg.StrOpt(
        "transport_url",
        secret=True,
        help=prose(
            """
The message broker that aodh-listener reads: transport_url of aodh.conf, of [oslo_messaging_notifications] where it has
one there, else of [DEFAULT]. Required.

What aodh.conf has in [oslo_messaging_rabbit] about queues (rabbit_quorum_queue, amqp_durable_queues) goes at the end of
it: rabbit://…/?rabbit_quorum_queue=true. Otherwise RabbitMQ refuses us, and --check-config says so.
"""
        ),
    ),
    cfg.Opt(
        "topic",
        type=Word(),
        default="alarm.all",
        help=prose(
            "Where aodh-listener listens: [listener] event_alarm_topic of aodh.conf. Change it where that does."
        ),
    ),
    cfg.Opt(
        "exchange",
        type=Word(),
        default=EXCHANGE,
        help=prose("The exchange to publish through. The listener's queue is bound to it, whatever its own is."),
    ),
    cfg.StrOpt(
        "host_project_id",
        help=prose(
            """
The project whose alarms see the faults of hosts, and of instances whose project is not known.

Aodh shows an event to the alarms of one project: an instance's faults to those of the instance's own. By default faults
without a project are not published here.
"""
        ),
    ),
)
