"""The consumer's settings as plain values: no oslo.config here, so that tests make them by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nova_vmhb.consumer.actions import TIMEOUTS, Operation


@dataclass(frozen=True, slots=True)
class NovaNotificationSettings:
    """Where Nova's notifications come from, and how long what they announce is believed. Times are seconds."""

    #: One for each broker; None: the one in [DEFAULT].
    transport_urls: tuple[str | None, ...] = (None,)
    exchange: str = "nova"
    topic: str = "vmhb_instances"
    pool: str | None = None
    delivery_time: float = 60.0
    timeouts: Mapping[Operation, float] = field(default_factory=lambda: TIMEOUTS)
