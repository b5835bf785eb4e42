"""[upgrade_levels]: for those who call workers, not for the worker. The name is Nova's."""

from __future__ import annotations

from oslo_config import cfg

from vmhb_common.conf.types import RPCVersion, prose

GROUP = "upgrade_levels"
HELP = "Which versions to speak while others are older"
OPTS = [
    cfg.Opt(
        "vmhb_worker",
        type=RPCVersion(),
        help=prose(
            """
The newest version of the worker's RPC to use, such as 1.0.

Set it while workers are being upgraded, to the version that the oldest of them speaks; unset it afterwards. By default
the newest that this program knows.
"""
        ),
    )
]


def register(conf: cfg.ConfigOpts) -> None:
    """Make the option known to `conf`."""
    conf.register_opts(OPTS, group=GROUP)
