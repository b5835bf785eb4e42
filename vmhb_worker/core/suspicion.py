"""The evidence about one instance: which inquiry is under way, what it and earlier ones found, and when to ask again.

Each method returns the looks to be taken next. Belongs to a monitor, which decides when to suspect and what to make of
it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

from vmhb_worker.core.baselines import Baselines
from vmhb_worker.core.events import Answer, Look, LookJob
from vmhb_worker.core.evidence import TABLE, Balloon, Evidence, Reading, System, unavailable
from vmhb_worker.core.inquiry import Inquiry, Phase

#: How often it is tried to learn, while a guest is well, whether its balloon answers.
BASELINES = 3
#: A job of libvirt's is looked at this often (seconds).
JOB_POLL = 2.0
#: And believed in for this long (seconds) without an answer: a call of our own that changes the domain waits for the
#: job until libvirt gives it up after 30 s, and a look at the job behind it.
JOB_BELIEVED = 40.0
#: A guest's balloon is asked so often in so many seconds at most, whatever happens to the guest, unless the operator's
#: `probe_interval` says more.
PROBES, PROBES_WITHIN = 4, 60.0
#: Behind an excuse a kernel that kept silent once is asked again after this (seconds): one that was replaced by another
#: (kexec) has booted its drivers by then.
CONFIRM = 15.0
#: A balloon is fresh if its last report is no older than its period and this (seconds) when the guest last answered:
#: QEMU counts whole seconds, and asks for a report when the last has come.
SLACK = 2.0


class Suspicion:
    """All that was found out of the host, and what is being found out."""

    __slots__ = (
        "_clock_set",
        "_due_at",
        "_found",
        "_inquired_at",
        "_inquiry",
        "_last_report",
        "_next_at",
        "_probe_at",
        "_probes",
        "_stood_still_until",
        "_turn",
        "balloon_period",
        "balloon_seen",
        "baseline_at",
        "baselines",
        "baselines_of_all",
        "confirming",
        "job_poll_at",
        "probe_interval",
    )

    def __init__(self, probe_interval: float, balloon_seen: bool) -> None:
        self.baselines_of_all: Baselines | None = None  # of its host; None: it waits for nobody
        self._turn: float | None = None  # when it may be probed while it is well
        self.probe_interval = probe_interval
        self.balloon_seen = balloon_seen  # its balloon answered in this boot: only then does its silence mean anything
        self.balloon_period: int | None = None  # the balloon's period as Nova wants it, None: no balloon
        self.job_poll_at: float | None = None
        self.baseline_at: float | None = None
        self.baselines = 0
        self.confirming = False  # its kernel is to be found silent once more
        self._inquiry: Inquiry | None = None
        self._found = Evidence()  # by inquiries that have ended
        self._inquired_at = self._next_at = -math.inf
        self._probe_at = -math.inf  # from when on its balloon may be probed again, if not too often
        self._due_at = math.inf  # when it may be in any case: `probe_interval` is over
        self._probes: deque[float] = deque(maxlen=PROBES)
        self._last_report: float | None = None  # when its balloon reported last, before it was probed
        self._clock_set = self._stood_still_until = -math.inf

    # -- inquiries -------------------------------------------------------------------------------------------------

    def begin(self, now: float, left: bool = False) -> list[Look]:
        """Suspect it: what was seen while it was well is no evidence, and an outage has a probe of its own."""
        self._probe_at = -math.inf
        return self.drop() + self.again(now, left=left)

    def again(self, now: float, baseline: bool = False, left: bool = False) -> list[Look]:
        """Ask once more. left: its agent has closed its port."""
        looks = self.end()
        self._inquired_at, self._next_at, self.confirming = now, now + self.probe_interval, False
        may_probe = baseline or now >= self.may_probe_at
        self._inquiry = Inquiry(self.balloon_period, self.balloon_seen, may_probe, baseline, left)
        return looks + self._inquiry.begin(now)

    def confirm(self, now: float) -> None:
        """That its kernel is silent is to be found once more, soon."""
        self._probe_at = self._next_at = now + CONFIRM
        self.confirming = True

    def baseline(self, well: bool, now: float) -> list[Look]:
        """Learn whether its balloon answers. well: it is alive, and nothing explains why it should not answer."""
        self.baseline_at = None
        if self.balloon_seen or self.balloon_period is None or self.baselines >= BASELINES:
            return []
        self.baseline_at = now + self.probe_interval
        if not well:
            return []
        allowed_at = min(self._due_at, self._crowded_until)
        if now < allowed_at:  # it was probed often of late: that is no try
            self.baseline_at = allowed_at
            return []
        if self._turn is None and self.baselines_of_all is not None:
            self._turn = self.baselines_of_all.turn(now)
        if self._turn is not None and now < self._turn:
            self.baseline_at = self._turn
            return []
        self._turn = None
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
        """Another boot: nothing is known of its balloon, and the probe before was another kernel's."""
        self.balloon_seen = False
        self.baselines = 0
        self._probe_at = -math.inf
        self._last_report = None

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
        if inquiry.probed:
            self._probes.append(now)
            if not inquiry.baseline:
                self._probe_at = self._due_at = now + self.probe_interval
        inquiry.probed = False
        if inquiry.last_report is not None:
            self._last_report, inquiry.last_report = inquiry.last_report, None
        return looks

    def interrupted(self) -> None:
        """A silence ended before the verdict was final: what was found before it is too old to judge by, and the kernel
        may be asked at once. Not the guest's doing, so it cannot have itself asked more often by it."""
        self._probe_at = -math.inf

    def stood_still(self, until: float) -> None:
        """Its vCPUs may have stood still until then, and QEMU's timer for its balloon with them."""
        self._stood_still_until = until

    def clock_set(self, at: float) -> None:
        """The host's wall clock was set then: what was told by it before cannot be compared."""
        self._clock_set = at

    def tick(self, now: float) -> list[Look]:
        """What is due."""
        looks = [] if self._inquiry is None else self._inquiry.tick(now)
        if self.job_poll_at is not None and now >= self.job_poll_at:
            self.job_poll_at = None
            looks.append(LookJob())
        return looks

    def deadline(self) -> float:
        """When something is due."""
        at = math.inf if self._inquiry is None or self._inquiry.over else self._inquiry.deadline()
        if self.job_poll_at is not None:
            at = min(at, self.job_poll_at)
        return at if self.baseline_at is None else min(at, self.baseline_at)

    def again_at(self, owed: bool) -> float:
        """When its kernel is asked again: it may have been too early to call it dead. owed: the evidence is awaited."""
        if self.probing:
            return math.inf
        if self._inquiry is None and owed:
            return self._inquired_at  # a silence came between
        return self.may_probe_at if self.deferred else self.next_at

    @property
    def next_at(self) -> float:
        """When it is asked again, as a rule: when there is something new to learn of its kernel."""
        return max(self._next_at, self.may_probe_at)

    @property
    def may_probe_at(self) -> float:
        """From when on its balloon may be probed."""
        return min(self._due_at, max(self._probe_at, self._crowded_until))

    @property
    def _crowded_until(self) -> float:
        """It was probed so often that it must not be again before."""
        return self._probes[0] + PROBES_WITHIN if len(self._probes) == PROBES else -math.inf

    # -- what is known ---------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Is there nothing to wait for?"""
        over = self._inquiry is None or self._inquiry.over
        return over and self.job_poll_at is None and self.baseline_at is None

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

    def gathered(
        self, port: Reading, panic: Reading, watchdog: Reading, system: Reading, last_ack: float | None
    ) -> Evidence:
        """The newest of all, an earlier inquiry's where this one saw nothing, and what was told to us."""
        evidence = self._found if self._inquiry is None else _merged(self._inquiry.evidence, self._found)
        evidence = replace(
            evidence,
            port=port,
            panic=panic,
            watchdog=watchdog,
            system=system,
            balloon_fresh=self._fresh(last_ack),
            outlived_port=self._outlived(port),
        )
        return replace(evidence, balloon=believed(evidence))

    def _fresh(self, last_ack: float | None) -> Reading:
        """Had its balloon reported right until it last answered?"""
        reported = self._reported()
        if reported.at is None:
            return reported
        if not self.balloon_period:
            return unavailable("its balloon reports only when it is asked to")
        if last_ack is None:
            return unavailable("it has not answered since the worker started")
        fresh = last_ack - reported.at <= self.balloon_period + SLACK
        if not fresh and last_ack - self._stood_still_until <= self.balloon_period + SLACK:
            return unavailable("it stood still shortly before it last answered, and its balloon with it")
        return Reading(fresh, reported.at)

    def _outlived(self, port: Reading) -> Reading:
        """Did its balloon report more than a period after its port was closed?"""
        if port.value is not False or port.at is None:
            return unavailable("its port is open")
        reported = self._reported()
        if reported.at is None:
            return reported
        return Reading(reported.at > port.at + (self.balloon_period or 0) + 1.0, reported.at)

    def _reported(self) -> Reading:
        """When its balloon reported last, by our clock: `at`."""
        if self._last_report is None:
            return unavailable("it is not known when its balloon reported last")
        if self._clock_set >= self._last_report:
            return unavailable("the host's clock was set since its balloon reported")
        return Reading(True, self._last_report)


def believed(evidence: Evidence) -> Reading:
    """What a balloon says counts; that it says nothing does only where it is known that it would have."""
    if evidence.balloon.value is not Balloon.NO_ANSWER:
        return evidence.balloon
    if evidence.system.value is System.WINDOWS:
        return unavailable("on Windows a service answers: its silence says nothing about the kernel")
    if evidence.balloon_fresh.value is False:
        return unavailable("its balloon had stopped reporting while the guest still answered")
    return evidence.balloon


def _merged(new: Evidence, old: Evidence) -> Evidence:
    """What was seen lately, and before that where there is nothing newer."""
    kept = {
        name: getattr(old, name)
        for name in TABLE
        if getattr(new, name).value is None and getattr(old, name).value is not None
    }
    return replace(new, **kept)
