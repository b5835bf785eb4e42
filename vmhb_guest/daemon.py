"""The daemon: one thread that answers the host, hears the applications and serves callers, and blocks on nothing.

Checks run on threads of their own; all that this one does with them is to read what they found last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vmhb_guest import notify, port, processes
from vmhb_guest.applications import OWN, Applications
from vmhb_guest.budget import Budget
from vmhb_guest.checks import FOLDER, Checks
from vmhb_guest.codec import MAX_TEXT, clean
from vmhb_guest.control import Desk
from vmhb_guest.ears import Ears
from vmhb_guest.faults import Faults
from vmhb_guest.gate import Gate
from vmhb_guest.health import HEALTHY, Report, merge
from vmhb_guest.members import USUAL, Register
from vmhb_guest.memory import Memory
from vmhb_guest.notify import Way
from vmhb_guest.port import Gone, Port
from vmhb_guest.session import Session
from vmhb_guest.strangers import Strangers
from vmhb_guest.systemd import GROUPS, ControlGroups, Systemd

LOG = logging.getLogger(__name__)

#: Seconds between two rounds at most; and how late one may be before we say that we were not scheduled.
ROUND, LATE = 1.0, 0.1
#: Lines in the log about applications at once; one a second afterwards.
LINES = 20
#: How often a service manager's watchdog is fed in its time, so that one round that is late does no harm.
FEEDS = 4
#: Seconds that a farewell may take.
FAREWELL = 2.0
#: Why we leave when the machine goes down; seconds between two questions whether it still does; and, where nobody can
#: say that, after how many we are back: a machine that takes longer is one that hangs.
SHUTDOWN, STILL, LONGEST = "the machine shuts down", 10.0, 1800.0
#: Seconds of maintenance that can be asked for.
MAX_MAINTENANCE = 7 * 86400


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where everything is."""

    port: str = port.DEVICE
    folder: str = "/run/vmhb"  #: of our sockets, and of what the next daemon must know
    checks: str = FOLDER
    relay: str = ""  #: the service manager's socket; "" for none
    name: str = ""
    watchdog: float | None = None  #: seconds: after so long a silence the service manager ends us; None: it doesn't
    groups: str = GROUPS  #: the tree of control groups
    members: tuple[str, ...] = USUAL  #: who may join, beside root: see members.words

    @property
    def control(self) -> str:
        return os.path.join(self.folder, "control")

    @property
    def notify(self) -> str:
        return os.path.join(self.folder, "notify")

    @property
    def way(self) -> Way:
        return Way(os.path.join(self.folder, "services"), os.path.join(self.folder, "manager"))

    @property
    def lock(self) -> str:
        return os.path.join(self.folder, "lock")

    @property
    def memory(self) -> str:
        return os.path.join(self.folder, "applications.json")


