"""What may come in from the broker: the bounds of every field, and what is kept of it. Pure.

Whoever may write to the exchange may send anything, and an honest worker may have a clock, or a guest, that does. What
is let in is read by everybody afterwards: the database, each reporter, RPC. So a value that one of them can't take is
refused here, where it costs the one message that it came in. A fault is not refused for what a guest may have had a say
in (names, reason, evidence, health): that is made harmless, or a guest could hide its own fault.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime, timezone
from typing import Any

from vmhb_common.model.fault import REASON_LIMIT, Fault
from vmhb_common.model.ids import uuid_of

#: The columns' sizes (characters), and what a whole number's column holds.
MAX_ID = 36
MAX_HOST = 255
MAX_NUMBER = 2**31 - 1
#: Nova's own bound of a name (characters), and ours of a word: the longest that there is has 24.
MAX_NAME = 255
MAX_WORD = 36
#: Seconds: more than any interval or time-out can be.
MAX_SECONDS = 1e9
#: Of what has a free form: how deep it goes, and of how many values it is. A worker's own has 3 levels and some dozens.
MAX_DEPTH = 16
MAX_VALUES = 20_000
#: A whole number that every JSON parser reads.
MAX_INTEGER = 2**63
#: Whoever adds or takes away a few years stays within what there is. A host without a clock battery begins in 1970.
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(2200, 1, 1, tzinfo=timezone.utc)

#: A host becomes part of a routing key, a word is matched in others' rules: both are printable ASCII without spaces.
_HOST = re.compile(rf"[!-~]{{1,{MAX_HOST}}}")
_WORD = re.compile(rf"[!-~]{{1,{MAX_WORD}}}")


def bounded(payload: Any) -> None:
    """ValueError where it is deeper or has more values than anybody sends. To be asked before anything else looks at
    it: most of Python walks a value by recursion, and fails at some depth."""
    level, seen = [payload], 0
    for _ in range(MAX_DEPTH):
        seen += len(level)
        if seen > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES} values")
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return
    raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


def _inside(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def kept(fault: Fault) -> dict[str, Any]:
    """What is kept of each of its fields. Raises ValueError, which names the field, its value and what is taken."""
    values = {}
    for field in fields(Fault):
        value = getattr(fault, field.name)
        try:
            values[field.name] = KEPT[field.name](value)
        except ValueError as error:
            raise ValueError(f"{field.name} is {quoted(value)}: {error}") from None
    return values


def quoted(value: Any) -> str:
    """Somebody else's value, made fit for a log line: what is neither text nor a small number is named by its kind."""
    if isinstance(value, str):
        return ascii(value[:60]) + ("..." if len(value) > 60 else "")
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < MAX_INTEGER):
        return repr(value)
    return value.isoformat() if isinstance(value, datetime) else f"of type {type(value).__name__}"


# -- what each kind of field is kept as --------------------------------------------------------------------------------


def a_host(value: Any) -> str:
    """As nova-compute's: a name or an address."""
    if isinstance(value, str) and _HOST.fullmatch(value):
        return value
    raise ValueError(f"a host's name is required, of 1 to {MAX_HOST} printable ASCII characters")


def a_word(value: Any) -> str:
    """One of a list that a newer worker may have added to."""
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    raise ValueError(f"a word is required, of 1 to {MAX_WORD} printable ASCII characters")


def a_moment(value: Any) -> datetime:
    """An aware time that everybody can reckon with."""
    if isinstance(value, datetime) and value.tzinfo is not None and EARLIEST <= value < LATEST:
        return value
    raise ValueError(f"a time from {EARLIEST:%Y} to {LATEST:%Y} is required")


def a_number(low: int = 0, high: int = MAX_NUMBER) -> Callable[[Any], int]:
    """A whole one that its column holds."""

    def number(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise ValueError(f"a whole number of {low} to {high} is required")

    return number


def seconds(value: Any) -> float:
    """Finite, and not below 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # A whole number may be too large for a float: compare before converting.
    if number and 0 <= value <= MAX_SECONDS and math.isfinite(value):
        return float(value)
    raise ValueError(f"seconds are required, 0 to {MAX_SECONDS:g}")


def text(limit: int) -> Callable[[Any], str]:
    """Somebody's own words: cut off, and without what a database or an encoding can't take."""

    def words(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("a text is required")
        return _clean(value[:limit])

    return words


def free(value: Any) -> Any:
    """A JSON object of free form, made harmless throughout."""
    bounded(value)
    if not isinstance(value, dict):
        raise ValueError("a JSON object is required")
    return _harmless(value)


def _harmless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_clean(str(key)): _harmless(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_harmless(inner) for inner in value]
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _clean(value) if isinstance(value, str) else value


def _clean(words: str) -> str:
    """Lone surrogates are no text in any encoding, and PostgreSQL takes no NUL."""
    if words.isprintable():
        return words
    return "".join("\ufffd" if char == "\0" or "\ud800" <= char <= "\udfff" else char for char in words)


def _or_none(kind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else kind(value)


def _as_it_is(value: Any) -> Any:
    return value


#: What is kept of each field: total, a test says.
KEPT: Mapping[str, Callable[[Any], Any]] = {
    "fault_id": uuid_of,
    "sequence": a_number(low=1),
    "state": _as_it_is,  # one of ours, or it was refused when it was read
    "severity": a_word,
    "occurred_at": a_moment,
    "cause": a_word,
    "confidence": a_word,
    "recommended_action": a_word,
    "withheld": _or_none(a_word),
    "recovery_attempt": a_number(),
    "drill": _as_it_is,
    "resolution": _as_it_is,
    "host": a_host,
    "instance_uuid": _or_none(uuid_of),
    "instance_name": _or_none(text(MAX_NAME)),
    "display_name": _or_none(text(MAX_NAME)),
    "project_id": _or_none(text(MAX_NAME)),
    "flavor_name": _or_none(text(MAX_NAME)),
    "channel": _or_none(a_word),
    "misses": a_number(),
    "skipped": a_number(),
    "threshold": a_number(),
    "interval": seconds,
    "timeout": seconds,
    "last_ack_at": _or_none(a_moment),
    "suspected_at": _or_none(a_moment),
    "raised_at": a_moment,
    "cleared_at": _or_none(a_moment),
    "reason": text(REASON_LIMIT),
    "evidence": free,
    "health": _or_none(free),
}
