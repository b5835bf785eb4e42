"""libvirt's numbers -> names, derived from the names of libvirt-python's constants.

`VIR_DOMAIN_EVENT_STOPPED_FAILED` is ("stopped", "failed"). A number that the installed libvirt-python has no constant
for is "*", the row of `core.lifecycle` for details that a newer libvirt invents.
"""

from __future__ import annotations

import libvirt

#: What stands for an unknown number.
UNKNOWN = "*"

_EVENTS = ("DEFINED", "UNDEFINED", "STARTED", "SUSPENDED", "RESUMED", "STOPPED", "SHUTDOWN", "PMSUSPENDED", "CRASHED")
_STATES = ("NOSTATE", "RUNNING", "BLOCKED", "PAUSED", "SHUTDOWN", "SHUTOFF", "CRASHED", "PMSUSPENDED")
#: Begin like a reason of a state, but are flags of virDomainShutdownFlags, or a state's that nobody uses.
_NOT_REASONS = {
    "VIR_DOMAIN_SHUTDOWN_DEFAULT",
    "VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN",
    "VIR_DOMAIN_SHUTDOWN_GUEST_AGENT",
    "VIR_DOMAIN_SHUTDOWN_INITCTL",
    "VIR_DOMAIN_SHUTDOWN_SIGNAL",
    "VIR_DOMAIN_SHUTDOWN_PARAVIRT",
    "VIR_DOMAIN_PMSUSPENDED_DISK_UNKNOWN",
}


def numbered(prefix: str) -> dict[int, str]:
    """Number -> name in lower case, of all constants that begin with `prefix`; enumerators' ends excluded."""
    return {
        value: name.removeprefix(prefix).lower()
        for name, value in vars(libvirt).items()
        if name.startswith(prefix)
        and isinstance(value, int)
        and name not in _NOT_REASONS
        and not name.endswith("_LAST")
    }


_EVENT_NAMES: dict[int, str] = {getattr(libvirt, f"VIR_DOMAIN_EVENT_{name}"): name.lower() for name in _EVENTS}
_DETAILS = {name.lower(): numbered(f"VIR_DOMAIN_EVENT_{name}_") for name in _EVENTS}
_STATE_NAMES: dict[int, str] = {getattr(libvirt, f"VIR_DOMAIN_{name}"): name.lower() for name in _STATES}
_REASONS = {name.lower(): numbered(f"VIR_DOMAIN_{name}_") for name in _STATES}
_WATCHDOG = numbered("VIR_DOMAIN_EVENT_WATCHDOG_")
_OPERATIONS = numbered("VIR_DOMAIN_JOB_OPERATION_")
_CONTROL: dict[int, str] = {
    libvirt.VIR_DOMAIN_CONTROL_OK: "ok",
    libvirt.VIR_DOMAIN_CONTROL_JOB: "job",
    libvirt.VIR_DOMAIN_CONTROL_OCCUPIED: "occupied",
    libvirt.VIR_DOMAIN_CONTROL_ERROR: "error",
}
_CLOSED = numbered("VIR_CONNECT_CLOSE_REASON_")


def lifecycle(event: int, detail: int) -> tuple[str, str]:
    """Names of a VIR_DOMAIN_EVENT_ID_LIFECYCLE event and its detail."""
    name = _EVENT_NAMES.get(event, UNKNOWN)
    return name, _DETAILS.get(name, {}).get(detail, UNKNOWN)


def state(number: int, reason: int) -> tuple[str, str]:
    """Names of a virDomainState and its reason."""
    name = _STATE_NAMES.get(number, "nostate")
    return name, _REASONS[name].get(reason, UNKNOWN)


def watchdog(action: int) -> str:
    """Name of a virDomainEventWatchdogAction."""
    return _WATCHDOG.get(action, UNKNOWN)


def operation(number: int) -> str:
    """Name of a virDomainJobOperation."""
    return _OPERATIONS.get(number, "unknown")


def control(number: int) -> str:
    """Name of a virDomainControlState. One that a newer libvirt invents is no proof of anything: "job"."""
    return _CONTROL.get(number, "job")


def closed(reason: int) -> str:
    """Why a connection closed, for people."""
    return {"keepalive": "libvirtd stopped answering", "eof": "libvirtd went away"}.get(
        _CLOSED.get(reason, ""), "the connection broke"
    )
