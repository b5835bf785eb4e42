"""What to do now about a recovery that Masakari is asked for. Pure: what Nova and Masakari say, and the time, come in.

Masakari's engine acts on whatever it is told: it stops the instance and starts it, one that its user has just stopped
included. So the question is asked anew before each try, and everything must speak for it. Two tables answer it:

- `before`: nothing is posted yet. Post, or wait, or leave it;
- `after`: a notification is there, ours or somebody else's of the same outage. What became of it?

Only the heartbeat says that an instance is recovered. `finished` says that the engine came to an end.

Masakari's own tasks stop whatever they are told of, also a guest that answers by the time the engine comes to it, which
does one instance of a host after the other. So of guests that may revive only one of each host is told of at a time:
the others wait where they can still be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from vmhb_common.model.causes import rests_on
from vmhb_common.model.fault import Fault, FaultState, Resolution

#: Causes that are told as a crash of QEMU: word for word as masakari-instancemonitor tells it, so that of two reports
#: of one crash Masakari refuses the second.
CRASHES = {"qemu_failed"}
CRASH = ("LIFECYCLE", "STOPPED_FAILED")
#: Any other cause, as masakari-introspectiveinstancemonitor tells it.
SILENT = ("QEMU_GUEST_AGENT_ERROR", "STOPPED_FAILED")
#: The engine is done with these, and will not come back to them. `error` it tries once more.
ENDED = {"finished", "failed", "ignored"}
#: All that the engine acts on (masakari.engine.instance_events); it ignores whatever else it is told.
ACTED_ON = {CRASH, SILENT, ("IO_ERROR", "IO_ERROR_REPORT")}

#: What oslo.utils takes for true: the engine asks it about the instance's metadata.
TRUE = {"1", "t", "true", "on", "y", "yes"}

#: Between two looks at something that will change by itself (seconds).
POLL = 5.0
#: … and at what has lasted for longer than LONG.
SLOW_POLL = 15.0
LONG = 120.0
#: Between two looks whether it is our turn: no more than two requests to the database.
TURN = 5.0
#: Between two looks at what an operator, or the user, has to change.
PATIENCE = 30.0
#: Who posted it had another clock than the worker that dated the first miss.
CLOCKS = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. See the options of the same names."""

    confirmed_within: float = 330.0
    duplicate_window: float = 180.0
    recovery_time: float = 1800.0
    heartbeat_time: float = 300.0


@dataclass(frozen=True, slots=True)
class Engine:
    """How Masakari's engine chooses the instances that it recovers: as in its own configuration."""

    ha_enabled_key: str = "HA_Enabled"
    process_all_instances: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """An instance as Nova sees it now. stopped_by_user: known of one that is stopped."""

    host: str | None
    vm_state: str
    task_state: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    stopped_by_user: bool = False


@dataclass(frozen=True, slots=True)
class Notification:
    """One of Masakari's, of type VM. messages: what its tasks said, where that was asked for, the oldest first."""

    uuid: str
    instance_uuid: str
    event: tuple[str, str]
    generated_at: datetime
    status: str
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Memo:
    """What a recovery has come to, kept across restarts. Of the latest attempt that was posted."""

    attempt: int = 0
    notification: str | None = None
    posted_at: datetime | None = None
    finished_at: datetime | None = None  # when it was first seen to have finished
    ended_at: datetime | None = None  # nothing is left to be followed
    outcome: str | None = None
    told_by: int | None = None  # the sequence of the change whose delivery tells the outcome

    @classmethod
    def of(cls, memo: Mapping[str, Any]) -> Memo:
        """From JSON."""
        times: dict[str, Any] = {
            name: datetime.fromisoformat(memo[name])
            for name in ("posted_at", "finished_at", "ended_at")
            if memo.get(name)
        }
        rest = {name: memo[name] for name in ("attempt", "notification", "outcome", "told_by") if name in memo}
        return cls(**rest, **times)

    def json(self) -> dict[str, Any]:
        """As JSON, without what isn't there."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in values.items()
            if value is not None
        }


# -- what comes out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Post:
    """Tell Masakari, now."""


@dataclass(frozen=True, slots=True)
class Follow:
    """It has been told: see what becomes of this notification."""

    notification: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now. Look again in so many seconds."""

    why: str
    seconds: float = PATIENCE


@dataclass(frozen=True, slots=True)
class Leave:
    """Not done, and nothing was posted. rightly: nobody wants it, or it would do harm; else something is to be
    mended for the next attempt."""

    why: str
    rightly: bool = True


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is left to be done. good: the instance is recovered, or nobody can want it any more."""

    why: str
    good: bool = False


# -- before anything is posted ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known just before posting. notifications: Masakari's of this instance, since `since`."""

    fault: Fault  # that asks for it
    latest: Fault
    received_at: datetime
    server: Server | None
    notifications: Sequence[Notification]
    at: datetime  # now
    times: Times = Times()
    engine: Engine = Engine()


