"""What our notifications carry: versioned objects, built from core's values and read back into them. No I/O.

A change of any field must show in its object's VERSION: a test compares fingerprints.
"""

from __future__ import annotations

from vmhb_common.messaging.no_eventlet import without_eventlet

with without_eventlet():
    from vmhb_common.objects.fault import FaultPayload, fault_as_told, fault_payload, parse_fault
    from vmhb_common.objects.heartbeat import HeartbeatChange, HeartbeatPayload, HeartbeatState, heartbeat_payload
    from vmhb_common.objects.worker import WORKER_ALIVE, SignOfLife, WorkerPayload, worker_payload

__all__ = [
    "WORKER_ALIVE",
    "FaultPayload",
    "HeartbeatChange",
    "HeartbeatPayload",
    "HeartbeatState",
    "SignOfLife",
    "WorkerPayload",
    "fault_as_told",
    "fault_payload",
    "heartbeat_payload",
    "parse_fault",
    "worker_payload",
]
