"""The faults of a host itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from tests.unit.core.scenario import settled
from tests.unit.core.test_witnesses import FAST, starves
from vmhb_common.model.fault import Change, Fault
from vmhb_common.model.policy import Action
from vmhb_worker.core.host_faults import NAMED, STARVED_SETTLES, HostFaults

WALL = datetime(2026, 5, 4, tzinfo=timezone.utc)


def book() -> HostFaults:
    """Nothing is open."""
    ids = iter(f"fault-{number}" for number in range(1, 10))
    return HostFaults("compute-1", lambda: next(ids))


def changes(found: list[tuple[Change, Fault]]) -> list[str]:
    """As words."""
    return [f"{change.name.lower()} {fault.cause}" for change, fault in found]


def test_the_starved_are_told_of_their_host_once() -> None:
    """One fault of the host, however many they are, until none has been starved for long enough."""
    faults = book()
    for number in range(NAMED + 1):
        faults.starves(f"guest-{number:02}")
    (change, fault), *others = faults.see(None, {}, 10.0, WALL)
    assert (change, others) == (Change.RAISED, [])
    assert (fault.cause, fault.severity, fault.instance_uuid, fault.host) == ("starved", "warning", None, "compute-1")
    assert fault.reason.startswith("11 of its instances are to run")
    assert "guest-09 …" in fault.reason
    assert "guest-10" not in fault.reason
    assert fault.evidence["starved"]["value"] == 11
    assert faults.told() == [f"this host does not let all of its instances run: {fault.reason}"]
    for number in range(NAMED):
        faults.starves_no_more(f"guest-{number:02}", 20.0)
    assert faults.see(None, {}, 500.0, WALL) == []  # one still is
    faults.starves_no_more("guest-10", 500.0)
    faults.starves_no_more("guest-10", 550.0)  # said twice
    assert faults.see(None, {}, 500.0 + STARVED_SETTLES - 1.0, WALL) == []
    ((change, fault),) = faults.see(None, {}, 500.0 + STARVED_SETTLES, WALL)
    assert (change, fault.reason) == (Change.CLEARED, "its instances are let run again")


def test_both_faults_stand_beside_each_other() -> None:
    """A host may be suspect, and short of processors, too."""
    faults = book()
    faults.starves("a")
    found = faults.see("two fell silent together", {"suspects": {"value": 2, "age": 0.0}}, 1.0, WALL)
    assert changes(found) == ["raised host_suspect", "raised starved"]
    assert faults.reminded("fault-2", WALL + timedelta(seconds=60)).sequence == 2  # type: ignore[union-attr]
    assert faults.reminded("unknown", WALL) is None
    assert changes(faults.see(None, {}, 2.0, WALL)) == ["cleared host_suspect"]


def test_what_an_earlier_life_left_open_ends_where_nobody_is_starved_any_more() -> None:
    """A worker that has just started finds them again within a threshold; nothing is told in between."""
    was, faults = book(), book()
    was.starves("a")
    ((_, fault),) = was.see(None, {}, 1.0, WALL)
    assert faults.load(fault, 1000.0)
    assert faults.see(None, {}, 1000.0 + STARVED_SETTLES - 1.0, WALL) == []
    assert changes(faults.see(None, {}, 1000.0 + STARVED_SETTLES, WALL)) == ["cleared starved"]
    assert not faults.load(replace(fault, cause="worker_lost"), 0.0)
    assert not faults.load(replace(fault, instance_uuid="a"), 0.0)


@pytest.mark.parametrize("throttled", [None, 0.0, 0.4, 0.5, 0.95])
def test_a_quota_of_its_own_is_the_instances_affair(throttled: float | None) -> None:
    """Half of what it waited for, or more. Where that is not known, or less, its host has to be looked at."""
    guest = settled(action=Action.RECOVER_UNRESPONSIVE, **FAST)
    starves(guest, throttled)
    guest.run(200.0)
    own = throttled is not None and throttled > 0.95 / 2
    of_host = [fault.cause for fault in guest.host.ledger.of_host.open.values()]
    assert of_host == ([] if own else ["starved"])
    assert (guest.fault.cause if guest.fault else None) == ("starved" if own else None)
    assert guest.host.recommended == []


def test_a_guest_that_dies_while_it_is_starved_is_found_dead() -> None:
    """What was told of its host ends with that: it has a fault of its own."""
    guest = settled(action=Action.RECOVER, **FAST)
    starves(guest, throttled=None)
    guest.run(200.0)
    assert guest.fault is None
    guest.does, guest.delayed = (lambda _: (0, 0)), 0.0
    guest.run(200.0 + 2 * STARVED_SETTLES)
    assert guest.fault is not None
    assert guest.fault.cause == "guest_hung"
    assert guest.host.ledger.of_host.open == {}
