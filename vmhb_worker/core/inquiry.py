"""What the host is asked about a suspect, step by step, without the guest's goodwill.

First what never blocks (is the process there? does its main thread stand still? is QEMU's monitor free?), then, only
if nothing speaks against an answer: is libvirt itself at work on the domain? the counters; and the active balloon
probe: the guest's balloon driver, a part of its kernel, is told to report every second. A live kernel answers within
1.0 to 1.1 s; a dead one never. The old period is put back at the end.

A QEMU that is seen to stand still is asked nothing that may block: for how long it has is the evidence that it hangs.
Where that cannot be seen, a look that blocks is no disaster: that somebody waits for QEMU's monitor, and for how long,
is then seen by the look that never does. But such looks have few places among all domains, and may be refused one.
"""

from __future__ import annotations

import enum
from dataclasses import replace

from vmhb_worker.core import lifecycle
from vmhb_worker.core.events import (
    Answer,
    Control,
    Job,
    Look,
    LookControl,
    LookJob,
    LookProcess,
    LookState,
    LookVitals,
    Process,
    Refused,
    SetBalloonPeriod,
    State,
    Unavailable,
    Vitals,
)
from vmhb_worker.core.evidence import Balloon, Evidence, Reading, unavailable
from vmhb_worker.core.main_thread import Standstill
from vmhb_worker.core.verdict import ASLEEP_FOR, OCCUPIED_IS_HUNG, hung_for

#: How long a balloon driver has for its answer (seconds) once it was told to report every second, which is the shortest
#: that QEMU has: live kernels were seen to answer after 1.0 to 1.1 s, and miss one report at most. It is the kernel's
#: pace, so no policy changes it; after a stall of ours or libvirtd's it begins anew (`stalled`).
ANSWER_WAIT = 2.5
#: When, after that, the answer is looked for.
_LISTEN_AT = (1.15, 1.5, 1.9, ANSWER_WAIT)
#: A guest whose port is closed may be asleep: then it is counted for so long (seconds) what it does.
LONG_WAIT = ASLEEP_FOR + 0.5
#: A guest goes on whose CPU time grows by more than this share of the time: QEMU itself has none while it hangs.
GOES_ON = 0.01
#: How often QEMU is looked at while its main thread stands still, or one of our own looks waits for its monitor.
WATCH_INTERVAL = 1.0
#: … and so soon (seconds) for the second time: an uninterruptible sleep may be one read from a disk.
SECOND_LOOK = 0.25
#: A look that found no free hand, or was refused, is taken again this much later (seconds).
RETRY_INTERVAL = 0.5
#: And so often; a refused one as long as there is patience.
RETRIES = 2
#: Evidence that has not come by then (seconds) is not waited for any longer.
PATIENCE = 15.0


#: What never blocks, and comes before whatever may.
_QUICK = (LookProcess(), LookControl())


class Phase(enum.Enum):
    """Where the inquiry is."""

    CONTROL = "would QEMU answer"
    JOB = "is libvirt at work on it"
    BEFORE = "counters before the probe"
    SETTING = "telling the balloon driver to report"
    LISTENING = "waiting for its report"
    DONE = "done"


