"""Bytes of the application channel to messages and back. No I/O, no clock: what was read goes in, messages come out.

A message is a JSON object on a line of its own. A line that is too long or not JSON is dropped whole and counted; what
follows it is read as if it had not been there. Never raises, never keeps more than one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from vmhb_worker.core.protocol import FROM_GUEST, Challenge, Code, Message, Reader, Refused, fields_of, read

#: The longest line, with its newline, in bytes. virtio-serial hands over pages of this size.
LINE_LIMIT = 4096
#: What each side says first: an earlier life may have left half a line behind.
GREETING = b"\n"

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode
_quoted = json.encoder.encode_basestring_ascii
_decode = json.JSONDecoder().raw_decode
_BLANK = " \t\r"


@dataclass(slots=True)
class Counters:
    """What was not taken of one guest's input, since the worker met it.

    too_long, garbled: lines; unknown: types that the protocol does not have; bad: messages with a field amiss.
    """

    too_long: int = 0
    garbled: int = 0
    unknown: int = 0
    bad: int = 0


@dataclass(frozen=True, slots=True)
class Objection:
    """What the other side sent is no message: what it is to be told, see `protocol.Error`."""

    code: Code
    detail: str


def encode(message: Message) -> bytes:
    """The line of a message. ValueError where it would be too long: nobody would take it."""
    if type(message) is Challenge:  # what is said a thousand times a second: a third of the time
        health = "true" if message.health else "false"
        nonce = _quoted(message.nonce)
        return f'{{"type":"challenge","seq":{message.seq},"nonce":{nonce},"health":{health}}}\n'.encode("ascii")
    line = _encode(fields_of(message)).encode("ascii") + b"\n"
    if len(line) > LINE_LIMIT:
        raise ValueError(f"a {type(message).__name__} of {len(line)} bytes, and {LINE_LIMIT} is the most: shorten it")
    return line


class Codec:
    """One side's ear. `receive` takes what came, in pieces of any size; `counters` says what was wrong with it."""

    __slots__ = ("_readers", "_skipping", "_tail", "counters")

    def __init__(self, readers: Mapping[str, Reader] = FROM_GUEST) -> None:
        self.counters = Counters()
        self._readers = readers
        self._tail = b""
        self._skipping = False  # the rest of a line that was too long is still to come

    def receive(self, data: bytes) -> list[Message | Objection]:
        """The messages that are complete now, and what is to be objected to."""
        *lines, tail = (self._tail + data).split(b"\n")
        if lines and self._skipping:
            self._skipping = False
            del lines[0]
        messages = [message for line in lines if line and (message := self._read(line)) is not None]
        if self._skipping:
            tail = b""
        elif len(tail) >= LINE_LIMIT:  # with its newline it is longer than that, wherever that comes
            self.counters.too_long += 1
            self._skipping, tail = True, b""
        self._tail = tail
        return messages

    def restart(self) -> None:
        """Another connection: what was half said is lost."""
        self._tail, self._skipping = b"", False

    def _read(self, line: bytes) -> Message | Objection | None:
        if len(line) >= LINE_LIMIT:
            self.counters.too_long += 1
            return None
        try:
            text = line.decode("utf-8").strip(_BLANK)
            if not text:
                return None
            fields, end = _decode(text)
            if end != len(text):
                raise ValueError("more than one")
        except (ValueError, RecursionError):  # not UTF-8, not JSON, a number of too many digits, or nested too deep
            self.counters.garbled += 1
            return None
        try:
            return read(fields, self._readers)
        except Refused as error:
            return self._refuse(error)

    def _refuse(self, error: Refused) -> Objection:
        if error.code is Code.UNKNOWN_TYPE:
            self.counters.unknown += 1
        else:
            self.counters.bad += 1
        return Objection(error.code, str(error))
