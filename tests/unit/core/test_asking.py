"""How a guest is challenged, what it was asked, and what that says: its agent, or its application."""

from __future__ import annotations

from tests.unit.core.parts import Parts
from vmhb_common.model.policy import Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.absence import GOODBYE
from vmhb_worker.core.application_channel import TROUBLED
from vmhb_worker.core.consequences import Begin, ChallengeAtOnce, End, Excuse, Quicken
from vmhb_worker.core.excuses import Excused
from vmhb_worker.core.protocol import Challenge, Error, Goodbye, Hello, Maintenance, Welcome
from vmhb_worker.core.transitions import State


def test_nobody_is_asked_through_a_closed_port() -> None:
    """libvirtd would write an error for each; that it was not asked is known, and counts as asked in vain."""
    parts = Parts()
    assert isinstance(parts.asking.ask(State.ALIVE, 10.0), ev.Ask)
    parts.asking.challenges.failed(silent=False)
    parts.life.port_is(False, 11.0)
    parts.answers.verify_at = 15.0
    assert parts.asking.ask(State.SILENT, 20.0) is None
    assert parts.answers.unasked == ev.Failure.CLOSED.value
    assert parts.answers.asked_in_vain(15.0, 5.0, 25.0)
    assert parts.asking.challenges.next_at > 20.0


def test_an_application_is_asked_where_its_socket_is_connected() -> None:
    """Another challenge each time: one is not held up by the one before."""
    parts = Parts(Channel.APPLICATION)
    assert parts.asking.ask(State.ALIVE, 10.0) is None
    parts.application.connected = True
    asked = [parts.asking.ask(State.ALIVE, at) for at in (20.0, 30.0)]
    assert [one.message for one in asked if isinstance(one, ev.Say)] == [
        Challenge(1, "nonce-1", False),
        Challenge(2, "nonce-2", False),
    ]


def test_only_the_first_challenge_since_it_is_asked_anew_counts() -> None:
    """Others may follow within its time; and who was dead before is owed a full threshold."""
    answers = Parts().answers
    assert not answers.asked_in_vain(0.0, 5.0, 1e9)
    answers.ask_anew(10.0)
    answers.left(11.0)
    answers.left(14.0)
    assert [answers.asked_in_vain(10.0, 5.0, at) for at in (15.9, 16.0)] == [False, True]
    assert not answers.asked_in_vain(12.0, 5.0, 100.0)
    assert [answers.owed_nothing(35.0, at) for at in (44.9, 45.0)] == [False, True]


def test_it_is_well_when_it_has_answered_over_two_intervals() -> None:
    """Several answers at once are one."""
    answers = Parts().answers
    answers.missed(5.0)
    assert (answers.answered_since_miss, answers.misses) == (False, 1)
    for at in (10.0, 10.1, 10.2):
        answers.acked(at)
    assert (answers.answered_since_miss, answers.misses) == (True, 0)
    assert answers.steady(1, 10.0, 10.2)
    assert [answers.steady(3, 10.0, at) for at in (29.9, 30.0)] == [False, True]
    assert not answers.steady(4, 10.0, 30.0)


def test_what_an_application_says_is_heard_only_while_it_is_well() -> None:
    """Else whoever is at fault could have itself excused; nor does it leave twice."""
    parts = Parts(Channel.APPLICATION)
    hear, silences = parts.application.hear, parts.silences
    for asked, what in ((Goodbye("bye"), "goodbye"), (Maintenance(60.0), "maintenance")):
        assert hear(asked, silences, False, 1.0) == [ev.Say(Error("refused", f"{what}: {TROUBLED}"))]
    begin, excuse, ended, remember = hear(Goodbye("bye"), silences, True, 2.0)
    assert isinstance(begin, Begin) and begin.key == GOODBYE
    assert (excuse, type(ended), remember) == (Excuse(Excused.GOODBYE), ev.Ended, ev.Remember())
    silences.begin(begin.key, begin.silence)
    assert hear(Goodbye("bye"), silences, True, 3.0) == []


def test_a_hello_asks_for_shorter_times() -> None:
    """They are in force until the next boot; one who is in trouble is welcomed, and asked no more often."""
    parts = Parts(Channel.APPLICATION, interval=10.0, timeout=5.0)
    hello = Hello(1, "app", 2.0, 1.0)
    troubled = parts.application.hear(hello, parts.silences, False, 1.0)
    assert troubled == [ev.Say(Welcome(1, 10.0, 5.0)), ChallengeAtOnce()]
    well = parts.application.hear(hello, parts.silences, True, 2.0)
    assert well == [Quicken(), ev.Say(Welcome(1, 2.0, 1.0)), ChallengeAtOnce()]
    assert parts.application.rebooted() and parts.application.in_force == parts.application.policy
    assert not parts.application.rebooted()


def test_maintenance_ends_before_its_time_when_it_says_so() -> None:
    """And only where it is on."""
    parts = Parts(Channel.APPLICATION)
    none = Maintenance(0.0)
    assert parts.application.hear(none, parts.silences, True, 1.0) == []
    begin = next(
        one for one in parts.application.hear(Maintenance(60.0), parts.silences, True, 2.0) if isinstance(one, Begin)
    )
    parts.silences.begin(begin.key, begin.silence)
    over = parts.application.hear(none, parts.silences, True, 3.0)
    assert over == [End(("maintenance",)), ev.Remember()]
