"""What speaks against a recovery now: brake, hold, flapping, budget; on a host that exists only in here."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.scenario import KNOWN, Guest, Host, told
from vmhb_common.model.causes import Cause, Ground, rests_on
from vmhb_common.model.policy import Action, Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.brake import LAST, Member
from vmhb_worker.core.caution import KINDS, PACE, Caution, Limits, revives, to_be_asked_anew
from vmhb_worker.core.flapping import QUIET
from vmhb_worker.core.verdict import RULES, Recovery

FAST: dict[str, Any] = {"interval": 1.0, "timeout": 1.0, "threshold": 3}
USUAL = Limits()


def host(number: int = 1, limits: Limits = USUAL, projects: int = 2, **knobs: Any) -> tuple[Host, list[Guest]]:
    """So many guests that have been well for a while, at 200.0."""
    knobs.setdefault("action", Action.RECOVER_UNRESPONSIVE)
    made = Host(limits=limits)
    guests = [made.guest(f"vm-{n}", KNOWN, **knobs) for n in range(number)]
    for n, guest in enumerate(guests):
        guest.project = f"project-{n % projects}"
    made.run(200.0)
    for guest in guests:
        guest.transcript.clear()
    return made, guests


def asked(guest: Guest) -> list[float]:
    """When its recovery was asked for."""
    return [float(line.split()[0]) for line in guest.transcript if line.endswith(", recover")]


# -- the table ---------------------------------------------------------------------------------------------------------


def test_every_cause_has_its_row() -> None:
    """Whoever adds a cause decides what a host's trouble, and flapping, have to do with it."""
    assert set(KINDS) == set(Cause)


def test_positive_evidence_is_what_waiting_does_not_change() -> None:
    """Only QEMU's end and a panic that was told: all else that recovers may revive."""
    recovers = {rule.cause for rule in RULES if rule.recovery is not Recovery.NEVER}
    positive = {cause for cause in recovers if not revives(cause)}
    assert positive == {Cause.QEMU_FAILED, Cause.GUEST_PANICKED}
    assert positive == {cause for cause in recovers if rests_on(cause) in (Ground.GONE, Ground.TOLD)}


def test_who_cannot_answer_is_not_asked_anew() -> None:
    """It does not run, or it does answer, and says itself that it is not well."""
    never = {cause for cause in Cause if not to_be_asked_anew(cause)}
    assert never == {Cause.QEMU_FAILED, Cause.HOST_LOST_POWER, Cause.APPLICATION_UNHEALTHY}


def test_one_whose_host_went_down_is_left_to_nova_for_two_minutes() -> None:
    """Nova may be told to start it again by itself; and after the brake nobody is there to be asked."""
    caution = Caution(USUAL)
    assert caution.want("vm", "host_lost_power", 100.0) == "hold"
    assert caution.weigh("vm", 219.9) == "hold"
    assert caution.weigh("vm", 220.0) is None
    caution.look([], "late", 220.0)
    assert caution.weigh("vm", 220.0) == "brake"
    caution.look([], None, 221.0)
    assert caution.to_verify(221.0) == []
    assert caution.released(221.0) == [("vm", None)]


def test_a_cause_of_a_newer_worker_may_be_any() -> None:
    """Its guest is taken for one that may come back."""
    assert revives("eaten_by_mice")


# -- hold --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("interval", "hold"), [(1.0, 5.0), (10.0, 10.0), (60.0, 60.0), (3600.0, 60.0)])
def test_a_recovery_waits_for_the_hold(interval: float, hold: float) -> None:
    """One interval, 5 to 60 seconds, from when it would have been asked for."""
    caution = Caution(USUAL)
    caution.look([Member("a", None, None, interval)], None, 0.0)
    assert caution.want("vm", "guest_hung", 100.0) == "hold"
    assert caution.weigh("vm", 99.9 + hold) == "hold"
    assert caution.weigh("vm", 100.0 + hold) is None


