"""What is wrong with a configuration, all of it: unknown names, and values out of bounds. Reaches for nothing outside.

oslo.config ignores names that it does not know, and stops at the first value that it does not like.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from typing import Any

from oslo_config import cfg

from vmhb_common.conf.groups import Group

#: How alike two names must be for one to be taken for a misspelling of the other: 0 to 1, by difflib's measure.
ALIKE = 0.7

#: section -> option -> the values that it was given, as in `cfg.ConfigParser`.
Sections = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Problem:
    """One line for the operator: what it is about, the value that is wrong, and what to do."""

    what: str
    value: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.value}: {self.remedy}"


def unknown_names(
    conf: cfg.ConfigOpts, groups: Sequence[Group], libraries: Iterable[tuple[str | None, Iterable[cfg.Opt]]]
) -> list[Problem]:
    """Options of our groups that do not exist, and groups that look like misspellings of ours.

    groups: the program's own. libraries: what may stand beside them, as in `list_opts` of oslo.log and oslo.messaging.
    Groups that are nobody's are left alone: files may be shared between services.
    """
    known = _known([*((module.GROUP, module.OPTS) for module in groups), *libraries])
    mine = {"default", *(name for module in groups if (name := module.GROUP))}
    found = []
    for file, sections in _files(conf):
        for section, options in sections.items():
            group = section.lower()
            if group in mine:
                found += [_unknown(file, section, name, known[group]) for name in options if name not in known[group]]
            elif group not in known and (meant := _meant(group, mine)):
                found.append(Problem(f"[{section}]", f"unknown group in {file}", f"did you mean [{meant}]?"))
    return found


def said(conf: cfg.ConfigOpts, group: str) -> list[str]:
    """The options that the files name in this group, whether or not anybody knows them; each once, in their order."""
    names = (
        name
        for _, sections in _files(conf)
        for section, options in sections.items()
        if section == group
        for name in options
    )
    return list(dict.fromkeys(names))


def bad_values(conf: cfg.ConfigOpts, groups: Sequence[Group]) -> list[Problem]:
    """Values that are out of bounds, each by itself."""
    each = (_bad_value(conf, module.GROUP, opt) for module in groups for opt in module.OPTS)
    return [problem for problem in each if problem]


def _bad_value(conf: cfg.ConfigOpts, group: str | None, opt: cfg.Opt) -> Problem | None:
    try:
        value = (conf if group is None else conf[group])[opt.dest]
    except (ValueError, cfg.Error) as error:
        written = "a secret" if opt.secret else _written(conf, group, opt)
        return Problem(f"[{group or 'DEFAULT'}] {opt.dest}", written, _remedy(str(error)))
    if opt.dest == "topics" and not value:
        return Problem(f"[{group}] topics", "empty", "name at least one topic, or leave it out for the default")
    return None


def _written(conf: cfg.ConfigOpts, group: str | None, opt: cfg.Opt) -> str:
    """What the last file that names it says."""
    values = [
        options[opt.dest][-1]
        for _file, sections in _files(conf)
        for section, options in sections.items()
        if section.lower() == (group or "default") and opt.dest in options
    ]
    return values[-1] if values else "not readable"


def _remedy(text: str) -> str:
    """oslo.config's message, without the parts that we say ourselves."""
    return text.rsplit(" is not valid: ", 1)[-1].rsplit("for opt ", 1)[-1].strip()


def _unknown(file: str, section: str, name: str, known: Iterable[str]) -> Problem:
    meant = _meant(name, known)
    remedy = f"did you mean {meant}?" if meant else "remove it; the sample configuration has all there are"
    return Problem(f"[{section}] {name}", f"unknown option in {file}", remedy)


def _meant(name: str, known: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=ALIKE)
    return close[0] if close else None


def _known(known_options: Iterable[tuple[str | None, Iterable[cfg.Opt]]]) -> dict[str, set[str]]:
    """Group in lower case -> every name that an option may have in a file."""
    known: dict[str, set[str]] = {"default": set()}
    for group, opts in known_options:
        known.setdefault((group or "default").lower(), set())  # one without options has them all unknown
        for opt in opts:
            known.setdefault((group or "default").lower(), set()).update({opt.dest, opt.name})
            for old in opt.deprecated_opts:
                # A name or a group that did not change is left out of these.
                known.setdefault((old.group or group or "default").lower(), set()).add(old.name or opt.dest)
    return known


def _files(conf: cfg.ConfigOpts) -> Iterator[tuple[str, Sections]]:
    """Every file that was read, in that order. They were parsed before, so they can be."""
    names = list(conf.config_file or ())
    for folder in conf.config_dir or ():
        names += sorted(glob(os.path.join(folder, "*.conf")))
    for name in names:
        sections: dict[str, dict[str, Any]] = {}
        try:
            cfg.ConfigParser(name, sections).parse()
        except (OSError, cfg.ParseError):
            continue
        yield name, sections
