"""What libvirt's lifecycle events, domain states and jobs mean for a heartbeat: three tables.

The names are libvirt's own (`VIR_DOMAIN_EVENT_STOPPED_FAILED` is ("stopped", "failed")); the hypervisor adapter
translates the numbers. Everything that libvirt can say today has its own row, which a test reads off libvirt-python;
a detail that a newer libvirt invents falls back to the row with the detail "*".
"""

from __future__ import annotations

from vmhb_common.model.causes import Cause
from vmhb_worker.core.events import (
    Arriving,
    Booted,
    Event,
    Exit,
    InPostcopy,
    Panicked,
    Paused,
    Restored,
    Resumed,
    ShuttingDown,
    Stopped,
    Stuck,
)

_UNEXPLAINED = "shut off, and libvirt does not know why"

#: (event, detail) of VIR_DOMAIN_EVENT_ID_LIFECYCLE -> what happened.
EVENTS: dict[tuple[str, str], Event | None] = {
    ("started", "booted"): Booted(),
    ("started", "migrated"): Arriving(),
    ("started", "restored"): Restored(),
    ("started", "from_snapshot"): Restored(),
    ("started", "wakeup"): Resumed(),
    ("started", "*"): Booted(),
    # Whose wish that is, or whether it is anybody's, is said by the state that follows.
    ("suspended", "paused"): Paused("paused"),
    ("suspended", "migrated"): Paused("handed over to another host", wish=True),
    ("suspended", "ioerror"): Stuck(Cause.PAUSED_IO_ERROR),
    # Not a silence: the guest was seen to hang. Its beats could not be missed, libvirt asks no agent of a paused guest.
    ("suspended", "watchdog"): Stuck(Cause.GUEST_HUNG),
    ("suspended", "restored"): Paused("restored, not yet running", wish=True),
    ("suspended", "from_snapshot"): Paused("snapshot", wish=True),
    ("suspended", "api_error"): Stuck(Cause.PAUSED_FAILED),
    ("suspended", "postcopy"): Paused("post-copy migration", wish=True),
    ("suspended", "postcopy_failed"): Stuck(Cause.PAUSED_FAILED),
    ("suspended", "*"): Paused("paused"),
    ("resumed", "unpaused"): Resumed(),
    ("resumed", "migrated"): Resumed(arrived=True),
    ("resumed", "from_snapshot"): Resumed(),
    ("resumed", "postcopy"): InPostcopy(),
    # It runs without a part of its memory, which only the source has: whoever resets it destroys that.
    ("resumed", "postcopy_failed"): InPostcopy(failed=True),
    ("resumed", "*"): Resumed(),
    ("shutdown", "finished"): ShuttingDown(),
    ("shutdown", "guest"): ShuttingDown(),
    ("shutdown", "host"): ShuttingDown(),
    ("shutdown", "*"): ShuttingDown(),
    # Somebody's wish, or the guest's own: intent.
    ("stopped", "migrated"): Stopped(Exit.MOVED, "migrated"),
    ("stopped", "failed"): Stopped(Exit.FAILED, "failed"),
    ("stopped", "crashed"): Stopped(Exit.FAILED, "crashed"),
    ("stopped", "shutdown"): Stopped(Exit.INTENT, "shutdown"),
    ("stopped", "destroyed"): Stopped(Exit.INTENT, "destroyed"),
    ("stopped", "saved"): Stopped(Exit.INTENT, "saved"),
    ("stopped", "from_snapshot"): Stopped(Exit.INTENT, "from_snapshot"),
    ("stopped", "*"): Stopped(Exit.UNKNOWN, _UNEXPLAINED),
    ("pmsuspended", "memory"): Paused("asleep", wish=True),
    ("pmsuspended", "disk"): Paused("asleep", wish=True),
    ("pmsuspended", "*"): Paused("asleep", wish=True),
    ("crashed", "panicked"): Panicked(),
    ("crashed", "crashloaded"): Panicked(saves_dump=True),
    ("crashed", "*"): Panicked(),
    ("defined", "added"): None,
    ("defined", "updated"): None,
    ("defined", "renamed"): None,
    ("defined", "from_snapshot"): None,
    ("defined", "*"): None,
    ("undefined", "removed"): None,
    ("undefined", "renamed"): None,
    ("undefined", "*"): None,
}

