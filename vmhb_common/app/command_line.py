"""What all programs of ours do with a command line: options, `--check-config`, `--status`, a start. Knows nothing of
what runs.

A check says everything that is wrong, one line each, in bounded time, and changes nothing.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from vmhb_common.app import crashpoint
from vmhb_common.app.ending import hold_signals
from vmhb_common.app.legible import make_legible
from vmhb_common.app.once import Once, hush
from vmhb_common.conf import check as problems
from vmhb_common.conf import groups as option_groups
from vmhb_common.conf.check import Problem
from vmhb_common.conf.groups import Group
from vmhb_common.messaging.limited import Limited, NoEnd
from vmhb_common.messaging.no_eventlet import without_eventlet

with without_eventlet():
    from oslo_log import log

LOG = logging.getLogger(__name__)

#: Whose options may stand in our files, by their names for oslo-config-generator.
LIBRARIES = ("oslo.log", "oslo.messaging", "oslo.reports")
#: Seconds that all that is reached for may take together.
LIMIT = 5.0
#: What a check that can tell more than "no answer" is given.
INNER_LIMIT = 4.5
#: Seconds that `--status` may take, whatever it asks: what can tell more than "no answer" takes less.
STATUS_LIMIT = 15.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to reach: the option that names it, its value, and a function that tells what is wrong, or None."""

    what: str
    value: str
    look: Callable[[], str | None]


#: BLOCKS, for a file or two. Has what may change while we run as the files say now, and the log's level so; True. Where
#: they are no good, says so, changes nothing, and is False.
Reading = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Program:
    """One of our programs."""

    name: str
    #: Its options.
    groups: Sequence[Group]
    #: For the help text: what `--check-config` reaches for.
    reaches: str
    #: What no option tells by itself: values that contradict each other.
    contradictions: Callable[[cfg.ConfigOpts], list[Problem]]
    #: What to reach for, whatever else is wrong with the configuration.
    endpoints: Callable[[cfg.ConfigOpts], Sequence[Check]]
    #: Runs until it is told to end; the exit code. The second reads the configuration again: see `Reading`.
    serve: Callable[[cfg.ConfigOpts, Reading], int]
    #: Whose options may stand in its files as well, by their names for oslo-config-generator.
    libraries: Sequence[str] = LIBRARIES
    #: Asks one that runs what it has done so far. BLOCKS. Raises NoAnswer.
    status: Callable[[cfg.ConfigOpts], dict[str, Any]] | None = None


class NoAnswer(Exception):
    """None that runs can be asked. The text says why, and what to do."""


def main(program: Program) -> None:
    """The entry point. Ends the process: nothing that hangs in a thread, or in a C library, may hold it up."""
    hold_signals()
    code = run(program, sys.argv[1:], cfg.CONF)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(program: Program, arguments: Sequence[str], conf: cfg.ConfigOpts) -> int:
    """Exit code: 0 all went well, 1 the configuration is not good, else the service's own."""
    log.register_options(conf)
    _register(conf, program)
    try:
        strange = read(program, arguments, conf)
    except BadFiles as error:
        return _refuse([error.problem])
    bad = nonsense(program, conf)
    if conf.check_config:
        return _check(conf, [*strange, *bad], program.endpoints)
    if bad:
        return _refuse(bad)
    if program.status is not None and conf.status:
        return _tell(program.status, conf)
    return _serve(program, arguments, conf, strange)


def _register(conf: cfg.ConfigOpts, program: Program) -> None:
    option_groups.register(conf, program.groups)
    conf.register_cli_opt(
        cfg.BoolOpt(
            "check-config",
            default=False,
            help=f"Say everything that is wrong with the configuration, and what of {program.reaches} cannot be "
            "reached, then end: exit code 0 when all is well, else 1.",
        )
    )
    if program.status is not None:
        conf.register_cli_opt(
            cfg.BoolOpt(
                "status",
                default=False,
                help="Ask one that runs what it has done so far, print that as JSON, then end: exit code 0, or 1 where "
                "none answers.",
            )
        )


