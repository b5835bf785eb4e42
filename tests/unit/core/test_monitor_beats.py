"""Misses are counted exactly, a verdict comes in time, and nobody is accused who answers."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from tests.unit.core.scenario import WELL, Guest, Host, lone, settled
from vmhb_common.model.causes import Cause, Confidence
from vmhb_common.model.policy import Action
from vmhb_worker.core import events as ev
from vmhb_worker.core.ask_schedule import REQUEST_CEILING, RESYNC_TIME
from vmhb_worker.core.beats import back_off
from vmhb_worker.core.instance_state import Standing
from vmhb_worker.core.transitions import State

#: What the fault's time may exceed threshold * interval + timeout by: the challenge's own way through libvirt.
SLACK = 0.05


def hung_at(guest: Guest, when: float) -> float:
    """Stop its agent then, and find the fault: how long it took, seconds."""
    guest.run(when)
    guest.agent_stops()
    asked = guest.monitor.policy
    guest.run(when + 3 * (asked.threshold * asked.interval + asked.timeout) + 30)
    raised = [line for line in guest.transcript if " raised " in line]
    assert len(raised) == 1, guest.transcript
    return float(raised[0].split()[0]) - when


@pytest.mark.parametrize("threshold", range(1, 101))
def test_the_nth_miss_raises(threshold: int) -> None:
    """threshold=N raises on the Nth miss in a row: not on the one before, not on the one after."""
    guest = lone(memory=WELL, interval=1.0, timeout=1.0, threshold=threshold)
    hung_at(guest, 10.0)
    assert [(fault.misses, fault.skipped, fault.threshold) for fault in guest.raised] == [(threshold, 0, threshold)]


CASES = [
    (interval, timeout, threshold, phase)
    for interval, timeout, threshold in product(
        (1.0, 2.0, 7.3, 10.0, 60.0), (0.1, 0.7, 1.0, 5.0, 12.5, 31.0, 90.0), (1, 2, 3, 10)
    )
    for phase in (0.0, 0.03, 0.5, 0.97)
]


def test_a_hang_is_found_in_time() -> None:
    """At threshold x interval + timeout after it at the latest, whatever the phase, time-outs beyond libvirt's too."""
    late = {}
    for interval, timeout, threshold, phase in CASES:
        guest = lone(memory=WELL, interval=interval, timeout=timeout, threshold=threshold)
        took = hung_at(guest, 3 * interval + phase * interval)
        bound = threshold * interval + timeout
        # and never before its time-outs can have run out
        if not (threshold - 1) * interval + timeout - SLACK <= took <= bound + SLACK:
            late[interval, timeout, threshold, phase] = (took, bound)
    assert late == {}


def test_libvirt_gives_up_before_the_policy_does() -> None:
    """It waits ten seconds at most, and five from then on: requests that follow each other are one long one."""
    guest = settled(interval=10.0, timeout=60.0, threshold=2)
    guest.agent_stops()
    guest.run(300.0)
    assert max(ask.timeout for ask in guest.asks()) == REQUEST_CEILING
    assert [fault.misses for fault in guest.raised] == [2]
    raised = float(guest.transcript[0].split()[0])
    assert 170.0 <= raised <= 180.05


@pytest.mark.parametrize(
    ("interval", "timeout", "rtt"),
    [(10.0, 5.0, 5.5), (1.0, 1.0, 1.2), (1.0, 5.0, 5.5), (2.0, 0.1, 1.9), (10.0, 9.0, 9.9)],
)
def test_slow_is_not_dead(interval: float, timeout: float, rtt: float) -> None:
    """A constant round trip just over the time-out is never a fault: a late answer is an acknowledgement."""
    guest = lone(memory=WELL, interval=interval, timeout=timeout, threshold=2)
    guest.agent_goes_on(rtt)
    guest.run(600.0)
    assert guest.transcript == []
    assert guest.monitor.answers.last_ack is not None
    assert 600.0 - guest.monitor.answers.last_ack < 2 * max(interval, rtt)


