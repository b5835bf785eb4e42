"""From suspicion to verdict: what is asked of the host, and what is made of it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from tests.unit.core.scenario import KNOWN, WELL, Guest, changed, lone, settled, told
from vmhb_common.model.policy import Action
from vmhb_worker.core import events as ev
from vmhb_worker.core.inquiry import PATIENCE
from vmhb_worker.core.instance_state import Timing
from vmhb_worker.core.transitions import State

FAST: dict[str, Any] = {"interval": 1.0, "timeout": 1.0, "threshold": 3}


def test_a_stopped_agent_in_a_living_kernel() -> None:
    """The balloon was asked at the first miss: at the threshold the cause is known, and final when our challenge is."""
    guest = settled(**FAST)
    guest.agent_stops()
    guest.run(300.0)
    assert guest.transcript == [
        "103.10 raised agent_unresponsive, withheld: evidence",
        "104.10 updated agent_unresponsive",
    ]
    evidence = guest.raised[0].evidence
    assert evidence["balloon"]["value"] == "answered"
    assert evidence["domain"]["value"] == "running (booted)"
    assert evidence["occupied"]["value"] == 0.0
    assert evidence["other_channel"]["reason"] == "the instance has no other channel"


def test_a_dead_kernel() -> None:
    """Provisional at the threshold, the cause within three seconds."""
    guest = settled(**FAST)
    guest.kernel_dies()
    guest.run(300.0)
    assert told(guest) == ["raised guest_silent, withheld: evidence", "updated guest_hung, recover"]
    raised, updated = (float(line.split()[0]) for line in guest.transcript)
    assert updated - raised < 3.0


def test_a_dead_kernel_and_time_to_look() -> None:
    """With longer intervals the evidence is there before the threshold: no provisional verdict."""
    guest = settled(interval=10.0, timeout=5.0)
    guest.kernel_dies()
    guest.run(1000.0)
    assert told(guest) == ["raised guest_hung, recover"]


def test_a_hung_qemu() -> None:
    """Provisional at the threshold; five seconds of a monitor that nobody answers at decide."""
    guest = settled(**FAST)
    guest.qemu_stops()
    guest.run(300.0)
    assert told(guest) == [
        "raised guest_silent, withheld: evidence",
        "updated qemu_hung, withheld: evidence",
        "updated qemu_hung, recover",
    ]
    found, recover = (float(line.split()[0]) for line in guest.transcript[1:])
    assert found <= 110.0
    assert 55.0 <= recover - found <= 56.1  # it has stood still for a minute
    guest.qemu_goes_on()
    guest.run(320.0)
    assert told(guest)[3:] == ["cleared qemu_hung: recovered"]


def test_a_qemu_whose_guest_goes_on_has_twice_the_time() -> None:
    """A volume whose server hangs is attached, and QEMU's main loop waits for it, while the guest works."""
    guest = settled(**FAST)
    guest.runs_on = True
    guest.qemu_stops()
    guest.run(300.0)
    found, recover = (float(line.split()[0]) for line in guest.transcript[1:])
    assert told(guest)[1:] == ["updated qemu_hung, withheld: evidence", "updated qemu_hung, recover"]
    assert 115.0 <= recover - found <= 116.1


def test_a_qemu_that_goes_on_with_a_dead_guest() -> None:
    """What it is accused of changes when the kernel had its time to answer, and then its agent; not before."""
    guest = settled(**FAST)
    guest.qemu_stops()
    guest.run(300.0)
    guest.qemu_goes_on(rtt=None)
    guest.run(315.0)
    assert told(guest)[2:] == ["updated qemu_hung, recover", "updated agent_unresponsive"]


def test_a_short_stop_of_qemu_is_nobodys_death() -> None:
    """Storage stalls, and everything with it: the kernel is not called dead for not answering meanwhile."""
    for seconds in (1.5, 2.2, 2.5, 3.0, 3.5, 4.0, 4.6):
        guest = settled(interval=1.0, timeout=1.0, threshold=1)
        guest.agent_stops()
        guest.run(102.0)
        guest.qemu_stops()
        guest.run(102.0 + seconds)
        guest.qemu_goes_on(rtt=None)
        guest.run(300.0)
        assert told(guest) == ["raised guest_silent, withheld: evidence", "updated agent_unresponsive"], seconds


