"""What a message must look like: the shipped JSON Schema, and as much of a validator as it needs."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from typing import Any

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def load() -> dict[str, Any]:
    """The schema of protocol 1."""
    text = pkgutil.get_data("vmhb_guest", "protocol-1.json")
    if text is None:
        raise RuntimeError("protocol-1.json is missing from the package: install it anew")
    return dict(json.loads(text.decode()))


SCHEMA = load()


def faults(value: Any, definition: str) -> list[str]:
    """What is wrong with a value, as one of the schema's definitions: "ack", say. [] where nothing is."""
    return _faults(value, SCHEMA["$defs"][definition], definition)


def _faults(value: Any, schema: Mapping[str, Any], where: str) -> list[str]:
    if "$ref" in schema:
        return _faults(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], where)
    if "anyOf" in schema:
        tried = [_faults(value, one, where) for one in schema["anyOf"]]
        return [] if [] in tried else tried[0]
    if "const" in schema and not _same(value, schema["const"]):
        return [f"{where} is not {schema['const']!r}"]
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        return [f"{where} is none of {', '.join(map(str, schema['enum']))}"]
    if "type" in schema and not _is(value, schema["type"]):
        return [f"{where} is not of type {schema['type']}"]
    return [*_of_size(value, schema, where), *_inside(value, schema, where)]


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()  # JSON Schema: 1.0 is an integer
    return isinstance(value, _TYPES[kind])


def _of_size(value: Any, schema: Mapping[str, Any], where: str) -> list[str]:
    found = []
    if isinstance(value, (str, list)):
        least, most = schema.get("minLength", 0), schema.get("maxLength", schema.get("maxItems", len(value)))
        if not least <= len(value) <= most:
            found.append(f"{where} has {len(value)}, and {least} to {most} is allowed")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        least, most = schema.get("minimum", value), schema.get("maximum", value)
        if not least <= value <= most:
            found.append(f"{where} is {value}, and {least} to {most} is allowed")
    return found


def _inside(value: Any, schema: Mapping[str, Any], where: str) -> list[str]:
    found = []
    if isinstance(value, dict):
        found += [f"{where} has no {name}" for name in schema.get("required", ()) if name not in value]
        for name, one in schema.get("properties", {}).items():
            if name in value:
                found += _faults(value[name], one, f"{where}.{name}")
    elif isinstance(value, list) and "items" in schema:
        for number, one in enumerate(value):
            found += _faults(one, schema["items"], f"{where}[{number}]")
    return found