class BadFiles(Exception):
    """The configuration can't be read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read(program: Program, arguments: Sequence[str], conf: cfg.ConfigOpts) -> list[Problem]:
    """Read this program's configuration; its groups must be registered. The names in it that nobody knows. Raises
    BadFiles."""
    try:
        conf(
            arguments,
            project="vmhb",
            prog=program.name,
            version=version(),
            # Read when no --config-file or --config-dir is given, where they exist.
            default_config_files=_existing(f"/etc/vmhb/{program.name}.conf"),
            default_config_dirs=_existing(f"/etc/vmhb/{program.name}.conf.d"),
        )
    except (cfg.Error, ValueError) as error:
        raise BadFiles(Problem("configuration", str(error), "correct it")) from error
    return unknown(program, conf)


def nonsense(program: Program, conf: cfg.ConfigOpts) -> list[Problem]:
    """The values in it that no program of this kind can run with."""
    return problems.bad_values(conf, program.groups) or program.contradictions(conf)


def unknown(program: Program, conf: cfg.ConfigOpts) -> list[Problem]:
    """The names in a configuration that was read that nobody knows."""
    return problems.unknown_names(conf, program.groups, _libraries(program.libraries))


def _tell(status: Callable[[cfg.ConfigOpts], dict[str, Any]], conf: cfg.ConfigOpts, limit: float = STATUS_LIMIT) -> int:
    logging.disable(logging.CRITICAL)  # as in a check
    try:
        told = Limited("asking one that runs", limit)(lambda: status(conf))
        print(json.dumps(told, indent=2, sort_keys=True))
    except NoAnswer as error:
        print(error, file=sys.stderr)
        return 1
    except NoEnd as error:
        print(f"none that runs can be asked: {error}: --check-config says more", file=sys.stderr)
        return 1
    finally:
        logging.disable(logging.NOTSET)
    return 0


def _check(conf: cfg.ConfigOpts, found: list[Problem], endpoints: Callable[[cfg.ConfigOpts], Sequence[Check]]) -> int:
    logging.disable(logging.CRITICAL)  # libraries' complaints would only repeat ours, at length
    try:
        found += reach(endpoints(conf))
    finally:
        logging.disable(logging.NOTSET)
    if found:
        return _refuse(found)
    print("configuration is good")
    return 0


def _serve(program: Program, arguments: Sequence[str], conf: cfg.ConfigOpts, unknown: Sequence[Problem]) -> int:
    log.setup(conf, program.name)
    said = Once()
    hush(said)
    make_legible()
    for problem in (crashpoint.warning(), *unknown):
        if problem is not None:
            LOG.warning("%s", problem)

    def reading() -> bool:
        taken = read_again(program, arguments, conf)
        hush(said)
        make_legible()
        return taken

    return program.serve(conf, reading)


def read_again(program: Program, arguments: Sequence[str], conf: cfg.ConfigOpts) -> bool:
    """See `Reading`. oslo.config says what has changed, and what can't without a restart."""
    # Beside the one in force: oslo.config would take a value that makes no sense, and only stumble over it afterwards.
    tried = cfg.ConfigOpts()
    for _group, opts in _libraries(("oslo.log",)):
        tried.register_cli_opts(opts)
    _register(tried, program)
    try:
        strange = read(program, arguments, tried)
        bad = nonsense(program, tried)
    except BadFiles as error:
        strange, bad = [], [error.problem]
    except SystemExit:  # argparse, of an option that may stand on the command line as well; it has said which on stderr
        strange, bad = [], [Problem("configuration", "a value", "makes no sense: --check-config says which")]
    for problem in (*bad, *strange):
        LOG.log(logging.ERROR if bad else logging.WARNING, "%s", problem)
    if bad:
        LOG.error("the configuration is not taken: all goes on as before")
        return False
    LOG.info("reading the configuration again")
    try:
        conf.mutate_config_files()
    except log.LogConfigError as error:  # the last thing that is done: all else is in force by now
        LOG.error("the log's own configuration is not taken, all else is: %s: correct it", error)
    except (cfg.Error, SystemExit) as error:  # a file that was changed just now
        LOG.error("the configuration is not taken: %s: correct it", error)
        return False
    return True


def _refuse(found: Sequence[Problem]) -> int:
    for problem in found:
        print(problem, file=sys.stderr)
    return 1


def reach(checks: Sequence[Check], limit: float = LIMIT) -> list[Problem]:
    """All of them at the same time; one that has not answered after `limit` seconds has failed. Order is kept."""
    answers: queue.SimpleQueue[tuple[int, str | None]] = queue.SimpleQueue()
    for number, check in enumerate(checks):
        # A daemon: what hangs in there ends with the process.
        threading.Thread(target=_answer, args=(number, check, answers), name=check.what, daemon=True).start()
    wrong: dict[int, str | None] = dict.fromkeys(range(len(checks)), f"no answer within {limit:g} s")
    deadline = time.monotonic() + limit
    for _ in checks:
        try:
            number, found = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        wrong[number] = found
    return [Problem(checks[number].what, checks[number].value, found) for number, found in wrong.items() if found]


def _answer(number: int, check: Check, answers: queue.SimpleQueue[tuple[int, str | None]]) -> None:
    try:
        found = check.look()
    except Exception as error:  # whatever goes wrong in there is an answer
        found = f"{type(error).__name__}: {error}"
    answers.put((number, found))


def version() -> str:
    """Of what is installed."""
    try:
        return importlib.metadata.version("nova-vmhb")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _libraries(names: Sequence[str]) -> list[tuple[str | None, Sequence[cfg.Opt]]]:
    """The options that may stand beside ours."""
    points = importlib.metadata.entry_points(group="oslo.config.opts")
    groups = [group for point in points if point.name in names for group in point.load()()]
    return [(getattr(group, "name", group), opts) for group, opts in groups]


def _existing(path: str) -> list[str]:
    return [path] if os.path.exists(path) else []
