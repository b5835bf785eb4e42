"""`nova-vmhb-manage db`: makes the tables, says which there are, and empties them of what is long over."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterator, Mapping
from datetime import timezone
from typing import Any

from vmhb_common.model.moments import moment
from vmhb_consumer import standing
from vmhb_consumer.settings import RecoverySettings
from vmhb_consumer.standing import Standing
from vmhb_consumer.stop_button import utc

THING = "db"
#: Seconds that faults are kept at least, as `keep` of [consumer]: a notification of one that is forgotten is news.
KEPT = 3600.0

_TOLD = {
    Standing.EMPTY: f"has none of our tables: `{standing.SYNC}` makes them",
    Standing.BEHIND: f"is behind: `{standing.SYNC}` brings it to %s",
    Standing.CURRENT: "is what this program needs",
    Standing.AHEAD: "is ahead of this program (%s), which can do with it",
    Standing.TOO_NEW: "is ahead of this program (%s), which must be upgraded",
}


class Nonsense(Exception):
    """What was typed can't be meant. The text says what can."""


def add_to(things: Any) -> None:
    """Its commands. things: argparse's, of the whole program."""
    parser = things.add_parser(THING, help="the consumers' database: its tables, and what is in them")
    acts = parser.add_subparsers(dest="what", required=True, metavar="sync|version|purge")
    acts.add_parser(
        "sync",
        help="make the tables, or bring them to what this version needs; does nothing where they are. May run while "
        "consumers do, and again after whatever has stopped it",
    )
    acts.add_parser("version", help="print the revision that the tables have; then what that is to this version")
    purge = acts.add_parser("purge", help="forget what is over, as consumers do after [consumer] keep")
    purge.add_argument(
        "--before",
        required=True,
        type=_moment,
        metavar="TIME",
        help="what was over by then, at least an hour ago: 2026-01-31, or 2026-01-31T12:00:00; UTC, where it names no "
        "zone",
    )


def _moment(text: str) -> float:
    try:
        when = moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: say a day, or a time, such as 2026-01-31T12:00:00") from error
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()


def _sync(_wanted: argparse.Namespace, store: Any, _limits: RecoverySettings, _now: float) -> Iterator[str]:
    applied = store.sync()
    if applied:
        yield f"{store.shown}: revision {applied[-1]}, by {len(applied)} steps: {', '.join(applied)}"
    else:
        yield f"{store.shown}: {store.found().text}: nothing to do"


def _version(_wanted: argparse.Namespace, store: Any, _limits: RecoverySettings, _now: float) -> Iterator[str]:
    found, known = store.found(), store.known
    yield found.revision or ("none" if found.generation is None else f"version {found.generation}")
    text = _TOLD[standing.judge(found, known)]
    yield f"{store.shown} {text % known.head if '%s' in text else text}"


def _purge(wanted: argparse.Namespace, store: Any, limits: RecoverySettings, now: float) -> Iterator[str]:
    if wanted.before > now - KEPT:
        raise Nonsense("--before: say a time that is an hour ago or more: what is over is kept for so long")
    store.visit()
    records = importlib.import_module("vmhb_consumer.repository").Records(store, lambda _change, _fault: [], [], KEPT)
    number = records.prune(wanted.before, wanted.before - max(limits.recovery_window, limits.recovery_time))
    yield f"{number} faults, and records of what was not delivered, from before {utc(wanted.before)} are forgotten"


#: Raise Nonsense, and what the database raises.
COMMANDS: Mapping[str, Callable[[argparse.Namespace, Any, RecoverySettings, float], Iterator[str]]] = {
    "sync": _sync,
    "version": _version,
    "purge": _purge,
}
