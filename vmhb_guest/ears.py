"""Hears the socket on which applications join: whose datagrams are listened to beside floods; up to when all is heard.

What a datagram means is not known here, nor that one of them can be anybody else's fault.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable

from vmhb_guest import notify, processes, units
from vmhb_guest.allowance import Allowance
from vmhb_guest.budget import Budget
from vmhb_guest.faults import Faults
from vmhb_guest.members import Register
from vmhb_guest.notify import Datagram, Mailbox
from vmhb_guest.watermark import Watermark

LOG = logging.getLogger(__name__)

#: Datagrams read in a row: more than the socket holds at a time, as a rule (net.unix.max_dgram_qlen, 512 by systemd),
#: so that all that was there is heard in one go; and no more, so that a flood keeps nobody from the port.
HEARD = 1024
#: Seconds between two lines in the log about a flood.
FLOODED = 60.0
#: Seconds for which it is remembered where a process belongs; and of how many.
FRESH, MAX_KNOWN = 2.0, 1024
#: Where each of the members is counted, of which no service is called.
MEMBERS = "@members"


@dataclasses.dataclass(frozen=True)
class Heard:
    """A datagram that is listened to. fd: the pipe of a barrier, which is the listener's; else -1."""

    data: bytes
    sender: tuple[int, int, int]
    barrier: bool
    fd: int
    sheltered: bool  #: its sender is put before strangers: root, a member, in a service of systemd's


class Ears:
    """They belong to the daemon's thread."""

    def __init__(
        self,
        register: Register,
        faults: Faults,
        joined: Callable[[int], bool],
        listen: Callable[[Heard, float], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """joined: has the process of this number? listen: takes what is heard, and when."""
        self.allowance = Allowance()
        self._register = register
        self._faults = faults
        self._joined = joined
        self._listen = listen
        self._clock = clock
        self._mailbox: Mailbox | None = None
        self._all = Watermark(0, clock())
        self._floods = Budget(1, 1 / FLOODED)
        self._known: dict[tuple[int, int], tuple[float, str]] = {}  # process and user -> until when, its shelter

    @property
    def until(self) -> float:
        """All that was sent before is heard, and nobody is to be judged for what comes after (monotonic seconds)."""
        return self._all.until

    @property
    def dropped(self) -> int:
        """Datagrams that were none that can be listened to."""
        return 0 if self._mailbox is None else self._mailbox.dropped

    def open(self, path: str) -> int:
        """Hear from now on: the descriptor to be polled. OSError where that can't be."""
        self._mailbox = Mailbox(path)
        self._all = Watermark(notify.room(), self._clock())
        return self._mailbox.socket.fileno()

    def close(self) -> None:
        """Hear no more."""
        if self._mailbox is not None:
            self._mailbox.close()

    def hear(self) -> None:
        """Listen to all that waits, or to so much of it. Never blocks."""
        now = self._clock()
        self._all.begin(now)
        for _ in range(HEARD):
            if not self._next(now):
                self._all.empty(now)
                return
            self._all.read(now)

    def _next(self, now: float) -> bool:
        """Take one; False where there is none. Whatever it is, it is taken, and a fault in that is only its own."""
        mailbox, taken = self._mailbox, False
        if mailbox is None:
            return False
        with self._faults.of("a datagram that can't be read"):
            one = mailbox.look()
            if one is None:
                return False
            pid, uid, _ = one.sender
            shelter = self._shelter(one, now)
            heard = one.data != b"" and self.allowance.take(
                pid, uid, joined=self._joined(pid), now=now, shelter=shelter
            )
            taken = True
            fd = mailbox.take(one, heard=heard)
            if heard:
                with self._faults.of(f"a datagram of pid {pid}, uid {uid}"):
                    sheltered = uid == 0 or shelter != ""
                    self._listen(Heard(one.data, one.sender, one.barrier, fd, sheltered), now)
            elif one.data and self._floods.take(now):
                LOG.warning("pid %d (uid %d) says more than is listened to: the rest is thrown away", pid, uid)
        if not taken:
            mailbox.skip()
        return True

    def _shelter(self, one: Datagram, now: float) -> str:
        """Where a sender is counted that is put before strangers; "" for nowhere, and for root, who needs none."""
        pid, uid, gid = one.sender
        if uid == 0:
            return ""
        if self._register.members.may(uid, (gid,)):
            return MEMBERS
        until, shelter = self._known.get((pid, uid), (now, ""))
        if until <= now:
            self._known.pop((pid, uid), None)
            shelter = MEMBERS if self._register.may(pid, uid, gid) else _service_of(pid, uid)
            self._known[pid, uid] = now + FRESH, shelter
            if len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]
        return shelter


def _service_of(pid: int, uid: int) -> str:
    """The service of systemd's that this user's process is in: nobody gets into one but who was put there."""
    unit = units.own_service(processes.home_of(pid))
    return unit if unit and uid in processes.owner(pid).users else ""
