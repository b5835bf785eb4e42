"""The codec and the messages: both ways, cut anywhere, and whatever else a guest may send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmhb_worker.core import protocol
from vmhb_worker.core.codec import GREETING, LINE_LIMIT, Codec, Objection, encode
from vmhb_worker.core.protocol import (
    FROM_GUEST,
    FROM_HOST,
    Ack,
    Challenge,
    Check,
    Code,
    Error,
    Goodbye,
    Health,
    Hello,
    Maintenance,
    Message,
    Notice,
    Status,
    Welcome,
)

SICK = Health(Status.UNHEALTHY, (Check("db", Status.UNHEALTHY, "no connection"), Check("web", Status.DEGRADED)))
OF_HOST: list[Message] = [
    Challenge(1, "0f3a", True),
    Challenge(2**53 - 1, 'a"\\é', False),
    Welcome(1, 0.5, 2.0),
    Error("unknown_type", "type must be one of ours"),
    Notice("maintenance", 60.0),
    Notice("stop"),
]
OF_GUEST: list[Message] = [
    Hello(1, "web", 0.5, 0.2),
    Hello(2),
    Ack(1, "0f3a"),
    Ack(7, "n", SICK),
    Maintenance(60.0, "ütf-8 🙂"),
    Goodbye("bye"),
    Goodbye(),
    Error("not_now", ""),
]


@pytest.mark.parametrize(("messages", "readers"), [(OF_HOST, FROM_HOST), (OF_GUEST, FROM_GUEST)])
def test_whole_at_every_split_point(messages: list[Message], readers: Any) -> None:
    """However a stream is cut, the same messages come out of it, whole and once."""
    stream = GREETING + b"".join(encode(message) for message in messages)
    for cut in range(len(stream) + 1):
        codec = Codec(readers)
        assert codec.receive(stream[:cut]) + codec.receive(stream[cut:]) == messages
    codec = Codec(readers)
    assert [message for byte in stream for message in codec.receive(bytes([byte]))] == messages


def test_two_ends_in_memory() -> None:
    """What the host says, the guest's end takes, and the other way round; neither says what the other may."""
    host, guest = Codec(FROM_GUEST), Codec(FROM_HOST)
    (challenge,) = guest.receive(GREETING + encode(Challenge(3, "n")))
    assert challenge == Challenge(3, "n")
    assert host.receive(GREETING + encode(Ack(3, "n"))) == [Ack(3, "n")]
    assert host.receive(encode(Challenge(3, "n"))) == [
        Objection(Code.UNKNOWN_TYPE, "type must be one of ack, hello, maintenance, goodbye, error")
    ]


def test_half_a_line_of_an_earlier_life_swallows_nothing() -> None:
    """The greeting ends it."""
    codec = Codec()
    assert codec.receive(b'{"type":"goodb') == []
    assert codec.receive(GREETING + encode(Goodbye("x"))) == [Goodbye("x")]
    assert codec.counters.garbled == 1
    codec.receive(b'{"type":"goodb')
    codec.restart()
    assert codec.receive(encode(Goodbye("y"))) == [Goodbye("y")]


@pytest.mark.parametrize("piece", [1, 7, 4095, 4096, 4097, 100000])
def test_a_line_that_is_too_long_is_dropped_whole(piece: int) -> None:
    """Whatever its pieces; the line after it is read; the longest one allowed is, too."""
    codec = Codec()
    longest = b'{"type":"goodbye","reason":"x","pad":"' + b"y" * (LINE_LIMIT - 41) + b'"}\n'
    assert len(longest) == LINE_LIMIT
    stream = b"z" * LINE_LIMIT + b"\n" + longest + b"z" * 50000 + b"\n" + encode(Goodbye("last"))
    heard = [m for at in range(0, len(stream), piece) for m in codec.receive(stream[at : at + piece])]
    assert heard == [Goodbye("x"), Goodbye("last")]
    assert codec.counters.too_long == 2
    assert len(codec._tail) < LINE_LIMIT


