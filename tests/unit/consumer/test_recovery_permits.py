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
from vmhb_consumer.database import Database
from vmhb_consumer.doubt_rules import Place, Told, Unknown
from vmhb_consumer.recovery_permits import QUIET, UNVERIFIED, VERIFY_AGAIN, Permits, Witnesses
from vmhb_consumer.reporters.base import Permit
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


LATE = 61.0
A = asks("a")
ANSWERED = standing(A, answered_since_miss=True)
MUTE = Unknown("the worker on cn1 does not answer")


@pytest.mark.parametrize(
    ("word", "place", "outcome"),
    [
        (standing(A), Place("cn1"), "granted"),
        (standing(A), None, "granted"),
        (standing(A), Place("cn2"), "never"),
        (standing(A), Unknown("Nova is away"), "later"),
        (Told(None), Place("cn1"), "later"),
        (Told({"state": "alive", "fault": None}), Place("cn1"), "never"),
        (ANSWERED, Place("cn1"), "later"),
        (MUTE, Place("cn1"), "later"),
        (MUTE, Place(None, exists=False), "never"),
    ],
)
def test_late(desk: Desk, word: object, place: object, outcome: str) -> None:
    """What was recommended a while ago is begun only after worker and Nova confirmed it."""
    witness, a = Witness(word, place), asks("a")
    one = permits(desk, witness)
    desk.take(a)
    desk.clock.now += LATE
    told = one.ask(a, "one", desk.clock)
    assert outcome == ("granted" if told.granted else "never" if told.seconds is None else "later")
    assert witness.asked == ["Nova", "worker on cn1"]
    if outcome == "later":
        assert told.seconds == VERIFY_AGAIN


def test_one_that_may_revive_is_asked_about_each_time(desk: Desk) -> None:
    """However young its fault: it may have answered since it was told. Also where it was granted before."""
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
    assert witness.asked == ["worker on cn1"] * 3, "and Nova of what is late"


def test_one_whose_qemu_failed_goes_at_once(desk: Desk) -> None:
    """It can't have revived: nobody is asked, but where it is late, and that once."""
    witness, a = Witness(place=Place("cn1")), asks("a", cause="qemu_failed")
    one = permits(desk, witness)
    desk.take(a)
    assert one.ask(a, "one", desk.clock).granted and witness.asked == []
    desk.clock.now += LATE
    assert one.ask(a, "one", desk.clock).granted and len(witness.asked) == 2
    assert one.ask(a, "one", desk.clock).granted and len(witness.asked) == 2


@pytest.mark.parametrize(
    ("place", "outcome"),
    [
        (Place("cn1", vm_state="active"), "granted"),
        (Place("cn1", vm_state="active", task_state="rebooting"), "later"),
        (Place("cn1", vm_state="stopped"), "never"),
        (Place("cn2", vm_state="active"), "never"),
        (Place(None, exists=False), "never"),
        (Place("cn1"), "later"),
        (Unknown("Nova is away"), "later"),
        (None, "later"),
    ],
)
def test_one_whose_host_went_down_is_nova_s_to_say(desk: Desk, place: object, outcome: str) -> None:
    """However young its fault is: Nova and its worker are asked, and both must speak for it."""
    witness, a = Witness(place=place), asks("a", cause="host_lost_power")
    one = permits(desk, witness)
    desk.take(a)
    told = one.ask(a, "one", desk.clock)
    assert outcome == ("granted" if told.granted else "never" if told.seconds is None else "later")
    assert witness.asked == ["Nova", "worker on cn1"]


def test_where_nova_cannot_be_asked_nobody_is_started(desk: Desk) -> None:
    """For five minutes it is asked again; then this attempt is given up."""
    witness, a = Witness(place=Unknown("Nova is away")), asks("a", cause="host_lost_power")
    one = permits(desk, witness)
    desk.take(a)
    while (told := one.ask(a, "one", desk.clock)).seconds is not None:
        assert not told.granted
        desk.clock.now += VERIFY_AGAIN
    assert told.withheld == UNVERIFIED


def test_held_ones_are_not_asked_about(desk: Desk) -> None:
    """A question costs seconds where a worker is away: first the limits, which cost nothing."""
    witness = Witness()
    one = permits(desk, witness, max_concurrent=1)
    desk.take(asks("a"), asks("b"))
    assert one.ask(asks("a"), "one", desk.clock).granted
    assert not one.ask(asks("b"), "one", desk.clock).granted
    assert len(witness.asked) == 1


def test_what_nobody_knows_is_waited_for_and_then_said(desk: Desk) -> None:
    """Neither dead nor well: never begun, and not asked about for ever. Its next attempt is asked about anew."""
    witness, a = Witness(MUTE), asks("a")
    one = permits(desk, witness, action_ttl=9999.0)
    desk.take(a)
    while (told := one.ask(a, "one", desk.clock)).seconds is not None:
        assert not told.granted and told.why == f"not confirmed: {MUTE.why}"
        desk.clock.now += VERIFY_AGAIN
    assert told.why == f"not confirmed for 300 s: {MUTE.why}"
    second = replace(a, sequence=2, recovery_attempt=2)
    desk.take(second)
    assert one.ask(second, "one", desk.clock).seconds == VERIFY_AGAIN
    witness.said_word = None
    desk.clock.now += VERIFY_AGAIN
    assert one.ask(second, "one", desk.clock).granted


def test_what_was_unclear_once_has_its_time_again(desk: Desk) -> None:
    """It was clear in between, or another consumer found that it was."""
    witness, a = Witness(MUTE), asks("a")
    one = permits(desk, witness, action_ttl=9999.0)
    desk.take(a)
    for word in (MUTE, None, MUTE):
        witness.said_word = word
        one.ask(a, "one", desk.clock)
        desk.clock.now += 110.0
    one.ask(a, "one", desk.clock)
    desk.clock.now += 200.0
    assert one.ask(a, "one", desk.clock).seconds == VERIFY_AGAIN, "200 s of another's, of which nothing is known here"


def test_a_worker_that_does_not_answer_is_not_asked_by_each_of_its_faults(desk: Desk) -> None:
    """A host that died has many, each question takes 6 s, and other hosts' recoveries wait for the same thread."""
    witness = Witness(MUTE)
    one = permits(desk, witness)
    desk.take(*(asks(letter) for letter in "abcd"), asks("e", host="cn2"))
    assert {one.ask(asks(letter), "one", desk.clock).seconds for letter in "abcd"} == {VERIFY_AGAIN}
    one.ask(asks("e", host="cn2"), "one", desk.clock)
    assert witness.asked == ["worker on cn1", "worker on cn2"]
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
