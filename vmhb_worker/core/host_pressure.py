"""Is the host itself short of memory, of processors, of answers from its disks? From what its kernel has counted.

Under such pressure a guest that lives, or we, may need more than a time-out. What cannot be read is *unavailable*,
never calm: then nobody is excused, and whoever reads the evidence sees why. Which pressure counts, and how much of it,
stands in `SIGNS`. Must not know where the counts come from. Pure; times are seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from vmhb_worker.core.evidence import Reading, unavailable

#: Counts closer together than this (seconds) are not compared: too short a time to speak of a share of it.
SHORTEST = 0.5
#: Counts older than this (seconds) say nothing of now: the host is looked at every 2 s.
STALE = 5.0
_NOT_YET = unavailable("not looked at yet")


@dataclass(frozen=True, slots=True)
class Disk:
    """A block device with requests under way, and how many it has ever completed."""

    name: str
    completed: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What the host's kernel has counted since it started, in seconds; or why that cannot be read.

    memory, io: in which all tasks that were not idle waited for memory, or for I/O (`full` of PSI). cpu: in which some
    task waited for a processor (`some`). steal: in which a processor was not ours but another machine's, on the average
    of all processors. disks: those with requests under way.
    """

    at: float
    memory: Reading = _NOT_YET
    io: Reading = _NOT_YET
    steal: Reading = _NOT_YET
    cpu: Reading = _NOT_YET
    disks: tuple[Disk, ...] = ()


@dataclass(frozen=True, slots=True)
class Sign:
    """One kind of pressure. limit: it counts from this share of the time on; None: never."""

    name: str
    limit: float | None
    meaning: str


#: In the order in which they are told.
SIGNS = (
    # For half of the time nobody who had something to do could do it, neither QEMUs nor we. It is near 0 on hosts that
    # are merely full of guests; systemd-oomd begins to kill at 60 %.
    Sign("memory", 0.5, "of the time everything stood still for want of memory"),
    # On a host that idles while one process copies a disk, that one waits nearly always, and this is near 100 %: so it
    # counts only together with a disk that has completed nothing all the while, which no load does to a sound one.
    Sign("io", 0.5, "of the time everything waited for I/O"),
    # This host is itself a virtual machine, and had less than half of its processors: what takes half of a time-out as
    # a rule does not fit into it any more. Neighbours of an ordinary cloud take a few per cent.
    Sign("steal", 0.5, "of its processors' time went to other machines"),
    # Near 100 % on any compute node that is well used: the kernel shares processors out fairly, and a heartbeat needs
    # little. Where we do not get our share, we notice that ourselves: see `doubt`.
    Sign("cpu", None, "of the time somebody waited for a processor"),
)


@dataclass(frozen=True, slots=True)
class Strain:
    """How much pressure there was at the last look. readings: of each of `SIGNS`, the share of the time, 0 to 1.

    since: from when on without a pause it has been too much; infinite where it is not, or not known to be. why: the
    sentence for people, "" where it is not.
    """

    since: float = math.inf
    why: str = ""
    readings: tuple[Reading, ...] = (_NOT_YET,) * len(SIGNS)

    def told(self, now: float) -> dict[str, Any]:
        """For people: each sign with its age, or why there is none."""
        return {sign.name: reading.told(now) for sign, reading in zip(SIGNS, self.readings, strict=True)}

    def reading(self) -> Reading:
        """For the evidence about one instance: all signs in one line."""
        told = [(sign.name, reading) for sign, reading in zip(SIGNS, self.readings, strict=True)]
        at = [reading.at for _, reading in told if reading.value is not None]
        if not at:
            return unavailable("; ".join(dict.fromkeys(reading.why for reading in self.readings)))
        return Reading(", ".join(f"{name} {_in_words(reading)}" for name, reading in told), at[0])


#: Before the first look.
UNKNOWN = Strain()


class HostPressure:
    """Of one host: two looks make a strain. Belongs to one thread."""

    def __init__(self) -> None:
        self._last: Counted | None = None
        self._strain = UNKNOWN

    def counted(self, counts: Counted) -> Strain:
        """The host was looked at: since the look before it, this was so."""
        last = self._last
        if last is not None and counts.at - last.at < SHORTEST:
            return self._strain
        self._last = counts
        if last is not None:
            self._strain = _strain(last, counts, self._strain.since)
        return self._strain

    def strain(self, now: float) -> Strain:
        """As it is now; unavailable where nobody has looked for long."""
        if self._last is not None and now - self._last.at > STALE:
            return _NOT_LOOKED
        return self._strain


_NOT_LOOKED = Strain(readings=(unavailable(f"not looked at for more than {STALE:g} s"),) * len(SIGNS))


def _strain(last: Counted, counts: Counted, since: float) -> Strain:
    """since: of the strain before."""
    pairs = [(getattr(last, sign.name), getattr(counts, sign.name)) for sign in SIGNS]
    readings = tuple(_share(before, after, counts.at - last.at, counts.at) for before, after in pairs)
    stuck = not set(last.disks).isdisjoint(counts.disks)
    told = zip(SIGNS, readings, strict=True)
    why = "; ".join(f"{one.value:.0%} {sign.meaning}" for sign, one in told if _too_much(sign, one, stuck))
    return Strain(min(since, last.at) if why else math.inf, why, readings)


def _share(before: Reading, after: Reading, elapsed: float, now: float) -> Reading:
    if before.value is None or after.value is None:
        return after if after.value is None else before
    share = (after.value - before.value) / elapsed
    return Reading(round(min(max(share, 0.0), 1.0), 3), now)


def _too_much(sign: Sign, reading: Reading, stuck: bool) -> bool:
    """stuck: a disk has completed nothing of what it was asked for."""
    if sign.limit is None or reading.value is None or (sign.name == "io" and not stuck):
        return False
    return bool(reading.value >= sign.limit)


def _in_words(reading: Reading) -> str:
    return f"unavailable ({reading.why})" if reading.value is None else f"{reading.value:.0%}"
