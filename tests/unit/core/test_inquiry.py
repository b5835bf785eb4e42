"""What the host is asked about a suspect, step by step."""

from __future__ import annotations

import math
from typing import Any

import pytest

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
    PeriodSet,
    Process,
    Refused,
    SetBalloonPeriod,
    State,
    Unavailable,
    Vcpu,
    Vitals,
)
from vmhb_worker.core.evidence import Balloon
from vmhb_worker.core.inquiry import (
    ANSWER_WAIT,
    LONG_WAIT,
    PATIENCE,
    RETRIES,
    RETRY_INTERVAL,
    SECOND_LOOK,
    WATCH_INTERVAL,
    Inquiry,
    Phase,
)
from vmhb_worker.core.main_thread import MainThread

OK = Control("ok", 0.0)
QUICK: list[Look] = [LookProcess(), LookControl()]
BEFORE = Vitals(balloon_updated=1000, vcpu_time=0, io_requests=10)
STILL = Vitals(balloon_updated=1000, vcpu_time=2_500_000_000, io_requests=10)
MOVED = Vitals(balloon_updated=1002, vcpu_time=500_000_000, io_requests=14)
NO = Unavailable("no free hand")
IDLE = Process(0.0, MainThread("S", 1, "do_sys_poll"))


def inquiry(period: int | None = 10, balloon_seen: bool = True, may_probe: bool = True, **more: Any) -> Inquiry:
    asked = Inquiry(period, balloon_seen, may_probe, **more)
    assert asked.begin(0.0) == [LookState(), *QUICK]
    return asked


def quickly(look: Look) -> Answer | None:
    """What is said of a QEMU that is well, of what never blocks."""
    answers: dict[type[Look], Answer] = {LookProcess: IDLE, LookControl: OK}
    return answers.get(type(look))


def listening(first: Vitals = BEFORE, **what: Any) -> Inquiry:
    """A probe whose answer is awaited since 1.0."""
    asked = inquiry(**what)
    assert asked.answered(LookControl(), OK, 0.0) == [LookJob()]
    assert asked.answered(LookJob(), Job(None), 0.1) == [LookVitals()]
    assert asked.answered(LookVitals(), first, 0.2) == [SetBalloonPeriod(1)]
    assert asked.answered(SetBalloonPeriod(1), PeriodSet(), 1.0) == []
    assert asked.phase is Phase.LISTENING
    return asked


def listen(asked: Inquiry, vitals: Vitals, until: float = 9.0) -> tuple[float, list[Look]]:
    """Answer its questions like this until it is done: when, and its last looks."""
    while asked.phase is Phase.LISTENING:
        now = asked.deadline()
        assert now <= until, "it never ends"
        for look in asked.tick(now):
            answered = asked.answered(look, quickly(look) or vitals, now + 0.01)
    return now, answered


def test_a_live_kernel_is_found_alive_as_soon_as_it_reports() -> None:
    """1.1 s after it was told to; the old period is put back."""
    asked = listening()
    when, looks = listen(asked, MOVED)
    assert when == pytest.approx(2.15)
    assert looks == [SetBalloonPeriod(10)]
    assert asked.balloon_answered
    assert not asked.evidence.pending
    assert asked.evidence.vcpu.value == 0.26
    assert asked.evidence.io.value == 4


def test_a_dead_kernel_is_given_all_of_its_time() -> None:
    """Asked four times; only what it was at the last one counts."""
    asked = listening()
    when, looks = listen(asked, STILL)
    assert when == pytest.approx(1.0 + ANSWER_WAIT)
    assert looks == [SetBalloonPeriod(10)]
    assert asked.evidence.balloon.value is Balloon.NO_ANSWER
    assert asked.evidence.vcpu.value == pytest.approx(0.75, abs=0.02)
    assert asked.evidence.io.value == 0


def test_a_balloon_that_never_answered_this_boot_is_no_evidence() -> None:
    """Its guest may have no driver."""
    asked = listening(balloon_seen=False)
    listen(asked, STILL)
    assert asked.evidence.balloon.value is None
    assert "not answered since it booted" in asked.evidence.balloon.why
    late = listening(balloon_seen=False)
    listen(late, MOVED)
    assert late.balloon_answered


