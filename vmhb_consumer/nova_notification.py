"""A versioned notification of Nova's about an instance, read with suspicion. Must not know what is done about it.

Pure. It comes from another program, of another version, over a broker that others write to as well: whatever is in it,
`parse` gives a value or raises BadNotification, in time that its size bounds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

from vmhb_common.model.ids import uuid_of
from vmhb_common.model.moments import moment
from vmhb_common.model.policy import MAX_KNOB, MAX_KNOBS, knobs_of_extra_specs

#: `instance.<action>[.<phase>]`; Nova's longest has 42 characters.
EVENT_TYPE = re.compile(r"instance\.(?P<action>[a-z_]{1,64})(?:\.(?P<phase>[a-z_]{1,16}))?", re.ASCII)
#: `<service>:<host>`. The host becomes part of a routing key: no white space, no wildcards, and AMQP's 255 bytes.
#: It may be an address, of IPv6 as well.
PUBLISHER = re.compile(r"(?P<service>[a-z-]{1,32}):(?P<host>(?:(?![#*/,])[!-~]){1,200})")
#: oslo.context's: `req-` and a uuid; other services may choose their own.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
#: The payloads whose fields we know, by their major version; a minor one only adds. 2: `exists` and `update`.
MAJORS = ("1", "2")

#: Nova's own bound of a name (characters).
MAX_TEXT = 255


class BadNotification(ValueError):
    """It is not what Nova sends. The text names the field, its value and what it should be; it is fit for a log."""


@dataclass(frozen=True, slots=True)
class Notification:
    """What happens to an instance, as Nova tells it."""

    #: `power_off`, `create` …, and `start`, `end`, `error`, or "" where the event has no phases.
    action: str
    phase: str
    #: Which of Nova's services sent it, and from which host: for nova-compute the host where it happens.
    service: str
    host: str
    #: When it was sent, by that host's clock: aware, in UTC.
    observed_at: datetime
    instance_uuid: str
    #: What Nova's database said. During evacuation, resize, revert and live migration that is another host, or none.
    database_host: str | None
    #: The flavor's heartbeat knobs, by their bare names.
    knobs: Mapping[str, str]
    #: None for Nova's own periodic tasks.
    request_id: str | None
    #: The user who asked for it; None where Nova does it by itself.
    initiator: str | None
    state: str | None
    task_state: str | None


def parse(publisher_id: Any, event_type: Any, payload: Any, metadata: Any) -> Notification:
    """As oslo.messaging hands them to an endpoint. Raises BadNotification."""
    event = _match("event_type", EVENT_TYPE, event_type)
    publisher = _match("publisher_id", PUBLISHER, publisher_id)
    data = _data("payload", payload)
    host = _text(data, "host")
    request_id = _text(data, "request_id")
    return Notification(
        action=event["action"],
        phase=event["phase"] or "",
        service=publisher["service"],
        host=publisher["host"],
        observed_at=_time(metadata),
        instance_uuid=_uuid(data.get("uuid")),
        database_host=None if host is None else _match("host", PUBLISHER, f"nova-compute:{host}")["host"],
        knobs=_knobs(data.get("flavor")),
        request_id=None if request_id is None else _match("request_id", REQUEST_ID, request_id)[0],
        initiator=_text(data, "action_initiator_user"),
        state=_text(data, "state"),
        task_state=_text(data, "task_state"),
    )


def _match(name: str, pattern: re.Pattern[str], value: Any) -> re.Match[str]:
    found = pattern.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise BadNotification(f"{name} is {_quote(value)}: not as Nova writes it")
    return found


def _data(name: str, value: Any) -> Mapping[str, Any]:
    """The fields of a versioned object."""
    if not isinstance(value, dict) or not isinstance(data := value.get("nova_object.data"), dict):
        raise BadNotification(f"{name} is {_quote(value)}: not a versioned object; is notification_format versioned?")
    version = value.get("nova_object.version")
    if not isinstance(version, str) or version.partition(".")[0] not in MAJORS:
        raise BadNotification(f"{name} has version {_quote(version)}: only {MAJORS[0]}.x and {MAJORS[1]}.x are known")
    return data


def _text(data: Mapping[str, Any], name: str) -> str | None:
    """Absent and null are the same: fields come and go with versions. A lone surrogate is no text in any encoding."""
    value = data.get(name)
    if value is None or (isinstance(value, str) and len(value) <= MAX_TEXT and _is_text(value)):
        return value
    raise BadNotification(f"{name} is {_quote(value)}: not a text of at most {MAX_TEXT} characters")


def _uuid(value: Any) -> str:
    try:
        return uuid_of(value)
    except ValueError:
        raise BadNotification(f"uuid is {_quote(value)}: not a uuid") from None


def _time(metadata: Any) -> datetime:
    """oslo.messaging's own time stamp of the notification, which is in UTC and does not say so."""
    value = metadata.get("timestamp") if isinstance(metadata, dict) else None
    try:
        when = moment(value) if isinstance(value, str) else None
        if when is not None:
            return when.replace(tzinfo=timezone.utc) if when.tzinfo is None else when.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        pass
    raise BadNotification(f"timestamp is {_quote(value)}: not a time")


def _knobs(flavor: Any) -> Mapping[str, str]:
    specs = _data("flavor", flavor).get("extra_specs") or {}
    if not isinstance(specs, dict):
        raise BadNotification(f"extra_specs is {_quote(specs)}: not names and values")
    knobs = knobs_of_extra_specs({name: value for name, value in specs.items() if isinstance(name, str)})
    if len(knobs) > MAX_KNOBS:
        raise BadNotification(f"extra_specs has {len(knobs)} heartbeat knobs: at most {MAX_KNOBS} are believed")
    for name, value in knobs.items():
        fits = isinstance(value, str) and max(len(name), len(value)) <= MAX_KNOB
        if not (fits and _is_text(name) and _is_text(value)):
            raise BadNotification(f"extra spec {_quote(name)} is {_quote(value)}: not a text of {MAX_KNOB} characters")
    return MappingProxyType(knobs)


def _is_text(value: str) -> bool:
    return value.isprintable() or not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value)


def _quote(value: Any) -> str:
    """Somebody else's value, made fit for a log line: what is neither text nor a number is only named by its kind."""
    if isinstance(value, str):
        return ascii(value[:60]) + ("..." if len(value) > 60 else "")
    return type(value).__name__ if isinstance(value, dict | list | int | float) else repr(value)[:60]
