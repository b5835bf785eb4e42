"""What the host is asked about a suspect, step by step, without the guest's goodwill.

First what never blocks (is QEMU's monitor free? is the process there?), then, only if the monitor is free: is libvirt
itself at work on the domain? the counters; and the active balloon probe: the guest's balloon driver, a part of its
kernel, is told to report every second. A live kernel answers within 1.0 to 1.1 s; a dead one never. The old period is
put back at the end.

A look that blocks is no disaster: that somebody waits for QEMU's monitor, and for how long, is then seen by the look
that never does, and is the evidence that QEMU hangs.
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
    LookState,
    LookVitals,
    SetBalloonPeriod,
    State,
    Unavailable,
    Vitals,
)
from vmhb_worker.core.verdict import OCCUPIED_IS_HUNG, Balloon, Evidence, Reading, unavailable

#: How long a balloon driver has for its answer (seconds) once it was told to report every second, which is the shortest
#: that QEMU has: live kernels were seen to answer after 1.0 to 1.1 s, and miss one report at most. It is the kernel's
#: pace, so no policy changes it; after a stall of ours or libvirtd's it begins anew (`stalled`).
ANSWER_WAIT = 2.5
#: When, after that, the answer is looked for.
_LISTEN_AT = (1.15, 1.5, 1.9, ANSWER_WAIT)
#: How often QEMU's monitor is looked at while one of our own looks waits for it.
WATCH_INTERVAL = 1.0
#: A look that found no free hand is taken again this much later (seconds).
RETRY_INTERVAL = 0.5
#: And so often.
RETRIES = 2
#: Evidence that has not come by then (seconds) is not waited for any longer.
PATIENCE = 15.0


class Phase(enum.Enum):
    """Where the inquiry is."""

    CONTROL = "is the monitor free"
    JOB = "is libvirt at work on it"
    BEFORE = "counters before the probe"
    SETTING = "telling the balloon driver to report"
    LISTENING = "waiting for its report"
    DONE = "done"


class Inquiry:
    """One inquiry about one domain. Each method returns the looks to be taken next."""

    def __init__(self, period: int | None, balloon_seen: bool, may_probe: bool, baseline: bool = False) -> None:
        """period: the balloon's present statistics period, None where there is no balloon.

        balloon_seen: its driver answered earlier in this boot. may_probe: the last probe is long enough ago.
        baseline: not a suspect, only to learn whether its balloon answers.
        """
        self.baseline = baseline
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
        return [LookState(), LookControl()]

    def tick(self, now: float) -> list[Look]:
        """The looks whose time has come."""
        looks: list[Look] = []
        if self._watch_at is not None and now >= self._watch_at:
            self._watch_at = None
            looks.append(LookControl())
        if self._listening and now >= self._listen[0]:
            looks.append(self._block(LookVitals(), now))
        if self.evidence.pending and now >= self._patience_until:
            self._learn(pending=False)
        return looks

    def deadline(self) -> float:
        """When to tick."""
        times = [self._watch_at if self._watch_at is not None else float("inf")]
        if self._listening:
            times.append(self._listen[0])
        if self.evidence.pending:
            times.append(self._patience_until)
        return min(times)

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
            self._listen = [now + delay for delay in _LISTEN_AT]

    @property
    def balloon_answered(self) -> bool:
        """Did the guest's kernel answer the probe?"""
        return self.evidence.balloon.value is Balloon.ANSWERED

    @property
    def _listening(self) -> bool:
        return self.phase is Phase.LISTENING and self._out is None

    # -- answers -------------------------------------------------------------------------------------------------

    def _take(self, look: Look, answer: Answer, taken: float, now: float) -> list[Look]:
        """taken: when the look was."""
        match answer:
            case State():
                self._on_state(answer, now)
                return []
            case Control():
                return self._on_control(answer, now)
            case Job():
                return self._on_job(answer, now)
            case Vitals():
                return self._on_vitals(answer, taken, now)
            case Unavailable():
                return self._on_unavailable(look, answer, now)
        return self._on_period_set(now)

    def _on_state(self, state: State, now: float) -> None:
        self._learn(domain=Reading(f"{state.state} ({state.reason})", now))
        if state.process_alive is None:
            self._learn(process=unavailable("QEMU's process cannot be seen from here"))
        else:
            self._learn(process=Reading(state.process_alive, now))

    def _on_control(self, control: Control, now: float) -> list[Look]:
        occupied = control.seconds if control.state == "occupied" else 0.0
        self._learn(occupied=Reading(round(occupied, 1), now))
        if control.state == "error":
            return self._give_up("libvirt lost QEMU's monitor")
        if occupied >= OCCUPIED_IS_HUNG or self.deferred:
            self._learn(pending=occupied < OCCUPIED_IS_HUNG)
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
        if self.phase is not Phase.LISTENING or self._before is None:
            return []
        before_at, before = self._before
        self._progress(before, vitals, now - before_at, now)
        if vitals.balloon_updated != before.balloon_updated:
            self._learn(balloon=Reading(Balloon.ANSWERED, now))
            return self._finish()
        if now - taken > WATCH_INTERVAL:
            self.stalled(now)
            return []
        if taken >= self._listening_since + ANSWER_WAIT:
            if self._balloon_seen:
                self._learn(balloon=Reading(Balloon.NO_ANSWER, now))
            else:
                self._learn(balloon=unavailable("its balloon driver has not answered since it booted"))
            return self._finish()
        last = self._listening_since + ANSWER_WAIT
        self._listen = [at for at in self._listen if at > now] or [last]
        return []

    def _on_first_vitals(self, vitals: Vitals, now: float) -> list[Look]:
        self._before = (now, vitals)
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
        if isinstance(look, LookState):
            self._learn(domain=unavailable(answer.why), process=unavailable(answer.why))
            return []
        if isinstance(look, LookControl):
            self._learn(occupied=unavailable(answer.why))
        if self.phase is Phase.DONE or self._retries == RETRIES:
            return self._give_up(answer.why)
        self._retries += 1
        if self.phase is Phase.LISTENING:
            self._listen = [max(at, now + RETRY_INTERVAL) for at in self._listen]
        else:
            self.phase = Phase.CONTROL
            self._watch_at = now + RETRY_INTERVAL
        return []

    # -- helpers -------------------------------------------------------------------------------------------------

    def _progress(self, before: Vitals, after: Vitals, elapsed: float, now: float) -> None:
        if before.vcpu_time is not None and after.vcpu_time is not None and elapsed > 0:
            share = (after.vcpu_time - before.vcpu_time) / 1e9 / elapsed
            self._learn(vcpu=Reading(round(max(0.0, share), 2), now))
        if before.io_requests is not None and after.io_requests is not None:
            self._learn(io=Reading(max(0, after.io_requests - before.io_requests), now))

    def _block(self, look: Look, now: float) -> Look:
        if not self.evidence.pending:  # given up, and then QEMU's monitor was free after all
            self._learn(pending=True)
            self._patience_until = now + PATIENCE
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