@pytest.mark.parametrize(
    ("what", "vitals", "why"),
    [
        ({"period": None}, BEFORE, "no balloon device"),
        ({"may_probe": False, "balloon_seen": False}, BEFORE, "probed less than probe_interval ago"),
        ({}, Vitals(None, None, None), "no balloon statistics"),
    ],
)
def test_where_there_is_nothing_to_probe_the_inquiry_ends_with_the_counters(
    what: dict[str, Any], vitals: Vitals, why: str
) -> None:
    """Unavailable is a value of its own: it says why, and nothing is changed."""
    asked = inquiry(**what)
    asked.answered(LookControl(), OK, 0.0)
    asked.answered(LookJob(), Job(None), 0.1)
    assert asked.answered(LookVitals(), vitals, 0.2) == []
    assert asked.phase is Phase.DONE
    assert not asked.evidence.pending
    assert asked.evidence.balloon.value is None
    assert why in asked.evidence.balloon.why
    assert asked.abandon() == []
    assert asked.deadline() == math.inf


def deferred() -> Inquiry:
    """Its balloon is known to answer, and was probed just before."""
    asked = inquiry(may_probe=False)
    asked.answered(LookControl(), OK, 0.0)
    asked.answered(LookJob(), Job(None), 0.1)
    assert asked.answered(LookVitals(), BEFORE, 0.2) == []
    assert (asked.phase, asked.deferred) == (Phase.DONE, True)
    return asked


def test_a_probe_that_is_not_allowed_yet_is_waited_for() -> None:
    """What a balloon that answers otherwise would say decides: that it was not asked is no evidence."""
    asked = deferred()
    assert asked.tick(asked.deadline()) == QUICK
    assert asked.answered(LookControl(), OK, 1.0) == []
    assert asked.deadline() == math.inf
    assert asked.tick(1000.0) == []
    assert asked.evidence.pending
    assert "probed less than probe_interval ago" in asked.evidence.balloon.why
    assert asked.abandon() == []


def test_meanwhile_only_a_hung_qemu_decides() -> None:
    """Neither a look that found no free hand nor a monitor that is free again makes the evidence complete."""
    asked = deferred()
    asked.answered(LookControl(), Control("occupied", 4.0), 1.0)
    assert asked.evidence.pending
    asked.answered(LookControl(), Control("occupied", 5.0), 2.0)
    assert not asked.evidence.pending
    asked.answered(LookControl(), OK, 3.0)
    assert asked.evidence.pending
    asked.answered(LookControl(), NO, 4.0)
    assert asked.evidence.pending


def test_counters_that_a_domain_does_not_have_are_no_evidence() -> None:
    """A guest without disks and networks has no I/O to stand still."""
    asked = listening()
    listen(asked, Vitals(balloon_updated=1002, vcpu_time=None, io_requests=None))
    assert (asked.evidence.vcpu.value, asked.evidence.io.value) == (None, None)


def test_libvirt_at_work_on_the_domain_ends_the_inquiry() -> None:
    """It is migrated, saved or dumped: a silence, not a suspect."""
    asked = inquiry()
    asked.answered(LookControl(), OK, 0.0)
    assert asked.answered(LookJob(), Job("migration_out"), 0.1) == []
    assert (asked.job, asked.phase) == ("migration_out", Phase.DONE)
    assert not asked.evidence.pending


def test_a_baseline_does_not_ask_for_jobs() -> None:
    """It is no suspect: only its balloon is to be learnt."""
    asked = inquiry(baseline=True)
    assert asked.answered(LookControl(), OK, 0.0) == [LookVitals()]


def test_nothing_that_blocks_is_asked_while_somebody_waits_for_the_monitor() -> None:
    """Five such calls freeze a whole connection. It is watched instead, and gone on with when it is free."""
    asked = inquiry()
    assert asked.answered(LookControl(), Control("occupied", 0.4), 0.0) == []
    assert asked.deadline() == WATCH_INTERVAL
    assert asked.tick(0.9) == []
    assert asked.tick(1.0) == QUICK
    assert asked.answered(LookControl(), Control("occupied", 1.4), 1.0) == []
    assert asked.tick(2.0) == QUICK
    assert asked.answered(LookControl(), OK, 2.0) == [LookJob()]
    assert asked.evidence.occupied.value == 0.0


