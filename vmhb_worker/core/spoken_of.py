"""Of whom libvirt speaks: the one table by which its errors, and the reasons of its events, are anybody's act.

libvirt tells of the guest, of its port, of somebody else's command and of itself by the same words, and an error that
is none of the guest's must never be counted against it. So each code, text and reason has a row that says who is
spoken of; one that has none is nobody's act: nobody was asked, nobody missed, no port is closed. Total over what
libvirt-python knows, which a test reads off it: whoever builds against a newer libvirt decides, and does not find out.

The names are libvirt's own, in lower case (`VIR_ERR_AGENT_UNSYNCED` is "agent_unsynced"); the hypervisor adapter
translates the numbers. Texts are those of qemu_agent.c, qemu_domain.c and virdomainjob.c.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from vmhb_common.model.causes import Cause
from vmhb_worker.core.events import Event, Failure, Stuck

#: No time-out that there is is shorter than a second, libvirt's unit. A command that timed out sooner (seconds) was not
#: waited for at all: the domain's response time-out is 0, which somebody has set.
SHORTEST_TIMEOUT = 0.9


class Whom(enum.Enum):
    """Who is spoken of."""

    AGENT = "the guest's agent"
    PORT = "the guest's port"
    OTHERS = "somebody else's command"
    LIBVIRT = "libvirt itself"
    DOMAIN = "the domain"
    NOBODY = "nobody known"


@dataclass(frozen=True, slots=True)
class Said:
    """What an error of libvirt's says of a challenge: who is spoken of, and what the challenge ended as."""

    whom: Whom
    failure: Failure


#: As whom an error speaks of, so a challenge ends, where its row says nothing else.
_ENDS_AS: Mapping[Whom, Failure] = {
    Whom.AGENT: Failure.GARBLED,  # it answered, but not what it was asked
    Whom.OTHERS: Failure.BUSY,
    Whom.LIBVIRT: Failure.UNREACHABLE,
    Whom.DOMAIN: Failure.UNREACHABLE,
    Whom.NOBODY: Failure.UNKNOWN,
}

_CODES: Mapping[Whom, str] = {
    Whom.AGENT: "agent_unsynced agent_command_timeout agent_command_failed",
    # "cannot acquire state change lock", after 30 s.
    Whom.OTHERS: "operation_timeout",
    # It is gone, does not run, or has no agent.
    Whom.DOMAIN: "no_domain invalid_domain dom_exist operation_invalid argument_unsupported config_unsupported",
    # It could not be asked, was not allowed to pass it on, or what it passes it on through broke.
    Whom.LIBVIRT: """
        internal_error no_memory no_support no_connect invalid_conn invalid_arg operation_failed rpc system_error
        operation_denied access_denied auth_failed auth_cancelled auth_unavailable operation_aborted
        operation_unsupported no_server no_client unknown_host no_hostname driver_full read_failed write_failed
        open_failed get_failed post_failed http_error gnutls_error ssh libssh invalid_stream dbus_service overflow
        call_failed resource_busy
    """,
    # Never said of an agent's command; or by a code that says nothing by itself. VIR_ERR_AGENT_UNRESPONSIVE is said of
    # an agent that is silent, of a port that is closed, and of libvirt's own end of it: its text tells, see TEXTS.
    Whom.NOBODY: """
        ok agent_unresponsive multiple_domains no_kernel no_root no_source no_target no_name no_os no_device os_type
        no_xen xen_call sexpr_serial no_xenstore xml_error xml_detail xml_invalid_schema parse_failed conf_syntax
        invalid_network network_exist no_network invalid_network_port network_port_exist no_network_port
        no_network_metadata invalid_mac invalid_storage_pool invalid_storage_vol no_storage_pool no_storage_vol
        storage_probe_failed storage_pool_built storage_vol_exist invalid_node_device no_node_device no_security_model
        no_interface invalid_interface multiple_interfaces build_firewall invalid_nwfilter no_nwfilter
        invalid_nwfilter_binding no_nwfilter_binding invalid_secret no_secret migrate_persist_failed migrate_unsafe
        migrate_finish_ok hook_script_failed invalid_domain_snapshot no_domain_snapshot snapshot_revert_risky
        invalid_domain_checkpoint no_domain_checkpoint checkpoint_inconsistent no_domain_backup no_domain_metadata
        block_copy_active cpu_incompatible device_missing
    """,
}
#: VIR_ERR_* -> what it says by itself, where no text below is in it.
ERRORS: Mapping[str, Said] = {
    code: Said(whom, _ENDS_AS[whom]) for whom, codes in _CODES.items() for code in codes.split()
} | {"agent_command_timeout": Said(Whom.AGENT, Failure.NO_ANSWER)}

