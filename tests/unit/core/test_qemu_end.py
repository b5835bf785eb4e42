"""A QEMU whose process ends: a suspicion at once, a fault only by libvirt's word, in whatever order the two come."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.unit.core.scenario import KNOWN, Guest, lone, settled, told
from vmhb_common.model.policy import Action
from vmhb_worker.core import events as ev
from vmhb_worker.core.qemu_end import PATIENCE
from vmhb_worker.core.transitions import State

FAST: dict[str, Any] = {"interval": 1.0, "timeout": 1.0, "threshold": 3}
JOB = ev.Silenced("job", "libvirt job: save", 1e4)
ENDED = ev.QemuEnded()


def stopped(how: ev.Exit, detail: str) -> ev.Stopped:
    return ev.Stopped(how, detail)


#: What libvirt tells of an end that somebody wished for, in its order; the last is the end itself.
WISHES: dict[str, list[ev.Event]] = {
    "destroyed": [stopped(ev.Exit.INTENT, "destroyed")],
    "shut down": [ev.ShuttingDown(), stopped(ev.Exit.INTENT, "shutdown")],
    "saved": [JOB, ev.Paused("being saved", wish=True), ev.Unsilenced("job"), stopped(ev.Exit.INTENT, "saved")],
    "migrated away": [
        JOB,
        ev.Paused("handed over to another host", wish=True),
        ev.Unsilenced("job"),
        stopped(ev.Exit.MOVED, "migrated"),
    ],
    "reverted to a snapshot": [stopped(ev.Exit.INTENT, "from_snapshot"), ev.Restored(), ev.Resumed()],
    "restarted": [stopped(ev.Exit.INTENT, "destroyed"), ev.Booted()],
}
#: Seconds between two of them: at once, as it is on a host that is well, and on one that is slow.
GAPS = (0.0, 0.3, 1.2)
ORDERS = [
    (wish, place, gap) for (wish, events), gap in product(WISHES.items(), GAPS) for place in range(len(events) + 1)
]


def play(guest: Guest, events: list[ev.Event], place: int, gap: float) -> None:
    """Its QEMU ends before the event of this place."""
    for event in [*events[:place], ENDED, *events[place:]]:
        if event is ENDED:
            guest.process = False
        if isinstance(event, ev.Booted | ev.Restored):
            guest.process, guest.libvirt_says = True, None
        if isinstance(event, ev.Stopped):
            guest.libvirt_says = "shutoff"
        guest.happens(event)
        guest.run(guest.host.now + gap)
    guest.process = None if guest.monitor.state is State.GONE else True


@pytest.mark.parametrize("times", range(4))
@pytest.mark.parametrize(("wish", "place", "gap"), ORDERS)
def test_no_wish_is_a_fault_in_whatever_order_it_is_told(wish: str, place: int, gap: float, times: int) -> None:
    """More than 200 ends that somebody wished for, one of each order and more: nobody is accused."""
    guest = settled(**(FAST if times % 2 else {}))
    guest.run(100.0 + 0.37 * times)
    play(guest, WISHES[wish], place, gap)
    guest.run(guest.host.now + 4 * PATIENCE)
    assert guest.raised == []


def test_there_are_more_than_two_hundred_orders() -> None:
    """As many as were asked for."""
    assert 4 * len(ORDERS) >= 200


def test_it_is_suspected_at_once_and_told_by_libvirts_word() -> None:
    """The fault comes with STOPPED and its detail; until then nobody asks QEMU anything."""
    guest = settled(**FAST)
    guest.effects.clear()
    guest.qemu_ends()
    assert guest.monitor.told(100.0)["state"] == "missing"
    guest.run(101.2)
    assert guest.looks() == [] and guest.raised == []
    guest.qemu_dies()
    assert told(guest) == ["raised qemu_failed, recover"]
    guest.run(200.0)
    assert told(guest) == ["raised qemu_failed, recover"]


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("paused", [False, True])
def test_an_end_without_a_word_is_an_alarm_after_five_seconds(action: Action, paused: bool) -> None:
    """libvirt takes the domain for one that runs: nobody knows whose wish that was, so none is recovered for it."""
    guest = settled(action=action, **FAST)
    if paused:
        guest.happens(ev.Paused("paused", wish=True))
    guest.qemu_ends()
    guest.happens(ENDED)  # it is told once, whoever says it again
    withheld = "" if action is Action.ALARM else ", withheld: evidence"
    assert guest.run(104.9) == []
    guest.run(150.0)
    assert [line for line in guest.transcript if "raised" in line] == [
        f"{100.0 + PATIENCE + 0.005:.2f} raised qemu_failed{withheld}"
    ]
    assert guest.fault is not None and guest.fault.confidence == "medium"
    assert guest.fault.evidence["process"]["value"] is False
    assert len(guest.transcript) == 1
    guest.qemu_dies()
    recover = "" if action is Action.ALARM else ", recover"
    assert told(guest)[-1] == f"updated qemu_failed{recover}"
    assert len(guest.raised) == 1


def test_a_wish_that_is_told_late_takes_the_alarm_back() -> None:
    """It was none of its faults; and nothing has recovered."""
    guest = settled(**FAST)
    guest.qemu_ends()
    guest.run(110.0)
    guest.is_destroyed()
    assert told(guest) == ["raised qemu_failed, withheld: evidence", "cleared qemu_failed: superseded"]


def test_a_move_that_is_told_late_does_so_too() -> None:
    """As it clears any other fault."""
    guest = settled(**FAST)
    guest.qemu_ends()
    guest.run(110.0)
    guest.is_migrated_away()
    assert told(guest)[-1] == "cleared qemu_failed: moved"


@pytest.mark.parametrize("key", ["job", "passage", "hypervisor", "req-7"])
def test_nothing_is_told_while_somebody_is_at_it(key: str) -> None:
    """A save, a migration, an operation of Nova's, a libvirtd that is away: each has an end, and after that it is."""
    guest = settled(**FAST)
    guest.happens(ev.Silenced(key, "why", None))
    guest.looks_fail = "LookJob"
    guest.qemu_ends()
    guest.run(190.0)
    assert guest.raised == []
    guest.happens(ev.Unsilenced(key))
    guest.run(200.0)
    assert told(guest) == ["raised qemu_failed, withheld: evidence"]


