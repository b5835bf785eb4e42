"""What follows from what libvirt tells of a domain's life."""

from __future__ import annotations

import pytest

from tests.unit.core.parts import Parts
from vmhb_common.model.causes import Cause
from vmhb_worker.core import events as ev
from vmhb_worker.core.consequences import AskNow, AskSoon, Begin, Drop, End, ExcuseAnew, Found, Reboot
from vmhb_worker.core.domain_life import ARRIVING, IN_POSTCOPY, PASSAGE, PAUSE_SETTLES, Known
from vmhb_worker.core.evidence import CRASH_DUMP
from vmhb_worker.core.silences import Silence
from vmhb_worker.core.transitions import Input
from vmhb_worker.core.verdict import Trigger

RUNS = Known(stuck=False, established=True, waited=False)
STUCK = Known(stuck=True, established=True, waited=False)
STUCK_IN_ITS_BOOT = Known(stuck=True, established=True, waited=True)
NEVER_ANSWERED = Known(stuck=False, established=False, waited=True)


def test_a_pause_without_a_reason_is_believed_if_it_lasts() -> None:
    """And not while a job of libvirt's is on, at the end of which QEMU pauses the guest for a moment."""
    parts = Parts()
    settles = ev.Stuck(Cause.PAUSED_FAILED, settles=True)
    (begin,) = parts.life.told(settles, RUNS, 10.0)
    assert isinstance(begin, Begin) and begin.silence.until == 10.0 + PAUSE_SETTLES
    assert parts.life.orphaned
    assert parts.life.told(settles, RUNS, 11.0) == []
    parts.silences.begin("job", Silence("libvirt job: migration_out", None))
    assert [type(one) for one in parts.life.pause_settled(RUNS, 15.0)] == [Begin]
    parts.silences.end("job")
    stuck = [End(("paused",)), Found(Input.STUCK, Trigger.POSTCOPY)]
    assert parts.life.pause_settled(RUNS, 20.0) == stuck
    assert not parts.life.orphaned


def test_a_panic_s_own_pause_is_nobody_s_wish() -> None:
    """QEMU pauses whoever panicked: no silence, no cause of its own, whichever is told first."""
    parts = Parts()
    parts.life.told(ev.Paused("paused"), RUNS, 9.9)
    told = Found(Input.PANIC, Trigger.PANIC)
    assert parts.life.told(ev.Panicked(), RUNS, 10.0) == [End(("paused",)), told, AskNow(ev.Pace.SUSPECT)]
    assert parts.life.told(ev.Paused("paused"), RUNS, 10.1) == []
    assert parts.life.told(ev.Stuck(Cause.PAUSED_FAILED), RUNS, 10.1) == []
    assert parts.life.told(ev.Panicked(), RUNS, 10.2) == []
    assert [type(one) for one in parts.life.told(ev.Paused("by a user", wish=True), RUNS, 10.3)] == [Begin]


def test_a_guest_that_saves_a_crash_dump_is_told_at_once() -> None:
    """Its time is long; a worker that is restarted meanwhile must know."""
    parts = Parts()
    follows = parts.life.told(ev.Panicked(saves_dump=True), RUNS, 10.0)
    assert follows == [Found(Input.PANIC, Trigger.PANIC), AskNow(ev.Pace.SUSPECT)]
    assert parts.life.panic().value == CRASH_DUMP
    parts.life.survived()
    assert parts.life.panic().value is False and parts.graces.panic_at is None


@pytest.mark.parametrize(
    "known, then",
    [
        (RUNS, []),
        (STUCK, [Found(Input.GO_ON), ExcuseAnew()]),
        (STUCK_IN_ITS_BOOT, [Found(Input.BOOT), ExcuseAnew()]),
    ],
)
def test_who_goes_on_is_no_longer_accused_of_a_pause(known: Known, then: list[Found | ExcuseAnew]) -> None:
    """Whether it lives is to be seen: it is asked."""
    follows = Parts().life.told(ev.Resumed(), known, 10.0)
    assert follows == [End(("paused", "passage")), *then, AskSoon()]


def test_a_guest_that_arrives_is_here_when_it_runs() -> None:
    """Before, it is watched where it comes from: a migration that fails is no end of it."""
    parts = Parts()
    arrives = Begin("passage", Silence(ARRIVING, None))
    assert parts.life.told(ev.Arriving(), RUNS, 10.0) == [Found(Input.GO_ON), arrives]
    assert parts.life.told(ev.Arriving(), NEVER_ANSWERED, 10.0) == [Reboot(), arrives]
    parts.silences.begin(arrives.key, arrives.silence)
    assert parts.life.ended(ev.Exit.FAILED) == Found(Input.STOP)
    parts.life.told(ev.Resumed(), RUNS, 500.0)
    assert parts.life.here_since == 500.0
    parts.silences.end("passage")
    assert parts.life.ended(ev.Exit.FAILED) == Found(Input.FAIL, Trigger.FAILED)
    assert parts.life.ended(ev.Exit.MOVED) == Found(Input.MOVE)


def test_what_is_restored_or_powers_off_has_its_time_for_it() -> None:
    """An end that needs nobody's good will."""
    life = Parts().life
    restored = Begin("passage", Silence("being restored", 10.0 + PASSAGE))
    assert life.told(ev.Restored(), RUNS, 10.0) == [Found(Input.GO_ON), restored]
    powers_off = Begin("passage", Silence("powering off", 20.0 + PASSAGE))
    assert life.told(ev.ShuttingDown(), RUNS, 20.0) == [powers_off]


def test_a_post_copy_migration_that_fails_is_told_and_not_judged() -> None:
    """Whoever resets it destroys what only the source has."""
    begins = [Drop(("paused", "passage")), Begin("postcopy", Silence(IN_POSTCOPY, None, ask=True))]
    assert Parts().life.told(ev.InPostcopy(), RUNS, 10.0) == begins
    failed = [*begins, Found(Input.STUCK, Trigger.POSTCOPY)]
    assert Parts().life.told(ev.InPostcopy(failed=True), RUNS, 10.0) == failed
