"""The spec has the form of masakari-specs: all sections of its template, in order, and lines of 79 columns."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT

SPEC = ROOT / "docs/spec/vm-heartbeat-monitoring.rst"
#: Of specs/2025.2-template.rst there: section -> its own.
SECTIONS = {
    "Problem description": ["Use Cases"],
    "Proposed change": [
        "Alternatives",
        "Data model impact",
        "REST API impact",
        "Security impact",
        "Notifications impact",
        "Other end user impact",
        "Performance Impact",
        "Other deployer impact",
        "Developer impact",
    ],
    "Implementation": ["Assignee(s)", "Work Items"],
    "Dependencies": [],
    "Testing": [],
    "Documentation Impact": [],
    "References": [],
    "History": [],
}


def test_its_sections() -> None:
    """None is missing, and none is another's."""
    text = SPEC.read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for title, rule in re.findall(r"(?m)^(\S.*)\n(=+|-+)$", text.partition("+spec/")[2]):
        if len(rule) != len(title):
            continue  # of a table
        if rule[0] == "=":
            found[title] = []
        else:
            found[list(found)[-1]].append(title)
    assert list(found.items()) == list(SECTIONS.items())


def test_its_lines() -> None:
    """But for addresses, which can't be broken."""
    lines = SPEC.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 79 and "https://" not in line] == []
    assert lines[2].endswith("License.") or "Creative Commons" in "".join(lines[:5])
    assert any(line.endswith(f"+spec/{SPEC.stem}") for line in lines)
