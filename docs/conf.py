"""The site of these pages: tools/test docs, or tox -e docs. The pages are read in a source browser as well."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# tools.lib.doc_links is an extension of ours; option files are named from the project's folder.
sys.path.insert(0, str(HERE.parent))
# The programs whose --help stands in the manual pages: those of the Python that builds. As wide as a terminal is.
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
os.environ["PYTHONPATH"] = str(HERE.parent)
os.environ["COLUMNS"] = "80"

project = "nova-vmhb"
author = "The nova-vmhb developers"
copyright = author
version = release = importlib.metadata.version(project)

extensions = [
    "openstackdocstheme",
    "oslo_config.sphinxext",
    "sphinxcontrib.programoutput",
    "tools.lib.doc_links",
]
# Release notes are made from git's history: an unpacked archive has none, and says so.
extensions.append("reno.sphinxext" if (HERE.parent / ".git").exists() else "tools.lib.no_history")

html_theme = "openstackdocs"
html_theme_options = {"display_badge": False, "show_other_versions": False}
openstackdocs_auto_name = False
openstackdocs_auto_version = False

# A literal block of no named language holds commands: tests/docs says so, and of each what runs it.
highlight_language = "bash"
pygments_style = "native"


def _manual(page: Path) -> tuple[str, str, str, str, int]:
    """What Sphinx wants to know of a manual page; section and summary are the page's first lines."""
    told = dict(line[1:].split(": ", 1) for line in page.read_text(encoding="utf-8").splitlines()[:2])
    return f"man/{page.stem}", page.stem, told["about"], author, int(told["section"])


man_pages = [_manual(page) for page in sorted((HERE / "man").glob("*.rst")) if page.stem != "index"]
