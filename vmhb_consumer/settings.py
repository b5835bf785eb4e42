"""The consumer's settings as plain values: no oslo.config here, so that tests make them by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vmhb_common.model.senders import CONSUMERS_KEY, SenderSettings
from vmhb_common.model.words import StrEnum
from vmhb_consumer.nova_operations import TIMEOUTS, Operation


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


class Half(StrEnum):
    """What a consumer can do."""

    INSTANCES = "instances"
    FAULTS = "faults"


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """How many recoveries are let through. Times are seconds.

    max_concurrent: under way at a time, 0: none; recovery_time: for how long one counts as such; rate: begun within a
    minute; recoveries: of one instance within recovery_window; action_ttl: without effect, kept for files that have it;
    observe_only: none is begun, and what would have been is said.
    """

    max_concurrent: int = 10
    recovery_time: float = 600.0
    rate: int = 20
    recoveries: int = 3
    recovery_window: float = 3600.0
    action_ttl: float = 60.0
    observe_only: bool = False


@dataclass(frozen=True, slots=True)
class FaultSettings:
    """The faults half. host: this one, in what the consumer publishes itself. Times are seconds.

    topics, transport_url: where faults are read (the first topic), and where the consumer's own are sent.
    """

    host: str
    state_path: Path = Path("/var/lib/vmhb-consumer")
    reporters: tuple[str, ...] = ("masakari", "log")
    reminder_interval: float = 300.0
    worker_forget: float = 7 * 86400.0
    keep: float = 7 * 86400.0
    topics: tuple[str, ...] = ("vmhb_notifications",)
    transport_url: str | None = None
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    senders: SenderSettings = field(default_factory=lambda: SenderSettings(Path(CONSUMERS_KEY)))
