"""`nova-vmhb-consumer`: the command line. What it does is `nova_vmhb.consumer.service`'s affair."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence

from oslo_config import cfg

from nova_vmhb import conf as options
from vmhb_worker import brokers, program
from vmhb_worker.program import INNER_LIMIT, Check, Program


def main() -> None:
    """The entry point."""
    program.main(PROGRAM)


def endpoints(conf: cfg.ConfigOpts) -> list[Check]:
    """The workers' broker, and those that Nova's notifications come from."""
    group = conf.nova_notifications
    value, problem = brokers.shown(conf, None)
    workers = Check(
        "[DEFAULT] transport_url", value, lambda: problem or brokers.check_sending(conf, None, "vmhb", (), INNER_LIMIT)
    )
    return [workers, *(_of_nova(conf, url, group.exchange) for url in group.transport_url or [None])]


def _of_nova(conf: cfg.ConfigOpts, url: str | None, exchange: str) -> Check:
    value, problem = brokers.shown(conf, url)
    return Check(
        "[nova_notifications] transport_url",
        value,
        lambda: problem or brokers.check_exchange(conf, url, exchange, INNER_LIMIT),
    )


def run(
    arguments: Sequence[str],
    conf: cfg.ConfigOpts,
    reached: Callable[[cfg.ConfigOpts], Sequence[Check]] = endpoints,
) -> int:
    """As `program.run`. reached: tells what `--check-config` reaches for."""
    return program.run(dataclasses.replace(PROGRAM, endpoints=reached), arguments, conf)


def _serve(conf: cfg.ConfigOpts) -> int:
    service = importlib.import_module("nova_vmhb.consumer.service")  # only now: a check does without it
    code: int = service.run(conf)
    return code


PROGRAM = Program(
    name="nova-vmhb-consumer",
    groups=options.GROUPS,
    reaches="brokers",
    contradictions=lambda conf: [],
    endpoints=endpoints,
    serve=_serve,
)


if __name__ == "__main__":
    main()
