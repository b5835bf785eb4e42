"""What the guest answers to what the host says: joined in memory, no socket, a clock that is an argument."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.guest.examples import EXAMPLES
from vmhb_guest.conformance import schema
from vmhb_guest.health import DEGRADED, HEALTHY, STATUSES, UNHEALTHY, Finding, Report, merge
from vmhb_guest.session import ERRORS, MAX_CHALLENGES, MAX_OUTPUT, Session

SICK = merge([Finding("disk", UNHEALTHY, "full"), Finding("net", HEALTHY)])
SILENT = merge([Finding("billing", UNHEALTHY, "ended", silent=True)])


def session(report: Report = Report()) -> Session:  # noqa: B008 -- frozen
    """One that is connected, its hello read."""
    one = Session("guest", lambda: report)
    one.connect()
    assert said(one) == [{"type": "hello", "version": 1, "name": "guest", "system": sys.platform}]
    return one


def said(one: Session) -> list[dict[str, Any]]:
    """All that it wants to write; each of it is as the schema wants it."""
    data = b""
    while one.output:
        data += one.output
        one.written(len(one.output))
    messages = [json.loads(line) for line in data.split(b"\n") if line]
    for message in messages:
        assert schema.faults(message, message["type"]) == []
    return messages


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def challenge(seq: int, **more: Any) -> bytes:
    return line(type="challenge", seq=seq, nonce=f"n{seq}", **more)


def test_challenges_are_acknowledged_in_order() -> None:
    """Each with its own seq and nonce, and with health where it is asked for."""
    one = session(SICK)
    one.receive(challenge(7) + challenge(8, health=True), 0)
    plain, full = said(one)
    assert plain == {"type": "ack", "seq": 7, "nonce": "n7"}
    assert full["health"] == {
        "status": "unhealthy",
        "checks": [
            {"name": "disk", "status": "unhealthy", "message": "full"},
            {"name": "net", "status": "healthy", "message": ""},
        ],
    }


def test_a_silent_application_is_not_spoken_for() -> None:
    """Without being asked for health, an ack would say that it lives. With it, the ack says that it doesn't."""
    one = session(SILENT)
    one.receive(challenge(1) + challenge(2, health=True), 0)
    assert [message["seq"] for message in said(one)] == [2]
    assert (one.acks, one.withheld) == (1, 1)


def test_of_a_backlog_the_newest() -> None:
    """A port that was opened late has old challenges in it: as many as a host can have open are answered."""
    one = session()
    one.receive(b"".join(challenge(seq) for seq in range(100)), 0)
    assert [message["seq"] for message in said(one)] == list(range(100 - MAX_CHALLENGES, 100))


def test_a_connection_begins_anew() -> None:
    """Half a line, of either side, is of another life; whole answers wait for the host, after a newline."""
    one = session()
    one.receive(challenge(1) + challenge(2) + b'{"type":"challenge","se', 0)
    one.written(5)
    one.disconnect()
    assert one.output.startswith(b"\n{")
    one.connect()
    one.receive(challenge(3), 0)
    messages = said(one)
    assert [(message["type"], message.get("seq")) for message in messages] == [("ack", 2), ("hello", None), ("ack", 3)]


def test_what_is_read_before_the_host_is_known_to_be_there() -> None:
    """A virtio port hands over what the host said a moment before it says that there is one: nothing is lost."""
    one = Session("guest", Report)
    one.receive(b"\n" + challenge(1) + b'{"type":"challenge","seq":2,', 0)
    one.connect()
    one.receive(b'"nonce":"n2"}\n', 0)
    one.disconnect()
    one.connect()
    messages = said(one)
    assert [(message["type"], message.get("seq")) for message in messages] == [("ack", 1), ("ack", 2), ("hello", None)]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (line(type="dance"), "unknown_type"),
        (line(seq=1), "unknown_type"),
        (b"[]\n", "bad_message"),
        (line(type="challenge", seq=1), "bad_message"),
        (line(type="challenge", seq=True, nonce="x"), "bad_message"),
        (line(type="challenge", seq=-1, nonce="x"), "bad_message"),
        (line(type="challenge", seq=2**53, nonce="x"), "bad_message"),
        (line(type="challenge", seq=1, nonce="x" * 65), "bad_message"),
        (line(type="challenge", seq=1, nonce="a\nb"), "bad_message"),
        (line(type="challenge", seq=1, nonce="x", health=1), "bad_message"),
        (line(type="welcome", version=2, interval=1, timeout=1), "bad_message"),
        (line(type="welcome", version=1), "bad_message"),
        *(
            (b'{"type":"welcome","version":1,"timeout":1,"interval":%b}\n' % number, "bad_message")
            for number in (b"1" + b"0" * 400, b"1e999", b"-1", b"0", b"86401", b"true", b'"1"', b"null")
        ),
    ],
)
def test_objections(sent: bytes, code: str) -> None:
    """What is not understood is said so, once, and what follows is read."""
    one = session()
    one.receive(sent + challenge(1), 0)
    error, ack = said(one)
    assert (error["type"], error["code"]) == ("error", code) and error["detail"]
    assert ack["seq"] == 1


