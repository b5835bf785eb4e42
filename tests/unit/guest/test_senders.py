"""Whom a message speaks for: a table of senders, with and without systemd. A clock that is moved, and no process.

What is right is what systemd says: a service is its unit, or the process that MAINPID= names, and not whoever sends.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.guest.examples import EXAMPLES
from vmhb_guest.application import AGAIN, BEING_STOPPED, FROZEN, LATER, MAX_PROCESSES, PATIENCE, SOON, Groups
from vmhb_guest.applications import MAX_GONE, Applications, Sender
from vmhb_guest.health import HEALTHY, UNHEALTHY
from vmhb_guest.senders import BARRIER, HELPERS, STAYS
from vmhb_guest.units import Told, Word, title

BILLING = "/system.slice/billing.service"
NOBODY = 65534
GONE = "gone"


class Machine(Groups):
    """The table, and a systemd that says what a test has it say."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.table = Applications(self)
        self.words: dict[str, Told] = {}  # by unit; of one that isn't here, systemd says nothing
        self.stands_still: set[int | str] = set()
        self.nobody_in: set[str] = set()
        self.lag = 0.0  # seconds between a question and its answer
        self._late: list[tuple[float, dict[str, Told]]] = []
        self._pids = iter(range(100, 10_000))

    def frozen(self, pid: int, unit: str) -> bool:
        return pid in self.stands_still or unit in self.stands_still

    def empty(self, unit: str) -> bool:
        return unit in self.nobody_in

    def process(self, unit: str = "", uid: int = 0, command: str = "server", program: str = "") -> Process:
        """A new one, in this unit."""
        keeper = f"{title(unit)}.service" if unit else ""
        pid = next(self._pids)
        return Process(self, Sender(pid, uid, command, pid, None, unit, keeper, program or f"{command} {pid}"))

    def says(self, unit: str, word: Word | None, began: float = 0.0) -> None:
        """systemd, of this unit, from now on; None: nothing."""
        self.words.pop(f"{title(unit)}.service", None)
        if word is not None:
            self.words[f"{title(unit)}.service"] = Told(word, began)

    def passes(self, seconds: float) -> None:
        """Time, in which systemd is asked, and answers; as late as `lag` says."""
        until = self.now + seconds
        while True:
            asked = self.now
            answers = {unit: self.words[unit] for unit in self.table.asks(asked) & set(self.words)}
            self._late = [*self._late, (asked, answers)]
            while self._late and self._late[0][0] <= self.now - self.lag:
                asked, answers = self._late.pop(0)
                for unit, told in answers.items():
                    self.table.told(unit, told, asked, self.now)
            if self.now >= until:
                return
            self.now = min(self.now + 0.5, until)

    def found(self) -> dict[str, str]:
        """Name -> status."""
        return {one.name: one.status for one in self.table.findings(self.now)}

    def why(self, name: str) -> str:
        return next(one.message for one in self.table.findings(self.now) if one.name == name)


@dataclasses.dataclass
class Process:
    """One that speaks."""

    machine: Machine
    sender: Sender

    def say(self, *rows: str, main: Process | None = None) -> bool:
        said = dict(row.split("=", 1) for row in rows)
        sender = dataclasses.replace(self.sender, main=None if main is None else main.sender)
        return self.machine.table.hear(sender, said, self.machine.now)

    def wait(self) -> None:
        """BARRIER=1."""
        self.machine.table.waits(self.sender.pid, self.machine.now)

    def end(self) -> None:
        self.machine.table.end(self.sender.pid, self.machine.now)


#: What is to become of the application that a story is about.
Expected = str
STORIES: dict[str, tuple[Callable[[Machine], None], Expected]] = {}


def story(expected: Expected) -> Callable[[Callable[[Machine], None]], Callable[[Machine], None]]:
    """A row of the table: what happens, and what is found in the end; GONE: nothing at all."""

    def kept(function: Callable[[Machine], None]) -> Callable[[Machine], None]:
        STORIES[function.__name__] = function, expected
        return function

    return kept


# -- where there is no systemd


@story(UNHEALTHY)
def a_process_that_stays_and_ends(machine: Machine) -> None:
    one = machine.process()
    one.say("READY=1")
    machine.passes(STAYS)
    one.end()


@story(GONE)
def a_helper_that_speaks_and_ends(machine: Machine) -> None:
    one = machine.process()
    one.say("READY=1")
    machine.passes(STAYS - 0.5)
    one.end()


@story(UNHEALTHY)
def one_with_a_name_that_ends_at_once(machine: Machine) -> None:
    one = machine.process()
    one.say("READY=1", "X-VMHB-NAME=web")
    one.end()


@story(UNHEALTHY)
def one_with_a_deadline_that_ends_at_once(machine: Machine) -> None:
    one = machine.process()
    one.say("READY=1", "WATCHDOG_USEC=5000000")
    one.end()


