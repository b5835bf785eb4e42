"""`nova-vmhb-consumer`: the command line. What it does is `vmhb_consumer.service`'s affair."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from oslo_config import cfg

from vmhb_common import consumer_api, worker_api
from vmhb_common.app import command_line
from vmhb_common.app.command_line import INNER_LIMIT, Check, Program, Reading
from vmhb_common.conf import check as problems
from vmhb_common.conf import senders
from vmhb_common.conf.check import Problem
from vmhb_common.messaging import broker, looks, sender_keys
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_consumer import conf as options
from vmhb_consumer.reporters import loader
from vmhb_consumer.settings import Half

with without_eventlet():
    import oslo_messaging

#: The entry point that tells the options of [nova].
KEYSTONE = "nova_vmhb.nova"


#: Besides oslo's, what may stand in our files: the options of Keystone's plugins.
LIBRARIES = (*command_line.LIBRARIES, KEYSTONE)

#: Of Nova's notifications, those that are heard: the methods of `nova_listener.Endpoint`.
PRIORITIES = ("info", "error")
#: Seconds that a consumer has to answer `--status`.
ANSWER = 6.0


def main() -> None:
    """The entry point."""
    command_line.main(complete())


def complete() -> Program:
    """With the groups of what is installed."""
    groups = (*options.GROUPS, *options.libraries(), *loader.groups(loader.installed()))
    known = LIBRARIES if any(group.GROUP == "nova" for group in groups) else command_line.LIBRARIES
    return dataclasses.replace(PROGRAM, groups=groups, libraries=known)


def contradictions(conf: cfg.ConfigOpts) -> list[Problem]:
    """What no option tells by itself."""
    found = []
    if not conf.consumer.halves:
        found.append(Problem("[consumer] halves", "empty", "name at least one, or leave it out for both"))
    if Half.FAULTS not in conf.consumer.halves:
        return found
    if not any(group.GROUP == "database" for group in options.libraries()):
        remedy = "needs nova-vmhb[consumer]: install it, or say [consumer] halves = instances"
        return [*found, Problem("[consumer] halves", "faults", remedy)]
    there = loader.installed()
    for name in dict.fromkeys(conf.consumer.reporters):
        problem = loader.problem_of(name, there)
        if problem is not None:
            found.append(Problem("[consumer] reporters", name, problem))
    return found or _nonsense(conf)


def _nonsense(conf: cfg.ConfigOpts) -> list[Problem]:
    """What reporters, [nova] and [database] themselves refuse."""
    found = []
    for name in conf.consumer.reporters:
        try:
            loader.make(conf, [name], loader.installed(), _now)
        except loader.BadReporter as error:
            found.append(Problem("[consumer] reporters", name, str(error)))
    found += _nova_without_auth_type(conf)
    found += [Problem(f"[faults] {option}", *why) for option, *why in sender_keys.problems(senders.settings(conf))]
    try:
        importlib.import_module("vmhb_consumer.nova_client").from_conf(conf)
    except ValueError as error:
        found.append(Problem("[nova]", str(conf.nova.auth_type or conf.nova.auth_section), str(error)))
    try:
        importlib.import_module("vmhb_consumer.database").of(conf, Path(conf.state_path))
    except ValueError as error:
        found.append(Problem("[database] connection", "a secret", str(error)))
    return found


def _nova_without_auth_type(conf: cfg.ConfigOpts) -> list[Problem]:
    """Somebody meant to have Nova asked, and it never would be."""
    meant = problems.said(conf, "nova")
    if not meant or conf.nova.auth_type or conf.nova.auth_section:
        return []
    remedy = (
        f"say auth_type = password, or remove [nova] altogether: without it Nova is not asked, and what is said there "
        f"means nothing: {', '.join(meant)}"
    )
    return [Problem("[nova] auth_type", "missing", remedy)]


def endpoints(conf: cfg.ConfigOpts) -> list[Check]:
    """The workers' broker; those that Nova's notifications come from; what the faults half needs."""
    group = conf.nova_notifications
    value, problem = broker.shown(conf, None)
    workers = Check(
        "[DEFAULT] transport_url",
        value,
        lambda: problem or broker.check(conf, None, _workers_looks(conf), INNER_LIMIT),
    )
    found = [workers]
    if _runs(conf, Half.INSTANCES):
        found += [_of_nova(conf, url, group.exchange) for url in group.transport_url or [None]]
    if _runs(conf, Half.FAULTS) and not contradictions(conf):
        found += _of_faults(conf)
    return found


def _workers_looks(conf: cfg.ConfigOpts) -> list[looks.Look]:
    """The instances half tells workers, and calls nobody; the faults half calls, and is called."""
    if not _runs(conf, Half.FAULTS):
        return [looks.telling(worker_api.EXCHANGE, f"{worker_api.TOPIC}.any")]
    called = [looks.calling(worker_api.EXCHANGE, f"{worker_api.TOPIC}.any"), _calling]
    try:
        host = str(conf.host)
    except ValueError:  # said elsewhere
        return called
    return [*called, looks.serving(consumer_api.EXCHANGE, consumer_api.TOPIC, host)]


#: For `brokers.check`: the consumers are called.
_calling = looks.calling(consumer_api.EXCHANGE, consumer_api.TOPIC)


def _runs(conf: cfg.ConfigOpts, half: Half) -> bool:
    try:
        return half in conf.consumer.halves
    except ValueError:  # said elsewhere
        return False


def _of_faults(conf: cfg.ConfigOpts) -> list[Check]:
    try:
        checks = importlib.import_module("vmhb_consumer.check_config")
        found: list[Check] = checks.endpoints(conf, _now)
    except ValueError:  # an option out of bounds, which is said elsewhere
        return []
    return found


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _of_nova(conf: cfg.ConfigOpts, url: str | None, exchange: str) -> Check:
    value, problem = broker.shown(conf, url)
    tried = [looks.exchange_there(exchange)]
    with suppress(ValueError):  # said elsewhere
        group = conf.nova_notifications
        tried += [
            looks.listening(exchange, group.pool or f"{group.topic}.{priority}", f"{group.topic}.{priority}")
            for priority in PRIORITIES
        ]
    return Check(
        "[nova_notifications] transport_url",
        value,
        lambda: problem or broker.check(conf, url, tried, INNER_LIMIT),
    )


def run(
    arguments: Sequence[str],
    conf: cfg.ConfigOpts,
    reached: Callable[[cfg.ConfigOpts], Sequence[Check]] = endpoints,
) -> int:
    """As `program.run`. reached: tells what `--check-config` reaches for."""
    return command_line.run(dataclasses.replace(complete(), endpoints=reached), arguments, conf)


def status(conf: cfg.ConfigOpts) -> dict[str, Any]:
    """What one that runs says of itself. BLOCKS for INNER_LIMIT, ANSWER and a connection at most. Raises NoAnswer."""
    # A call would only say that it did not end; this says why it would not.
    problem = broker.check(conf, None, [_calling], INNER_LIMIT)
    if problem is not None:
        raise command_line.NoAnswer(f"no consumer can be asked: {problem}")
    try:
        with worker_api.asking(conf) as transport:
            return consumer_api.ConsumerAPI(transport, ANSWER).about()
    except oslo_messaging.MessagingTimeout:
        raise command_line.NoAnswer(
            "no consumer answers: is one running on this broker, with faults among its [consumer] halves?"
        ) from None
    except Exception as error:
        raise command_line.NoAnswer(f"no consumer can be asked: {broker.explain(error)}") from error


def _serve(conf: cfg.ConfigOpts, reading: Reading) -> int:
    service = importlib.import_module("vmhb_consumer.service")  # only now: a check does without it
    code: int = service.run(conf, reading)
    return code


PROGRAM = Program(
    name="nova-vmhb-consumer",
    groups=options.GROUPS,
    reaches="brokers, database, Nova and the reporters' backends",
    contradictions=contradictions,
    endpoints=endpoints,
    serve=_serve,
    status=status,
)


if __name__ == "__main__":
    main()
