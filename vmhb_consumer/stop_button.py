"""The stop button: what a pause of all recoveries is, and what may be asked for. Pure.

A pause has a reason, so that whoever finds it knows whether it still holds, and an end, since one that is forgotten
would leave the cloud's dead machines dead for ever.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vmhb_common.model.moments import from_epoch

#: Seconds. The longest: a week of vacation, not one that nobody remembers. The shortest: the time to look at something.
CEILING = 7 * 86400.0
SHORTEST = 60.0
#: Characters of a reason: one sentence, which stands in every log line of what waits.
REASON = 200

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"([0-9]{1,9})([smhd])")


@dataclass(frozen=True, slots=True)
class Pause:
    """No recovery is begun. since, until: seconds since the epoch. by: who said so."""

    reason: str
    since: float
    until: float
    by: str = ""

    @property
    def text(self) -> str:
        """The same for as long as it lasts: it is what everything that waits because of it says."""
        return f"paused until {utc(self.until)}: {self.reason}"


def in_force(pause: Pause | None, now: float) -> bool:
    """Is it still to be obeyed? `now` by any clock that is right within seconds."""
    return pause is not None and now < pause.until


def seconds_of(text: str) -> float:
    """How long, such as 90m. ValueError, with what to say instead."""
    found = _TIME.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else None
    if seconds is None or not SHORTEST <= seconds <= CEILING:
        raise ValueError(
            f"{text!a:.40} is no such time: say one whole number and m, h or d, from 1m to 7d, such as 90m or 2h"
        )
    return seconds


def reason_of(text: str) -> str:
    """Why, in one line. ValueError, with what to say instead."""
    reason = text.strip()
    if not reason or len(reason) > REASON or not reason.isprintable():
        raise ValueError(f"{text!a:.40} is no reason: say one line of 1 to {REASON} characters, for whoever finds it")
    return reason


def utc(at: float) -> str:
    """For people: to the second."""
    return f"{from_epoch(at):%Y-%m-%d %H:%M:%S} UTC"


def roughly(seconds: float) -> str:
    """For people: how long that is, rounded up to minutes."""
    minutes = max(1, -(-int(seconds) // 60))
    days, hours = minutes // 1440, minutes % 1440 // 60
    parts = [(days, "d"), (hours, "h"), (minutes % 60, "min")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