def test_the_longest_interval_of_the_host_counts() -> None:
    """By then a host's trouble has shown in others, too."""
    caution = Caution(USUAL)
    caution.look([Member("a", None, None, 1.0), Member("a", None, None, 30.0)], None, 0.0)
    caution.want("vm", "guest_hung", 0.0)
    assert caution.weigh("vm", 29.9) == "hold"
    assert caution.weigh("vm", 30.0) is None


def test_a_dead_kernel_is_recovered_after_it() -> None:
    """At the defaults 10 s after the fault, at one second's interval 5 s after the verdict."""
    made, (guest,) = host()
    guest.kernel_dies()
    made.run(400.0)
    assert told(guest) == ["raised guest_hung, withheld: hold", "updated guest_hung, recover"]
    raised, recover = (float(line.split()[0]) for line in guest.transcript)
    assert recover - raised == pytest.approx(10.0, abs=0.01)
    made, (guest,) = host(**FAST)
    guest.kernel_dies()
    made.run(400.0)
    assert told(guest)[1:] == ["updated guest_hung, withheld: hold", "updated guest_hung, recover"]


def test_a_qemu_that_stands_still_has_a_minute() -> None:
    """Two guests of a host of two are no crowd: what covers a stall of theirs is this."""
    made, guests = host(2, **FAST)
    for guest in guests:
        guest.qemu_stops()
    made.run(245.0)
    for guest in guests:
        guest.qemu_goes_on()
    made.run(400.0)
    for guest in guests:
        assert told(guest)[-1].startswith("cleared")
        assert asked(guest) == []
    guests[0].qemu_stops()
    made.run(600.0)
    (at,) = asked(guests[0])
    assert 460.0 < at < 475.0


def test_positive_evidence_does_not_wait() -> None:
    """QEMU's end, and a panic once its own grace is over."""
    made, (guest,) = host(**FAST)
    guest.qemu_dies()
    assert told(guest) == ["raised qemu_failed, recover"]
    made, (guest,) = host(**FAST)
    guest.kernel_dies(told=True)
    made.run(215.0)
    assert asked(guest) == [pytest.approx(210.0, abs=1.1)]


def test_what_is_wrong_with_it_is_new_begins_anew() -> None:
    """A QEMU that goes on is no hung one any more: what its guest is then has a hold of its own."""
    made, (guest,) = host(**FAST)
    guest.qemu_stops()
    made.run(290.0)
    assert len(asked(guest)) == 1
    guest.qemu_goes_on(rtt=None)
    guest.kernel_dies()
    made.run(294.0)
    assert guest.fault is not None
    assert (guest.fault.recommended_action, guest.fault.withheld) == ("alarm", "hold")
    made.run(330.0)
    assert guest.fault.recommended_action == "recover"
    assert guest.fault.recovery_attempt == 1  # it is the same one: whoever has begun it does not begin again


# -- brake -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [45.0, 90.0, 200.0])
@pytest.mark.parametrize("number", [4, 12])
@pytest.mark.parametrize("knobs", [FAST, {}, {**FAST, "channel": Channel.APPLICATION}], ids=["1/1/3", "10/5/3", "app"])
def test_a_host_that_stalls_is_suspected_and_not_its_guests(number: int, seconds: float, knobs: dict[str, Any]) -> None:
    """All stand still together, and go on: no recovery is asked for, not even at the moment of going on."""
    made, guests = host(number, **knobs)
    for guest in guests:
        guest.qemu_stops()
        guest.application.hangs()
    made.run(200.0 + seconds)
    for guest in guests:
        guest.qemu_goes_on()
        guest.application.goes_on()
    made.run(200.0 + seconds + 200.0)
    assert [asked(guest) for guest in guests] == [[]] * number
    assert all(guest.fault is None for guest in guests)
    raised, cleared = made.transcript
    assert raised.endswith("raised host_suspect")
    assert cleared.endswith("cleared host_suspect")


