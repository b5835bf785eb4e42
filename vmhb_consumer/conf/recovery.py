"""[recovery]: how many recoveries are let through, in the whole cloud and for one instance."""

from __future__ import annotations

from oslo_config import cfg

from vmhb_common.conf.types import prose, seconds_opt
from vmhb_consumer.settings import RecoverySettings

GROUP = "recovery"
HELP = "How many recoveries reporters may ask for: all consumers that share a database count together"

_DEFAULT = RecoverySettings()


def _count(name: str, default: int, maximum: int, text: str) -> cfg.Opt:
    return cfg.IntOpt(name, default=default, min=1, max=maximum, help=prose(text))


OPTS = [
    _count(
        "max_concurrent",
        _DEFAULT.max_concurrent,
        10000,
        """
How many recoveries may be under way at a time. Others wait, and the log says so.

One is under way from when it is asked for until the fault is cleared, or recovery_time is over. Raise it where many
instances of one application must come back together, and Nova and the storage bear it.

1 to 10000.
""",
    ),
    seconds_opt(
        "recovery_time",
        _DEFAULT.recovery_time,
        1.0,
        86400.0,
        """
How long a recovery that has not cleared its fault counts as under way.

Raise it to what a recovery can take in your cloud, with its boot, where that is longer.

Seconds, 1 to 86400.
""",
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

An instance that dies again and again is not helped by another restart. The same as the worker's own, or more.

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
    ),
    seconds_opt(
        "action_ttl",
        _DEFAULT.action_ttl,
        1.0,
        86400.0,
        """
How old a recommended recovery may be to be begun unasked. An older one, which waited somewhere, is begun only after its
worker said that the fault is still there, and Nova ([nova]) that the instance is still on that host.

Clocks of compute nodes that are slower by more make every recovery wait for these two answers.

Seconds, 1 to 86400.
""",
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
    )
