"""`nova-vmhb-manage`: an operator's door to the consumers' database. What it shows and changes is `recovery_places`'.

It reads the consumer's own configuration, and for `recoveries` needs neither a broker nor a consumer that runs: it is
for the moment when nothing else works. `db` (`manage_database`) alone makes and changes tables. `brake` asks a worker,
over the broker.
"""

from __future__ import annotations

import argparse
import getpass
import importlib
import logging
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from oslo_config import cfg

from vmhb_common import worker_api
from vmhb_common.app import command_line
from vmhb_common.app.command_line import BadFiles
from vmhb_common.conf import check, groups, senders
from vmhb_common.messaging import broker, looks
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.messaging.sender_keys import Own, Trusted
from vmhb_common.model.senders import Role, name_of
from vmhb_consumer import conf as options
from vmhb_consumer import stop_button
from vmhb_consumer.cmd import consumer, manage_database
from vmhb_consumer.conf import recovery
from vmhb_consumer.settings import RecoverySettings
from vmhb_consumer.stop_button import Pause

with without_eventlet():
    import oslo_messaging
    from oslo_log import log

NAME = "nova-vmhb-manage"
#: Exit codes. FAILED: configuration or database; nothing was changed. WRONG: argparse's own, for what was typed.
DONE, FAILED, WRONG = 0, 1, 2
#: Groups whose values count here. All else in the file may be wrong: the button works.
NEEDED = (None, "database", "recovery")
#: The thing that is its worker's, and no database's.
BRAKE = "brake"
#: Seconds that the broker has to let us in.
CONNECT = 10.0
#: How many of those that wait are shown by name.
SHOWN = 20


def main() -> None:
    """The entry point."""
    sys.exit(run(sys.argv[1:], cfg.CONF))


def run(arguments: Sequence[str], conf: cfg.ConfigOpts, now: Callable[[], float] = time.time) -> int:
    """Exit code, as above."""
    try:
        wanted = _parser().parse_args(arguments)
    except SystemExit as end:  # after --help, or what is wrong was said
        return WRONG if end.code else DONE
    logging.disable(logging.CRITICAL)  # libraries' complaints would only repeat ours
    try:
        limits = _configured(wanted, conf)
        if limits is None:
            return FAILED
        if wanted.thing == BRAKE:
            return _release_brake(wanted, conf)
        return _on_board(wanted, conf, limits, now())
    except manage_database.Nonsense as error:
        _fail(str(error))
        return WRONG
    finally:
        logging.disable(logging.NOTSET)


def _on_board(wanted: argparse.Namespace, conf: cfg.ConfigOpts, limits: RecoverySettings, now: float) -> int:
    try:
        database = importlib.import_module("vmhb_consumer.database")
        places = importlib.import_module("vmhb_consumer.recovery_places")
    except ImportError as error:
        return _fail(f"{error}: install nova-vmhb[consumer]")
    try:
        store = database.of(conf, Path(conf.state_path))
    except ValueError as error:
        return _fail(f"[database] connection: {error}")
    try:
        if wanted.thing == manage_database.THING:
            lines = manage_database.COMMANDS[wanted.what](wanted, store, limits, now)
        else:
            store.visit(places.OF_THE_BOARD)
            lines = _COMMANDS[wanted.what](wanted, places.Board(store), limits, now)
        for line in lines:
            print(line)
    except (database.Refused, database.Stuck) as error:
        return _fail(str(error))
    except (database.Away, database.Unfit) as error:
        return _fail(f"{store.shown} can't be used: {error}: is it there, and may this user read and write it?")
    finally:
        store.close()
    return DONE


