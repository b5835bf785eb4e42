"""The docs' diagram is the table's."""

from __future__ import annotations

from tools.lib import diagram


def test_diagram_is_current() -> None:
    """After a change of the transitions, `tools/diagram` draws the docs' picture anew."""
    assert diagram.DOT.read_text() == diagram.dot(), "run tools/diagram"
    assert diagram.mark() in diagram.SVG.read_text(), "run tools/diagram"
