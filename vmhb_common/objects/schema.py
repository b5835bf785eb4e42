"""JSON Schemas of the payloads, generated from the objects: `python -m vmhb_common.objects.schema` writes the files.

They describe what we send. A receiver must ignore properties it does not know, so a schema allows more of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vmhb_common.objects import FaultPayload, HeartbeatPayload, WorkerPayload
from vmhb_common.objects.base import PROJECT_NAMESPACE, SERIAL_NAMESPACE, Payload

#: Where the generated files are, also in an installed package.
FOLDER = Path(__file__).parent / "schemas"

PAYLOADS: tuple[type[Payload], ...] = (FaultPayload, HeartbeatPayload, WorkerPayload)


def schema(payload: type[Payload]) -> dict[str, Any]:
    """The JSON Schema of a serialised payload."""
    name = payload.obj_name()
    properties = {
        f"{SERIAL_NAMESPACE}.name": {"const": name},
        f"{SERIAL_NAMESPACE}.namespace": {"const": PROJECT_NAMESPACE},
        f"{SERIAL_NAMESPACE}.version": {"type": "string", "pattern": r"^1\.[0-9]+$"},
        f"{SERIAL_NAMESPACE}.data": {
            "type": "object",
            "properties": {field: _property(kind) for field, kind in payload.fields.items()},
            "required": sorted(payload.fields),
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{name} {payload.VERSION}",
        "description": (payload.__doc__ or "").splitlines()[0],
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
    }


def _property(kind: Any) -> dict[str, Any]:
    """oslo's own schema of a field, put right where it is not what JSON Schema says."""
    told: dict[str, Any] = kind.get_schema()
    told.pop("readonly", None)
    if "enum" in told:
        told["enum"] = [*told["enum"], *([None] if kind.nullable else [])]
    if len(told["type"]) == 1:
        told["type"] = told["type"][0]
    return told


def text(payload: type[Payload]) -> str:
    """The content of a payload's file."""
    return json.dumps(schema(payload), indent=2) + "\n"


def path(payload: type[Payload]) -> Path:
    """The file of a payload."""
    return FOLDER / f"{payload.obj_name()}.json"


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(exist_ok=True)
    for payload in PAYLOADS:
        path(payload).write_text(text(payload), encoding="utf-8")


if __name__ == "__main__":
    main()
