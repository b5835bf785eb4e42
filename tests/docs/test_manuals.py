"""Every program has its manual page, and every page its program."""

from __future__ import annotations

import argparse
import configparser
import re
from collections.abc import Iterator

from tests.docs.pages import ROOT
from vmhb_consumer.cmd import manage
from vmhb_guest import cmd as guest

MANUALS = ROOT / "docs" / "man"


def programs() -> set[str]:
    """What is installed, by us and in guests."""
    found = set()
    for path, section in (("setup.cfg", "entry_points"), ("packaging/guest/setup.cfg", "options.entry_points")):
        setup = configparser.ConfigParser()
        setup.read(ROOT / path)
        found |= {row.partition("=")[0].strip() for row in setup[section]["console_scripts"].strip().splitlines()}
    return found


def commands(parser: argparse.ArgumentParser, words: str = "") -> Iterator[str]:
    """All commands of a program, and theirs."""
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from commands(inner, f"{words} {name}")


def test_every_program_has_its_page() -> None:
    """And its section and summary at its top, where docs/conf.py looks for them."""
    pages = {path.stem: path.read_text(encoding="utf-8") for path in MANUALS.glob("*.rst") if path.stem != "index"}
    assert pages.keys() == programs()
    for name, text in pages.items():
        assert re.match(rf":section: [18]\n:about: \S.*\n\n=+\n{name}\n=+\n", text), name
        assert "\nSee also\n" in text and f"{name} --help" in text.replace(
            "python -m vmhb_guest.conformance", name
        ).replace("python -m vmhb_guest", "vmhb-guest")


def test_every_command_has_its_help() -> None:
    """Of programs that have several."""
    for name, called, parser in (
        ("nova-vmhb-manage", "nova-vmhb-manage", manage._parser()),
        ("vmhb-guest", "python -m vmhb_guest", guest._parser()),
    ):
        shown = set(re.findall(rf"program-output:: {called}((?: \w+)*) --help", (MANUALS / f"{name}.rst").read_text()))
        assert shown == {*commands(parser)}
