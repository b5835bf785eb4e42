"""Recoveries that were withheld: nobody is forgotten, nobody is asked for who was not asked anew, and nothing is told
without end. Each is a sequence that went wrong once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.core.scenario import KNOWN, START, Guest, Host, told
from tests.unit.core.test_caution import FAST, USUAL, asked, host
from vmhb_common.model.fault import Resolution
from vmhb_common.model.policy import Action, Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.doubt import AWAY, QUIET, just_connected
from vmhb_worker.core.findings import standing_of
from vmhb_worker.core.instance_state import Timing

HEALTH: dict[str, Any] = {"interval": 10.0, "timeout": 5.0, "threshold": 3, "health_check": True}
UNHEALTHY = {"exited": True, "exitcode": 2}


def one_dead(**knobs: Any) -> tuple[Host, list[Guest]]:
    """Four that stalled for 90 s, of which the first is dead, at 291.0: its recovery waits for the brake."""
    made, guests = host(4, **{**FAST, **knobs})
    for guest in guests:
        guest.qemu_stops()
    made.run(290.0)
    guests[0].qemu_goes_on(rtt=None)
    guests[0].kernel_dies()
    for guest in guests[1:]:
        guest.qemu_goes_on()
    made.run(294.0)
    assert guests[0].fault is not None
    assert guests[0].fault.withheld == "brake"
    return made, guests


def restarted(made: Host, guests: list[Guest]) -> tuple[Host, list[Guest]]:
    """Another worker's life, which knows what this one has written down; the guests are as they were."""
    again = Host(at=made.now + 5.0, limits=USUAL)
    wall = START + timedelta(seconds=again.now)
    faults = [*made.ledger.open.values(), *made.ledger.of_host.open.values()]
    again.ledger.load(faults, {}, again.now, wall)
    news = []
    for guest in guests:
        memory = replace(guest.monitor.memory(made.now), standing=standing_of(guest.fault, wall))
        policy = guest.monitor.policy
        knobs = {name: getattr(policy, name) for name in ("interval", "timeout", "threshold", "action")}
        news.append(again.guest(guest.uuid, memory, **knobs))
        news[-1].rtt, news[-1]._kernel_until = guest.rtt, guest._kernel_until
    return again, news


@pytest.mark.parametrize("number", [4, 12])
def test_who_cannot_be_seen_is_not_well(number: int) -> None:
    """libvirt is away for two minutes, amid the stall of all: that ends no brake."""
    made, guests = host(number, projects=4)
    for guest in guests:
        guest.qemu_stops()
    made.run(300.0)
    for guest in guests:
        guest.happens(AWAY)
    made.run(420.0)
    for guest in guests:
        guest.happens(just_connected(guest.monitor.policy, made.now))
    made.run(500.0)
    for guest in guests:
        guest.qemu_goes_on()
    made.run(800.0)
    assert [asked(guest) for guest in guests] == [[]] * number
    assert [line.split()[1] for line in made.transcript] == ["raised", "cleared"]


def test_a_restart_forgets_no_recovery_that_the_brake_held_back() -> None:
    """Its verdict is the same as before, so nothing would be told of it again."""
    made, guests = one_dead()
    again, (dead, *_) = restarted(made, guests)
    again.run(again.now + 200.0)
    assert len(asked(dead)) == 1


def test_nor_one_beyond_its_budget() -> None:
    """A new life counts anew: it is the worker's own count, and a second guard."""
    made, (guest,) = host(limits=replace(USUAL, recoveries=1, raises=10**9), **FAST)
    guest.qemu_dies()
    guest.boots(1.0)
    made.run(260.0)
    guest.kernel_dies()
    made.run(500.0)
    assert guest.fault is not None
    assert guest.fault.withheld == "budget"
    again, (dead,) = restarted(made, [guest])
    again.run(again.now + 200.0)
    assert len(asked(dead)) == 1


def test_one_that_answers_unhealthily_need_not_be_silent() -> None:
    """It was found while the host was suspect. Asked anew it would answer, and is as unhealthy."""
    made, (guest,) = host(**HEALTH)
    made.doubtful = "the worker was late"
    guest.check = UNHEALTHY
    made.run(300.0)
    assert asked(guest) == []
    made.doubtful = None
    made.run(320.0)
    assert len(asked(guest)) == 1


