"""Which of systemd's units a process belongs to, and what systemd's words about a unit mean. No I/O, no clock.

A service is its unit: whoever speaks from within its control group speaks for it, and whether it has ended, or was
ended on purpose, is systemd's word.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Mapping

#: A unit that holds processes, as a folder of the control groups' tree is called.
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,247}\.(?:service|scope)")
#: What `systemctl show` is asked for.
PROPERTIES = (
    "Id",
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "Job",
    "ActiveExitTimestampMonotonic",
    "ExecMainStartTimestampMonotonic",
    "ExecMainExitTimestampMonotonic",
)
#: It has a job, or is active, from the beginning of a shutdown on, of whatever kind.
SHUTDOWN = "shutdown.target"


@dataclasses.dataclass(frozen=True)
class Home:
    """Where a process belongs."""

    unit: str = ""  #: the control group of its service; "" for none. A user's own manager's services have theirs
    keeper: str = ""  #: the unit of process 1's around it, a service or not, which that can be asked about; "" for none


NOWHERE = Home()


def home(text: str) -> Home:
    """What /proc/PID/cgroup says."""
    group = group_of(text)
    if group.startswith("/.."):
        return NOWHERE  # in no control group that we can see
    folders = group.split("/")[1:]
    held = [number for number, folder in enumerate(folders) if _UNIT.fullmatch(folder)]
    if not held:
        return NOWHERE
    # A scope (a login, a container, an application of a desktop) holds what somebody else started: many things perhaps.
    service = folders[held[-1]].endswith(".service")
    # What is below anything but slices is not process 1's: a container may have a systemd of its own.
    first = next(number for number, folder in enumerate(folders) if not folder.endswith(".slice"))
    keeper = _unescaped(folders[first]) if first == held[0] else ""
    return Home("/" + "/".join(folders[: held[-1] + 1]) if service else "", keeper)


def group_of(text: str) -> str:
    """The path of the control group that systemd, where it runs, has put the process into."""
    rows = dict(row.split(":", 2)[1:] for row in text.splitlines() if row.count(":") >= 2)
    named = rows.get("name=systemd", "/")
    return named if named != "/" else rows.get("", "/")


def title(unit: str) -> str:
    """What people call the service of this control group."""
    return _unescaped(unit.rpartition("/")[2]).rpartition(".")[0]


def is_own(unit: str, keeper: str) -> bool:
    """Is this control group the keeper's itself, so that process 1 knows all about it? Else it is inside of it."""
    return _unescaped(unit.rpartition("/")[2]) == keeper


def own_service(home: Home) -> str:
    """The service of process 1's that this is in; "" for none. Nobody gets into one who was not put there by it.

    But into a user's own manager's that user does, and in a container whoever is root there.
    """
    own = home.unit != "" and is_own(home.unit, home.keeper) and not home.keeper.startswith("user@")
    return home.unit if own else ""


def _unescaped(folder: str) -> str:
    # systemd puts this before what the kernel has a meaning of its own for.
    return folder[1:] if folder.startswith("_") else folder


class Word(enum.Enum):
    """What systemd says of a unit, as far as it matters to whoever would accuse a service of its own end or silence."""

    RUNS = "it runs"
    STARTS = "somebody has started it anew, and it is not ready yet"
    STOPPING = "it is being stopped on purpose"
    STOPPED = "it was stopped on purpose"
    BROKE = "it ended by itself, or was ended for what it did"
    UNKNOWN = "it can't be asked, or says what we don't know"


@dataclasses.dataclass(frozen=True)
class Told:
    """What it says of one unit, in our words. began: when somebody last had its main process started, in monotonic
    seconds; 0.0 where systemd has done so since, by itself, or where that is not known.
    """

    word: Word
    began: float = 0.0


def told(shown: Mapping[str, str]) -> Told:
    """From `systemctl show`."""
    began = 0 if _number(shown, "NRestarts") else _when(shown, "ExecMainStart")
    return Told(word(shown), began / 1e6)


def word(shown: Mapping[str, str]) -> Word:
    """What it says of one unit."""
    meaning = STATES.get(shown.get("ActiveState", ""))
    found = Word.UNKNOWN if meaning is None else meaning(shown)
    # Of a scope it has started nothing, and doesn't know how it ended: only that it is being stopped.
    known = found is Word.STOPPING or not shown.get("Id", "").endswith(".scope")
    return found if known else Word.UNKNOWN


def shuts_down(shown: Mapping[str, str]) -> bool | None:
    """What it says of SHUTDOWN: is the machine on its way down? None: not known."""
    state = shown.get("ActiveState")
    return None if state is None else state in ("active", "activating") or shown.get("Job", "") not in ("", "0")


def read(text: str) -> dict[str, dict[str, str]]:
    """The answer of `systemctl show`, by unit."""
    blocks = (dict(row.partition("=")[::2] for row in block.splitlines()) for block in text.split("\n\n"))
    return {block["Id"]: block for block in blocks if "Id" in block}


#: Why a unit may be found to have ended although it was stopped on purpose. A service that ends with 143 on SIGTERM has
#: failed by its "exit-code"; one that does not end in its time, by "timeout". What is not here, a watchdog that ran out
#: or no memory, is never on purpose.
_BY_THE_STOP = frozenset({"success", "exit-code", "signal", "core-dump", "timeout"})


def _on_purpose(shown: Mapping[str, str]) -> bool:
    """Had systemd begun to stop it before its main process ended?"""
    began, left, ended = (_when(shown, name) for name in ("ExecMainStart", "ActiveExit", "ExecMainExit"))
    # One that left in an earlier life, and failed to start in this one, was not stopped.
    return shown.get("Result") in _BY_THE_STOP and 0 < left >= began and (not ended or left <= ended)


def _deactivating(shown: Mapping[str, str]) -> Word:
    stopped_while_it_started = shown.get("Result") == "success" and not _when(shown, "ExecMainExit")
    return Word.STOPPING if stopped_while_it_started or _on_purpose(shown) else Word.BROKE


def _inactive(shown: Mapping[str, str]) -> Word:
    # systemd forgets a unit that ended well and that nothing wants. It was stopped, or had done what it was to do.
    forgotten = not _when(shown, "ActiveExit")
    return Word.STOPPED if forgotten or _on_purpose(shown) else Word.BROKE


def _failed(shown: Mapping[str, str]) -> Word:
    return Word.STOPPED if _on_purpose(shown) else Word.BROKE


def _activating(shown: Mapping[str, str]) -> Word:
    # systemd counts its own restarts since somebody last started it.
    itself = shown.get("SubState", "").startswith("auto-restart") or _number(shown, "NRestarts")
    return Word.BROKE if itself else Word.STARTS


def _runs(_shown: Mapping[str, str]) -> Word:
    return Word.RUNS


#: systemd's states of a unit -> what is meant.
STATES: Mapping[str, Callable[[Mapping[str, str]], Word]] = {
    "active": _runs,
    "reloading": _runs,
    "refreshing": _runs,
    "maintenance": _runs,
    "activating": _activating,
    "deactivating": _deactivating,
    "inactive": _inactive,
    "failed": _failed,
}


def _when(shown: Mapping[str, str], what: str) -> int:
    """Microseconds since the boot; 0: it has not happened."""
    return _number(shown, f"{what}TimestampMonotonic")


def _number(shown: Mapping[str, str], name: str) -> int:
    said = shown.get(name, "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else 0