@story(GONE)
def a_helper_with_a_name_that_waits_until_it_is_read(machine: Machine) -> None:
    one = machine.process(uid=NOBODY)
    one.say("READY=1", "X-VMHB-NAME=web")
    one.wait()
    machine.passes(BARRIER + STAYS - 0.5)
    one.end()


@story(UNHEALTHY)
def one_that_waited_once_and_ended_long_after(machine: Machine) -> None:
    one = machine.process()
    one.say("READY=1")
    one.wait()
    machine.passes(BARRIER + STAYS)
    one.end()


@story(GONE)
def systemd_notify_of_an_ordinary_user(machine: Machine) -> None:
    for rows in (("READY=1",), ("WATCHDOG=1",), ("READY=1", "X-VMHB-NAME=job"), ("X-VMHB-HEALTH=unhealthy",)):
        one = machine.process(uid=NOBODY, command=min(HELPERS))
        assert not one.say(*rows)
        machine.passes(STAYS)
        one.end()


@story(HEALTHY)
def systemd_notify_of_an_ordinary_user_for_its_caller(machine: Machine) -> None:
    shell = machine.process(uid=NOBODY, command="sh")
    one = machine.process(uid=NOBODY, command=min(HELPERS))
    assert one.say("READY=1", main=shell)
    machine.passes(STAYS)
    one.end()


@story(UNHEALTHY)
def its_caller_that_ends(machine: Machine) -> None:
    systemd_notify_of_an_ordinary_user_for_its_caller(machine)
    machine.table.end(machine.table.living()[0].pid, machine.now)


@story(HEALTHY)
def a_helper_of_one_that_goes_by_that_name(machine: Machine) -> None:
    one, helper = machine.process(), machine.process()
    one.say("READY=1", "X-VMHB-NAME=web")
    helper.say("READY=1", "X-VMHB-NAME=web")
    helper.end()
    assert machine.found() == {"web": HEALTHY}
    machine.passes(STAYS)


@story(UNHEALTHY)
def one_that_had_a_helper_and_ends(machine: Machine) -> None:
    one, helper = machine.process(), machine.process()
    one.say("READY=1", "X-VMHB-NAME=web")
    helper.say("READY=1", "X-VMHB-NAME=web")
    helper.end()
    one.end()
    assert machine.why("web") == f"ended without STOPPING=1 (pid {one.sender.pid})"


@story(HEALTHY)
def a_starter(machine: Machine) -> None:
    starter, main = machine.process(command="podman"), machine.process(command="conmon")
    starter.say("READY=1", main=main)
    machine.passes(STAYS)
    starter.end()
    assert set(machine.found()) == {"conmon"}


@story(HEALTHY)
def a_starter_that_speaks_twice(machine: Machine) -> None:
    starter, main = machine.process(command="podman"), machine.process(command="conmon")
    starter.say("MAINPID=1", main=main)
    starter.say("READY=1", "STATUS=up")
    machine.passes(10)
    starter.end()


@story(UNHEALTHY)
def a_starter_whose_service_ends_at_once(machine: Machine) -> None:
    starter, main = machine.process(command="podman"), machine.process(command="conmon")
    starter.say("READY=1", main=main)
    main.end()
    assert machine.why("conmon") == f"ended without STOPPING=1 (pid {main.sender.pid})"
    starter.end()


@story(UNHEALTHY)
def a_starter_that_has_ended_when_it_is_heard(machine: Machine) -> None:
    starter, main = machine.process(command="podman"), machine.process(command="conmon")
    starter.sender = dataclasses.replace(starter.sender, command="", born=0)
    assert starter.say("READY=1", main=main)
    assert machine.found() == {"conmon": HEALTHY}
    main.end()


@story(UNHEALTHY)
def a_service_that_is_handed_over_with_its_deadline(machine: Machine) -> None:
    old, new = machine.process(), machine.process()
    old.say("READY=1", "X-VMHB-NAME=web", "WATCHDOG_USEC=5000000", "X-VMHB-HEALTH=degraded")
    old.say("READY=1", main=new)
    assert machine.found() == {"web": HEALTHY}
    machine.passes(6)


@story(UNHEALTHY)
def two_starters_of_the_same_program(machine: Machine) -> None:
    mains = []
    for _ in range(2):
        starter, main = machine.process(program="podman run"), machine.process(program="conmon")
        starter.say("READY=1", main=main)
        starter.end()
        mains.append(main)
    assert len(machine.found()) == 2
    mains[0].end()


def handed_over(machine: Machine, *rows: str, first: tuple[str, ...] = ()) -> tuple[Process, Process]:
    old, new = (machine.process(program="gunicorn app") for _ in range(2))
    old.say("READY=1", *rows)
    machine.passes(100)
    if first:
        new.say(*first, *rows)
    new.say("READY=1", *rows, main=new)
    assert list(machine.found().values()) == [HEALTHY]
    return old, new


@story(HEALTHY)
def a_server_that_replaces_itself(machine: Machine) -> None:
    handed_over(machine)[0].end()