@pytest.mark.parametrize("how", ["busy", "given_up", "watchdog"])
def test_whoever_cannot_be_asked_is_judged_by_the_host(how: str) -> None:
    """Somebody else's command holds its agent, libvirt gave up on it, its watchdog has paused it: its kernel is dead
    all the same, the host has been asked since, and it is not withheld for ever."""
    made, guests = one_dead()
    if how == "watchdog":
        guests[0].gets_stuck(ev.WatchdogFired("pause"))
        guests[0].gets_stuck(ev.Stuck(guests[0].monitor.case.standing.cause))  # type: ignore[union-attr]
    else:
        setattr(guests[0], how, True)
    made.run(600.0)
    assert len(asked(guests[0])) == 1


def test_where_we_are_not_connected_nobody_was_asked() -> None:
    """The application is well, and our own connection to its channel was lost amid the stall."""
    made, guests = host(4, **FAST, channel=Channel.APPLICATION)
    for guest in guests:
        guest.qemu_stops()
        guest.application.hangs()
    made.run(245.0)
    guests[0].happens(ev.ChannelDown("QEMU closed the connection"))
    for guest in guests:
        guest.qemu_goes_on()
        guest.application.goes_on()
    made.run(600.0)
    assert [asked(guest) for guest in guests] == [[]] * 4


def test_the_first_in_line_does_not_keep_the_others_from_their_turn() -> None:
    """It is paused by its user, and cannot be asked; the others are let through, a minute apart."""
    made, guests = host(4, **FAST)
    for guest in guests:
        guest.kernel_dies()
    made.run(300.0)
    guests[0].is_paused()
    made.run(1500.0)
    assert asked(guests[0]) == []
    times = sorted(at for guest in guests[1:] for at in asked(guest))
    assert len(times) == 3
    assert times[-1] < 1300.0


def test_one_project_that_stays_silent_does_not_hold_the_brake() -> None:
    """All have stalled for a moment; one tenant's stay silent. Another's guest, dead later, is recovered soon."""
    made, guests = host(12, projects=3, **FAST)
    for guest in guests:
        guest.agent_stops()
    made.run(215.0)
    for number, guest in enumerate(guests):
        if number % 3:
            guest.agent_goes_on()
    made.run(400.0)
    guests[1].kernel_dies()
    made.run(480.0)
    assert len(asked(guests[1])) == 1


def test_a_hold_that_ran_out_during_a_silence_is_not_over_with_it() -> None:
    """What was found before is found anew: it may have come back meanwhile."""
    made, (guest,) = host()
    guest.qemu_stops()
    made.run(240.0)
    guest.happens(ev.Silenced("snapshot", "being snapshot", made.now + 100.0))
    made.run(330.0)
    guest.qemu_goes_on(rtt=3.0)
    made.run(600.0)
    assert asked(guest) == []
    assert guest.fault is None


def test_silent_again_after_a_recovery_is_another_attempt() -> None:
    """Reporters act once for each number."""
    made, (guest,) = host(**FAST)
    guest.kernel_dies()
    made.run(260.0)
    guest.boots(1.0)
    made.run(262.0)
    guest.kernel_dies()
    made.run(400.0)
    assert guest.fault is not None
    assert (guest.fault.recommended_action, guest.fault.recovery_attempt) == ("recover", 2)


def test_what_answers_is_not_asked_for_by_a_reminder() -> None:
    """It did not run when the last one was due, has booted since, and answers; whether that lasts is waited for."""
    made, (guest,) = host(interval=200.0, timeout=5.0, threshold=3)
    guest.kernel_dies()
    made.run(1200.0)
    assert len(asked(guest)) == 1
    wall = START + timedelta(seconds=made.now)
    made.ledger._interval = 1.0
    made.ledger._told(guest.fault.fault_id, guest.uuid, made.now - 10.0)  # type: ignore[union-attr]
    made.ledger.remind(made.now, wall, lambda _: True)
    guest.boots(1.0)
    made.run(1410.0)
    assert guest.monitor.answered_since_miss
    (entry,) = made.ledger.remind(made.now, wall, lambda _: False)
    assert entry.fault.recommended_action == "alarm"


def test_flapping_takes_each_harder_cause_once() -> None:
    """Its kernel hangs, and then its QEMU dies: that is another matter, and another recovery. A second time is not."""
    made, (guest,) = host(**FAST)
    for _ in range(5):
        guest.agent_stops()
        made.run(made.now + 10.0)
        guest.agent_goes_on()
        made.run(made.now + 10.0)
    before = len(asked(guest))
    guest.kernel_dies()
    made.run(made.now + 90.0)
    assert len(asked(guest)) == before + 1
    guest.qemu_dies()
    assert len(asked(guest)) == before + 2
    guest.boots(1.0)
    made.run(made.now + 20.0)
    guest.qemu_dies()
    made.run(made.now + 20.0)
    assert len(asked(guest)) == before + 2


