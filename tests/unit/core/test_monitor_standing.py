"""What a monitor tells whoever is about to recover its guest: does the fault still stand, has the guest answered?"""

from __future__ import annotations

import pytest

from tests.unit.core.scenario import KNOWN, WELL, Guest, lone
from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.protocol import Health, Status
from vmhb_worker.core.transitions import State


def seen(guest: Guest) -> tuple[State, bool, bool | None]:
    assert guest.monitor.told(guest.host.now)["answered_since_miss"] is guest.monitor.answered_since_miss
    return guest.monitor.state, guest.monitor.stands, guest.monitor.answered_since_miss


def hung() -> Guest:
    """Silent, and found out about."""
    guest = lone(memory=KNOWN, interval=1.0)
    guest.run(20)
    assert seen(guest) == (State.ALIVE, False, None)
    guest.kernel_dies()
    guest.run(40)
    assert seen(guest) == (State.SILENT, True, False)
    return guest


def test_one_that_answers_again_has_answered() -> None:
    """From the first acknowledgement on."""
    guest = hung()
    monitor = guest.monitor
    assert monitor.last_ack is not None and monitor.last_ack < 20.0
    assert monitor.misses >= monitor.policy.threshold
    assert monitor.standing is not None and monitor.standing.cause is Cause.GUEST_HUNG
    guest.agent_goes_on()
    guest.run(60)
    assert seen(guest) == (State.ALIVE, False, True)
    assert monitor.last_ack > 40.0
    assert monitor.misses == 0
    assert guest.monitor.standing is None


def test_a_miss_after_an_answer_counts() -> None:
    """It is the last one that it must have answered since."""
    guest = hung()
    guest.agent_goes_on()
    guest.run(60)
    guest.agent_stops()
    guest.run(61.5)
    assert seen(guest) == (State.MISSING, False, False)


def test_one_that_boots_does_not_stand() -> None:
    """It has its time to answer; that it has not yet is no answer."""
    guest = hung()
    guest.boots(after=100.0)
    guest.run(42)
    assert seen(guest) == (State.WAITING, False, False)


def test_one_that_is_excused_does_not_stand() -> None:
    """Until it is over."""
    guest = hung()
    guest.happens(ev.Silenced("hint:req-1", "reboot", 60.0))
    assert seen(guest) == (State.SILENT, False, False)
    guest.run(70)
    assert seen(guest) == (State.SILENT, True, False)


def test_a_fault_whose_evidence_is_still_gathered_does_not_stand() -> None:
    """Nothing is asked for yet."""
    guest = lone(memory=KNOWN, interval=1.0, threshold=1)
    guest.run(20)
    guest.kernel_dies()
    while not guest.raised:
        guest.run(guest.host.now + 0.1)
    assert seen(guest) == (State.SILENT, False, False)


def test_one_that_was_accused_without_a_miss() -> None:
    """A panic is told of at once; a miss of long ago, which it answered, says nothing about that."""
    guest = lone(memory=KNOWN, interval=1.0)
    guest.run(20)
    guest.agent_stops()
    guest.run(21.5)
    guest.agent_goes_on()
    guest.run(30)
    assert seen(guest) == (State.ALIVE, False, True)
    guest.kernel_dies(told=True)
    guest.run(60)
    assert seen(guest) == (State.SILENT, True, False)


def test_qemu_that_died_stands_while_it_does_not_run() -> None:
    """Its domain is gone, and that is what is wrong; one that was stopped on purpose has no fault to stand."""
    died = lone(memory=WELL, interval=1.0)
    died.run(20)
    died.qemu_dies()
    assert seen(died) == (State.GONE, True, False)
    stopped = hung()
    stopped.is_destroyed()
    assert seen(stopped) == (State.GONE, False, False)


@pytest.mark.parametrize("well", [False, True])
def test_an_unhealthy_one_answers_and_stands(well: bool) -> None:
    """It says itself that it is bad: acknowledgements do not end that, its word does."""
    guest = lone(memory=WELL, interval=1.0, channel=Channel.APPLICATION, timeout=1.0, health_check=True)
    guest.application.health = Health(Status.UNHEALTHY)
    guest.run(20)
    assert seen(guest)[:2] == (State.ALIVE, True)
    if well:
        guest.application.health = Health(Status.HEALTHY)
        guest.run(40)
        assert seen(guest)[:2] == (State.ALIVE, False)
