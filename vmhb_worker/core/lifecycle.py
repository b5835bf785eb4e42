"""What libvirt's lifecycle events and domain states mean for a heartbeat: two tables.

The names are libvirt's own (`VIR_DOMAIN_EVENT_STOPPED_FAILED` is ("stopped", "failed")); the hypervisor adapter
translates the numbers. A detail that a newer libvirt invents falls back to the row with the detail "*".
"""

from __future__ import annotations

from vmhb_common.model.causes import Cause
from vmhb_worker.core.events import (
    Arriving,
    Booted,
    Event,
    Exit,
    Panicked,
    Paused,
    Restored,
    Resumed,
    ShuttingDown,
    Stopped,
    Stuck,
)

#: (event, detail) of VIR_DOMAIN_EVENT_ID_LIFECYCLE -> what happened.
EVENTS: dict[tuple[str, str], Event | None] = {
    ("started", "booted"): Booted(),
    ("started", "migrated"): Arriving(),
    ("started", "restored"): Restored(),
    ("started", "from_snapshot"): Restored(),
    ("started", "wakeup"): Resumed(),
    ("started", "*"): Booted(),
    ("suspended", "migrated"): Paused("handed over to another host"),
    ("suspended", "ioerror"): Stuck(Cause.PAUSED_IO_ERROR),
    # Not a silence: the guest was seen to hang. Its beats could not be missed, libvirt asks no agent of a paused guest.
    ("suspended", "watchdog"): Stuck(Cause.GUEST_HUNG),
    ("suspended", "restored"): Paused("restored, not yet running"),
    ("suspended", "from_snapshot"): Paused("snapshot"),
    ("suspended", "postcopy"): Paused("post-copy migration"),
    ("suspended", "postcopy_failed"): Stuck(Cause.PAUSED_FAILED),
    ("suspended", "*"): Paused("paused"),
    ("resumed", "*"): Resumed(),
    ("shutdown", "*"): ShuttingDown(),
    # Somebody's wish, or the guest's own: intent.
    ("stopped", "migrated"): Stopped(Exit.MOVED, "migrated"),
    ("stopped", "failed"): Stopped(Exit.FAILED, "failed"),
    ("stopped", "crashed"): Stopped(Exit.FAILED, "crashed"),
    ("stopped", "shutdown"): Stopped(Exit.INTENT, "shutdown"),
    ("stopped", "destroyed"): Stopped(Exit.INTENT, "destroyed"),
    ("stopped", "saved"): Stopped(Exit.INTENT, "saved"),
    ("stopped", "from_snapshot"): Stopped(Exit.INTENT, "from_snapshot"),
    ("stopped", "*"): Stopped(Exit.INTENT, "stopped"),
    ("pmsuspended", "*"): Paused("asleep"),
    ("crashed", "*"): Panicked(),
    ("defined", "*"): None,
    ("undefined", "*"): None,
}

#: (state, reason) of virDomainGetState, for a domain that is met in it -> what must have happened.
STATES: dict[tuple[str, str], Event | None] = {
    ("paused", "ioerror"): Stuck(Cause.PAUSED_IO_ERROR),
    ("paused", "postcopy_failed"): Stuck(Cause.PAUSED_FAILED),
    ("paused", "watchdog"): Stuck(Cause.GUEST_HUNG),
    ("paused", "crashed"): Panicked(),
    # It arrives here, or is about to leave: either way it is not ours to judge, and may end as if it had failed.
    ("paused", "migration"): Arriving(),
    ("paused", "save"): Paused("being saved"),
    ("paused", "dump"): Paused("being dumped"),
    ("paused", "snapshot"): Paused("snapshot"),
    ("paused", "*"): Paused("paused"),
    ("pmsuspended", "*"): Paused("asleep"),
    ("shutoff", "crashed"): Stopped(Exit.FAILED, "crashed"),
    ("shutoff", "daemon"): Stopped(Exit.FAILED, "ended by libvirtd, which could not reach its QEMU"),
    ("shutoff", "migrated"): Stopped(Exit.MOVED, "migrated"),
    ("shutoff", "*"): Stopped(Exit.INTENT, "shut off"),
    ("crashed", "*"): Panicked(),
    ("running", "*"): None,
    ("blocked", "*"): None,
    ("nostate", "*"): None,
    ("shutdown", "*"): ShuttingDown(),
}


def event_of(event: str, detail: str) -> Event | None:
    """What a lifecycle event tells, or None where it tells nothing about the heartbeat."""
    return EVENTS.get((event, detail), EVENTS.get((event, "*")))


def event_of_state(state: str, reason: str) -> Event | None:
    """What must have happened to a domain that is met in this state, or None."""
    return STATES.get((state, reason), STATES.get((state, "*")))
