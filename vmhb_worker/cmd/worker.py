"""`vmhb-worker`: the command line. What the worker does is `vmhb_worker.service`'s affair."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence

from oslo_config import cfg

from vmhb_common.app import command_line
from vmhb_common.app.command_line import Check, Program, Reading
from vmhb_common.conf.check import Problem
from vmhb_common.messaging import sender_keys
from vmhb_worker import conf as options
from vmhb_worker.cmd import checks


def main() -> None:
    """The entry point."""
    command_line.main(PROGRAM)


def run(
    arguments: Sequence[str],
    conf: cfg.ConfigOpts,
    endpoints: Callable[[cfg.ConfigOpts], Sequence[Check]] = checks.endpoints,
) -> int:
    """As `program.run`. endpoints: tells what `--check-config` reaches for."""
    return command_line.run(dataclasses.replace(PROGRAM, endpoints=endpoints), arguments, conf)


def _contradictions(conf: cfg.ConfigOpts) -> list[Problem]:
    try:
        settings = options.settings(conf)
    except ValueError as error:
        return [Problem("[policy]", str(error), "change one of them")]
    return [Problem(f"[faults] {option}", *why) for option, *why in sender_keys.problems(settings.senders)]


def _serve(conf: cfg.ConfigOpts, reading: Reading) -> int:
    service = importlib.import_module("vmhb_worker.service")  # only now: a check does without it
    code: int = service.run(conf, reading)
    return code


PROGRAM = Program(
    name="vmhb-worker",
    groups=options.GROUPS,
    reaches="libvirt, broker and store",
    contradictions=_contradictions,
    endpoints=checks.endpoints,
    serve=_serve,
)


if __name__ == "__main__":
    main()
