"""Is the host itself hard pressed, from what its kernel has counted?"""

from __future__ import annotations

import math
from typing import Any

import pytest

from vmhb_worker.core.evidence import Reading, unavailable
from vmhb_worker.core.host_pressure import SHORTEST, SIGNS, STALE, UNKNOWN, Counted, Disk, HostPressure, Strain

STUCK = (Disk("sda", 100), Disk("sdb", 7))


def looks(host: HostPressure, *times: float, disks: tuple[Disk, ...] = (), **shares: Any) -> Strain:
    """Looked at then; of each sign, this share of all the time."""
    strain = UNKNOWN
    for at in times:
        counts: dict[str, Any] = {name: Reading(share * at, at) for name, share in shares.items()}
        strain = host.counted(Counted(at, disks=disks, **counts))
    return strain


@pytest.mark.parametrize(
    ("shares", "why"),
    [
        ({"memory": 0.49, "io": 0.49, "steal": 0.49, "cpu": 1.0}, ""),
        ({"memory": 0.5}, "50% of the time everything stood still for want of memory"),
        ({"steal": 0.63}, "63% of its processors' time went to other machines"),
        ({"cpu": 1.0}, ""),
    ],
)
def test_how_much_of_which_is_too_much(shares: dict[str, Any], why: str) -> None:
    """A host that is busy is none that is hard pressed."""
    strain = looks(HostPressure(), 10.0, 12.0, **shares)
    assert strain.why == why
    assert strain.since == (10.0 if why else math.inf)


@pytest.mark.parametrize(
    ("before", "after", "stuck"),
    [
        ((), (), False),
        (STUCK, STUCK, True),
        (STUCK, (Disk("sda", 101), Disk("sdb", 8)), False),
        (STUCK, (Disk("sda", 101), Disk("sdb", 7)), True),
        (STUCK, (Disk("sda", 101),), False),
    ],
)
def test_io_counts_only_with_a_disk_that_answers_nobody(
    before: tuple[Disk, ...], after: tuple[Disk, ...], stuck: bool
) -> None:
    """One process that copies a disk on an idle host waits for I/O nearly always, and harms nobody."""
    host = HostPressure()
    looks(host, 10.0, disks=before, io=0.95)
    strain = looks(host, 12.0, disks=after, io=0.95)
    assert strain.why == ("95% of the time everything waited for I/O" if stuck else "")


def test_it_lasts_from_the_first_look_that_saw_it_begin() -> None:
    """Without a pause; a look in between that saw none ends it."""
    host = HostPressure()
    assert looks(host, 2.0, 4.0, 6.0, memory=0.9).since == 2.0
    assert host.counted(Counted(8.0, memory=Reading(0.9 * 6.0, 8.0))).since == math.inf
    assert host.counted(Counted(10.0, memory=Reading(0.9 * 6.0 + 2.0, 10.0))).since == 8.0
    assert host.strain(10.0).since == 8.0


def test_what_cannot_be_read_is_unavailable_and_never_calm() -> None:
    """Each for itself; all at once, it is said once."""
    host = HostPressure()
    no = unavailable("switched off")
    for at in (10.0, 12.0):
        host.counted(Counted(at, memory=no, io=no, cpu=no, steal=Reading(0.6 * at, at)))
    strain = host.strain(12.0)
    assert strain.why == "60% of its processors' time went to other machines"
    assert strain.told(13.0) == {
        "memory": {"value": "unavailable", "reason": "switched off"},
        "io": {"value": "unavailable", "reason": "switched off"},
        "steal": {"value": 0.6, "age": 1.0},
        "cpu": {"value": "unavailable", "reason": "switched off"},
    }
    in_one_line = (
        "memory unavailable (switched off), io unavailable (switched off), steal 60%, cpu unavailable (switched off)"
    )
    assert strain.reading() == Reading(in_one_line, 12.0)
    host.counted(Counted(14.0, memory=no, io=no, cpu=no, steal=unavailable("gone")))
    assert host.strain(14.0).reading() == unavailable("switched off; gone")
    host.counted(Counted(16.0, memory=Reading(1.0, 16.0), io=no, cpu=no, steal=no))
    assert host.strain(16.0).readings[0] == no, "there is nothing yet to compare it with"


def test_before_two_looks_nothing_is_known() -> None:
    """And two that follow each other too soon are one."""
    host = HostPressure()
    assert looks(host, 10.0, 10.0 + SHORTEST / 2, memory=1.0) == UNKNOWN
    assert looks(host, 12.0, memory=1.0).since == 10.0
    assert [one["value"] for one in UNKNOWN.told(0.0).values()] == ["unavailable"] * len(SIGNS)


def test_old_looks_say_nothing_of_now() -> None:
    """The thread that looks may stand still as well."""
    host = HostPressure()
    looks(host, 10.0, 12.0, memory=1.0)
    assert host.strain(12.0 + STALE).why
    old = host.strain(12.1 + STALE)
    assert (old.why, old.since) == ("", math.inf)
    assert old.reading() == unavailable("not looked at for more than 5 s")


def test_a_count_that_makes_no_sense_is_cut() -> None:
    """A container that was moved to another kernel counts anew."""
    host = HostPressure()
    host.counted(Counted(10.0, memory=Reading(100.0, 10.0), steal=Reading(0.0, 10.0)))
    strain = host.counted(Counted(12.0, memory=Reading(1.0, 12.0), steal=Reading(50.0, 12.0)))
    assert (strain.readings[0].value, strain.readings[2].value) == (0.0, 1.0)