@pytest.mark.parametrize("number", [4, 12])
@pytest.mark.parametrize("knobs", [FAST, {}], ids=["1/1/3", "10/5/3"])
def test_the_one_that_is_dead_among_them(number: int, knobs: dict[str, Any]) -> None:
    """It is recovered once the brake has ended, and it has been asked anew; it alone."""
    made, guests = host(number, **knobs)
    for guest in guests:
        guest.qemu_stops()
    made.run(290.0)
    guests[0].qemu_goes_on(rtt=None)
    guests[0].kernel_dies()
    for guest in guests[1:]:
        guest.qemu_goes_on()
    made.run(700.0)
    (at,) = asked(guests[0])
    ended = float(made.transcript[-1].split()[0])
    assert ended < at < ended + 15.0
    assert [asked(guest) for guest in guests[1:]] == [[]] * (number - 1)


def test_positive_evidence_passes_the_brake() -> None:
    """Whoever has no QEMU any more is not helped by waiting."""
    made, guests = host(4, **FAST)
    for guest in guests:
        guest.qemu_stops()
    made.run(220.0)
    guests[0].qemu_dies()
    assert told(guests[0])[-1] == "updated qemu_failed, recover"


def test_those_that_do_not_come_back_are_recovered_one_by_one() -> None:
    """After a quarter of an hour, one each minute; each is asked anew before."""
    made, guests = host(4, **FAST)
    for guest in guests:
        guest.kernel_dies()
    made.run(1100.0)
    assert [asked(guest) for guest in guests] == [[]] * 4
    made.run(1600.0)
    times = sorted(at for guest in guests for at in asked(guest))
    assert len(times) == 4
    assert all(later - earlier >= PACE for earlier, later in itertools.pairwise(times))


def test_who_answers_when_it_is_asked_anew_is_left_alone() -> None:
    """It came back unseen, since the silent are asked rarely."""
    made, guests = host(4)
    for guest in guests:
        guest.qemu_stops()
    made.run(290.0)
    guests[0].kernel_dies()
    for guest in guests:
        guest.qemu_goes_on(rtt=None if guest is guests[0] else 0.01)
    made.run(345.0)
    guests[0].rtt = 0.01  # no word of libvirt's, and the next challenge is half a minute away
    made.run(700.0)
    assert asked(guests[0]) == []
    assert guests[0].fault is None


def test_who_need_not_answer_is_not_asked_anew() -> None:
    """It is paused, by a user: nothing would come of it; it is asked when it goes on."""
    made, (guest,) = host(**FAST)
    guest.kernel_dies()
    made.run(220.0)
    guest.is_paused()
    before = len(guest.asks())
    guest.happens(ev.Verify())
    made.run(225.0)
    assert len(guest.asks()) == before
    guest.is_resumed()
    made.run(226.0)
    assert len(guest.asks()) > before


def test_a_host_that_is_doubtful_itself_recovers_nobody() -> None:
    """We, or libvirtd, were not to be trusted three times in a row; what is found is told all the same."""
    caution = Caution(USUAL)
    caution.look([], "the worker was late", 0.0)
    assert caution.suspect(0.0) == "the worker was late"
    assert caution.host_evidence(0.0) == {"awareness": {"value": "the worker was late", "age": 0.0}}
    assert caution.want("vm", "guest_hung", 0.0) == "brake"
    assert caution.want("gone", "qemu_failed", 0.0) is None
    caution.look([], None, 60.0)
    assert caution.suspect(60.0) is None
    assert caution.to_verify(60.0) == ["vm"]
    assert caution.released(60.0) == [("vm", 60.0), ("gone", None)]


def test_a_threshold_of_one_is_no_way_past_the_brake() -> None:
    """Its faults are raised at the first miss: what holds them until others are missed is the hold."""
    made, guests = host(4, interval=10.0, timeout=5.0, threshold=1)
    for guest in guests:
        guest.qemu_stops()
    made.run(245.0)
    for guest in guests:
        guest.qemu_goes_on()
    made.run(600.0)
    assert [asked(guest) for guest in guests] == [[]] * 4


# -- flapping and budget -----------------------------------------------------------------------------------------------


def flap(made: Host, guest: Guest, seconds: float, silent: float, well: float) -> None:
    """Its agent stops and goes on, again and again."""
    end = made.now + seconds
    while made.now < end:
        guest.agent_stops()
        made.run(made.now + silent)
        guest.agent_goes_on()
        made.run(made.now + well)