@story(HEALTHY)
def a_server_that_replaces_itself_and_has_a_name(machine: Machine) -> None:
    handed_over(machine, "X-VMHB-NAME=web")[0].end()
    assert set(machine.found()) == {"web"}


@story(HEALTHY)
def a_successor_that_is_ready_before_it_says_so_of_itself(machine: Machine) -> None:
    handed_over(machine, first=("READY=1",))[0].end()


@story(HEALTHY)
def a_successor_that_says_its_name_before_it_is_ready(machine: Machine) -> None:
    handed_over(machine, "X-VMHB-NAME=web", first=("STATUS=starting",))[0].end()
    assert set(machine.found()) == {"web"}


@story(HEALTHY)
def a_successor_of_a_successor(machine: Machine) -> None:
    old, new = handed_over(machine)
    newest = machine.process(program="gunicorn app")
    newest.say("READY=1", main=newest)
    old.end()
    new.end()


@story(UNHEALTHY)
def a_successor_that_ends_while_the_old_one_is_there(machine: Machine) -> None:
    _, new = handed_over(machine)
    new.end()
    assert machine.why("server") == f"ended without STOPPING=1 (pid {new.sender.pid})"


@story(HEALTHY)
def a_successor_of_that_name_that_says_only_that_it_is_ready(machine: Machine) -> None:
    old, new = machine.process(), machine.process()
    old.say("READY=1", "X-VMHB-NAME=web")
    new.say("READY=1", "X-VMHB-NAME=web")
    machine.passes(STAYS)
    old.end()
    assert machine.found() == {"web": HEALTHY}


@story(UNHEALTHY)
def a_successor_of_that_name_that_stays_and_ends(machine: Machine) -> None:
    a_successor_of_that_name_that_says_only_that_it_is_ready(machine)
    machine.table.end(machine.table.living()[0].pid, machine.now)


@story(HEALTHY)
def the_old_one_says_who_its_successor_is(machine: Machine) -> None:
    old, new = machine.process(command="old"), machine.process(command="new")
    old.say("READY=1", "X-VMHB-NAME=web")
    old.say("STATUS=handed over", main=new)
    machine.passes(10)
    old.end()
    assert set(machine.found()) == {"web"}


@story(HEALTHY)
def the_old_one_says_so_when_its_successor_has_joined(machine: Machine) -> None:
    old, new = machine.process(command="old"), machine.process(command="new")
    old.say("READY=1", "X-VMHB-NAME=web")
    new.say("READY=1")
    old.say("STATUS=handed over", main=new)
    old.end()
    assert set(machine.found()) == {"web"}


@story(HEALTHY)
def the_old_one_says_that_it_stops(machine: Machine) -> None:
    old, _ = handed_over(machine)
    old.say("STOPPING=1")
    old.end()


@story(GONE)
def the_new_one_says_that_it_stops(machine: Machine) -> None:
    _, new = handed_over(machine)
    new.say("STOPPING=1")
    new.end()


@story(UNHEALTHY)
def two_instances_of_a_program_with_other_arguments(machine: Machine) -> None:
    one, two = machine.process(program="haproxy a.cfg"), machine.process(program="haproxy b.cfg")
    for each in (one, two):
        each.say("READY=1", main=each)
    assert len(machine.found()) == 2
    one.end()


@story(UNHEALTHY)
def two_users_of_one_name(machine: Machine) -> None:
    one, two = machine.process(uid=33), machine.process(uid=34)
    for each in (one, two):
        each.say("READY=1", "X-VMHB-NAME=web", main=each)
    assert len(machine.found()) == 2
    one.end()


@story(UNHEALTHY)
def two_of_a_user_under_one_name_that_never_say_that_they_are_ready(machine: Machine) -> None:
    one, two = machine.process(), machine.process()
    for each in (one, two):
        each.say("WATCHDOG=1", "X-VMHB-NAME=web")
    assert len(machine.found()) == 2
    one.end()


@story(GONE)
def one_that_feeds_on_while_it_stops(machine: Machine) -> None:
    one = machine.process()
    one.say("READY=1", "WATCHDOG_USEC=1000000")
    one.say("STOPPING=1")
    assert not one.say("WATCHDOG=1")
    machine.passes(5)
    one.end()


@story(HEALTHY)
def one_that_is_ready_again_after_it_stopped(machine: Machine) -> None:
    one = machine.process()
    one.say("READY=1")
    one.say("STOPPING=1")
    assert one.say("READY=1")
    machine.passes(STAYS)


@story(HEALTHY)
def one_that_stands_still_by_somebodys_wish(machine: Machine) -> None:
    one = machine.process()
    one.say("READY=1", "WATCHDOG_USEC=1000000")
    machine.stands_still.add(one.sender.pid)
    machine.passes(100.4)
    assert machine.why("server") == FROZEN
    machine.stands_still.clear()
    machine.passes(1.0)
    assert machine.why("server") == ""


@story(UNHEALTHY)
def one_that_is_silent_when_it_goes_on(machine: Machine) -> None:
    one_that_stands_still_by_somebodys_wish(machine)
    machine.passes(1.5)


