"""libvirt's numbers -> names, derived from the names of libvirt-python's constants.

`VIR_DOMAIN_EVENT_STOPPED_FAILED` is ("stopped", "failed"). A number that the installed libvirt-python has no constant
for is "*", the row of `core.lifecycle` for details that a newer libvirt invents; in `core.spoken_of` it has none.
"""

from __future__ import annotations

from collections.abc import Iterable

import libvirt

from vmhb_worker.core import spoken_of

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


def among(prefix: str, names: Iterable[str]) -> dict[int, str]:
    """Number -> name in lower case, of those of these names that the installed libvirt-python has."""
    numbers = {getattr(libvirt, f"{prefix}{name.upper()}", None): name for name in names}
    return {number: name for number, name in numbers.items() if number is not None}


_ERRORS = among("VIR_ERR_", spoken_of.ERRORS)
_CONTROL = among("VIR_DOMAIN_CONTROL_", spoken_of.CONTROL)
_CONTROL_ERRORS = among("VIR_DOMAIN_CONTROL_ERROR_REASON_", spoken_of.CONTROL_ERRORS)
_CLOSED = among("VIR_CONNECT_CLOSE_REASON_", spoken_of.CLOSED)
_IO_ERRORS = among("VIR_DOMAIN_EVENT_IO_ERROR_", spoken_of.IO_ERRORS)
_RECIPIENTS = among("VIR_DOMAIN_EVENT_MEMORY_FAILURE_RECIPIENT_", {who for who, _ in spoken_of.MEMORY_FAILURES})
_MEMORY_ACTIONS = among("VIR_DOMAIN_EVENT_MEMORY_FAILURE_ACTION_", {action for _, action in spoken_of.MEMORY_FAILURES})
#: virDomainMemoryFailureFlags: an interface of libvirt's, so they stay what they are.
_REQUIRED, _RECURSIVE = 1, 2
_JOBS = among("VIR_DOMAIN_JOB_", spoken_of.JOBS_ON)
#: An agent's, and from libvirt 12.4 on any channel's; the numbers are the same.
_AGENTS = "VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_"
_PORT_STATES = among(f"{_AGENTS}STATE_", {state for state, _ in spoken_of.PORT_EVENTS})
_PORT_REASONS = among(f"{_AGENTS}REASON_", {reason for _, reason in spoken_of.PORT_EVENTS})


def error(code: int | None) -> str:
    """Name of a virErrorNumber, "" of one that is not known. None, where libvirt-python itself failed, is its own."""
    return "internal_error" if code is None else _ERRORS.get(code, "")


def port(state: int, reason: int) -> tuple[str, str]:
    """Names of the state and the reason of an agent's, or a channel's, lifecycle event."""
    return _PORT_STATES.get(state, UNKNOWN), _PORT_REASONS.get(reason, UNKNOWN)


def io_error(action: int) -> str:
    """Name of a virDomainEventIOErrorAction."""
    return _IO_ERRORS.get(action, UNKNOWN)


def memory_failure(recipient: int, action: int, flags: int) -> tuple[str, str, bool, bool]:
    """Names of the recipient and the action of a MEMORY_FAILURE event; and its flags: is action required, is it
    recursive?"""
    names = _RECIPIENTS.get(recipient, UNKNOWN), _MEMORY_ACTIONS.get(action, UNKNOWN)
    return *names, bool(flags & _REQUIRED), bool(flags & _RECURSIVE)


def job_is_on(number: int) -> bool:
    """By its virDomainJobType. A kind of job that a newer libvirt invents is one."""
    return spoken_of.JOBS_ON.get(_JOBS.get(number, UNKNOWN), True)


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


def control_error(reason: int) -> str:
    """Name of a virDomainControlErrorReason."""
    return _CONTROL_ERRORS.get(reason, "unknown")


def closed(reason: int) -> str:
    """Why a connection closed, for people."""
    return spoken_of.CLOSED.get(_CLOSED.get(reason, ""), spoken_of.CLOSED["error"])[1]
