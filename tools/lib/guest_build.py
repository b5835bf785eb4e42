"""Builds vmhb-guest: `tools/guest-build [folder]`. The single files need nothing but the standard library.

What is built is the same, byte for byte, whenever it is built: nothing of the day is in it.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "vmhb_guest"
#: Single file -> the module whose main() it runs.
PROGRAMS = {"vmhb-guest": "vmhb_guest.cmd", "vmhb-guest-conformance": "vmhb_guest.conformance.cmd"}
SHEBANG = b"#!/usr/bin/env python3\n"
#: The earliest day that a zip archive can name.
DAY = (1980, 1, 1, 0, 0, 0)
#: What builds the distribution, in the folder that it is put into.
_BUILD = (
    "import sys; from setuptools import build_meta as b; print(b.build_wheel(sys.argv[1]), b.build_sdist(sys.argv[1]))"
)


def sources() -> Iterator[Path]:
    """The package's files."""
    yield from sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".json") and path.is_file())


def single_file(program: str, target: Path, shebang: bytes = SHEBANG) -> None:
    """One of PROGRAMS as a file that any Python from 3.8 on runs."""
    main = f"import sys\nfrom {PROGRAMS[program]} import main\nsys.exit(main())\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sources():
            packed.writestr(_entry(str(path.relative_to(ROOT))), path.read_bytes())
        packed.writestr(_entry("__main__.py"), main)
    target.write_bytes(shebang + archive.getvalue())
    target.chmod(0o755)


def distribution(folder: Path, python: str = sys.executable) -> list[Path]:
    """Wheel and source archive, built by this Python's setuptools."""
    with tempfile.TemporaryDirectory(prefix="vmhb-guest-") as scratch:
        stage = Path(scratch)
        lay_out(stage)
        (stage / "MANIFEST.in").write_text("recursive-include etc *\n")
        done = subprocess.run([python, "-c", _BUILD, folder], cwd=stage, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"setuptools of {python} could not build vmhb-guest: {done.stderr[-2000:]}")
    return [folder / name for name in done.stdout.split()[-2:]]


def lay_out(stage: Path) -> None:
    """All that the distribution is built of, and packages of other kinds, in this folder."""
    for path in sources():
        target = stage / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copytree(ROOT / "etc" / "guest", stage / "etc" / "guest")
    for path in (*(ROOT / "packaging" / "guest").iterdir(), ROOT / "LICENSE"):
        shutil.copy(path, stage)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or an exception."""
    from tools.lib import prepare  # noqa: PLC0415 -- the image's builder has no need of it

    parser = argparse.ArgumentParser(prog="tools/guest-build", description="Build what goes into images.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist", help="where to (default: dist)")
    folder: Path = parser.parse_args(argv).folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        single_file(program, folder / program)
        prepare.say(str(folder / program))
    python = prepare.prepare(prepare.LIGHT) / "bin" / "python"
    for path in distribution(folder, str(python)):
        prepare.say(str(path))
    return 0


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, DAY)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


if __name__ == "__main__":
    sys.exit(main())
