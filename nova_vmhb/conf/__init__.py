"""The consumer's options: one module per group. Must not know what is done with them.

A module has GROUP (None for DEFAULT), the group's own HELP and OPTS. To add a group: one module, one row in GROUPS.
"""

from __future__ import annotations

from collections.abc import Sequence

from oslo_config import cfg

from nova_vmhb.conf import nova_notifications
from vmhb_worker.conf import groups, upgrade_levels

GROUPS = (nova_notifications, upgrade_levels)


def list_opts() -> list[tuple[cfg.OptGroup | None, Sequence[cfg.Opt]]]:
    """For oslo-config-generator."""
    return groups.list_opts(GROUPS)


def register(conf: cfg.ConfigOpts) -> None:
    """Make our options known to `conf`."""
    groups.register(conf, GROUPS)
