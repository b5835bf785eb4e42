"""A health check through the stock guest agent: a program of the image's is started, and its end asked for, each beat.

Each step is one command of the agent's, sent after an answered challenge; so a check takes as long as it takes, and
holds nobody's place. One runs at a time: where it is not known whether one runs, none is started for as long as one may
take. A guest controls every byte of the replies.

The commands and their replies are those of QEMU's guest agent reference, guest-exec and guest-exec-status.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Any

from vmhb_worker.core import protocol
from vmhb_worker.core.guest_text import clean
from vmhb_worker.core.health_absence import ROWS, Absent, refused
from vmhb_worker.core.protocol import TEXT_LIMIT, Check, Health, Status

#: What is run in the guest.
PROGRAM = "/etc/vmhb/health-check"
#: So many bytes of what it prints are kept; the rest is read, and dropped.
PRINTED_LIMIT = 8192
#: What runs it. qemu-ga keeps all that a program prints, up to 16 MiB, and libvirt gives up on an agent whose reply is
#: longer than 10 MiB: so it must be cut in the guest. What the program complains of (2>/dev/null) is not looked at;
#: what comes out as complaints is this shell's own, and says that the program was not run.
#:
#: The agent is root, so nobody else may be able to write the program, its interpreter, or a folder on the way there:
#: `vmhb_guest/trust.py` says the same of checks. `way` gathers a path and the folders above it, as it is written and
#: as it is found; `safe` does that for a program and what its #! names; `foul` picks what is not root's (or the agent's
#: own user's) alone. On the way, though not around a program, a folder like /tmp will do. For dash, bash, busybox.
_SHELL = "/bin/sh"
_SCRIPT = rf"""program={PROGRAM}
[ -e $program ] || {{ echo missing >&2; exit 127; }}
[ -x $program ] || {{ echo not executable >&2; exit 126; }}
n='
'
foul() {{ LC_ALL=C ls -dln $2 | while IFS=' ' read -r mode _ uid _ name; do
case $mode in d????????[tT]*) [ "$1" ] && mode=;; esac
case $mode in l*) ;; ?????w*|????????w*) uid=-;; esac
[ "$uid" = 0 ] || [ "$uid" = "$me" ] || echo "$name"; done; }}
way() {{ for w in "$1" "$(readlink -f "$1")"; do
keeps="$keeps$n$w$n${{w%/*}}/."
while [ "$w" ]; do w=${{w%/*}}; above="$above$n${{w:-/}}"; done; done; }}
safe() {{ {{ ls -d $program && readlink -f $program; }} >/dev/null || echo $program
set -f; me=$(id -u); keeps= above= p=$program
for _ in 1 2 3 4 5; do way "$p"
set -- $(head -c 256 "$p" | tr -d '\000' | head -n 1)
case $1 in '#!') shift; p=$1;; '#!'*) p=${{1#??}};; *) break;; esac
shift
case $p in */env) way "$p"
while :; do case $1 in -*|*=*) shift;; *) break;; esac; done
case $1 in ''|*/*) p=$1;; *) p=; IFS=:; for f in $PATH; do [ -e "$f" ] || continue; way "$f/."; p=$f/$1
[ -x "$p" ] && break; done; unset IFS;; esac;; esac
case $p in /*) ;; *) break;; esac
done
IFS=$n; {{ foul "" "$keeps"; foul t "$above"; }} | head -n 1; }}
bad=$(safe 2>/dev/null)
[ -z "$bad" ] || {{ echo "unsafe ${{bad##* }}" >&2; exit 126; }}
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
#: An agent that may start programs and may not say what became of them keeps what each of them printed until its own
#: end. So from the second time on it is given another one only after this (seconds): it may be configured anew.
UNTOLD_PAUSE = 600.0
_NAME = "health-check"
_OF_EXIT = {0: Status.HEALTHY, 1: Status.DEGRADED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A check's end: its report, or why there is none."""

    report: Health | None
    why: str = ""  # in words
    absent: Absent | None = None


class GuestExec:
    """The checks of one instance. `now`: seconds of one clock."""

    __slots__ = ("_not_before", "_out", "_pid", "_since", "_stale", "_untold")

    def __init__(self) -> None:
        self._pid: int | None = None  # of the check that runs
        self._since = 0.0  # when it was started, or the last try to start one left
        self._not_before = -math.inf  # no other is started: it is not known whether one runs
        self._out = False  # a step is under way
        self._stale = False  # and it was put to the boot before
        self._untold = False  # the last check that was started was not told of: the agent may not

    def step(self, now: float = 0.0) -> str | None:
        """The next command for the agent, in its JSON; None while one is under way, or none may be started."""
        if self._out or (self._pid is None and now < self._not_before):
            return None
        self._out = True
        if self._pid is None:
            self._since = now
            return _command("guest-exec", {"path": _SHELL, "arg": ["-c", _SCRIPT], "capture-output": True})
        return _command("guest-exec-status", {"pid": self._pid})

    def reset(self) -> None:
        """Another boot: what ran does not run any more. A step that is under way will end, and mean nothing."""
        self._pid, self._not_before = None, -math.inf
        self._stale, self._untold = self._out, False

    def failed(self, answered: bool, detail: str, left: bool = True) -> Outcome | None:
        """A step brought no reply. answered: the agent refused, rather than kept silent; `detail` is its word.

        left: the agent may have been given the step.
        """
        if self._is_stale():
            return None
        starting = self._pid is None
        if not answered:
            if starting and left:
                self._pause(CHECK_TIMEOUT)  # the answer is lost, which is not to say that nothing was started
            return None  # silence is the heartbeat's business
        reason = refused(detail)
        if not (ROWS[reason].not_begun if starting else ROWS[reason].runs_on):
            self._pause(UNTOLD_PAUSE if self._untold else CHECK_TIMEOUT)
            self._untold = reason is Absent.FORBIDDEN
        return Outcome(None, _refusal(reason, detail), reason)

    def replied(self, reply: str, now: float) -> Outcome | None:
        """A step's reply; None: there is nothing to tell yet."""
        if self._is_stale():
            return None
        try:
            told = json.loads(reply)["return"]
            if self._pid is None:
                self._pid, self._since = _number(told["pid"]), now
                return None
            return self._ended(told, now)
        except (ValueError, TypeError, KeyError, RecursionError):
            self._pause(CHECK_TIMEOUT)
            return Outcome(None, "the agent's reply about its check makes no sense", Absent.UNREADABLE)

    def _is_stale(self) -> bool:
        """A step has come to its end: of the boot before?"""
        stale, self._out, self._stale = self._stale, False, False
        return stale

    def _pause(self, seconds: float) -> None:
        """What was started last, if it was, is asked for no more; no other for so long after it."""
        self._pid, self._not_before = None, self._since + seconds

    def _ended(self, told: dict[str, Any], now: float) -> Outcome | None:
        if told["exited"] is not True:
            lasted = now - self._since
            if lasted < CHECK_TIMEOUT:
                return None
            return _outcome(Status.UNHEALTHY, f"has been running for {lasted:.0f} s")
        self._pid, self._untold = None, False
        complaint = _text(told.get("err-data", "")).strip()
        if complaint:
            return _not_run(complaint)
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


_REFUSALS = {
    Absent.FROZEN: "its file systems are frozen",
    Absent.FORBIDDEN: (
        "its guest agent's policy forbids guest-exec: allow guest-exec and guest-exec-status in the image "
        "(allow-rpcs or block-rpcs of qemu-ga), or use the application channel"
    ),
    Absent.NO_ROOM: f"the guest has no memory, or no room for another process, to run {PROGRAM}",
    Absent.NO_SHELL: f"{_SHELL} is missing in the guest, which runs {PROGRAM}",
    Absent.NOT_ALLOWED: (
        f"{_SHELL}, which runs {PROGRAM}, must not be run by the guest agent: see the guest's security policy"
    ),
    Absent.LOST: "its guest agent knows nothing of the check that it started: it was started anew, as a rule",
}


def _refusal(reason: Absent, detail: str) -> str:
    """In our words, what the agent said in its."""
    return _REFUSALS.get(reason) or f"the guest agent could not run {PROGRAM}: {clean(detail, TEXT_LIMIT)!r}"


_UNSAFE = "unsafe "
_COMPLAINTS = {
    "missing": (Absent.MISSING, f"{PROGRAM} is missing in the guest"),
    "not executable": (Absent.NOT_EXECUTABLE, f"{PROGRAM} cannot be run in the guest: make it executable"),
    "not started": (
        Absent.NO_ROOM,
        f"{PROGRAM} could not be started in the guest: it has no memory, or no room for another process",
    ),
}


def _not_run(said: str) -> Outcome:
    """The shell that is to run the program complains: in our words, or in its."""
    own = f"{_SHELL} in the guest could not run {PROGRAM}: {clean(said, TEXT_LIMIT)!r}"
    reason, why = _COMPLAINTS.get(said, (Absent.OTHER, own))
    if said.startswith(_UNSAFE):
        path = clean(said.removeprefix(_UNSAFE), TEXT_LIMIT)
        reason = Absent.UNSAFE
        why = f"{PROGRAM} is not run in the guest, as others than root may write {path!r}: chown root, chmod go-w"
    return Outcome(None, why, reason)