def _release_brake(wanted: argparse.Namespace, conf: cfg.ConfigOpts) -> int:
    """Over the workers' broker; BLOCKS until the worker answers."""
    call = looks.calling(worker_api.EXCHANGE, f"{worker_api.TOPIC}.{wanted.host}")
    away = broker.check(conf, None, [call], CONNECT)
    if away is not None:
        return _fail(f"no worker can be asked: {away}: see [DEFAULT] transport_url")
    try:
        keys = senders.settings(conf)
        own, trusted = Own(keys.key, name_of(Role.CONSUMER, conf.host)), Trusted(keys.trusted)
        with worker_api.asking(conf) as transport:
            api = worker_api.WorkerAPI(transport, conf, own=own, trusted=trusted, check=keys.check)
            was_on = api.release_brake(wanted.host, f"{wanted.reason}; said by {_who()}"[: worker_api.MAX_REASON])
    except Exception as error:  # oslo.messaging lets through whatever amqp and kombu raise
        return _fail(f"the brake of {_plain(wanted.host)} is not released: {_plain(_untold(error, wanted.host))}")
    print(f"the brake of {_plain(wanted.host)} {_RELEASED if was_on else _NOT_ON}")
    return DONE


_RELEASED = "is released: who was held back is asked anew, and recovered if still silent"
_NOT_ON = (
    "was not on. If faults there say `withheld: brake` all the same, the worker doubts its host (see the evidence "
    "`awareness` of host_suspect): that ends by itself, a minute after the trouble does"
)


def _untold(error: Exception, host: str) -> str:
    """Why the worker was not told, and what to do."""
    said = str(error).partition("\n")[0] or type(error).__name__
    match error:
        case oslo_messaging.MessagingTimeout():
            return f"no worker answers for host {host!r}: is that its [DEFAULT] host, exactly, and does it run?"
        case oslo_messaging.RPCVersionCapError():
            return f"[upgrade_levels] vmhb_worker forbids it ({said}): raise it to {worker_api.VERSION}"
        case oslo_messaging.RemoteError() if error.exc_type == "UnsupportedVersion":
            return f"the worker on {host} is older than this command, and has no brake"
    return f"{said:.200}: see the worker's log"


# -- what is typed -----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=NAME,
        description="Stop all recoveries, by the consumers' database; make and upgrade that; or end the brake of one "
        "host, by its worker. Run it as a user who may read the consumer's configuration (and but for `brake` its "
        "database, where that is a file).",
        epilog="--config-file and --config-dir stand before `recoveries`, `db` or `brake`. Exit codes: 0 done; 1 the "
        "configuration, the database or the worker can't be used: of `recoveries` nothing was changed; 2 what was "
        "typed makes no sense.",
    )
    parser.add_argument("--version", action="version", version=command_line.version())
    for name, what in (("file", "/etc/vmhb/nova-vmhb-consumer.conf"), ("dir", "/etc/vmhb/nova-vmhb-consumer.conf.d")):
        text = f"the consumer's configuration, where that is not {what}; may be given several times"
        parser.add_argument(f"--config-{name}", action="append", default=[], metavar="PATH", help=text)
    things = parser.add_subparsers(dest="thing", required=True, metavar="recoveries|db|brake")
    recoveries = things.add_parser("recoveries", help="the stop button for all recoveries, of all consumers")
    acts = recoveries.add_subparsers(dest="what", required=True, metavar="pause|resume|show")
    pause = acts.add_parser("pause", help="begin no recovery from now on; those that are under way go on")
    pause.add_argument("--reason", required=True, type=_typed(stop_button.reason_of), help="one line, for people")
    pause.add_argument(
        "--for",
        required=True,
        dest="seconds",
        type=_typed(stop_button.seconds_of),
        metavar="TIME",
        help="until it ends by itself, from 1m to 7d: 30m, 2h, 1d. Said again, it counts from then",
    )
    acts.add_parser("resume", help="go on: what has waited is begun, within the limits, in some seconds")
    acts.add_parser("show", help="is it paused, who holds places, who waits, and what are the limits")
    manage_database.add_to(things)
    text = "where many instances of one host fell silent together, its worker has none of them recovered: end that"
    brake = things.add_parser(BRAKE, help=text)
    acts = brake.add_subparsers(dest="what", required=True, metavar="release")
    release = acts.add_parser("release", help="let the recoveries through that a host's brake withholds")
    release.add_argument("host", help="the compute node, as its worker's [DEFAULT] host names it")
    release.add_argument("--reason", required=True, type=_typed(stop_button.reason_of), help="one line, for its log")
    return parser