@story(UNHEALTHY)
def one_that_is_silent(machine: Machine) -> None:
    machine.process().say("READY=1", "WATCHDOG_USEC=1000000")
    machine.passes(1.5)


# -- where systemd has a unit for it


def unit(machine: Machine, *rows: str, uid: int = 0) -> Process:
    machine.says(BILLING, Word.RUNS)
    one = machine.process(BILLING, uid)
    one.say("READY=1", *rows)
    machine.passes(10)
    return one


@story(HEALTHY)
def a_root_service(machine: Machine) -> None:
    unit(machine)
    assert set(machine.found()) == {"billing"}


@story(UNHEALTHY)
def a_killed_unit(machine: Machine) -> None:
    one = unit(machine)
    machine.says(BILLING, Word.BROKE)
    one.end()
    assert machine.found() == {"billing": HEALTHY}, "systemd is asked first"
    machine.passes(0)
    assert machine.why("billing") == f"ended without STOPPING=1 (pid {one.sender.pid})"


@story(UNHEALTHY)
def a_killed_unit_of_which_something_is_left(machine: Machine) -> None:
    one, worker = unit(machine), machine.process(BILLING)
    worker.say("WATCHDOG=1")
    machine.says(BILLING, Word.BROKE)
    machine.passes(10)
    one.end()
    machine.passes(0)
    assert not worker.say("WATCHDOG=1"), "what it goes on to say is nobody's"


@story(HEALTHY)
def helpers_of_an_ordinary_users_service(machine: Machine) -> None:
    machine.says(BILLING, Word.RUNS)
    for rows in (("READY=1",), ("WATCHDOG=1",), ("STATUS=up", "WATCHDOG=1")) * 5:
        helper = machine.process(BILLING, NOBODY, min(HELPERS))
        assert helper.say(*rows)
        helper.end()
        machine.passes(3)
    assert set(machine.found()) == {"billing"}
    assert machine.table.living() == []


@story(UNHEALTHY)
def a_service_of_helpers_whose_unit_ends(machine: Machine) -> None:
    helpers_of_an_ordinary_users_service(machine)
    machine.says(BILLING, Word.BROKE)
    machine.nobody_in.add(BILLING)
    machine.passes(1)


@story(UNHEALTHY)
def a_service_of_helpers_that_feed_no_more(machine: Machine) -> None:
    machine.says(BILLING, Word.RUNS)
    machine.process(BILLING, NOBODY, min(HELPERS)).say("WATCHDOG=1", "WATCHDOG_USEC=5000000")
    machine.passes(6)


@story(GONE)
def a_helper_that_says_that_its_service_stops(machine: Machine) -> None:
    one = unit(machine, uid=NOBODY)
    machine.process(BILLING, NOBODY, min(HELPERS)).say("STOPPING=1")
    one.end()


@story(HEALTHY)
def another_user_that_says_that_the_service_stops(machine: Machine) -> None:
    unit(machine)
    machine.process(BILLING, NOBODY).say("STOPPING=1")


@story(HEALTHY)
def a_helper_that_stays_for_a_while(machine: Machine) -> None:
    unit(machine)
    helper = machine.process(BILLING)
    helper.say("WATCHDOG=1")
    machine.passes(60)
    helper.end()
    machine.passes(0)


@story(HEALTHY)
def a_successor_in_its_unit(machine: Machine) -> None:
    old = unit(machine)
    new = machine.process(BILLING)
    new.say("READY=1", main=new)
    machine.passes(10)
    old.say("STOPPING=1")
    old.end()
    assert set(machine.found()) == {"billing"}


@story(HEALTHY)
def a_successor_in_its_unit_that_says_nothing_of_it(machine: Machine) -> None:
    unit(machine).end()
    machine.passes(0)


@story(UNHEALTHY)
def a_successor_in_its_unit_that_is_killed(machine: Machine) -> None:
    a_successor_in_its_unit(machine)
    machine.says(BILLING, Word.BROKE)
    machine.table.end(machine.table.living()[0].pid, machine.now)
    machine.passes(0)


@story(UNHEALTHY)
def one_of_several_in_a_unit(machine: Machine) -> None:
    machine.says(BILLING, Word.RUNS)
    parts = [machine.process(BILLING) for _ in range(3)]
    for part, name in zip(parts, ("supervisor", "one", "two"), strict=True):
        part.say("READY=1", f"X-VMHB-NAME={name}")
    machine.passes(60)
    parts[1].end()
    machine.passes(0)
    assert machine.found() == {"supervisor": HEALTHY, "one": UNHEALTHY, "two": HEALTHY}
    machine.table.forget("supervisor")
    for one in parts[::2]:
        one.say("STOPPING=1")


@story(UNHEALTHY)
def two_units_of_one_name(machine: Machine) -> None:
    inner = f"/machine.slice/box.service/payload{BILLING}"
    one, two = unit(machine), machine.process(inner)
    two.say("READY=1")
    assert len(machine.found()) == 2
    machine.passes(10)
    machine.says(BILLING, Word.BROKE)
    one.end()
    machine.passes(0)
    assert sorted(machine.found().values()) == [HEALTHY, UNHEALTHY]
    two.say("STOPPING=1")


