"""The ears of the control plane, for the fuzzer: fault notifications, Nova's notifications, calls to a worker.

Each begins with an honest message, into which the input's JSON object is put. What is held: nothing is raised, and what
is let in is read back as the same, can be told to anybody, and names no path or host that is none.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import oslo_messaging

from tests.fakes import a_fault
from vmhb_common.messaging.sizes import MAX_MESSAGE, fit
from vmhb_common.model.fault import Fault
from vmhb_common.model.ids import uuid_of
from vmhb_common.objects import SignOfLife, fault_payload, worker_payload
from vmhb_common.worker_api import InvalidArgument
from vmhb_consumer import door, fault_rules, nova_listener
from vmhb_consumer.counters import Tally
from vmhb_consumer.fault_listener import Endpoint as Faults
from vmhb_consumer.nova_notification import PUBLISHER
from vmhb_worker.adapters.rpc_server import Endpoint as Worker

HANDLED = oslo_messaging.NotificationResult.HANDLED
NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
UUID = "9d1f0e52-8d5a-4d0e-9d62-0f2f8f6f3b21"
FLAVOR = {"nova_object.version": "1.4", "nova_object.data": {"extra_specs": {"hw:heartbeat": "true"}}}
INSTANCE = {"uuid": UUID, "host": "cn1", "flavor": FLAVOR, "request_id": "req-1", "state": "active", "task_state": None}
EVENTS = ("instance.power_off.start", "instance.create.end", "instance.live_migration_force_complete.end")


class _Records:
    """Takes whatever is let in, and holds it against what is promised of it."""

    def take(self, fault: Fault, _now: float) -> str:
        assert fault_rules.unpacked(fault_rules.packed(fault)) == fault
        json.dumps(fault_rules.primitive(fault), allow_nan=False, ensure_ascii=False).encode()
        assert uuid_of(fault.fault_id) == fault.fault_id and door.a_host(fault.host)
        return "new"

    def heard(self, sign: Any, _now: float) -> bool:
        assert door.a_host(sign.host) and 1.0 <= sign.interval <= 3600.0
        return True


def _changes(data: bytes) -> Any:
    """What a broker would hand on of it; None where it would not."""
    try:
        return json.loads(fit(data.decode("utf-8", "replace"), {}, MAX_MESSAGE))
    except (ValueError, RecursionError):
        return None


def fault(data: bytes) -> None:
    """A fault, a sign of life, or anything in its place."""
    sign = worker_payload(SignOfLife("cn1", "1", NOON, NOON, 7, 60.0, 3, {}, 0, True, {}))
    tally = Tally()
    endpoint = Faults(_Records(), tally, NOON.timestamp)  # type: ignore[arg-type]
    changes = _changes(data)
    for event, payload in (("vmhb.fault.raised", fault_payload(a_fault())), ("vmhb.worker.alive", sign)):
        if isinstance(changes, dict):
            payload["vmhb_object.data"] |= changes
        assert endpoint.info({}, "vmhb-worker:evil", event, payload, {}) == HANDLED
        assert endpoint.info(changes, changes, event, changes, changes) == HANDLED
        assert endpoint.info({}, "x", changes, payload, {}) == HANDLED


def nova(data: bytes) -> None:
    """Of an instance."""
    told: list[Any] = []

    def tell(cast: Any) -> bool:
        told.append(cast)
        return True

    endpoint = nova_listener.Endpoint(tell, {})
    changes = _changes(data)
    instance = {**INSTANCE, **(changes if isinstance(changes, dict) else {})}
    payload = {"nova_object.version": "1.8", "nova_object.data": instance}
    when = {"timestamp": "2026-01-02 12:00:00"}
    for event in EVENTS:
        assert endpoint.info({}, "nova-compute:cn1", event, payload, when) == HANDLED
        assert endpoint.info({}, changes, event, payload, changes) == HANDLED
        assert endpoint.error({}, "nova-compute:cn1", event, changes, when) == HANDLED
    for cast in told:
        assert uuid_of(cast.instance_uuid) == cast.instance_uuid and PUBLISHER.fullmatch(f"nova-compute:{cast.host}")
        assert "\n" not in repr(cast)
        repr(cast).encode()


def call(data: bytes) -> None:
    """To a worker: each method, with these arguments in place of honest ones."""
    changes = _changes(data)
    worker = Worker(lambda question: repr(question).encode())
    uuid, when = {"instance_uuid": UUID}, {"observed_at": NOON.isoformat()}
    honest: dict[str, dict[str, Any]] = {
        "show": uuid,
        "configure": {**uuid, **when, "policy": {"interval": "1"}},
        "expect_silence": {**uuid, **when, "key": "k", "reason": "r", "timeout": 60},
        "end_silence": {**uuid, **when, "key": "k"},
        "release_brake": {"reason": "r"},
    }
    for method, arguments in honest.items():
        given = (
            {name: changes.get(name, value) for name, value in arguments.items()} if isinstance(changes, dict) else {}
        )
        try:
            getattr(worker, method)({}, **(given or dict.fromkeys(arguments, changes)))
        except oslo_messaging.ExpectedException as error:
            assert error.exc_info[0] is InvalidArgument and str(error.exc_info[1]).isprintable(), error.exc_info