def test_with_a_threshold_of_one_the_first_miss_raises() -> None:
    """What was asked for: no second chance, and no evidence from before the verdict."""
    guest = settled(interval=10.0, timeout=5.0, threshold=1)
    guest.agent_stops()
    told = guest.run(130.0)
    assert [line.split(" ", 1)[1] for line in told] == [
        "raised guest_silent, withheld: evidence",
        "updated agent_unresponsive",
    ]
    raised, updated = (float(line.split()[0]) for line in told)
    assert updated - raised < 3.0


def test_a_late_answer_saves_every_open_beat() -> None:
    """One request spans several beats at short intervals; its answer acknowledges them all."""
    guest = settled(interval=1.0, timeout=2.0, threshold=5)
    guest.agent_stops()
    assert guest.run(104.5) == []
    assert guest.monitor.state is State.MISSING
    guest.agent_goes_on()
    assert guest.run(105.0) == []
    assert (guest.monitor.state, guest.monitor.answers.misses) == (State.ALIVE, 0)
    guest.run(200.0)
    assert guest.transcript == []


def test_misses_must_be_in_a_row() -> None:
    """One answer in between, and counting starts anew."""
    guest = settled(interval=1.0, timeout=1.0, threshold=3)
    for _ in range(5):
        guest.agent_stops()
        guest.run(guest.host.now + 2.9)
        assert guest.monitor.answers.misses in (1, 2)
        guest.agent_goes_on()
        guest.run(guest.host.now + 2.1)
        assert guest.monitor.answers.misses == 0
    assert guest.transcript == []


def test_the_first_answer_clears() -> None:
    """One acknowledgement is enough, also after a day; and the next outage is a new fault."""
    guest = settled(interval=10.0, timeout=5.0)
    guest.agent_stops()
    guest.run(100_000.0)
    guest.agent_goes_on()
    guest.run(100_100.0)
    guest.agent_stops()
    guest.run(100_200.0)
    assert [line.split(" ", 1)[1] for line in guest.transcript] == [
        "raised agent_unresponsive",
        "cleared agent_unresponsive: recovered",
        "raised agent_unresponsive",
    ]


def test_the_silent_are_still_asked_ever_more_rarely() -> None:
    """Every 2, 4, 8 intervals, up to ten of them or a minute; what it was accused of does not make it forgotten."""
    guest = settled(interval=10.0, timeout=5.0)
    guest.agent_stops()
    guest.run(1000.0)
    silent = [at for at, effect in guest.effects if isinstance(effect, ev.Ask) and effect.pace is ev.Pace.SILENT]
    gaps = [round(after - before - RESYNC_TIME) for before, after in pairwise(silent)]
    assert gaps[0] == 40
    assert set(gaps[1:]) == {60}
    assert [back_off(1.0, attempt) for attempt in (0, 1, 2, 3, 99)] == [2.0, 4.0, 8.0, 10.0, 10.0]
    assert back_off(3600.0, 0) == 3600.0


def test_skips_are_no_misses() -> None:
    """No place in the lanes for ever: nobody was asked, so nobody is accused, and the skips are told."""
    host = Host(workers=0, slow_workers=0)
    guest = host.guest(memory=WELL, interval=1.0, timeout=1.0)
    guest.agent_stops()
    guest.run(600.0)
    assert guest.transcript == []
    assert (guest.monitor.answers.misses, guest.monitor.state) == (0, State.ALIVE)
    assert guest.monitor.answers.skipped >= 595


def test_skips_do_not_interrupt_a_row_of_misses() -> None:
    """threshold misses in a row, skips not counted: a guest that hangs is found also if libvirtd hiccups."""
    guest = settled(interval=10.0, timeout=5.0, threshold=3)
    guest.agent_stops()
    guest.run(121.0)
    misses = guest.monitor.answers.misses
    assert misses >= 1
    guest.host.libvirtd_stops()
    guest.run(141.0)
    assert guest.monitor.answers.misses <= misses + 1
    guest.host.libvirtd_goes_on()
    told = guest.run(200.0)
    assert len(told) == 1
    assert guest.fault is not None
    assert guest.fault.misses == 3
    assert guest.fault.skipped >= 1


