"""What a reporter is: it delivers changes of faults to one backend. Knows no backend, no database and no thread.

A plugin of the entry point group `vmhb.reporters`. To write one: subclass `Reporter`, name its options, and deliver;
`log` is the template. Contract:

- One instance per consumer, made once. Its methods are called by one thread, its own: it may block, up to a minute, and
  delays nobody else.
- Changes of one fault come in the order of their sequence; the next one after the one before was delivered or given
  up. Of other faults, others may come in between. At least once: what was done when the consumer was killed is done
  again, so key on `fault_id` and `sequence`.
- The first that is heard of a fault comes as RAISED, whatever it was sent as, unless it is a clear. CLEARED comes once
  and last; one of a fault of which nothing was heard before comes as well. A reminder (UPDATED, and nothing in it that
  counts is new: `Case.reminder`) that still waits when the next one comes is replaced by it.
- `deliver` returns when the backend has it. Otherwise it raises: `Again` (not yet, try later; what it is handed as
  `memo` comes back with the next try, and with later changes of the same fault, also after a restart; `Again` with 0 s
  and a memo commits that, and comes back at once), `GiveUp` (trying again can't help; it is said in log and
  metric, and the record is kept). Any other exception counts as `Again`, with back-off.
- Words of a fault (its cause, severity, and so on) may be a newer worker's: hand them on as they came
  (`vmhb_common.objects.fault_as_told`), compare them with those that you know, and raise nothing for the others. What
  can't be made of a fault is given up: `made`.
- It may change its mind at each try: `case.latest` is what is known of the fault by now.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from oslo_config import cfg

from vmhb_common.model.fault import Change, Fault

T = TypeVar("T")


class Again(Exception):
    """Not yet. The text says why, for the log; said once per text, not once per try."""

    def __init__(self, why: str, seconds: float | None = None, memo: Mapping[str, Any] | None = None) -> None:
        """seconds: until the next try; None: back off, 1 s doubling up to 60 s. memo: JSON, kept until then; None: as
        it was."""
        super().__init__(why)
        self.seconds = seconds
        self.memo = memo


class GiveUp(Exception):
    """Never. The text says what the backend answered and what an operator should do."""

    def __init__(self, why: str, memo: Mapping[str, Any] | None = None) -> None:
        """memo: JSON, kept for later changes of the same fault; None: as it was."""
        super().__init__(why)
        self.memo = memo


class Withheld(GiveUp):
    """Rightly not done: nobody wants it any more, or it would do harm. No failure; the text says why."""


def made(make: Callable[[], T], what: str, fault: Fault) -> T:
    """What a backend is to be told of a fault. Where it can't be made of this one, no other try makes it: GiveUp, which
    says so once, rather than an error that has it tried for ever, and the fault's next change wait."""
    try:
        return make()
    except Exception as error:
        raise GiveUp(
            f"{what} can't be made of fault {fault.fault_id} ({fault.sequence}): {type(error).__name__}: {error!s:.200}"
            f"; is the worker on {fault.host} newer than this consumer? Upgrade it, and report this"
        ) from error


@dataclass(frozen=True, slots=True)
class Permit:
    """The answer to `Case.permit`. granted: do it now. why, seconds: otherwise what stands in the way, and for how long
    at least (raise Again with them); seconds None: for good, as far as this change goes (the fault is cleared, or asks
    for it no more; the instance's budget is spent; it is late, and nobody confirms it): raise Withheld."""

    granted: bool
    why: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One change to deliver, with what is known besides."""

    change: Change
    fault: Fault  # as it was at this change
    latest: Fault  # as it is now: the same, or a later sequence of the same fault
    received_at: datetime  # aware, UTC: when the consumer was told of `latest`
    attempt: int  # 1 with the first try of this delivery
    memo: Mapping[str, Any] = field(default_factory=dict)
    #: BLOCKS, for 15 s at most. Asks the cloud-wide brake and the instance's budget for one recovery: call it just
    #: before it is asked for, once everything else speaks for it. A `recover` that is old by now is verified first:
    #: with the worker, and with Nova. Idempotent per (fault_id, recovery_attempt): what was granted stays granted, for
    #: as long as the fault is open and still asks for it. Raises nothing.
    permit: Callable[[], Permit] = lambda: Permit(True)
    #: Nothing in this change that counts is new: it is here for those who missed the others.
    reminder: bool = False


class Reporter(ABC):
    """See above."""

    #: Its name in `[consumer] reporters`, and its group: `[reporter_<name>]`.
    name: ClassVar[str]
    #: One sentence, the group's help.
    summary: ClassVar[str]
    #: Does it do something about faults, or have it done? Then it is not told of drills.
    acts: ClassVar[bool] = True

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
        """Is this one to be delivered at all? Asked before it is queued, on another thread than the rest, once for each
        change: must not block, nor rely on anything that `deliver` changes. One that raises is taken for True."""
        return True

    @abstractmethod
    def deliver(self, case: Case) -> None:
        """BLOCKS. Deliver it, or raise; see above."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what it holds. Deliveries may be under way: they are tried again in the next life."""
