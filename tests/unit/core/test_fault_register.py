"""The book of faults: one open fault per instance, sequences without gaps, reminders, and an end that is told often."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from vmhb_common.model.causes import Cause
from vmhb_common.model.fault import (
    REASON_LIMIT,
    Change,
    Fault,
    FaultState,
    Finding,
    Identity,
    Resolution,
    of_host,
)
from vmhb_common.model.policy import Action, HeartbeatPolicy
from vmhb_worker.core.brake import Braking
from vmhb_worker.core.caution import BRAKED, Caution, Limits
from vmhb_worker.core.fault_register import Entry, Ledger, in_words

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
WHO = Identity("uuid-1", "instance-000000a1", "web", "project-1", "m1.small")
POLICY = HeartbeatPolicy(True)
HUNG = Finding(
    cause="guest_silent",
    severity="critical",
    confidence="low",
    recommended_action="alarm",
    withheld="evidence",
    reason="the guest does not answer",
    evidence={"port": {"value": True, "age": 1.0}},
    misses=3,
    skipped=1,
    last_ack_at=START - timedelta(seconds=35),
    suspected_at=START - timedelta(seconds=20),
)
DEAD = replace(HUNG, cause="guest_hung", confidence="high", recommended_action="recover", withheld=None)


class Book:
    """A ledger, its clock, and the entries in short."""

    def __init__(self) -> None:
        numbers = itertools.count(1)
        self.ledger = Ledger("compute-1", 300.0, lambda: f"fault-{next(numbers)}")
        self.now = 0.0
        self.gone: set[str] = set()  # uuids of instances that do not run

    def remind(self) -> list[Entry]:
        return self.ledger.remind(self.now, self.wall, self.gone.__contains__)

    @property
    def wall(self) -> datetime:
        return START + timedelta(seconds=self.now)

    def accuse(self, finding: Finding = HUNG, who: Identity = WHO) -> Entry:
        entry = self.ledger.accuse(who, POLICY, finding, now=self.now, wall=self.wall)
        assert entry is not None
        return entry

    def acquit(self, resolution: Resolution = Resolution.RECOVERED, uuid: str = WHO.instance_uuid) -> Entry | None:
        return self.ledger.acquit(uuid, resolution, now=self.now, wall=self.wall)

    def until(self, then: float) -> list[str]:
        """The reminders on the way there."""
        told = []
        while self.ledger.deadline() <= then:
            self.now = self.ledger.deadline()
            told += [f"{self.now:g}: {short(entry)}" for entry in self.remind()]
        self.now = then
        return told


def short(entry: Entry) -> str:
    change = entry.change.value.removeprefix("vmhb.fault.")
    return f"{entry.fault.fault_id} #{entry.fault.sequence} {change}" + (" again" if entry.reminder else "")


def test_a_faults_life() -> None:
    """Raised, updated, cleared: one id, sequences without gaps, the times of each change."""
    book = Book()
    raised = book.accuse()
    assert raised == Entry(
        Change.RAISED,
        Fault(
            fault_id="fault-1",
            sequence=1,
            state=FaultState.RAISED,
            severity="critical",
            occurred_at=START,
            cause="guest_silent",
            confidence="low",
            recommended_action="alarm",
            withheld="evidence",
            recovery_attempt=0,
            drill=False,
            resolution=None,
            host="compute-1",
            instance_uuid="uuid-1",
            instance_name="instance-000000a1",
            display_name="web",
            project_id="project-1",
            flavor_name="m1.small",
            channel="agent",
            misses=3,
            skipped=1,
            threshold=3,
            interval=10.0,
            timeout=5.0,
            last_ack_at=START - timedelta(seconds=35),
            suspected_at=START - timedelta(seconds=20),
            raised_at=START,
            cleared_at=None,
            reason="the guest does not answer",
            evidence={"port": {"value": True, "age": 1.0}},
        ),
    )
    book.now = 2.0
    updated = book.accuse(DEAD)
    assert short(updated) == "fault-1 #2 updated"
    assert (updated.fault.cause, updated.fault.recommended_action, updated.fault.recovery_attempt) == (
        "guest_hung",
        "recover",
        1,
    )
    assert (updated.fault.raised_at, updated.fault.occurred_at) == (START, START + timedelta(seconds=2))
    book.now = 60.0
    cleared = book.acquit()
    assert cleared is not None
    assert short(cleared) == "fault-1 #3 cleared"
    assert cleared.owed == 3
    assert (cleared.fault.state, cleared.fault.resolution) == (FaultState.CLEARED, Resolution.RECOVERED)
    assert (cleared.fault.cause, cleared.fault.severity) == ("guest_hung", "critical")
    assert (cleared.fault.recommended_action, cleared.fault.withheld) == ("none", None)
    assert cleared.fault.cleared_at == cleared.fault.occurred_at == START + timedelta(seconds=60)
    assert cleared.fault.recovery_attempt == 1


def test_a_new_outage_is_a_new_fault() -> None:
    """A cleared fault is final; what comes after it has its own id, from 1 on."""
    book = Book()
    book.accuse()
    book.acquit()
    assert short(book.accuse()) == "fault-2 #1 raised"


def test_clearing_what_is_not_open_is_nothing() -> None:
    """An instance that was never accused needs no acquittal."""
    assert Book().acquit() is None


def test_the_first_recover_is_the_first_attempt_and_stays_it() -> None:
    """A reporter acts once per (fault, attempt): going back and forth between verdicts asks for nothing twice."""
    book = Book()
    assert [book.accuse(finding).fault.recovery_attempt for finding in (HUNG, DEAD, HUNG, DEAD)] == [0, 1, 1, 1]
    assert Book().accuse(DEAD).fault.recovery_attempt == 1


def test_suspicion_began_when_it_began() -> None:
    """A later look at the same outage does not make it younger; where it was unknown, it is learnt."""
    book = Book()
    later = replace(DEAD, suspected_at=START + timedelta(seconds=99))
    book.accuse(HUNG)
    assert book.accuse(later).fault.suspected_at == HUNG.suspected_at
    other = Book()
    other.accuse(replace(HUNG, suspected_at=None))
    assert other.accuse(later).fault.suspected_at == later.suspected_at


def test_open_faults_are_told_again_until_they_are_cleared() -> None:
    """Every reminder interval after the last change, so that anyone who missed it catches up."""
    book = Book()
    assert book.ledger.deadline() == math.inf
    book.accuse()
    assert book.until(700.0) == ["300: fault-1 #2 updated again", "600: fault-1 #3 updated again"]
    book.accuse(DEAD)
    assert book.until(1000.0) == ["1000: fault-1 #5 updated again"]
    assert book.ledger.open["uuid-1"].cause == "guest_hung"


def test_a_clear_is_told_three_times_more_and_then_never_again() -> None:
    """Whoever missed the clear would keep the fault for ever; whoever asks later finds no debt left."""
    book = Book()
    book.accuse()
    book.acquit()
    assert book.until(5000.0) == [
        "300: fault-1 #3 cleared again",
        "600: fault-1 #4 cleared again",
        "900: fault-1 #5 cleared again",
    ]
    assert book.ledger.deadline() == math.inf


def test_of_a_guest_that_makes_faults_only_the_newest_clears_are_told_again() -> None:
    """Each was told when it was cleared. What is not told again is said, so that the store need not keep it."""
    book = Book()
    book.ledger._interval = 3000.0
    dropped: list[str] = []
    for number in range(6):
        book.now = number * 300.0
        book.accuse()
        entry = book.acquit()
        assert entry is not None
        dropped += entry.dropped
    assert dropped == ["fault-1", "fault-2", "fault-3"]
    assert book.until(4200.0) == ["3900: fault-4 #3 cleared again", "4200: fault-5 #3 cleared again"]
    assert len(book.until(20000.0)) == 7
    assert book.ledger.deadline() == math.inf


def test_too_many_clears_of_an_earlier_life_are_dropped() -> None:
    """A store that an older worker filled gets small again."""
    first = Book()
    cleared = []
    for number in range(5):
        first.now = number * 300.0
        first.accuse()
        entry = first.acquit()
        assert entry is not None
        cleared.append(entry.fault)
    book = Book()
    owed = {fault.fault_id: 3 for fault in cleared}
    assert sorted(book.ledger.load(reversed(cleared), owed, 0.0)) == ["fault-1", "fault-2"]
    assert len(book.until(300.0)) == 3


def test_announcements_count_down() -> None:
    """The store keeps a cleared fault only as long as announcements are owed."""
    book = Book()
    book.accuse()
    cleared = book.acquit()
    owed = [cleared.owed if cleared else None]
    for _ in range(3):
        book.now += 300.0
        owed += [entry.owed for entry in book.remind()]
    assert owed == [3, 2, 1, 0]


def test_instances_do_not_share_a_page() -> None:
    """One open fault per instance; one's clear is not another's."""
    book = Book()
    book.accuse()
    book.now = 100.0
    book.accuse(who=replace(WHO, instance_uuid="uuid-2"))
    book.acquit()
    assert book.until(400.0) == ["400: fault-2 #2 updated again", "400: fault-1 #3 cleared again"]
    assert list(book.ledger.open) == ["uuid-2"]


def test_the_book_goes_on_where_an_earlier_life_of_the_worker_left_it() -> None:
    """Open faults keep their ids and numbers; clears that are still owed are told; the rest is history."""
    before = Book()
    open_one = before.accuse(who=replace(WHO, instance_uuid="uuid-2")).fault
    before.accuse()
    before.acquit()
    cleared = before.ledger.remind(300.0, before.wall, before.gone.__contains__)[-1].fault
    settled = replace(cleared, fault_id="fault-9")
    hosts = replace(open_one, fault_id="fault-8", instance_uuid=None)

    after = Book()
    after.now = 1000.0
    after.ledger.load([open_one, cleared, settled, hosts], {cleared.fault_id: 1}, after.now)
    assert list(after.ledger.open) == ["uuid-2"]
    assert after.until(1700.0) == [
        "1300: fault-1 #2 updated again",
        "1300: fault-2 #4 cleared again",
        "1600: fault-1 #3 updated again",
    ]
    entry = after.acquit(Resolution.DELETED, uuid="uuid-2")
    assert entry is not None
    assert short(entry) == "fault-1 #4 cleared"


def test_a_reminder_of_what_is_no_longer_open_is_none() -> None:
    """The store had two faults open for one instance: one page has room for one. The others are reminded of."""
    first = Book().accuse().fault
    book = Book()
    book.ledger.load([replace(first, fault_id=f"old-{number}") for number in (1, 2)], {}, book.now)
    book.accuse(who=replace(WHO, instance_uuid="uuid-2"))
    assert book.until(700.0) == [
        "300: old-2 #2 updated again",
        "300: fault-1 #2 updated again",
        "600: old-2 #3 updated again",
        "600: fault-1 #3 updated again",
    ]
    gone = Book()
    gone.accuse()
    gone.ledger.open.clear()
    assert gone.until(700.0) == []
    assert gone.ledger.deadline() == math.inf


def test_every_resolution_is_explained() -> None:
    """One sentence for people; only `recovered` says that the guest answers again."""
    reasons = {}
    for resolution in Resolution:
        book = Book()
        book.accuse()
        entry = book.acquit(resolution)
        assert entry is not None
        reasons[resolution] = entry.fault.reason
    assert len(set(reasons.values())) == len(Resolution)
    assert [r for r, reason in reasons.items() if "answers again" in reason] == [Resolution.RECOVERED]


def test_an_entry_in_words() -> None:
    """One line of the log: who, what, why, and what is asked for; a tenant's text is escaped."""
    book = Book()
    who = replace(WHO, display_name="web\n2026 ERROR")
    assert in_words(book.accuse(who=who)) == (
        "instance uuid-1 ('web\\n2026 ERROR'): fault fault-1 raised: guest_silent (low confidence), "
        "the guest does not answer; recommended: alarm (withheld: evidence)"
    )
    assert in_words(book.accuse(DEAD, replace(WHO, display_name=None))).endswith("; recommended: recover")
    cleared = book.acquit()
    assert cleared is not None
    assert in_words(cleared).endswith("fault-1 cleared: was guest_hung; the guest answers again (recovered)")
    other = book.accuse(who=replace(WHO, instance_uuid="uuid-2", display_name=None))
    assert in_words(other).startswith("instance uuid-2: fault fault-2 raised: ")


