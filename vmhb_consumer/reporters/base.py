"""What a reporter is: it delivers changes of faults to one backend. Knows no backend, no database and no thread.

A plugin of the entry point group `vmhb.reporters`. To write one: docs/reporters.rst. Contract:

- One instance per consumer, made once. Its methods are called by one thread, its own: it may block, up to a minute, and
  delays nobody else.
- Changes of one fault come in the order of their sequence; the next one after the one before was delivered or refused.
  Of other faults, others may come in between. At least once: what was done when the consumer was killed is done again,
  so key on `fault_id` and `sequence`.
- The consumer remembers what this reporter has been told of each fault, also over restarts. The first change of a fault
  that it wants comes as RAISED, whatever it was sent as; what follows, once its backend knows of the fault, as UPDATED.
  CLEARED comes once and last, and only of a fault that its backend knows of. Reminders come only where it has nothing:
  it was away, or is new here, or refused what it was handed (`Case.reminder`).
- `deliver` returns what came of it: `Done`, `Later` or `Refused`. It raises nothing: an exception is a bug, which is
  logged, tried again with back-off, and given up after `telling.BUGS` tries, so that the next change has its turn.
- Words of a fault (its cause, severity, and so on) may be a newer worker's: hand them on as they came (`Case.payload`),
  compare them with those that you know, and raise nothing for the others.
- It may change its mind at each try: `case.latest` is what is known of the fault by now.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar

from oslo_config import cfg

from vmhb_common.model.fault import Change, Fault
from vmhb_common.objects import fault_as_told
from vmhb_consumer.reporters.outcomes import Done, Later, Outcome, Refused

__all__ = ["Case", "Change", "Done", "Fault", "Later", "Outcome", "Permit", "Queue", "Refused", "Reporter"]

T = TypeVar("T")


class Again(Exception):
    """Deprecated, for reporters from before 1.0 of this contract: return `Later`."""

    def __init__(self, why: str, seconds: float | None = None, memo: Mapping[str, Any] | None = None) -> None:
        """As `Later`."""
        super().__init__(why)
        self.seconds = seconds
        self.memo = memo


class GiveUp(Exception):
    """Deprecated: return `Refused`."""

    def __init__(self, why: str, memo: Mapping[str, Any] | None = None) -> None:
        """As `Refused`."""
        super().__init__(why)
        self.memo = memo


class Withheld(GiveUp):
    """Deprecated: return `Refused` with `rightly`."""


def outcome_of(error: Again | GiveUp) -> Outcome:
    """What a reporter meant that still raises. One with a memo is taken to have told its backend something, and all of
    them were handed every reminder."""
    known = error.memo is not None
    if isinstance(error, Again):
        return Later(error.seconds, str(error), error.memo, known)
    return Refused(str(error), isinstance(error, Withheld), remind=True, memo=error.memo, known=known)


class CannotBeMade(Exception):
    """What a backend is to be told can't be made of this fault: return `Refused` with this text."""


def made(make: Callable[[], T], what: str, fault: Fault) -> T:
    """What a backend is to be told of a fault. Where it can't be made of this one, no other try makes it: CannotBeMade,
    whose text is fit for `Refused`: it is said once, and the fault's next change need not wait."""
    try:
        return make()
    except Exception as error:
        raise CannotBeMade(
            f"{what} can't be made of fault {fault.fault_id} ({fault.sequence}): {type(error).__name__}: {error!s:.200}"
            f"; is the worker on {fault.host} newer than this consumer? Upgrade it, and report this"
        ) from error


@dataclass(frozen=True, slots=True)
class Permit:
    """The answer to `Case.permit`. granted: do it now. why, seconds: otherwise what stands in the way, and for how long
    at least (return `Later` with them); seconds None: for good, as far as this change goes (the fault is cleared, or
    asks for it no more; the instance's budget is spent; it is late, and nobody confirms it): return `Refused`,
    rightly. withheld: one word for it, as in a fault's `withheld`, where there is one."""

    granted: bool
    why: str = ""
    seconds: float | None = None
    withheld: str = ""


