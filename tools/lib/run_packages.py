"""`tools/packages [--folder dist] [guest|bookworm|trixie|sid ...]`: what is built, and where it is put."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab import requirements
from tools.lib import packages, service_packages
from tools.lib.packages import NOW, ROOT
from tools.lib.prepare import NotReady, say
from tools.lib.roots import BrokenMirror, Failed

GUEST = "guest"
WHAT = (GUEST, *service_packages.SUITES)
#: What is of use outside of the folder that it was built in.
KINDS = (".deb", ".rpm", ".dsc", ".xz")
WANTED = {"mmdebstrap": requirements.PACKAGES["mmdebstrap"]}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 built; 1 something failed, 2 the machine is not ready, or Debian's archive is broken."""
    parser = argparse.ArgumentParser(prog="tools/packages", description="Build packages, each in its own Debian.")
    parser.add_argument("--folder", type=Path, default=ROOT / "dist", help="where to (default: dist)")
    parser.add_argument("what", nargs="*", metavar="what", help=f"{', '.join(WHAT)}; by default all")
    asked = parser.parse_args(argv)
    for one in asked.what:
        if one not in WHAT:
            parser.error(f"{one} is not built here; say one or more of {', '.join(WHAT)}")
    try:
        if requirements.missing(WANTED):
            requirements.install(WANTED)
        for one in asked.what or WHAT:
            _copy(packages.guest() if one == GUEST else service_packages.build(one), asked.folder.resolve(), one)
    except (NotReady, BrokenMirror, OSError, subprocess.CalledProcessError) as error:
        print(f"tools/packages: {error}", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"tools/packages: {error}", file=sys.stderr)
        return 1
    return 0


def _copy(built: Path, folder: Path, what: str) -> None:
    """The guest's into the folder, where the docs have them; those of a suite into one of its own."""
    target = folder if what == GUEST else folder / what
    target.mkdir(parents=True, exist_ok=True)
    of = [built, built / NOW] if what == GUEST else [built]
    for path in sorted(path for one in of for path in one.iterdir() if path.suffix in KINDS):
        shutil.copy(path, target)
        say(str(target / path.name))


if __name__ == "__main__":
    sys.exit(main())
