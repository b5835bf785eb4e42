"""`vmhb-guest run | status | maintenance | goodbye | forget`."""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from vmhb_guest import __version__, checks, control, log, members, notify, port
from vmhb_guest.applications import interval_of
from vmhb_guest.daemon import Daemon, Settings, handle_signals

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 the daemon could not do it or isn't there, 2 the command makes no sense."""
    for out in (sys.stdout, sys.stderr):
        if hasattr(out, "reconfigure"):
            out.reconfigure(errors="backslashreplace")  # whatever a name is made of, it can be written
    asked = _parser().parse_args(argv)
    if asked.verb == "run":
        return _run(asked)
    try:
        return int(asked.do(asked))
    except (OSError, ValueError) as error:
        there = isinstance(error, ValueError)
        print(f"vmhb-guest: {error if there else f'no daemon at {asked.folder}: {error}'}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    usual = Settings()
    parser = argparse.ArgumentParser(
        prog="vmhb-guest", description="Answers the cloud for this machine's applications."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--folder", default=usual.folder, help=f"of the daemon's sockets (default: {usual.folder})")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="command")
    run = verbs.add_parser("run", help="be the daemon")
    run.add_argument("--port", default=port.DEVICE, help=f"device, or unix socket (default: {port.DEVICE})")
    run.add_argument("--checks", default=checks.FOLDER, help=f"folder of checks (default: {checks.FOLDER})")
    run.add_argument("--name", default="", help="how to introduce ourselves (default: the machine's name)")
    run.add_argument(
        "--members",
        type=_members,
        help="who may join, beside root: users, @groups (of either, names or numbers), or everybody, with commas "
        f"between them (default: $VMHB_MEMBERS, or {','.join(members.USUAL)}). Of others, only their own word on their "
        "health is told",
    )
    run.add_argument("--relay", default=None, help="notify socket of the service manager (default: $NOTIFY_SOCKET)")
    run.add_argument("--debug", action="store_true", help="log more")
    status = verbs.add_parser("status", help="what is known of applications, checks and the host")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(do=_status)
    maintenance = verbs.add_parser("maintenance", help="ask the cloud not to mind our silence for a while")
    maintenance.add_argument("time", type=_time, help="40m, 90s, 2h; 0 ends it")
    maintenance.add_argument("--reason", default="", help="a sentence for the cloud's operator")
    maintenance.set_defaults(do=_maintenance)
    goodbye = verbs.add_parser("goodbye", help="leave monitoring, until the next challenge is answered")
    goodbye.add_argument("--reason", default="", help="a sentence for the cloud's operator")
    goodbye.add_argument(
        "--shutdown", action="store_true", help="the machine goes down: answer no more, and accuse nobody any more"
    )
    goodbye.set_defaults(do=_goodbye)
    forget = verbs.add_parser("forget", help="an application that ended will not come back, and is no fault")
    forget.add_argument("name")
    forget.set_defaults(do=_forget)
    execute = verbs.add_parser("exec", help="run a service that speaks sd_notify, joined where there is a daemon")
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="-- program …")
    execute.set_defaults(do=_execute)
    return parser


def _time(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 40m, 90s or 2h")
    return float(match.group(1)) * _UNITS[match.group(2)]


def _members(text: str) -> tuple[str, ...]:
    try:
        return members.words(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _members_by_environment() -> tuple[str, ...]:
    """What makes no sense there keeps nobody from answering the host: root and the usual group may join then."""
    text = os.environ.get("VMHB_MEMBERS", "")
    try:
        return members.words(text) if text else members.USUAL
    except ValueError as error:
        usual = ",".join(members.USUAL)
        logging.getLogger(__name__).error("VMHB_MEMBERS: %s. It is taken for %s: correct it", error, usual)
        return members.USUAL


def _run(asked: argparse.Namespace) -> int:
    level = logging.DEBUG if asked.debug else logging.INFO
    lines = log.begin(level)
    relay = os.environ.get("NOTIFY_SOCKET", "") if asked.relay is None else asked.relay
    # A service manager whose watchdog is not fed sends SIGABRT: where it hung is in the log then.
    faulthandler.enable()
    who = _members_by_environment() if asked.members is None else asked.members
    settings = Settings(asked.port, asked.folder, asked.checks, relay, asked.name, _watchdog(), members=who)
    daemon = Daemon(settings)
    handle_signals(daemon)
    try:
        return daemon.run()
    finally:
        lines.finish()


def _watchdog() -> float | None:
    """Seconds: what the service manager wants of this process, as sd_watchdog_enabled(3) has it."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return interval_of(os.environ.get("WATCHDOG_USEC", ""))


def _ask(asked: argparse.Namespace, **question: Any) -> dict[str, Any]:
    return control.call(Settings(folder=asked.folder).control, **question)


def _status(asked: argparse.Namespace) -> int:
    known = _ask(asked, do="status")
    if asked.json:
        print(json.dumps(known, indent=2))
        return 0
    host = known["host"]
    print(f"health       {known['status']}")
    challenged = "never challenged" if host["last_challenge"] is None else f"challenged {host['last_challenge']} s ago"
    print(f"host         {'connected' if host['connected'] else 'away'}, {challenged}, {host['acks']} answered")
    if host["last_error"]:
        print(f"             it objected: {host['last_error']}")
    if host["left"]:
        print(f"             left: {host['left']}")
    if known["maintenance"]:
        print(f"maintenance  {known['maintenance']} s left")
    for what in ("applications", "checks"):
        for one in known[what]:
            aside = "" if one.get("joined", True) else " (its user may not join)"
            said = f"{': ' if one['message'] else ''}{one['message']}"
            print(f"{what[:-1]:<12} {one['name']}: {one['status']}{said}{aside}")
    return 0


def _maintenance(asked: argparse.Namespace) -> int:
    _ask(asked, do="maintenance", seconds=asked.time, reason=asked.reason)
    print(f"asked for {asked.time:g} s of maintenance" if asked.time else "said that maintenance is over")
    return 0


def _goodbye(asked: argparse.Namespace) -> int:
    _ask(asked, do="goodbye", reason=asked.reason, shutdown=asked.shutdown)
    print("left monitoring")
    return 0


def _execute(asked: argparse.Namespace) -> int:
    """Become the program. Where no daemon runs, the service manager is spoken to as ever."""
    command = asked.command[asked.command[:1] == ["--"] :]
    if not command:
        raise ValueError("exec: say which program")
    environ = dict(os.environ)
    usual = Settings(folder=asked.folder)
    address = notify.address_for(environ.get("NOTIFY_SOCKET", ""), usual.way, usual.notify)
    if address is not None:
        environ["NOTIFY_SOCKET"] = address
    try:
        os.execvpe(command[0], command, environ)  # noqa: S606 -- that is what it is for
    except OSError as error:
        raise ValueError(f"{command[0]} can't be run: {error.strerror}") from error


def _forget(asked: argparse.Namespace) -> int:
    _ask(asked, do="forget", name=asked.name)
    print(f"forgot {asked.name}")
    return 0
