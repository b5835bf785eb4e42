"""From boot to boot, and from one life of the worker to the next."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.scenario import WELL, Host, changed, lone, settled
from vmhb_common.model.causes import Cause, Confidence
from vmhb_common.model.policy import Action
from vmhb_worker.core import events as ev
from vmhb_worker.core.domain_life import PASSAGE
from vmhb_worker.core.instance_state import Memory, Standing, Timing
from vmhb_worker.core.transitions import State

FAST: dict[str, Any] = {"interval": 1.0, "timeout": 1.0, "threshold": 3}


def test_the_first_acknowledgement_establishes() -> None:
    """Said once in its life; what must outlive the worker is handed out with it."""
    guest = lone(**FAST)
    assert guest.monitor.state is State.WAITING
    guest.run(10.0)
    assert guest.transcript == ["0.06 established"]
    assert ev.Remember() in [effect for _, effect in guest.effects]
    assert guest.monitor.memory(10.0) == Memory(True, True, None, True)
    guest.boots(after=30.0)
    guest.run(100.0)
    assert guest.transcript[1:] == ["40.01 answers again after its boot"]


def test_an_instance_that_never_answers_is_told_of_after_its_grace() -> None:
    """An alarm, never more: perhaps its image has no agent."""
    guest = lone(grace=600.0)
    guest.agent_stops()
    assert guest.run(5000.0) == ["600.00 raised not_established"]
    assert (guest.raised[0].severity, guest.raised[0].recommended_action) == ("warning", "alarm")


def test_a_grace_of_zero_waits_for_ever() -> None:
    """For images whose agent may be installed some day."""
    guest = lone(grace=0.0)
    guest.agent_stops()
    assert guest.run(100_000.0) == []
    guest.agent_goes_on()
    assert len(guest.run(100_100.0)) == 1


def test_a_booting_guest_that_was_established_has_the_reboot_grace() -> None:
    """Three hundred seconds from its first boot without an answer."""
    guest = settled()
    guest.boots(after=299.0)
    assert guest.run(450.0) == ["399.01 answers again after its boot"]
    guest.boots(after=1000.0)
    assert guest.run(1500.0) == [
        "750.00 raised not_established",
        "1450.01 answers again after its boot",
        "1450.01 cleared not_established: recovered",
    ]


def test_a_boot_loop_does_not_renew_the_grace() -> None:
    """It runs from the first reboot without an answer; the fault is told once."""
    guest = settled()
    for _ in range(40):
        guest.boots(after=60.0)
        guest.run(guest.host.now + 20.0)
    assert guest.transcript == ["400.00 raised not_established"]


def test_a_boot_ends_a_pause_and_the_pause_is_not_counted() -> None:
    """Booting, paused for a long time, and reset: what is left of the grace is left."""
    guest = settled()
    guest.boots(after=0.0, port=False)
    guest.run(200.0)
    guest.is_paused()
    guest.run(5000.0)
    guest.boots(after=0.0, port=False)
    assert guest.monitor.told(5000.0)["silences"] == {}
    assert guest.run(9000.0) == ["5200.00 raised not_established"]


def test_an_orderly_reboot_is_no_fault() -> None:
    """Its agent is stopped first and closes the port, up to ninety seconds before the reset."""
    guest = settled(**FAST)
    guest.agent_exits()
    guest.run(190.0)
    guest.boots(after=45.0)
    guest.run(1000.0)
    assert guest.transcript == ["235.01 answers again after its boot"]


def test_a_reset_is_no_fault() -> None:
    """Port closed, reset, reboot, agent disconnected: in any order, within a moment."""
    guest = settled(**FAST)
    guest.happens(ev.PortChanged(False))
    guest.boots(after=30.0)
    guest.happens(ev.Booted())
    guest.happens(ev.PortChanged(False))
    guest.run(1000.0)
    assert guest.transcript == ["130.01 answers again after its boot"]


def test_an_answer_from_before_the_boot_is_none_of_this_boot() -> None:
    """It left its guest before the reset, and came last: the guest is still awaited."""
    monitor = lone(memory=WELL, **FAST).monitor
    monitor.handle(ev.Tick(1.0), 1.0)
    monitor.handle(ev.Asked(), 1.0)
    monitor.handle(ev.Booted(), 1.1)
    assert monitor.handle(ev.Acked(0.1), 1.1) == []
    assert monitor.told(1.1)["state"] == "waiting"
    monitor.handle(ev.Tick(3.0), 3.0)
    monitor.handle(ev.Asked(), 3.0)
    monitor.handle(ev.Acked(0.1), 3.1)
    assert monitor.told(3.1)["state"] == "alive"


def test_a_guest_that_powers_off_has_time_for_it() -> None:
    """Intent, from the first word of it; should it hang on the way, it is found."""
    guest = settled(**FAST)
    guest.happens(ev.ShuttingDown())
    guest.agent_exits()
    guest.run(130.0)
    guest.is_destroyed()
    guest.run(1000.0)
    assert guest.transcript == []
    assert guest.monitor.state is State.GONE
    hung = settled(**FAST)
    hung.happens(ev.ShuttingDown())
    hung.agent_stops()
    assert hung.run(1000.0) == [
        f"{100.0 + PASSAGE + 3.1:.2f} raised agent_unresponsive, withheld: evidence",
        f"{100.0 + PASSAGE + 4.1:.2f} updated agent_unresponsive",
    ]


def test_stopped_on_purpose_is_no_fault_and_keeps_one_that_is_open() -> None:
    """Stop and start change nothing about an open fault: an answer does."""
    guest = settled(**FAST)
    guest.agent_stops()
    guest.run(150.0)
    guest.is_destroyed()
    guest.run(400.0)
    assert guest.fault is not None
    assert guest.monitor.state is State.GONE
    guest.boots(after=20.0)
    guest.run(500.0)
    assert guest.transcript == [
        "103.10 raised agent_unresponsive, withheld: evidence",
        "104.10 updated agent_unresponsive",
        "420.01 answers again after its boot",
        "420.01 cleared agent_unresponsive: recovered",
    ]


def test_nothing_happens_to_a_domain_that_does_not_run() -> None:
    """Late answers, ports, panics and timers of its former life."""
    guest = settled(**FAST)
    guest.agent_exits()
    guest.is_destroyed()
    for event in (
        *(ev.Acked(0.1), ev.AskFailed(ev.Failure.NO_ANSWER), ev.PortChanged(True), ev.PortChanged(False)),
        *(ev.Panicked(), ev.Tick(100.0), ev.Stopped(ev.Exit.FAILED, "failed"), ev.Stuck(Cause.PAUSED_IO_ERROR)),
        *(ev.Stopped(ev.Exit.INTENT, "destroyed"), ev.Voided("late"), ev.Resumed()),
    ):
        guest.happens(event)
    guest.run(1000.0)
    assert guest.transcript == []
    assert guest.monitor.state is State.GONE
    assert guest.monitor.deadline() == float("inf")


def test_a_dead_qemu_is_a_fault_at_once() -> None:
    """Whatever was thought of its guest; also of one that never answered. It is cleared by the next boot's answer."""
    for guest in (settled(), lone(grace=0.0, action=Action.RECOVER)):
        guest.agent_stops()
        guest.run(120.0)
        guest.qemu_dies()
        guest.run(300.0)
        assert guest.transcript == ["120.00 raised qemu_failed, recover"]
        guest.boots(after=20.0)
        assert guest.run(400.0)[-1] == "320.01 cleared qemu_failed: recovered"


