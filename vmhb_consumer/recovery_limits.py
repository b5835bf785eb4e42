"""May one more recovery be asked for now? The cloud-wide brake and an instance's budget, as numbers. Pure.

A fault of the network, the storage or ourselves looks like the death of many instances at once. Recovering all of them
at the same time would finish the cloud; recovering one over and over helps nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmhb_consumer.reporters.base import Permit
from vmhb_consumer.settings import RecoverySettings

#: What the rate counts over (seconds).
MINUTE = 60.0
#: Seconds after which somebody who is held asks again, at least: hundreds may be held.
PAUSE = 10.0


@dataclass(frozen=True, slots=True)
class Granted:
    """What was granted before. Ages are seconds ago.

    running: permits of faults that are still open, not older than `recovery_time`. recent: ages of all within the last
    minute. spent: ages of those of this instance within `recovery_window`.
    """

    running: int = 0
    recent: Sequence[float] = ()
    spent: Sequence[float] = ()


def weigh(granted: Granted, limits: RecoverySettings) -> Permit:
    """The texts stay the same while the reason does: each is logged once."""
    if len(granted.spent) >= limits.recoveries:
        return Permit(
            False,
            f"the instance had {limits.recoveries} recoveries within {limits.recovery_window:g} s ([recovery] "
            f"recoveries): another would hardly help, see to it",
        )
    if granted.running >= limits.max_concurrent:
        return Permit(
            False, f"held: {limits.max_concurrent} recoveries are under way ([recovery] max_concurrent)", PAUSE
        )
    if len(granted.recent) >= limits.rate:
        # A place is free once the oldest of the last `rate` is a minute old.
        oldest = sorted(granted.recent)[limits.rate - 1]
        return Permit(
            False,
            f"held: {limits.rate} recoveries began within a minute ([recovery] rate)",
            max(1.0, MINUTE - oldest),
        )
    return Permit(True)