@pytest.mark.parametrize(
    "line",
    [
        *(b"nonsense", b"{", b'"', b"\xff\xfe", b"[" * 4000, b'{"a":' * 800, b"-", b"\x00", b"1" * 4000 + b"e"),
        b'{"type":"ack","seq":1,"nonce":"\xed\xa0\x80"}',
    ],
)
def test_what_is_not_json_is_dropped_and_counted(line: bytes) -> None:
    """Deep, long, or no text at all: no exception, and nobody is told."""
    codec = Codec()
    assert codec.receive(line + b"\n") == []
    assert codec.counters.garbled == 1


def test_blank_lines_are_none() -> None:
    """Nothing is counted, nothing said."""
    codec = Codec()
    assert codec.receive(b"\n\n  \r\n\t\n") == []
    assert codec.counters.garbled == 0


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ([], Code.BAD_MESSAGE, "object"),
        ("ack", Code.BAD_MESSAGE, "object"),
        ({}, Code.UNKNOWN_TYPE, "type"),
        ({"type": ["ack"]}, Code.UNKNOWN_TYPE, "type"),
        ({"type": "reboot"}, Code.UNKNOWN_TYPE, "type"),
        ({"type": "ack", "seq": True, "nonce": "n"}, Code.BAD_MESSAGE, "seq"),
        ({"type": "ack", "seq": 1.0, "nonce": "n"}, Code.BAD_MESSAGE, "seq"),
        ({"type": "ack", "seq": -1, "nonce": "n"}, Code.BAD_MESSAGE, "seq"),
        ({"type": "ack", "seq": 10**400, "nonce": "n"}, Code.BAD_MESSAGE, "seq"),
        ({"type": "ack", "seq": 1}, Code.BAD_MESSAGE, "nonce"),
        ({"type": "ack", "seq": 1, "nonce": ""}, Code.BAD_MESSAGE, "nonce"),
        ({"type": "ack", "seq": 1, "nonce": "n" * 65}, Code.BAD_MESSAGE, "nonce"),
        ({"type": "ack", "seq": 1, "nonce": 7}, Code.BAD_MESSAGE, "nonce"),
        ({"type": "hello"}, Code.BAD_MESSAGE, "version"),
        ({"type": "hello", "version": 1, "name": 3}, Code.BAD_MESSAGE, "name"),
        ({"type": "hello", "version": 1, "interval": "1"}, Code.BAD_MESSAGE, "interval"),
        ({"type": "hello", "version": 1, "interval": False}, Code.BAD_MESSAGE, "interval"),
        ({"type": "hello", "version": 1, "timeout": 10**400}, Code.BAD_MESSAGE, "timeout"),
        ({"type": "maintenance"}, Code.BAD_MESSAGE, "seconds"),
        ({"type": "maintenance", "seconds": -1}, Code.BAD_MESSAGE, "seconds"),
        ({"type": "goodbye", "reason": {}}, Code.BAD_MESSAGE, "reason"),
    ],
)
def test_what_is_no_message_is_objected_to(fields: Any, code: Code, says: str) -> None:
    """With what is wrong, in our words: nothing of the guest's is repeated."""
    codec = Codec()
    (objection,) = codec.receive(json.dumps(fields).encode() + b"\n")
    assert isinstance(objection, Objection)
    assert objection.code is code
    assert says in objection.detail
    assert (codec.counters.unknown, codec.counters.bad) == ((1, 0) if code is Code.UNKNOWN_TYPE else (0, 1))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_no_number_that_is_none(number: str) -> None:
    """Python would read them."""
    (objection,) = Codec().receive(b'{"type":"maintenance","seconds":' + number.encode() + b"}\n")
    assert isinstance(objection, Objection)