def test_nobody_is_accused_while_libvirtd_is_silent() -> None:
    """A guest that cannot be asked cannot fail to answer; what it says when libvirtd is back counts."""
    host = Host()
    guests = [host.guest(f"vm-{n}", memory=WELL, interval=1.0, timeout=1.0, threshold=1) for n in range(20)]
    host.run(50.0)
    host.libvirtd_stops()
    host.run(110.0)
    assert all(guest.monitor.answers.skipped > 0 for guest in guests)
    host.libvirtd_goes_on()
    host.run(200.0)
    assert [line for guest in guests for line in guest.transcript] == []
    assert all(guest.monitor.answers.skipped == 0 for guest in guests)  # since the last acknowledgement


def test_a_worker_that_was_away_blames_itself() -> None:
    """What was seen, or not, while it did not run itself says nothing about the guest; three times in a row."""
    guest = settled(interval=1.0, timeout=1.0, threshold=2)
    guest.agent_goes_on(rtt=2.9)
    for _ in range(100):
        guest.happens(ev.Voided("the worker was late"))
        guest.run(guest.host.now + 0.9)
    assert guest.transcript == []
    guest.agent_stops()
    guest.run(guest.host.now + 5.0)
    assert len(guest.raised) == 1


def test_a_worker_that_slept_skips_the_beats_it_slept_through() -> None:
    """One challenge when it wakes, not one for each beat."""
    monitor = lone(memory=WELL, interval=1.0, timeout=1.0).monitor
    out = monitor.handle(ev.Tick(99.9), 100.0)
    assert [type(effect).__name__ for effect in out] == ["Ask"]
    assert monitor.answers.skipped == 100
    assert monitor.deadline() > 100.0


def test_an_answer_that_is_none_is_a_miss() -> None:
    """Wrong nonce, no JSON, too long: somebody is there, and it is not our agent."""
    guest = settled(interval=10.0, timeout=5.0, threshold=3)
    guest.garbled = True
    guest.run(150.0)
    assert [fault.misses for fault in guest.raised] == [3]
    assert "agent_unresponsive" in guest.transcript[-1]


def test_a_request_that_waits_for_somebody_elses_command_is_no_miss() -> None:
    """A freeze of its file systems holds the agent's job: what was counted while our request queued is dropped."""
    guest = settled(interval=10.0, timeout=5.0, threshold=4)
    guest.busy = True
    guest.run(115.0)
    assert guest.monitor.answers.misses == 1
    guest.run(300.0)
    assert guest.transcript == []
    assert (guest.monitor.state, guest.monitor.answers.misses <= 2) in ((State.ALIVE, True), (State.MISSING, True))
    guest.busy = False
    guest.run(400.0)
    assert guest.monitor.answers.misses == 0


def test_a_request_that_never_ends_is_no_silence_of_the_guest() -> None:
    """No command is with the guest for longer than libvirt's time-outs: beyond them it is with libvirt. That nobody can
    be asked is an alarm, and no more.
    """
    guest = lone(memory=WELL, interval=10.0, timeout=5.0, threshold=3)
    monitor = guest.monitor
    missed = []
    now = monitor.deadline()
    monitor.handle(ev.Tick(now), now)
    monitor.handle(ev.Asked(), now)
    while now < 600.0:
        now = monitor.deadline()
        monitor.handle(ev.Tick(now), now)
        missed.append(monitor.answers.misses)
    assert max(missed) == 2
    assert monitor.answers.skipped >= 6
    assert (monitor.state, monitor.case.standing) == (
        State.SILENT,
        Standing(Cause.GUEST_SILENT, confidence=Confidence.LOW),
    )


def test_a_suspect_never_queues_behind_the_silent() -> None:
    """DESIGN 9: a hang beside ten that are known to be hung is found no later than one alone."""
    alone = hung_at(Host().guest("new", memory=WELL, interval=1.0, timeout=1.0), 200.3)
    host = Host()
    for number in range(10):
        host.guest(f"old-{number}", memory=WELL, interval=1.0, timeout=1.0).agent_stops()
    beside = hung_at(host.guest("new", memory=WELL, interval=1.0, timeout=1.0), 200.3)
    assert beside <= alone * 1.05
    assert host.most_in_flight <= 8


