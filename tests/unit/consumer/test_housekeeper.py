"""Who is asked about what is in doubt, and what comes of it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes import a_fault
from tests.lab.processes import wait_until
from tests.unit.consumer.conftest import THEN, Desk, another
from tests.unit.consumer.fakes import HangingWitness, Witness
from vmhb_common.model.fault import Fault
from vmhb_consumer.counters import Tally
from vmhb_consumer.doubt_rules import Place, Told, Unknown
from vmhb_consumer.housekeeper import ASKING, MISSING, Ask, Rounds
from vmhb_consumer.known_hosts import Known
from vmhb_consumer.questions import Asking
from vmhb_consumer.repository import Records, Sign
from vmhb_consumer.settings import FaultSettings

A1 = another("a")
B1 = another("b", host="cn2", raised_at=A1.raised_at + timedelta(seconds=5))


class Watch:
    """Rounds that are made by hand."""

    def __init__(
        self, desk: Desk, witness: Witness | None = None, known: Callable[[str], Known] = lambda host: Known.CANT_TELL
    ) -> None:
        self.desk = desk
        self.witness = witness or Witness(word=Unknown("no answer"), place=None)
        ask = Ask(self.witness.word, self.witness.place, self.witness.answers, known)
        settings = FaultSettings(host="here", worker_forget=3600.0)
        self.tally = Tally()
        self.rounds = Rounds(settings, desk.records, desk.outbox, ask, self.tally, lambda: None, desk.clock)

    def after(self, seconds: float) -> list[str]:
        """A round then: who was asked."""
        self.desk.clock.now += seconds
        self.witness.asked.clear()
        self.rounds.round()
        return sorted(self.witness.asked)


@pytest.fixture
def watch(desk: Desk) -> Iterator[Watch]:
    one = Watch(desk)
    yield one
    one.rounds.stop()


def test_nova_is_asked_once_for_each_word_of_it(watch: Watch) -> None:
    """A fault that is reminded of costs no more than that, and no worker is asked."""
    watch.desk.take(A1)
    watch.witness.said_place = Place("cn1")
    assert watch.after(1) == []
    assert watch.after(9) == ["Nova"]
    assert watch.after(100) == []
    assert watch.desk.open() == ["a1"]


def test_rivals(watch: Watch) -> None:
    """Nova tells which stays; nobody's worker is asked for that."""
    watch.desk.take(A1, B1)
    watch.witness.said_place = Place("cn1")
    assert watch.after(1) == ["Nova", "Nova"]
    assert watch.desk.open() == ["a1"]
    assert watch.desk.delivered() == ["a1 raised", "b1 raised", "b2 cleared"]
    assert watch.desk.delivered("topic:faults") == ["b2 cleared"]


def test_rivals_while_nova_is_away(watch: Watch) -> None:
    """Both stay, and Nova is asked again later."""
    watch.desk.take(A1, B1)
    watch.witness.said_place = Unknown("Nova does not answer")
    assert watch.after(1) == ["Nova", "Nova"]
    assert watch.after(1) == []
    watch.witness.said_place = Place("cn2")
    assert watch.after(30) == ["Nova", "Nova"]
    assert watch.desk.open() == ["b1"]


def test_reminders_stopped(watch: Watch) -> None:
    """Its worker is asked, and Nova; what is confirmed is asked about again after as long."""
    watch.desk.take(A1)
    watch.witness.said_word = Told({"fault": {"fault_id": A1.fault_id}})
    assert watch.after(900) == ["Nova", "worker on cn1"]
    assert watch.after(899) == []
    watch.witness.said_word = Told({"state": "alive", "fault": None})
    assert watch.after(1) == ["Nova", "worker on cn1"]
    assert watch.desk.delivered() == ["a1 raised", "a2 cleared"]


@pytest.mark.parametrize("seconds", [10, 900])
def test_an_instance_that_was_evacuated(watch: Watch, seconds: float) -> None:
    """Nobody else has a fault of it: where Nova has it decides, whether its host is dead or goes on about it."""
    watch.desk.take(A1)
    watch.witness.said_place = Place("cn2")
    assert watch.desk.open() == ["a1"]
    watch.after(seconds)
    assert watch.desk.open() == []


def test_a_hosts_own_fault(watch: Watch) -> None:
    """No instance to ask about: does the worker live?"""
    watch.desk.take(replace(A1, instance_uuid=None, channel=None, cause="host_suspect"))
    watch.witness.said_alive = "no answer within 6 s"
    assert watch.after(900) == ["cn1 alive?"]
    assert watch.desk.open() == ["a1"]
    watch.witness.said_alive = None
    assert watch.after(30) == ["cn1 alive?"]
    watch.witness.said_alive = True
    assert watch.after(30) == ["cn1 alive?"]
    assert watch.desk.open() == []


def test_a_worker_is_forgotten_while_its_fault_is_reminded_of(watch: Watch) -> None:
    """Both are due in one round, and databases that are shared have both at once: the fault is closed all the same."""

    class Busy(Records):
        def known(self, fault_id: str) -> tuple[Fault, float] | None:
            found = super().known(fault_id)
            if found is not None and found[0].sequence < 5:
                self.remind(found[0], watch.desk.clock.now)
            return found

    watch.rounds._records = Busy(watch.desk.database, lambda change, fault: [], ["topic:faults"], 300.0)
    watch.desk.records.heard(Sign("cn1", THEN, 1, 60.0, 3), THEN)
    watch.witness.said_alive = "no answer within 6 s"
    watch.after(210)
    assert watch.desk.open() != []
    watch.after(3600)
    assert watch.desk.open() == []


