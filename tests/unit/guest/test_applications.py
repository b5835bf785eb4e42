"""Applications that join, fall silent, end, leave and come back: a clock that is moved, no process, no socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.guest.examples import EXAMPLES
from vmhb_guest.applications import (
    MAX_APPLICATIONS,
    MAX_OF_A_USER,
    MAX_OF_USERS,
    OWN,
    Applications,
    Sender,
    interval_of,
)
from vmhb_guest.codec import MAX_NAME
from vmhb_guest.health import HEALTHY, STATUSES, UNHEALTHY, Finding

BILLING = Sender(pid=100, uid=33, command="billing", born=5000)
MAIL = Sender(pid=200, uid=34, command="mail", born=6000)
#: Its watchdog: 5 s.
READY = {"READY": "1", "WATCHDOG_USEC": "5000000"}


def found(table: Applications, now: float = 0) -> dict[str, tuple[str, str]]:
    """Name -> status and message."""
    return {one.name: (one.status, one.message) for one in table.findings(now)}


def test_one_that_feeds_its_watchdog() -> None:
    """Healthy until it is silent for longer than it said, and again with its next word."""
    table = Applications()
    assert table.hear(BILLING, READY, 0)
    assert found(table, 5.0) == {"billing": (HEALTHY, "")}
    assert found(table, 5.1) == {"billing": (UNHEALTHY, "silent for 5.1 s, its watchdog allows 5 s")}
    assert table.findings(5.1)[0].silent
    table.hear(BILLING, {"WATCHDOG": "1"}, 6.0)
    assert found(table, 10.9) == {"billing": (HEALTHY, "")}


def test_what_it_says_of_itself() -> None:
    """Its health and its status, until it says otherwise; that is not silence."""
    table = Applications()
    table.hear(BILLING, {**READY, "X-VMHB-HEALTH": "degraded", "STATUS": "replica\x1bis behind"}, 0)
    assert found(table) == {"billing": ("degraded", "replica is behind")}
    table.hear(BILLING, {"X-VMHB-HEALTH": "splendid"}, 0)
    assert found(table)["billing"][0] == "degraded"
    table.hear(BILLING, {"X-VMHB-HEALTH": "unhealthy", "STATUS": ""}, 0)
    assert found(table) == {"billing": ("unhealthy", "")}
    assert not table.findings(0)[0].silent


def test_its_watchdog_can_be_called_off() -> None:
    """WATCHDOG_USEC=0: only its end is noticed. WATCHDOG=trigger: it has given up."""
    table = Applications()
    table.hear(BILLING, READY, 0)
    table.hear(BILLING, {"WATCHDOG_USEC": "0"}, 0)
    assert found(table, 1e6) == {"billing": (HEALTHY, "")}
    table.hear(BILLING, {"WATCHDOG": "trigger"}, 0)
    assert found(table) == {"billing": (UNHEALTHY, "said itself that its watchdog has run out")}
    table.hear(BILLING, {"WATCHDOG": "1"}, 0)
    assert found(table) == {"billing": (HEALTHY, "")}


def test_a_service_managers_watchdog_is_its_deadline() -> None:
    """A service of systemd's feeds the watchdog that its environment says, and never says it itself."""
    table = Applications()
    table.hear(Sender(100, 33, "billing", 5000, interval=10.0), {"READY": "1"}, 0)
    assert table.due(4.0) == 6.0
    assert found(table, 10.1)["billing"][0] == UNHEALTHY


def test_one_that_ends_without_a_word_is_not_forgotten() -> None:
    """Until it is back, as the same user's, or an operator says that it won't be."""
    table = Applications()
    table.hear(BILLING, READY, 0)
    assert table.end(100) == "billing" and table.end(100) is None
    assert found(table, 1e6) == {"billing": (UNHEALTHY, "ended without STOPPING=1 (pid 100, uid 33)")}
    table.hear(Sender(101, 34, "billing", 7000), READY, 0)
    assert set(found(table)) == {"billing", "billing[101]"}, "another user's of the same name is not it"
    table.hear(Sender(102, 33, "billing", 8000), READY, 0)
    assert found(table)["billing"] == (HEALTHY, ""), "its successor is"
    table.end(102)
    assert not table.forget("mail") and table.forget("billing") and set(found(table)) == {"billing[101]"}


def test_one_that_leaves() -> None:
    """STOPPING=1, and its end is none of ours; also for one that never joined."""
    table = Applications()
    table.hear(BILLING, READY, 0)
    assert not table.hear(BILLING, {"STOPPING": "1"}, 0) and not table.hear(MAIL, {"STOPPING": "1"}, 0)
    assert table.end(100) is None and len(table) == 0 and table.living() == []


