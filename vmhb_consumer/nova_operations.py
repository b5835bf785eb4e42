"""What to tell workers about what Nova does: one table, and how it is applied. Pure.

To have another event heard: a row of ROWS, and where it brings a silence, a row of PLANNED.

Who is told: the worker on the host that the notification comes from, since that is where it happens. The host that
Nova's database has is another one, or none, during evacuation, resize, revert, unshelve and live migration. Only at the
start of a live migration it is believed: it is the source, which sends nothing itself before the guest has moved.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from vmhb_common.model.policy import parse
from vmhb_common.model.words import StrEnum
from vmhb_consumer.nova_notification import EVENT_TYPE, Notification


class Operation(StrEnum):
    """What Nova does to an instance that keeps it from acknowledging heartbeats."""

    POWER_OFF = "power_off"
    REBOOT = "reboot"
    PAUSE = "pause"
    SUSPEND = "suspend"
    SNAPSHOT = "snapshot"
    SHELVE = "shelve"
    SHELVE_OFFLOAD = "shelve_offload"
    REBUILD = "rebuild"
    RESCUE = "rescue"
    RESCUED = "rescued"
    UNRESCUE = "unrescue"
    RESIZE = "resize"
    RESIZE_FINISH = "resize_finish"
    RESIZE_REVERT = "resize_revert"
    LIVE_MIGRATION = "live_migration"
    CRASH_DUMP = "crash_dump"
    SOFT_DELETE = "soft_delete"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Planned:
    """A silence. timeout: how long (seconds) one is believed whose end is not heard of; why: the reason for that."""

    reason: str
    timeout: float
    why: str
    #: Nova also does it without being asked: after a crash, to make its own records true. That is no plan.
    needs_initiator: bool = False
    #: Its end comes, or may come, with another request, so that its key can't name one: a nova-compute that is
    #: restarted in the middle of a power-off or a reboot does it again, as a request of its own.
    outlives_request: bool = False


_SHUTDOWN = (
    "Nova gives the guest shutdown_timeout (60 s), or what its image asks for, to shut down; once it is down, no "
    "heartbeats are expected anyway"
)
_DOWN = "the guest is down for most of the time, so that no heartbeats are expected anyway"

PLANNED: Mapping[Operation, Planned] = {
    Operation.POWER_OFF: Planned("Nova powers it off", 600.0, _SHUTDOWN, needs_initiator=True, outlives_request=True),
    Operation.REBOOT: Planned(
        "Nova reboots it",
        300.0,
        "Nova waits wait_soft_reboot_seconds (120 s) before it reboots the hard way",
        outlives_request=True,
    ),
    Operation.PAUSE: Planned("Nova pauses it", 60.0, "pausing takes no time, and libvirt tells the rest"),
    Operation.SUSPEND: Planned("Nova suspends it", 900.0, "its memory is written to disk, which takes time"),
    Operation.SNAPSHOT: Planned(
        "Nova makes a snapshot", 180.0, "only the snapshot itself may stop the guest; the upload after it does not"
    ),
    Operation.SHELVE: Planned("Nova shelves it", 600.0, _SHUTDOWN),
    Operation.SHELVE_OFFLOAD: Planned("Nova shelves it", 600.0, _SHUTDOWN),
    Operation.REBUILD: Planned("Nova rebuilds it", 900.0, _DOWN),
    Operation.RESCUE: Planned("Nova puts it into rescue mode", 600.0, _SHUTDOWN),
    Operation.RESCUED: Planned(
        "it is in rescue mode",
        86400.0,
        "it runs another image, which need not answer, until it is unrescued or made to boot its own again",
        outlives_request=True,
    ),
    Operation.UNRESCUE: Planned("Nova ends its rescue mode", 300.0, "Nova destroys the domain and boots it anew"),
    Operation.RESIZE: Planned("Nova resizes or migrates it", 900.0, _SHUTDOWN),
    Operation.RESIZE_FINISH: Planned("Nova resizes or migrates it", 900.0, _DOWN),
    Operation.RESIZE_REVERT: Planned("Nova reverts its resize", 900.0, _DOWN),
    Operation.LIVE_MIGRATION: Planned(
        "Nova migrates it live",
        900.0,
        "the worker sees it in libvirt as well; this covers what slows the guest before",
    ),
    Operation.CRASH_DUMP: Planned(
        "Nova has it dump its memory",
        600.0,
        "the guest dumps and reboots once Nova is done: nothing but this ends it",
    ),
    Operation.SOFT_DELETE: Planned("Nova deletes it", 600.0, _DOWN),
    Operation.DELETE: Planned("Nova deletes it", 600.0, _DOWN),
}
TIMEOUTS: Mapping[Operation, float] = {operation: planned.timeout for operation, planned in PLANNED.items()}


# -- what comes out ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configure:
    """See to it that the instance is watched as its flavor said at observed_at. knobs: by their bare names."""

    host: str
    instance_uuid: str
    knobs: Mapping[str, str]
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class ExpectSilence:
    """Expect no heartbeats, from observed_at on, for at most `timeout` seconds."""

    host: str
    instance_uuid: str
    key: str
    reason: str
    timeout: float
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class EndSilence:
    """The silence of this key is over."""

    host: str
    instance_uuid: str
    key: str
    observed_at: datetime


#: What to tell the worker of a host.
Cast = Configure | ExpectSilence | EndSilence


# -- the table ---------------------------------------------------------------------------------------------------------


class Verb(enum.Enum):
    """What a step does."""

    CONFIGURE = "configure"
    EXPECT = "expect"
    EXPECT_AT_SOURCE = "expect at source"  # as well as at the host that it comes from
    END = "end"


#: A verb, and the operation that it is about.
Step = tuple[Verb, Operation | None]
#: Phase -> steps, in this order. A phase that is not there brings nothing.
Row = Mapping[str, tuple[Step, ...]]

CONFIGURE: Step = (Verb.CONFIGURE, None)
#: Rescue mode is over, be it that nobody unrescued it: an admin may reset its state and reboot it. Its silence may last
#: for a day, and would go on hiding faults. A rescue image that runs all the same is seen in the domain by the worker.
NOT_RESCUED: Step = (Verb.END, Operation.RESCUED)
#: Nova has made the domain's XML anew: one that may have no policy, and that boots the instance's own image.
MADE_ANEW = (CONFIGURE, NOT_RESCUED)
#: It runs again, so that nobody powers it off any more: the end of that may never have been told.
RUNS: Step = (Verb.END, Operation.POWER_OFF)
NOTHING: Row = {}


def _silence(operation: Operation, *then: Step) -> Row:
    """Silent from start to end or error; `then`: what to do once it has ended well."""
    end: Step = (Verb.END, operation)
    return {"start": ((Verb.EXPECT, operation),), "end": (*then, end), "error": (end,)}


def _ends(operation: Operation, *then: Step) -> Row:
    """Ends a silence that began with another event."""
    end: Step = (Verb.END, operation)
    return {"end": (*then, end), "error": (end,)}


#: Action -> what its phases bring. Nova's `NotificationAction`, those of instances. `configure` stands where the host's
#: worker may not have heard of the policy.
ROWS: Mapping[str, Row] = {
    "create": {"end": (CONFIGURE,)},
    "power_on": {"end": (*MADE_ANEW, RUNS)},
    "power_off": _silence(Operation.POWER_OFF),
    "reboot": _silence(Operation.REBOOT, *MADE_ANEW, RUNS),
    "pause": _silence(Operation.PAUSE),
    "unpause": NOTHING,
    "suspend": _silence(Operation.SUSPEND),
    "resume": {"end": (CONFIGURE,)},
    "snapshot": _silence(Operation.SNAPSHOT),
    "shelve": _silence(Operation.SHELVE),
    "shelve_offload": _silence(
        Operation.SHELVE_OFFLOAD, NOT_RESCUED
    ),  # of a guest that runs, where it booted from a volume
    "unshelve": {"end": MADE_ANEW},
    "rebuild": _silence(Operation.REBUILD, *MADE_ANEW),  # evacuation too, from the new host
    # The two silences overlap. A rescue that fails tells nothing, so that only the short one may depend on its end.
    "rescue": _silence(Operation.RESCUE, (Verb.EXPECT, Operation.RESCUED)),
    "unrescue": _silence(Operation.UNRESCUE, *MADE_ANEW),
    "resize_prep": NOTHING,  # from the new host, before the old one begins
    "resize": _silence(Operation.RESIZE, NOT_RESCUED),  # from the old host, which it leaves
    "resize_finish": _silence(Operation.RESIZE_FINISH, *MADE_ANEW),  # from the new one
    "resize_confirm": NOTHING,  # from the old host, where nothing runs
    "resize_revert": _silence(Operation.RESIZE_REVERT, *MADE_ANEW),  # from the old host
    "live_migration_pre": {  # from the destination
        "start": ((Verb.EXPECT, Operation.LIVE_MIGRATION), (Verb.EXPECT_AT_SOURCE, Operation.LIVE_MIGRATION)),
    },
    "live_migration_post": _ends(Operation.LIVE_MIGRATION, NOT_RESCUED),  # from the source, which it has left
    "live_migration_post_dest": _ends(Operation.LIVE_MIGRATION, CONFIGURE),
    "live_migration_rollback": _ends(Operation.LIVE_MIGRATION),  # from the source
    "live_migration_rollback_dest": _ends(Operation.LIVE_MIGRATION),
    "live_migration_abort": NOTHING,  # a rollback follows
    "live_migration_force_complete": NOTHING,  # pauses the guest, which libvirt tells
    "trigger_crash_dump": {"start": ((Verb.EXPECT, Operation.CRASH_DUMP),)},
    "soft_delete": _silence(Operation.SOFT_DELETE),
    "restore": {"end": MADE_ANEW},
    "delete": _silence(Operation.DELETE),
    "shutdown": NOTHING,  # a part of delete
    # From other services than nova-compute, or of no concern to the guest.
    "evacuate": NOTHING,
    "rebuild_scheduled": NOTHING,
    "update": NOTHING,  # from the conductor
    "exists": NOTHING,
    "lock": NOTHING,
    "unlock": NOTHING,
    "interface_attach": NOTHING,
    "interface_detach": NOTHING,
    "volume_attach": NOTHING,
    "volume_detach": NOTHING,
    "volume_swap": NOTHING,
    "share_attach": NOTHING,
    "share_detach": NOTHING,
}


def concerns(event_type: object) -> bool:
    """May notifications of this event type bring anything? Most don't, and need not be read further."""
    found = EVENT_TYPE.fullmatch(event_type) if isinstance(event_type, str) else None
    return found is not None and bool(ROWS.get(found["action"], NOTHING).get(found["phase"] or ""))