def test_a_hosts_challenge_is_checked_as_well() -> None:
    """health is true or false."""
    (objection,) = Codec(FROM_HOST).receive(b'{"type":"challenge","seq":1,"nonce":"n","health":1}\n')
    assert isinstance(objection, Objection)


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (7, "object"),
        ({}, "status"),
        ({"status": "fine"}, "status"),
        ({"status": ["healthy"]}, "status"),
        ({"status": "healthy", "checks": {}}, "list"),
        ({"status": "healthy", "checks": [1]}, "name"),
        ({"status": "healthy", "checks": [{"name": "n"}]}, "status"),
        ({"status": "healthy", "checks": [{"name": "n", "status": "healthy", "message": 1}]}, "message"),
    ],
)
def test_a_report_that_is_none_leaves_the_answer(report: Any, says: str) -> None:
    """Whoever answers lives."""
    (ack,) = Codec().receive(json.dumps({"type": "ack", "seq": 1, "nonce": "n", "health": report}).encode() + b"\n")
    assert isinstance(ack, Ack)
    assert ack.health is None
    assert says in ack.refused


def test_texts_and_lists_are_bounded_and_clean() -> None:
    """Cut to their limits, without what does not print: no guest can forge a line of a log."""
    checks = [{"name": "n" * 99, "status": "healthy", "message": "m\n" * 200, "more": 1}] * 3
    line = {"type": "ack", "seq": 1, "nonce": "n", "health": {"status": "healthy", "checks": checks, "x": []}, "y": {}}
    (ack,) = Codec().receive(json.dumps(line).encode() + b"\n")
    assert isinstance(ack, Ack)
    assert ack.health is not None
    check = ack.health.checks[0]
    assert (len(check.name), len(check.message)) == (64, 255)
    assert check.message.startswith("m m ")
    (bye,) = Codec().receive(b'{"type":"goodbye","reason":"\\ud800\\u0000\\u202e\\u2028 ok"}\n')
    assert bye == Goodbye("     ok")
    many = protocol.health({"status": "healthy", "checks": [{"name": "n", "status": "healthy"}] * 100})
    assert len(many.checks) == 32


def test_what_would_be_too_long_is_not_said() -> None:
    """Nobody would take it."""
    checks = tuple(Check("n" * 64, Status.HEALTHY, "m" * 255) for _ in range(32))
    with pytest.raises(ValueError, match="shorten"):
        encode(Ack(1, "n", Health(Status.HEALTHY, checks)))


KEYS = st.sampled_from(
    [
        *("type", "seq", "nonce", "health", "status", "checks", "name", "message"),
        "version",
        "interval",
        "seconds",
        "reason",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["ack", "healthy", "n"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(), inner, max_size=6),
    max_leaves=12,
)
LINES = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {"type": st.sampled_from([*FROM_GUEST, *FROM_HOST])},
        optional={
            **dict.fromkeys(
                ("seq", "nonce", "health", "version", "name", "interval", "timeout", "seconds", "reason"), JSON
            ),
        },
    ).map(lambda value: json.dumps(value).encode()),
    st.integers(4000, 4200).map(lambda size: b"x" * size),
)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(lines=st.lists(LINES, max_size=12), cuts=st.lists(st.integers(1, 300), max_size=30), ours=st.booleans())
def test_no_input_does_harm(lines: list[bytes], cuts: list[int], ours: bool) -> None:
    """Whatever is sent, in whatever pieces: nothing is raised, no more than a line is kept, all is sound."""
    codec = Codec(FROM_GUEST if ours else FROM_HOST)
    stream = b"\n".join(lines) + b"\n" + encode(Goodbye("end") if ours else Notice("end"))
    heard: list[Any] = []
    for cut in [*cuts, len(stream)]:
        heard += codec.receive(stream[:cut])
        stream = stream[cut:]
        assert len(codec._tail) < LINE_LIMIT
    assert heard[-1] == (Goodbye("end") if ours else Notice("end"))
    for message in heard:
        if isinstance(message, Objection):
            encode(Error(str(message.code), message.detail))
        else:
            repr(message).encode()
            assert Codec(FROM_GUEST if ours else FROM_HOST).receive(encode(message)) == [message] or message.health


@settings(derandomize=True, max_examples=300, deadline=None)
@given(value=JSON)
def test_any_health_report(value: Any) -> None:
    """A report, or Refused: nothing else."""
    try:
        report = protocol.health(value)
    except protocol.Refused as refused:
        assert refused.code in (Code.BAD_HEALTH, Code.BAD_MESSAGE)
    else:
        json.dumps(report.told()).encode()
