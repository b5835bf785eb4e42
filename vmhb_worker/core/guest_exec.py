"""A health check through the stock guest agent: a program of the image's is started, and its end asked for, each beat.

Each step is one command of the agent's, sent after an answered challenge; so a check takes as long as it takes, and
holds nobody's place. One runs at a time. A guest controls every byte of the replies.

The commands and their replies are those of QEMU's guest agent reference, guest-exec and guest-exec-status.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from vmhb_worker.core import protocol
from vmhb_worker.core.protocol import TEXT_LIMIT, Check, Health, Status, clean

#: What is run in the guest.
PROGRAM = "/etc/vmhb/health-check"
#: So many bytes of what it prints are kept; the rest is read, and dropped.
PRINTED_LIMIT = 8192
#: What runs it. qemu-ga keeps all that a program prints, up to 16 MiB, and libvirt gives up on an agent whose reply is
#: longer than 10 MiB: so it must be cut in the guest. What the program complains of (2>/dev/null) is not looked at;
#: what comes out as complaints is this shell's own, and says that the program was not run.
_SHELL = "/bin/sh"
_SCRIPT = f"""program={PROGRAM}
[ -e $program ] || {{ echo missing >&2; exit 127; }}
[ -x $program ] || {{ echo not executable >&2; exit 126; }}
exec 3>&1
run() {{ {{ $program 3>&- 4>&-; echo $? >&4; }} | {{ head -c {PRINTED_LIMIT} >&3; cat >/dev/null; }}; }}
code=$(run 4>&1 2>/dev/null)
[ -n "$code" ] || {{ echo not started >&2; exit 125; }}
exit $code
"""
#: The agent has this long for one step (seconds); the check itself may take longer.
STEP_TIMEOUT = 3
#: A check that runs for longer than this is taken for hung, and for unhealthy (seconds).
CHECK_TIMEOUT = 30.0
_NAME = "health-check"
_OF_EXIT = {0: Status.HEALTHY, 1: Status.DEGRADED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A check's end: its report, or why there is none."""

    report: Health | None
    why: str = ""


class GuestExec:
    """The checks of one instance."""

    __slots__ = ("_out", "_pid", "_since")

    def __init__(self) -> None:
        self._pid: int | None = None  # of the check that runs
        self._since = 0.0
        self._out = False  # a step is under way

    def step(self) -> str | None:
        """The next command for the agent, in its JSON; None while one is under way."""
        if self._out:
            return None
        self._out = True
        if self._pid is None:
            return _command("guest-exec", {"path": _SHELL, "arg": ["-c", _SCRIPT], "capture-output": True})
        return _command("guest-exec-status", {"pid": self._pid})

    def reset(self) -> None:
        """Another boot: what ran does not run any more. A step that is under way will end."""
        self._pid = None

    def failed(self, answered: bool, detail: str) -> Outcome | None:
        """A step brought no reply. answered: the agent refused, rather than kept silent; `detail` is its word."""
        self._out = False
        if not answered:
            return None  # silence is the heartbeat's business
        self._pid = None
        return Outcome(None, _refusal(detail))

    def replied(self, reply: str, now: float) -> Outcome | None:
        """A step's reply; None: there is nothing to tell yet."""
        self._out = False
        try:
            told = json.loads(reply)["return"]
            if self._pid is None:
                self._pid, self._since = _number(told["pid"]), now
                return None
            return self._ended(told, now)
        except (ValueError, TypeError, KeyError, RecursionError):
            self._pid = None
            return Outcome(None, "the agent's reply about its check makes no sense")

    def _ended(self, told: dict[str, Any], now: float) -> Outcome | None:
        if told["exited"] is not True:
            lasted = now - self._since
            if lasted < CHECK_TIMEOUT:
                return None
            return _outcome(Status.UNHEALTHY, f"has been running for {lasted:.0f} s")
        self._pid = None
        complaint = _text(told.get("err-data", "")).strip()
        if complaint:
            return Outcome(None, _complaint(complaint))
        if "signal" in told:
            return _outcome(Status.UNHEALTHY, f"was killed by signal {_number(told['signal'])}")
        code = _number(told["exitcode"])
        status = _OF_EXIT.get(code, Status.UNHEALTHY)
        said = _text(told.get("out-data", ""))
        return Outcome(Health(status, _checks(said, status, f"ended with exit code {code}")))


def _command(name: str, arguments: dict[str, Any]) -> str:
    return json.dumps({"execute": name, "arguments": arguments})


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("not a number")
    return value


def _text(data: Any) -> str:
    try:
        return base64.b64decode(data, validate=True).decode("utf-8", "replace")
    except binascii.Error:
        return ""


def _checks(said: str, status: Status, plain: str) -> tuple[Check, ...]:
    """What it printed: a report as the protocol has it, of which the checks are taken; or a text."""
    try:
        return protocol.health({**json.loads(said), "status": str(status)}).checks
    except (ValueError, TypeError, RecursionError, protocol.Refused):
        return (Check(_NAME, status, clean(said.strip(), TEXT_LIMIT) or ("" if status is Status.HEALTHY else plain)),)


def _outcome(status: Status, message: str) -> Outcome:
    return Outcome(Health(status, (Check(_NAME, status, message),)))


def _refusal(detail: str) -> str:
    """In our words, what the agent said in its; they are the same since guest-exec there is."""
    if "frozen" in detail:
        return "its file systems are frozen"
    if "has been disabled" in detail or "has not been found" in detail:
        return (
            "its guest agent's policy forbids guest-exec: allow guest-exec and guest-exec-status in the image "
            "(allow-rpcs or block-rpcs of qemu-ga), or use the application channel"
        )
    if "No such file" in detail:
        return f"{_SHELL} is missing in the guest, which runs {PROGRAM}"
    if "ermission denied" in detail:
        return f"{_SHELL}, which runs {PROGRAM}, must not be run by the guest agent: see the guest's security policy"
    return f"the guest agent could not run {PROGRAM}: {clean(detail, TEXT_LIMIT)!r}"


_COMPLAINTS = {
    "missing": f"{PROGRAM} is missing in the guest",
    "not executable": f"{PROGRAM} cannot be run in the guest: make it executable",
    "not started": f"{PROGRAM} could not be started in the guest: it has no memory, or no room for another process",
}


def _complaint(said: str) -> str:
    """Of the shell that is to run the program: in our words, or in its."""
    return _COMPLAINTS.get(said, f"{_SHELL} in the guest could not run {PROGRAM}: {clean(said, TEXT_LIMIT)!r}")
