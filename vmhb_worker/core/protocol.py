"""The messages of the application channel, protocol 1: what may be in one, and how large it may be.

A guest controls every byte that it sends: whatever is not as it should be is a `Refused`, never another exception. Its
texts come out of here cut to their limits and without anything that does not print; its numbers are of their type and
within their bounds. Must not know of bytes, lines or sockets: `codec` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vmhb_common.model.words import StrEnum
from vmhb_worker.core.guest_text import clean

#: The only one there is. A guest that says a higher one is welcomed with this, and takes it or leaves.
VERSION = 1
#: The longest name, in characters; longer ones are cut.
NAME_LIMIT = 64
#: The longest other text, in characters; longer ones are cut.
TEXT_LIMIT = 255
#: A nonce is echoed as it is: a longer one is none of ours.
NONCE_LIMIT = 64
#: Named checks in one report; further ones are left out.
CHECKS_LIMIT = 32
#: Whole numbers that every JSON parser keeps exactly.
COUNT_LIMIT = 2**53 - 1
#: The longest time that can be spoken of: a week (seconds).
SECONDS_LIMIT = 604800.0


class Code(StrEnum):
    """Why a line was not taken: `error.code`."""

    UNKNOWN_TYPE = "unknown_type"  # no message of that name
    BAD_MESSAGE = "bad_message"  # a field is missing, or not of its type, or out of bounds
    BAD_HEALTH = "bad_health"  # the acknowledgement counts, its report does not
    REFUSED = "refused"  # understood, and not now: suspected, at fault, or the operator's ceiling


class Refused(Exception):
    """A message that is none. The text says what is wrong with it, and names nothing but what the protocol names."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Status(StrEnum):
    """How an application is, by its own word."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Check:
    """One named check of a report."""

    name: str
    status: Status
    message: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """A health report: the worst of it, and the checks by name."""

    status: Status
    checks: tuple[Check, ...] = ()

    def told(self) -> dict[str, Any]:
        """As it stands in a notification."""
        checks = [{"name": c.name, "status": str(c.status), "message": c.message} for c in self.checks]
        return {"status": str(self.status), "checks": checks}


# -- host to guest


@dataclass(frozen=True, slots=True)
class Challenge:
    """Answer this, with the same seq and nonce. health: say how you are as well."""

    seq: int
    nonce: str
    health: bool = False


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to `Hello`: the version spoken, and the times in force, in seconds."""

    version: int
    interval: float
    timeout: float


