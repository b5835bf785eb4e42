"""Commands to the guest agent through libvirt, and what libvirt's errors mean for a challenge."""

from __future__ import annotations

import time

import libvirt

from vmhb_worker.adapters.libvirt.connection import Lines, NoLine, gone
from vmhb_worker.core.ask_schedule import RESYNC_TIME
from vmhb_worker.core.events import Failure
from vmhb_worker.interfaces import AgentError

try:
    import libvirt_qemu
except ImportError:  # packaged apart by some distributions
    libvirt_qemu = None

#: No honest answer is longer, and no longer one is parsed. libvirt's own limit is 10 MiB.
MAX_REPLY = 64 * 1024

#: An error's code -> whose doing it is. By their names, because not every libvirt has all of them: the two
#: AGENT_COMMAND ones came with 9.1. A code that is not here says nothing about the guest.
_FAILURES = {
    getattr(libvirt, f"VIR_ERR_{name}"): failure
    for name, failure in {
        "AGENT_UNSYNCED": Failure.GARBLED,  # it answered, but not what was asked
        "AGENT_COMMAND_TIMEOUT": Failure.NO_ANSWER,
        "AGENT_COMMAND_FAILED": Failure.GARBLED,  # it answered with an error
        "OPERATION_TIMEOUT": Failure.BUSY,  # "cannot acquire state change lock", after 30 s
        "NO_DOMAIN": Failure.UNREACHABLE,
        "OPERATION_INVALID": Failure.UNREACHABLE,  # "domain is not running"
        "ARGUMENT_UNSUPPORTED": Failure.UNREACHABLE,  # "QEMU guest agent is not configured"
    }.items()
    if hasattr(libvirt, f"VIR_ERR_{name}")
}
#: What libvirt tells apart by the text only, of qemu_agent.c and qemu_domain.c. libvirtd translates its texts where its
#: locale says so: then the code alone counts, and how long it took.
_TEXTS = (
    ("guest agent is not connected", Failure.CLOSED),
    ("agent disappeared", Failure.CLOSED),  # it closed the port while we waited
    ("agent not available for now", Failure.NO_ANSWER),  # the time was over, ours or that of libvirt's resynchronising
    ("didn't respond to", Failure.NO_ANSWER),  # the same, from 9.1 on
    # libvirt could not read a line of the guest's, or one longer than 10 MiB: it has closed its own end, and asks
    # nobody until the agent connects anew.
    ("not available due to an error", Failure.GIVEN_UP),
    ("No complete agent response found", Failure.GIVEN_UP),
    ("unable to execute QEMU agent command", Failure.GARBLED),  # as AGENT_COMMAND_FAILED, before 9.1
    ("cannot acquire state change lock", Failure.BUSY),
)


def run(lines: Lines, uuid: str, command: str, timeout: int) -> str:
    """The agent's reply. BLOCKS, up to 5 s longer than `timeout` (s), or 30 s when another holds the agent's job.

    Raises AgentError.
    """
    if libvirt_qemu is None:
        raise AgentError(Failure.UNREACHABLE, "libvirt-python comes without libvirt_qemu here")
    try:
        with lines.line(timeout) as connection:
            asked = time.monotonic()
            try:
                reply = libvirt_qemu.qemuAgentCommand(connection.domain(uuid), command, timeout, 0)
            except libvirt.libvirtError as error:
                if gone(error):
                    connection.forget(uuid)
                elapsed = time.monotonic() - asked
                code = error.get_error_code()
                raise AgentError(failure(code, str(error), elapsed, timeout), f"{error} (code {code})") from error
    except NoLine as error:
        raise AgentError(Failure.UNREACHABLE, str(error)) from error
    if len(reply) > MAX_REPLY:
        raise AgentError(Failure.GARBLED, f"the reply has {len(reply)} characters")
    return str(reply)


def failure(code: int | None, text: str, elapsed: float, timeout: float) -> Failure:
    """What kind of failure a libvirt error is that came after `elapsed` of `timeout` seconds."""
    for part, meaning in _TEXTS:
        if part in text:
            return meaning
    if code == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
        # Nothing but a port that nobody holds open makes libvirt give up before the time is over: ours, or its own.
        return Failure.CLOSED if elapsed < 0.9 * min(timeout, RESYNC_TIME) else Failure.NO_ANSWER
    return _FAILURES.get(code, Failure.UNREACHABLE)