def event_of(fault: Fault) -> tuple[str, str]:
    """(event, vir_domain_event) of the notification."""
    return CRASH if fault.cause in CRASHES else SILENT


def line_of(fault: Fault) -> str | None:
    """The line in which it waits for its turn, one for each host; None: it goes at once.

    A guest whose QEMU has failed can't have revived by the time the engine comes to it. It takes no turn either: it
    must not keep others from theirs for longer than the engine, which is done with it in seconds.
    """
    return line_at(fault.host) if rests_on(fault.cause).may_revive else None


def line_at(host: str) -> str:
    """The line of this host."""
    return f"masakari:{host}"


def since(fault: Fault, memo: Memo) -> datetime:
    """A notification of this instance from this moment on is about this outage, and this attempt."""
    if memo.ended_at is not None and memo.attempt < fault.recovery_attempt:
        return memo.ended_at
    return (fault.suspected_at or fault.raised_at) - CLOCKS


def over(fault: Fault, latest: Fault) -> Leave | None:
    """Nobody need be asked about it."""
    if latest.state is FaultState.CLEARED:
        return Leave(f"the fault is over: {latest.resolution}")
    if latest.recovery_attempt > fault.recovery_attempt:
        return Leave(f"attempt {latest.recovery_attempt} has taken its place")
    return None


def is_with_masakari(s: Situation) -> bool:
    """Is there a report that the engine may yet act on, and not for as long already as we wait for any?"""
    old = s.at - timedelta(seconds=s.times.recovery_time)
    return any(one.event in ACTED_ON and one.status not in ENDED and one.generated_at > old for one in s.notifications)


def before(situation: Situation) -> Post | Follow | Wait | Leave:
    """The first row that has something to say. Nothing speaks against it: post."""
    for row in BEFORE:
        step = row(situation)
        if step is not None:
            return step
    return Post()


def _no_fault(s: Situation) -> Leave | None:
    return over(s.fault, s.latest)


def _no_server(s: Situation) -> Leave | None:
    if s.server is None:
        return Leave("Nova has no such instance")
    if s.server.host != s.fault.host:
        return Leave(f"Nova has it on {s.server.host or 'no host'} by now, not on {s.fault.host}")
    return None


def _posted_already(s: Situation) -> Follow | None:
    acting = [one for one in s.notifications if one.event in ACTED_ON and one.status != "ignored"]
    return Follow(max(acting, key=_age).uuid) if acting else None


def _not_asked_for(s: Situation) -> Wait | None:
    if s.latest.recommended_action == "recover":
        return None
    withheld = f", withheld: {s.latest.withheld}" if s.latest.withheld else ""
    return Wait(f"at present it is not asked for ({s.latest.recommended_action}{withheld})")


def _not_confirmed(s: Situation) -> Wait | None:
    age = (s.at - min(s.latest.occurred_at, s.received_at)).total_seconds()
    if age <= s.times.confirmed_within:
        return None
    return Wait(f"the worker on {s.fault.host} was last heard of it {age:.0f} s ago: its next reminder is waited for")


def _busy(s: Situation) -> Wait | None:
    """Somebody does something to it. What has to be done is clear once that is over."""
    if s.server is not None and s.server.task_state is not None:
        return Wait(f"Nova is at it: task_state {s.server.task_state}", POLL)
    return None


def _wrong_state(s: Situation) -> Leave | None:
    if s.server is None or s.server.vm_state == "active":
        return None
    if s.server.vm_state != "stopped":
        return Leave(f"its vm_state is {s.server.vm_state}: Masakari must not touch it")
    if s.latest.cause not in CRASHES:
        return Leave("it is stopped, and no crash is told of")
    return Leave("its user stopped it") if s.server.stopped_by_user else None


def _not_ha_enabled(s: Situation) -> Leave | None:
    if s.server is None or s.engine.process_all_instances:
        return None
    key = s.engine.ha_enabled_key
    if s.server.metadata.get(key, "").strip().lower() in TRUE:
        return None
    uuid = s.fault.instance_uuid
    return Leave(
        f"Masakari would skip it, it is not HA-enabled: openstack server set --property {key}=True {uuid}"
        f" (or process_all_instances, in Masakari and here)",
        rightly=False,
    )


