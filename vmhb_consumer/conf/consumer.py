"""[consumer]: what this consumer does, and whom it tells of faults."""

from __future__ import annotations

from pathlib import Path

from oslo_config import cfg, types

from vmhb_common.conf import senders
from vmhb_common.conf.types import prose, seconds_opt
from vmhb_consumer.conf import recovery
from vmhb_consumer.settings import FaultSettings, Half

GROUP = "consumer"
HELP = "What this consumer does, and whom it tells of faults"

_DEFAULT = FaultSettings(host="")
_DAY = 86400.0
#: A leap year is one, too.
_YEAR = 366 * _DAY

OPTS = [
    cfg.ListOpt(
        "halves",
        default=[str(half) for half in Half],
        item_type=types.String(choices=[str(half) for half in Half]),
        help=prose(
            """
What is run: instances (Nova's notifications, told to workers), faults (faults, told to reporters), or both.

Leave out faults where nothing is to be told of them, or where another consumer does that: then no database is needed.
Leave out instances on a consumer that can't reach Nova's message brokers. Names, separated by commas.
"""
        ),
    ),
    cfg.ListOpt(
        "reporters",
        default=list(_DEFAULT.reporters),
        item_type=types.String(),
        help=prose(
            """
Who is told of faults: each is a plugin with a group of its own, [reporter_<name>], and none waits for another.

Name those whose backends are there. Removing one keeps what waits for it, in case it comes back; one
that is added hears of open faults with their next reminder. Names, separated by commas; none: faults are only kept, and
answered for.
"""
        ),
    ),
    seconds_opt(
        "reminder_interval",
        _DEFAULT.reminder_interval,
        1.0,
        _DAY,
        """
How often open faults are announced again: as [verdict] reminder_interval of the workers, the longest where they
differ, and how often the consumer repeats its own.

A fault whose reminders stopped for three intervals is looked into: its worker is asked, and Nova, and it is closed
where it is no more. Change it with the workers'.

Seconds, 1 to 86400.
""",
    ),
    seconds_opt(
        "worker_forget",
        _DEFAULT.worker_forget,
        60.0,
        7 * _DAY,
        """
How long a worker that fell silent is missed. After that its worker_lost is closed as unmonitored.

A worker that is stopped for good, with its host, is reported as lost all the same, three minutes later: nobody watches
what may run there. Lower it where hosts come and go.

Seconds, 60 to 604800.
""",
        mutable=True,
    ),
    seconds_opt(
        "keep",
        _DEFAULT.keep,
        3600.0,
        _YEAR,
        f"""
How long faults that are over are kept in the database, and what could not be delivered.

Lower it where the database must stay small; each fault takes some kilobytes. Raise it, to a year at the most, where
somebody looks back that far. What is still to be delivered is kept whatever its age. A notification of a fault that is
forgotten comes as news.

Seconds, 3600 to {_YEAR:.0f}.
""",
        mutable=True,
    ),
]


def halves(conf: cfg.ConfigOpts) -> frozenset[Half]:
    """What is to be run. Raises ValueError where a value is out of bounds."""
    return frozenset(map(Half, conf.consumer.halves))


def settings(conf: cfg.ConfigOpts) -> FaultSettings:
    """The plain values. Raises ValueError (oslo.config's own is one) where one is out of bounds."""
    group, topics = conf.consumer, conf.vmhb_notifications
    return FaultSettings(
        host=conf.host,
        state_path=Path(conf.state_path),
        reporters=tuple(dict.fromkeys(group.reporters)),
        reminder_interval=group.reminder_interval,
        worker_forget=group.worker_forget,
        keep=group.keep,
        topics=tuple(dict.fromkeys(topics.topics)),
        transport_url=topics.transport_url or None,
        recovery=recovery.settings(conf),
        senders=senders.settings(conf),
    )