def test_a_dead_qemu_is_told_of_in_the_fault_that_is_open() -> None:
    """One outage, one fault."""
    guest = settled(**FAST)
    guest.agent_stops()
    guest.run(200.0)
    guest.qemu_dies()
    guest.qemu_dies()
    assert guest.transcript == [
        "103.10 raised agent_unresponsive, withheld: evidence",
        "104.10 updated agent_unresponsive",
        "200.00 updated qemu_failed, recover",
    ]


# -- QEMU paused it, because it could not go on ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (ev.Stuck(Cause.PAUSED_IO_ERROR), "raised paused_io_error"),
        (ev.Stuck(Cause.PAUSED_FAILED), "raised paused_failed"),
        (ev.Stuck(Cause.GUEST_HUNG), "raised guest_hung, recover"),
    ],
)
def test_a_pause_for_trouble_is_a_fault_at_once(event: ev.Event, told: str) -> None:
    """And only once, however often it is seen; when the guest goes on and answers, it is over."""
    guest = settled()
    guest.gets_stuck(event)
    guest.run(150.0)
    guest.happens(event)
    guest.run(1000.0)
    assert guest.transcript == [f"100.00 {told}"]
    guest.is_resumed()
    guest.run(1010.0)
    assert len(guest.transcript) == 2
    assert guest.transcript[1].endswith(": recovered")


def test_a_guest_that_goes_on_and_does_not_answer_is_judged_anew() -> None:
    """The disk is back, the guest is not: one fault, with the cause that it has now, once that is certain."""
    guest = settled(**FAST)
    guest.gets_stuck(ev.Stuck(Cause.PAUSED_IO_ERROR))
    guest.run(200.0)
    guest.agent_stops()
    guest.is_resumed()
    guest.run(210.0)
    assert guest.transcript == ["100.00 raised paused_io_error", "204.10 updated agent_unresponsive"]


