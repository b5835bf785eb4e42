"""A guest whose kernel tells that it panics: how long it is left alone, and when its recovery is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.scenario import KNOWN, Guest, changed, lone, settled, told
from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Action
from vmhb_worker.core import events as ev
from vmhb_worker.core.instance_state import Panic, Standing, Timing
from vmhb_worker.core.lifecycle import event_of, event_of_state

_event = event_of("crashed", "crashloaded")
assert _event is not None
CRASHLOADED = _event
FAST: dict[str, Any] = {"interval": 1.0, "timeout": 1.0, "threshold": 3}


@pytest.mark.parametrize("knobs", [FAST, {}, {"interval": 30.0, "timeout": 30.0}])
@pytest.mark.parametrize("action", [Action.RECOVER, Action.RECOVER_UNRESPONSIVE])
@pytest.mark.parametrize("grace", [10.0, 100.0, 600.0])
def test_the_grace_after_a_panic_holds_whatever_its_silence_would_say(
    knobs: dict[str, float], action: Action, grace: float
) -> None:
    """The guest was given that time: that its threshold is reached before is told, and asks for nothing yet."""
    guest = settled(timing=Timing(panic_grace=grace), action=action, **knobs)
    guest.kernel_dies(told=True)
    guest.run(100.0 + grace - 1.0)
    assert not any("recover" in line for line in guest.transcript)
    guest.run(100.0 + grace + 1.0)
    assert told(guest)[-1].endswith("guest_panicked, recover")
    assert len(guest.raised) == 1


@pytest.mark.parametrize("knobs", [FAST, {}])
@pytest.mark.parametrize("state", ["alive", "missing", "silent"])
def test_a_crash_dump_is_not_cut_off(knobs: dict[str, float], state: str) -> None:
    """CRASHLOADED: the guest saves its dump, for minutes, and reboots by itself. Told at once, and left alone."""
    guest = settled(**knobs)
    first = 100.0
    if state != "alive":
        guest.agent_stops()
        first = guest.host.now + (2.5 if state == "missing" and knobs else 20.0 if state == "missing" else 50.0)
        guest.run(first)
        assert guest.monitor.state.value == state
    guest.kernel_dies()
    guest.happens(CRASHLOADED)
    assert told(guest)[-1].endswith("guest_panicked, withheld: hold")
    assert guest.fault is not None
    assert guest.fault.evidence["panic"]["value"] == "crash_dump"
    assert "crash_dump_grace" in guest.fault.reason
    guest.run(first + 400.0)
    guest.boots(after=60.0)
    guest.run(first + 900.0)
    assert not any("recover," in line or line.endswith(", recover") for line in guest.transcript)
    assert told(guest)[-1] == "cleared guest_panicked: recovered"


def test_a_crash_dump_that_never_ends() -> None:
    """Recovery is asked for once its time is over."""
    guest = settled(timing=Timing(crash_dump_grace=600.0))
    guest.kernel_dies()
    guest.happens(CRASHLOADED)
    guest.run(699.0)
    assert not any("recover" in line for line in guest.transcript)
    guest.run(701.0)
    assert guest.transcript[-1] == "700.00 updated guest_panicked, recover"


def test_a_panic_is_told_before_its_dump() -> None:
    """What is known later holds: the dump has its time from then on; a mere panic after it takes none away."""
    guest = settled(**FAST)
    guest.kernel_dies(told=True)
    guest.run(105.0)
    guest.happens(ev.Panicked(saves_dump=True))
    guest.happens(ev.Panicked())
    guest.run(704.0)
    assert not any("recover" in line for line in guest.transcript)
    guest.run(706.0)
    assert told(guest)[-1] == "updated guest_panicked, recover"


def restarted(ago: float, dead: bool, *, saves_dump: bool = True) -> Guest:
    """The worker was away; the fault of its guest, which told of its panic so long ago, is open. Now is 0.0."""
    standing = Standing(Cause.GUEST_PANICKED, held=True, panic=Panic(ago, saves_dump))
    guest = lone(memory=changed(KNOWN, standing=standing), action=Action.RECOVER)
    if dead:
        guest.kernel_dies()
    return guest


@pytest.mark.parametrize("saves_dump", [True, False])
def test_the_grace_survives_the_workers_restart(saves_dump: bool) -> None:
    """It is known from the fault, and goes on; when it is over, the guest has been asked first: it may live again."""
    guest = restarted(300.0, dead=True, saves_dump=saves_dump)
    ends = 300.0 if saves_dump else 35.0
    assert guest.run(ends - 1.0) == []
    assert [line.split(" ", 1)[1] for line in guest.run(ends + 2.0)] == ["raised guest_panicked, recover"]
    over = restarted(9999.0, dead=True, saves_dump=saves_dump)
    assert over.run(34.0) == []
    assert [line.split(" ", 1)[1] for line in over.run(37.0)] == ["raised guest_panicked, recover"]


@pytest.mark.parametrize("order", ["pause first", "panic first", "seen paused first", "no pause"])
def test_the_pause_of_a_panic_is_the_panics_own(order: str) -> None:
    """The panic device tells, and QEMU pauses the guest: in whatever order libvirt says so, no silence, one verdict."""
    guest = settled()
    paused = ev.Paused("paused")
    events: dict[str, list[ev.Event | None]] = {
        "pause first": [paused, ev.Panicked()],
        "panic first": [ev.Panicked(), paused, event_of_state("paused", "unknown")],
        "seen paused first": [paused, event_of_state("paused", "unknown"), ev.Panicked()],
        "no pause": [ev.Panicked()],
    }
    guest.kernel_dies()
    for event in events[order]:
        assert event is not None
        guest.happens(event)
    assert guest.monitor.silences.told() == {}
    guest.run(200.0)
    assert guest.transcript[-1] == "110.00 " + guest.transcript[-1].split(" ", 1)[1]
    assert told(guest)[-1].endswith("guest_panicked, recover")


def test_a_panicked_guest_that_somebody_pauses_is_left_alone() -> None:
    """libvirt says whose wish it is: then nothing is asked for while it lasts. That it panicked is known."""
    guest = settled()
    guest.kernel_dies(told=True)
    guest.happens(ev.Paused("paused", wish=True))
    guest.run(1000.0)
    assert guest.transcript == [
        "100.00 raised guest_panicked, withheld: hold",
        "1000.00 ended: not judged for 15 min by now: paused",
    ]


@pytest.mark.parametrize("policy", [FAST, {}])
@pytest.mark.parametrize("stuck", [Cause.PAUSED_IO_ERROR, Cause.GUEST_HUNG])
@pytest.mark.parametrize("saves_dump", [True, False])
def test_a_pause_of_qemus_puts_the_grace_off(policy: dict[str, Any], stuck: Cause, saves_dump: bool) -> None:
    """The dump fills the pool that its disk is on, and is paused: when it goes on, it has all of its time again."""
    guest = settled(timing=Timing(panic_grace=600.0, crash_dump_grace=600.0), **policy)
    guest.kernel_dies()
    guest.happens(ev.Panicked(saves_dump))
    guest.run(130.0)
    guest.gets_stuck(ev.Stuck(stuck))
    guest.run(160.0)
    before = len(guest.transcript)
    guest.is_resumed()
    guest.run(759.0)
    assert not any("recover" in line for line in guest.transcript[before:])
    guest.run(765.0)
    assert told(guest)[-1] == "updated guest_panicked, recover"


@pytest.mark.parametrize("saves_dump", [True, False])
def test_a_closed_port_says_nothing_of_a_guest_that_panicked(saves_dump: bool) -> None:
    """The crash kernel resets the device, and its port closes: that nobody holds it open any more is no other fault."""
    guest = settled(timing=Timing(exit_settle_time=20.0, crash_dump_grace=100.0))
    guest.kernel_dies()
    guest.happens(ev.Panicked(saves_dump))
    guest.run(105.0)
    guest.agent_exits()
    guest.run(400.0)
    assert "agent_exited" not in " ".join(guest.transcript)
    assert told(guest)[-1].endswith("guest_panicked, recover")


def test_a_closed_port_says_nothing_of_a_guest_that_is_paused() -> None:
    """Whoever paused it for an error: that is what is wrong."""
    guest = settled(timing=Timing(exit_settle_time=20.0))
    guest.agent_exits()
    guest.gets_stuck(ev.Stuck(Cause.PAUSED_FAILED))
    guest.run(400.0)
    assert told(guest) == ["raised paused_failed"]


@pytest.mark.parametrize("knobs", [FAST, {}, {"interval": 60.0}])
@pytest.mark.parametrize("grace", [0.5, 10.0, 600.0])
@pytest.mark.parametrize("state", ["alive", "missing", "silent"])
def test_a_panic_that_is_told_waits_for_no_threshold(knobs: dict[str, float], grace: float, state: str) -> None:
    """It is raised, or told of the fault that is open, in the same moment; what has time is its recovery."""
    guest = settled(
        timing=Timing(panic_grace=grace), threshold=3, **{key: knobs[key] for key in knobs.keys() - {"threshold"}}
    )
    if state != "alive":
        guest.agent_stops()
        while guest.monitor.state.value != state:
            guest.run(guest.host.now + 0.5)
    now = guest.host.now
    guest.kernel_dies(told=True)
    assert (
        guest.transcript[-1]
        == f"{now:.2f} {'updated' if state == 'silent' else 'raised'} guest_panicked, withheld: hold"
    )
    assert not any(line.endswith("recover") for line in guest.run(now + grace - 0.01))
    assert guest.run(now + grace + 0.01)[-1] == f"{now + grace:.2f} updated guest_panicked, recover"


def test_without_a_grace_its_recovery_is_asked_for_at_once() -> None:
    """An operator whose guests never reboot by themselves loses no second, and hears of it once."""
    guest = settled(timing=Timing(panic_grace=0.0))
    guest.kernel_dies(told=True)
    guest.run(300.0)
    assert [line for line in guest.transcript if "cleared" not in line] == ["100.00 raised guest_panicked, recover"]


def test_one_that_is_waited_for_is_no_exception() -> None:
    """It panics while it boots."""
    guest = settled(**FAST)
    guest.boots(after=60.0)
    guest.run(101.0)
    guest.kernel_dies(told=True)
    assert guest.transcript == ["101.00 raised guest_panicked, withheld: hold"]


def test_a_qemu_that_is_ended_for_its_guests_panic_says_so() -> None:
    """on_crash is destroy where nobody says otherwise: libvirt tells of the panic, and right after it of the end."""
    guest = settled()
    guest.happens(ev.Paused("paused"))
    guest.kernel_dies(told=True)
    guest.qemu_dies()
    assert told(guest) == ["raised guest_panicked, withheld: hold", "updated qemu_failed, recover"]
    assert guest.fault is not None and "kernel panicked" in guest.fault.reason


def test_a_guest_that_tells_of_a_panic_and_lives_is_asked_first() -> None:
    """Its interval may be longer than its grace: nobody who answers is recovered."""
    guest = settled(interval=30.0, timeout=30.0)
    guest.happens(ev.Panicked())
    guest.run(300.0)
    assert guest.transcript == [
        "100.00 raised guest_panicked, withheld: hold",
        "100.01 cleared guest_panicked: recovered",
    ]
