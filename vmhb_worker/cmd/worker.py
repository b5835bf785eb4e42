"""`vmhb-worker`: the command line. What the worker does is `vmhb_worker.service`'s affair."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
import sys
from collections.abc import Callable, Sequence

from oslo_config import cfg
from oslo_log import log

from vmhb_worker import conf as options
from vmhb_worker.cmd import checks
from vmhb_worker.conf import problems
from vmhb_worker.conf.problems import Problem

LOG = logging.getLogger(__name__)

PROGRAM = "vmhb-worker"
#: Read when no --config-file or --config-dir is given, where they exist.
DEFAULT_FILES = ("/etc/vmhb/vmhb-worker.conf",)
DEFAULT_FOLDERS = ("/etc/vmhb/vmhb-worker.conf.d",)

#: Whose options may stand in our file, by their names for oslo-config-generator.
LIBRARIES = ("oslo.log", "oslo.messaging")

#: Tells what to reach for: `checks.endpoints`, or a test's.
Endpoints = Callable[[cfg.ConfigOpts], Sequence[checks.Check]]


def main() -> None:
    """The entry point. Ends the process: nothing that hangs in a thread, or in libvirt, may hold it up."""
    code = run(sys.argv[1:], cfg.CONF)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(arguments: Sequence[str], conf: cfg.ConfigOpts, endpoints: Endpoints = checks.endpoints) -> int:
    """Exit code: 0 all went well, 1 the configuration is not good, else the service's own."""
    log.register_options(conf)
    options.register(conf)
    conf.register_cli_opt(
        cfg.BoolOpt(
            "check-config",
            default=False,
            help="Say everything that is wrong with the configuration, and what of libvirt, broker and store cannot be "
            "reached, then end: exit code 0 when all is well, else 1.",
        )
    )
    try:
        conf(
            arguments,
            project="vmhb",
            prog=PROGRAM,
            version=_version(),
            default_config_files=_existing(DEFAULT_FILES),
            default_config_dirs=_existing(DEFAULT_FOLDERS),
        )
    except (cfg.Error, ValueError) as error:
        return _refuse([Problem("configuration", str(error), "correct it")])
    unknown = problems.unknown_names(conf, _libraries())
    bad = problems.bad_values(conf)
    if conf.check_config:
        return _check(conf, [*unknown, *bad], endpoints)
    return _refuse(bad) if bad else _serve(conf, unknown)


def _check(conf: cfg.ConfigOpts, found: list[Problem], endpoints: Endpoints) -> int:
    logging.disable(logging.CRITICAL)  # libraries' complaints would only repeat ours, at length
    try:
        found += checks.run(endpoints(conf))
    finally:
        logging.disable(logging.NOTSET)
    if found:
        return _refuse(found)
    print("configuration is good")
    return 0


def _serve(conf: cfg.ConfigOpts, unknown: Sequence[Problem]) -> int:
    log.setup(conf, PROGRAM)
    for problem in unknown:
        LOG.warning("%s", problem)
    service = importlib.import_module("vmhb_worker.service")  # only now: a check does without it
    code: int = service.run(conf)
    return code


def _refuse(found: Sequence[Problem]) -> int:
    for problem in found:
        print(problem, file=sys.stderr)
    return 1


def _libraries() -> list[tuple[str | None, Sequence[cfg.Opt]]]:
    """The options that may stand beside ours."""
    points = importlib.metadata.entry_points(group="oslo.config.opts")
    return [group for point in points if point.name in LIBRARIES for group in point.load()()]


def _existing(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if os.path.exists(path)]


def _version() -> str:
    try:
        return importlib.metadata.version("nova-vmhb")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    main()