def test_a_booting_guest_that_goes_on_is_waited_for_again() -> None:
    """It was stuck before it ever answered in this boot."""
    guest = lone(grace=600.0)
    guest._change(port=False)
    guest.happens(ev.PortChanged(False))
    guest.run(50.0)
    guest.gets_stuck(ev.Stuck(Cause.PAUSED_IO_ERROR))
    guest.run(60.0)
    guest.is_resumed()
    assert guest.monitor.state is State.WAITING
    guest.run(400.0)
    guest.agent_starts()
    guest.run(500.0)
    assert guest.transcript == [
        "50.00 raised paused_io_error",
        "400.01 established",
        "400.01 cleared paused_io_error: recovered",
    ]


def test_an_answer_establishes_whatever_it_was_accused_of() -> None:
    """A panic is told, the guest lives after all, and answers for the first time."""
    guest = lone(grace=600.0, **FAST)
    guest.agent_stops()
    guest.happens(ev.Panicked())
    guest.run(100.0)
    guest.agent_goes_on()
    guest.run(800.0)
    assert [line.split(" ", 1)[1] for line in guest.transcript] == [
        "raised guest_panicked",
        "updated guest_panicked",
        "established",
        "cleared guest_panicked: recovered",
    ]
    assert guest.monitor.memory(800.0).waited is None


def test_what_happened_before_it_got_stuck_does_not_hide_it() -> None:
    """Its port closed, its kernel panicked, and then its disk was gone: the last is what stands."""
    guest = settled(timing=Timing(exit_settle_time=20.0, panic_grace=10.0))
    guest.agent_exits()
    guest.happens(ev.Panicked())
    guest.gets_stuck(ev.Stuck(Cause.PAUSED_IO_ERROR))
    guest.run(1000.0)
    assert guest.transcript == ["100.00 raised guest_panicked, withheld: hold", "100.00 updated paused_io_error"]


# -- after a restart of the worker -------------------------------------------------------------------------------


def test_a_standing_fault_is_not_raised_again_and_is_cleared_by_the_first_answer() -> None:
    """Same fault, same id: whoever hangs on is found hanging, and nothing new is said."""
    standing = changed(WELL, standing=Standing(Cause.AGENT_UNRESPONSIVE), balloon_seen=True)
    monitor = lone(memory=standing, **FAST).monitor
    assert monitor.state is State.ALIVE
    host = Host()
    hung = host.guest("hung", standing, **FAST)
    hung.agent_stops()
    host.run(300.0)
    assert hung.transcript == []
    assert hung.monitor.state is State.SILENT
    assert ev.ClearFault("recovered") in monitor.handle(ev.Acked(0.01), 1.0)


def test_a_verdict_that_was_outstanding_is_made_after_the_restart() -> None:
    """It was raised `withheld: evidence`, and the worker died: the evidence is gathered once more."""
    standing = Standing(Cause.GUEST_SILENT, pending=True, confidence=Confidence.LOW)
    outstanding = changed(WELL, standing=standing, balloon_seen=True)
    host = Host()
    guest = host.guest("vm", outstanding, action=Action.RECOVER, **FAST)
    guest.kernel_dies()
    # The book of this host is new: what the monitor updates is raised in it.
    guest.run(60.0)
    assert [line.split(" ", 1)[1] for line in guest.transcript] == ["raised guest_hung, recover"]


def test_a_verdict_outstanding_when_the_guest_is_reset_is_made_at_the_end_of_its_grace() -> None:
    """Or it would say `withheld: evidence` for ever."""
    guest = settled(interval=1.0, timeout=1.0, threshold=1)
    guest.agent_stops()
    guest.run(101.5)
    guest.boots(after=0.0, port=False)
    guest.run(1000.0)
    assert [line.split(" ", 1)[1] for line in guest.transcript] == [
        "raised guest_silent, withheld: evidence",
        "updated not_established",
    ]


def test_an_instance_that_hung_while_the_worker_was_away_is_found_after_a_full_threshold() -> None:
    """It resumes with a full threshold, not with a grace."""
    guest = lone(memory=changed(WELL, balloon_seen=True), **FAST)
    guest.agent_stops()
    told = guest.run(60.0)
    assert told == ["3.05 raised agent_unresponsive, withheld: evidence", "4.05 updated agent_unresponsive"]