def test_a_monitor_that_nobody_answers_at_is_the_evidence() -> None:
    """Our own look waits for it: seen by the look that never waits; five seconds decide."""
    asked = inquiry()
    asked.answered(LookControl(), OK, 0.0)
    pending = {}
    for second in range(1, 8):
        assert asked.tick(float(second)) == QUICK
        assert asked.answered(LookControl(), Control("occupied", float(second)), float(second)) == []
        pending[second] = asked.evidence.pending
    assert pending == {1: True, 2: True, 3: True, 4: True, 5: False, 6: False, 7: False}
    assert asked.evidence.occupied.value == 7.0


STOPPED = MainThread("T", 7)


def watched(asked: Inquiry, main: MainThread | Unavailable, now: float, control: Control | Unavailable = OK) -> Any:
    """What never blocks is answered like this: what is asked next."""
    process = main if isinstance(main, Unavailable) else Process(0.0, main)
    return asked.answered(LookProcess(), process, now) + asked.answered(LookControl(), control, now)


@pytest.mark.parametrize("control", [OK, NO, Control("error", 0.0)])
def test_a_qemu_that_is_seen_to_stand_still_is_asked_nothing_that_blocks(control: Control | Unavailable) -> None:
    """Nobody need wait for it: for how long it has is the evidence, whatever libvirt says of its monitor."""
    asked = inquiry()
    assert watched(asked, STOPPED, 0.0, control) == []
    assert asked.deadline() == SECOND_LOOK
    now, seen = 0.0, []
    while now < 7.0:
        now = asked.deadline()
        assert asked.tick(now) == QUICK
        assert watched(asked, STOPPED, now, control) == []
        seen.append((asked.evidence.main_thread.value, asked.evidence.pending))
    assert seen[:6] == [(0.2, True), (1.2, True), (2.2, True), (3.2, True), (4.2, True), (5.2, False)]
    assert asked.evidence.guest_runs.value is False
    assert asked.evidence.occupied.value == (None if control is NO else 0.0)


def test_a_qemu_that_goes_on_has_its_guest_asked() -> None:
    """That it had stood still proves nothing of its kernel, and the verdict waits for that."""
    asked = inquiry()
    for second in range(7):
        watched(asked, STOPPED, float(second))
    assert not asked.evidence.pending
    assert asked.answered(LookProcess(), IDLE, 30.0) == []
    assert asked.evidence.pending
    assert asked.evidence.main_thread.value == 0.0
    assert asked.answered(LookControl(), OK, 30.0) == [LookJob()]
    assert asked.tick(30.0 + PATIENCE) == QUICK
    assert not asked.evidence.pending


def test_a_sleep_that_may_be_one_read_from_a_disk_is_looked_at_twice() -> None:
    """It slept a further time meanwhile: so it goes on."""
    asked = inquiry()
    assert watched(asked, MainThread("D", 7), 0.0) == []
    assert asked.tick(SECOND_LOOK) == QUICK
    assert watched(asked, MainThread("D", 9), SECOND_LOOK) == [LookJob()]


def test_a_qemu_that_stops_when_all_is_over_is_watched_all_the_same() -> None:
    """The last look that the inquiry takes finds it so; when it goes on, its guest is asked anew."""
    asked = deferred()
    assert asked.tick(asked.deadline()) == QUICK
    assert watched(asked, STOPPED, 1.2) == []
    assert asked.phase is Phase.CONTROL
    for second in range(2, 8):
        asked.tick(float(second))
        watched(asked, STOPPED, float(second))
    assert not asked.evidence.pending
    assert watched(asked, IDLE.main, 9.0) == [LookJob()]
    assert asked.evidence.pending