def test_what_is_dropped_without_a_word() -> None:
    """A line that is not JSON may be half a one; an error is never answered."""
    one = session()
    one.receive(b"garbage\n\n\n" + b"x" * 5000 + b"\n" + line(type="error", code="refused", detail="\x1b[31mred\n"), 0)
    assert said(one) == []
    assert (one.bad, one.too_long) == (1, 1)
    assert one.last_error == "refused:  [31mred"


def test_a_host_that_talks_nonsense_gets_few_errors() -> None:
    """Some at once, then one a second."""
    one = session()
    one.receive(line(type="dance") * 100, 10.0)
    assert len(said(one)) == ERRORS
    one.receive(line(type="dance") * 100, 12.5)
    assert len(said(one)) == 2


def test_a_host_that_does_not_read_fills_nothing() -> None:
    """The oldest whole messages go; half a message that is on its way is finished."""
    one = session()
    one.receive(challenge(0), 0)
    one.written(5)
    rest = one.output
    for seq in range(1, 2000):
        one.receive(challenge(seq), 0)
        assert sum(map(len, one._output)) <= MAX_OUTPUT
    assert one.output == rest
    one.written(len(rest))
    assert said(one)[-1]["seq"] == 1999


def test_maintenance_and_goodbye() -> None:
    """Whole seconds are said as such; texts are made fit for a line."""
    one = session()
    one.maintenance(2400.0, "kernel\nupdate " * 50)
    one.maintenance(0, "")
    one.goodbye("\x07bye")
    long, end, bye = said(one)
    assert (long["seconds"], len(long["reason"]), end["seconds"], bye["reason"]) == (2400, 255, 0, "bye")


finding = st.builds(Finding, st.text(max_size=300), st.sampled_from(STATUSES), st.text(max_size=2000))


@EXAMPLES
@given(st.lists(finding, max_size=60))
def test_a_report_always_fits(findings: list[Finding]) -> None:
    """Whatever is found, the ack is one legal line, and the worst is in it."""
    one = session(merge(findings))
    one.receive(challenge(1, health=True), 0)
    (ack,) = said(one)
    worst = max((one.status for one in findings), key=STATUSES.index, default=HEALTHY)
    assert ack["health"]["status"] == worst
    if findings:
        assert ack["health"]["checks"][0]["status"] == worst


def test_how_many_were_left_out_is_said() -> None:
    """Of the best ones, never of the worst."""
    findings = [Finding(f"c{number}", HEALTHY, "ä" * 255) for number in range(30)] + [Finding("bad", DEGRADED)]
    checks = merge(findings).message()["checks"]
    assert checks[0]["name"] == "bad"
    assert checks[-1] == {
        "name": "vmhb-guest",
        "status": "healthy",
        "message": f"{32 - len(checks)} more are not shown",
    }


@EXAMPLES
@given(st.lists(st.binary(max_size=300), max_size=10), st.floats(0, 1e6))
def test_anything_may_be_received(pieces: list[bytes], now: float) -> None:
    """Nothing raises, and what is answered is legal."""
    one = session()
    for piece in pieces:
        one.receive(piece, now)
    said(one)


@pytest.mark.parametrize("field", ["code", "detail"])
def test_an_error_that_is_no_text(field: str) -> None:
    """However deep or large what stands there is: it is not spelt out."""
    one = session()
    for value in (b"[" * 900 + b"]" * 900, b"1" * 3000, b"null", b"{}"):
        one.receive(b'{"type":"error","%b":%b}\n' % (field.encode(), value), 0)
        assert one.last_error in (":", "") and said(one) == []


# -- leaving


def test_one_that_has_left_answers_no_more() -> None:
    """An answer would be taken for its return. To another host, or one that was away, it says goodbye again."""
    one = session(SICK)
    one.leave("the machine shuts\ndown")
    assert said(one) == [{"type": "goodbye", "reason": "the machine shuts down"}]
    one.receive(challenge(1) + challenge(2, health=True), 0.0)
    assert (said(one), one.withheld, one.acks) == ([], 2, 0)
    one.disconnect()
    one.connect()
    assert [message["type"] for message in said(one)] == ["hello", "goodbye"]
    one.stay()
    one.receive(challenge(3, health=True), 0.0)
    assert [message["type"] for message in said(one)] == ["ack"]


def test_one_that_leaves_while_the_host_is_away() -> None:
    """It says so when the host comes."""
    one = Session("guest", Report)
    one.leave("")
    assert said(one) == []
    one.connect()
    assert said(one)[1] == {"type": "goodbye", "reason": "goodbye"}


def test_one_that_may_not_leave() -> None:
    """The host goes on to judge it by its answers: it has them. Another refusal is another matter."""
    one = session()
    one.leave("bye")
    for detail, answers in (("maintenance: no", []), ("goodbye: not while the guest is suspected", ["ack"])):
        one.receive(line(type="error", code="refused", detail=detail) + challenge(1), 0.0)
        assert [message["type"] for message in said(one) if message["type"] != "goodbye"] == answers
