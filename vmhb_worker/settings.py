"""What the operator decided, as plain frozen values: what engine and adapters are handed. Knows no oslo.config.

Times are seconds. Bounds were checked where they came from: `vmhb_worker.conf`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vmhb_common.model.policy import Limits
from vmhb_common.model.senders import WORKERS_KEY, SenderSettings


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The agent channel: how many guests are asked at a time, and how long an agent may be away."""

    workers: int = 4
    slow_workers: int = 4
    exit_settle_time: float = 120.0


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """The application channels: how much of a guest is read. burst: lines at once; lines_per_beat: then, at most."""

    burst: int = 192
    lines_per_beat: float = 4.0


@dataclass(frozen=True, slots=True)
class VerdictSettings:
    """When something is called wrong, and how often it is said."""

    panic_grace: float = 10.0
    crash_dump_grace: float = 600.0
    reboot_grace: float = 300.0
    reminder_interval: float = 300.0
    probe_interval: float = 60.0
    gone_grace: float = 3600.0
    observe_only: bool = False
    brake_ratio: float = 0.5
    brake_count: int = 3
    recoveries: int = 3
    recovery_window: float = 3600.0


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """Where faults go. transport_url: None for the one that RPC uses."""

    topics: tuple[str, ...] = ("vmhb_notifications",)
    transport_url: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it. host: this node, as nova-compute names it."""

    host: str
    state_path: Path = Path("/var/lib/vmhb")
    own_queue_only: bool = False
    connection_uri: str = "qemu:///system"
    limits: Limits = field(default_factory=Limits)
    agent: AgentSettings = field(default_factory=AgentSettings)
    channel: ChannelSettings = field(default_factory=ChannelSettings)
    max_maintenance: float = 7200.0
    verdict: VerdictSettings = field(default_factory=VerdictSettings)
    notifications: NotificationSettings = field(default_factory=NotificationSettings)
    senders: SenderSettings = field(default_factory=lambda: SenderSettings(Path(WORKERS_KEY)))
