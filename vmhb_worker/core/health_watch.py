"""Is the application well? Its reports, counted: so many in a row make it unhealthy, and so many well again.

Where the reports come from (`protocol.Health`, or a check run by the guest agent), and what follows, is not known here.
"""

from __future__ import annotations

import enum
import math
from typing import Any

from vmhb_worker.core.protocol import Health, Status

#: Other reasons of one that is unhealthy are told no more often than this (seconds): a guest makes them up as it likes.
NEWS_INTERVAL = 60.0


class Turn(enum.Enum):
    """What a report changed."""

    NONE = "nothing"
    BAD = "unhealthy for the threshold-th time in a row"
    NEWS = "unhealthy as before, for other reasons"
    WELL = "not unhealthy for the threshold-th time in a row"
    UNKNOWN = "nobody asks any more, for the threshold-th time in a row"


class HealthWatch:
    """The health of one instance. `bad`: it was found unhealthy, and has not been well for long enough since."""

    __slots__ = ("_missing", "_row", "_told_at", "_why", "at", "bad", "report", "unavailable")

    def __init__(self, bad: bool) -> None:
        self.bad = bad
        self.report: Health | None = None  # the last one
        self.at: float | None = None  # when it came
        self.unavailable = ""  # why there was none instead, the last time
        self._row = 0  # reports in a row that speak for a change
        self._missing = 0  # that could withdraw it, since the last one
        self._why: frozenset[str] = frozenset()  # what was unhealthy when that was said
        self._told_at = -math.inf  # when

    def heard(self, report: Health, threshold: int, now: float) -> Turn:
        """A report. Degraded is not unhealthy: it neither accuses nor keeps a fault open."""
        self.report, self.at, self.unavailable, self._missing = report, now, "", 0
        unhealthy = report.status is Status.UNHEALTHY
        if unhealthy is self.bad:
            self._row = 0
            return self._news(report, now) if unhealthy else Turn.NONE
        self._row += 1
        if self._row < threshold:
            return Turn.NONE
        self._row, self.bad, self._why, self._told_at = 0, unhealthy, unhealthy_checks(report), now
        return Turn.BAD if unhealthy else Turn.WELL

    def missed(self, why: str, threshold: int, stands: bool = False) -> Turn:
        """No report came. That says nothing about the application: it neither counts nor starts the counting anew.

        stands: nor does it withdraw what was found. Else, `threshold` of them in a row do.
        """
        self.unavailable = why
        if stands or not self.bad:
            return Turn.NONE
        self._missing += 1
        if self._missing < threshold:
            return Turn.NONE
        self.bad, self._row, self._missing = False, 0, 0
        return Turn.UNKNOWN

    def reset(self) -> None:
        """Another boot, or another policy: what was counted so far does not count; what was found stands."""
        self._row = self._missing = 0

    def drop(self) -> None:
        """Nobody asks any more."""
        self.reset()
        self.bad, self.report, self.at, self.unavailable = False, None, None, ""

    def told(self, now: float) -> dict[str, Any]:
        """For people."""
        report = None if self.report is None else self.report.told()
        age = None if self.at is None else round(now - self.at, 1)
        return {"unhealthy": self.bad, "report": report, "age": age, "unavailable": self.unavailable or None}

    def _news(self, report: Health, now: float) -> Turn:
        why = unhealthy_checks(report)
        if why == self._why or now < self._told_at + NEWS_INTERVAL:
            return Turn.NONE
        self._why, self._told_at = why, now
        return Turn.NEWS


def unhealthy_checks(report: Health) -> frozenset[str]:
    """The names of the checks that are unhealthy."""
    return frozenset(check.name for check in report.checks if check.status is Status.UNHEALTHY)


def in_words(report: Health) -> str:
    """Its reasons, for people: the unhealthy checks with what they say; the guest's words, cleaned and bounded."""
    said = [f"{c.name}: {c.message}" if c.message else c.name for c in report.checks if c.status is report.status]
    return "; ".join(said) or f"it says {report.status}, and no more"