def test_what_flaps_is_one_fault() -> None:
    """From the fourth on, until five minutes without a miss; no more than twelve notifications for five minutes."""
    made, (guest,) = host(**FAST)
    flap(made, guest, 300.0, 10.0, 10.0)
    assert len(guest.raised) == 4
    assert len(guest.transcript) <= 12
    assert told(guest)[-1] == "raised flapping, withheld: flapping"
    assert len(asked(guest)) <= 3
    made.run(made.now + QUIET - 20.0)
    assert guest.fault is not None
    made.run(made.now + 21.0)
    assert guest.fault is None
    assert told(guest)[-1] == "cleared flapping: recovered"


def test_a_harder_cause_is_told_and_recovered_once() -> None:
    """Its QEMU dies: that is no flapping. Its kernel dies, twice: that asks for one recovery."""
    made, (guest,) = host(**FAST)
    flap(made, guest, 100.0, 10.0, 10.0)
    guest.qemu_dies()
    assert told(guest)[-1] == "updated qemu_failed, recover"
    made, (guest,) = host(**FAST)
    flap(made, guest, 100.0, 10.0, 10.0)
    before = len(asked(guest))
    for _ in range(2):
        guest.kernel_dies()
        made.run(made.now + 90.0)
        guest.boots(1.0)
        made.run(made.now + 90.0)
    assert len(asked(guest)) == before + 1
    assert guest.fault is not None
    assert guest.fault.cause == "guest_hung"
    assert (guest.fault.recommended_action, guest.fault.recovery_attempt) == ("alarm", 1)


def test_who_flaps_and_does_not_come_back_is_for_people() -> None:
    """The fourth time it stays silent, in a living kernel: nobody recovers it over and over."""
    made, (guest,) = host(**FAST)
    flap(made, guest, 60.0, 10.0, 10.0)
    guest.agent_stops()
    made.run(made.now + 400.0)
    assert guest.fault is not None
    assert (guest.fault.recommended_action, guest.fault.withheld) == ("alarm", "flapping")


def test_flapping_goes_on_after_a_restart() -> None:
    """Its fault says so."""
    made, (guest,) = host(**FAST)
    flap(made, guest, 100.0, 10.0, 10.0)
    assert guest.fault is not None
    again, (other,) = host(**FAST)
    again.ledger.load([replace(guest.fault, instance_uuid=other.uuid)], {}, again.now)
    flap(again, other, 60.0, 10.0, 10.0)
    assert asked(other) == []
    assert other.fault is not None


def test_a_budget_for_each_instance() -> None:
    """Three recoveries an hour; what is above says so, and waits until the first is an hour old."""
    made, (guest,) = host(limits=replace(USUAL, raises=10**9), **FAST)
    for _ in range(4):
        guest.qemu_dies()
        made.run(made.now + 10.0)
        guest.boots(1.0)
        made.run(made.now + 120.0)
    assert len(asked(guest)) == 3
    assert "raised qemu_failed, withheld: budget" in told(guest)
    guest.qemu_dies()
    made.run(3900.0)
    assert len(asked(guest)) == 4


def test_what_was_spent_is_forgotten_when_it_is_out_of_the_window() -> None:
    """What is remembered does not grow with the number of instances that ever were here."""
    caution = Caution(USUAL)
    for n in range(3):
        caution.asked("vm", "qemu_failed", float(n))
    assert caution.want("vm", "qemu_failed", 3600.0) is None
    caution.asked("other", "qemu_failed", 10.0)
    caution.tidy(3605.0)
    assert caution.remembers("other")
    assert not caution.remembers("vm")


# -- certainly well ----------------------------------------------------------------------------------------------------


def test_after_a_recovery_one_answer_is_not_enough() -> None:
    """No recovery is asked for from the first answer on; over it is after three, and two intervals."""
    made, (guest,) = host(**FAST)
    guest.kernel_dies()
    made.run(260.0)
    assert guest.fault is not None
    assert guest.fault.recommended_action == "recover"
    guest.boots(1.0)
    made.run(262.0)
    assert told(guest)[-2:] == ["answers again after its boot", "updated guest_hung, withheld: hold"]
    answered = float(guest.transcript[-1].split()[0])
    made.run(270.0)
    assert told(guest)[-1] == "cleared guest_hung: recovered"
    assert float(guest.transcript[-1].split()[0]) - answered >= 2.0


