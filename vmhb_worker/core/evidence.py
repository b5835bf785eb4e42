"""What is known of a suspect: the witnesses, and the one table of what they say.

To add a piece of evidence, add a line to `Evidence`, and fill it where it is seen. What a fault tells, the tables in
the docs, the example of a notification and the tests are made of that line. Nothing in here decides.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints


class Witness(enum.Enum):
    """Who can tell something about a guest: what it proves, and while it is fresh. On which guests: see `Evidence`."""

    AGENT = "agent"
    APPLICATION = "application"
    BALLOON = "balloon"
    LIBVIRT = "libvirt's state"
    VCPU = "vCPU time"
    IO = "I/O"
    QEMU = "QEMU's process"
    HOST = "the host"


class Balloon(enum.Enum):
    """What the guest's balloon driver, a part of its kernel, said when it was asked."""

    ANSWERED = "answered"
    NO_ANSWER = "no answer"


class System(enum.Enum):
    """What runs in the guest, as far as its balloon is concerned."""

    LINUX = "linux"  # the driver is a part of the kernel, and answers from an interrupt's work
    WINDOWS = "windows"  # a service answers, as long as nobody stops it: its silence says nothing of the kernel
    OTHER = "other"


#: What `panic` says of a guest that told that it saves a crash dump; True of one that merely panicked.
CRASH_DUMP = "crash_dump"


@dataclass(frozen=True, slots=True)
class Reading:
    """One input of a verdict: what was seen, and when (monotonic seconds). Value None: not available, and `why`."""

    value: Any = None
    at: float | None = None
    why: str = "not looked at"

    def told(self, now: float) -> dict[str, Any]:
        """For the notification: value and age in seconds, or why there is none."""
        if self.value is None:
            return {"value": "unavailable", "reason": self.why}
        value = self.value.value if isinstance(self.value, enum.Enum) else self.value
        age = None if self.at is None else round(max(0.0, now - self.at), 1)
        return {"value": value, "age": age}


def unavailable(why: str) -> Reading:
    """A reading that there isn't."""
    return Reading(None, None, why)


_UNSEEN = Reading()


@dataclass(frozen=True, slots=True)
class Testimony:
    """What is to be known of one kind of evidence, for the docs. example: as a notification may have it.

    by: whose word it is. source: where it comes from. tells: what it tells apart. fresh: how old it is at most when a
    verdict rests on it. guests: of which it can be had.
    """

    by: Witness
    source: str
    tells: str
    fresh: str
    guests: str
    example: Reading


_EVER = "told when it happens"
_ASKED = "asked for at each look: after the first miss, and every ``probe_interval``"
_PROBE = "counted during the last probe that came to its end"
_ALL = "all"


