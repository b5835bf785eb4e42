"""The payload of `vmhb.fault.raised`, `vmhb.fault.updated` and `vmhb.fault.cleared`: core's `Fault` on the wire."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import Any

from oslo_versionedobjects import base
from oslo_versionedobjects import fields as ovo

from vmhb_common.model.causes import Cause, Confidence, Severity
from vmhb_common.model.fault import Fault, FaultState, Resolution
from vmhb_common.model.ids import uuid_of
from vmhb_common.model.policy import Channel
from vmhb_common.objects.base import PROJECT_NAMESPACE, SERIAL_NAMESPACE, JsonObjectField, Payload, data_of

#: What a fault asks reporters for, after policy, budget, brake and observe mode.
RECOMMENDED_ACTIONS = ("none", "alarm", "recover")
#: Why a `recover` became an `alarm`.
WITHHELD = ("evidence", "hold", "brake", "budget", "observe", "late", "flapping", "drill")


def words(values: Any) -> tuple[str, ...]:
    """The values of an enumeration as plain strings, since those are what goes over the wire."""
    return tuple(str(value) for value in values)


@base.VersionedObjectRegistry.register
class FaultPayload(Payload):
    """One change of one fault. Receivers key on `fault_id` + `sequence`."""

    # 1.0: first version
    # 1.1: application_unhealthy and maintenance_overdue are judged, and have their places among the causes; `health`
    # 1.2: host_lost_power, stopped_unexplained, asleep, starved, file_systems_frozen and memory_failure are causes
    VERSION = "1.2"

    fields = {  # noqa: RUF012 # oslo's way
        "fault_id": ovo.UUIDField(),
        "sequence": ovo.IntegerField(),
        "state": ovo.EnumField(words(FaultState)),
        "severity": ovo.EnumField(words(Severity)),
        "occurred_at": ovo.DateTimeField(),
        "cause": ovo.EnumField(words(Cause)),
        "confidence": ovo.EnumField(words(Confidence)),
        "recommended_action": ovo.EnumField(RECOMMENDED_ACTIONS),
        "withheld": ovo.EnumField(WITHHELD, nullable=True),
        "recovery_attempt": ovo.IntegerField(),
        "drill": ovo.BooleanField(),
        "resolution": ovo.EnumField(words(Resolution), nullable=True),
        "host": ovo.StringField(),
        "instance_uuid": ovo.UUIDField(nullable=True),
        "instance_name": ovo.StringField(nullable=True),
        "display_name": ovo.StringField(nullable=True),
        "project_id": ovo.StringField(nullable=True),
        "flavor_name": ovo.StringField(nullable=True),
        "channel": ovo.EnumField(words(Channel), nullable=True),
        "misses": ovo.IntegerField(),
        "skipped": ovo.IntegerField(),
        "threshold": ovo.IntegerField(),
        "interval": ovo.FloatField(),
        "timeout": ovo.FloatField(),
        "last_ack_at": ovo.DateTimeField(nullable=True),
        "suspected_at": ovo.DateTimeField(nullable=True),
        "raised_at": ovo.DateTimeField(),
        "cleared_at": ovo.DateTimeField(nullable=True),
        "reason": ovo.StringField(),
        "evidence": JsonObjectField(),
        "health": JsonObjectField(nullable=True),
    }


def fault_payload(fault: Fault) -> dict[str, Any]:
    """The serialised primitive of a fault of one's own: for the worker alone. ValueError where a field is not of its
    type, or has a word that is none of ours: so that nothing of the kind is ever sent."""
    values = {field.name: getattr(fault, field.name) for field in dataclasses.fields(Fault)}
    checked = FaultPayload(**{name: _plain(value) for name, value in values.items()})
    return fault_as_told(dataclasses.replace(fault, **{name: getattr(checked, name) for name in values}))


def fault_as_told(fault: Fault, version: str = FaultPayload.VERSION) -> dict[str, Any]:
    """The serialised primitive of a fault, whoever sent it: the one writer of this format. Words that only a newer
    sender knows pass as they came. Whoever hands a fault on uses this; `parse_fault` reads it back."""
    data = {field.name: _as_told(getattr(fault, field.name)) for field in dataclasses.fields(Fault)}
    around = {"name": FaultPayload.obj_name(), "namespace": PROJECT_NAMESPACE, "version": version, "data": data}
    return {f"{SERIAL_NAMESPACE}.{key}": value for key, value in around.items()}


def parse_fault(primitive: Any) -> Fault:
    """The fault in a serialised primitive of any version 1.x, as any sender may have written it.

    Fields that are unknown here are ignored; one that is missing, because the sender is older, has its default. Words
    that a newer sender may add to an enumeration pass as they are, except that a resolution that is unknown here
    becomes None: only `recovered` confirms anything. Raises one ValueError that names the field otherwise.
    """
    data = data_of(primitive, FaultPayload.obj_name())
    return Fault(**{field.name: _read(field, data) for field in dataclasses.fields(Fault)})


_TEXTS = (ovo.EnumField, ovo.StringField, ovo.UUIDField, ovo.DateTimeField)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _as_told(value: Any) -> Any:
    if isinstance(value, datetime):  # as oslo.versionedobjects: whole seconds; a year has four digits on every platform
        return f"{value.astimezone(timezone.utc).replace(microsecond=0, tzinfo=None).isoformat()}Z"
    return _plain(value)


def _read(field: dataclasses.Field[Any], data: dict[str, Any]) -> Any:
    kind = FaultPayload.fields[field.name]
    if data.get(field.name) is None:
        if kind.nullable:
            return None
        if field.default is not dataclasses.MISSING:
            return field.default
        raise ValueError(f"fault notification without {field.name!r}")
    value = data[field.name]
    try:
        return _value(field.name, kind, value)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"fault notification with {field.name!r} = {_shown(value)}: {error!s:.200}") from error


def _shown(value: Any) -> str:
    """Fit for a log line, whatever its size: to write out a large number may fail, and a deep value does."""
    return ascii(value[:60]) if isinstance(value, str) else type(value).__name__


def _value(name: str, kind: Any, value: Any) -> Any:
    if name == "state":
        return FaultState(value)
    if name == "resolution":
        return Resolution(value) if value in words(Resolution) else None
    if isinstance(kind, _TEXTS) and not isinstance(value, str):
        raise ValueError("a string is required")
    if isinstance(kind, ovo.BooleanField) and not isinstance(value, bool):
        raise ValueError("true or false is required")
    if isinstance(kind, ovo.UUIDField):
        uuid_of(value)
    if isinstance(kind, ovo.EnumField | ovo.UUIDField):
        return value
    return kind.coerce(None, name, value)