@story(GONE)
def a_unit_stopped_by_its_operator(machine: Machine) -> None:
    one = unit(machine)
    machine.says(BILLING, Word.STOPPING)
    one.end()
    machine.passes(SOON)
    assert machine.why("billing") == BEING_STOPPED
    machine.says(BILLING, Word.STOPPED)
    machine.passes(SOON)


@story(GONE)
def a_unit_stopped_in_no_time(machine: Machine) -> None:
    one = unit(machine)
    machine.says(BILLING, Word.STOPPED)
    one.end()
    machine.passes(0)


@story(HEALTHY)
def a_unit_that_is_silent_while_it_is_stopped(machine: Machine) -> None:
    unit(machine, "WATCHDOG_USEC=20000000")
    machine.says(BILLING, Word.STOPPING)
    machine.passes(90)


@story(UNHEALTHY)
def a_unit_that_hangs_and_then_is_stopped_and_hangs_still(machine: Machine) -> None:
    unit(machine, "WATCHDOG_USEC=5000000")
    assert machine.found() == {"billing": UNHEALTHY}
    machine.says(BILLING, Word.STOPPING)
    machine.passes(AGAIN)
    assert machine.found() == {"billing": HEALTHY}
    machine.says(BILLING, Word.BROKE)  # its watchdog, say, has run out as well
    machine.passes(SOON)


@story(GONE)
def a_unit_restarted_by_its_operator(machine: Machine) -> None:
    one = unit(machine)
    machine.says(BILLING, Word.STARTS)
    one.end()
    machine.passes(0)


@story(GONE)
def a_unit_restarted_by_its_operator_in_no_time(machine: Machine) -> None:
    one = unit(machine, "X-VMHB-NAME=billing")
    machine.says(BILLING, Word.RUNS, began=machine.now)
    one.end()
    machine.passes(0)


@story(HEALTHY)
def a_unit_restarted_by_its_operator_that_is_ready_again(machine: Machine) -> None:
    one = unit(machine, "X-VMHB-NAME=billing")
    one.end()
    machine.process(BILLING).say("READY=1", "X-VMHB-NAME=billing")
    machine.says(BILLING, Word.RUNS, began=machine.now)
    machine.passes(1)


@story(UNHEALTHY)
def a_unit_that_systemd_starts_again(machine: Machine) -> None:
    a_killed_unit(machine)
    machine.says(BILLING, Word.RUNS)
    machine.passes(60)


@story(HEALTHY)
def a_unit_that_systemd_has_started_again(machine: Machine) -> None:
    a_killed_unit(machine)
    machine.says(BILLING, Word.RUNS)
    assert machine.process(BILLING).say("READY=1")


@story(HEALTHY)
def a_unit_that_is_back_as_another_user(machine: Machine) -> None:
    a_killed_unit(machine)
    machine.says(BILLING, Word.RUNS)
    assert machine.process(BILLING, NOBODY).say("READY=1")


@story(GONE)
def a_unit_that_failed_and_that_its_operator_resets(machine: Machine) -> None:
    a_killed_unit(machine)
    machine.passes(2 * LATER)
    assert machine.found() == {"billing": UNHEALTHY}
    machine.says(BILLING, Word.STOPPED)
    machine.passes(LATER)


@story(GONE)
def one_of_several_whose_unit_is_stopped(machine: Machine) -> None:
    machine.says(BILLING, Word.RUNS)
    one, two = machine.process(BILLING), machine.process(BILLING)
    one.say("READY=1", "X-VMHB-NAME=one")
    two.say("READY=1", "X-VMHB-NAME=two")
    machine.passes(60)
    one.end()
    machine.passes(0)
    assert machine.found() == {"one": UNHEALTHY, "two": HEALTHY}
    machine.says(BILLING, Word.STOPPED)
    two.end()
    machine.passes(LATER)


@story(HEALTHY)
def a_unit_that_was_ill_before_it_was_restarted(machine: Machine) -> None:
    one = unit(machine, "X-VMHB-HEALTH=unhealthy", "STATUS=no database", "WATCHDOG_USEC=30000000")
    one.end()
    again = machine.process(BILLING)
    again.say("READY=1")
    machine.says(BILLING, Word.RUNS)
    machine.passes(60)
    assert machine.why("billing") == ""


@story("degraded")
def what_helpers_say_one_after_the_other(machine: Machine) -> None:
    machine.says(BILLING, Word.RUNS)
    for rows in (("READY=1",), ("X-VMHB-HEALTH=degraded", "STATUS=slow"), ("WATCHDOG=1",)):
        helper = machine.process(BILLING)
        helper.say(*rows)
        helper.end()
    assert machine.why("billing") == "slow"