def test_a_reason_fits_on_the_wire() -> None:
    """Whatever went into it."""
    assert len(Book().accuse(replace(HUNG, reason="x" * 999)).fault.reason) == REASON_LIMIT


def test_no_recovery_is_asked_for_while_the_instance_does_not_run() -> None:
    """A reminder never asks to recover a machine that was stopped meanwhile, and asks again once it runs in vain."""
    book = Book()
    book.ledger.accuse(WHO, POLICY, DEAD, now=0.0, wall=book.wall)
    book.now, book.gone = 300.0, {WHO.instance_uuid}
    (stopped,) = book.remind()
    assert (stopped.fault.recommended_action, stopped.fault.withheld) == ("alarm", "late")
    book.now, book.gone = 600.0, set()
    (runs,) = book.remind()
    assert (runs.fault.recommended_action, runs.fault.withheld, runs.fault.recovery_attempt) == ("recover", None, 1)


def test_qemu_that_died_does_not_run_and_is_to_be_recovered() -> None:
    """`qemu_failed` is about a machine that does not run: its reminders go on asking."""
    book = Book()
    failed = replace(DEAD, cause="qemu_failed")
    book.ledger.accuse(WHO, POLICY, failed, now=0.0, wall=book.wall)
    book.now, book.gone = 300.0, {WHO.instance_uuid}
    assert book.remind()[0].fault.recommended_action == "recover"