def test_neither_does_one_that_is_waited_for_hold_up_others() -> None:
    """Guests that hold their port open and have never answered take no more room than the silent."""
    host = Host()
    for number in range(20):
        host.guest(f"booting-{number}", interval=1.0, timeout=1.0).agent_stops()
    slow = host.guest("slow", memory=WELL, interval=1.0, timeout=1.0)
    slow.agent_goes_on(rtt=0.3)
    assert hung_at(slow, 200.3) <= 4.3
    assert host.most_in_flight <= 8


def test_ten_that_hang_together_are_found_within_twice_the_time() -> None:
    """DESIGN 9; and the healthy beside them are accused of nothing."""
    host = Host()
    hung = [host.guest(f"hung-{n}", memory=WELL, interval=1.0, timeout=1.0) for n in range(10)]
    well = [host.guest(f"well-{n}", memory=WELL, interval=1.0, timeout=1.0) for n in range(30)]
    host.run(100.0)
    for guest in hung:
        guest.agent_stops()
    host.run(130.0)
    took = [float(guest.transcript[0].split()[0]) - 100.0 for guest in hung]
    assert max(took) <= 2 * (3 * 1.0 + 1.0)
    assert [line for guest in well for line in guest.transcript] == []
    assert host.most_in_flight == host.lanes.workers + host.lanes.slow_workers


def test_first_beats_are_spread_over_the_interval() -> None:
    """No herd after a restart: each instance has its own place, the same at every start."""
    host = Host(workers=1000)
    for number in range(200):
        host.guest(f"vm-{number}", memory=WELL, interval=10.0)
    host.run(9.99)
    first = sorted(next(at for at, e in guest.effects if isinstance(e, ev.Ask)) for guest in host.guests.values())
    assert first[0] < 0.5
    assert first[-1] > 9.5
    assert max(after - before for before, after in pairwise(first)) < 0.6


#: interval, timeout, threshold: the defaults, those with times around libvirt's own 5 s, and short ones.
POLICIES = [
    *((10.0, 5.0, 3), (10.0, 8.0, 3), (10.0, 10.0, 3), (6.0, 6.0, 3), (5.0, 5.0, 3), (30.0, 5.0, 3), (60.0, 30.0, 2)),
    *((2.0, 2.0, 3), (1.0, 1.0, 3), (1.0, 1.0, 10), (3.0, 1.0, 5), (10.0, 5.0, 1)),
]


@pytest.mark.parametrize("dies", ["kernel", "agent"])
@pytest.mark.parametrize("offset", [0.0, 0.3, 0.7])
@pytest.mark.parametrize(("interval", "timeout", "threshold"), POLICIES)
def test_the_dead_are_found_in_time_under_every_policy_and_stay_dead(
    interval: float, timeout: float, threshold: int, offset: float, dies: str
) -> None:
    """Threshold x interval + timeout after the last acknowledgement at the latest, half a second for us; and nothing
    that libvirt says to the challenges after that makes it alive, or something else."""
    guest = settled(interval=interval, timeout=timeout, threshold=threshold, action=Action.RECOVER)
    guest.run(guest.host.now + offset * interval)
    died = guest.host.now
    guest.kernel_dies() if dies == "kernel" else guest.agent_stops()
    bound = died + threshold * interval + timeout + 0.5
    guest.run(bound)
    assert len(guest.raised) == 1
    assert guest.monitor.state is State.SILENT
    final = {"kernel": "guest_hung", "agent": "agent_unresponsive"}[dies]
    guest.run(bound + 15.0)
    assert guest.fault is not None
    assert guest.fault.cause == final
    said = len(guest.transcript)
    while guest.host.now < bound + 20 * interval + 600.0:
        guest.run(guest.host.now + 5.0)
        assert guest.monitor.told(guest.host.now)["state"] == "silent"
        assert guest.fault.cause == final
    assert len(guest.transcript) == said
