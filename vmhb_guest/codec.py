"""Bytes to messages and back, as docs/protocol.rst says. No I/O, no clock."""

from __future__ import annotations

import json
import re
from typing import Any

VERSION = 1
#: A line's bytes at most, its newline included.
MAX_LINE = 4096
#: Characters at most of what is free text in a message, and of a name.
MAX_TEXT = 255
MAX_NAME = 64
MAX_NONCE = 64

_GAP = re.compile("\0+")


class BadMessage(Exception):
    """The other side sent what is not a message. `code` is what the protocol calls it, `str()` says what is wrong."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Lines:
    """Cuts a stream into its lines. Holds less than one line, whatever comes. Not thread-safe."""

    def __init__(self) -> None:
        self.too_long = 0  #: lines dropped for their length
        self._begun = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their newlines; empty ones and those too long are left out."""
        whole = []
        for number, piece in enumerate(data.split(b"\n")):
            if number:
                if self._begun and not self._skipping:
                    whole.append(bytes(self._begun))
                self._begun.clear()
                self._skipping = False
            if not self._skipping:
                self._begun += piece
                if len(self._begun) >= MAX_LINE:
                    self._begun.clear()
                    self._skipping = True
                    self.too_long += 1
        return whole

    def forget(self) -> None:
        """Drop half a line: what comes next is of another life."""
        self._begun.clear()
        self._skipping = False


def decode(line: bytes) -> dict[str, Any]:
    """The object that a line is; BadMessage where it is none, or has no `type`."""
    try:
        message = json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadMessage("not_json", "a line is not JSON in UTF-8") from error
    if not isinstance(message, dict):
        raise BadMessage("bad_message", "a message must be an object")
    if not isinstance(message.get("type"), str):
        raise BadMessage("unknown_type", "a message has no type")
    return message


def encode(type_: str, **fields: Any) -> bytes:
    """One message as it is written: between two newlines, so that half a line before it swallows nothing of it.

    ValueError where it would be longer than a line may be.
    """
    text = json.dumps({"type": type_, **fields}, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    line = b"\n" + text.encode("utf-8", "replace") + b"\n"
    if len(line) - 1 > MAX_LINE:
        raise ValueError(f"{type_}: {len(line) - 1} bytes, at most {MAX_LINE} make a line")
    return line


def clean(text: str, length: int) -> str:
    """Text fit for a message and for a log: one line, nothing but printable characters, `length` of them at most.

    Nor invisible ones, which make one name look like another, or turn the direction of what is written around it.
    """
    text = text[: 4 * length]
    if not text.isprintable():
        text = _GAP.sub(" ", "".join(char if char.isprintable() else "\0" for char in text))
    return text.strip()[:length].rstrip()


def field(message: dict[str, Any], name: str, kind: type) -> Any:
    """A field that must be there and be of this type; BadMessage otherwise. `float` takes whole numbers as well."""
    value = message.get(name)
    good = type(value) in (int, float) if kind is float else type(value) is kind
    if not good:
        raise BadMessage(
            "bad_message", f"{clean(message['type'], MAX_NAME)}: {name} is missing or not a {kind.__name__}"
        )
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
