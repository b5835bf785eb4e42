"""[vmhb_notifications]: where faults are sent."""

from __future__ import annotations

from oslo_config import cfg

from vmhb_common.conf.types import Word, prose

GROUP = "vmhb_notifications"
HELP = "Where fault notifications go"

OPTS = [
    cfg.ListOpt(
        "topics",
        default=["vmhb_notifications"],
        item_type=Word(),
        help=prose(
            """
The topics that each notification is sent to, a copy to each, on the exchange vmhb.

The consumer listens to vmhb_notifications. Add vitrage_notifications for Vitrage, notifications for Ceilometer. A topic
that nobody reads fills a queue: name only those that are read. At least one, each one word of at most 200 bytes.
"""
        ),
    ),
    cfg.StrOpt(
        "transport_url",
        secret=True,
        help=prose(
            """
The message broker for notifications, as [DEFAULT] transport_url.

Set it to send notifications to another broker than the one that the worker is reached through. By default that one.

On both, [oslo_messaging_rabbit] rabbit_quorum_queue is as in all services that share the queues; and where that is
true, rabbit_transient_quorum_queue as well, which a RabbitMQ 4 that permits no transient queues cannot do without.
"""
        ),
    ),
]