def test_one_whose_host_went_down_does_not_run_either() -> None:
    """It is for this that it is to be recovered."""
    book = Book()
    book.ledger.accuse(WHO, POLICY, replace(DEAD, cause="host_lost_power"), now=0.0, wall=book.wall)
    book.now, book.gone = 300.0, {WHO.instance_uuid}
    assert book.remind()[0].fault.recommended_action == "recover"


# -- further recovery attempts -----------------------------------------------------------------------------------------


def attempts(book: Book, until: float, stands: bool = True) -> list[str]:
    """What is asked for with each reminder on the way there, and whether it is one."""
    told = []
    while book.ledger.deadline() <= until:
        book.now = book.ledger.deadline()
        for entry in book.ledger.remind(book.now, book.wall, book.gone.__contains__, lambda _: stands):
            asked = entry.fault.recommended_action
            told.append(f"{book.now:g}: {asked} {entry.fault.recovery_attempt}{' again' if entry.reminder else ''}")
    return told


def test_what_did_not_come_about_is_asked_for_again() -> None:
    """While the fault stands, with the next number, and no more often than that; each is a change and no reminder."""
    book = Book()
    book.accuse(DEAD)
    assert attempts(book, 1500) == [
        *("300: recover 2", "600: recover 3", "900: recover 3 again", "1200: recover 3 again", "1500: recover 3 again")
    ]
    assert book.acquit() is not None
    assert book.accuse(DEAD).fault.recovery_attempt == 1


