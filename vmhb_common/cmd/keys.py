"""`vmhb-keys`: keys that workers and consumers sign with. Reads and writes files; asks nobody, needs no configuration.

What is secret is made where it is used, and never leaves that host: only lines with public keys travel.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vmhb_common.messaging import sender_keys
from vmhb_common.messaging.sender_keys import BadKey
from vmhb_common.messaging.signing import NoCryptography

NAME = "vmhb-keys"
#: Exit codes. FAILED: nothing was changed. WRONG: argparse's own, for what was typed.
DONE, FAILED, WRONG = 0, 1, 2


def main() -> None:
    """The entry point."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Exit code, as above."""
    try:
        wanted = parser().parse_args(arguments)
    except SystemExit as end:  # after --help, or what is wrong was said
        return WRONG if end.code else DONE
    try:
        for line in _COMMANDS[wanted.what](wanted):
            print(line)
    except FileExistsError:
        return _fail(f"{wanted.file} is there already: make the new key under another name, and move it there")
    except (OSError, BadKey, NoCryptography) as error:
        return _fail(str(error))
    return DONE


def _fail(text: str) -> int:
    print(f"{NAME}: {text}", file=sys.stderr)
    return FAILED


def _make(wanted: argparse.Namespace) -> Iterator[str]:
    name = sender_keys.a_name(wanted.name)
    yield sender_keys.line_of(name, sender_keys.write_own(wanted.file).public)


def _show(wanted: argparse.Namespace) -> Iterator[str]:
    yield sender_keys.line_of(wanted.name, sender_keys.read_own(wanted.file).public)


def _trust(wanted: argparse.Namespace) -> Iterator[str]:
    new = [sender_keys.line_of(*sender_keys.read_line(line)) for line in wanted.line or _typed()]
    there = _lines(wanted.senders)
    added = [line for line in dict.fromkeys(new) if line not in there]
    sender_keys.write_lines(wanted.senders, [*there, *added])
    yield from (f"trusted: {line}" for line in added)


def _revoke(wanted: argparse.Namespace) -> Iterator[str]:
    name = sender_keys.a_name(wanted.name)
    there = _lines(wanted.senders)
    gone = [line for line in there if _is(line, name, wanted.key)]
    if not gone:
        raise BadKey(f"{wanted.senders} has no such key of {name}: see {NAME} list")
    sender_keys.write_lines(wanted.senders, [line for line in there if line not in gone])
    yield from (f"revoked: {line}" for line in gone)


def _list(wanted: argparse.Namespace) -> Iterator[str]:
    keys, wrong = sender_keys.read_trusted(wanted.senders)
    if wrong:
        raise BadKey("; ".join(wrong[:10]))
    yield from (sender_keys.line_of(name, key) for name in sorted(keys) for key in sorted(keys[name]))


def _lines(path: Path) -> list[str]:
    """As they stand there, comments and all; none where there is no file yet."""
    if path.is_dir():
        raise BadKey(f"{path} is a folder: say one of its files")
    return path.read_text(encoding="ascii", errors="replace").splitlines() if path.exists() else []


def _is(line: str, name: str, key: str | None) -> bool:
    words = line.split()
    return words[:1] == [name] and (key is None or words[1:] == [key])


def _typed() -> list[str]:
    return [line for line in sys.stdin.read().splitlines() if line.strip() and not line.startswith("#")]


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], Iterator[str]]] = {
    "make": _make,
    "show": _show,
    "trust": _trust,
    "revoke": _revoke,
    "list": _list,
}

_NAMED = "worker:HOST or consumer:HOST, HOST being [DEFAULT] host of that worker or consumer"


def parser() -> argparse.ArgumentParser:
    """What may be typed."""
    top = argparse.ArgumentParser(prog=NAME, description="Keys that workers and consumers sign what they send with.")
    commands = top.add_subparsers(dest="what", required=True, metavar="COMMAND")
    for what, text in (
        ("make", "Make a private key, for its user alone, and print the line with which others trust it."),
        ("show", "Print that line again."),
    ):
        one = commands.add_parser(what, help=text, description=text)
        one.add_argument("file", type=Path, help="the private key: [faults] sender_key")
        one.add_argument("name", help=_NAMED)
    text = "Trust senders. They are heard within some seconds, without a restart."
    one = commands.add_parser("trust", help=text, description=text)
    one.add_argument("senders", type=Path, help="the file of public keys: [faults] senders, or a *.keys file in it")
    one.add_argument("line", nargs="*", help="as make prints it, in quotes; by default lines of the standard input")
    text = "Trust a sender no more; what it signs is not believed from some seconds on."
    one = commands.add_parser("revoke", help=text, description=text)
    one.add_argument("senders", type=Path, help="the file of public keys")
    one.add_argument("name", help=_NAMED)
    one.add_argument("key", nargs="?", help="one key of it; by default all that it has")
    text = "Print who is trusted, and say what is wrong with the file."
    one = commands.add_parser("list", help=text, description=text)
    one.add_argument("senders", type=Path, help="the file of public keys, or their folder")
    return top


if __name__ == "__main__":
    main()
