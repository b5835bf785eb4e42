"""The daemon: one thread that answers the host, hears the applications and serves callers, and blocks on nothing.

Checks run on threads of their own; all that this one does with them is to read what they found last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vmhb_guest import notify, port, processes
from vmhb_guest.allowance import Allowance
from vmhb_guest.applications import Applications, joins
from vmhb_guest.budget import Budget
from vmhb_guest.checks import FOLDER, Checks
from vmhb_guest.codec import MAX_TEXT, clean
from vmhb_guest.control import Desk
from vmhb_guest.faults import Faults
from vmhb_guest.health import HEALTHY, Report, merge
from vmhb_guest.notify import Datagram, Way
from vmhb_guest.port import Gone, Port
from vmhb_guest.session import Session
from vmhb_guest.systemd import GROUPS, ControlGroups, Systemd

LOG = logging.getLogger(__name__)

#: Seconds between two rounds at most; and how late one may be before we say that we were not scheduled.
ROUND, LATE = 1.0, 0.1
#: Datagrams read in a round: more than the socket holds at a time (net.unix.max_dgram_qlen, 512 under systemd), so that
#: all that was there is heard before anybody is judged; and no more, so that a flood keeps nobody from the port.
HEARD = 1024
#: Lines in the log about applications at once; one a second afterwards.
LINES = 20
#: Seconds between two lines in the log about a flood.
FLOODED = 60.0
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
        self._applications = Applications(ControlGroups(settings.groups)) if applications is None else applications
        self._allowance = Allowance()
        self._checks = Checks(settings.checks, clock=clock, faults=self._faults)
        self._ends = processes.Ends()
        self._systemd = Systemd(self._rouse, self._faults, clock=clock)
        self._home = processes.home_of("self")
        self._left_at = 0.0  # when we last knew that the machine goes down
        self._asked_still = 0.0
        self._stop: str | None = None
        self._gone: Gone | None = None
        self._whole = True  # no part of a round has failed since we last waited
        self._fed = clock()
        self._maintenance_until: float | None = None
        self._remembered = ""
        self._told: dict[str, str] = {}
        self._lines = Budget(LINES)
        self._floods = Budget(1, 1 / FLOODED)
        self._rounds_done = 0
        self.unscheduled = 0.0  #: seconds for which we did not run when we wanted to
        self._wake, self._waker = socket.socketpair()
        for one in (self._wake, self._waker):
            one.setblocking(False)
        self._poll.register(self._wake.fileno(), select.EPOLLIN)
        self._mailbox: notify.Mailbox
        self._desk: Desk
        # Never ourselves, where somebody runs us as one of our services.
        self._relay = notify.Relay("" if settings.relay in (settings.notify, settings.way.link) else settings.relay)

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
        return merge([*self._checks.findings(), *self._applications.findings(self._clock())])

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
        self._mailbox = notify.Mailbox(self.settings.notify)
        stack.callback(self._hang_up)
        self._desk = Desk(self.settings.control, self._asked, self._faults)
        stack.callback(self._desk.close)
        for one in (self._mailbox.socket, self._desk.socket):
            self._poll.register(one.fileno(), select.EPOLLIN)
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
            self._part("the socket", self._hear)  # also what came while we were late, before anybody is judged
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
        self._hear()
        self._mailbox.close()
        until = self._clock() + FAREWELL
        while self._relay.waiting and self._clock() < until:
            time.sleep(0.01)
            self._relay.flush()

    def _hear(self) -> None:
        now = self._clock()
        for _ in range(HEARD):
            one = self._mailbox.look()
            if one is None:
                return
            pid, uid, _ = one.sender
            heard = one.data != b"" and self._allowance.take(pid, uid, joined=pid in self._applications, now=now)
            fd = self._mailbox.take(one, heard=heard)
            if heard:
                with self._faults.of(f"a datagram of pid {pid}, uid {uid}"):
                    self._listen(one, fd, now)
            elif one.data and self._floods.take(now):
                LOG.warning("pid %d (uid %d) says more than is listened to: the rest is thrown away", pid, uid)

    def _listen(self, one: Datagram, fd: int, now: float) -> None:
        # First, so that it is passed on whatever becomes of it here.
        self._relay.send(one.data, one.sender, fd)
        pid, uid, _ = one.sender
        if one.barrier:
            self._applications.waits(pid, now)
            return
        said, known = notify.parse(one.data), pid in self._applications
        if not known and not joins(said) and said.get("STOPPING") != "1":
            return  # to look at its process costs more than all else
        closely, feeds = not known or "MAINPID" in said, said.get("WATCHDOG") == "1"
        found = processes.look(pid, uid, closely=closely, ours=self._home, feeds=feeds)
        if "MAINPID" in said:
            found = dataclasses.replace(found, main=processes.main_of(found, said, self._home))
        if self._applications.hear(found, said, now):
            for each in (found, found.main):
                if each is not None and each.pid in self._applications:
                    self._ends.watch(each, self._poll)

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
        living = {sender.pid: sender for sender in self._applications.living()}
        for pid in self._ends.watched():
            if pid not in living:
                self._ends.release(pid, self._poll)
        self._log_changes()
        self._remember()

    def _end(self, pids: Sequence[int]) -> None:
        if pids:
            self._hear()  # what they said before they ended, first: they may have left in good order
        for pid in pids:
            self._ends.release(pid, self._poll)
            self._applications.end(pid, self._clock())

    def _ask_systemd(self) -> None:
        """What it says of the units of those that would be accused; and whether the machine goes down."""
        now, answer = self._clock(), self._systemd.answer()
        if answer is not None:
            if answer.shuts_down or (answer.shuts_down is False and answer.at > self._left_at):
                self._shut_down(answer.shuts_down, now)
            for unit, told in answer.units.items():
                self._applications.told(unit, told, answer.at, now)
        names = self._applications.asks(now)
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
        found = {one.name: one for one in self._applications.findings(now)}
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

    def _remember(self) -> None:
        text = json.dumps(self._applications.dump(self._clock()))
        if text == self._remembered:
            return
        self._remembered = text
        try:
            with open(f"{self.settings.memory}.new", "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(f"{self.settings.memory}.new", self.settings.memory)
        except OSError as error:
            LOG.warning("%s can't be written, so a restart would forget who joined: %s", self.settings.memory, error)

    def _recall(self) -> None:
        try:
            with open(self.settings.memory, encoding="utf-8") as file:
                self._remembered = file.read()
            self._applications.load(json.loads(self._remembered), self._clock())
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            LOG.warning("%s can't be read, so who joined before is not known: %s", self.settings.memory, error)
            return
        for sender in self._applications.living():
            if processes.born(sender.pid) == sender.born:
                self._ends.watch(sender, self._poll)
            else:
                # It may have been a helper, which we did not see long enough to know.
                self._applications.end(sender.pid, self._clock())

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
            "applications": self._applications.describe(now),
            "refused": self._applications.refused,
            "helpers": self._applications.helpers,
            "dropped": self._mailbox.dropped,
            "not_listened_to": self._allowance.refused,
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