@story(GONE)
def a_unit_that_has_done_its_work(machine: Machine) -> None:
    one = unit(machine)  # RemainAfterExit=
    machine.nobody_in.add(BILLING)
    one.end()
    machine.passes(0)
    assert machine.found() == {"billing": HEALTHY}
    machine.passes(SOON)


@story(UNHEALTHY)
def a_unit_whose_end_systemd_has_not_heard_of_yet(machine: Machine) -> None:
    one = unit(machine)
    machine.nobody_in.add(BILLING)
    one.end()
    machine.passes(0)
    machine.says(BILLING, Word.BROKE)
    machine.passes(SOON)


@story(UNHEALTHY)
def a_unit_that_ends_while_systemd_is_asked_why_it_is_silent(machine: Machine) -> None:
    one = unit(machine, "WATCHDOG_USEC=10000000")
    machine.now += 0.5
    asked = machine.now
    assert machine.table.asks(asked) == {"billing.service"}
    machine.now += 0.1
    machine.nobody_in.add(BILLING)
    one.end()
    machine.table.told("billing.service", Told(Word.RUNS), asked, machine.now)
    machine.says(BILLING, Word.BROKE)
    machine.passes(1)


@story(HEALTHY)
def a_frozen_unit(machine: Machine) -> None:
    one = unit(machine, "WATCHDOG_USEC=20000000")
    machine.stands_still.update({one.sender.pid, BILLING})
    machine.passes(1000)


@story(HEALTHY)
def a_frozen_unit_of_helpers(machine: Machine) -> None:
    machine.says(BILLING, Word.RUNS)
    helper = machine.process(BILLING, command=min(HELPERS))
    helper.say("READY=1", "WATCHDOG_USEC=20000000")
    helper.end()
    machine.stands_still.add(BILLING)
    machine.passes(1000)


@story(UNHEALTHY)
def a_watchdog_that_expired(machine: Machine) -> None:
    unit(machine, "WATCHDOG_USEC=5000000")


@story(UNHEALTHY)
def a_unit_that_has_given_up(machine: Machine) -> None:
    unit(machine).say("WATCHDOG=trigger")
    machine.passes(0)


# -- where systemd can't be asked, or knows nothing of it


@story(UNHEALTHY)
def a_silent_unit_of_which_systemd_says_nothing(machine: Machine) -> None:
    one = unit(machine, "WATCHDOG_USEC=30000000")
    machine.says(BILLING, None)
    one.say("WATCHDOG=1")
    machine.passes(30 + PATIENCE)
    assert machine.found() == {"billing": HEALTHY}
    machine.passes(1)


@story(HEALTHY)
def a_unit_of_which_systemd_says_nothing_and_somebody_is_left(machine: Machine) -> None:
    one = unit(machine)
    machine.says(BILLING, None)
    one.end()
    machine.passes(PATIENCE + 1)


@story(UNHEALTHY)
def a_unit_of_which_systemd_says_nothing_and_nobody_is_left(machine: Machine) -> None:
    one = unit(machine)
    machine.says(BILLING, Word.UNKNOWN)
    machine.nobody_in.add(BILLING)
    one.end()
    machine.passes(0)


@story(UNHEALTHY)
def a_stop_that_systemd_tells_no_more_of(machine: Machine) -> None:
    unit(machine, "WATCHDOG_USEC=20000000")
    machine.says(BILLING, Word.STOPPING)
    machine.passes(60)
    assert machine.found() == {"billing": HEALTHY}
    machine.says(BILLING, None)
    machine.passes(PATIENCE + SOON)


@story(UNHEALTHY)
def a_container_without_systemd(machine: Machine) -> None:
    scope = Process(machine, Sender(7, 0, "server", 7, keeper="docker-1.scope"))
    scope.say("READY=1")
    machine.passes(60)
    machine.words["docker-1.scope"] = Told(Word.RUNS)
    scope.end()
    machine.passes(0)


@story(HEALTHY)
def a_container_that_is_stopped_with_all_of_it(machine: Machine) -> None:
    scope = Process(machine, Sender(7, 0, "server", 7, keeper="docker-1.scope"))
    scope.say("READY=1")
    machine.passes(60)
    machine.words["docker-1.scope"] = Told(Word.STOPPING)
    scope.end()
    machine.passes(60)


@story(UNHEALTHY)
def a_unit_of_a_containers_own_systemd(machine: Machine) -> None:
    unit = f"/lxc.payload.box{BILLING}"  # ours knows nothing of it
    one = Process(machine, Sender(7, 0, "server", 7, unit=unit))
    one.say("READY=1")
    machine.passes(60)
    one.end()
    assert machine.found() == {"billing": HEALTHY}, "somebody is left"
    machine.nobody_in.add(unit)


@story(UNHEALTHY)
def a_unit_of_a_users_own_systemd(machine: Machine) -> None:
    unit = "/user.slice/user@1000.service/app.slice/billing.service"
    one = Process(machine, Sender(7, 1000, "server", 7, unit=unit, keeper="user@1000.service"))
    one.say("READY=1")
    machine.passes(60)
    machine.words["user@1000.service"] = Told(Word.RUNS)
    machine.nobody_in.add(unit)
    one.end()
    machine.passes(0)


