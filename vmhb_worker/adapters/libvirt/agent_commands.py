"""Commands to the guest agent through libvirt, and what libvirt's errors mean for a challenge."""

from __future__ import annotations

import time

import libvirt

from vmhb_worker.adapters.libvirt import constants
from vmhb_worker.adapters.libvirt.connection import Lines, NoLine, gone
from vmhb_worker.adapters.libvirt.translations import Translations
from vmhb_worker.core.events import Failure
from vmhb_worker.core.spoken_of import failure_of
from vmhb_worker.interfaces import AgentError

try:
    import libvirt_qemu
except ImportError:  # packaged apart by some distributions
    libvirt_qemu = None

#: No honest answer is longer, and no longer one is parsed. libvirt's own limit is 10 MiB.
MAX_REPLY = 64 * 1024
#: Of an error no more is looked at: behind libvirt's own words it has the guest's, up to the same limit.
MAX_ERROR = 4096

_TRANSLATIONS = Translations()


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
                said = str(error)[:MAX_ERROR]
                raise AgentError(failure(code, said, elapsed), f"{said} (code {code})") from error
    except NoLine as error:
        raise AgentError(Failure.UNREACHABLE, str(error)) from error
    if len(reply) > MAX_REPLY:
        raise AgentError(Failure.GARBLED, f"the reply has {len(reply)} characters")
    return str(reply)


def failure(
    code: int | None, text: str, elapsed: float, _timeout: float = 0.0, translations: Translations = _TRANSLATIONS
) -> Failure:
    """What a challenge ended as that brought this error of libvirt's after `elapsed` seconds: see `core.spoken_of`."""
    if code == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
        text = translations.english(text)
    return failure_of(constants.error(code), text, elapsed)