def test_it_is_waited_for_first() -> None:
    """However often reminders come; new evidence begins nothing anew."""
    book = Book()
    book.ledger._interval = 100.0
    book.accuse(DEAD)
    assert attempts(book, 200) == ["100: recover 1 again", "200: recover 1 again"]
    book.now = 250.0
    book.accuse(replace(DEAD, reason="more is known"))
    assert attempts(book, 650) == ["350: recover 2", "450: recover 2 again", "550: recover 2 again", "650: recover 3"]


def test_nobody_is_recovered_again_who_is_not_as_it_was() -> None:
    """One that boots, is excused, or does not run; and a fault that asks for none."""
    book = Book()
    book.accuse(DEAD)
    assert attempts(book, 600, stands=False) == ["300: recover 1 again", "600: recover 1 again"]
    book.gone.add(WHO.instance_uuid)
    assert attempts(book, 900) == ["900: alarm 1 again"]
    alarm = Book()
    alarm.accuse(HUNG)
    assert attempts(alarm, 600) == ["300: alarm 0 again", "600: alarm 0 again"]


def test_after_a_restart_it_is_waited_for_anew() -> None:
    """Nobody knows how long it has been."""
    first = Book()
    fault = first.accuse(DEAD).fault
    second = Book()
    second.now = 1000.0
    second.ledger.load([fault], {}, second.now)
    assert attempts(second, 1300) == ["1300: recover 2"]