@dataclass(frozen=True, slots=True)
class Error:
    """A line of yours was not taken. Either side may say so; nobody answers it."""

    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something is about to happen, `deadline` seconds from now (None: nobody knows when)."""

    event: str
    deadline: float | None = None


# -- guest to host


@dataclass(frozen=True, slots=True)
class Hello:
    """Introduces whoever speaks. interval, timeout: the times that it wishes for, in seconds. system: what it runs on,
    "linux" or another name.
    """

    version: int
    name: str = ""
    interval: float | None = None
    timeout: float | None = None
    system: str = ""


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to a challenge. refused: why the report that came with it does not count; "" where it does."""

    seq: int
    nonce: str
    health: Health | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Expect nothing from me for so many seconds; 0: here I am again."""

    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """I leave on purpose."""

    reason: str = ""


FromHost = Challenge | Welcome | Error | Notice
FromGuest = Hello | Ack | Maintenance | Goodbye | Error
Message = FromHost | FromGuest


# -- reading


def _count(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is int and 0 <= value <= COUNT_LIMIT:  # exactly: true is no number
        return value
    raise Refused(Code.BAD_MESSAGE, f"{name} must be a whole number from 0 to {COUNT_LIMIT}")


def _seconds(fields: Mapping[str, Any], name: str) -> float:
    value: Any = fields.get(name)
    if type(value) in (int, float) and 0 <= value <= SECONDS_LIMIT:  # no NaN is
        return float(value)
    raise Refused(Code.BAD_MESSAGE, f"{name} must be a number of seconds from 0 to {SECONDS_LIMIT:.0f}")


def _seconds_or_none(fields: Mapping[str, Any], name: str) -> float | None:
    return None if fields.get(name) is None else _seconds(fields, name)


def _text(fields: Mapping[str, Any], name: str, limit: int) -> str:
    value = fields.get(name, "")
    if isinstance(value, str):
        return clean(value, limit)
    raise Refused(Code.BAD_MESSAGE, f"{name} must be a string")


def _nonce(fields: Mapping[str, Any]) -> str:
    value = fields.get("nonce")
    if isinstance(value, str) and 0 < len(value) <= NONCE_LIMIT:
        return value
    raise Refused(Code.BAD_MESSAGE, f"nonce must be a string of 1 to {NONCE_LIMIT} characters")


def _status(fields: Mapping[str, Any]) -> Status:
    value = fields.get("status")
    if isinstance(value, str) and value in tuple(Status):
        return Status(value)
    raise Refused(Code.BAD_HEALTH, f"status must be one of {', '.join(Status)}")


def health(value: Any) -> Health:
    """A health report. Raises Refused."""
    if not isinstance(value, Mapping):
        raise Refused(Code.BAD_HEALTH, "health must be an object")
    status, listed = _status(value), value.get("checks", [])
    if not isinstance(listed, list):
        raise Refused(Code.BAD_HEALTH, "checks must be a list")
    return Health(status, tuple(_check(check) for check in listed[:CHECKS_LIMIT]))


def _check(value: Any) -> Check:
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise Refused(Code.BAD_HEALTH, "a check must be an object with a name")
    return Check(_text(value, "name", NAME_LIMIT), _status(value), _text(value, "message", TEXT_LIMIT))


def _ack(fields: Mapping[str, Any]) -> Ack:
    seq, nonce, report = _count(fields, "seq"), _nonce(fields), fields.get("health")
    if report is None:
        return Ack(seq, nonce)
    try:
        return Ack(seq, nonce, health(report))
    except Refused as error:  # whoever answers lives, whatever it says of itself
        return Ack(seq, nonce, None, str(error))


def _hello(fields: Mapping[str, Any]) -> Hello:
    return Hello(
        _count(fields, "version"),
        _text(fields, "name", NAME_LIMIT),
        _seconds_or_none(fields, "interval"),
        _seconds_or_none(fields, "timeout"),
        _text(fields, "system", NAME_LIMIT),
    )


def _challenge(fields: Mapping[str, Any]) -> Challenge:
    asked = fields.get("health", False)
    if not isinstance(asked, bool):
        raise Refused(Code.BAD_MESSAGE, "health must be true or false")
    return Challenge(_count(fields, "seq"), _nonce(fields), asked)


Reader = Callable[[Mapping[str, Any]], Message]


def _error(fields: Mapping[str, Any]) -> Error:
    return Error(_text(fields, "code", NAME_LIMIT), _text(fields, "detail", TEXT_LIMIT))


#: What each side may say: type -> how it is read.
FROM_GUEST: Mapping[str, Reader] = {
    "ack": _ack,
    "hello": _hello,
    "maintenance": lambda f: Maintenance(_seconds(f, "seconds"), _text(f, "reason", TEXT_LIMIT)),
    "goodbye": lambda f: Goodbye(_text(f, "reason", TEXT_LIMIT)),
    "error": _error,
}
FROM_HOST: Mapping[str, Reader] = {
    "challenge": _challenge,
    "welcome": lambda f: Welcome(_count(f, "version"), _seconds(f, "interval"), _seconds(f, "timeout")),
    "error": _error,
    "notice": lambda f: Notice(_text(f, "event", NAME_LIMIT), _seconds_or_none(f, "deadline")),
}


def read(fields: Any, readers: Mapping[str, Reader]) -> Message:
    """The message that these fields are. readers: `FROM_GUEST` or `FROM_HOST`. Raises Refused.

    Keys that are not known are ignored: a newer side may say more.
    """
    if not isinstance(fields, dict):
        raise Refused(Code.BAD_MESSAGE, "a message must be an object")
    kind = fields.get("type")
    reader = readers.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise Refused(Code.UNKNOWN_TYPE, f"type must be one of {', '.join(readers)}")
    return reader(fields)


# -- writing


def _ack_fields(ack: Ack) -> dict[str, Any]:
    told = {} if ack.health is None else {"health": ack.health.told()}
    return {"type": "ack", "seq": ack.seq, "nonce": ack.nonce, **told}


def _hello_fields(hello: Hello) -> dict[str, Any]:
    wished = {"interval": hello.interval, "timeout": hello.timeout}
    wishes = {key: value for key, value in wished.items() if value is not None}
    system = {"system": hello.system} if hello.system else {}
    return {"type": "hello", "version": hello.version, "name": hello.name, **wishes, **system}


_FIELDS: Mapping[type[Any], Callable[[Any], dict[str, Any]]] = {
    Challenge: lambda m: {"type": "challenge", "seq": m.seq, "nonce": m.nonce, "health": m.health},
    Welcome: lambda m: {"type": "welcome", "version": m.version, "interval": m.interval, "timeout": m.timeout},
    Error: lambda m: {"type": "error", "code": str(m.code), "detail": m.detail},
    Notice: lambda m: {"type": "notice", "event": m.event, "deadline": m.deadline},
    Ack: _ack_fields,
    Hello: _hello_fields,
    Maintenance: lambda m: {"type": "maintenance", "seconds": m.seconds, "reason": m.reason},
    Goodbye: lambda m: {"type": "goodbye", "reason": m.reason},
}


def fields_of(message: Message) -> dict[str, Any]:
    """The object that goes over the wire."""
    return _FIELDS[type(message)](message)
