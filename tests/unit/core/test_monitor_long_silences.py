"""Nobody leaves monitoring unseen: a silence that goes on and on is told, once, and so is its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.core.scenario import KNOWN, NEW, Guest, changed, lone, settled
from vmhb_common.model.fault import REASON_LIMIT
from vmhb_common.model.policy import Channel
from vmhb_common.model.silences import LONG_SILENCE
from vmhb_worker.core import events as ev
from vmhb_worker.core.absence import long_silence
from vmhb_worker.core.instance_state import Absence
from vmhb_worker.core.protocol import Goodbye
from vmhb_worker.core.transitions import State

FAST: dict[str, Any] = {"interval": 1.0, "timeout": 1.0, "threshold": 3}
TOLD = 100.0 + LONG_SILENCE


def paused(guest: Guest) -> None:
    guest.is_paused()


def resumed(guest: Guest) -> None:
    guest.is_resumed()


def announced(guest: Guest) -> None:
    guest.happens(ev.Silenced("hint:req-1", "Nova resizes it", guest.host.now + 7200.0))


def over(guest: Guest) -> None:
    guest.happens(ev.Unsilenced("hint:req-1"))


def without_libvirt(guest: Guest) -> None:
    guest.happens(ev.Silenced("hypervisor", "libvirt is away"))


def with_libvirt(guest: Guest) -> None:
    guest.happens(ev.Silenced("hypervisor", "just connected", guest.host.now + 1.0, ask=True))


def in_postcopy(guest: Guest) -> None:
    guest.happens(ev.InPostcopy())


def all_here(guest: Guest) -> None:
    guest.happens(ev.Resumed(arrived=True))


KINDS: list[tuple[Callable[[Guest], None], Callable[[Guest], None], str]] = [
    (paused, resumed, "paused"),
    (announced, over, "Nova resizes it"),
    (without_libvirt, with_libvirt, "libvirt is away"),
    (in_postcopy, all_here, "post-copy migration: a part of its memory is still elsewhere"),
]


@pytest.mark.parametrize(("begin", "end", "reason"), KINDS, ids=[begin.__name__ for begin, _, _ in KINDS])
def test_a_silence_that_has_lasted_for_long_is_told(
    begin: Callable[[Guest], None], end: Callable[[Guest], None], reason: str
) -> None:
    """At 15 min, once, with its reason, whatever kind it is of and whether the guest answers meanwhile; and once that
    it is watched again, when it answers and nothing excuses it any more."""
    guest = settled(**FAST)
    begin(guest)
    assert guest.run(TOLD - 0.1) == []
    assert guest.run(TOLD) == [f"{TOLD:.2f} ended: not judged for 15 min by now: {reason}"]
    assert guest.run(6000.0) == []
    end(guest)
    (back,) = guest.run(6100.0)
    assert back.endswith(" returned")
    assert float(back.split()[0]) < 6003.0


@pytest.mark.parametrize(("begin", "end", "reason"), KINDS, ids=[begin.__name__ for begin, _, _ in KINDS])
def test_a_shorter_one_is_not_told(begin: Callable[[Guest], None], end: Callable[[Guest], None], reason: str) -> None:
    """Most operations end in time; and another silence later is counted by itself."""
    guest = settled(**FAST)
    for _ in range(3):
        begin(guest)
        guest.run(guest.host.now + LONG_SILENCE - 1.0)
        end(guest)
        guest.run(guest.host.now + 60.0)
    assert guest.transcript == []


def test_silences_that_follow_upon_each_other_are_one() -> None:
    """As long as one is on, nobody watches; all that are on by then are named."""
    guest = settled(**FAST)
    announced(guest)
    guest.run(600.0)
    guest.is_paused()
    over(guest)
    announced(guest)
    assert guest.run(5000.0) == [f"{TOLD:.2f} ended: not judged for 15 min by now: Nova resizes it; paused"]


def test_what_is_told_at_once_is_not_told_again() -> None:
    """A goodbye is told when it is said; that it lasts, or that another silence comes on top, is no news."""
    guest = lone(memory=KNOWN, channel=Channel.APPLICATION, **FAST)
    guest.run(20.0)
    guest.application.says(Goodbye("upgrade"))
    guest.application.hangs()
    guest.run(1000.0)
    guest.is_paused()
    assert len(guest.run(5000.0)) == 0
    assert len(guest.transcript) == 1
    guest.application.goes_on()
    guest.run(5100.0)
    assert len(guest.transcript) == 1, "it said something while it was paused: that is no return"
    guest.is_resumed()
    guest.run(5110.0)
    assert guest.transcript[-1].endswith(" returned")


def test_a_boot_is_no_return_and_its_first_answer_is() -> None:
    """Paused for long, then reset: it is watched again once it answers."""
    guest = settled(**FAST)
    guest.is_paused()
    guest.run(2000.0)
    guest.boots(after=30.0)
    lines = guest.run(2100.0)
    assert [line.split(" ", 1)[1] for line in lines] == ["returned", "answers again after its boot"]


def test_a_first_answer_says_it_all() -> None:
    """Never established, paused for long: what is told then is `established`, and nothing beside it."""
    guest = lone(memory=NEW, **FAST)
    guest.agent_stops()
    guest.is_paused()
    assert [line.split(" ", 1)[1][:5] for line in guest.run(2000.0)] == ["ended"]
    guest.is_resumed()
    guest.agent_goes_on()
    assert [line.split(" ", 1)[1] for line in guest.run(2100.0)] == ["established"]


def test_a_stopped_instance_is_not_missed() -> None:
    """While its domain does not run there is nobody to be watched: what was announced counts from its start on."""
    guest = settled(**FAST)
    announced(guest)
    guest.is_destroyed()
    guest.run(4000.0)
    guest.boots(after=1.0)
    guest.run(4000.0 + LONG_SILENCE - 1.0)
    assert guest.transcript == []
    assert len(guest.run(4000.0 + LONG_SILENCE)) == 1


def test_who_is_restored_from_a_file_is_watched_from_then_on() -> None:
    """Saved for days is not silent for days."""
    guest = settled(**FAST)
    announced(guest)
    guest.is_saved()
    guest.run(5000.0)
    guest.is_restored()
    guest.run(5000.0 + LONG_SILENCE - 1.0)
    assert guest.transcript == []


def test_who_is_still_elsewhere_is_watched_there() -> None:
    """A migration may take hours: its source watches the guest, and the destination has nothing to say of it."""
    guest = lone(memory=changed(KNOWN, running=False), **FAST)
    guest.happens(ev.Arriving())
    guest.happens(ev.Silenced("hint:req-1", "Nova migrates it live", 9000.0))
    assert guest.run(5000.0) == []
    guest.happens(ev.Resumed(arrived=True))
    assert guest.run(5000.0 + LONG_SILENCE - 1.0) == []
    assert len(guest.run(5000.0 + LONG_SILENCE)) == 1


def test_one_interval_after_a_start_is_owed_to_everybody() -> None:
    """Who is asked once an hour has not left monitoring in the hour after the worker's start."""
    guest = lone(memory=KNOWN, interval=3600.0, timeout=5.0)
    guest.happens(ev.Silenced("hypervisor", "just connected", 3600.0, ask=True))
    assert guest.run(9000.0) == []


