"""[nova_notifications]: where Nova's notifications are read, and how long what they announce is believed."""

from __future__ import annotations

from oslo_config import cfg, types

from vmhb_common.conf.types import Word, prose, seconds_opt
from vmhb_common.model.silences import MAX_SILENCE
from vmhb_consumer.nova_operations import PLANNED, Operation
from vmhb_consumer.settings import NovaNotificationSettings

GROUP = "nova_notifications"
HELP = "Nova's notifications about instances, and what is told to workers of them"

_DEFAULT = NovaNotificationSettings()
#: As much as may be said. Of what is more than MAX_SILENCE no more is granted: a configuration of before, which might
#: say so, is still good.
_MOST = 7 * 86400.0


def _timeout_name(operation: Operation) -> str:
    return f"{operation}_timeout"


def _timeout_opt(operation: Operation) -> cfg.Opt:
    planned = PLANNED[operation]
    text = f"""
How long an instance is expected to be silent because {planned.reason}, where nothing is heard of the end of that.

The default is what it is because {planned.why}. Raise it where that takes longer on your hosts; a guest that dies
meanwhile is reported once this time is over.

Seconds, 1 to {_MOST:g}. More than {MAX_SILENCE:g} is taken as {MAX_SILENCE:g}: nothing that is announced holds longer.
"""
    return seconds_opt(_timeout_name(operation), planned.timeout, 1.0, _MOST, text)


OPTS = [
    cfg.MultiOpt(
        "transport_url",
        item_type=types.String(),
        secret=True,
        help=prose(
            """
The message broker that the nova-compute services notify, as transport_url in [oslo_messaging_notifications] of their
nova.conf, or in [DEFAULT] where there is none. May be given several times: once for each cell with a broker of its own.

By default [DEFAULT] transport_url, which is the one that workers are reached through. A cell whose queues have other
properties than [oslo_messaging_rabbit] says has them at the end of its URL: ?rabbit_quorum_queue=true.
"""
        ),
    ),
    cfg.Opt(
        "exchange",
        type=Word(),
        default=_DEFAULT.exchange,
        help=prose(
            """
The exchange that Nova sends its notifications to: [DEFAULT] control_exchange of nova.conf.

Change it only where nova.conf does. On another exchange nothing is heard, and nothing says so.
"""
        ),
    ),
    cfg.Opt(
        "topic",
        type=Word(),
        default=_DEFAULT.topic,
        help=prose(
            """
The topic to listen to: one of [notifications] versioned_notifications_topics of nova.conf.

Nobody else may read it, since whoever reads a message takes it from the others. Where Nova can't be told to send to a
topic of our own, say versioned_notifications here and set `pool`. One word of at most 200 bytes.
"""
        ),
    ),
    cfg.Opt(
        "pool",
        type=Word(),
        help=prose(
            """
Read copies, from a queue of this name, rather than the topic's own queue.

Set it where others read the topic as well. The name must be used nowhere else on that broker: two listeners of one
name share one queue. The topic's own queue must be read by somebody, or be bounded by a policy of RabbitMQ's. All
consumers have the same. One word of at most 200 bytes; by default there is no pool.
"""
        ),
    ),
    seconds_opt(
        "delivery_time",
        _DEFAULT.delivery_time,
        1.0,
        3600.0,
        """
How long it is tried to tell a worker, while the workers' message broker can't be reached, before the next notification
has its turn.

What is waiting meanwhile stays in Nova's message broker. Raise it where the workers' broker is expected to be away for
longer, and RabbitMQ's policy lets notifications live as long.

Seconds, 1 to 3600.
""",
    ),
    *(_timeout_opt(operation) for operation in Operation),
]


def settings(conf: cfg.ConfigOpts) -> NovaNotificationSettings:
    """The plain values. Raises ValueError (oslo.config's own is one) where one is out of bounds."""
    group = conf.nova_notifications
    return NovaNotificationSettings(
        transport_urls=tuple(group.transport_url or ()) or (None,),
        exchange=group.exchange,
        topic=group.topic,
        pool=group.pool,
        delivery_time=group.delivery_time,
        timeouts={operation: min(group[_timeout_name(operation)], MAX_SILENCE) for operation in Operation},
    )
