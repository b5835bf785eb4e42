"""The consumer's options: one module per group. Must not know what is done with them.

A module has GROUP (None for DEFAULT), the group's own HELP and OPTS. To add a group: one module, one row in GROUPS.
Reporters bring their own groups: `vmhb_consumer.reporters.loader`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from oslo_config import cfg

from vmhb_common.conf import groups, notifications, upgrade_levels
from vmhb_common.conf.groups import Group
from vmhb_consumer.conf import consumer, default, faults, nova_notifications, recovery
from vmhb_consumer.reporters import loader

GROUPS = (default, consumer, recovery, faults, notifications, nova_notifications, upgrade_levels)


def libraries() -> list[Group]:
    """Groups whose options are those of libraries, as far as these are installed: nova-vmhb[consumer] brings them."""
    found: list[Group] = []
    for name in ("database", "nova"):
        try:
            found.append(importlib.import_module(f"vmhb_consumer.conf.{name}"))
        except ImportError:
            continue
    return found


def list_opts() -> list[tuple[cfg.OptGroup | None, Sequence[cfg.Opt]]]:
    """For oslo-config-generator."""
    return groups.list_opts(GROUPS)


def list_reporters() -> list[tuple[cfg.OptGroup | None, Sequence[cfg.Opt]]]:
    """The same, of the reporters that are installed and have options."""
    return groups.list_opts([group for group in loader.groups(loader.installed()) if group.OPTS])


def register(conf: cfg.ConfigOpts) -> None:
    """Make our options known to `conf`."""
    groups.register(conf, GROUPS)
