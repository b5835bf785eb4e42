"""[recovery]: how many recoveries are let through, in the whole cloud and for one instance."""

from __future__ import annotations

from oslo_config import cfg

from vmhb_common.conf.types import prose, seconds_opt
from vmhb_consumer.settings import RecoverySettings

GROUP = "recovery"
HELP = "How many recoveries reporters may ask for: all consumers that share a database count together"

_DEFAULT = RecoverySettings()


def _count(name: str, default: int, maximum: int, text: str, minimum: int = 1) -> cfg.Opt:
    return cfg.IntOpt(name, default=default, min=minimum, max=maximum, help=prose(text), mutable=True)


OPTS = [
    _count(
        "max_concurrent",
        _DEFAULT.max_concurrent,
        10000,
        """
How many recoveries may be under way at a time. Others wait, and the log says so.

One is under way from when it is asked for until its reporter says that it has ended, the fault is cleared, or
recovery_time is over. While another project waits no project is given more than half of these (rounded up), and the
last one is always kept for a project that has less than that: so one tenant whose guests all fail doesn't keep others'
from being recovered.

Raise it where many instances of one application must come back together, and Nova and the storage bear it. 0 stops
all: what asks for recovery waits, until you say another number and send the consumers SIGHUP; to stop for some hours
say `nova-vmhb-manage recoveries pause`.

0 to 10000.
""",
        minimum=0,
    ),
    seconds_opt(
        "recovery_time",
        _DEFAULT.recovery_time,
        1.0,
        86400.0,
        """
How long a recovery counts as under way at the most, where neither its reporter says that it has ended nor its fault is
cleared.

Raise it to what a recovery can take in your cloud, with its boot, where that is longer.

Seconds, 1 to 86400.
""",
        mutable=True,
    ),
    _count(
        "rate",
        _DEFAULT.rate,
        10000,
        """
How many recoveries may begin within a minute. Others wait, and the log says so.

A fault of the network or of the storage looks like many dead guests: this gives somebody the time to see it.

1 to 10000.
""",
    ),
    _count(
        "recoveries",
        _DEFAULT.recoveries,
        1000,
        """
How many recoveries of one instance may begin within recovery_window. What is above is not asked for, and the log says
so.

An instance that dies again and again is not helped by another restart. The worker counts on its own host,
the consumer over all hosts: set the same number and window in both.

1 to 1000.
""",
    ),
    seconds_opt(
        "recovery_window",
        _DEFAULT.recovery_window,
        1.0,
        7 * 86400.0,
        """
What `recoveries` is counted over.

Seconds, 1 to 604800. Lower it only together with `recoveries`.
""",
        mutable=True,
    ),
    seconds_opt(
        "action_ttl",
        _DEFAULT.action_ttl,
        1.0,
        86400.0,
        """
Without effect: worker and Nova ([nova]) are asked right before each recovery, however young its fault is. It is taken
so that files that have it stay valid, and goes with a later release: remove it.

Seconds, 1 to 86400.
""",
        mutable=True,
    ),
    cfg.BoolOpt(
        "observe_only",
        default=_DEFAULT.observe_only,
        mutable=True,
        help=prose(
            """
Judge and report everything, but ask no backend for a recovery: the log says of each that it would have been begun, and
`--status` counts them as permits.observe.

Set it while recovery is being introduced, to see what would have been recovered; all consumers must say the same. As
none is begun, none is under way, and the limits hold back fewer than they would.
"""
        ),
    ),
]


def settings(conf: cfg.ConfigOpts) -> RecoverySettings:
    """The plain values."""
    group = conf.recovery
    return RecoverySettings(
        max_concurrent=group.max_concurrent,
        recovery_time=group.recovery_time,
        rate=group.rate,
        recoveries=group.recoveries,
        recovery_window=group.recovery_window,
        action_ttl=group.action_ttl,
        observe_only=group.observe_only,
    )