def test_a_qemu_that_stops_while_it_is_listened_to_has_all_of_its_time_again() -> None:
    """The look that would have blocked was refused; the silence of a kernel that stood still is no evidence."""
    asked = listening()
    assert asked.tick(2.15) == [*QUICK, LookVitals()]
    assert watched(asked, IDLE.main, 2.16) == []
    assert asked.answered(LookVitals(), Refused("it stands still", stands_still=True), 2.16) == []
    assert asked.deadline() == 2.16 + RETRY_INTERVAL
    assert LookControl() in asked.tick(2.66)
    assert watched(asked, STOPPED, 2.66) == []
    assert asked.answered(LookVitals(), Refused("it stands still", stands_still=True), 2.66) == []
    assert asked.tick(3.2) == QUICK
    assert watched(asked, STOPPED, 3.2) == []
    assert asked.tick(4.2) == QUICK
    assert watched(asked, MainThread("S", 9), 4.3) == []
    when, _ = listen(asked, STILL, until=30.0)
    assert when == pytest.approx(4.3 + ANSWER_WAIT)


@pytest.mark.parametrize("period", [10, None])
def test_a_look_that_was_refused_a_place_is_taken_in_a_moment_or_told(period: int | None) -> None:
    """As long as there is patience; then that is why nothing is known."""
    asked = inquiry(period=period)
    no_place = Refused("no free place")
    assert watched(asked, Unavailable("not seen"), 0.0) == [LookJob()]
    now = 0.0
    while asked.phase is not Phase.DONE:
        assert asked.evidence.pending
        assert asked.answered(LookJob(), no_place, now) == []
        if asked.phase is Phase.CONTROL:
            now = asked.deadline()
            assert asked.tick(now) == QUICK
            assert watched(asked, Unavailable("not seen"), now) == [LookJob()]
    assert PATIENCE - 1.0 <= now < PATIENCE
    assert not asked.evidence.pending
    assert asked.evidence.main_thread.why == "not seen; no free place"
    assert asked.evidence.balloon.why == ("the domain has no balloon device" if period is None else "no free place")


def test_that_a_place_was_refused_says_nothing_of_a_main_thread_that_goes_on() -> None:
    """And an inquiry that had given up is not begun anew by it."""
    asked = inquiry()
    assert watched(asked, IDLE.main, 0.0) == [LookJob()]
    for _ in range(RETRIES + 1):
        asked.answered(LookControl(), NO, 1.0)
    assert asked.phase is Phase.DONE
    assert asked.answered(LookJob(), Refused("no free place"), 1.1) == []
    assert asked.phase is Phase.DONE
    assert asked.evidence.main_thread.value == 0.0


def test_what_cannot_be_seen_any_more_is_not_known() -> None:
    """It stood still, and then its process was gone from sight: the inquiry goes on."""
    asked = inquiry()
    watched(asked, STOPPED, 0.0)
    watched(asked, STOPPED, 1.0)
    assert watched(asked, Unavailable("not seen"), 2.0) == [LookJob()]
    assert asked.evidence.main_thread.value is None


def test_whether_the_guest_goes_on_is_seen_by_its_cpu_time() -> None:
    """Two readings make a difference; QEMU alone takes next to nothing while it hangs; and none of an earlier hang."""
    asked = inquiry()
    asked.answered(LookControl(), Control("occupied", 6.0), 0.0)
    seen = []
    for second, taken in ((1.0, 7.0), (2.0, 7.0), (3.0, 7.5), (3.0, 9.0), (4.0, 9.005)):
        assert asked.answered(LookProcess(), Process(taken, IDLE.main), second) == []
        seen.append(asked.evidence.guest_runs.value)
    assert seen == [None, False, True, True, False]
    asked.answered(LookControl(), OK, 5.0)
    assert asked.evidence.guest_runs.value is None
    assert "free" in asked.evidence.guest_runs.why


@pytest.mark.parametrize(
    ("before", "after", "vcpu", "delayed"),
    [
        ((Vcpu(0, 0), Vcpu(0, 0)), (Vcpu(10**8, 3 * 10**9), Vcpu(2 * 10**9, 10**8)), 0.6, 0.03),
        ((Vcpu(0), Vcpu(0)), (Vcpu(10**8), Vcpu(2 * 10**9)), 0.6, None),
        ((Vcpu(0, 0),), (Vcpu(10**9, 10**8), Vcpu(2 * 10**9, 0)), 0.76, None),  # one was plugged in: their sum
        ((), (), 0.76, None),
    ],
)
def test_the_busiest_vcpu_counts(
    before: tuple[Vcpu, ...], after: tuple[Vcpu, ...], vcpu: float, delayed: float | None
) -> None:
    """A kernel spins on one of its processors; how long that one waited to run is told where libvirt tells it."""
    asked = listening(first=Vitals(1000, 0, 10, before))
    listen(asked, Vitals(1000, 2_500_000_000, 10, after))
    told = asked.evidence
    assert told.vcpu.value == vcpu
    assert told.delayed.value == delayed
    assert told.counted.value == pytest.approx(3.3, abs=0.1)