def _told(  # noqa: PLR0913 - a line of a table
    by: Witness, source: str, tells: str, fresh: str, example: Any, *, guests: str = _ALL, ago: float | None = 0.2
) -> Testimony:
    """A line of the table. example: a value, or a `Reading`. ago: its age in seconds."""
    shown = example if isinstance(example, Reading) else Reading(example, None if ago is None else -ago)
    return Testimony(by, source, tells, fresh, guests, shown)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a suspect. Every field is always told, the unavailable ones too.

    This is the table: a line for each kind, in the order in which they are told. What is counted during a probe is here
    when the probe has come to its end, so that no rule sees half of one.
    """

    domain: Annotated[
        Reading,
        _told(Witness.LIBVIRT, "``virDomainGetState``: state (reason)", "for people", _ASKED, "running (booted)"),
    ] = _UNSEEN
    process: Annotated[
        Reading,
        _told(
            Witness.QEMU,
            "QEMU's process, by its pid file: is it alive?",
            "for people",
            _ASKED,
            True,
            guests="where the worker sees QEMU's processes",
        ),
    ] = _UNSEEN
    occupied: Annotated[
        Reading,
        _told(
            Witness.QEMU,
            "``virDomainGetControlInfo``, which never blocks: for how many seconds has somebody been waiting for "
            "QEMU's monitor?",
            "5 s or more: a QEMU that hangs from a guest that does",
            "asked for every second while somebody waits",
            0.0,
        ),
    ] = _UNSEEN
    main_thread: Annotated[
        Reading,
        _told(
            Witness.QEMU,
            "for how many seconds has QEMU's main thread stood still? By ``/proc/PID``: it is stopped, or waits for "
            "something other than work, and has not gone to sleep a further time",
            "5 s or more: a QEMU that is stopped or hangs from a guest that does; nobody need wait for it",
            "asked for before anything that may wait for QEMU, and every second while it stands still",
            0.0,
            guests="where the worker sees QEMU's processes",
        ),
    ] = _UNSEEN
    guest_runs: Annotated[
        Reading,
        _told(
            Witness.VCPU,
            "does the CPU time of QEMU's process go on, its guest's included, while its main thread stands still, or "
            "its monitor is taken?",
            "a main loop that is blocked from a QEMU that stands still",
            "asked for every second meanwhile",
            unavailable("QEMU's monitor is free"),
            guests="where the worker sees QEMU's processes",
        ),
    ] = _UNSEEN
    port: Annotated[
        Reading,
        _told(
            Witness.AGENT,
            "does the guest hold the channel's port open?",
            "an agent that is gone from one that is stuck",
            "told when it changes, and read anew every 60 s where it matters",
            True,
            ago=86.4,
        ),
    ] = _UNSEEN
    balloon: Annotated[
        Reading,
        _told(
            Witness.BALLOON,
            "the balloon probe, see below",
            "a dead kernel from a stuck user space",
            "asked for at each look; its silence counts only where it had answered right until the guest fell silent",
            Balloon.NO_ANSWER,
            guests="with a balloon whose driver has answered in this boot; not on Windows, where a service answers",
        ),
    ] = _UNSEEN
    balloon_fresh: Annotated[
        Reading,
        _told(
            Witness.BALLOON,
            "had the balloon reported within its period and 2 s of the last acknowledgement, by the host's clock?",
            "a kernel that died from a driver that had left before; unknown: a second sign is asked for",
            "seen at a suspicion's first look",
            True,
            guests="whose balloon reports by itself (``[libvirt] mem_stats_period_seconds`` of Nova's is not 0)",
        ),
    ] = _UNSEEN
    outlived_port: Annotated[
        Reading,
        _told(
            Witness.BALLOON,
            "did the balloon report more than one period after the guest had closed its port?",
            "a guest that fell asleep (s2idle), which stops both at once, from one that died later",
            "seen at each look",
            unavailable("its port is open"),
            guests="whose port is closed",
        ),
    ] = _UNSEEN
    connection: Annotated[
        Reading,
        _told(
            Witness.QEMU,
            "is the application channel's socket connected to QEMU?",
            "for people",
            "known at all times",
            unavailable("the agent is reached through libvirt"),
            guests="with the application channel",
        ),
    ] = _UNSEEN
    other_channel: Annotated[
        Reading,
        _told(
            Witness.AGENT,
            "does the agent of an instance that is judged by its application answer a challenge?",
            "an application that is gone from a guest that is",
            _ASKED,
            unavailable("the instance has no other channel"),
            guests="judged by their application, with an agent beside it",
        ),
    ] = _UNSEEN
    system: Annotated[
        Reading,
        _told(
            Witness.AGENT,
            "what runs in it: the image's property (``os_distro``, ``os_type``), Hyper-V features or libosinfo in the "
            "domain's XML; else what its agent (``guest-get-osinfo``) or its application (``hello``) says",
            "how much a silent balloon proves",
            "of this boot",
            System.LINUX,
            ago=None,
        ),
    ] = _UNSEEN
    vcpu: Annotated[
        Reading,
        _told(
            Witness.VCPU,
            "share of the time that the busiest of the guest's vCPUs ran",
            "near 1: a spinning kernel, near 0: a halted one, or one that sleeps",
            _PROBE,
            1.0,
        ),
    ] = _UNSEEN
    delayed: Annotated[
        Reading,
        _told(
            Witness.VCPU,
            "share of the time that it was to run and waited for one of the host's processors (``vcpu.N.delay``)",
            "a guest that is starved from a dead one",
            _PROBE,
            0.0,
            guests="with libvirt 8.0 or later",
        ),
    ] = _UNSEEN
    throttled: Annotated[
        Reading,
        _told(
            Witness.VCPU,
            "share of the time for which a CPU quota of its own held it back (``cpu.stat`` of its cgroups)",
            "one that has used up its quota from one whose host has no time for it",
            _PROBE,
            0.0,
            guests="where the worker sees QEMU's process and its cgroups",
        ),
    ] = _UNSEEN
    io: Annotated[
        Reading,
        _told(
            Witness.IO,
            "block requests, and packets that the guest has sent",
            "what still works from what is dead",
            _PROBE,
            0,
            guests="with a disk or a network card",
        ),
    ] = _UNSEEN
    counted: Annotated[
        Reading,
        _told(
            Witness.HOST,
            "for how many seconds the four before were counted",
            "for people; a guest must have been still for 5 s to be called asleep",
            _PROBE,
            2.5,
        ),
    ] = _UNSEEN
    panic: Annotated[
        Reading,
        _told(
            Witness.LIBVIRT,
            "did the panic device tell of a panic? ``crash_dump``: and that the guest saves a crash dump",
            "a panic from a mere hang",
            _EVER,
            False,
            guests="with a panic device",
            ago=None,
        ),
    ] = _UNSEEN
    watchdog: Annotated[
        Reading,
        _told(
            Witness.LIBVIRT,
            "did the guest's emulated watchdog fire?",
            "for people; where the watchdog pauses the guest, a cause",
            _EVER,
            False,
            guests="with a watchdog",
            ago=None,
        ),
    ] = _UNSEEN
    memory: Annotated[
        Reading,
        _told(
            Witness.HOST,
            "did libvirt tell that memory of the guest's or of QEMU's is broken (``MEMORY_FAILURE``)? Whose, and what "
            "QEMU did; not those that the guest was told of, or that nobody used",
            "a host that must not run it from a guest that is ill",
            _EVER,
            False,
            ago=None,
        ),
    ] = _UNSEEN
    host: Annotated[
        Reading,
        _told(
            Witness.HOST,
            "how hard pressed the host itself is: see `Doubt`_",
            "a guest's trouble from its host's",
            "read every 2 s",
            "not under pressure",
        ),
    ] = _UNSEEN
    #: True while something that can change the verdict is still on its way.
    pending: bool = False

    def told(self, now: float) -> dict[str, Any]:
        """Every input with its age in seconds."""
        return {name: getattr(self, name).told(now) for name in TABLE}


#: Name -> what is to be known of it, in the order in which they are told.
TABLE: dict[str, Testimony] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Evidence, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}


def example() -> dict[str, Any]:
    """What a notification of a dead kernel may say."""
    return {name: line.example.told(0.0) for name, line in TABLE.items()}