# -- the host, and what is withheld for its sake -----------------------------------------------------------------------


class Instance:
    """What the register asks of a monitor."""

    def __init__(self) -> None:
        self.stands = True
        self.last_miss: float | None = 0.0
        self.answers = 0
        self.asked_in_vain = True

    def well(self, acks: int, now: float) -> bool:
        """See `Watched`."""
        return self.answers >= acks

    def silent_since(self, asked: float, now: float) -> bool:
        """See `Watched`."""
        return self.asked_in_vain


class Careful(Book):
    """With all the caution that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.caution = Caution(Limits())
        self.instance = Instance()
        numbers = itertools.count(1)
        self.ledger = Ledger("compute-1", 300.0, lambda: f"fault-{next(numbers)}", self.caution)

    def doubt(self, why: str | None) -> None:
        self.caution.look([], why, self.now)

    def reconsider(self, then: float) -> list[str]:
        """What is different by then."""
        told = []
        while self.ledger.reconsider_at <= then:
            self.now = max(self.now, self.ledger.reconsider_at)
            self.ledger.to_verify(self.now)
            entries = self.ledger.reconsider(lambda _: self.instance, self.now, self.wall)
            told += [f"{self.now:g}: {short(entry)} {entry.fault.recommended_action}" for entry in entries]
        self.now = then
        return told

    def see(self) -> list[Entry]:
        return self.ledger.reconsider(lambda _: self.instance, self.now, self.wall)


def test_a_suspect_host_has_a_fault_of_its_own() -> None:
    """One, raised and cleared with its cause; no instance is named."""
    book = Careful()
    book.doubt("the worker was late three times in a row")
    (raised,) = book.see()
    assert short(raised) == "fault-1 #1 raised"
    assert (raised.fault.cause, raised.fault.instance_uuid) == ("host_suspect", None)
    assert in_words(raised) == (
        "host compute-1: fault fault-1 raised: host_suspect, the worker was late three times in a row"
    )
    assert book.see() == []
    assert book.until(300.0) == ["300: fault-1 #2 updated again"]
    book.doubt(None)
    (cleared,) = book.see()
    assert short(cleared) == "fault-1 #3 cleared"
    assert cleared.fault.reason == "it is not suspect any more"
    assert book.until(700.0) == ["600: fault-1 #4 cleared again"]


def test_a_suspect_host_is_one_still_after_a_restart() -> None:
    """Its brake goes on from when it tripped; a doubt that is over ends with the first look."""
    braked = of_host("h", "compute-1", Cause.HOST_SUSPECT, "3 of 4", {BRAKED: {"value": 3, "age": 0.0}}, START)
    book = Careful()
    book.now = 800.0
    book.ledger.load([braked], {}, book.now, book.wall)
    assert book.caution.brake.state(899.0) is Braking.ON
    assert book.caution.brake.state(901.0) is Braking.PACED
    assert book.ledger.reconsider_at == 800.0
    doubted = of_host("h", "compute-1", Cause.HOST_SUSPECT, "late", {"awareness": {"value": "late", "age": 0.0}}, START)
    book = Careful()
    book.ledger.load([doubted], {}, book.now)
    assert [short(entry) for entry in book.see()] == ["h #2 cleared"]


def test_a_hold_ends_with_the_recovery() -> None:
    """An update, with the first attempt's number."""
    book = Careful()
    entry = book.accuse(DEAD)
    assert (entry.fault.recommended_action, entry.fault.withheld, entry.fault.recovery_attempt) == ("alarm", "hold", 0)
    assert book.reconsider(10.0) == ["5: fault-1 #2 updated recover"]
    assert book.ledger.open["uuid-1"].recovery_attempt == 1
    assert book.ledger.reconsider_at == math.inf


