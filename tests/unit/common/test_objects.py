"""The payloads: their fingerprints, their schemas, and the way there and back."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import vmhb_common
from tests.fakes import a_fault
from vmhb_common import objects
from vmhb_common.model.causes import Cause
from vmhb_common.model.fault import Fault, FaultState, Identity, Resolution
from vmhb_common.objects import schema

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)
ID = "3f0c4d6e-0a52-4a1e-9d0f-1f2e3d4c5b6a"

#: A difference here is a change of what goes over the wire: raise the object's VERSION, then write the new one down.
FINGERPRINTS = {
    "FaultPayload": "1.2-aee82c2f71e84334",
    "HeartbeatPayload": "1.0-bff6d09168ba06e5",
    "WorkerPayload": "1.1-7430d293e66394b4",
}

HEARTBEAT = objects.HeartbeatChange(
    host="cn1",
    who=Identity(ID, "instance-1", "web", "p1", "m1"),
    channel="agent",
    state=objects.HeartbeatState.ENDED,
    occurred_at=NOON,
    reason="maintenance asked for by the guest",
)
WORKER = objects.SignOfLife(
    host="cn1",
    version="1.0.0",
    started_at=NOON,
    occurred_at=NOON,
    sequence=7,
    interval=60.0,
    instances=3,
    monitors={"alive": 2, "silent": 1},
    open_faults=1,
    hypervisor_connected=True,
    store={"waiting": 0, "oldest": None, "degraded": None, "dropped": 0, "failing": {}},
    degraded=["libvirtd answers slowly"],
    pressure={"memory": {"value": 0.02, "age": 1.5}, "io": {"value": "unavailable", "reason": "switched off"}},
)
CLEARED = replace(
    a_fault(state=FaultState.CLEARED),
    resolution=Resolution.MOVED,
    cleared_at=NOON,
    health={"status": "ok", "checks": [{"name": "db", "status": "ok", "message": ""}]},
)
SAMPLES: tuple[tuple[type[Any], dict[str, Any]], ...] = (
    (objects.FaultPayload, objects.fault_payload(a_fault())),
    (objects.FaultPayload, objects.fault_payload(CLEARED)),
    (objects.HeartbeatPayload, objects.heartbeat_payload(HEARTBEAT)),
    (objects.WorkerPayload, objects.worker_payload(WORKER)),
)


def test_fingerprints() -> None:
    """No field changes unless the version does."""
    # Of the schema, which tells every name, type, word and None. oslo's own checker does the same with the form in
    # which oslo prints a field, and wants two more packages.
    digests = {
        kind: hashlib.sha256(json.dumps(schema.schema(kind)["properties"]).encode()).hexdigest()[:16]
        for kind in schema.PAYLOADS
    }
    assert {kind.obj_name(): f"{kind.VERSION}-{digest}" for kind, digest in digests.items()} == FINGERPRINTS


@pytest.mark.parametrize("kind", schema.PAYLOADS)
def test_schema_on_disk_is_generated(kind: type[Any]) -> None:
    """The shipped schemas are those of the objects: `python -m vmhb_common.objects.schema` writes them."""
    assert schema.path(kind).read_text(encoding="utf-8") == schema.text(kind)


@pytest.mark.parametrize(("kind", "sample"), SAMPLES)
def test_samples_fit_their_schema(kind: type[Any], sample: dict[str, Any]) -> None:
    """What we send is what the schema promises."""
    jsonschema.Draft202012Validator(schema.schema(kind)).validate(json.loads(json.dumps(sample)))


def test_schema_refuses_a_word_that_is_not_there() -> None:
    """The schema restricts enumerations, and None to fields that may be None."""
    bad = copy.deepcopy(SAMPLES[0][1])
    bad["vmhb_object.data"]["withheld"] = "mood"
    validator = jsonschema.Draft202012Validator(schema.schema(objects.FaultPayload))
    assert not validator.is_valid(bad)
    bad["vmhb_object.data"]["withheld"] = None
    assert validator.is_valid(bad)
    bad["vmhb_object.data"]["cause"] = None
    assert not validator.is_valid(bad)


def test_wire_form() -> None:
    """Four keys around the data, times in UTC with a Z: what receivers in other languages parse."""
    sample = objects.fault_payload(a_fault())
    data = sample.pop("vmhb_object.data")
    assert sample == {
        "vmhb_object.name": "FaultPayload",
        "vmhb_object.namespace": "vmhb",
        "vmhb_object.version": "1.2",
    }
    assert data["occurred_at"] == "2026-01-02T03:04:05Z"
    assert list(data) == [*data] and set(data) == {*Fault.__dataclass_fields__}


@pytest.mark.parametrize("fault", [a_fault(), CLEARED])
def test_there_and_back(fault: Fault) -> None:
    """A receiver gets the sender's fault, but for fractions of a second."""
    assert objects.parse_fault(json.loads(json.dumps(objects.fault_payload(fault)))) == fault


