"""What one reporter has been told of one fault, and so as what it is handed the next change, if at all. Pure.

The consumer keeps it in its database, per reporter and fault; the kit for reporters' tests runs the same functions. So
a reporter needs no memory of its own to tell a raise from an update, or a clear that concerns it from one that does
not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from vmhb_common.model.fault import Change
from vmhb_consumer.reporters.outcomes import Later, Outcome, Refused

#: Tries in a row that end with an exception, which a reporter must not raise; then the change is given up. With the
#: pauses between them, 1 s doubling up to 60 s, that is a quarter of an hour.
BUGS = 20


@dataclass(frozen=True, slots=True)
class Told:
    """Of one fault, one reporter.

    handed: it was handed a change that was then settled. known: its backend has heard of the fault. remind: what it
    refused is worth another try with a reminder. bugs: tries of the change at hand that ended with an exception, in a
    row. before: from before this was kept, when every reporter is taken to have heard of every fault.
    """

    handed: bool = False
    known: bool = False
    remind: bool = False
    bugs: int = 0
    before: bool = False


NOTHING = Told()


@dataclass(frozen=True, slots=True)
class Handed:
    """As what a change is handed to it. reminder: it was handed the same before, and did not take it."""

    change: Change
    reminder: bool


def handed(told: Told, change: Change, reminder: bool) -> Handed | None:
    """change, reminder: as the consumer heard it. None: not at all."""
    if not told.known:
        if change is Change.CLEARED:
            return None
        return Handed(Change.RAISED, reminder and told.handed)
    if reminder and not told.remind:
        return None
    if change is Change.RAISED and not told.before:
        return Handed(Change.UPDATED, reminder)
    return Handed(change, reminder)


def after(told: Told, outcome: Outcome) -> Told:
    """What it has been told, once this came of a try."""
    known = told.known or outcome.known
    if isinstance(outcome, Later):
        return replace(told, known=known, bugs=0)
    remind = isinstance(outcome, Refused) and outcome.remind
    return replace(told, handed=True, known=known, remind=remind, bugs=0)


def after_bug(told: Told) -> Told:
    """The same, once it raised."""
    return replace(told, bugs=told.bugs + 1)


def recipients(change: Change, wanted: Sequence[str], wanted_first: Sequence[str], has: Collection[str]) -> list[str]:
    """Who is to have a change. wanted: those that want it as it is; wanted_first: those that want it as the first that
    they are told of the fault, which is a raise; has: those that know of the fault, or soon will."""
    first = [] if change is Change.CLEARED else [name for name in wanted_first if name not in has]
    return [*(name for name in wanted if name in has), *first]