def test_no_balloon_no_evidence() -> None:
    """Never called hung on no evidence: confidence low, and recovery only for those who asked for it even then."""
    guest = settled(**FAST)
    guest.monitor.balloon_period = None
    guest.kernel_dies()
    guest.run(300.0)
    assert told(guest) == ["raised guest_silent, withheld: evidence", "updated guest_silent"]
    assert guest.raised[0].confidence == "low"
    assert guest.raised[0].evidence["balloon"] == {
        "value": "unavailable",
        "reason": "the domain has no balloon device",
    }
    eager = settled(action=Action.RECOVER_UNRESPONSIVE, **FAST)
    eager.monitor.balloon_period = None
    eager.kernel_dies()
    eager.run(300.0)
    assert told(eager) == ["raised guest_silent, withheld: evidence", "updated guest_silent, recover"]


def test_a_balloon_that_never_answered_in_this_boot_is_no_evidence() -> None:
    """The driver may not be loaded: silence of something that never spoke means nothing."""
    guest = lone(action=Action.RECOVER, **FAST)
    guest._kernel_until = 0.0  # its driver is not there from the beginning
    guest.run(400.0)
    assert guest.monitor.state is State.ALIVE
    assert not guest.monitor.balloon_seen
    guest.transcript.clear()
    guest.agent_stops()
    guest.run(600.0)
    assert told(guest) == ["raised guest_silent, withheld: evidence", "updated guest_silent"]


def test_its_balloon_is_learnt_while_it_is_well_three_times_at_most() -> None:
    """A guest without the driver is not probed for ever; what Nova set is put back each time."""
    guest = lone(**FAST)
    guest._kernel_until = 0.0
    guest.run(2000.0)
    assert Counter(guest.looks())[ev.SetBalloonPeriod(1)] == 3
    assert guest.period == 10
    known = settled(**FAST)
    known.run(2000.0)
    assert Counter(known.looks())[ev.SetBalloonPeriod(1)] == 1


def test_its_balloon_is_learnt_after_a_restart_and_after_a_migration_too() -> None:
    """An instance that goes on here is as well as one that boots here: its kernel's silence is to mean something."""
    guest = lone(memory=WELL, action=Action.RECOVER, **FAST)
    guest.run(50.0)
    assert guest.monitor.balloon_seen
    assert ev.Remember() in [effect for _, effect in guest.effects]
    guest.kernel_dies()
    guest.run(70.0)
    assert told(guest)[-1] == "updated guest_hung, recover"


def test_no_probe_of_one_that_is_not_to_be_asked() -> None:
    """A balloon that is learnt while its guest stands still would be taken for none."""
    guest = lone(memory=WELL, **FAST)
    guest._kernel_until = 0.0
    guest.run(10.0)
    guest.is_paused()
    looks = len(guest.looks())
    guest.run(1000.0)
    assert len(guest.looks()) == looks
    guest.is_resumed()
    guest.run(1100.0)
    assert guest.monitor.balloon_seen


def test_another_boot_is_another_kernel() -> None:
    """What the old one's driver did proves nothing about the new one's."""
    guest = settled(**FAST)
    assert guest.monitor.balloon_seen
    guest.boots(after=20.0)
    assert not guest.monitor.balloon_seen
    guest.run(200.0)
    assert guest.monitor.balloon_seen


def test_a_late_answer_of_the_balloon_corrects_the_cause() -> None:
    """A kernel that was called hung is asked again now and then: it may have been too early to call it dead."""
    guest = settled(**FAST)
    guest.kernel_dies()
    guest.run(130.0)
    guest._kernel_until = float("inf")
    guest.run(300.0)
    assert told(guest)[1:] == ["updated guest_hung, recover", "updated agent_unresponsive"]
    corrected = float(guest.transcript[2].split()[0])
    assert corrected <= 101.1 + 60.0 + 5.0 + 10.0  # its agent is asked once more before it is blamed
    asked = [at for at, effect in guest.effects if isinstance(effect, ev.Ask) and at > corrected]
    assert asked[0] - corrected < 6.0  # what stirs is asked soon


def test_a_kernel_that_dies_later_makes_the_cause_worse() -> None:
    """First the agent, then everything: a living kernel is asked again, too."""
    guest = settled(**FAST)
    guest.agent_stops()
    guest.run(130.0)
    guest.kernel_dies()
    guest.run(200.0)
    assert told(guest) == [
        "raised agent_unresponsive, withheld: evidence",
        "updated agent_unresponsive",
        "updated guest_hung, recover",
    ]


