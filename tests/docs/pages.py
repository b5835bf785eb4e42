"""The pages, and what stands in them: commands, configuration, words. Knows nothing of what they mean.

A literal block of no named language (`::`), or of a shell's, holds commands, each on a line of its own. All others say
what they are: `.. code-block:: text`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from docutils.core import publish_doctree

ROOT = Path(__file__).parent.parent.parent
SHELLS = ("console", "sh", "bash", "shell", "shell-session", "docker")
#: Nobody's page: what is installed, built, or unpacked here.
NOT_OURS = ("build", "dist", "node_modules")


@dataclass(frozen=True)
class Block:
    """One literal block: its page, its language ("": none), its text."""

    page: str
    language: str
    text: str


def pages() -> list[Path]:
    """All of the project's, wherever they are."""
    found = sorted(ROOT.rglob("*.rst"))
    return [one for one in found if not _foreign(one.relative_to(ROOT))]


def _foreign(path: Path) -> bool:
    return any(part.startswith(".") or part in NOT_OURS or part.endswith(".egg-info") for part in path.parts)


@functools.cache
def blocks() -> tuple[Block, ...]:
    """All of them."""
    return tuple(block for path in pages() for block in blocks_of(_name(path), path.read_text(encoding="utf-8")))


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """Those of one page. Sphinx's own directives are no part of plain reStructuredText, and are left out."""
    for node in _tree(text).findall(nodes.literal_block):
        if isinstance(node.parent, nodes.system_message):
            continue  # what docutils shows of a directive that it does not know
        languages = [word for word in node["classes"] if word != "code"]
        yield Block(page, languages[0] if languages else "", node.astext())


@functools.cache
def literals() -> tuple[tuple[str, str], ...]:
    """Page and text of each ``literal`` in running text."""
    return tuple(
        (_name(path), " ".join(node.astext().split()))
        for path in pages()
        for node in _tree(path.read_text(encoding="utf-8")).findall(nodes.literal)
    )


def commands() -> list[tuple[str, str]]:
    """Page and command, of each block that holds commands; a command as one line, without what is said beside it."""
    return [
        (block.page, command)
        for block in blocks()
        if not block.language or block.language in SHELLS
        for command in commands_of(block.text, block.language)
    ]


def commands_of(text: str, language: str = "") -> Iterator[str]:
    """Where some lines begin with a prompt, the others are what the programs answer."""
    joined = re.sub(r"\\\n\s*", " ", text)
    prompted = language in ("console", "shell-session") and re.search(r"(?m)^\s*[$#] ", joined)
    for line in joined.splitlines():
        command = line.strip()
        if prompted:
            if not command.startswith(("$ ", "# ")):
                continue
            command = command[2:]
        command = re.sub(r"(^|\s)#(\s.*)?$", "", command).strip()
        if command:
            yield re.sub(r"\s+", " ", command)


def _tree(text: str) -> nodes.document:
    # 5: nothing is told. Whether a page is good is Sphinx's to say.
    return publish_doctree(text, settings_overrides={"report_level": 5, "halt_level": 5, "_disable_config": True})


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))
