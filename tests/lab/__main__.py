"""``python3 -m tests.lab image|requirements|install|smoke|crowd``: the lab by itself."""

from __future__ import annotations

import argparse
import sys

from . import debian, image, requirements, smoke
from .processes import LabError


def main() -> int:
    """Run one of the lab's own commands; the exit code says whether all was well."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("image", help="build the guests, unless they are there")
    commands.add_parser("requirements", help="say what is missing on this machine")
    commands.add_parser("install", help="install the missing Debian packages, start no service")
    commands.add_parser("smoke", help="start everything, hurt it in every way, look for remains")
    crowd = commands.add_parser("crowd", help="boot many guests; how long, and what they cost idle")
    crowd.add_argument("guests", type=int, nargs="?", default=12)
    arguments = parser.parse_args()

    if arguments.command == "install":
        requirements.install()
    gaps = requirements.missing()
    for gap in gaps:
        print(gap)
    if gaps:
        return 1
    try:
        if arguments.command == "image":
            print(image.build().kernel.parent, debian.build().initrd.parent, sep="\n")
        elif arguments.command == "smoke":
            smoke.smoke()
        elif arguments.command == "crowd":
            smoke.crowd(arguments.guests)
    except LabError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
