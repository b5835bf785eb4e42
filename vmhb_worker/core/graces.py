"""The times that a guest is given before something is said or done: for its first answer, for its port, after a panic,
after its arrival from another host.

They run only while nothing else explains the guest's silence: what a silence lasted is added to each. Times are seconds
of the monotonic clock; None where no such time runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from vmhb_common.model.policy import HeartbeatPolicy
from vmhb_worker.core.ask_schedule import full_threshold
from vmhb_worker.core.instance_state import Memory, Timing

#: Who has arrived from another host within so long (seconds) is told of as early as at other times, and its recovery
#: asked for after that: guests that lived were silent for 10 s after they had come to a host at load 16, and had
#: answered there before.
ARRIVAL_GRACE = 60.0
_NONE = (None, None, None, None)


class Graces:
    """Belongs to its monitor.

    in_force: the policy by which the guest is asked now. established: it has acknowledged once. waiting_since: since
    when its first acknowledgement of this boot is awaited, without what silences lasted; None: it has come, or the
    domain does not run.
    """

    __slots__ = (
        "_extended",
        "_in_force",
        "_panic_grace",
        "_timing",
        "arrived_until",
        "closings",
        "established",
        "exited",
        "overdue_at",
        "panic_at",
        "settle_at",
        "waiting_since",
    )

    def __init__(self, timing: Timing, in_force: Callable[[], HeartbeatPolicy], memory: Memory, now: float) -> None:
        self._timing = timing
        self._in_force = in_force
        self.established = memory.established
        # The grace of a domain that does not run does not run either.
        self.waiting_since = None if memory.waited is None or not memory.running else now - memory.waited
        self.overdue_at = self._overdue()
        if self.overdue_at is not None:  # we may have been away for all of its grace: ask first
            self.overdue_at = max(self.overdue_at, now + self.full_threshold)
        self.panic_at: float | None = None
        self._panic_grace = timing.panic_grace
        self.arrived_until: float | None = None
        self.settle_at: float | None = None
        self._extended = False  # whoever reopened the port has been granted a full threshold
        self.closings = 0  # of the port, since the last acknowledgement
        self.exited = False  # it is closed, and has had its time to be opened

    @property
    def full_threshold(self) -> float:
        """Seconds that a guest which is asked again is owed."""
        return full_threshold(self._in_force())

    def _overdue(self) -> float | None:
        """Until when the first acknowledgement of this boot is awaited, by what its policy says now; None: for ever, or
        it has come.
        """
        if self.waiting_since is None:
            return None
        if self.established:
            return self.waiting_since + self._timing.reboot_grace
        grace = self._in_force().grace
        return self.waiting_since + grace if grace else None

    def boots(self, now: float) -> None:
        """A boot: it is waited for, from the first unanswered one on; and nothing that it did before means anything."""
        self.standstill()
        if self.waiting_since is None:
            self.waiting_since = now
        self.await_ack()

    def established_now(self) -> bool:
        """Its first acknowledgement of this boot. Is it the first that there ever was?"""
        first, self.established = not self.established, True
        self.waiting_since = self.overdue_at = None
        return first

    def begin_anew(self, now: float) -> None:
        """Somebody else is to acknowledge, who never has."""
        self.established, self.waiting_since = False, now

    def await_ack(self) -> None:
        """A boot, or another policy: the wait is as long as that says."""
        self.overdue_at = self._overdue()

    def answered(self) -> None:
        """The guest acknowledged: its port is no question any more."""
        self.settle_at = None
        self._extended = self.exited = False
        self.closings = 0

    def panicked(self, at: float, saves_dump: bool, asked_from: float = -math.inf) -> None:
        """Its kernel said so then; it may still answer, or reboot by itself, and before that save a crash dump.

        asked_from: not before it has been asked from then on, and has not answered.
        """
        self._panic_grace = self._timing.crash_dump_grace if saves_dump else self._timing.panic_grace
        self.panic_at = max(at + self._panic_grace, asked_from + self.full_threshold)

    def arrived(self, now: float) -> None:
        """From another host, just now: if it is silent, it may still go on."""
        self.arrived_until = now + ARRIVAL_GRACE

    def port_closed(self, now: float) -> None:
        """The first of its closings since it answered counts."""
        if self.settle_at is None:
            self.settle_at = now + self._timing.exit_settle_time

    def reopened(self, reopened_at: float, now: float) -> bool:
        """Settle time is over, the port is open again, and still no answer: is whoever opened it owed more time?

        A full threshold, but only once: a port that flaps proves nothing.
        """
        until = reopened_at + self.full_threshold
        if now >= until or self._extended:
            return False
        self._extended = True
        self.settle_at = until
        return True

    def standstill(self) -> None:
        """Its vCPUs stand still: nothing that it does, or doesn't, means anything."""
        self.settle_at = self.panic_at = self.arrived_until = None

    def end(self) -> None:
        """Nothing is waited for."""
        self.waiting_since = self.overdue_at = self.panic_at = self.settle_at = self.arrived_until = None

    def put_off(self, lasted: float, now: float) -> None:
        """Extend each running grace by the length of the silence, but never beyond a full grace from now."""
        if self.waiting_since is not None:
            self.waiting_since = min(self.waiting_since + lasted, now)
        full = self.full_threshold
        if self.overdue_at is not None:
            self.overdue_at = min(self.overdue_at + lasted, max(self._overdue() or now, now + full))
        if self.panic_at is not None:
            self.panic_at = min(self.panic_at + lasted, now + self._panic_grace)
        if self.arrived_until is not None:
            self.arrived_until = min(self.arrived_until + lasted, now + ARRIVAL_GRACE)
        if self.settle_at is not None:
            self.settle_at = min(self.settle_at + lasted, now + max(self._timing.exit_settle_time, full))

    def deadline(self) -> float:
        """When the next of them is over."""
        times = (self.overdue_at, self.panic_at, self.settle_at, self.arrived_until)
        return math.inf if times == _NONE else min(at for at in times if at is not None)

    def overdue(self, now: float) -> bool:
        """Did the first acknowledgement not come in time? True once."""
        over = self.overdue_at is not None and now >= self.overdue_at
        self.overdue_at = None if over else self.overdue_at
        return over

    def panic_over(self, now: float) -> bool:
        """Has a panicked guest had its time? True once."""
        over = self.panic_at is not None and now >= self.panic_at
        self.panic_at = None if over else self.panic_at
        return over

    def arrival_over(self, now: float) -> bool:
        """Has one that arrived had its time? True once."""
        over = self.arrived_until is not None and now >= self.arrived_until
        self.arrived_until = None if over else self.arrived_until
        return over

    def settled(self, now: float) -> bool:
        """Has the port had its time? True once."""
        over = self.settle_at is not None and now >= self.settle_at
        self.settle_at = None if over else self.settle_at
        return over