def test_every_cause_can_be_told() -> None:
    """No verdict is too new for the payload."""
    for cause in Cause:
        assert objects.parse_fault(objects.fault_payload(replace(a_fault(), cause=cause))).cause == cause


def test_evidence_is_always_json() -> None:
    """Whatever the evidence holds, every JSON parser can read it."""
    evidence: dict[Any, Any] = {"ratio": float("nan"), "when": NOON, 3: ("a", None)}
    fault = replace(a_fault(), evidence=evidence)
    data = objects.fault_payload(fault)["vmhb_object.data"]
    assert data["evidence"] == {"ratio": "nan", "when": "2026-01-02 12:00:00+00:00", "3": ["a", None]}
    json.dumps(data, allow_nan=False)


def test_newer_minor_version_is_understood() -> None:
    """Fields and words that a newer sender added do no harm; a resolution that is unknown confirms nothing."""
    primitive = objects.fault_payload(CLEARED)
    primitive["vmhb_object.version"] = "1.7"
    primitive["vmhb_object.data"] |= {"invented_later": 1, "cause": "cosmic_ray", "resolution": "healed_itself"}
    fault = objects.parse_fault(primitive)
    assert (fault.cause, fault.resolution) == ("cosmic_ray", None)


def test_field_that_an_older_sender_lacks_is_defaulted() -> None:
    """A missing field with a default, or one that may be None, is not an error."""
    primitive = objects.fault_payload(CLEARED)
    del primitive["vmhb_object.data"]["health"], primitive["vmhb_object.data"]["flavor_name"]
    fault = objects.parse_fault(primitive)
    assert (fault.health, fault.flavor_name) == (None, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"vmhb_object.version": "2.0"}, "upgrade the receiver"),
        ({"vmhb_object.version": None}, "upgrade the receiver"),
        ({"vmhb_object.name": "InstancePayload"}, "InstancePayload"),
        ({"vmhb_object.namespace": "nova"}, "nova"),
        ({"vmhb_object.data": []}, "no data"),
    ],
)
def test_what_is_not_ours_is_refused(change: dict[str, Any], says: str) -> None:
    """One clear ValueError for another object, or another major version."""
    with pytest.raises(ValueError, match=says):
        objects.parse_fault(objects.fault_payload(a_fault()) | change)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("sequence", None), ("sequence", "many"), ("state", "half"), ("occurred_at", "yesterday")),
        *(("occurred_at", 12), ("host", 7), ("drill", "no"), ("evidence", "none"), ("cause", 1), ("fault_id", [])),
    ],
)
def test_bad_field_is_named(name: str, value: Any) -> None:
    """One clear ValueError that names the field."""
    primitive = objects.fault_payload(a_fault())
    primitive["vmhb_object.data"][name] = value
    with pytest.raises(ValueError, match=name):
        objects.parse_fault(primitive)


@pytest.mark.parametrize("primitive", [None, "text", 7, [], {}])
def test_garbage_is_refused(primitive: Any) -> None:
    """Whatever arrives, there is no other exception than ValueError."""
    with pytest.raises(ValueError, match="FaultPayload"):
        objects.parse_fault(primitive)


def test_no_eventlet() -> None:
    """Importing our notifications does not import eventlet, which Nova would refuse."""
    pytest.importorskip("cotyledon", reason="oslo.service[threading] is not installed")
    program = "import sys, vmhb_common.objects, vmhb_common.messaging.publisher; sys.exit('eventlet' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=Path(vmhb_common.__file__).parent.parent, check=True)