#: (state, reason) of virDomainGetState, for a domain that is met in it -> what must have happened.
STATES: dict[tuple[str, str], Event | None] = {
    ("paused", "user"): Paused("paused", wish=True),
    # It arrives here, or is about to leave: either way it is not ours to judge, and may end as if it had failed.
    ("paused", "migration"): Arriving(),
    ("paused", "save"): Paused("being saved", wish=True),
    ("paused", "dump"): Paused("being dumped", wish=True),
    ("paused", "ioerror"): Stuck(Cause.PAUSED_IO_ERROR),
    ("paused", "watchdog"): Stuck(Cause.GUEST_HUNG),
    ("paused", "from_snapshot"): Paused("snapshot", wish=True),
    ("paused", "shutting_down"): ShuttingDown(),
    ("paused", "snapshot"): Paused("snapshot", wish=True),
    ("paused", "crashed"): Panicked(),
    ("paused", "starting_up"): Paused("starting", wish=True),
    ("paused", "postcopy"): Paused("post-copy migration", wish=True),
    ("paused", "postcopy_failed"): Stuck(Cause.PAUSED_FAILED),
    # QEMU stopped it by itself (an internal error of its), or a call of libvirt's failed half-way: nobody wants that,
    # and nobody will end it. A reason that a newer libvirt invents is no wish that we know of either.
    ("paused", "unknown"): Stuck(Cause.PAUSED_FAILED, settles=True),
    ("paused", "api_error"): Stuck(Cause.PAUSED_FAILED),
    ("paused", "*"): Stuck(Cause.PAUSED_FAILED, settles=True),
    ("pmsuspended", "unknown"): Paused("asleep", wish=True),
    ("pmsuspended", "*"): Paused("asleep", wish=True),
    # So libvirtd finds whatever did not run when it started, if nothing is left in /run that says more: it was stopped
    # before that, in whatever way. Whose wish it was, if anybody's, it does not know any more.
    ("shutoff", "unknown"): Stopped(Exit.UNKNOWN, _UNEXPLAINED),
    ("shutoff", "shutdown"): Stopped(Exit.INTENT, "shut off"),
    ("shutoff", "destroyed"): Stopped(Exit.INTENT, "shut off"),
    ("shutoff", "saved"): Stopped(Exit.INTENT, "shut off"),
    # It was to be started, and could not be: of how it stopped before that, this says nothing.
    ("shutoff", "failed"): Stopped(Exit.UNKNOWN, "shut off, and could not be started"),
    ("shutoff", "from_snapshot"): Stopped(Exit.INTENT, "shut off"),
    ("shutoff", "crashed"): Stopped(Exit.FAILED, "crashed"),
    ("shutoff", "daemon"): Stopped(Exit.FAILED, "ended by libvirtd, which could not reach its QEMU"),
    ("shutoff", "migrated"): Stopped(Exit.MOVED, "migrated"),
    ("shutoff", "*"): Stopped(Exit.UNKNOWN, _UNEXPLAINED),
    ("crashed", "unknown"): Panicked(),
    ("crashed", "panicked"): Panicked(),
    ("crashed", "*"): Panicked(),
    ("running", "unknown"): None,
    ("running", "booted"): None,
    ("running", "migrated"): None,
    ("running", "restored"): None,
    ("running", "from_snapshot"): None,
    ("running", "unpaused"): None,
    ("running", "migration_canceled"): None,
    ("running", "save_canceled"): None,
    ("running", "wakeup"): None,
    ("running", "crashed"): None,
    ("running", "postcopy"): InPostcopy(),
    ("running", "postcopy_failed"): InPostcopy(failed=True),
    ("running", "*"): None,
    ("blocked", "unknown"): None,
    ("blocked", "*"): None,
    ("nostate", "unknown"): None,
    ("nostate", "*"): None,
    ("shutdown", "unknown"): ShuttingDown(),
    ("shutdown", "user"): ShuttingDown(),
    ("shutdown", "*"): ShuttingDown(),
}

#: virDomainJobOperation -> may it make the guest's vCPUs stand still? Then it excuses that the guest does not answer.
JOBS: dict[str, bool] = {
    "start": True,
    "save": True,
    "restore": True,
    "migration_in": True,
    "migration_out": True,
    "snapshot": True,
    "snapshot_revert": True,
    "dump": True,
    "backup": False,  # its NBD server may be there for weeks, and the guest runs all the while
    "snapshot_delete": False,  # merges images below a guest that runs
    "unknown": True,  # libvirt itself does not say what it is at: what is not known accuses nobody
}


def excuses(operation: str) -> bool:
    """Does a job of libvirt's of this kind explain that a guest does not answer? One that is new to us does."""
    return JOBS.get(operation, True)


def event_of(event: str, detail: str) -> Event | None:
    """What a lifecycle event tells, or None where it tells nothing about the heartbeat."""
    return EVENTS.get((event, detail), EVENTS.get((event, "*")))


def event_of_state(state: str, reason: str) -> Event | None:
    """What must have happened to a domain that is met in this state, or None."""
    return STATES.get((state, reason), STATES.get((state, "*")))
