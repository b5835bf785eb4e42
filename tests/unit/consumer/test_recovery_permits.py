"""Recoveries that are let through: counted, asked about where the guest may have revived, or late; and never twice."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from tests.unit.consumer.conftest import Desk, another
from tests.unit.consumer.fakes import Witness, standing
from vmhb_common.model import fault as life
from vmhb_common.model.fault import Fault, Resolution
from vmhb_consumer.counters import Tally
from vmhb_consumer.database import Database
from vmhb_consumer.delivery import Delivery, Recipient
from vmhb_consumer.doubt_rules import Place, Told, Unknown
from vmhb_consumer.recovery_permits import QUIET, UNVERIFIED, VERIFY_AGAIN, Permits, Witnesses
from vmhb_consumer.recovery_places import Board
from vmhb_consumer.reporters.base import Case, Permit
from vmhb_consumer.reporters.outcomes import Done, Later, Outcome
from vmhb_consumer.settings import RecoverySettings

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)


def guest(letter: str) -> str:
    """An instance's uuid that begins with this letter."""
    return f"{letter * 8}-8d5a-4d0e-9d62-0f2f8f6f3b21"


def asks(letter: str, **changed: object) -> Fault:
    """A fault that asks for recovery."""
    changed = {"instance_uuid": guest(letter), "recommended_action": "recover", "withheld": None, **changed}
    return another(letter, **{"recovery_attempt": 1, **changed})


def permits(desk: Desk, witness: Witness | None = None, **limits: float) -> Permits:
    """With these limits."""
    witness = witness or Witness()
    settings = RecoverySettings(**limits)  # type: ignore[arg-type]
    return Permits(desk.database, desk.records, settings, Witnesses(witness.word, witness.place))


def test_granted_once(desk: Desk) -> None:
    """Asked for again, it is the same one; a later attempt is another, in the same place."""
    one, a = permits(desk, max_concurrent=1), asks("a")
    second = replace(a, sequence=2, recovery_attempt=2)
    desk.take(a)
    assert one.ask(a, "one", desk.clock) == one.ask(a, "one", desk.clock) == Permit(True)
    desk.take(second)
    assert one.ask(a, "one", desk.clock).why == "recovery attempt 2 took the place of attempt 1"
    assert one.ask(second, "one", desk.clock).granted
    desk.take(asks("b"))
    assert one.ask(asks("b"), "one", desk.clock).why.startswith("held: 1 recoveries are under way")


@pytest.mark.parametrize(
    ("then", "why"),
    [
        (lambda a: life.cleared(a, Resolution.RECOVERED, NOON), "the fault was cleared meanwhile (recovered)"),
        (lambda a: life.reminded(a, NOON, late=True), "no recovery is recommended any more (withheld: late)"),
        (lambda a: replace(a, sequence=2, drill=True), "it is a drill"),
    ],
)
def test_not_wanted_any_more(desk: Desk, then: object, why: str) -> None:
    """Also where it was granted before the consumer died."""
    one, a = permits(desk), asks("a")
    desk.take(a)
    assert one.ask(a, "one", desk.clock).granted
    desk.take(then(a))  # type: ignore[operator]
    assert one.ask(a, "one", desk.clock) == Permit(False, why)


