"""The old name of `vmhb_common.worker_api`, for one release: errors that come over RPC carry it. Nothing else is here.

oslo.messaging imports the module that an error names, to make that error again; a worker or a client of the release
before knows no other. To be removed with `_SENT_AS` there.
"""

from __future__ import annotations

from vmhb_common.worker_api import (
    ANSWER_TIME,
    CALL_TIMEOUT,
    EXCHANGE,
    TOPIC,
    VERSION,
    InvalidArgument,
    WorkerAPI,
    WorkerBusy,
    WorkerFailed,
    get_transport,
)

__all__ = [
    "ANSWER_TIME",
    "CALL_TIMEOUT",
    "EXCHANGE",
    "TOPIC",
    "VERSION",
    "InvalidArgument",
    "WorkerAPI",
    "WorkerBusy",
    "WorkerFailed",
    "get_transport",
]
