"""A Sphinx extension in the place of reno's, where there is no git history to make release notes from."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class ReleaseNotes(SphinxDirective):
    """Says where they are."""

    def run(self) -> list[nodes.Node]:
        """One sentence."""
        return [nodes.paragraph("", "They are made from git's history, which was not here: see releasenotes/notes.")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.add_directive("release-notes", ReleaseNotes)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