@pytest.mark.parametrize(
    ("before", "after", "share", "why"),
    [
        (10.0, 12.5, 0.76, None),
        (10.0, 9.0, 0.0, None),  # another group took its place
        (0.0, "its cgroup has gone", None, "its cgroup has gone"),
        ("not seen", 3.0, None, "not seen"),
    ],
)
def test_how_long_its_own_quota_held_it_back(
    before: float | str, after: float | str, share: float | None, why: str | None
) -> None:
    """As a share of the time between the two looks; or why that is not known."""
    asked = listening(first=Vitals(1000, 0, 10, throttled=before))
    listen(asked, Vitals(1000, 2_500_000_000, 10, throttled=after))
    told = asked.evidence.throttled
    assert (told.value, None if share is not None else told.why) == (share, why)


def test_what_is_counted_counts_when_the_probe_has_ended() -> None:
    """No rule sees half of a probe."""
    asked = listening()
    for look in asked.tick(2.15):
        asked.answered(look, quickly(look) or STILL, 2.16)
    assert asked.phase is Phase.LISTENING
    assert {asked.evidence.vcpu.value, asked.evidence.io.value, asked.evidence.counted.value} == {None}


def test_one_whose_port_is_closed_is_looked_at_for_longer() -> None:
    """It may be asleep, which takes five seconds to see."""
    asked = listening(left=True)
    when, _ = listen(asked, STILL)
    assert when == pytest.approx(1.0 + LONG_WAIT)
    assert asked.evidence.counted.value >= 5.0


def test_a_monitor_that_is_free_after_all_is_asked_after_all() -> None:
    """QEMU goes on: then the kernel's answer is still to come, and the verdict waits for it."""
    asked = inquiry()
    asked.answered(LookControl(), OK, 0.0)
    asked.answered(LookControl(), Control("occupied", 6.0), 6.0)
    assert not asked.evidence.pending
    assert asked.answered(LookJob(), Job(None), 60.0) == [LookVitals()]
    assert asked.evidence.pending
    assert asked.tick(60.0 + PATIENCE - 0.1) == QUICK
    asked.tick(60.0 + PATIENCE)
    assert not asked.evidence.pending


def test_what_stood_still_itself_proves_nothing() -> None:
    """QEMU hung while it was listened to, or we slept: the guest has all of its time from then on."""
    asked = listening()
    assert asked.tick(2.15) == [*QUICK, LookVitals()]
    assert asked.answered(LookVitals(), STILL, 20.0) == []
    assert asked.phase is Phase.LISTENING
    when, _ = listen(asked, STILL, until=30.0)
    assert when == pytest.approx(20.0 + ANSWER_WAIT)
    slept = listening()
    slept.stalled(7.0)
    when, _ = listen(slept, MOVED)
    assert when == pytest.approx(8.15)
    calm = inquiry()
    calm.stalled(7.0)
    assert calm.phase is Phase.CONTROL


def test_an_answer_taken_early_and_told_late_proves_nothing() -> None:
    """It was taken before the guest's time was over: it is asked again."""
    asked = listening()
    asked.tick(2.9)
    assert asked.answered(LookVitals(), STILL, 3.6) == []
    assert asked.phase is Phase.LISTENING
    assert asked.tick(asked.deadline()) == [LookVitals()]
    assert asked.answered(LookVitals(), STILL, 3.61) == [SetBalloonPeriod(10)]


def test_a_look_without_a_free_hand_is_taken_again() -> None:
    """From the beginning, and not for ever."""
    asked = inquiry()
    now = 0.0
    for _ in range(RETRIES):
        assert asked.answered(LookControl(), OK, now) == [LookJob()]
        assert asked.answered(LookJob(), NO, now) == []
        assert asked.evidence.pending
        now += RETRY_INTERVAL
        assert asked.deadline() == now
        assert asked.tick(now) == QUICK
    asked.answered(LookControl(), OK, now)
    assert asked.answered(LookJob(), NO, now) == []
    assert asked.phase is Phase.DONE
    assert not asked.evidence.pending
    assert asked.evidence.balloon.why == "no free hand"