def panics(guest: Guest) -> None:
    """It says that it saves a crash dump, and goes on answering."""
    guest.happens(ev.Panicked(saves_dump=True))
    guest.host.run(guest.host.now + 1.0)


def falls_silent(guest: Guest) -> None:
    """For 5 s, and answers for 6 s, unhealthily."""
    guest.agent_stops()
    guest.host.run(guest.host.now + 5.0)
    guest.agent_goes_on()
    guest.host.run(guest.host.now + 6.0)


@pytest.mark.parametrize("happens", [panics, falls_silent], ids=lambda one: one.__name__)
def test_causes_that_take_turns_are_flapping(happens: Callable[[Guest], None]) -> None:
    """An unhealthy guest that does this besides has one fault, and changes it with each word of its."""
    made = Host(limits=USUAL)
    guest = made.guest("vm", KNOWN, **FAST, health_check=True, action=Action.RECOVER_UNRESPONSIVE)
    made.run(100.0)
    guest.check = UNHEALTHY
    made.run(120.0)
    guest.transcript.clear()
    while made.now < 420.0:
        happens(guest)
    assert len([line for line in told(guest) if line.split()[0] in {"raised", "updated", "cleared"}]) <= 12
    assert len(asked(guest)) <= 3


def test_who_is_not_watched_any_more_is_not_remembered() -> None:
    """It flapped, and is no longer monitored: what was known of it is gone, also where it comes back."""
    made, (guest,) = host(**FAST)
    for _ in range(5):
        falls_silent(guest)
    assert made.caution.flaps.flaps(guest.uuid)
    wall = START + timedelta(seconds=made.now)
    made.ledger.acquit(guest.uuid, Resolution.UNMONITORED, now=made.now, wall=wall, gone=True)
    assert not made.caution.flaps.flaps(guest.uuid)


def test_whoever_has_answered_since_is_not_silent() -> None:
    """Whatever was found before."""
    made, (guest,) = host(**FAST)
    guest.agent_stops()
    made.run(205.0)
    guest.happens(ev.Verify())
    made.run(225.0)
    assert guest.monitor.silent_since(205.0, made.now)
    guest.agent_goes_on()
    made.run(245.0)
    assert not guest.monitor.silent_since(205.0, made.now)


def test_in_spite_of_doubt_its_kernel_is_asked_once_more() -> None:
    """The host is quiet again, and what its balloon said is from amid the doubt: it is asked anew before a recovery."""
    made = Host(limits=USUAL)
    guest = made.guest("vm", KNOWN, Timing(probe_interval=300.0), **FAST, action=Action.RECOVER)
    made.run(100.0)
    guest.kernel_dies()
    while made.now < 130.0:
        guest.happens(ev.Voided("the worker was late", lasted=0.6))
        made.run(made.now + 0.7)
    made.run(130.0 + QUIET + 60.0)
    assert guest.fault is not None
    assert (guest.fault.cause, guest.fault.withheld) == ("guest_hung", "hold")
    made.run(800.0)
    assert len(asked(guest)) == 1


def test_a_policy_that_asks_for_more_while_it_is_dead() -> None:
    """Nothing about the guest has changed, and its recovery is asked for from now on; not where it asks for less."""
    made, (guest,) = host(**FAST, action=Action.ALARM)
    guest.kernel_dies()
    made.run(300.0)
    assert asked(guest) == []
    guest.happens(ev.PolicyChanged(replace(guest.monitor.policy, action=Action.RECOVER)))
    made.run(320.0)
    assert len(asked(guest)) == 1
    guest.happens(ev.PolicyChanged(replace(guest.monitor.policy, action=Action.ALARM)))
    made.run(330.0)
    assert guest.fault is not None
    assert guest.fault.recommended_action == "alarm"


def test_the_same_of_one_that_is_unhealthy() -> None:
    """It answers, so nobody would judge it again."""
    made, (guest,) = host(**HEALTH, action=Action.ALARM)
    guest.check = UNHEALTHY
    made.run(300.0)
    assert guest.fault is not None
    guest.happens(ev.PolicyChanged(replace(guest.monitor.policy, action=Action.RECOVER_UNRESPONSIVE)))
    made.run(320.0)
    assert len(asked(guest)) == 1