def _typed(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A type for argparse, which shows the text of its own exception only."""

    def typed(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return typed


# -- the configuration -------------------------------------------------------------------------------------------------


def _configured(wanted: argparse.Namespace, conf: cfg.ConfigOpts) -> RecoverySettings | None:
    """The consumer's. Unknown names are said, as by the consumer itself. None: it can't be used, which was said."""
    if wanted.thing != BRAKE and not any(group.GROUP == "database" for group in options.libraries()):
        _fail("there is no database without nova-vmhb[consumer]: install it")
        return None
    program = consumer.complete()
    log.register_options(conf)
    groups.register(conf, program.groups)
    files = [f"--config-file={path}" for path in wanted.config_file]
    folders = [f"--config-dir={path}" for path in wanted.config_dir]
    try:
        unknown = command_line.read(program, [*files, *folders], conf)
    except BadFiles as error:
        _fail(str(error))
        return None
    for problem in unknown:
        print(f"{NAME}: {problem}", file=sys.stderr)
    bad = check.bad_values(conf, [group for group in program.groups if group.GROUP in NEEDED])
    for problem in bad:
        _fail(str(problem))
    return None if bad else recovery.settings(conf)


def _fail(text: str) -> int:
    print(f"{NAME}: {text}", file=sys.stderr)
    return FAILED


# -- what is done ------------------------------------------------------------------------------------------------------


def _pause(wanted: argparse.Namespace, board: Any, _limits: RecoverySettings, now: float) -> Iterator[str]:
    pause = Pause(wanted.reason, now, now + wanted.seconds, _who())
    was = board.picture(_limits, now).pause
    board.press(pause)
    yield f"recoveries are {pause.text}"
    if was is not None and stop_button.in_force(was, now):
        yield f"in place of: {_plain(was.text)} (said by {_plain(was.by)})"
    yield "No consumer begins one from now on; those that are under way go on. To end it before: recoveries resume"


def _resume(_wanted: argparse.Namespace, board: Any, limits: RecoverySettings, now: float) -> Iterator[str]:
    was = board.release()
    if stop_button.in_force(was, now):
        yield f"the pause is over (it was {_plain(was.text)}); recoveries are {_how(None, limits, now)}"
    else:
        yield "recoveries were not paused"


def _show(_wanted: argparse.Namespace, board: Any, limits: RecoverySettings, now: float) -> Iterator[str]:
    picture = board.picture(limits, now)
    yield f"recoveries: {_how(picture.pause, limits, now)}"
    yield (
        f"limits: {limits.max_concurrent} at a time, {limits.rate} a minute, {limits.recoveries} of one instance "
        f"within {limits.recovery_window:g} s"
    )
    yield f"places: {sum(picture.places.values())} of {limits.max_concurrent} are held"
    yield from _by_project(picture.places)
    yield f"waiting: {len(picture.waiting)}"
    yield from _by_project(Counter(one.project for one in picture.waiting))
    for one in picture.waiting[:SHOWN]:
        yield f"  instance {one.instance_uuid}, for {stop_button.roughly(now - one.since)}: {_plain(one.why)}"
    if len(picture.waiting) > SHOWN:
        yield f"  and {len(picture.waiting) - SHOWN} more"


def _how(pause: Pause | None, limits: RecoverySettings, now: float) -> str:
    if pause is not None and stop_button.in_force(pause, now):
        left, since = stop_button.roughly(pause.until - now), stop_button.utc(pause.since)
        return f"{_plain(pause.text)} (for {left} more; said by {_plain(pause.by)}, {since})"
    if not limits.max_concurrent:
        return "not begun ([recovery] max_concurrent = 0)"
    return "only observed ([recovery] observe_only)" if limits.observe_only else "begun as they are asked for"


def _by_project(numbers: Mapping[str | None, int]) -> Iterator[str]:
    for project, number in sorted(numbers.items(), key=lambda item: (-item[1], str(item[0]))):
        yield f"  {'project not known' if project is None else f'project {_plain(project)}'}: {number}"


def _plain(text: str) -> str:
    """What came from elsewhere: nothing in it steers a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _who() -> str:
    """Who says so, for whoever finds it."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        user = str(os.getuid())
    return f"{_plain(user)} on {socket.gethostname()}"


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, Any, RecoverySettings, float], Iterator[str]]] = {
    "pause": _pause,
    "resume": _resume,
    "show": _show,
}


if __name__ == "__main__":
    main()