class Inquiry:
    """One inquiry about one domain. Each method returns the looks to be taken next."""

    def __init__(
        self, period: int | None, balloon_seen: bool, may_probe: bool, baseline: bool = False, left: bool = False
    ) -> None:
        """period: the balloon's present statistics period, None where there is no balloon.

        balloon_seen: its driver answered earlier in this boot. may_probe: the last probe is long enough ago.
        baseline: not a suspect, only to learn whether its balloon answers. left: its agent has closed its port.
        """
        self.baseline = baseline
        self.last_report: float | None = None  # of its balloon, before the probe: when that was, if it is known
        self._wait = LONG_WAIT if left else ANSWER_WAIT
        self._cpu: tuple[float, float] | None = None  # seconds that it had taken, and when
        self._main = Standstill()
        self._period = period
        self._balloon_seen = balloon_seen
        self._may_probe = may_probe
        self.phase = Phase.CONTROL
        self.evidence = Evidence(pending=True)
        self.job: str | None = None
        self.probed = False
        self.deferred = False  # the probe that would decide is not allowed yet
        self._patience_until = 0.0
        self._out: tuple[Look, float] | None = None  # the look of ours that can block, and when it was taken
        self._retries = 0
        self._changed = False  # the balloon's period is not the old one
        self._watch_at: float | None = None
        self._before: tuple[float, Vitals] | None = None
        self._listen: list[float] = []
        self._listening_since = 0.0
        if period is None:
            self._learn(balloon=unavailable("the domain has no balloon device"))

    def begin(self, now: float) -> list[Look]:
        """The first looks."""
        self._patience_until = now + PATIENCE
        return [LookState(), *_QUICK]

    def tick(self, now: float) -> list[Look]:
        """The looks whose time has come."""
        looks: list[Look] = []
        if self._watch_at is not None and now >= self._watch_at:
            self._watch_at = None
            looks += _QUICK
        if self._listening and now >= self._listen[0]:
            looks.append(self._block(LookVitals(), now))
        if self.evidence.pending and now >= self._patience_until:
            self._learn(pending=False)
        return looks

    def deadline(self) -> float:
        """When to tick."""
        at = float("inf") if self._watch_at is None else self._watch_at
        if self._listening:
            at = min(at, self._listen[0])
        return min(at, self._patience_until) if self.evidence.pending else at

    def answered(self, look: Look, answer: Answer, now: float) -> list[Look]:
        """The answer to a look of ours."""
        taken = now
        if isinstance(look, LookJob | LookVitals | SetBalloonPeriod):
            if self._out is None or self._out[0] != look:
                return []  # somebody else's: an earlier inquiry's, or the period that was put back
            taken, self._out = self._out[1], None
        return self._take(look, answer, taken, now)

    def abandon(self) -> list[Look]:
        """Leave off: put back what was changed."""
        changed, self._changed = self._changed, False
        self.phase = Phase.DONE
        self._watch_at = None
        return [SetBalloonPeriod(self._period)] if changed and self._period is not None else []

    def stalled(self, now: float) -> None:
        """Somebody did not run for a while, we or QEMU: the guest has all of its time for its answer from now on."""
        if self.phase is Phase.LISTENING:
            self._listening_since = now
            self._listen = [now + delay for delay in (*_LISTEN_AT[:-1], self._wait)]

    @property
    def over(self) -> bool:
        """Is nothing due any more? It is kept for what it found."""
        return self.phase is Phase.DONE and self._watch_at is None and not self.evidence.pending

    @property
    def balloon_answered(self) -> bool:
        """Did the guest's kernel answer the probe?"""
        return self.evidence.balloon.value is Balloon.ANSWERED

    @property
    def _listening(self) -> bool:
        return self.phase is Phase.LISTENING and self._out is None and not self._main.stands

    @property
    def _hangs(self) -> bool:
        return hung_for(self.evidence) >= OCCUPIED_IS_HUNG

    # -- answers -------------------------------------------------------------------------------------------------

    def _take(self, look: Look, answer: Answer, taken: float, now: float) -> list[Look]:
        """taken: when the look was."""
        match answer:
            case State() | Process():
                return self._learn_of(answer, now)
            case Control():
                return self._on_control(answer, now)
            case Job():
                return self._on_job(answer, now)
            case Vitals():
                return self._on_vitals(answer, taken, now)
            case Unavailable():
                return self._on_unavailable(look, answer, now)
        return self._on_period_set(now)

    def _learn_of(self, answer: State | Process, now: float) -> list[Look]:
        if isinstance(answer, State):
            self._on_state(answer, now)
        else:
            self._on_process(answer, now)
        return []

    def _on_state(self, state: State, now: float) -> None:
        self._learn(domain=Reading(f"{state.state} ({state.reason})", now))
        if state.process_alive is None:
            self._learn(process=unavailable("QEMU's process cannot be seen from here"))
        else:
            self._learn(process=Reading(state.process_alive, now))

    def _on_process(self, process: Process, now: float) -> None:
        stood = self._main.stands
        self._learn(main_thread=Reading(round(self._main.seen(process.main, now), 1), now))
        if stood or self._main.stands:
            self.stalled(now)
        if stood and not self._main.stands:
            self._expect_more(now)  # of its guest, which could say nothing meanwhile
        elif self._hangs:
            self._learn(pending=False)
        was, self._cpu = self._cpu, (process.cpu, now)
        if was is not None and now > was[1]:
            goes_on = process.cpu - was[0] > GOES_ON * (now - was[1])
            self._learn(guest_runs=Reading(goes_on, now))

    def _on_control(self, control: Control, now: float) -> list[Look]:
        occupied = control.seconds if control.state == "occupied" else 0.0
        self._learn(occupied=Reading(round(occupied, 1), now))
        if control.state == "error" and not self._main.stands:
            return self._give_up("libvirt lost QEMU's monitor")
        return self._would_it_answer(bool(occupied), now)

    def _would_it_answer(self, occupied: bool, now: float) -> list[Look]:
        """What never blocks has been looked at: go on, or look once more in a moment. occupied: somebody waits."""
        if self._hangs or self.deferred:
            self._learn(pending=not self._hangs)
        if self._main.stands:
            if self.phase is Phase.DONE:
                self.phase = Phase.CONTROL  # when it goes on, its guest is asked anew
            self._watch_at = now + (WATCH_INTERVAL if self.evidence.main_thread.value else SECOND_LOOK)
            return []
        if not occupied:
            self._cpu = None
            self._learn(guest_runs=unavailable("QEMU's monitor is free"))
        if occupied or self._out is not None:
            self._watch_at = now + WATCH_INTERVAL
            return []
        if self.phase is not Phase.CONTROL:
            return []
        if self.baseline:
            self.phase = Phase.BEFORE
            return [self._block(LookVitals(), now)]
        self.phase = Phase.JOB
        return [self._block(LookJob(), now)]

    def _on_job(self, job: Job, now: float) -> list[Look]:
        if self.phase is not Phase.JOB:
            return []
        if job.operation is not None and lifecycle.excuses(job.operation):
            self.job = job.operation
            return self._finish()
        self.phase = Phase.BEFORE
        return [self._block(LookVitals(), now)]

    def _on_vitals(self, vitals: Vitals, taken: float, now: float) -> list[Look]:
        if self.phase is Phase.BEFORE:
            return self._on_first_vitals(vitals, now)
        before = self._before
        if self.phase is not Phase.LISTENING or before is None:
            return []
        if vitals.balloon_updated != before[1].balloon_updated:
            return self._ended(before, vitals, Reading(Balloon.ANSWERED, now), now)
        if now - taken > WATCH_INTERVAL:
            self.stalled(now)
            return []
        if taken >= self._listening_since + self._wait:
            silent = Reading(Balloon.NO_ANSWER, now)
            never = unavailable("its balloon driver has not answered since it booted")
            return self._ended(before, vitals, silent if self._balloon_seen else never, now)
        last = self._listening_since + self._wait
        self._listen = [at for at in self._listen if at > now] or [last]
        return []

    def _ended(self, before: tuple[float, Vitals], vitals: Vitals, balloon: Reading, now: float) -> list[Look]:
        """The probe has come to its end: what was counted during it counts."""
        self._learn(balloon=balloon)
        self._progress(before[1], vitals, now - before[0], now)
        return self._finish()

    def _on_first_vitals(self, vitals: Vitals, now: float) -> list[Look]:
        self._before = (now, vitals)
        if vitals.balloon_updated and vitals.read_at is not None:
            self.last_report = now - (vitals.read_at - vitals.balloon_updated)
        if vitals.balloon_updated is None and self._period is not None:
            self._learn(balloon=unavailable("libvirt has no balloon statistics of this domain"))
        elif not self._may_probe and self._period is not None:
            self._learn(balloon=unavailable("probed less than probe_interval ago"))
            if self._balloon_seen:  # what it says when it may be asked again decides
                self.deferred = True
                self.phase = Phase.DONE
                self._patience_until = float("inf")
                return []
        if vitals.balloon_updated is None or self._period is None or not self._may_probe:
            self.phase = Phase.DONE
            self._learn(pending=False)
            return []
        self.phase = Phase.SETTING
        self.probed = self._changed = True
        return [self._block(SetBalloonPeriod(1), now)]

    def _on_period_set(self, now: float) -> list[Look]:
        if self.phase is Phase.SETTING:
            self.phase = Phase.LISTENING
            self.stalled(now)
        return []

    def _on_unavailable(self, look: Look, answer: Unavailable, now: float) -> list[Look]:
        if isinstance(answer, Refused):
            return self._on_refused(answer, now)
        if isinstance(look, LookState):
            self._learn(domain=unavailable(answer.why), process=unavailable(answer.why))
            return []
        if isinstance(look, LookProcess):
            self._main.unseen()
            self._cpu = None
            self._learn(main_thread=unavailable(answer.why), guest_runs=unavailable(answer.why))
            return []
        if isinstance(look, LookControl):
            self._learn(occupied=unavailable(answer.why))
            if self._main.stands:  # which needs no word of libvirt's
                return self._would_it_answer(False, now)
        if self.phase is Phase.DONE or self._retries == RETRIES:
            return self._give_up(answer.why)
        self._retries += 1
        self._again(now)
        if self.phase is Phase.CONTROL:
            self._watch_at = now + RETRY_INTERVAL
        return []

    def _on_refused(self, answer: Refused, now: float) -> list[Look]:
        """It was not asked, and may be in a moment: no word about it."""
        if self.phase is Phase.DONE or now + RETRY_INTERVAL >= self._patience_until:
            if self.evidence.main_thread.value is None:
                self._learn(main_thread=unavailable(f"{self.evidence.main_thread.why}; {answer.why}"))
            return self._give_up(answer.why)
        if answer.stands_still:
            self.stalled(now)
        self._again(now)
        self._watch_at = now + RETRY_INTERVAL
        return []

    def _again(self, now: float) -> None:
        """Once more, in a moment: what it says, or from the beginning."""
        if self.phase is Phase.LISTENING:
            self._listen = [max(at, now + RETRY_INTERVAL) for at in self._listen]
        else:
            self.phase = Phase.CONTROL

    # -- helpers -------------------------------------------------------------------------------------------------

    def _progress(self, before: Vitals, after: Vitals, elapsed: float, now: float) -> None:
        self._learn(counted=Reading(round(elapsed, 1), now))
        ran, delayed = _busiest(before, after)
        if ran is not None:
            self._learn(vcpu=Reading(round(ran / 1e9 / elapsed, 2), now))
        if delayed is not None:
            self._learn(delayed=Reading(round(delayed / 1e9 / elapsed, 2), now))
        self._learn(throttled=_throttled(before.throttled, after.throttled, elapsed, now))
        if before.io_requests is not None and after.io_requests is not None:
            self._learn(io=Reading(max(0, after.io_requests - before.io_requests), now))

    def _expect_more(self, now: float) -> None:
        """What can change the verdict is still to come."""
        if not self.evidence.pending:
            self._learn(pending=True)
            self._patience_until = now + PATIENCE

    def _block(self, look: Look, now: float) -> Look:
        self._expect_more(now)  # it was given up, maybe, and then QEMU's monitor was free after all
        self._out = (look, now)
        self._watch_at = now + WATCH_INTERVAL
        return look

    def _finish(self) -> list[Look]:
        looks = self.abandon()
        self._learn(pending=self.deferred)
        return looks

    def _give_up(self, why: str) -> list[Look]:
        looks = self._finish()
        if self.evidence.balloon.value is None and self._period is not None:
            self._learn(balloon=unavailable(why))
        return looks

    def _learn(self, **readings: Reading | bool) -> None:
        self.evidence = replace(self.evidence, **readings)  # type: ignore[arg-type]


def _throttled(before: float | str, after: float | str, elapsed: float, now: float) -> Reading:
    if isinstance(after, str) or isinstance(before, str):
        return unavailable(after if isinstance(after, str) else str(before))
    return Reading(round(max(0.0, after - before) / elapsed, 2), now)


def _busiest(before: Vitals, after: Vitals) -> tuple[int | None, int | None]:
    """For how many nanoseconds the vCPU ran that ran most, and how long it waited to."""
    if before.vcpus and len(before.vcpus) == len(after.vcpus):
        pairs = list(zip(before.vcpus, after.vcpus, strict=True))
        was, now = max(pairs, key=lambda pair: pair[1].ran - pair[0].ran)
        waited = None if was.delayed is None or now.delayed is None else max(0, now.delayed - was.delayed)
        return max(0, now.ran - was.ran), waited
    if before.vcpu_time is None or after.vcpu_time is None:
        return None, None
    return max(0, after.vcpu_time - before.vcpu_time), None