@pytest.mark.parametrize("state", ["shutdown", "shutoff"])
def test_what_libvirt_knows_it_will_tell(state: str) -> None:
    """It ends what powers off by itself one after the other, and may be long at it. One whose event is lost is read."""
    guest = settled(**FAST)
    guest.libvirt_says = state
    guest.effects.clear()
    guest.qemu_ends()
    guest.run(130.0)
    assert guest.raised == []
    reads = sum(isinstance(effect, ev.ReadAgain) for _, effect in guest.effects)
    assert bool(reads) is (state == "shutoff")


@pytest.mark.parametrize("seen", [True, None])
def test_another_qemu_that_runs_it_is_none_that_has_ended(seen: bool | None) -> None:
    """What was told may be of the one before; one that cannot be seen is not known to have ended."""
    guest = settled(**FAST)
    guest.happens(ENDED)
    guest.process = seen
    guest.run(200.0)
    assert guest.raised == []
    assert guest.monitor.told(200.0)["state"] == "alive"


def test_a_libvirtd_that_does_not_say_is_asked_again() -> None:
    """Unknown is neither dead nor well."""
    guest = settled(**FAST)
    guest.looks_fail = "LookState"
    guest.qemu_ends()
    guest.run(130.0)
    assert not any("qemu_failed" in line for line in guest.transcript)
    guest.looks_fail = ""
    guest.run(140.0)
    assert any("qemu_failed" in line for line in guest.transcript)


def test_an_early_look_of_another_kind_of_trouble_tells_nothing() -> None:
    """libvirt has its five seconds, whoever looks meanwhile."""
    guest = lone(memory=KNOWN, **FAST)
    guest.run(100.0)
    guest.agent_stops()
    guest.run(102.5)
    guest.qemu_ends()
    guest.happens(ev.Looked(ev.LookState(), ev.State("running", "booted", False)))
    guest.run(104.0)
    assert not any("qemu_failed" in line for line in guest.transcript)


def test_of_one_that_is_gone_it_is_no_news() -> None:
    """libvirt was the first to say so; and the next boot has a QEMU of its own."""
    guest = settled(**FAST)
    guest.is_destroyed()
    guest.qemu_ends()
    guest.process = True
    guest.boots(after=2.0)
    guest.run(130.0)
    assert guest.raised == []
    assert guest.monitor.told(130.0)["state"] == "alive"