def test_two_applications() -> None:
    """Each with its own deadline; the next one is what we wait for."""
    table = Applications()
    table.hear(BILLING, READY, 0)
    table.hear(MAIL, {"READY": "1", "WATCHDOG_USEC": "1000000", "X-VMHB-NAME": "post office"}, 0)
    assert table.due(0.25) == 0.75
    assert found(table, 2.0) == {
        "billing": (HEALTHY, ""),
        "post office": (UNHEALTHY, found(table, 2.0)["post office"][1]),
    }
    assert table.due(2.0) == 3.0, "a deadline that is over needs no waking up for"


def test_who_joins() -> None:
    """Not by a status alone; nor one that has ended already: whoever speaks and ends at once is a helper."""
    table = Applications()
    helper = Sender(pid=300, uid=0, command="", born=0)
    assert not table.hear(BILLING, {"STATUS": "hello"}, 0)
    assert not table.hear(helper, {"READY": "1"}, 0) and table.refused == 1
    assert not table.hear(helper, {"READY": "1", "X-VMHB-NAME": "job"}, 0) and table.refused == 2
    assert not table.hear(helper, {"STOPPING": "1"}, 0)
    assert len(table) == 0


def test_a_process_with_the_number_of_another() -> None:
    """The kernel gives numbers again: the one that had it before has ended."""
    table = Applications()
    table.hear(BILLING, READY, 0)
    table.hear(Sender(100, 34, "mail", 9999), READY, 0)
    assert found(table)["billing"][0] == UNHEALTHY and found(table)["mail"][0] == HEALTHY
    assert [sender.born for sender in table.living()] == [9999]


def test_a_name_cannot_be_taken_from_the_living() -> None:
    """Who has it has it; the other is told apart by its number."""
    table = Applications()
    table.hear(BILLING, READY, 0)
    table.hear(MAIL, {**READY, "X-VMHB-NAME": "billing"}, 0)
    assert set(found(table)) == {"billing", "billing[200]"}


def test_room() -> None:
    """Bounded: for a user, and in all."""
    table = Applications()
    for number in range(MAX_OF_A_USER + 3):
        table.hear(Sender(1000 + number, 33, f"a{number}", 1), READY, 0)
    assert (len(table), table.refused) == (MAX_OF_A_USER, 3)
    for number in range(MAX_APPLICATIONS):
        table.hear(Sender(2000 + number, 0, f"b{number}", 1), READY, 0)
    assert len(table) == MAX_APPLICATIONS


def test_a_user_with_many_users_leaves_room_for_roots() -> None:
    """However many users there are: root's services find places, and all that the users hold is bounded."""
    table = Applications()
    for number in range(MAX_APPLICATIONS):
        table.hear(Sender(1000 + number, 100_000 + number, "a", 1), READY, 0)
    assert len(table) == MAX_OF_USERS
    for number in range(MAX_APPLICATIONS):
        table.hear(Sender(2000 + number, 0, f"b{number}", 1), READY, 0)
    assert sum(one["uid"] == 0 for one in table.describe(0)) == MAX_APPLICATIONS - MAX_OF_USERS


def test_who_was_there_before_finds_its_place_again() -> None:
    """A service that is restarted: after its STOPPING=1 or its death, whoever wanted its place meanwhile."""
    table = Applications()
    table.hear(BILLING, READY, 0)
    table.hear(MAIL, READY, 0)
    table.hear(BILLING, {"STOPPING": "1"}, 0)
    table.end(MAIL.pid)
    for number in range(MAX_APPLICATIONS):
        table.hear(Sender(1000 + number, 100_000 + number, "a", 1), READY, 1)
    assert table.hear(Sender(101, BILLING.uid, "billing", 1), READY, 500)
    assert table.hear(Sender(201, MAIL.uid, "mail", 1), READY, 500)
    assert (found(table, 500)["billing"], found(table, 500)["mail"]) == ((HEALTHY, ""), (HEALTHY, ""))