def test_novas_time_begins_anew_with_a_restart_of_the_worker() -> None:
    """Nobody finds it once more: it does not run. Other holds are found anew by what their guests do."""
    first = Careful()
    fault = first.accuse(replace(DEAD, cause="host_lost_power")).fault
    assert (fault.recommended_action, fault.withheld) == ("alarm", "hold")
    assert first.reconsider(119.0) == []
    second = Careful()
    second.now = 1000.0
    second.ledger.load([fault], {}, second.now)
    assert second.reconsider(1119.0) == []
    assert second.reconsider(1130.0) == ["1120: fault-1 #2 updated recover"]
    other = Careful()
    other.ledger.load([replace(fault, cause="guest_hung")], {}, 0.0)
    assert other.reconsider(1000.0) == []


def test_what_does_not_stand_any_more_is_not_asked_for() -> None:
    """It boots, or is paused: then it is not, until it stands again."""
    book = Careful()
    book.accuse(DEAD)
    book.instance.stands = False
    assert book.reconsider(10.0) == []
    book.instance.stands = True
    assert book.reconsider(12.0) == ["11: fault-1 #2 updated recover"]


def test_after_the_brake_it_is_asked_anew() -> None:
    """And is recovered once it has not answered that; the change from hold to brake is told."""
    book = Careful()
    book.accuse(DEAD)
    book.doubt("late")
    assert book.reconsider(10.0) == ["1: fault-2 #1 raised alarm", "1: fault-1 #2 updated alarm"]
    assert book.ledger.open["uuid-1"].withheld == "brake"
    book.doubt(None)
    book.instance.asked_in_vain = False
    assert book.reconsider(20.0) == ["11: fault-2 #2 cleared none"]
    book.instance.asked_in_vain = True
    assert book.reconsider(30.0) == ["21: fault-1 #3 updated recover"]


def test_the_next_attempt_is_withheld_while_the_host_is_suspect() -> None:
    """It was asked for, and did not help; whether it would now is not known."""
    book = Careful()
    book.accuse(DEAD)
    book.reconsider(10.0)
    book.doubt("late")
    (entry,) = tell_all(book, 320.0)
    assert (entry.fault.recommended_action, entry.fault.withheld) == ("alarm", "brake")
    book.doubt(None)
    book.reconsider(330.0)
    assert book.ledger.open["uuid-1"].recommended_action == "recover"


def tell_all(book: Careful, then: float) -> list[Entry]:
    """The reminders that are due then; it is as it was."""
    book.now = then
    return book.ledger.remind(book.now, book.wall, book.gone.__contains__, lambda _: True)


def test_whoever_flaps_is_not_asked_for_again() -> None:
    """Its one recovery did not help; and the next reminder says why there is no other."""
    book = Careful()
    book.accuse(DEAD)
    book.reconsider(10.0)
    for _ in range(4):
        book.caution.flaps.raised("uuid-1", book.now)
    (entry,) = tell_all(book, 320.0)
    assert (entry.fault.recommended_action, entry.fault.withheld) == ("alarm", "flapping")


