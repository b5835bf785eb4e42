"""A Sphinx extension: links from page to page, as a source browser follows them, are links of the site as well.

`Verdicts <verdicts.rst#doubt>`__ is right in both. One that leads to no page, or to no heading of it, is a warning.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

LOG = logging.getLogger(__name__)
#: Where this is kept in Sphinx's environment: page -> the anchors that its headings have.
ANCHORS = "vmhb_anchors"


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.connect("env-purge-doc", _forget)
    app.connect("env-merge-info", _merge)
    app.connect("doctree-read", _remember)
    app.connect("doctree-resolved", _resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _anchors(env: BuildEnvironment) -> dict[str, set[str]]:
    if not hasattr(env, ANCHORS):
        setattr(env, ANCHORS, {})
    found: dict[str, set[str]] = getattr(env, ANCHORS)
    return found


def _forget(_app: Sphinx, env: BuildEnvironment, page: str) -> None:
    _anchors(env).pop(page, None)


def _merge(_app: Sphinx, env: BuildEnvironment, pages: set[str], other: BuildEnvironment) -> None:
    """A process beside has read these."""
    theirs = _anchors(other)
    _anchors(env).update({page: theirs[page] for page in pages if page in theirs})


def _remember(app: Sphinx, doctree: nodes.document) -> None:
    _anchors(app.env)[app.env.current_document.docname] = {
        anchor for section in doctree.findall(nodes.section) for anchor in section["ids"]
    }


def _resolve(app: Sphinx, doctree: nodes.document, page: str) -> None:
    for link in doctree.findall(nodes.reference):
        path, _, anchor = str(link.get("refuri", "")).partition("#")
        if not path.endswith(".rst") or ":" in path:
            continue
        target = _page(path, page)
        if target not in app.env.found_docs:
            LOG.warning("no page %s", path, location=link, type="vmhb", subtype="link")
        elif anchor and anchor not in _anchors(app.env)[target]:
            LOG.warning("%s has no heading #%s", path, anchor, location=link, type="vmhb", subtype="link")
        elif app.builder.format == "html":
            link["refuri"] = app.builder.get_relative_uri(page, target) + (f"#{anchor}" if anchor else "")
            link["internal"] = True


def _page(path: str, page: str) -> str:
    """What a link leads to, as Sphinx names it. The README's stand in one of the pages, and begin at the project's
    folder."""
    parts: list[str] = []
    for part in (*PurePosixPath(page).parent.parts, *PurePosixPath(path.removeprefix("docs/")).parts):
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/".join(parts).removesuffix(".rst")