class Queue(Protocol):
    """Lines in which one goes at a time, whichever consumer it is: for what a backend does one after the other, and
    what may be over by the time it comes to it. All methods BLOCK for a query of the database, and raise nothing."""

    def ahead(self, name: str) -> str | None:
        """Whose turn it is in the line of this name, as a sentence; None where nobody's is, or this fault's."""

    def enter(self, name: str, seconds: float) -> str | None:
        """None: it is this fault's turn from now on, until `leave`, or for so many seconds, which a second call does
        not prolong. Otherwise as `ahead`."""

    def leave(self, name: str) -> bool:
        """This fault's turn is over. False: that could not be written down, and is to be said again."""


class _NoQueue:
    """Where nobody else is."""

    def ahead(self, name: str) -> str | None:
        return None

    def enter(self, name: str, seconds: float) -> str | None:
        return None

    def leave(self, name: str) -> bool:
        return True


#: For tests, and whoever hands out cases without a database.
NO_QUEUE: Queue = _NoQueue()


@dataclass(frozen=True, slots=True)
class Case:
    """One change to deliver, with what is known besides."""

    change: Change
    fault: Fault  # as it was at this change
    latest: Fault  # as it is now: the same, or a later sequence of the same fault
    received_at: datetime  # aware, UTC: when the consumer was told of `latest`
    attempt: int  # 1 with the first try of this delivery
    memo: Mapping[str, Any] = field(default_factory=dict)
    #: BLOCKS, for 15 s at most. Asks for a place for one recovery: within the cloud-wide limits, its project's share
    #: and the instance's budget, and unless all are paused. Call it right before the recovery is asked for, at each
    #: try, once everything else speaks for it. Its worker is asked first whether the guest has answered meanwhile, if
    #: it can have; of one that is old by now Nova is asked, too. Idempotent per (fault_id, recovery_attempt): what was
    #: granted stays granted, for as long as it holds its place, still asks for it, stands, and nobody has pressed the
    #: stop button. The place is free once this change is `Refused`, or `Done` or `Later` say that it is `over`; else
    #: once the fault is cleared, or [recovery] recovery_time is over. Raises nothing.
    permit: Callable[[], Permit] = lambda: Permit(True)
    #: This reporter was handed the same before, and refused it: nothing that counts is new.
    reminder: bool = False
    #: For a backend that does one thing after the other.
    queue: Queue = NO_QUEUE

    def payload(self) -> dict[str, Any]:
        """This change as JSON, for whoever is to be told of it: `event_type`, `recovery_was_asked_for`, and `fault`,
        all fields of the notification. Words that only a newer worker knows pass as they came."""
        return {
            "event_type": str(self.change),
            "recovery_was_asked_for": self.fault.recovery_was_asked_for,
            "fault": fault_as_told(self.fault)["vmhb_object.data"],
        }


class Reporter(ABC):
    """See above."""

    #: Its name in `[consumer] reporters`, and its group: `[reporter_<name>]`.
    name: ClassVar[str]
    #: One sentence, the group's help.
    summary: ClassVar[str]
    #: Does it do something about faults, or have it done? Then it is not told of drills.
    acts: ClassVar[bool] = True

    #: Does it choose by the project whom it tells? Then it waits where Nova can't be asked whose an instance is; others
    #: are handed what is known, with no project.
    by_project: ClassVar[bool] = False

    @classmethod
    def options(cls) -> Sequence[cfg.Opt]:
        """Its options. No two reporters share a group."""
        return ()

    @abstractmethod
    def __init__(self, options: Any, now: Callable[[], datetime]) -> None:
        """options: its group, and nothing else of the configuration. now: aware, UTC. Connects to nothing; raises
        ValueError with one sentence where an option makes no sense."""

    def check(self) -> str | None:
        """BLOCKS, for 4 s at most: what stands in the way of delivering, as one sentence with a remedy, or None."""
        return None

    def wants(self, change: Change, fault: Fault) -> bool:
        """Is this one to be delivered at all? change: as it would be handed out, so RAISED where this would be the
        first of the fault. Asked before it is queued, on another thread than the rest, once or twice for each change,
        and again before a RAISED is handed out: must not block, nor rely on anything that `deliver` changes. One that
        raises is taken for True.

        Of a fault that was told the clear is wanted as well, as a rule, whatever the fault looks like by then."""
        return True

    @abstractmethod
    def deliver(self, case: Case) -> Outcome:
        """BLOCKS. Tell the backend, and return what came of it; see above. Raises nothing."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what it holds. Deliveries may be under way: they are tried again in the next life."""