def test_a_probe_without_a_free_hand_goes_on_listening() -> None:
    """And what was changed is put back when it gives up."""
    asked = listening()
    assert asked.tick(2.15) == [*QUICK, LookVitals()]
    assert asked.answered(LookVitals(), NO, 2.15) == []
    assert asked.deadline() == 2.15 + RETRY_INTERVAL
    assert asked.tick(2.65) == [LookVitals()]
    assert asked.answered(LookVitals(), NO, 2.65) == []
    asked.tick(3.15)
    assert asked.answered(LookVitals(), NO, 3.15) == [SetBalloonPeriod(10)]
    assert asked.evidence.balloon.why == "no free hand"


def test_a_period_that_could_not_be_set_is_put_back_all_the_same() -> None:
    """An error does not say that nothing was changed."""
    asked = inquiry()
    asked.answered(LookControl(), OK, 0.0)
    asked.answered(LookJob(), Job(None), 0.1)
    asked.answered(LookVitals(), BEFORE, 0.2)
    assert asked.answered(SetBalloonPeriod(1), NO, 0.3) == []
    assert asked.abandon() == [SetBalloonPeriod(10)]
    assert asked.abandon() == []


def test_a_broken_monitor_ends_the_inquiry() -> None:
    """libvirt lost it: nothing more can be asked."""
    asked = inquiry()
    assert asked.answered(LookControl(), Control("error", 0.0), 0.0) == []
    assert asked.phase is Phase.DONE
    assert "lost QEMU's monitor" in asked.evidence.balloon.why
    without = inquiry(period=None)
    without.answered(LookControl(), Control("error", 0.0), 0.0)
    assert without.evidence.balloon.why == "the domain has no balloon device"


def test_what_libvirt_and_the_host_say_of_qemu() -> None:
    """State, reason and process, each with its own unavailability."""
    asked = inquiry()
    assert asked.answered(LookState(), State("running", "booted", True), 0.0) == []
    assert (asked.evidence.domain.value, asked.evidence.process.value) == ("running (booted)", True)
    asked.answered(LookState(), State("running", "booted", None), 0.0)
    assert "cannot be seen" in asked.evidence.process.why
    asked.answered(LookState(), NO, 0.0)
    assert asked.evidence.domain.why == asked.evidence.process.why == "no free hand"
    asked.answered(LookControl(), NO, 0.0)
    assert asked.evidence.occupied.why == "no free hand"


def test_other_inquiries_answers_are_not_taken() -> None:
    """A look may outlive the inquiry that took it."""
    asked = inquiry()
    assert asked.answered(LookVitals(), MOVED, 0.0) == []
    asked.answered(LookControl(), OK, 0.0)
    assert asked.answered(SetBalloonPeriod(10), PeriodSet(), 0.0) == []
    assert asked.phase is Phase.JOB
    asked.abandon()
    assert asked.answered(LookJob(), Job("save"), 0.1) == []
    assert asked.job is None


def test_an_inquiry_that_was_left_off_leaves_nothing_changed() -> None:
    """The guest answered meanwhile, or a silence began."""
    asked = listening()
    assert asked.tick(2.15) == [*QUICK, LookVitals()]
    assert asked.abandon() == [SetBalloonPeriod(10)]
    assert asked.answered(LookVitals(), MOVED, 2.2) == []
    assert not asked.balloon_answered
    setting = inquiry(baseline=True)
    setting.answered(LookControl(), OK, 0.0)
    setting.answered(LookVitals(), BEFORE, 0.2)
    assert setting.abandon() == [SetBalloonPeriod(10)]
    assert setting.answered(SetBalloonPeriod(1), PeriodSet(), 0.3) == []
    assert setting.phase is Phase.DONE


def test_patience_is_bounded() -> None:
    """Evidence that has not come after a while is not waited for, but still watched."""
    asked = inquiry()
    assert asked.deadline() == PATIENCE
    asked.tick(PATIENCE)
    assert not asked.evidence.pending
    assert asked.deadline() == math.inf