def test_silent_again_before_it_was_certain_is_the_same_fault() -> None:
    """Nobody is told that it is well and, a moment later, that it is not."""
    made, (guest,) = host()
    guest.kernel_dies()
    made.run(260.0)
    guest.boots(1.0)
    made.run(262.0)
    guest.kernel_dies()
    made.run(400.0)
    assert len(guest.raised) == 1
    assert guest.fault is not None
    assert guest.fault.sequence > 3


def test_one_that_was_not_recovered_is_over_at_its_first_answer() -> None:
    """As ever: an alarm for a guest that was slow for a moment ends with that moment."""
    made, (guest,) = host(**FAST)
    guest.agent_stops()
    made.run(204.5)
    guest.agent_goes_on()
    made.run(204.6)
    assert told(guest)[-1].startswith("cleared")


# -- whatever happens --------------------------------------------------------------------------------------------------

DEEDS = st.lists(
    st.tuples(
        st.sampled_from(
            ["qemu_stops", "qemu_goes_on", "agent_stops", "agent_goes_on", "kernel_dies", "qemu_dies", "boots", "doubt"]
        ),
        st.integers(0, 4),
        st.sampled_from([0.0, 0.5, 3.0, 11.0, 47.0, 130.0]),
    ),
    max_size=14,
)


def befalls(deeds: list[tuple[str, int, float]], knobs: dict[str, Any]) -> tuple[Host, list[Guest]]:
    """A host to which all that happens."""
    made, guests = host(5, projects=3, **knobs)
    for deed, which, seconds in deeds:
        guest = guests[which]
        if deed == "boots":
            guest.boots(1.0)
        elif deed == "doubt":
            made.doubtful = None if made.doubtful else "the worker was late"
        elif guest.runs:
            getattr(guest, deed)()
        made.run(made.now + seconds)
    return made, guests


@settings(max_examples=40, deadline=None)
@given(DEEDS, st.sampled_from([FAST, {"interval": 10.0, "timeout": 5.0}]))
def test_never_a_recovery_against_our_own_word(deeds: list[tuple[str, int, float]], knobs: dict[str, Any]) -> None:
    """Not of one that may revive while the host is suspect, nor of one that has answered since its last miss; and for
    one instance never more than its budget."""
    made, guests = befalls(deeds, knobs)
    made.run(made.now + 100.0)
    for guest in guests:
        times = asked(guest)
        assert all(sum(at - 3600.0 < then <= at for then in times) <= 3 for at in times), guest.transcript
    for at, guest, cause, answered in made.recommended:
        if revives(cause):
            assert not suspect_at(made, at), (at, guest.transcript, made.transcript)
            assert not answered, (at, guest.transcript)


@settings(max_examples=8, deadline=None)
@given(DEEDS)
def test_each_hold_and_each_brake_ends(deeds: list[tuple[str, int, float]]) -> None:
    """What was withheld for the host's sake is asked for, where it is still needed; and the host is trusted again."""
    made, guests = befalls(deeds, {"interval": 10.0, "timeout": 5.0})
    made.doubtful = None
    made.run(made.now + LAST + 200.0)
    for guest in guests:
        waits = guest.fault is not None and guest.fault.withheld in {"hold", "brake"} and guest.monitor.stands
        assert not waits, (guest.transcript, made.transcript)
    assert not made.ledger.of_host.open


def suspect_at(made: Host, at: float) -> bool:
    """Was the host suspect then, and its brake not yet letting them through one by one?"""
    open_since = None
    for line in made.transcript:
        when, what, _ = line.split()
        if float(when) > at:
            break
        open_since = float(when) if what == "raised" else None
    return open_since is not None and at < open_since + 900.0


def by_agent(guest: Guest) -> None:
    """Stopped for 10 s, well for 10 s."""
    guest.agent_stops()
    guest.host.run(guest.host.now + 10.0)
    guest.agent_goes_on()
    guest.host.run(guest.host.now + 10.0)


