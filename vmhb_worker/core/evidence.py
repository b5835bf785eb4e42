"""The evidence about one instance: which inquiry is under way, what it and earlier ones found, and when to ask again.

Each method returns the looks to be taken next. Belongs to a monitor, which decides when to suspect and what to make of
it.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace

from vmhb_worker.core.events import Answer, Look, LookJob
from vmhb_worker.core.inquiry import Inquiry, Phase
from vmhb_worker.core.verdict import Evidence, Reading

#: How often it is tried to learn, while a guest is well, whether its balloon answers.
BASELINES = 3
#: A job of libvirt's is looked at this often (seconds).
JOB_POLL = 2.0
#: And believed in for this long (seconds) without an answer.
JOB_BELIEVED = 30.0


class Suspicion:
    """All that was found out of the host, and what is being found out."""

    __slots__ = (
        "_found",
        "_inquired_at",
        "_inquiry",
        "_probe_interval",
        "_probed_at",
        "balloon_period",
        "balloon_seen",
        "baseline_at",
        "baselines",
        "job_poll_at",
    )

    def __init__(self, probe_interval: float, balloon_seen: bool) -> None:
        self._probe_interval = probe_interval
        self.balloon_seen = balloon_seen  # its balloon answered in this boot: only then does its silence mean anything
        self.balloon_period: int | None = None  # the balloon's period as Nova wants it, None: no balloon
        self.job_poll_at: float | None = None
        self.baseline_at: float | None = None
        self.baselines = 0
        self._inquiry: Inquiry | None = None
        self._found = Evidence()  # by inquiries that have ended
        self._probed_at = self._inquired_at = -math.inf

    # -- inquiries -------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> list[Look]:
        """Suspect it: what was seen while it was well is no evidence."""
        return self.drop() + self.again(now)

    def again(self, now: float, baseline: bool = False) -> list[Look]:
        """Ask once more."""
        may_probe = baseline or now >= self._probed_at + self._probe_interval  # rounded as in `again_at`
        looks = self.end()
        self._inquired_at = now
        self._inquiry = Inquiry(self.balloon_period, self.balloon_seen, may_probe, baseline)
        return looks + self._inquiry.begin(now)

    def baseline(self, well: bool, now: float) -> list[Look]:
        """Learn whether its balloon answers. well: it is alive, and nothing explains why it should not answer."""
        self.baseline_at = None
        if self.balloon_seen or self.balloon_period is None or self.baselines >= BASELINES:
            return []
        self.baseline_at = now + self._probe_interval
        if not well:
            return []
        self.baselines += 1
        return self.again(now, baseline=True)

    def end(self) -> list[Look]:
        """Leave off, and keep what was found."""
        if self._inquiry is None:
            return []
        self._found = _merged(self._inquiry.evidence, self._found)
        inquiry, self._inquiry = self._inquiry, None
        return inquiry.abandon()

    def end_but_baseline(self) -> list[Look]:
        """Leave off suspecting; learning how it is when it is well may go on."""
        return [] if self._inquiry is None or self._inquiry.baseline else self.end()

    def drop(self) -> list[Look]:
        """Leave off, and forget what was found."""
        looks = self.end()
        self._found = Evidence()
        return looks

    def rebooted(self) -> None:
        """Another boot: nothing is known of its balloon."""
        self.balloon_seen = False
        self.baselines = 0

    def stopped(self) -> None:
        """The domain is gone: there is nothing to look at, or to be put back."""
        self._inquiry = None
        self.baseline_at = self.job_poll_at = None

    def stalled(self, now: float) -> None:
        """We, or libvirtd, were not there."""
        if self._inquiry is not None:
            self._inquiry.stalled(now)

    def answered(self, look: Look, answer: Answer, now: float) -> list[Look]:
        """The answer to a look."""
        inquiry = self._inquiry
        if inquiry is None:
            return []
        looks = inquiry.answered(look, answer, now)
        if inquiry.probed and not inquiry.baseline:
            self._probed_at = now
        inquiry.probed = False
        return looks

    def interrupted(self) -> None:
        """A silence ended before the verdict was final: what was found before it is too old to judge by, and the kernel
        may be asked at once. Not the guest's doing, so it cannot have itself asked more often by it."""
        self._probed_at = -math.inf

    def tick(self, now: float) -> list[Look]:
        """What is due."""
        looks = [] if self._inquiry is None else self._inquiry.tick(now)
        if self.job_poll_at is not None and now >= self.job_poll_at:
            self.job_poll_at = None
            looks.append(LookJob())
        return looks

    def deadline(self) -> float:
        """When something is due."""
        at = math.inf if self._inquiry is None else self._inquiry.deadline()
        if self.job_poll_at is not None:
            at = min(at, self.job_poll_at)
        return at if self.baseline_at is None else min(at, self.baseline_at)

    def again_at(self, owed: bool) -> float:
        """When its kernel is asked again: it may have been too early to call it dead. owed: the evidence is awaited."""
        if self.probing:
            return math.inf
        if self._inquiry is None and owed:
            return self._inquired_at  # a silence came between
        if self.deferred:
            return self._probed_at + self._probe_interval
        return max(self._probed_at, self._inquired_at) + self._probe_interval

    # -- what is known ---------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Is there nothing to wait for?"""
        return self._inquiry is None and self.job_poll_at is None and self.baseline_at is None

    @property
    def probing(self) -> bool:
        """Is an inquiry under way? Then its balloon's period may be changed."""
        return self._inquiry is not None and self._inquiry.phase is not Phase.DONE

    def looked_since(self, at: float) -> bool:
        """Has the host been asked since then, and answered all that it will?"""
        return self._inquired_at >= at and not self.pending

    @property
    def pending(self) -> bool:
        """Is something on its way that can change the verdict?"""
        return self._inquiry is not None and self._inquiry.evidence.pending

    @property
    def deferred(self) -> bool:
        """Does it wait until its kernel may be asked again?"""
        return self._inquiry is not None and self._inquiry.deferred

    @property
    def job(self) -> str | None:
        """libvirt's job on the domain, where the inquiry found one."""
        return None if self._inquiry is None else self._inquiry.job

    def learn_balloon(self) -> bool:
        """Has it just been learnt that its balloon answers?"""
        if self.balloon_seen or self._inquiry is None or not self._inquiry.balloon_answered:
            return False
        self.balloon_seen = True
        return True

    def gathered(self, port: Reading, panic: Reading, watchdog: tuple[str, float] | None) -> Evidence:
        """The newest of all, an earlier inquiry's where this one saw nothing, and what was told to us."""
        evidence = self._found if self._inquiry is None else _merged(self._inquiry.evidence, self._found)
        return replace(
            evidence,
            port=port,
            panic=panic,
            watchdog=Reading(*watchdog) if watchdog else Reading(False, None),
        )


def _merged(new: Evidence, old: Evidence) -> Evidence:
    """What was seen lately, and before that where there is nothing newer."""
    kept = {
        f.name: getattr(old, f.name)
        for f in fields(Evidence)
        if f.name != "pending" and getattr(new, f.name).value is None and getattr(old, f.name).value is not None
    }
    return replace(new, **kept)
