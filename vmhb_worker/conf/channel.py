"""[channel]: the application channels, and how much of what a guest says is read."""

from __future__ import annotations

from oslo_config import cfg

from vmhb_common.conf.types import prose
from vmhb_worker.core.nonce_window import MOST

GROUP = "channel"
HELP = "The channel of applications, a port of their own: limits for each guest"

OPTS = [
    cfg.IntOpt(
        "burst",
        default=3 * MOST,
        min=2 * MOST + 1,
        max=65536,
        help=prose(
            f"""
How many lines of one guest are read at once. A guest that was stopped may have answers to {MOST} challenges to tell,
and as many to those of an earlier worker; what is beyond this waits in its port until it is its turn.

Raise it when the log or `vmhb show` says of well-behaved guests that they were throttled. {2 * MOST + 1} to 65536.
"""
        ),
    ),
    cfg.FloatOpt(
        "lines_per_beat",
        default=4.0,
        min=2.0,
        max=1000.0,
        help=prose(
            """
How many lines of one guest are read for each of its challenges, once `burst` is used up. One is the answer.

A guest that says more is not read until its time has come, however fast it writes, so that it cannot take this node's
processor from its neighbours. Raise it for applications that have a lot to say. 2 to 1000.
"""
        ),
    ),
]
