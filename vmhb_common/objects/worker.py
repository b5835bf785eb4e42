"""The payload of `vmhb.worker.alive`: a worker's sign of life, with what an operator asks first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oslo_versionedobjects import base
from oslo_versionedobjects import fields as ovo

from vmhb_common.objects.base import JsonObjectField, Payload

#: The event type of the notification.
WORKER_ALIVE = "vmhb.worker.alive"


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """What is to be said.

    started_at with sequence (1, 2, 3 … within one life of the worker) orders the signs of one host. interval: seconds
    until the next one, so that a receiver knows when to miss it. instances: how many are monitored; monitors: how many
    of them are in which state. open_faults: raised and not yet cleared. store: `Store.health()`. degraded: sentences,
    each of which says what does not work and what to do; empty when all is well. pressure: `Strain.told()`, None where
    nobody looks. Datetimes are aware, in UTC.
    """

    host: str
    version: str
    started_at: datetime
    occurred_at: datetime
    sequence: int
    interval: float
    instances: int
    monitors: Mapping[str, int]
    open_faults: int
    hypervisor_connected: bool
    store: Mapping[str, Any]
    degraded: Sequence[str] = ()
    pressure: Mapping[str, Any] | None = None


@base.VersionedObjectRegistry.register
class WorkerPayload(Payload):
    """A worker's sign of life."""

    # 1.0: first version
    # 1.1: `pressure`
    VERSION = "1.1"

    fields = {  # noqa: RUF012 # oslo's way
        "host": ovo.StringField(),
        "version": ovo.StringField(),
        "started_at": ovo.DateTimeField(),
        "occurred_at": ovo.DateTimeField(),
        "sequence": ovo.IntegerField(),
        "interval": ovo.FloatField(),
        "instances": ovo.IntegerField(),
        "monitors": JsonObjectField(),
        "open_faults": ovo.IntegerField(),
        "hypervisor_connected": ovo.BooleanField(),
        "store": JsonObjectField(),
        "degraded": ovo.ListOfStringsField(),
        "pressure": JsonObjectField(nullable=True),
    }


def worker_payload(sign: SignOfLife) -> dict[str, Any]:
    """The serialised primitive. ValueError where a field is not of its type."""
    values = {field.name: getattr(sign, field.name) for field in dataclasses.fields(SignOfLife)}
    values |= {"monitors": dict(sign.monitors), "store": dict(sign.store), "degraded": list(sign.degraded)}
    values["pressure"] = None if sign.pressure is None else dict(sign.pressure)
    return WorkerPayload(**values).to_dict()