class Daemon:
    """Make it, run() it. All but stop() belongs to the thread that runs it."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        applications: Applications | None = None,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._poll = select.epoll()
        self._port = Port(settings.port)
        self._faults = Faults(clock)
        self._session = Session(settings.name or socket.gethostname(), self.report, self._faults)
        groups = ControlGroups(settings.groups)
        self._applications = Applications(groups, self._faults.of) if applications is None else applications
        self._strangers = Strangers(groups)
        self._register = Register(settings.members, faults=self._faults)
        self._memory = Memory(settings.memory)
        self._checks = Checks(settings.checks, clock=clock, faults=self._faults)
        self._ends = processes.Ends()
        self._systemd = Systemd(self._rouse, self._faults, clock=clock)
        self._left_at = 0.0  # when we last knew that the machine goes down
        self._asked_still = 0.0
        self._stop: str | None = None
        self._gone: Gone | None = None
        self._whole = True  # no part of a round has failed since we last waited
        self._fed = clock()
        self._maintenance_until: float | None = None
        self._told: dict[str, str] = {}
        self._lines = Budget(LINES)
        self._rounds_done = 0
        self.unscheduled = 0.0  #: seconds for which we did not run when we wanted to
        self._wake, self._waker = socket.socketpair()
        for one in (self._wake, self._waker):
            one.setblocking(False)
        self._poll.register(self._wake.fileno(), select.EPOLLIN)
        self._desk: Desk
        # Never ourselves, where somebody runs us as one of our services.
        self._relay = notify.Relay("" if settings.relay in (settings.notify, settings.way.link) else settings.relay)
        self._gate = Gate(
            *(self._applications, self._strangers, self._register, self._relay, self._ends, self._poll),
        )
        joined = self._applications.__contains__
        self._ears = Ears(self._register, self._faults, joined, self._gate.listen, clock=clock)

    # -- from outside

    def stop(self, reason: str) -> None:
        """Say goodbye and end. Any thread, and signal handlers."""
        self._stop = reason
        self._rouse()

    def _rouse(self) -> None:
        """Another round, now. Any thread."""
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def rescan(self) -> None:
        """Look for checks now. Any thread, and signal handlers."""
        self._checks.rescan()

    def report(self) -> Report:
        """Everything that is found, now."""
        own = [*self._checks.findings(), *self._applications.findings(self._ears.until)]
        return merge([*own, *self._strangers.findings({*OWN, *self._checks.names(), *(one.name for one in own)})])

    # -- the life of it

    def run(self) -> int:
        """Until stop(). The exit code: 0 also where there is no port, 1 where another runs, with a line in the log."""
        with contextlib.ExitStack() as stack:
            for one in (self._poll, self._wake, self._waker, self._relay, self._systemd):
                stack.callback(one.close)
            try:
                # The port first: where there is none, nothing else is touched.
                self._port.open(self._poll, self._clock())
            except Gone as gone:
                LOG.info("%s: nothing to do here", gone)
                self._relay.say(b"READY=1")  # or the service manager would take our end for a failure
                return 0
            return self._live(stack)

    def _live(self, stack: contextlib.ExitStack) -> int:
        stack.callback(lambda: self._port.close(self._poll))
        os.makedirs(self.settings.folder, exist_ok=True)
        lock = stack.enter_context(open(self.settings.lock, "wb"))  # noqa: SIM115 -- for as long as we live
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            LOG.error("another vmhb-guest runs in %s: end it first", self.settings.folder)
            return 1
        self._register.start()
        stack.callback(self._register.stop)
        heard = self._ears.open(self.settings.notify)
        stack.callback(self._hang_up)
        self._desk = Desk(self.settings.control, self._asked, self._faults)
        stack.callback(self._desk.close)
        for fd in (heard, self._desk.socket.fileno()):
            self._poll.register(fd, select.EPOLLIN)
        self._recall()
        self._checks.start()
        stack.callback(self._checks.stop)
        self.settings.way.to_us(self.settings.notify, self._relay.address)
        LOG.info("answering on %s", self.settings.port)
        self._relay.say(b"READY=1")
        return self._rounds()

    def _rounds(self) -> int:
        before, ran = self._clock(), time.thread_time()
        while self._stop is None:
            self._part("the port", self._talk)
            if self._gone is not None:
                LOG.info("%s any more: ending", self._gone)
                return 0
            self._part("the applications", self._look_after_applications)
            now = self._clock()
            # Of the time since we woke up, that for which we did not run. What is spent on a flood of datagrams is no
            # excuse: who sends them would else keep others' silence from being seen.
            idle = now - before - (time.thread_time() - ran)
            self._excuse(idle, idle)
            self._rounds_done += 1
            self._feed(now)
            wait = self._wait(now)
            events = self._poll.poll(wait)
            self._whole = True
            before, ran = self._clock(), time.thread_time()
            late = before - now - wait
            self._part("the socket", self._ears.hear)  # also what came while we were late, before anybody is judged
            # Who woke up late doesn't know since when nobody ran: perhaps not since it went to sleep.
            self._excuse(late, late + wait)
            for fd, _ in events:
                self._part("a caller, or the end of a process", functools.partial(self._serve, fd))
        self._farewell(self._stop)
        return 0

    def _part(self, what: str, do: Callable[[], None]) -> None:
        """One part of a round. A fault in it, which is not one message's, is not the other parts' either."""
        done = False
        with self._faults.of(what):
            do()
            done = True
        self._whole = self._whole and done

    def _feed(self, now: float) -> None:
        """Tell the service manager that the loop goes round, all of it. Where it does not, or hangs, we are ended, and
        started anew.
        """
        watchdog = self.settings.watchdog
        if watchdog is not None and self._whole and now - self._fed >= watchdog / FEEDS:
            self._relay.say(b"WATCHDOG=1")
            self._fed = now

    def _wait(self, now: float) -> float:
        if not self._whole:
            return LATE  # what fails is tried again, and not spun upon
        if self._port.more:
            return 0.0
        dues = [ROUND, self._port.due(now), self._applications.due(now), 0.05 if self._relay.waiting else None]
        if self.settings.watchdog is not None:
            dues.append(self._fed + self.settings.watchdog / FEEDS - now)
        return max(min(due for due in dues if due is not None), 0.0)

    def _excuse(self, late: float, seconds: float) -> None:
        if late > LATE:
            self.unscheduled += late
            self._applications.excuse(seconds)
            LOG.info("was not scheduled for %.1f s: nobody is blamed for that time", late)

    # -- the host

    def _talk(self) -> None:
        now = self._clock()
        try:
            if not self._port.open(self._poll, now):
                return
        except Gone as gone:
            self._gone = gone
            return
        data = self._port.read()
        if self._port.host and not self._session.connected:
            self._session.connect()
            LOG.info("the host is there")
        if data:
            self._session.receive(data, now)
        self._write()
        if not self._port.host and self._session.connected:
            self._session.disconnect()
            LOG.info("the host is away")
        self._port.settle(self._poll, now)

    def _write(self) -> None:
        while self._port.host and self._session.output:
            count = self._port.write(self._session.output)
            if not count:
                return
            self._session.written(count)

    def _farewell(self, reason: str) -> None:
        if not self._session.connected:
            return
        self._session.goodbye(reason)
        until = self._clock() + FAREWELL
        self._write()
        while self._session.output and self._port.host and self._clock() < until:
            self._poll.poll(0.1)
            self._write()
        LOG.info("left monitoring: %s", clean(reason, MAX_TEXT))

    # -- applications

    def _hang_up(self) -> None:
        """Nobody is heard any more; what was said until now is passed on."""
        self.settings.way.to_manager()
        self._ears.hear()
        self._ears.close()
        until = self._clock() + FAREWELL
        while self._relay.waiting and self._clock() < until:
            time.sleep(0.01)
            self._relay.flush()

    def _serve(self, fd: int) -> None:
        now = self._clock()
        if fd == self._wake.fileno():
            with contextlib.suppress(BlockingIOError):
                self._wake.recv(4096)
        elif fd == self._desk.socket.fileno():
            self._desk.accept(self._poll, now)
        elif not self._desk.serve(fd, self._poll):
            pid = self._ends.owner(fd)
            if pid is not None:
                self._end([pid])

    def _look_after_applications(self) -> None:
        self._relay.flush()
        self._desk.tidy(self._poll, self._clock())
        self._end(self._ends.sweep())
        self._ask_systemd()
        self._applications.reserve(self._checks.names())
        self._strangers.tidy(self._ears.until)
        living = {sender.pid for table in (self._applications, self._strangers) for sender in table.living()}
        for pid in self._ends.watched():
            if pid not in living:
                self._ends.release(pid, self._poll)
        self._log_changes()
        self._memory.write(self._applications.dump(self._clock()))

    def _end(self, pids: Sequence[int]) -> None:
        """They have ended. What they said before, first: they may have left in good order. Where more waits than is
        heard in one go, they are found to have ended again in the next round.
        """
        if not pids:
            return
        noticed, born = self._clock(), {pid: self._ends.born(pid) for pid in pids}
        self._ears.hear()
        if self._ears.until < noticed:
            return
        for pid in pids:
            if self._ends.born(pid) == born[pid]:  # else another one has the number by now, and has joined
                self._ends.release(pid, self._poll)
                self._applications.end(pid, self._clock())
                self._strangers.end(pid)

    def _ask_systemd(self) -> None:
        """What it says of the units of those that would be accused; and whether the machine goes down."""
        now, answer = self._clock(), self._systemd.answer()
        if answer is not None:
            if answer.shuts_down or (answer.shuts_down is False and answer.at > self._left_at):
                self._shut_down(answer.shuts_down, now)
            for unit, told in answer.units.items():
                self._applications.told(unit, told, answer.at, now)
        names = self._applications.asks(self._ears.until)
        leaving = self._applications.dismissed != ""
        if leaving and now - self._left_at > LONGEST:
            self._shut_down(False, now)
        if (names and not leaving) or (leaving and now - self._asked_still >= STILL):
            self._asked_still = now
            self._systemd.ask(names)

    def _shut_down(self, really: bool, now: float) -> None:
        """Does the machine go down? Then nobody is accused of anything, and nothing is answered."""
        if really:
            self._left_at = now
        if really == (self._applications.dismissed != ""):
            return
        self._applications.dismiss(SHUTDOWN if really else "", now)
        if really:
            self._asked_still = now
            self._session.leave(SHUTDOWN)
        else:
            self._session.stay()
        LOG.info("%s: nobody is judged", SHUTDOWN) if really else LOG.info("the machine goes on")

    def _log_changes(self) -> None:
        now = self._clock()
        found = {one.name: one for one in self._applications.findings(self._ears.until)}
        told = {}
        for name, one in found.items():
            told[name] = self._told.get(name, "")
            # An application that changes all the time, or many of them, fill no log: what is left out is said later.
            if told[name] != one.status and self._lines.take(now):
                told[name] = one.status
                level = logging.INFO if one.status == HEALTHY else logging.WARNING
                LOG.log(level, "application %s: %s%s", name, one.status, f": {one.message}" if one.message else "")
        for name in set(self._told) - set(found):
            if self._told[name] and self._lines.take(now):
                LOG.info("application %s: left", name)
        self._told = told

    # -- what outlives us: on a file system in memory, gone with the boot, as the applications are

    def _recall(self) -> None:
        self._applications.load(self._memory.read(), self._clock())
        for sender in self._applications.living():
            if processes.born(sender.pid) == sender.born:
                self._ends.watch(sender, self._poll)
            else:
                # It may have been a helper, which we did not see long enough to know.
                self._applications.end(sender.pid, self._clock())
        self._gate.warn()

    # -- callers

    def _asked(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        verb = question.get("do")
        if verb == "status":
            return self.describe()
        if verb == "maintenance":
            return self._begin_maintenance(question)
        if verb == "goodbye" and question.get("shutdown") is True:
            self._shut_down(True, self._clock())
            return {}
        if verb == "goodbye":
            self._must_be_connected()
            self._session.goodbye(str(question.get("reason", "")))
            return {}
        if verb == "forget":
            name = str(question.get("name", ""))
            if not self._applications.forget(name):
                raise ValueError(f"no application {clean(name, MAX_TEXT)!r} has ended: see vmhb-guest status")
            return {}
        raise ValueError(f"{clean(str(verb), MAX_TEXT)!r} is nothing that can be asked for")

    def _begin_maintenance(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        seconds = question.get("seconds")
        if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds <= MAX_MAINTENANCE:
            raise ValueError(f"{seconds!r} is not a time of 0 to {MAX_MAINTENANCE} seconds")
        self._must_be_connected()
        self._session.maintenance(seconds, str(question.get("reason", "")))
        self._maintenance_until = self._clock() + seconds if seconds else None
        return {}

    def _must_be_connected(self) -> None:
        if not self._session.connected:
            raise ValueError("the host is not there, so it can't be told: try again later")

    def describe(self) -> Mapping[str, Any]:
        """How everything is, for people and their programs."""
        joined = self._applications.describe(self._ears.until)
        taken = {*OWN, *self._checks.names(), *(row["name"] for row in joined)}
        now, session = self._clock(), self._session
        left = None if self._maintenance_until is None else self._maintenance_until - now
        challenged = None if session.challenged_at is None else round(now - session.challenged_at, 1)
        return {
            "status": self.report().status,
            "host": {
                "port": self.settings.port,
                "connected": session.connected,
                "interval": session.interval,
                "last_challenge": challenged,
                "acks": session.acks,
                "withheld": session.withheld,
                "bad_lines": session.bad + session.too_long,
                "last_error": session.last_error,
                "last_notice": session.last_notice,
                "left": session.left,
            },
            "maintenance": round(left) if left is not None and left > 0 else None,
            "rounds": self._rounds_done,
            "unscheduled": round(self.unscheduled, 1),
            "checks": self._checks.describe(),
            "applications": joined + self._strangers.describe(taken, now),
            "refused": self._applications.refused + self._strangers.refused,
            "helpers": self._applications.helpers,
            "dropped": self._ears.dropped,
            "not_listened_to": self._ears.allowance.refused,
            "not_passed_on": self._relay.lost,
            "faults": self._faults.count,
        }


def handle_signals(daemon: Daemon) -> None:
    """SIGTERM and SIGINT: goodbye. SIGHUP: look for checks now."""

    def farewell(number: int, _frame: object) -> None:
        daemon.stop(f"vmhb-guest was stopped ({signal.Signals(number).name})")

    signal.signal(signal.SIGTERM, farewell)
    signal.signal(signal.SIGINT, farewell)
    signal.signal(signal.SIGHUP, lambda _number, _frame: daemon.rescan())
