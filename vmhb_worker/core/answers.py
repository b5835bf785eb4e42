"""A guest's own word: what it was asked, what it answered, and what it did not. Counts and times, and no verdict.

Whether a beat was missed is decided in `beats`, and what that means in `monitor`. Belongs to a monitor; times are
seconds of the monotonic clock.
"""

from __future__ import annotations

import math


class Answers:
    """Of one guest.

    misses, skipped: beats since the last acknowledgement. acks: in a row. last_miss: or when it was last accused
    without one, of a panic or of QEMU's end. unheard: since the last acknowledgement, a challenge came back without
    one. unasked: why the last challenge said nothing about the guest, "": it did. remarked: that was said.
    undisturbed_since: before, there were silences, or we or libvirtd were not there. asked_at: when the first challenge
    since `verify_at` left. lived_at: when its kernel answered that had been found dead.
    """

    __slots__ = (
        "_answering_since",
        "_started_at",
        "acks",
        "asked_at",
        "last_ack",
        "last_miss",
        "lived_at",
        "misses",
        "remarked",
        "skipped",
        "suspected_at",
        "unasked",
        "undisturbed_since",
        "unheard",
        "verify_at",
    )

    def __init__(self, now: float) -> None:
        self.misses = self.skipped = self.acks = 0
        self.last_ack: float | None = None
        self.last_miss: float | None = None
        self.suspected_at: float | None = None
        self.unheard = self.remarked = False
        self.unasked = ""
        self.undisturbed_since = self.asked_at = self.verify_at = self.lived_at = -math.inf
        self._answering_since = self._started_at = now

    def heard(self) -> None:
        """It acknowledged, if only late: that is no news of one that has stopped since."""
        self.unheard = self.remarked = False
        self.unasked = ""

    def acked(self, now: float) -> None:
        """It acknowledged, and runs."""
        self.last_ack = now
        if not self.acks:
            self._answering_since = now
        self.acks += 1
        self.misses = self.skipped = 0
        self.suspected_at = None

    def missed(self, now: float) -> None:
        """One more beat, or challenge, of a guest that was found silent."""
        self.misses += 1
        self.last_miss = now

    def accused(self, now: float) -> None:
        """Of whatever."""
        self.last_miss, self.acks = now, 0

    def renewed(self) -> None:
        """It is granted a full threshold."""
        self.unheard, self.misses, self.suspected_at = False, 0, None

    def disturbed(self, now: float) -> None:
        """That nobody answered until now has other reasons."""
        self.unheard, self.undisturbed_since = False, now

    # -- being asked anew ----------------------------------------------------------------------------------------

    def left(self, now: float) -> None:
        """A challenge leaves. Of those since `verify_at` the first counts: others may follow within its time."""
        if self.asked_at < self.verify_at:
            self.asked_at = now

    def ask_anew(self, now: float) -> None:
        """Only what it does not answer from now on counts."""
        self.unheard, self.verify_at, self.lived_at = False, now, now

    def asked_in_vain(self, since: float, timeout: float, now: float) -> bool:
        """Was it asked since then, and has had its time?"""
        return -math.inf < self.asked_at >= since and now >= self.asked_at + timeout

    def owed_nothing(self, full_threshold: float, now: float) -> bool:
        """Has who was dead, and is not any more, had a full threshold to answer in?"""
        return now >= self.lived_at + full_threshold

    # -- what follows from it ------------------------------------------------------------------------------------

    @property
    def answered_until(self) -> float:
        """What was seen before says nothing: it answered since, or could not."""
        return max(-math.inf if self.last_ack is None else self.last_ack, self.undisturbed_since)

    @property
    def heard_at(self) -> float:
        """When it was last heard, or began to be watched, or was last disturbed."""
        return max(self._started_at if self.last_ack is None else self.last_ack, self.undisturbed_since)

    @property
    def answered_since_miss(self) -> bool | None:
        """Has it acknowledged since its last miss? None: it has missed nothing in this life of the worker."""
        if self.last_miss is None:
            return None
        return self.last_ack is not None and self.last_ack > self.last_miss

    def steady(self, acks: int, interval: float, now: float) -> bool:
        """Has it acknowledged so often in a row, and over two intervals, where it is more than once?"""
        return self.acks >= acks and (acks <= 1 or now - self._answering_since >= 2 * interval)
