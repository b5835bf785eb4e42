"""Many QEMUs hang at once: each is named, and the looks that they would never give back are few."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.scenario import BLIND_LOOKS_OUT, KNOWN, LOOKS_OUT, Guest, Host, told
from vmhb_common.model.policy import Action, Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.verdict import OCCUPIED_IS_HUNG

FAST: dict[str, Any] = {"interval": 1.0, "timeout": 1.0, "threshold": 3}
USUAL: dict[str, Any] = {"interval": 10.0, "timeout": 5.0, "threshold": 3}
#: When a stopped QEMU is named at the latest (seconds), where it takes longer than to reach the threshold.
NAMED = 15.0
STOPPED_AT = 103.0
POLICIES = pytest.mark.parametrize(
    "policy",
    [USUAL, FAST, {**USUAL, "channel": Channel.APPLICATION}, {**FAST, "channel": Channel.APPLICATION}],
    ids=["10/5/3", "1/1/3", "10/5/3 application", "1/1/3 application"],
)


def crowd(stopped: int, living: int, policy: dict[str, Any], **what: Any) -> tuple[Host, list[Guest], list[Guest]]:
    """Some whose QEMU stops at 103, and some that live. what: true of all of them."""
    host = Host()
    guests = [host.guest(f"vm{number}", KNOWN, action=Action.RECOVER, **policy) for number in range(stopped + living)]
    for guest in guests:
        for name, value in what.items():
            setattr(guest, name, value)
    host.run(STOPPED_AT)
    for guest in guests:
        guest.transcript.clear()
        guest.taken.clear()
    for guest in guests[:stopped]:
        guest.application.hangs()
        guest.qemu_stops()
    return host, guests[:stopped], guests[stopped:]


def go_on(guests: list[Guest]) -> None:
    for guest in guests:
        guest.qemu_goes_on()
        guest.application.goes_on()


def bound(policy: dict[str, Any]) -> float:
    """When all of them must have a fault."""
    return float(STOPPED_AT + policy["threshold"] * policy["interval"] + policy["timeout"])


@POLICIES
@pytest.mark.parametrize("state", ["T", "D"])
def test_twenty_stopped_qemus_of_thirty_are_all_named(policy: dict[str, Any], state: str) -> None:
    """None of them is asked anything that may block, nobody else is accused, and no place is lost."""
    host, stopped, living = crowd(20, 10, policy, runs_on=state == "D")
    host.run(max(bound(policy), STOPPED_AT + NAMED))
    for guest in stopped:
        assert guest.fault is not None
        assert guest.fault.cause == "qemu_hung"
        assert guest.fault.recommended_action == "alarm"
        assert guest.fault.evidence["main_thread"]["value"] >= OCCUPIED_IS_HUNG
        assert guest.fault.evidence["occupied"]["value"] == 0.0
        assert guest.fault.evidence["guest_runs"]["value"] is (state == "D")
        assert guest.taken == []
    host.run(STOPPED_AT + 300.0)
    assert {guest.fault.cause for guest in stopped if guest.fault} == {"qemu_hung"}
    assert [told(guest) for guest in living if guest.transcript] == []
    assert [guest.taken for guest in stopped if guest.taken] == []
    go_on(stopped)
    host.run(STOPPED_AT + 400.0)
    assert host.ledger.open == {}


@POLICIES
@pytest.mark.parametrize("seconds", [2.0, 7.0, 30.0, 50.0])
def test_twenty_that_stand_still_for_a_while_are_cleared(policy: dict[str, Any], seconds: float) -> None:
    """And never recovered: they went on before that."""
    host, stopped, living = crowd(20, 10, policy)
    host.run(STOPPED_AT + seconds)
    go_on(stopped)
    host.run(STOPPED_AT + seconds + 100.0)
    assert host.ledger.open == {}
    assert host.recommended == []
    assert [told(guest) for guest in living if guest.transcript] == []
    assert {guest.period for guest in (*stopped, *living)} == {10}


@POLICIES
def test_of_those_that_cannot_be_seen_as_many_are_named_as_have_a_place(policy: dict[str, Any]) -> None:
    """The others are silent, and it is said why no more is known; half of all places are left for the living."""
    host, stopped, living = crowd(20, 10, policy, unseen=True)
    host.run(STOPPED_AT + 120.0)
    causes = [guest.fault.cause for guest in stopped if guest.fault]
    assert sorted(causes) == ["guest_silent"] * (20 - BLIND_LOOKS_OUT) + ["qemu_hung"] * BLIND_LOOKS_OUT
    silent = [guest.fault for guest in stopped if guest.fault and guest.fault.cause == "guest_silent"]
    assert all("no free place" in fault.evidence["main_thread"]["reason"] for fault in silent)
    assert all(fault.recommended_action == "alarm" for fault in silent)
    assert sum(bool(guest.taken) for guest in stopped) == BLIND_LOOKS_OUT < LOOKS_OUT
    assert [told(guest) for guest in living if guest.transcript] == []
    go_on(stopped)
    host.run(STOPPED_AT + 300.0)
    assert host.ledger.open == {}


@POLICIES
def test_a_living_guest_is_looked_at_beside_those_that_hang(policy: dict[str, Any]) -> None:
    """Whose kernel dies meanwhile is found dead by its balloon, as if nobody hung."""
    host, stopped, living = crowd(20, 10, policy)
    host.run(STOPPED_AT + 60.0)
    for guest in living[:4]:
        guest.kernel_dies()
        guest.application.hangs()
    host.run(STOPPED_AT + 160.0)
    assert [guest.fault.cause for guest in living if guest.fault] == ["guest_hung"] * 4
    assert {guest.fault.cause for guest in stopped if guest.fault} == {"qemu_hung"}


def test_who_was_found_hung_before_it_could_be_asked_is_recovered_when_it_has_been_asked_in_vain() -> None:
    """There was no place to ask it: its host said so. After a minute that is enough, whoever has been asked since."""
    host, stopped, _ = crowd(20, 10, USUAL)
    host.run(STOPPED_AT + 300.0)
    assert {entry[1] for entry in host.recommended} == set(stopped)
    for guest in stopped:
        *first, last = [line.split(" ", 1)[1] for line in guest.transcript]
        assert last == "updated qemu_hung, recover"
        assert all(line.endswith(", withheld: evidence") for line in first)


def test_a_kernel_that_dies_where_nobody_has_a_place_to_ask_its_agent() -> None:
    """Its host is asked instead; when there is a place, its agent is."""
    host, stopped, living = crowd(20, 10, USUAL)
    for guest in living[:2]:
        guest.kernel_dies()
    host.run(STOPPED_AT + 200.0)
    assert [guest.fault.cause for guest in living if guest.fault] == ["guest_hung"] * 2
    assert {guest.fault.cause for guest in stopped if guest.fault} == {"qemu_hung"}


def test_a_qemu_that_goes_on_with_a_dead_kernel_is_named_anew() -> None:
    """The inquiry goes on where it was: what follows is the kernel's own silence."""
    host, stopped, _ = crowd(20, 0, FAST)
    host.run(STOPPED_AT + 30.0)
    for guest in stopped:
        guest.qemu_goes_on(rtt=None)
        guest.kernel_dies()
    host.run(STOPPED_AT + 60.0)
    assert {guest.fault.cause for guest in stopped if guest.fault} == {"guest_hung"}


def test_the_watch_of_a_hung_qemu_asks_only_what_never_blocks() -> None:
    """For as long as it hangs, twice a second at most."""
    host, (guest,), _ = crowd(1, 3, FAST)
    host.run(STOPPED_AT + 600.0)
    looks = guest.looks()
    blocking = [look for look in looks if isinstance(look, ev.LookJob | ev.LookVitals | ev.SetBalloonPeriod)]
    assert blocking == [look for _, look in guest.taken]
    assert guest.taken == []
    assert len(looks) <= 2 * 600.0 + 10
