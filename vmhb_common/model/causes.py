"""What can be wrong with an instance, how bad it is, and how sure we are: the words of a fault. Pure."""

from __future__ import annotations

import enum


class Cause(enum.StrEnum):
    """What is wrong. The order of judgement is that of `RULES`."""

    QEMU_FAILED = "qemu_failed"
    PAUSED_IO_ERROR = "paused_io_error"
    PAUSED_FAILED = "paused_failed"
    QEMU_HUNG = "qemu_hung"
    GUEST_PANICKED = "guest_panicked"
    GUEST_HUNG = "guest_hung"
    AGENT_EXITED = "agent_exited"
    APPLICATION_UNHEALTHY = "application_unhealthy"
    MAINTENANCE_OVERDUE = "maintenance_overdue"
    APPLICATION_UNRESPONSIVE = "application_unresponsive"
    AGENT_UNRESPONSIVE = "agent_unresponsive"
    GUEST_SILENT = "guest_silent"
    NOT_ESTABLISHED = "not_established"
    HOST_SUSPECT = "host_suspect"
    WORKER_LOST = "worker_lost"
    FLAPPING = "flapping"


class Severity(enum.StrEnum):
    """How bad it is for the instance's owner."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Confidence(enum.StrEnum):
    """How much the evidence carries."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
