"""What is known of an instance beside its state: what the operator decided, and what must be known after a restart."""

from __future__ import annotations

from dataclasses import dataclass, field

from vmhb_common.model.causes import Cause, Confidence


@dataclass(frozen=True, slots=True)
class Timing:
    """The operator's times, in seconds: see the options of the same names."""

    exit_settle_time: float = 120.0
    reboot_grace: float = 300.0
    panic_grace: float = 10.0
    crash_dump_grace: float = 600.0
    probe_interval: float = 60.0
    min_interval: float = 0.2
    max_maintenance: float = 7200.0


@dataclass(frozen=True, slots=True)
class Panic:
    """That the guest told of its panic so many seconds ago. saves_dump: see `events.Panicked`."""

    ago: float
    saves_dump: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """The verdict that stands: a fault is open for it. What differs in any of this is told.

    pending: evidence is awaited. held: a panicked guest has time. unproven: what was found is not enough for a recovery
    yet. panic: known only of one from before a restart.
    """

    cause: Cause
    pending: bool = False
    held: bool = False
    unproven: bool = False
    confidence: Confidence = Confidence.HIGH
    panic: Panic | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Spell:
    """A time of maintenance, from when until when."""

    began: float
    until: float


@dataclass(frozen=True, slots=True)
class Absence:
    """When an application need not answer, since it said so. left: its goodbye's reason; None: it is expected.

    away: it was told that the instance is not watched (for this or any other silence), and not yet that it is again.
    """

    left: str | None = None
    spells: tuple[Spell, ...] = ()
    away: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of an instance when its monitor starts, and must be known after a restart.

    running: does its domain run. waited: seconds that it has been waited for since its first unanswered boot; None: it
    has answered since it booted.
    """

    running: bool = True
    established: bool = False
    waited: float | None = 0.0
    balloon_seen: bool = False
    standing: Standing | None = None
    absence: Absence = Absence()
