"""Groups of options, one module each: how a program makes its own known. Must not know whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from oslo_config import cfg


class Group(Protocol):
    """A module of options. GROUP: None for [DEFAULT]. HELP: the group's own."""

    @property
    def GROUP(self) -> str | None: ...
    @property
    def HELP(self) -> str: ...
    @property
    def OPTS(self) -> Sequence[cfg.Opt]: ...


def list_opts(groups: Sequence[Group]) -> list[tuple[cfg.OptGroup | None, Sequence[cfg.Opt]]]:
    """For oslo-config-generator."""
    return [(_group(one.GROUP, one.HELP), one.OPTS) for one in groups]


def register(conf: cfg.ConfigOpts, groups: Sequence[Group]) -> None:
    """Make the options known to `conf`."""
    for group, opts in list_opts(groups):
        if group is not None:
            conf.register_group(group)
        conf.register_opts(opts, group=group)


def _group(name: str | None, text: str) -> cfg.OptGroup | None:
    return None if name is None else cfg.OptGroup(name, title=text, help=text)