def test_a_silent_worker(watch: Watch) -> None:
    """Asked first; lost where it does not answer; said again; not missed for ever."""
    watch.desk.records.heard(Sign("cn1", THEN, 1, 60.0, 3), THEN)
    assert watch.after(179) == []
    assert watch.after(1) == ["cn1 alive?"]
    assert watch.desk.open() == [], "it answered"
    watch.witness.said_alive = None
    assert watch.after(180) == ["cn1 alive?"]
    assert watch.desk.open() == [], "the broker can't tell"
    watch.witness.said_alive = "no answer within 6 s"
    assert watch.after(30) == ["cn1 alive?"]
    (lost,) = watch.desk.records.active()
    assert (lost.cause, lost.host, lost.evidence["instances"]) == ("worker_lost", "cn1", 3)
    assert watch.after(180) == ["cn1 alive?"]
    watch.after(300)
    changes = [line.partition(" ")[2] for line in watch.desk.delivered("topic:faults")]
    assert changes == ["raised", "updated"], "one fault, however long it lasts"
    watch.after(3600)
    assert watch.desk.open() == []
    assert watch.desk.records.counts()["workers"] == 0


def test_what_is_being_asked_holds_nobody(desk: Desk) -> None:
    """It is looked at again a moment later, and nothing is concluded meanwhile."""
    watch = Watch(desk, Witness(word=Unknown("has not answered yet", 1.0), alive=Asking(1.0)))
    desk.records.heard(Sign("cn1", THEN, 1, 60.0, 3), THEN)
    desk.take(A1)
    asked = ["Nova", "cn1 alive?", "worker on cn1"]
    assert watch.after(900) == asked
    assert desk.open() == ["a1"]
    assert watch.after(1) == asked
    watch.rounds.stop()


def test_one_host_s_doubts_hold_nobody_else_s(desk: Desk) -> None:
    """Hundreds of one, and one of another, all due: it is looked into in the first round."""
    ids = (f"{number:08x}-5b7d-4d4b-9a57-0c8f5b1f7c11" for number in range(100))
    for fault_id in ids:
        desk.take(a_fault(fault_id, instance_uuid=fault_id))
    desk.clock.now += 1
    desk.take(B1)
    desk.clock.now += 60
    assert "b" in {one.fault.fault_id[0] for one in desk.records.doubtful(desk.clock(), ASKING)}
    assert len(desk.records.doubtful(desk.clock(), ASKING)) == ASKING, "and no place is left empty"


def test_ghosts_are_not_missed(desk: Desk) -> None:
    """Of hosts that there are not, none is asked, and none raised; the one that is lost is told."""
    witness = Witness(alive="no answer within 6 s")
    ghosts = [Known.NOT_YET]
    watch = Watch(desk, witness, known=lambda host: ghosts[0] if host.startswith("ghost") else Known.THERE)
    for host in ["cn1", *(f"ghost-{number}" for number in range(300))]:
        desk.records.heard(Sign(host, THEN, 1, 60.0, 3), THEN)
    asked = [one for _ in range(6) for one in watch.after(181 if not _ else 1)]
    assert desk.records.counts()["workers"] == 301, "Nova is being asked"
    ghosts[0] = Known.UNKNOWN
    asked += [one for _ in range(6) for one in watch.after(31 if not _ else 1)]
    assert {*asked} == {"cn1 alive?"}
    assert [fault.host for fault in desk.records.active()] == ["cn1"]
    assert desk.records.counts()["workers"] == 1
    watch.rounds.stop()


def test_those_that_are_lost_already_come_last(desk: Desk) -> None:
    """Where there is no Nova to say which hosts there are, somebody may make up hundreds: each is asked, once, before
    any is asked again."""
    for number in range(3 * MISSING):
        desk.records.heard(Sign(f"ghost-{number:03}", THEN, 1, 1.0, 3), THEN)
    desk.records.heard(Sign("cn1", THEN, 1, 2.0, 3), THEN)
    watch = Watch(desk, Witness(alive="no answer within 6 s"))
    first = [one for _ in range(3) for one in watch.after(10)]
    assert len({*first}) == 3 * MISSING
    assert "cn1 alive?" in watch.after(10), "although those of the first round are due again"
    watch.rounds.stop()


def test_a_doubt_that_fails_keeps_nobody_from_the_others(watch: Watch) -> None:
    """An error of our own with one fault is that one's: logged, counted, and the round goes on."""
    watch.desk.take(A1, another("c", instance_uuid="9d1f0e52-8d5a-4d0e-9d62-0f2f8f6f3b22"))
    watch.witness.said_place = RuntimeError("a bug")
    assert watch.after(100) == ["Nova", "Nova"]
    assert watch.tally.snapshot() == {"rounds.failed": 2}
    watch.witness.said_place = Place("cn1")
    watch.after(100)
    assert (watch.desk.open(), watch.tally.snapshot()["rounds.failed"]) == (["a1", "c1"], 2)


def test_stopped_amid_a_round(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Nova hangs, and more is in doubt than is asked about at a time: what was not begun is left, and is no error."""
    watch = Watch(desk, witness := HangingWitness())
    desk.records.heard(Sign("cn1", THEN, 1, 60.0, 1), THEN)
    desk.take(*(another(f"{number}", instance_uuid=str(uuid.UUID(int=number))) for number in range(ASKING)))
    round_ = threading.Thread(target=watch.after, args=(3600,))
    round_.start()
    wait_until(lambda: len(witness.asked) == ASKING, 10, "all that ask wait")
    watch.rounds.stop()
    witness.thawed.set()
    round_.join(10)
    assert not round_.is_alive()
    assert "cn1 alive?" not in witness.asked
    assert (watch.tally.snapshot(), caplog.messages) == ({}, [])