#: A part of a text -> what it says, whatever its code: libvirt changed those. The first that fits counts.
TEXTS: Mapping[str, Said] = {
    # The time was over: ours, or the 5 s of libvirt's own resynchronising after an agent was silent once.
    "agent not available for now": Said(Whom.AGENT, Failure.NO_ANSWER),
    "didn't respond to": Said(Whom.AGENT, Failure.NO_ANSWER),  # the same, in newer ones
    "unable to execute QEMU agent command": Said(Whom.AGENT, Failure.GARBLED),
    "Invalid data provided by guest agent": Said(Whom.AGENT, Failure.GARBLED),
    "Guest agent returned ID": Said(Whom.AGENT, Failure.GARBLED),
    # libvirt has no connection to the port: since nobody holds it open, or since libvirt's own failed, or was not made
    # yet after it was restarted over a QEMU that hangs. Which of them, its live XML knows.
    "guest agent is not connected": Said(Whom.LIBVIRT, Failure.UNCONNECTED),
    "agent disappeared": Said(Whom.LIBVIRT, Failure.UNCONNECTED),
    # libvirt could not read a line of the guest's, or one longer than 10 MiB: it has closed its own end, and asks
    # nobody until the agent connects anew.
    "not available due to an error": Said(Whom.LIBVIRT, Failure.GIVEN_UP),
    "No complete agent response found": Said(Whom.LIBVIRT, Failure.GIVEN_UP),
    # Its socket to QEMU broke, or what it waits on.
    "Missing agent reply object": Said(Whom.LIBVIRT, Failure.UNREACHABLE),
    "Unable to read from agent": Said(Whom.LIBVIRT, Failure.UNREACHABLE),
    "Unable to write to agent": Said(Whom.LIBVIRT, Failure.UNREACHABLE),
    "Unable to wait on agent": Said(Whom.LIBVIRT, Failure.UNREACHABLE),
    "End of file from agent socket": Said(Whom.LIBVIRT, Failure.UNREACHABLE),
    "Error while processing agent IO": Said(Whom.LIBVIRT, Failure.UNREACHABLE),
    "Invalid file descriptor while waiting for agent": Said(Whom.LIBVIRT, Failure.UNREACHABLE),
    "cannot acquire state change lock": Said(Whom.OTHERS, Failure.BUSY),
    "agent is not configured": Said(Whom.DOMAIN, Failure.UNREACHABLE),
}
_UNKNOWN = Said(Whom.NOBODY, Failure.UNKNOWN)


def known_text(text: str) -> Said | None:
    """What this text says, in English; None where it has no row."""
    return next((said for part, said in TEXTS.items() if part in text), None)


def failure_of(code: str, text: str, elapsed: float) -> Failure:
    """What a challenge ended as that brought this error of libvirt's after `elapsed` seconds.

    code: its name, "" where that is not known. Total: what has no row is UNKNOWN.
    """
    said = known_text(text) or ERRORS.get(code, _UNKNOWN)
    if said.failure is Failure.NO_ANSWER and elapsed < SHORTEST_TIMEOUT:
        return Failure.UNREACHABLE  # libvirt did not wait: that it heard nothing says nothing
    return said.failure


#: (state, reason) of the lifecycle events of an agent, and of any channel. Only what is said of the port is taken from
#: the event; of everything else the live XML tells, which is read again. QEMU's own port is closed when it begins,
#: until the guest opens it, or until its memory has come: nobody in the guest did that.
PORT_EVENTS: Mapping[tuple[str, str], Whom] = {
    ("connected", "channel"): Whom.PORT,
    ("disconnected", "channel"): Whom.PORT,
    ("connected", "domain_started"): Whom.DOMAIN,
    ("disconnected", "domain_started"): Whom.DOMAIN,
    ("connected", "unknown"): Whom.NOBODY,
    ("disconnected", "unknown"): Whom.NOBODY,
}