def decide(notification: Notification, timeouts: Mapping[Operation, float] = TIMEOUTS) -> list[Cast]:
    """Whom to tell what, in this order. timeouts: the operator's."""
    if notification.service != "nova-compute" or not _opted_in(notification.knobs):
        return []
    steps = ROWS.get(notification.action, NOTHING).get(notification.phase, ())
    return [cast for step in steps for cast in _casts(step, notification, timeouts)]


def _opted_in(knobs: Mapping[str, str]) -> bool:
    """Does the flavor ask for monitoring? Whether the rest of it makes sense is for the worker to say."""
    policy = parse({"heartbeat": knobs.get("heartbeat", "false")}).policy
    return policy is not None and policy.heartbeat


def _casts(step: Step, notification: Notification, timeouts: Mapping[Operation, float]) -> list[Cast]:
    verb, operation = step
    host, instance, observed_at = notification.host, notification.instance_uuid, notification.observed_at
    if operation is None:
        return [Configure(host, instance, notification.knobs, observed_at)]
    planned = PLANNED[operation]
    if planned.needs_initiator and notification.initiator is None and verb is not Verb.END:
        return []
    key = _key(operation, None if planned.outlives_request else notification.request_id)
    if verb is Verb.END:
        return [EndSilence(host, instance, key, observed_at)]
    if verb is Verb.EXPECT_AT_SOURCE:
        if notification.database_host in (None, host):
            return []
        host = notification.database_host or ""
    return [ExpectSilence(host, instance, key, planned.reason, timeouts[operation], observed_at)]


def _key(operation: Operation, request_id: str | None) -> str:
    """A request may do one thing within another (an evacuation powers off), whose end is not that of the other."""
    return str(operation) if request_id is None else f"{operation}:{request_id}"
