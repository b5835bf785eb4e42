"""Draws the docs' diagram of an instance's life from the table: run `tools/diagram` after a change of TRANSITIONS.

Writes docs/monitor.dot, and docs/monitor.svg with Graphviz. A test holds both against the table.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

from vmhb_worker.core.transitions import TRANSITIONS, Act, Input, State

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
DOT, SVG = DOCS / "monitor.dot", DOCS / "monitor.svg"

_HEAD = """digraph monitor {
  // Made by tools/diagram from vmhb_worker/core/transitions.py. Do not edit.
  rankdir=TB;
  graph [fontname="sans-serif", nodesep=0.7, ranksep=0.9, bgcolor="white"];
  node [fontname="sans-serif", shape=box, style="rounded,filled", color="#33527a", margin="0.25,0.15"];
  edge [fontname="sans-serif", fontsize=10, color="#55606e", fontcolor="#22303e"];
"""


def dot() -> str:
    """The diagram in Graphviz's language. What changes nothing is left out; what all states share is drawn once."""
    lines = [_HEAD]
    lines += [f'  {state.value} [fillcolor="{_COLOURS.get(state, "#eef3fa")}"];\n' for state in State]
    lines += [
        f'  "any {number}" [label="from any state" style=dashed, fontcolor="#55606e"];\n'
        for number in range(len(_shared()))
    ]
    for number, (after, labels) in enumerate(_shared().items()):
        lines.append(_arrow(f"any {number}", after, labels))
    shared = {found for labels in _shared().values() for found, _ in labels}
    for state, row in TRANSITIONS.items():
        arrows: dict[State, list[tuple[Input, Act]]] = {}
        for found, (after, act) in row.items():
            if found not in shared and (after, act) != (state, Act.NOTHING):
                arrows.setdefault(after, []).append((found, act))
        lines += [_arrow(state.value, after, labels) for after, labels in arrows.items()]
    return "".join([*lines, "}\n"])


def _shared() -> dict[State, list[tuple[Input, Act]]]:
    """What leads to the same state from everywhere (but for states where it changes nothing)."""
    shared: dict[State, list[tuple[Input, Act]]] = {}
    for found in Input:
        outcomes = {row[found] for state, row in TRANSITIONS.items() if row[found] != (state, Act.NOTHING)}
        everywhere = sum(row[found] != (state, Act.NOTHING) for state, row in TRANSITIONS.items())
        if len(outcomes) == 1 and everywhere >= len(State) - 1:
            after, act = outcomes.pop()
            shared.setdefault(after, []).append((found, act))
    return shared


def _arrow(before: str, after: State, labels: list[tuple[Input, Act]]) -> str:
    """One arrow for all that leads from here to there; what is done on the way in italics."""
    by_act: dict[Act, list[str]] = {}
    for found, act in labels:
        by_act.setdefault(act, []).append(found.value)
    parts = []
    for act, why in by_act.items():
        does = "" if act is Act.NOTHING else f"<br/><i>{escape(act.value)}</i>"
        parts.append("<br/>".join(escape(word) for word in why) + does)
    return f'  "{before}" -> {after.value} [label=<{"<br/><br/>".join(parts)}>];\n'


def mark() -> str:
    """What ties the picture to the text that it was drawn from."""
    return f"<!-- of {hashlib.sha256(dot().encode()).hexdigest()} -->"


def main() -> int:
    """Write both files."""
    DOT.write_text(dot())
    try:
        drawn = subprocess.run(["dot", "-Tsvg", str(DOT)], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{DOT} is written, {SVG} is not: {error}. Install Graphviz, which draws it.", file=sys.stderr)
        return 1
    SVG.write_text(drawn + mark() + "\n")
    return 0


_COLOURS = {State.ALIVE: "#dff0df", State.MISSING: "#fbf3d6", State.SILENT: "#f8dcd9", State.GONE: "#eeeeee"}

if __name__ == "__main__":
    sys.exit(main())