def by_port(guest: Guest) -> None:
    """Its port is closed, and opened by whoever does not answer before one comes that does."""
    guest.agent_exits()
    guest.host.run(guest.host.now + 2.0)
    guest.agent_starts(rtt=None)
    guest.host.run(guest.host.now + 10.0)
    guest.agent_goes_on()
    guest.host.run(guest.host.now + 8.0)


def by_health(guest: Guest) -> None:
    """Unhealthy for 8 s, healthy for 8 s."""
    guest.check = {"exited": True, "exitcode": 2}
    guest.host.run(guest.host.now + 8.0)
    guest.check = {"exited": True, "exitcode": 0}
    guest.host.run(guest.host.now + 8.0)


def by_panics(guest: Guest) -> None:
    """It panics after each boot, tells so, and is reset by its own watchdog."""
    guest.kernel_dies(told=True)
    guest.host.run(guest.host.now + 12.0)
    guest.boots(1.0)
    guest.host.run(guest.host.now + 10.0)


def by_hangs(guest: Guest) -> None:
    """Its kernel hangs after each boot, without a word, and somebody resets it."""
    guest.host.run(guest.host.now + 5.0)
    guest.kernel_dies()
    guest.host.run(guest.host.now + 15.0)
    guest.boots(1.0)
    guest.host.run(guest.host.now + 5.0)


@pytest.mark.parametrize("happens", [by_agent, by_port, by_health, by_panics, by_hangs], ids=lambda one: one.__name__)
def test_five_minutes_of_flapping(happens: Callable[[Guest], None]) -> None:
    """Whatever it is that comes and goes: four faults at most, of which the last stays open; twelve notifications (one
    more of a kernel, each of whose outages is told in two steps); and no more recoveries than its budget."""
    made, (guest,) = host(**FAST, health_check=happens is by_health)
    while made.now < 500.0:
        happens(guest)
    told_of = [line for line in guest.transcript if line.split()[1] in {"raised", "updated", "cleared"}]
    assert len(guest.raised) <= 4, told_of
    assert len(told_of) <= 12 + (happens is by_hangs), told_of
    assert len(asked(guest)) <= 3, told_of
    assert guest.fault is not None, told_of
    made.run(made.now + QUIET + 60.0)
    assert guest.fault is None, guest.transcript[-3:]


# -- what the operator decides meanwhile -------------------------------------------------------------------------------


def test_other_numbers_hold_from_then_on() -> None:
    """What was asked for counts: a smaller budget is used up by it, and a larger one has room left."""
    caution = Caution(replace(USUAL, recoveries=2, hold=(0.0, 0.0)))
    for at in (100.0, 200.0):
        assert caution.want("a", "guest_hung", at) is None
        caution.asked("a", "guest_hung", at)
        caution.unwant("a")
    assert caution.want("a", "guest_hung", 300.0) == "budget"
    caution.limit(replace(USUAL, recoveries=3, hold=(0.0, 0.0)))
    assert caution.weigh("a", 301.0) is None
    caution.asked("a", "guest_hung", 301.0)
    caution.unwant("a")
    assert caution.want("a", "guest_hung", 302.0) == "budget"  # three
    caution.limit(replace(USUAL, recoveries=1, hold=(0.0, 0.0)))
    assert caution.weigh("a", 303.0) == "budget"
    assert caution.weigh("a", 301.0 + USUAL.recovery_window) is None


def test_another_brake_trips_at_the_next_look() -> None:
    """And one that is on ends as it would have."""
    caution = Caution(replace(USUAL, brake_count=10))
    members = [Member("p" if n else "q", 100.0 if n < 3 else None, 101.0 if n == 3 else 99.0, 1.0) for n in range(4)]
    caution.look(members, None, 103.0)
    assert caution.suspect(103.0) is None
    caution.limit(USUAL)
    caution.look(members, None, 104.0)
    assert caution.suspect(104.0) is not None
    caution.limit(replace(USUAL, brake_count=10))
    caution.look(members, None, 105.0)
    assert caution.suspect(105.0) is not None