def test_it_outlives_the_worker() -> None:
    """Told before a restart: not told again, and the return is told by the next life of the worker."""
    guest = settled(**FAST)
    guest.is_paused()
    assert not guest.monitor.memory(500.0).absence.away
    guest.run(2000.0)
    memory = guest.monitor.memory(2000.0)
    assert memory.absence.away
    assert ev.Remember() in [effect for at, effect in guest.effects if at == TOLD]
    again = lone(memory=memory, **FAST)
    again.is_paused()
    assert again.run(3000.0) == []
    again.is_resumed()
    assert [line.split(" ", 1)[1] for line in again.run(3100.0)] == ["returned"]
    assert not again.monitor.memory(3100.0).absence.away
    (returned,) = [at for at, effect in again.effects if effect == ev.Returned()]
    assert (returned, ev.Remember()) in again.effects


def test_who_died_meanwhile_is_a_fault_and_no_return() -> None:
    """Watched again it is; what it comes back with is told first."""
    guest = lone(memory=changed(KNOWN, absence=Absence(away=True)), **FAST)
    guest.kernel_dies()
    lines = guest.run(60.0)
    assert lines
    assert "returned" not in " ".join(lines)
    assert guest.monitor.state is State.SILENT


def test_its_reason_fits_on_the_wire() -> None:
    """However many silences there are, and whatever was said of them."""
    assert long_silence(930.0, ["a", "b"]) == "not judged for 16 min by now: a; b"
    assert len(long_silence(900.0, ["x" * 200] * 3)) == REASON_LIMIT