@story(GONE)
def a_unit_of_a_user_who_logs_out(machine: Machine) -> None:
    unit = "/user.slice/user@1000.service/app.slice/billing.service"
    one = Process(machine, Sender(7, 1000, "server", 7, unit=unit, keeper="user@1000.service"))
    one.say("READY=1")
    machine.passes(60)
    machine.words["user@1000.service"] = Told(Word.STOPPED)
    one.end()
    machine.passes(0)


@pytest.mark.parametrize("name", STORIES)
def test_what_is_found(name: str) -> None:
    """The application of each story is found to be what is right; GONE: there is none."""
    tell, expected = STORIES[name]
    machine = Machine()
    tell(machine)
    found = set(machine.found().values())
    assert (found & {UNHEALTHY} or found or {GONE}) == {expected}


@pytest.mark.parametrize("name", STORIES)
def test_what_the_next_daemon_finds(name: str) -> None:
    """The same: who is a helper, who has handed over, and what is yet to be asked is remembered."""
    tell, _ = STORIES[name]
    machine = Machine()
    tell(machine)
    machine.passes(0)
    before = {one.name: one.status for one in machine.table.findings(machine.now) if "silent" not in one.message}
    rows = json.loads(json.dumps(machine.table.dump(machine.now)))
    machine.table = Applications(machine)
    machine.table.load(rows, machine.now)
    machine.passes(0)
    now = machine.found()
    assert {key: now[key] for key in before if key in now} == before


class Unit:
    """A unit as systemd has it, whatever happens to it in whatever order."""

    def __init__(self, machine: Machine, named: bool) -> None:
        self.machine = machine
        self.rows = ("READY=1", *(["X-VMHB-NAME=billing"] if named else []))
        self.state = "stopped"
        self.main: Process
        self.start()

    def start(self) -> None:
        if self.state in ("stopped", "failed"):
            self._begin()

    def restart(self) -> None:
        """By its operator, in no time."""
        if self.state == "active":
            self.main.end()
            self._begin()

    def kill(self) -> None:
        if self.state == "active":
            self._ends("failed", Word.BROKE)

    def stop(self) -> None:
        if self.state == "active":
            self.state = "stopping"
            self.machine.says(BILLING, Word.STOPPING)

    def finish(self) -> None:
        """What was being stopped ends."""
        if self.state == "stopping":
            self._ends("stopped", Word.STOPPED)

    def hand_over(self) -> None:
        if self.state == "active":
            old, self.main = self.main, self.machine.process(BILLING)
            self.main.say(*self.rows, main=self.main)
            old.end()

    def help(self) -> None:
        """Something in it speaks, and ends."""
        if self.state in ("active", "stopping"):
            helper = self.machine.process(BILLING)
            helper.say("WATCHDOG=1")
            helper.end()

    def stays(self) -> None:
        """A helper that takes its time."""
        if self.state == "active":
            helper = self.machine.process(BILLING)
            helper.say("WATCHDOG=1")
            self.machine.passes(STAYS + 1)
            helper.end()

    def anew(self) -> None:
        """vmhb-guest is."""
        rows = json.loads(json.dumps(self.machine.table.dump(self.machine.now)))
        self.machine.table = Applications(self.machine)
        self.machine.table.load(rows, self.machine.now)

    def waits(self) -> None:
        self.machine.passes(5)

    def _begin(self) -> None:
        self.machine.nobody_in.discard(BILLING)
        self.machine.now += 0.01
        self.machine.says(BILLING, Word.RUNS, began=self.machine.now)
        self.main = self.machine.process(BILLING)
        self.main.say(*self.rows)
        self.state = "active"

    def _ends(self, state: str, word: Word) -> None:
        self.state = state
        self.machine.says(BILLING, word)
        self.machine.nobody_in.add(BILLING)
        self.main.end()


HAPPENS = (
    *(Unit.start, Unit.restart, Unit.kill, Unit.stop, Unit.finish, Unit.hand_over, Unit.help, Unit.stays),
    *(Unit.anew, Unit.waits),
)


@EXAMPLES
@given(st.lists(st.sampled_from(HAPPENS), max_size=25), st.booleans(), st.sampled_from([0.0, 0.5, 3.0]))
def test_whatever_happens_to_a_unit(story: list[Callable[[Unit], None]], named: bool, lag: float) -> None:
    """The dead is accused, whoever lives or was stopped is not, in whatever order; however late systemd answers."""
    machine = Machine()
    machine.lag = lag
    one = Unit(machine, named)
    for happens in story:
        happens(one)
        assert one.state == "failed" or UNHEALTHY not in machine.found().values(), happens.__name__
    machine.passes(2 * (SOON + lag + 1))
    expected = {"active": {HEALTHY}, "stopping": {HEALTHY}, "stopped": set(), "failed": {UNHEALTHY}}[one.state]
    # A helper that spoke while its unit was being stopped may be all that was heard of it.
    assert set(machine.found().values()) <= expected or one.state == "stopping"
    assert one.state in ("stopped", "stopping") or set(machine.found().values()) == expected


