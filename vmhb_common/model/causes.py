"""What can be wrong with an instance, how bad it is, and how sure we are: the words of a fault. Pure.

And what each cause rests on: that decides what refutes it, and whether a recovery that waited must be asked about anew.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from vmhb_common.model.words import StrEnum


class Cause(StrEnum):
    """What is wrong. The order of judgement is that of `RULES`."""

    MEMORY_FAILURE = "memory_failure"
    QEMU_FAILED = "qemu_failed"
    HOST_LOST_POWER = "host_lost_power"
    STOPPED_UNEXPLAINED = "stopped_unexplained"
    PAUSED_IO_ERROR = "paused_io_error"
    PAUSED_FAILED = "paused_failed"
    QEMU_HUNG = "qemu_hung"
    ASLEEP = "asleep"
    STARVED = "starved"
    GUEST_PANICKED = "guest_panicked"
    GUEST_HUNG = "guest_hung"
    AGENT_EXITED = "agent_exited"
    APPLICATION_UNHEALTHY = "application_unhealthy"
    FILE_SYSTEMS_FROZEN = "file_systems_frozen"
    MAINTENANCE_OVERDUE = "maintenance_overdue"
    APPLICATION_UNRESPONSIVE = "application_unresponsive"
    AGENT_UNRESPONSIVE = "agent_unresponsive"
    GUEST_SILENT = "guest_silent"
    NOT_ESTABLISHED = "not_established"
    HOST_SUSPECT = "host_suspect"
    WORKER_LOST = "worker_lost"
    FLAPPING = "flapping"


class Severity(StrEnum):
    """How bad it is for the instance's owner."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Confidence(StrEnum):
    """How much the evidence carries."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Ground(enum.Enum):
    """What a cause rests on."""

    GONE = "its QEMU has ended: nobody is there who could answer"
    LOST = "it ran when its host went down, and has not since: Nova may start it again by itself, or not want it to run"
    TOLD = "its kernel told that it has panicked; it may boot again by itself"
    SILENCE = "it does not answer"
    OWN_WORD = "it answers, and says itself that it is not well"
    NONE = "no recovery is ever asked for"

    @property
    def may_revive(self) -> bool:
        """Can it be well again by itself, while its recovery waits somewhere? Then its worker is asked right before
        the recovery is begun, however young the fault is."""
        return self is not Ground.GONE

    @property
    def refuted_by_an_answer(self) -> bool:
        """Has one acknowledgement since its last miss shown that it is not so any more? Of one whose QEMU has ended,
        too: it has been started since."""
        return self is not Ground.OWN_WORD

    @property
    def does_not_run(self) -> bool:
        """Is it this that is wrong: its domain does not run? Then there is nobody to be asked."""
        return self in (Ground.GONE, Ground.LOST)

    @property
    def is_novas_to_say(self) -> bool:
        """Is it a fault only where Nova says that it should run, and is not at it itself? Then Nova is always asked
        before its recovery is begun."""
        return self is Ground.LOST


#: By cause: total, a test says.
RESTS_ON: Mapping[Cause, Ground] = {
    Cause.MEMORY_FAILURE: Ground.NONE,  # whoever starts it again on this host may give it the same memory
    Cause.QEMU_FAILED: Ground.GONE,
    Cause.HOST_LOST_POWER: Ground.LOST,
    Cause.STOPPED_UNEXPLAINED: Ground.NONE,
    Cause.PAUSED_IO_ERROR: Ground.NONE,
    Cause.PAUSED_FAILED: Ground.NONE,
    Cause.QEMU_HUNG: Ground.SILENCE,  # a stalled host lets all of its QEMUs stand still, and go on
    Cause.ASLEEP: Ground.NONE,
    Cause.STARVED: Ground.NONE,
    Cause.GUEST_PANICKED: Ground.TOLD,
    Cause.GUEST_HUNG: Ground.SILENCE,
    Cause.AGENT_EXITED: Ground.NONE,
    Cause.APPLICATION_UNHEALTHY: Ground.OWN_WORD,
    Cause.FILE_SYSTEMS_FROZEN: Ground.NONE,
    Cause.MAINTENANCE_OVERDUE: Ground.NONE,
    Cause.APPLICATION_UNRESPONSIVE: Ground.SILENCE,
    Cause.AGENT_UNRESPONSIVE: Ground.SILENCE,
    Cause.GUEST_SILENT: Ground.SILENCE,
    Cause.NOT_ESTABLISHED: Ground.NONE,
    Cause.HOST_SUSPECT: Ground.NONE,
    Cause.WORKER_LOST: Ground.NONE,
    Cause.FLAPPING: Ground.NONE,
}


def rests_on(cause: str) -> Ground:
    """What this cause rests on. One that only a newer worker knows, and for which it asks for a recovery, is taken for
    one that an answer refutes."""
    return RESTS_ON[Cause(cause)] if cause in set(Cause) else Ground.SILENCE