#: In this order. What ends it for good is said before what is worth a wait; a report that is there is followed,
#: whatever has become of the instance since: the engine is at it.
BEFORE: tuple[Callable[[Situation], Follow | Wait | Leave | None], ...] = (
    _no_fault,
    _posted_already,
    _no_server,
    _not_asked_for,
    _busy,
    _wrong_state,
    _not_ha_enabled,
    _not_confirmed,
)


# -- a refusal -------------------------------------------------------------------------------------------------------


def duplicate(
    event: tuple[str, str], notifications: Iterable[Notification], begun: datetime, now: datetime, times: Times
) -> Follow | Wait:
    """Masakari says that it knows this report. notifications: all of this instance within its window.

    Whose is it? One of this outage is followed. An earlier one, of an outage that is over, and one that the engine has
    ignored, and so nobody acts on, only stands in the way until the window has passed: from then on Masakari takes the
    same report for a new one.
    """
    same = sorted((one for one in notifications if one.event == event), key=_age)
    if not same:
        return Wait("Masakari calls it a duplicate, and shows no such notification", POLL)
    newest = same[-1]
    if newest.generated_at >= begun and newest.status != "ignored":
        return Follow(newest.uuid)
    whose = "of an earlier outage" if newest.generated_at < begun else "which it ignored"
    left = (newest.generated_at - now).total_seconds() + times.duplicate_window + 1.0
    return Wait(
        f"Masakari takes it for the same as {newest.uuid}, {whose}, for {times.duplicate_window:.0f} s",
        min(max(left, POLL), times.duplicate_window),
    )


def _age(one: Notification) -> datetime:
    return one.generated_at


# -- after a notification is there -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """What has become of it. notification: None where Masakari has it no more."""

    fault: Fault
    latest: Fault
    memo: Memo
    notification: Notification | None
    at: datetime  # now
    times: Times = Times()

    @property
    def running(self) -> float:
        """Seconds since it was posted."""
        return (self.at - (self.memo.posted_at or self.at)).total_seconds()

    @property
    def idle(self) -> float:
        """Seconds since it was seen to have finished."""
        return (self.at - (self.memo.finished_at or self.at)).total_seconds()


def after(progress: Progress) -> Wait | End:
    """The row of its status; the heartbeat goes before all of them."""
    latest, one = progress.latest, progress.notification
    if latest.state is FaultState.CLEARED and latest.resolution is Resolution.RECOVERED:
        return _answers(progress, one)
    if one is None:
        return End("Masakari has its notification no more, and the guest does not answer")
    return AFTER.get(one.status, _underway)(progress, one)


def _answers(p: Progress, one: Notification | None) -> Wait | End:
    """It is recovered; but as long as the engine may act, no other of its host has its turn."""
    if one is None or one.status in ENDED or p.running > p.times.recovery_time:
        return End("the guest answers again", good=True)
    return Wait(f"the guest answers again, and Masakari has it: {one.status}", POLL if p.running < LONG else SLOW_POLL)


def _underway(p: Progress, one: Notification) -> Wait | End:
    if p.running > p.times.recovery_time:
        return End(f"after {p.running:.0f} s it is still {one.status} in Masakari: see masakari-engine's log")
    return Wait(f"Masakari has it: {one.status}", POLL if p.running < LONG else SLOW_POLL)


def _failed(p: Progress, one: Notification) -> End:
    return End(f"Masakari could not recover it{_said(one)}: see masakari-engine's log")


def _ignored(p: Progress, one: Notification) -> End:
    said = _said(one) or " (paused or rescued by then, or its segment is disabled)"
    return End(f"Masakari ignored it{said}")


def _finished(p: Progress, one: Notification) -> Wait | End:
    if any("not Ha_Enabled" in message for message in one.messages):
        return End("Masakari skipped it, it was not HA-enabled by then")
    if p.latest.state is FaultState.CLEARED:
        return End(f"Masakari finished; whether the guest answers is not known: fault is {p.latest.resolution}", True)
    if p.latest.recovery_attempt > p.fault.recovery_attempt:
        return End(
            f"Masakari finished, and the guest does not answer: attempt {p.latest.recovery_attempt} is asked for"
        )
    if p.idle > p.times.heartbeat_time:
        return End(f"Masakari finished, and {p.idle:.0f} s later the guest still does not answer")
    return Wait("Masakari finished; the guest's answer is waited for", POLL if p.idle < LONG else SLOW_POLL)


def _said(one: Notification) -> str:
    return f" ({one.messages[-1]})" if one.messages else ""


#: By status. `new`, `running` and `error`, which the engine tries once more, are under way, so is what is unknown.
AFTER: dict[str, Callable[[Progress, Notification], Wait | End]] = {
    "finished": _finished,
    "failed": _failed,
    "ignored": _ignored,
}
