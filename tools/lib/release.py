"""Builds a release: `tools/release [--home URL] [folder]`. Knows nothing of where it is then published.

The version is git's: the tag of this commit, such as 1.0.0; after one, a development version of the next. What is not
committed is not in it. The wheel is made of the source archive, without git, as by whoever packages us.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.lib.prepare import FULL, ROOT, NotReady, prepare, say

#: Made by reno, of the notes and the tags; it is in the source archive.
CHANGELOG = "RELEASENOTES.rst"
_BUILD = "import sys; from pbr import build; getattr(build, 'build_' + sys.argv[1])(sys.argv[2])"
#: `text <docs/some.rst>`_ of README.rst, which is right in a checkout only.
_BESIDE = re.compile(r"`([^`<]+?)\s+<(?!\w+:)([^>`]+)>`__?")
#: What a package index shows beside the text: name -> where it is below the project's home.
LINKS = {"Documentation": "/docs", "Release notes": "/releasenotes/notes", "Source": ""}


def build(source: Path, folder: Path, home: str = "", python: str = sys.executable) -> tuple[Path, Path]:
    """Source archive and wheel of a git repository's HEAD, built by this Python's pbr, setuptools and reno."""
    with tempfile.TemporaryDirectory(prefix="vmhb-release-") as scratch:
        tree, unpacked, out = (Path(scratch) / name for name in ("tree", "unpacked", "out"))
        _run(["git", "clone", "-q", str(source), str(tree)], Path(scratch))
        describe(tree, home)
        _run([python, "-c", _BUILD, "sdist", str(out)], tree)
        (archive,) = out.glob("*.tar.gz")
        shutil.unpack_archive(archive, unpacked)
        (inside,) = unpacked.iterdir()
        _run([python, "-c", _BUILD, "wheel", str(out)], inside)
        (wheel,) = out.glob("*.whl")
        first, second = (Path(shutil.copy(path, folder)) for path in (archive, wheel))
        return first, second


def describe(tree: Path, home: str) -> None:
    """Make the description of a package true for who has only that: its links lead somewhere, or are none."""
    readme = tree / "README.rst"
    readme.write_text(described(readme.read_text(encoding="utf-8"), home), encoding="utf-8")
    if home:
        rows = "".join(f"    {name} = {home}{below}\n" for name, below in LINKS.items())
        setup = tree / "setup.cfg"
        told = f"[metadata]\nhome_page = {home}\nproject_urls =\n{rows}"
        setup.write_text(setup.read_text(encoding="utf-8").replace("[metadata]\n", told, 1), encoding="utf-8")


def described(text: str, home: str) -> str:
    """README.rst with links below the project's home; without one, with names of files in the source archive."""

    def link(found: re.Match[str]) -> str:
        name, path = " ".join(found[1].split()), found[2]
        if home:
            return f"`{name} <{home}/{path}>`__"
        return f"``{path}``" if name == path else f"{name} (``{path}``)"

    return _BESIDE.sub(link, text)


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotReady(f"{' '.join(command[:3])} failed: {done.stderr[-2000:]}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 built, 2 not, and why."""
    parser = argparse.ArgumentParser(prog="tools/release", description="Build source archive and wheel of HEAD.")
    parser.add_argument("--home", default="", metavar="URL", help="where the project's files are read, for links")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist", help="where to (default: dist)")
    asked = parser.parse_args(argv)
    folder: Path = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not asked.home:
        say("(without --home, the package has no links: nobody is told of a page that is not there)")
    try:
        python = prepare(FULL) / "bin" / "python"
        for path in build(ROOT, folder, asked.home.rstrip("/"), str(python)):
            say(str(path))
    except NotReady as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