def test_names_of_roots_are_roots() -> None:
    """Its service has its name, whoever took it before; its checks', and the daemon's own, are not to be had."""
    table = Applications()
    for number, name in enumerate(("postgresql", "disk", *sorted(OWN))):
        table.hear(Sender(300 + number, 65534, "thief", 1), {"X-VMHB-NAME": name}, 0)
    table.hear(Sender(400, 0, "postgresql", 1), READY, 0)
    table.reserve(["disk"])
    assert set(found(table)) == {"postgresql", "postgresql[300]", "disk[301]", "checks.d[302]", "vmhb-guest[303]"}
    assert {one["name"]: one["uid"] for one in table.describe(0)}["postgresql"] == 0
    table.hear(Sender(401, 0, "disk", 1), READY, 0)
    assert "disk" in found(table), "an administrator may call a service as a check of it"


def test_one_that_is_told_apart_is_known_when_it_is_back() -> None:
    """The name that it has here is ours; its successor says the one that it has itself. And it keeps what it has."""
    table = Applications()
    long = "b" * MAX_NAME
    table.hear(BILLING, {"X-VMHB-NAME": long}, 0)
    for _ in range(3):
        table.hear(MAIL, {"X-VMHB-NAME": long, "WATCHDOG": "1"}, 0)
        assert set(found(table)) == {long, "b" * (MAX_NAME - 5) + "[200]"}
    table.end(MAIL.pid)
    table.hear(Sender(201, MAIL.uid, "mail", 1), {"X-VMHB-NAME": long}, 0)
    assert set(found(table)) == {long, "b" * (MAX_NAME - 5) + "[201]"}
    assert {status for status, _ in found(table).values()} == {HEALTHY}


def test_not_scheduled_ourselves() -> None:
    """For what we could not hear, nobody is to blame: all deadlines move by that time."""
    table = Applications()
    table.hear(BILLING, READY, 0)
    table.excuse(30.0)
    assert found(table, 35.0)["billing"][0] == HEALTHY and found(table, 35.1)["billing"][0] == UNHEALTHY


def test_a_new_daemon_knows_who_had_joined() -> None:
    """Also who had ended; deadlines begin anew."""
    table, other = Applications(), Applications()
    table.hear(BILLING, READY, 0)
    table.hear(MAIL, {"READY": "1"}, 0)
    table.end(200)
    other.load(json.loads(json.dumps(table.dump())), 100.0)
    assert found(other, 104.9) == {
        "billing": (HEALTHY, ""),
        "mail": (UNHEALTHY, "ended without STOPPING=1 (pid 200, uid 34)"),
    }
    assert found(other, 105.1)["billing"][0] == UNHEALTHY
    rows: tuple[list[Any], ...] = ([{}], [{"sender": {}}], [1])
    for nonsense in rows:
        with pytest.raises((KeyError, TypeError, ValueError)):
            Applications().load(nonsense, 0)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1000000", 1.0),
        ("0", None),
        ("", None),
        ("-5", None),
        ("1e6", None),
        ("1", 0.05),
        ("9" * 18, 86400.0),
        ("9" * 5000, None),
        ("9" * 19, None),
        *(
            (spelt, None)
            for spelt in ("²", "1①", "٣٤", "１０", "𝟗", "+5", " 5", "5 ", "5\n", "5_0", "0x5", "5.0", "nan", "inf")
        ),
    ],
)
def test_intervals(said: str, seconds: float | None) -> None:
    """Whole microseconds, within bounds; nonsense is no deadline."""
    assert interval_of(said) == seconds


WORDS = st.sampled_from(["READY", "WATCHDOG", "WATCHDOG_USEC", "STATUS", "STOPPING", "X-VMHB-NAME", "X-VMHB-HEALTH"])
VALUES = st.sampled_from(
    ["1", "0", "trigger", "5000000", "healthy", "unhealthy", "billing", "ä\x00\x1b", ""]
) | st.text(max_size=9)
SENDERS = st.builds(Sender, st.integers(1, 9), st.integers(0, 2), st.sampled_from(["a", "b", ""]), st.integers(0, 2))


@EXAMPLES
@given(st.lists(st.tuples(SENDERS, st.dictionaries(WORDS, VALUES, max_size=4), st.booleans()), max_size=20))
def test_whatever_is_said(story: list[tuple[Sender, dict[str, str], bool]]) -> None:
    """Bounded, names are one's own, findings are legal."""
    table = Applications()
    for number, (sender, said, ends) in enumerate(story):
        table.hear(sender, said, float(number))
        if ends:
            table.end(sender.pid)
        findings: list[Finding] = table.findings(float(number))
        assert len({one.name for one in findings}) == len(findings) <= MAX_APPLICATIONS
        assert all(one.status in STATUSES and one.name for one in findings)
        assert not {one.pid for one in table.living()} - {sender.pid for sender, _, _ in story}
