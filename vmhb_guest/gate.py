"""Whose a datagram is: a word of one that has joined or may, or of one that is set aside.

Who sends is the kernel's word; who that is, /proc's, as long as it lives.
"""

from __future__ import annotations

import dataclasses
import logging
import select
from collections.abc import Mapping

from vmhb_guest import notify, processes
from vmhb_guest.applications import Applications, joins
from vmhb_guest.budget import Budget
from vmhb_guest.ears import Heard
from vmhb_guest.members import Register
from vmhb_guest.notify import Relay
from vmhb_guest.processes import Ends
from vmhb_guest.senders import Sender
from vmhb_guest.strangers import Strangers

LOG = logging.getLogger(__name__)

#: Lines in the log about those who may not join, at once; one a second afterwards.
LINES = 10


class Gate:
    """It belongs to the daemon's thread."""

    def __init__(
        self,
        applications: Applications,
        strangers: Strangers,
        register: Register,
        relay: Relay,
        ends: Ends,
        poll: select.epoll,
    ) -> None:
        self._applications = applications
        self._strangers = strangers
        self._register = register
        self._relay = relay
        self._ends = ends
        self._poll = poll
        self._home = processes.home_of("self")
        self._lines = Budget(LINES)

    def listen(self, one: Heard, now: float) -> None:
        """Take a datagram (monotonic seconds)."""
        # First, so that it is passed on whatever becomes of it here.
        self._relay.send(one.data, one.sender, one.fd, sheltered=one.sheltered)
        pid, uid, gid = one.sender
        if one.barrier:
            if self._applications.speaks(processes.look(pid, uid, closely=False)):
                self._applications.waits(pid, now)
            return
        said = notify.parse(one.data)
        known = pid in self._applications or pid in self._strangers
        if not known and not joins(said) and said.get("STOPPING") != "1":
            return  # to look at its process costs more than all else
        found = self._look(pid, uid, said)
        joined = self._applications.speaks(found)
        if not (joined or self._register.may(pid, uid, gid) or self._applications.admits(found, said, now)):
            self._set_aside(found, said, now)
        elif self._applications.hear(found, said, now):
            self._strangers.end(pid)
            for each in (found, found.main):
                if each is not None and each.pid in self._applications:
                    self._ends.watch(each, self._poll)

    def warn(self) -> None:
        """Of those that joined before, and may not any more."""
        for name, sender in self._applications.owners():
            if not self._register.may(sender.pid, sender.uid):
                LOG.warning(
                    "application %s of uid %d joined before, and may not any more: it stays until it leaves, or until "
                    "the next boot. Put its user into the group vmhb, or name it by --members",
                    *(name, sender.uid),
                )

    def _look(self, pid: int, uid: int, said: Mapping[str, str]) -> Sender:
        """At the process that sent: closely, where it is not known."""
        if pid in self._applications and "MAINPID" not in said:
            found = processes.look(pid, uid, closely=False)
            if self._applications.speaks(found):
                return found
        found = processes.look(pid, uid, closely=True, ours=self._home, feeds=said.get("WATCHDOG") == "1")
        if "MAINPID" in said:
            found = dataclasses.replace(found, main=processes.main_of(found, said, self._home))
        return found

    def _set_aside(self, sender: Sender, said: Mapping[str, str], now: float) -> None:
        """It may not join: what it says of its health is told, and no more."""
        if sender.born and sender.pid in self._applications:
            self._ends.release(sender.pid, self._poll)  # it has the number of one that has ended
            self._applications.end(sender.pid, now)
        before, one = len(self._strangers), sender.main or sender
        if self._strangers.hear(one, said, now):
            self._ends.watch(one, self._poll)
        if len(self._strangers) > before and self._lines.take(now):
            who = ", ".join(("root", *self._register.asked))
            LOG.info(
                "pid %d (uid %d) may not join, but %s: its health is told, and nothing else", one.pid, one.uid, who
            )
