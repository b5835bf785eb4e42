"""Bytes of the guest's end: cut anywhere, anything in them, the same messages come out and nothing grows."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.guest.examples import EXAMPLES
from vmhb_guest import codec
from vmhb_guest.codec import MAX_LINE, BadMessage, Lines
from vmhb_guest.conformance import schema

ROWS = (
    {"type": "challenge", "seq": 1, "nonce": "Ä€😀", "health": True},
    {"type": "welcome", "version": 1, "interval": 0.2, "timeout": 5},
    {"type": "error", "code": "refused", "detail": '\n\\"'},
    {"type": "notice", "event": "live migration", "deadline": None},
)
STREAM = b"\n" + b"\n\n".join(json.dumps(row, ensure_ascii=False).encode() for row in ROWS) + b"\n"

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=10,
)


def test_every_split() -> None:
    """Wherever a message is cut in two, it is one message."""
    for cut in range(len(STREAM) + 1):
        lines = Lines()
        got = [codec.decode(line) for piece in (STREAM[:cut], STREAM[cut:]) for line in lines.feed(piece)]
        assert got == list(ROWS)


def test_a_line_of_the_longest_length() -> None:
    """4096 bytes with the newline are a line, 4097 are none, and what follows is read."""
    for cut in (1, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1):
        lines = Lines()
        data = b"a" * (MAX_LINE - 1) + b"\n" + b"b" * MAX_LINE + b"\nc\n"
        got = [line for piece in (data[:cut], data[cut:]) for line in lines.feed(piece)]
        assert got == [b"a" * (MAX_LINE - 1), b"c"]
        assert lines.too_long == 1


@EXAMPLES
@given(st.lists(st.binary(max_size=9000), max_size=6))
def test_nothing_grows(pieces: list[bytes]) -> None:
    """Whatever comes, less than one line is held, and the lines are those of all at once."""
    lines, got = Lines(), []
    for piece in pieces:
        got += lines.feed(piece)
        assert len(lines._begun) < MAX_LINE
    expected = [line for line in b"".join(pieces).split(b"\n")[:-1] if 0 < len(line) < MAX_LINE]
    assert got == expected


@EXAMPLES
@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode) | JSON.map(lambda x: json.dumps(x).encode()))
def test_decode_has_one_error(line: bytes) -> None:
    """A line is a message, or a BadMessage with a code that the protocol has: nothing else, ever."""
    try:
        assert isinstance(codec.decode(line)["type"], str)
    except BadMessage as error:
        assert error.code in ("not_json", "bad_message", "unknown_type") and str(error)


@pytest.mark.parametrize(
    "line", [b"[" * 4000, b'{"type":"challenge","seq":NaN}', b"1" * 4000, b"\xff", b"\xed\xa0\x80", b"\0"]
)
def test_lines_that_are_no_json(line: bytes) -> None:
    """What parsers choke on is not JSON, or no object."""
    with pytest.raises(BadMessage):
        codec.decode(line)


def test_encode() -> None:
    """Between newlines, in UTF-8; what would be too long is refused before it is sent."""
    assert codec.encode("goodbye", reason="ä") == '\n{"type":"goodbye","reason":"ä"}\n'.encode()
    assert codec.decode(codec.encode("goodbye", reason="\ud800").strip())["reason"] == "?"
    room = MAX_LINE - len(codec.encode("goodbye", reason="")) + 1
    assert len(codec.encode("goodbye", reason="x" * room)) == MAX_LINE + 1
    with pytest.raises(ValueError, match="4097 bytes"):
        codec.encode("goodbye", reason="x" * (room + 1))


@EXAMPLES
@given(st.text(max_size=600), st.integers(1, 255))
def test_clean_text_fits_a_log(text: str, length: int) -> None:
    """One line, printable, of the length that is allowed."""
    got = codec.clean(text, length)
    assert len(got) <= length and len(got.splitlines()) <= 1
    assert "\x1b" not in got
    got.encode()


@EXAMPLES
@given(JSON, st.sampled_from(sorted(schema.SCHEMA["$defs"])))
def test_the_kit_reads_the_schema_as_json_schema_does(value: Any, definition: str) -> None:
    """The kit's own validator and a real one agree, on whatever is said."""
    _agree(value, definition)


@EXAMPLES
@given(st.data())
def test_and_on_what_is_nearly_a_message(data: st.DataObject) -> None:
    """Messages of which a field is amiss, or none."""
    name = data.draw(
        st.sampled_from(("challenge", "ack", "hello", "health", "check", "maintenance", "welcome", "notice"))
    )
    message = {}
    for field in schema.SCHEMA["$defs"][name]["properties"]:
        good = {"type": name, "status": "healthy", "checks": [{"name": "a", "status": "degraded"}], "nonce": "n"}
        message[field] = data.draw(
            st.just(good.get(field, 1)) | JSON | st.sampled_from((1, 0.5, "x", True, None, 2**53))
        )
    _agree(message, name)


def _agree(value: Any, definition: str) -> None:
    real = jsonschema.Draft202012Validator({**schema.SCHEMA, "anyOf": [{"$ref": f"#/$defs/{definition}"}]})
    assert (schema.faults(value, definition) == []) == real.is_valid(value)


def test_the_schema_is_one() -> None:
    """As JSON Schema's own schema says."""
    jsonschema.Draft202012Validator.check_schema(schema.SCHEMA)


@EXAMPLES
@given(st.text(max_size=80), st.integers(1, 20))
def test_clean_text(text: str, length: int) -> None:
    """Short, in one line, of characters that are seen; what is clean is left as it is."""
    done = codec.clean(text, length)
    assert len(done) <= length and done.isprintable() and codec.clean(done, length) == done


@pytest.mark.parametrize(
    "hidden", ["\u200b", "\u202e", "\ufeff", "\u00ad", "\x00", "\x1b", "\x9b", "\u2028", "\U000e0041"]
)
def test_what_is_not_seen_makes_no_name(hidden: str) -> None:
    """Nor does it turn the text around it."""
    assert codec.clean(f"{hidden}postgresql{hidden}", 64) == "postgresql"