#: VIR_CONNECT_CLOSE_REASON_* -> of whom it speaks, and in words. It is never of a guest.
CLOSED: Mapping[str, tuple[Whom, str]] = {
    "error": (Whom.LIBVIRT, "the connection broke"),
    "eof": (Whom.LIBVIRT, "libvirtd went away"),
    "keepalive": (Whom.LIBVIRT, "libvirtd stopped answering"),
    "client": (Whom.LIBVIRT, "the connection was closed from here"),
}

#: virDomainControlState: does QEMU's monitor answer? Of an error, its reason says whose it is.
CONTROL: Mapping[str, Whom] = {
    "ok": Whom.DOMAIN,
    "job": Whom.OTHERS,
    "occupied": Whom.DOMAIN,
    "error": Whom.NOBODY,
}
#: virDomainControlErrorReason.
CONTROL_ERRORS: Mapping[str, Whom] = {
    "none": Whom.NOBODY,
    "unknown": Whom.NOBODY,
    "monitor": Whom.DOMAIN,  # QEMU's monitor broke
    "internal": Whom.LIBVIRT,
}

#: virDomainEventIOErrorAction -> what happened. Where QEMU only reports it, to us or to the guest, it is the guest's
#: own business; what a newer QEMU does instead is not known.
IO_ERRORS: Mapping[str, Event | None] = {
    "none": None,
    "report": None,
    "pause": Stuck(Cause.PAUSED_IO_ERROR),
}
#: virDomainEventWatchdogAction: of whom it speaks. The guest did not feed its watchdog, whatever is done then.
WATCHDOG: Mapping[str, Whom] = dict.fromkeys(
    ("none", "pause", "reset", "poweroff", "shutdown", "debug", "injectnmi"), Whom.DOMAIN
)

#: (recipient, action) of a virDomainMemoryFailure -> is the instance at fault's door: has it, or its QEMU, lost what it
#: worked with? Where QEMU could pass it on, or nobody used the page, the guest goes on without it: that is counted.
MEMORY_FAILURES: Mapping[tuple[str, str], bool] = {
    # QEMU's own memory, or some that is not known to be the guest's: it ends, at once or when it comes to use it.
    ("hypervisor", "ignore"): True,
    ("hypervisor", "inject"): True,
    ("hypervisor", "fatal"): True,
    ("hypervisor", "reset"): True,
    ("guest", "ignore"): False,
    ("guest", "inject"): False,
    ("guest", "fatal"): True,
    ("guest", "reset"): True,
}

#: virDomainJobType: is a job on? One that has ended, however it did, excuses nobody.
JOBS_ON: Mapping[str, bool] = {
    "none": False,
    "bounded": True,
    "unbounded": True,
    "completed": False,
    "failed": False,
    "cancelled": False,
}

#: VIR_DOMAIN_EVENT_ID_* -> why nobody listens to it. All others are translated.
NOT_HEARD: Mapping[str, str] = {
    "RTC_CHANGE": "the guest set its clock",
    "IO_ERROR": "told by IO_ERROR_REASON, with the reason",
    "GRAPHICS": "somebody looks at its screen",
    "BLOCK_JOB": "its disks are copied below it, while it runs",
    "BLOCK_JOB_2": "its disks are copied below it, while it runs",
    "DISK_CHANGE": "a disk was changed or dropped",
    "TRAY_CHANGE": "a tray was opened or closed",
    "PMWAKEUP": "told by LIFECYCLE",
    "PMSUSPEND": "told by LIFECYCLE",
    "PMSUSPEND_DISK": "told by LIFECYCLE",
    "BALLOON_CHANGE": "its memory was resized: the balloon's reports are asked for where they matter",
    "TUNABLE": "a limit was changed",
    "DEVICE_REMOVAL_FAILED": "the guest keeps a device: nothing has changed",
    "BLOCK_THRESHOLD": "a disk has grown",
    "MEMORY_DEVICE_SIZE_CHANGE": "its memory was resized",
    "NIC_MAC_CHANGE": "the guest changed an address",
}
