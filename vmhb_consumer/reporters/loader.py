"""Which reporters are installed, and those that are to be used. Knows no reporter.

A plugin that can't be loaded is nobody's affair unless its name is in `[consumer] reporters`.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oslo_config import cfg
from stevedore import ExtensionManager

from vmhb_consumer.reporters.base import Reporter

LOG = logging.getLogger(__name__)

NAMESPACE = "vmhb.reporters"
PREFIX = "reporter_"


class BadReporter(ValueError):
    """One of those that are configured can't be used. The text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What there is. broken: name -> why it can't be loaded."""

    reporters: Mapping[str, type[Reporter]]
    broken: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Group:
    """A reporter's options, as `conf.groups.Group` wants them."""

    GROUP: str | None
    HELP: str
    OPTS: Sequence[cfg.Opt]


class Handed(Mapping[str, Any]):
    """What a reporter is handed: its group. And, for `keystone.load` alone, where the credentials stand that its
    auth_section names."""

    def __init__(self, conf: cfg.ConfigOpts, group: str) -> None:
        self._group: Any = conf[group]
        self.of_keystone = conf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def __getitem__(self, name: str) -> Any:
        return self._group[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._group)

    def __len__(self) -> int:
        return len(self._group)


def installed() -> Installed:
    """Load all of them."""
    broken: dict[str, str] = {}

    def failed(_manager: Any, point: importlib.metadata.EntryPoint, error: BaseException) -> None:
        broken[point.name] = f"{type(error).__name__}: {error}"

    manager: Any = ExtensionManager(NAMESPACE, invoke_on_load=False, on_load_failure_callback=failed)
    found: dict[str, type[Reporter]] = {}
    for extension in manager:
        plugin = extension.plugin
        if isinstance(plugin, type) and issubclass(plugin, Reporter) and plugin.name == extension.name:
            found[extension.name] = plugin
        else:
            broken[extension.name] = f"{plugin!r} is no Reporter of that name"
    return Installed(dict(sorted(found.items())), broken)


def groups(of: Installed) -> list[Group]:
    """The option groups of all of them, used or not: so that a misspelt option is found."""
    return [Group(f"{PREFIX}{name}", plugin.summary, tuple(plugin.options())) for name, plugin in of.reporters.items()]


def make(conf: cfg.ConfigOpts, names: Sequence[str], of: Installed, now: Callable[[], datetime]) -> dict[str, Reporter]:
    """One of each of these names, in this order. Their options must be registered. Connects to nothing. Raises
    BadReporter."""
    made: dict[str, Reporter] = {}
    for name in dict.fromkeys(names):
        problem = problem_of(name, of)
        if problem is not None:
            raise BadReporter(f"[consumer] reporters: {name}: {problem}")
        try:
            made[name] = of.reporters[name](Handed(conf, f"{PREFIX}{name}"), now)
        except (ValueError, cfg.Error) as error:
            raise BadReporter(f"[{PREFIX}{name}]: {error}") from error
        except Exception as error:
            raise BadReporter(f"reporter {name} can't be made: {type(error).__name__}: {error}") from error
    return made


def problem_of(name: str, of: Installed) -> str | None:
    """Why there is no reporter of this name, and what to do."""
    if name in of.reporters:
        return None
    if name in of.broken:
        return f"can't be loaded: {of.broken[name]}: install what it needs, or leave it out"
    return f"is not installed: there are {', '.join(of.reporters) or 'none'}"