def test_a_process_speaks_for_one_application_at_a_time() -> None:
    """Root's starter, which had joined by itself, says that a process in a unit, which had as well, is the service."""
    machine = Machine()
    starter, main = machine.process(), unit(machine)
    starter.say("READY=1", "X-VMHB-NAME=starter")
    starter.say("STATUS=done", main=main)
    assert set(machine.found()) == {"billing"}
    assert {sender.pid for sender in machine.table.living()} == {starter.sender.pid, main.sender.pid}
    machine.passes(60)
    starter.end()
    machine.passes(0)
    assert machine.found() == {"billing": HEALTHY}


def test_whoever_speaks_its_processes_are_bounded() -> None:
    """Each costs a descriptor. Of more than that the end of those heard last is noticed; the main one's always."""
    machine = Machine()
    main = unit(machine)
    others = [machine.process(BILLING) for _ in range(20)]
    for one in others:
        one.say("WATCHDOG=1")
    living = [sender.pid for sender in machine.table.living()]
    assert living == [main.sender.pid, *(one.sender.pid for one in others[-MAX_PROCESSES + 1 :])]
    assert all((sender.pid in machine.table) is (sender.pid in living) for sender in (one.sender for one in others))


def test_whoever_stopped_is_remembered_and_that_is_bounded() -> None:
    """As many as there are; the oldest are forgotten first."""
    machine = Machine()
    gone = [machine.process() for _ in range(MAX_GONE + 1)]
    for one in gone:
        one.say("READY=1")
        one.say("STOPPING=1")
    assert gone[0].say("WATCHDOG=1") and not gone[-1].say("WATCHDOG=1")


def test_nobody_is_accused_when_the_machine_goes_down() -> None:
    """Of nothing, and what was silent meanwhile has its time again if it does not go down after all."""
    machine = Machine()
    one, two = machine.process(), machine.process()
    one.say("READY=1", "X-VMHB-NAME=one", "WATCHDOG_USEC=1000000")
    two.say("READY=1", "X-VMHB-NAME=two")
    machine.table.dismiss("the machine shuts down", machine.now)
    machine.passes(60)
    two.end()
    assert {(found.status, found.message) for found in machine.table.findings(machine.now)} == {
        (HEALTHY, "the machine shuts down")
    }
    machine.table.dismiss("", machine.now)
    assert machine.found() == {"one": HEALTHY, "two": UNHEALTHY}
    machine.passes(1.5)
    assert machine.found()["one"] == UNHEALTHY


def test_the_deadline_that_a_manager_gave_its_unit() -> None:
    """A helper has it in its environment, as another process's; it is the service's from when it is fed."""
    machine = Machine()
    machine.says(BILLING, Word.RUNS)
    helper = machine.process(BILLING)
    helper.sender = dataclasses.replace(helper.sender, interval=5.0)
    machine.process(BILLING).say("READY=1")
    helper.say("STATUS=x", "X-VMHB-HEALTH=healthy")
    assert [one["watchdog"] for one in machine.table.describe(machine.now)] == [None]
    helper.say("WATCHDOG=1")
    assert [(one["watchdog"], one["unit"]) for one in machine.table.describe(machine.now)] == [(5.0, "billing")]


def test_a_process_that_takes_another_name_leaves_the_others_theirs() -> None:
    """One of several of an application; the only one of it takes it along."""
    machine = Machine()
    unit(machine)
    other = machine.process(BILLING)
    other.say("WATCHDOG=1")
    other.say("X-VMHB-NAME=other")
    assert set(machine.found()) == {"billing", "other"}
    other.say("X-VMHB-NAME=third")
    assert set(machine.found()) == {"billing", "third"}


def test_what_an_earlier_release_wrote() -> None:
    """Who lived lives, who had ended has."""
    machine = Machine()
    sender = {"pid": 7, "uid": 0, "command": "server", "born": 7, "interval": None}
    rows: list[dict[str, Any]] = [
        {"sender": sender, "name": "one", "asked": "one", "interval": 5.0, "ended": False},
        {"sender": {**sender, "pid": 8}, "name": "two", "interval": None, "ended": True},
        {"sender": sender, "name": "twice", "interval": None, "ended": False},
    ]
    machine.table.load(rows, machine.now)
    assert machine.found() == {"one": HEALTHY, "two": UNHEALTHY, "twice": HEALTHY}
    assert [one.pid for one in machine.table.living()] == [7]
    machine.table.end(7)
    assert machine.found()["one"] == UNHEALTHY
    written = machine.table.dump()
    assert {key: written[0]["sender"][key] for key in sender} == {
        **sender,
        "interval": written[0]["sender"]["interval"],
    }
    assert set(written[0]["sender"]) == set(sender), "an earlier release takes no other keys"
