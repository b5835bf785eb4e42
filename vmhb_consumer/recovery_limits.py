"""May one more recovery be begun now? The stop button, the cloud-wide limits, a project's share of them, and an
instance's budget: a table. Pure.

A fault of the network, the storage or ourselves looks like the death of many instances at once. Recovering all of them
at the same time would finish the cloud; recovering one over and over helps nobody. And a tenant whose guests all die
must not keep another's one from being recovered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vmhb_consumer import stop_button
from vmhb_consumer.reporters.base import Permit
from vmhb_consumer.settings import RecoverySettings
from vmhb_consumer.stop_button import Pause

#: What the rate counts over (seconds).
MINUTE = 60.0
#: Seconds after which somebody who is held asks again, at least: hundreds may be held.
PAUSE = 10.0
#: Seconds for which who was held is taken to wait, without having asked again. One thread asks for all that wait, and
#: each try asks backends before: with hundreds a round takes minutes. What is not waited for any more is struck out at
#: once; so this bounds for how long one whose reporter is gone holds others to their share.
FRESH = 300.0

#: `Permit.withheld`: the same words as of a fault's `withheld`.
BUDGET, PAUSED, SHARE, OBSERVE = "budget", "paused", "share", "observe"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when one asks. Ages are seconds ago.

    A place is held from when a recovery is let through until it has ended, for `recovery_time` at most. running,
    of_project, recent, spent: of all others but this one. running: places held; of_project: of these, by its project;
    recent: ages of those let through within the last minute; spent: ages of those of its instance within
    `recovery_window`. has_place: it was let through before, and holds one. others_wait: another project was held, and
    still waits.
    """

    running: int = 0
    of_project: int = 0
    recent: Sequence[float] = ()
    spent: Sequence[float] = ()
    has_place: bool = False
    others_wait: bool = False
    pause: Pause | None = None


def share(limits: RecoverySettings) -> int:
    """How many places one project may hold while another waits."""
    return max(1, -(-limits.max_concurrent // 2))


def weigh(known: Known, limits: RecoverySettings, now: float) -> Permit:
    """The first row that has something to say. Nothing speaks against it: go. now: seconds since the epoch.

    The texts stay the same while the reason does: each is logged once.
    """
    for row in ROWS:
        permit = row(known, limits, now)
        if permit is not None:
            return permit
    return Permit(True)


def _budget(known: Known, limits: RecoverySettings, _now: float) -> Permit | None:
    if known.has_place or len(known.spent) < limits.recoveries:
        return None
    return Permit(
        False,
        f"the instance had {limits.recoveries} recoveries within {limits.recovery_window:g} s ([recovery] "
        f"recoveries): another would hardly help, see to it",
        withheld=BUDGET,
    )


def _paused(known: Known, _limits: RecoverySettings, now: float) -> Permit | None:
    if known.pause is None or not stop_button.in_force(known.pause, now):
        return None
    return Permit(False, known.pause.text, min(PAUSE, max(1.0, known.pause.until - now)), PAUSED)


def _none_at_all(_known: Known, limits: RecoverySettings, _now: float) -> Permit | None:
    if limits.max_concurrent > 0:
        return None
    return Permit(False, "held: no recovery is begun at all ([recovery] max_concurrent = 0)", PAUSE)


def _all_places_taken(known: Known, limits: RecoverySettings, _now: float) -> Permit | None:
    if known.has_place or known.running < limits.max_concurrent:
        return None
    return Permit(False, f"held: {limits.max_concurrent} recoveries are under way ([recovery] max_concurrent)", PAUSE)


def _over_share(known: Known, limits: RecoverySettings, _now: float) -> Permit | None:
    """Nobody's recovery is ever ended for another. So the last place is kept for a project that is within its share:
    one that comes when a tenant has taken all the others need not wait until these are over."""
    if known.has_place or known.of_project < share(limits):
        return None
    last = known.running >= limits.max_concurrent - 1
    if not (known.others_wait or last):
        return None
    whose = "another project waits" if known.others_wait else "the last place is kept for another project"
    return Permit(
        False,
        f"held, share: its project has {share(limits)} or more of {limits.max_concurrent} places, and {whose} "
        f"([recovery] max_concurrent)",
        PAUSE,
        SHARE,
    )


def _too_fast(known: Known, limits: RecoverySettings, _now: float) -> Permit | None:
    if known.has_place or len(known.recent) < limits.rate:
        return None
    # A place is free once the oldest of the last `rate` is a minute old.
    oldest = sorted(known.recent)[limits.rate - 1]
    return Permit(
        False,
        f"held: {limits.rate} recoveries began within a minute ([recovery] rate)",
        max(1.0, MINUTE - oldest),
    )


def _only_observed(_known: Known, limits: RecoverySettings, _now: float) -> Permit | None:
    if not limits.observe_only:
        return None
    return Permit(False, "observe: it would have been begun now ([recovery] observe_only)", withheld=OBSERVE)


#: In this order. What is final is said before what is worth a wait; observing is last, so that it says what would have
#: been done. The budget, places, share and rate are not asked about one that holds a place: it was let through, and is
#: asked for again after its reporter, or the consumer, was interrupted. The stop button is.
ROWS: tuple[Callable[[Known, RecoverySettings, float], Permit | None], ...] = (
    _budget,
    _paused,
    _none_at_all,
    _all_places_taken,
    _over_share,
    _too_fast,
    _only_observed,
)