def test_a_grace_that_ran_out_while_the_worker_was_away_is_no_fault_before_it_asked() -> None:
    """The guest may long have answered, had anybody asked."""
    guest = lone(memory=Memory(established=True, waited=7200.0), **FAST)
    guest.run(60.0)
    assert guest.transcript == ["0.06 answers again after its boot"]
    dead = lone(memory=Memory(established=True, waited=7200.0), **FAST)
    dead.agent_stops()
    assert dead.run(60.0) == ["4.00 raised not_established"]


def test_what_is_left_of_a_grace_is_kept() -> None:
    """Two hundred seconds before the restart, one hundred after it."""
    guest = lone(memory=Memory(established=True, waited=200.0))
    guest.agent_stops()
    assert guest.run(600.0) == ["100.00 raised not_established"]


def test_a_domain_that_does_not_run_is_gone_until_it_boots() -> None:
    """The worker starts, and the instance is shut off; its open fault stays open."""
    guest = lone(memory=Memory(running=False, established=True, standing=Standing(Cause.QEMU_FAILED)))
    guest._stop()
    guest.run(1000.0)
    assert (guest.monitor.state, guest.asks()) == (State.GONE, [])
    assert guest.monitor.memory(1000.0).running is False
    monitor = guest.monitor
    monitor.handle(ev.Booted(), 1000.0)
    monitor.handle(ev.Asked(), 1001.0)
    assert ev.ClearFault("recovered") in monitor.handle(ev.Acked(0.01), 1001.0)


def test_a_new_policy_may_end_or_begin_a_grace() -> None:
    """An operator who sees `not_established` coming lengthens it; one who waits for ever may change his mind."""
    guest = lone(grace=600.0)
    guest.agent_stops()
    guest.run(500.0)
    guest.happens(ev.PolicyChanged(lone(grace=0.0).monitor.policy))
    assert guest.run(5000.0) == []
    guest.happens(ev.PolicyChanged(lone(grace=10.0).monitor.policy))
    assert len(guest.run(5001.0)) == 1
    guest.happens(ev.PolicyChanged(lone(grace=20.0).monitor.policy))
    assert guest.run(6000.0) == []


def test_for_people() -> None:
    """Everything that explains why an instance is judged as it is."""
    guest = settled(**FAST)
    guest.agent_stops()
    guest.run(102.5)
    told = guest.monitor.told(102.5)
    assert told["state"] == "missing"
    assert told["misses"] == 2
    assert told["last_ack_age"] == pytest.approx(2.5, abs=1.0)
    assert told["evidence"]["balloon"]["value"] in ("answered", "unavailable")
    fresh = lone().monitor.told(0.0)
    assert (fresh["state"], fresh["last_ack_age"], fresh["evidence"]) == ("waiting", None, None)


# -- ends that nobody explains ---------------------------------------------------------------------------------------

LOST = ev.Stopped(ev.Exit.POWER, "its host went down while it ran")
UNEXPLAINED = ev.Stopped(ev.Exit.UNKNOWN, "shut off")


def test_one_whose_host_went_down_is_told_at_once_and_stands_until_it_is_started() -> None:
    """By Nova, or by a recovery; it is over with its first answer."""
    guest = settled(action=Action.RECOVER)
    guest._stop()
    guest.happens(LOST)
    assert guest.transcript == ["100.00 raised host_lost_power, recover"]
    (fault,) = guest.raised
    assert (fault.severity, fault.confidence) == ("critical", "medium")
    assert guest.monitor.state is State.GONE and guest.monitor.stands
    guest.run(300.0)
    guest.boots(after=20.0)
    assert not guest.monitor.stands
    assert [line.split(" ", 1)[1] for line in guest.run(330.0)] == [
        "answers again after its boot",
        "cleared host_lost_power: recovered",
    ]


def test_one_that_stopped_and_nobody_knows_why_is_an_alarm() -> None:
    """libvirtd forgot, or lost what it knew: neither a wish nor a failure, and its QEMU may even run on."""
    guest = settled(action=Action.RECOVER_UNRESPONSIVE)
    guest._stop()
    guest.happens(UNEXPLAINED)
    assert guest.transcript == ["100.00 raised stopped_unexplained"]
    (fault,) = guest.raised
    assert (fault.severity, fault.confidence, fault.recommended_action) == ("warning", "low", "alarm")
    guest.run(300.0)
    guest.boots(after=20.0)
    assert guest.run(330.0)[-1].endswith("cleared stopped_unexplained: recovered")


@pytest.mark.parametrize("event", [LOST, UNEXPLAINED])
def test_one_that_was_still_arriving_goes_on_where_it_was(event: ev.Event) -> None:
    """An incoming migration that ended somehow."""
    guest = settled(action=Action.RECOVER)
    guest.happens(ev.Arriving())
    guest.happens(event)
    assert guest.transcript == [] and guest.monitor.state is State.GONE