def test_evidence_that_is_too_old_is_gathered_anew() -> None:
    """A hundred misses take a while: what was seen at the first one does not make a verdict."""
    guest = settled(interval=10.0, timeout=5.0, threshold=20)
    guest.agent_stops()
    guest.run(200.0)
    guest.kernel_dies()
    guest.run(400.0)
    assert told(guest) == ["raised agent_unresponsive, withheld: evidence", "updated guest_hung, recover"]


def test_each_outage_has_its_probe_and_no_guest_more_than_four_a_minute() -> None:
    """However often it is suspected: what was found of the last one says nothing of this one."""
    guest = settled(**FAST)
    for _ in range(20):
        guest.agent_stops()
        guest.run(guest.host.now + 2.5)
        guest.agent_goes_on()
        guest.run(guest.host.now + 7.5)
    probes = [at for at, e in guest.effects if e == ev.LookAt(ev.SetBalloonPeriod(1)) and at > 100.0]
    assert all(fifth - first >= 59.9 for first, fifth in zip(probes, probes[4:], strict=False))
    assert [round(after - before) for before, after in pairwise(probes[:4])] == [10, 10, 10]
    assert len(probes) >= 10
    assert guest.transcript == []
    assert guest.period == 10


def test_what_was_changed_is_put_back_whatever_comes_between() -> None:
    """An answer, a silence, a reboot in the middle of a probe."""
    for happens in (Guest.agent_goes_on, Guest.is_paused, lambda guest: guest.boots(after=5.0)):
        guest = settled(**FAST)
        guest.agent_stops()
        guest.run(101.7)
        assert (guest.period, guest.monitor.balloon_period) == (1, 10)
        assert guest.monitor.probing
        happens(guest)
        guest.run(102.0)
        assert guest.period == 10
        assert not guest.monitor.probing


def test_looks_that_do_not_work_withhold_nothing_for_long() -> None:
    """Unavailable is an answer: the verdict says so, and is final."""
    guest = settled(**FAST)
    guest.looks_fail = "LookState LookControl LookJob LookVitals SetBalloonPeriod"
    guest.kernel_dies()
    guest.run(200.0)
    assert told(guest) == ["raised guest_silent, withheld: evidence", "updated guest_silent"]
    assert guest.transcript[1].startswith("104.10 ")
    assert guest.raised[0].evidence["occupied"] == {"value": "unavailable", "reason": "it does not work"}


def test_a_look_that_never_ends_is_not_waited_for() -> None:
    """Though nobody waits for QEMU's monitor: libvirt has reasons of its own."""
    guest = settled(**FAST)
    guest.looks_hang = "LookVitals"
    guest.kernel_dies()
    guest.run(200.0)
    assert told(guest) == ["raised guest_silent, withheld: evidence", "updated guest_silent"]
    assert float(guest.transcript[1].split()[0]) <= 101.1 + PATIENCE + 0.1


def test_a_worker_that_slept_does_not_call_a_kernel_dead() -> None:
    """It told the balloon to report, slept, and found no report: perhaps the whole host slept."""
    guest = settled(interval=1.0, timeout=1.0, threshold=1)
    guest.agent_stops()
    guest.run(102.3)
    guest._kernel_until = guest.host.now  # the host sleeps for a while
    guest.host.now += 5.0
    guest.happens(ev.Voided("the worker was 5 s late"))
    guest._kernel_until = float("inf")
    guest._period_since = guest.host.now
    guest.run(200.0)
    assert "guest_hung" not in "".join(guest.transcript)


def test_a_panic_is_told_at_once_and_recovered_after_its_grace() -> None:
    """Ten seconds for a kernel that lives after all; then it is dead for sure, without further evidence."""
    guest = settled(interval=30.0, timeout=5.0)
    guest.kernel_dies(told=True)
    guest.happens(ev.Panicked())
    guest.run(200.0)
    assert guest.transcript == [
        "100.00 raised guest_panicked, withheld: hold",
        "110.00 updated guest_panicked, recover",
    ]


