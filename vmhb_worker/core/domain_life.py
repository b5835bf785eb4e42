"""What libvirt told about one domain's life, beside whether it runs: its panic, its memory, its QEMU's end, its
pauses, its port, its arrival.

An event comes in, and what follows comes out, in order: see `consequences`. How a lifecycle event or a state is to be
taken stands in `lifecycle`. Belongs to a monitor; times are seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vmhb_common.model.causes import Cause
from vmhb_worker.core import events as ev
from vmhb_worker.core.consequences import (
    AskNow,
    AskSoon,
    Begin,
    Consequence,
    Drop,
    End,
    ExcuseAnew,
    Found,
    MemoryIsBroken,
    Reboot,
)
from vmhb_worker.core.evidence import CRASH_DUMP, Reading, unavailable
from vmhb_worker.core.excuses import Excused, of_silence
from vmhb_worker.core.graces import Graces
from vmhb_worker.core.instance_state import Panic
from vmhb_worker.core.memory_failures import MemoryFailures
from vmhb_worker.core.qemu_end import UntoldEnd
from vmhb_worker.core.silences import JOB, PASSES, PAUSED, POSTCOPY, Silence, Silences
from vmhb_worker.core.transitions import Input
from vmhb_worker.core.verdict import Trigger

#: A guest that said that it powers off, or that was restored, has this long to do so (seconds).
PASSAGE = 60.0
#: A pause that libvirt gives no reason for is believed after this (seconds), and not while a job of libvirt's is on: at
#: the end of one that copies memory QEMU stops the guest by itself, for some tenths of a second.
PAUSE_SETTLES = 5.0
#: Why a guest is silent that is being migrated to this host, and one that runs here before its memory does.
ARRIVING = "arriving"
IN_POSTCOPY = "post-copy migration: a part of its memory is still elsewhere"
#: How a domain ended -> as what that is judged; what is not here is nobody's fault.
_ENDED = {
    ev.Exit.FAILED: Trigger.FAILED,
    ev.Exit.POWER: Trigger.POWER,
    ev.Exit.UNKNOWN: Trigger.UNEXPLAINED,
}
_STUCK = {
    Cause.PAUSED_IO_ERROR: Trigger.IO_ERROR,
    Cause.PAUSED_FAILED: Trigger.POSTCOPY,
    Cause.GUEST_HUNG: Trigger.WATCHDOG,
}
#: Behind these silences somebody is at something with it that may end its QEMU, and says so when that is done.
_AT_WORK = frozenset({Excused.JOB, Excused.PASSAGE, Excused.ANNOUNCED, Excused.LIBVIRT_AWAY})
#: For what a guest is accused that is paused, and stays so.
STUCK = frozenset(_STUCK.values())

Told = (
    ev.Restored
    | ev.Arriving
    | ev.ShuttingDown
    | ev.Paused
    | ev.Resumed
    | ev.InPostcopy
    | ev.Stuck
    | ev.Panicked
    | ev.WatchdogFired
    | ev.MemoryFailed
)


@dataclass(frozen=True, slots=True)
class Known:
    """What its monitor knows. stuck: it stands accused of a pause. waited: for its first answer of this boot."""

    stuck: bool
    established: bool
    waited: bool


class DomainLife:
    """Of one instance. Changes, besides itself, only the graces that it was made with.

    port_open: of the channel that the instance is judged by; None: not told. reopened_at: when somebody last opened it
    who may not have been there before. here_since: before, it did not run here, and nobody could watch it. orphaned: it
    is paused, and libvirt does not say why.
    """

    __slots__ = (
        "_graces",
        "_pause_is_wish",
        "_port_at",
        "_silences",
        "_watchdog",
        "booted_at",
        "end",
        "here_since",
        "memory",
        "orphaned",
        "panicked_at",
        "port_open",
        "reopened_at",
        "saves_dump",
    )

    def __init__(self, silences: Silences, graces: Graces, now: float) -> None:
        self._silences = silences
        self._graces = graces
        self.panicked_at: float | None = None
        self.saves_dump = False  # as it said when it panicked
        self._pause_is_wish = True
        self.orphaned = False
        self._watchdog = Reading(False, None)
        self.memory = MemoryFailures()
        self.end = UntoldEnd()
        self.port_open: bool | None = None
        self._port_at: float | None = None
        self.booted_at = -math.inf
        self.here_since = self.reopened_at = now

    def resume(self, panic: Panic, now: float) -> None:
        """What an earlier life of the worker had been told."""
        self.panicked_at, self.saves_dump = now - panic.ago, panic.saves_dump
        self._graces.panicked(self.panicked_at, self.saves_dump, asked_from=now)

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def arrives(self) -> bool:
        """Is it still where it comes from, and watched there?"""
        return self._silences.told().get(PASSES) == ARRIVING

    @property
    def in_postcopy(self) -> bool:
        """Is a part of its memory still elsewhere?"""
        return POSTCOPY in self._silences

    def port(self) -> Reading:
        """For the evidence."""
        return unavailable("not told yet") if self.port_open is None else Reading(self.port_open, self._port_at)

    def panic(self) -> Reading:
        """For the evidence."""
        return Reading(CRASH_DUMP if self.saves_dump else self.panicked_at is not None, self.panicked_at)

    def watchdog(self) -> Reading:
        """For the evidence."""
        return self._watchdog

    # -- what changes --------------------------------------------------------------------------------------------

    def port_is(self, is_open: bool, now: float) -> bool | None:
        """What its port is, and was."""
        was, self.port_open = self.port_open, is_open
        if was is not is_open:
            self._port_at = now
        return was

    def survived(self) -> None:
        """It panicked, and has answered since."""
        self._graces.panic_at = self.panicked_at = None
        self.saves_dump = False

    def appears(self, now: float) -> None:
        """It did not run here until now."""
        self.here_since = now

    def rebooted(self, now: float) -> None:
        """Another boot: what was told of the one before is over."""
        self.booted_at = now
        self.port_open = self.panicked_at = None
        self._watchdog = Reading(False, None)
        self.memory.over()
        self.end.over()
        self.saves_dump, self._pause_is_wish, self.orphaned = False, True, False

    def ended(self, how: ev.Exit) -> Found:
        """It does not run any more."""
        self.orphaned = False
        self.end.over()
        trigger = _ENDED.get(how)
        # An incoming migration that fails ends as "failed" here, and goes on where it was.
        if trigger is not None and not self.arrives:
            return Found(Input.FAIL, trigger)
        return Found(Input.MOVE if how is ev.Exit.MOVED else Input.STOP)

    def looked(self, answer: ev.Answer, now: float) -> list[Consequence]:
        """What libvirt, and the host, say of it: has its QEMU ended still, and has libvirt still no word of that?"""
        keys = self._silences.keys()
        at_work = any(of_silence(key) in _AT_WORK for key in keys)
        if self.end.confirmed(answer, at_work, now):
            return [Found(Input.ENDED, Trigger.ENDED)]
        lost = self.end.suspected and isinstance(answer, ev.State) and answer.state == "shutoff"
        return [ev.ReadAgain()] if lost else []

    def told(self, event: Told, known: Known, now: float) -> list[Consequence]:
        """An event of libvirt's, and what follows, in this order."""
        return TOLD[type(event)](self, event, known, now)

    def pause_settled(self, known: Known, now: float) -> list[Consequence]:
        """Libvirt has had its time to say why it is paused."""
        self.orphaned = False
        if JOB in self._silences:
            return self._settle_pause(known, now)
        return self._stuck(ev.Stuck(Cause.PAUSED_FAILED), known, now)

    # -- the events ----------------------------------------------------------------------------------------------

    def _restored(self, event: ev.Restored | ev.Arriving, known: Known, now: float) -> list[Consequence]:
        goes_on = known.established and not known.waited
        if isinstance(event, ev.Arriving):
            passage = Silence(ARRIVING, None)  # a migration takes as long as it takes
        else:
            passage = Silence("being restored", now + PASSAGE)
        return [Found(Input.GO_ON) if goes_on else Reboot(), Begin(PASSES, passage)]

    def _shutting_down(self, _event: ev.ShuttingDown, _known: Known, now: float) -> list[Consequence]:
        self._graces.settle_at = None
        return [Begin(PASSES, Silence("powering off", now + PASSAGE))]

    def _paused(self, event: ev.Paused, _known: Known, _now: float) -> list[Consequence]:
        if self.panicked_at is not None and not event.wish:
            return []  # the pause is the panic's own
        self._pause_is_wish, self.orphaned = event.wish, False
        return [Begin(PAUSED, Silence(event.reason, None))]

    def _resumed(self, event: ev.Resumed, known: Known, now: float) -> list[Consequence]:
        self.orphaned = False
        if self.arrives:
            self.here_since = now
        if self.arrives or (self.in_postcopy and event.arrived):
            self._graces.arrived(now)
        if self.panicked_at is not None and self._graces.panic_at is None:
            self._graces.panicked(now, self.saves_dump)  # its vCPUs stood still: it has all of its time from now on
        over = End((PAUSED, PASSES, POSTCOPY) if event.arrived else (PAUSED, PASSES))
        if not known.stuck:
            return [over, AskSoon()]
        # What it was accused of is over; whether the guest lives is to be seen.
        return [over, Found(Input.BOOT if known.waited else Input.GO_ON), ExcuseAnew(), AskSoon()]

    def _in_postcopy(self, event: ev.InPostcopy, _known: Known, _now: float) -> list[Consequence]:
        begins: list[Consequence] = [
            Drop((PAUSED, PASSES)),
            Begin(POSTCOPY, Silence(IN_POSTCOPY, None, ask=True)),
        ]
        if not event.failed:
            return begins
        # Told, and still not judged: whoever resets it destroys what only the source has.
        return [*begins, Found(Input.STUCK, Trigger.POSTCOPY)]

    def _stuck(self, event: ev.Stuck, known: Known, now: float) -> list[Consequence]:
        if event.cause is Cause.PAUSED_FAILED and self.panicked_at is not None:
            return []  # it is paused because it has panicked
        if event.settles:
            return self._settle_pause(known, now)
        self._not_by_wish()
        self._graces.standstill()
        return [End((PAUSED,)), Found(Input.STUCK, _STUCK[event.cause])]

    def _settle_pause(self, known: Known, now: float) -> list[Consequence]:
        """Paused, and libvirt does not say why: whether that lasts is to be seen."""
        if self.orphaned or known.stuck:
            return []
        self.orphaned, self._pause_is_wish = True, False
        return [Begin(PAUSED, Silence("paused, and libvirt does not say why", now + PAUSE_SETTLES))]

    def _panicked(self, event: ev.Panicked, _known: Known, now: float) -> list[Consequence]:
        if self.panicked_at is not None and self.saves_dump >= event.saves_dump:
            return []
        self.panicked_at, self.saves_dump = now, event.saves_dump
        follows: list[Consequence] = []
        if not self._pause_is_wish:
            self._not_by_wish()
            follows.append(End((PAUSED,)))
        self._graces.panicked(now, event.saves_dump)
        # Told at once, as an alarm: it is known still by a worker that is restarted before its time is over.
        follows.append(Found(Input.PANIC, Trigger.PANIC))
        return [*follows, AskNow(ev.Pace.SUSPECT)]  # it may live after all

    def _not_by_wish(self) -> None:
        """That it is paused is nobody's wish, and so no silence."""
        self._pause_is_wish, self.orphaned = True, False

    def _fired(self, event: ev.WatchdogFired, _known: Known, now: float) -> list[Consequence]:
        self._watchdog = Reading(event.action, now)
        return []

    def _memory_failed(self, event: ev.MemoryFailed, _known: Known, now: float) -> list[Consequence]:
        return [MemoryIsBroken()] if self.memory.heard(event, now) else []


TOLD: dict[type[Any], Callable[[DomainLife, Any, Known, float], list[Consequence]]] = {
    ev.Restored: DomainLife._restored,
    ev.Arriving: DomainLife._restored,
    ev.ShuttingDown: DomainLife._shutting_down,
    ev.Paused: DomainLife._paused,
    ev.Resumed: DomainLife._resumed,
    ev.InPostcopy: DomainLife._in_postcopy,
    ev.Stuck: DomainLife._stuck,
    ev.Panicked: DomainLife._panicked,
    ev.WatchdogFired: DomainLife._fired,
    ev.MemoryFailed: DomainLife._memory_failed,
}