def test_a_policy_that_asks_for_none_ends_the_wait_for_it() -> None:
    """Also of one that was withheld: nothing comes of it later."""
    book = Careful()
    book.accuse(DEAD)
    entry = book.ledger.recommend_still("uuid-1", Action.ALARM, False, now=book.now, wall=book.wall)
    assert entry is not None
    assert (entry.fault.recommended_action, entry.fault.withheld) == ("alarm", None)
    assert book.reconsider(100.0) == []


def test_what_was_late_is_held_back_like_any_other() -> None:
    """It did not run for a while, and runs again, on a host that is suspect by now."""
    book = Careful()
    book.accuse(DEAD)
    book.reconsider(10.0)
    book.gone.add("uuid-1")
    assert [entry.fault.withheld for entry in tell_all(book, 310.0)] == ["late"]
    assert book.reconsider(400.0) == []
    book.gone.clear()
    book.doubt("late")
    (entry,) = book.ledger.remind(620.0, book.wall, book.gone.__contains__, lambda _: False)
    assert (entry.fault.withheld, entry.fault.recovery_attempt) == ("brake", 1)


def test_what_is_gone_from_here_is_cleared_at_once() -> None:
    """Though its recovery was asked for, and nobody has seen it answer."""
    book = Careful()
    book.accuse(DEAD)
    book.reconsider(10.0)
    entry = book.acquit(Resolution.DELETED)
    assert entry is not None
    assert entry.change is Change.CLEARED
    assert book.reconsider(100.0) == []


def test_an_unhealthy_one_that_says_nothing_more_is_not_called_recovered() -> None:
    """Its fault ends as it was to end, once it is certain that it answers."""
    book = Careful()
    book.accuse(DEAD)
    book.reconsider(10.0)
    kept = book.ledger.acquit("uuid-1", Resolution.UNMONITORED, now=book.now, wall=book.wall, well=False)
    assert kept is not None
    assert (kept.change, kept.fault.recommended_action) == (Change.UPDATED, "alarm")
    book.instance.answers = 3
    assert [entry.fault.resolution for entry in book.see()] == [Resolution.UNMONITORED]


class Odd:
    """An instance of which nothing can be known."""

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


@pytest.mark.parametrize("contained", [True, False])
def test_a_fault_that_cannot_be_looked_at_costs_no_other(contained: bool) -> None:
    """Whoever has the book decides what is made of it: its own reminder comes later, all others when they are due."""
    odd: list[tuple[str, str]] = []
    book = Book()
    if contained:
        book.ledger._mishap = lambda which, error: odd.append((which, type(error).__name__))
    book.accuse(DEAD)
    other = replace(WHO, instance_uuid="uuid-2")
    book.accuse(DEAD, other)

    def gone(uuid: str) -> bool:
        if uuid == WHO.instance_uuid:
            raise KeyError(uuid)
        return False

    book.now = 300.0
    if not contained:
        with pytest.raises(KeyError):
            book.ledger.remind(book.now, book.wall, gone)
        return
    assert [short(entry) for entry in book.ledger.remind(book.now, book.wall, gone)] == ["fault-2 #2 updated again"]
    assert odd == [("uuid-1", "KeyError")]
    assert book.until(600.0) == ["600: fault-1 #2 updated again", "600: fault-2 #3 updated again"]


def test_nor_one_whose_instance_cannot_be() -> None:
    """Neither among those that wait for their recovery, nor among those that answer again."""
    odd: list[str] = []
    book = Book()
    book.ledger = Ledger(
        "compute-1", 300.0, lambda: "fault", Caution(Limits(hold=(5.0, 5.0))), lambda which, _: odd.append(which)
    )
    book.accuse(DEAD)
    book.now = 10.0
    assert book.ledger.reconsider(lambda _: Odd(), book.now, book.wall) == []
    assert odd == [WHO.instance_uuid]
    book.ledger._answering[WHO.instance_uuid] = Resolution.RECOVERED
    odd.clear()
    book.ledger.reconsider(lambda _: Odd(), book.now, book.wall)
    assert odd == [WHO.instance_uuid] * 2