def test_an_answer_after_the_panic_takes_it_back() -> None:
    """One to what was asked before the panic does not: neither the alarm, nor the recovery that follows."""
    guest = settled(interval=5.0, timeout=5.0)
    guest.happens(ev.Panicked())
    guest.run(200.0)
    assert guest.transcript == [
        "100.00 raised guest_panicked, withheld: hold",
        "100.01 cleared guest_panicked: recovered",
    ]
    monitor = lone(memory=WELL, **FAST).monitor
    monitor.handle(ev.Tick(1.0), 1.0)
    monitor.handle(ev.Asked(), 1.0)
    assert any(isinstance(effect, ev.RaiseFault) for effect in monitor.handle(ev.Panicked(), 1.05))
    assert not any(isinstance(effect, ev.ClearFault) for effect in monitor.handle(ev.Acked(0.1), 1.1))
    out = monitor.handle(ev.Tick(11.05), 11.05)
    assert any(isinstance(effect, ev.RaiseFault) for effect in out)


def test_a_panic_of_a_suspect_and_of_one_already_judged() -> None:
    """It is better known then: the cause follows."""
    suspect = settled(interval=1.0, timeout=1.0, threshold=50)
    suspect.agent_stops()
    suspect.run(105.0)
    suspect.kernel_dies(told=True)
    suspect.run(120.0)
    assert told(suspect) == ["raised guest_panicked, withheld: hold", "updated guest_panicked, recover"]
    judged = settled(**FAST)
    judged.agent_stops()
    judged.run(150.0)
    judged.kernel_dies(told=True)
    judged.run(155.0)
    judged.run(170.0)
    assert told(judged) == [
        "raised agent_unresponsive, withheld: evidence",
        "updated agent_unresponsive",
        "updated guest_panicked, withheld: hold",
        "updated guest_panicked, recover",
    ]


def test_a_panic_and_a_reboot_is_a_reboot() -> None:
    """panic=10 on the guest's kernel command line."""
    guest = settled(**FAST)
    guest.kernel_dies(told=True)
    guest.run(103.0)
    guest.boots(after=30.0)
    guest.run(300.0)
    assert told(guest) == [
        "raised guest_panicked, withheld: hold",
        "answers again after its boot",
        "cleared guest_panicked: recovered",
    ]


def test_a_hung_qemu_takes_precedence_over_a_panic() -> None:
    """DESIGN 6.2: the order of the causes."""
    guest = settled(**FAST)
    guest.happens(ev.Panicked())
    guest.qemu_stops()
    guest.run(200.0)
    assert told(guest)[-1] == "updated qemu_hung, recover"


@pytest.mark.parametrize("probe_interval", [5.0, 60.0])
def test_whether_a_balloon_answers_is_learnt_however_often_it_was_probed(probe_interval: float) -> None:
    """Boot after boot within a minute: that it may not be probed yet is no try of those that it is worth."""
    guest = settled(timing=Timing(probe_interval=probe_interval), **FAST)
    for _ in range(4):
        guest.kernel_dies()
        guest.run(guest.host.now + 8.0)
        guest.boots(2.0)
        guest.run(guest.host.now + 5.0)
    guest.run(guest.host.now + 65.0)
    assert guest.monitor.balloon_seen
    probes = [at for at, e in guest.effects if e == ev.LookAt(ev.SetBalloonPeriod(1)) and at > 100.0]
    assert probe_interval < 60.0 or all(e - a >= 59.9 for a, e in zip(probes, probes[4:], strict=False))


def test_a_watchdog_is_part_of_the_evidence() -> None:
    """It supports a verdict, and makes none."""
    guest = settled(**FAST)
    guest.happens(ev.WatchdogFired("none"))
    guest.agent_stops()
    guest.run(200.0)
    assert guest.raised[0].evidence["watchdog"]["value"] == "none"
    assert told(guest) == ["raised agent_unresponsive, withheld: evidence", "updated agent_unresponsive"]


@pytest.mark.parametrize("probe_interval", [5.0, 60.0])
def test_the_operator_says_how_often_a_kernel_is_asked(probe_interval: float) -> None:
    """`probe_interval`: the same for learning, for suspects, and for those already judged."""
    guest = settled(timing=Timing(probe_interval=probe_interval), **FAST)
    guest.agent_stops()
    guest.run(400.0)
    probes = [at for at, e in guest.effects if e == ev.LookAt(ev.SetBalloonPeriod(1)) and at > 100.0]
    gaps = [after - before for before, after in pairwise(probes)]
    assert all(probe_interval <= gap <= probe_interval + 3.0 for gap in gaps)


def test_nobody_is_asked_about_a_guest_that_is_well() -> None:
    """Evidence costs QEMU's time: it begins with the first miss."""
    guest = lone(memory=changed(KNOWN), **FAST)
    guest.run(1000.0)
    assert guest.looks() == []