def test_one_over_makes_room(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Cleared, or not cleared for so long that it does not count; the hold is said once."""
    one = permits(desk, max_concurrent=1, recovery_time=100.0, action_ttl=9999.0)
    a, b, c = asks("a"), asks("b"), asks("c")
    desk.take(a, b, c)
    with caplog.at_level(logging.INFO):
        assert one.ask(a, "one", desk.clock).granted
        assert not one.ask(b, "one", desk.clock).granted and not one.ask(c, "one", desk.clock).granted
        desk.take(life.cleared(a, Resolution.RECOVERED, NOON))
        assert one.ask(b, "one", desk.clock).granted
        assert not one.ask(c, "one", desk.clock).granted
        assert one.held is not None
        desk.clock.now += max(100.0, QUIET) + 1
        assert one.ask(c, "one", desk.clock).granted
    assert one.held is None
    ours = [record for record in caplog.records if record.name.startswith("vmhb_consumer")]
    assert [record.message.partition(":")[0] for record in ours] == [
        "recoveries are held",
        "recoveries are not held any more",
    ]


def test_budget(desk: Desk) -> None:
    """Of one instance, whatever the fault; others have their own."""
    one = permits(desk, recoveries=1, recovery_window=1000.0, action_ttl=9999.0)
    a, again, b = asks("a"), asks("c", instance_uuid=guest("a")), asks("b")
    desk.take(a)
    assert one.ask(a, "one", desk.clock).granted
    desk.take(life.cleared(a, Resolution.RECOVERED, NOON), again, b)
    told = one.ask(again, "one", desk.clock)
    assert (told.granted, told.seconds) == (False, None) and "1 recoveries within 1000 s" in told.why
    assert one.ask(b, "one", desk.clock).granted
    desk.clock.now += 1000.0
    assert one.ask(again, "one", desk.clock).granted


A = asks("a")
ANSWERED = standing(A, answered_since_miss=True)
MUTE = Unknown("the worker on cn1 does not answer")
AWAY = Unknown("Nova is away")
ASKED = ["Nova", "worker on cn1"]


@pytest.mark.parametrize("cause", ["guest_hung", "qemu_failed"])
@pytest.mark.parametrize("age", [0.0, 61.0])
@pytest.mark.parametrize(
    ("word", "place", "outcome"),
    [
        (None, Place("cn1"), "granted"),
        (None, None, "granted"),
        (None, Place("cn2"), "never"),
        (None, AWAY, "later"),
        (Told(None), Place("cn1"), "later"),
        (Told({"state": "alive", "fault": None}), Place("cn1"), "never"),
        (ANSWERED, Place("cn1"), "later"),
        (MUTE, Place("cn1"), "later"),
        (MUTE, Place(None, exists=False), "never"),
    ],
)
def test_each_is_confirmed(desk: Desk, word: object, place: object, outcome: str, age: float, cause: str) -> None:
    """Whatever its cause, and however young: begun only once the worker that it names, and Nova, confirmed it."""
    witness, a = Witness(word, place), asks("a", cause=cause)
    one = permits(desk, witness)
    desk.take(a)
    desk.clock.now += age
    told = one.ask(a, "one", desk.clock)
    assert outcome == ("granted" if told.granted else "never" if told.seconds is None else "later")
    assert witness.asked == (ASKED if place is not AWAY else ["Nova"]), "where it is not known, no worker speaks for it"
    if outcome == "later":
        assert (told.seconds, told.withheld) == (VERIFY_AGAIN, UNVERIFIED)


def test_one_that_was_granted_is_asked_about_again(desk: Desk) -> None:
    """It may have answered since."""
    witness, a = Witness(place=Place("cn1")), asks("a")
    one = permits(desk, witness)
    desk.take(a)
    witness.said_word = ANSWERED
    told = one.ask(a, "one", desk.clock)
    why = "not now: it has answered since its last miss, the worker on cn1 says"
    assert told == Permit(False, why, VERIFY_AGAIN, UNVERIFIED)
    witness.said_word = None
    assert one.ask(a, "one", desk.clock).granted
    witness.said_word = ANSWERED
    assert not one.ask(a, "one", desk.clock).granted
    assert witness.asked == ASKED * 3


@pytest.mark.parametrize(
    ("place", "outcome"),
    [
        (Place("cn1", vm_state="active"), "granted"),
        (Place("cn1", vm_state="active", task_state="rebooting"), "later"),
        (Place("cn1", vm_state="stopped"), "never"),
        (Place("cn2", vm_state="active"), "never"),
        (Place(None, exists=False), "never"),
        (Place("cn1"), "later"),
        (AWAY, "later"),
        (None, "later"),
    ],
)
def test_one_whose_host_went_down_is_nova_s_to_say(desk: Desk, place: object, outcome: str) -> None:
    """Nova and its worker are asked, and both must speak for it."""
    one, a = permits(desk, Witness(place=place)), asks("a", cause="host_lost_power")
    desk.take(a)
    told = one.ask(a, "one", desk.clock)
    assert outcome == ("granted" if told.granted else "never" if told.seconds is None else "later")


def test_its_project_is_what_nova_says(desk: Desk) -> None:
    """A worker's word takes nobody's share, and has nobody wait for another's."""
    witness = Witness(place=Place("cn1"))
    settings = RecoverySettings(max_concurrent=2)

    def named(fault: Fault) -> Fault:
        return replace(fault, project_id="acme")

    one = Permits(desk.database, desk.records, settings, Witnesses(witness.word, witness.place, named))
    faults = [asks("a", project_id="beta"), asks("b", project_id="gamma")]
    desk.take(*faults)
    assert [one.ask(fault, "one", desk.clock).granted for fault in faults] == [True, False]
    assert Board(desk.database).picture(settings, desk.clock()).places == {"acme": 1}
    assert [waiter.project for waiter in Board(desk.database).picture(settings, desk.clock()).waiting] == ["acme"]


def test_where_it_is_not_known_whose_it_is_it_is_held(desk: Desk) -> None:
    """It takes no place, and waits for none."""
    witness, a = Witness(), asks("a")
    one = Permits(
        desk.database, desk.records, RecoverySettings(), Witnesses(witness.word, witness.place, lambda _: AWAY)
    )
    desk.take(a)
    assert one.ask(a, "one", desk.clock) == Permit(False, f"not confirmed: {AWAY.why}", VERIFY_AGAIN, UNVERIFIED)
    assert witness.asked == []


def test_held_ones_are_not_asked_about(desk: Desk) -> None:
    """A question costs seconds where a worker is away: first the limits, which cost nothing."""
    witness = Witness()
    one = permits(desk, witness, max_concurrent=1)
    desk.take(asks("a"), asks("b"))
    assert one.ask(asks("a"), "one", desk.clock).granted
    assert not one.ask(asks("b"), "one", desk.clock).granted
    assert witness.asked == ASKED


def test_what_nobody_knows_is_asked_about_as_long_as_its_fault_is_open(desk: Desk) -> None:
    """Neither dead nor well: never begun, and never given up. Who does not answer is told of."""
    witness, a = Witness(MUTE), asks("a")
    one = permits(desk, witness)
    desk.take(a)
    for _ in range(100):
        told = one.ask(a, "one", desk.clock)
        assert told == Permit(False, f"not confirmed: {MUTE.why}", VERIFY_AGAIN, UNVERIFIED)
        assert one.mute == {"cn1": MUTE.why}
        desk.clock.now += VERIFY_AGAIN
    witness.said_word = None
    assert one.ask(a, "one", desk.clock).granted and one.mute == {}


def test_what_nobody_confirms_is_told(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """By the log, once; by its counter; and by `--status`, which has the host and why. Until it is confirmed."""
    witness, tally, begun = Witness(MUTE), Tally(), []
    one = permits(desk, witness)

    def deliver(case: Case) -> Outcome:
        permit = case.permit()
        if not permit.granted:
            return Later(permit.seconds, f"recovery of instance {case.fault.instance_uuid} is held back: {permit.why}")
        begun.append(case.fault.fault_id)
        return Done()

    delivery = Delivery(
        *(Recipient("one", deliver), desk.outbox, tally),
        *(lambda fault, target: one.ask(fault, target, desk.clock), desk.clock),
    )
    desk.take(asks("a"), asks("b"))
    for _ in range(5):
        while delivery.turn():
            pass
        desk.clock.now += VERIFY_AGAIN
    assert begun == [] and one.mute == {"cn1": MUTE.why}
    assert tally.snapshot()["permits.unverified"] == 10
    said = [record.levelname for record in caplog.records if f"not confirmed: {MUTE.why}" in record.getMessage()]
    assert said.count("WARNING") == 1, "it is loud once, whichever of its instances it is"
    witness.said_word = None
    while delivery.turn():
        pass
    assert len(begun) == 2 and one.mute == {}


def test_what_is_being_asked_is_soon_asked_for_again(desk: Desk) -> None:
    """Its host is not taken for one that does not answer."""
    witness, a = Witness(Unknown("has not answered yet", 1.2)), asks("a")
    one = permits(desk, witness)
    desk.take(a)
    assert one.ask(a, "one", desk.clock) == Permit(False, "not confirmed: has not answered yet", 1.2, UNVERIFIED)
    assert one.mute == {}
    witness.said_word = None
    assert one.ask(a, "one", desk.clock).granted


def test_a_worker_that_does_not_answer_is_not_asked_by_each_of_its_faults(desk: Desk) -> None:
    """A host that died has many, each question takes 6 s, and other hosts' recoveries wait for the same thread."""
    witness = Witness(MUTE)
    one = permits(desk, witness)
    desk.take(*(asks(letter) for letter in "abcd"), asks("e", host="cn2"))
    assert {one.ask(asks(letter), "one", desk.clock).seconds for letter in "abcd"} == {VERIFY_AGAIN}
    one.ask(asks("e", host="cn2"), "one", desk.clock)
    assert [one for one in witness.asked if one != "Nova"] == ["worker on cn1", "worker on cn2"]
    desk.clock.now += VERIFY_AGAIN
    witness.said_word = None
    assert one.ask(asks("a"), "one", desk.clock).granted and one.ask(asks("b"), "one", desk.clock).granted


def test_cleared_while_its_worker_was_asked(desk: Desk) -> None:
    """The answer took seconds, and the clear came first."""
    a = asks("a")

    class Slow(Witness):
        def word(self, fault: Fault) -> object:
            desk.take(life.cleared(a, Resolution.RECOVERED, NOON))
            return super().word(fault)

    desk.take(a)
    assert permits(desk, Slow()).ask(a, "one", desk.clock) == Permit(
        False, "the fault was cleared meanwhile (recovered)"
    )


def test_database_away(desk: Desk) -> None:
    """No permit, and no exception."""
    witness = Witness()
    shut = Database("sqlite://")
    one = Permits(shut, desk.records, RecoverySettings(), Witnesses(witness.word, witness.place))
    assert one.ask(asks("a"), "one", desk.clock).seconds == VERIFY_AGAIN
