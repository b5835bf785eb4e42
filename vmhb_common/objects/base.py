"""What our versioned objects have in common. Knows no payload in particular.

Every payload is serialised as `{"vmhb_object.name": …, "vmhb_object.namespace": "vmhb", "vmhb_object.version": …,
"vmhb_object.data": {…}}`. Rule for changes: a new field or a new value of an enumeration makes the next minor
version; anything else would be a new major one, which old consumers refuse.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from oslo_versionedobjects import base
from oslo_versionedobjects import fields as ovo

#: The prefix of the four keys around a payload, and the project that the objects belong to.
SERIAL_NAMESPACE = "vmhb_object"
PROJECT_NAMESPACE = "vmhb"


class Payload(base.VersionedObject):
    """The base of all payloads."""

    OBJ_SERIAL_NAMESPACE = SERIAL_NAMESPACE
    OBJ_PROJECT_NAMESPACE = PROJECT_NAMESPACE

    def to_dict(self) -> dict[str, Any]:
        """The serialised primitive: nothing but what JSON has. All fields must be set."""
        self.obj_reset_changes()  # "vmhb_object.changes" is for objects that are saved, not for messages
        primitive: dict[str, Any] = self.obj_to_primitive()
        return primitive


if TYPE_CHECKING:  # subscripts are for the type checker: oslo.versionedobjects has them from 3.10 on only
    _DictType = ovo.FieldType[dict[str, Any]]
    _DictField = ovo.AutoTypedField[dict[str, Any]]
else:
    _DictType, _DictField = ovo.FieldType, ovo.AutoTypedField


class JsonObject(_DictType):
    """A JSON object of free form: evidence, a health report, counts. Its keys may grow without a new version."""

    def coerce(self, obj: Any, attr: str, value: Any) -> dict[str, Any]:
        """A copy in which everything is JSON, by its text where it isn't."""
        if not isinstance(value, dict):
            raise ValueError(f"a JSON object is required in field {attr}, not {type(value).__name__}")
        copy: dict[str, Any] = json.loads(json.dumps(_finite(value), default=str))
        return copy

    def get_schema(self) -> dict[str, Any]:
        """For the JSON Schema."""
        return {"type": ["object"]}


class JsonObjectField(_DictField):
    """A field of type `JsonObject`."""

    AUTO_TYPE = JsonObject()


def _finite(value: Any) -> Any:
    """Without NaN and infinities: Python writes them, no other JSON parser reads them."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def data_of(primitive: Any, name: str) -> dict[str, Any]:
    """The data of a serialised payload of this name, of any minor version of major version 1. ValueError otherwise."""
    if not isinstance(primitive, dict):
        raise ValueError(f"not a {name}: an object is required, not {type(primitive).__name__}")
    found = primitive.get(f"{SERIAL_NAMESPACE}.name")
    namespace = primitive.get(f"{SERIAL_NAMESPACE}.namespace")
    if (namespace, found) != (PROJECT_NAMESPACE, name):
        raise ValueError(f"not a {name} of {PROJECT_NAMESPACE}: it says {found!r} of {namespace!r}")
    version = primitive.get(f"{SERIAL_NAMESPACE}.version")
    if not isinstance(version, str) or version.split(".")[0] != "1":
        raise ValueError(f"{name} has version {version!r}, and 1.x is what is understood here: upgrade the receiver")
    data = primitive.get(f"{SERIAL_NAMESPACE}.data")
    if not isinstance(data, dict):
        raise ValueError(f"{name} has no data: an object is required, not {type(data).__name__}")
    return data
