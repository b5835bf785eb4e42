"""The questions that can be asked about one domain from outside, and libvirt's answers.

Which of them may wait for QEMU's monitor is written in remote_protocol.x and the QEMU driver: `controlInfo` and
`state` never do, and libvirtd answers them by workers of their own even when all others are taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

import libvirt

from vmhb_worker.adapters.libvirt import constants
from vmhb_worker.adapters.libvirt.connection import Connection, gone
from vmhb_worker.adapters.libvirt.event_map import STATE_NAMESPACE
from vmhb_worker.adapters.libvirt.process import UNSEEN, Processes
from vmhb_worker.core.events import (
    Answer,
    Control,
    Job,
    Look,
    LookControl,
    LookJob,
    LookProcess,
    LookState,
    LookVitals,
    PeriodSet,
    Process,
    SetBalloonPeriod,
    State,
    Unavailable,
    Vcpu,
    Vitals,
)
from vmhb_worker.core.spoken_of import CONTROL_ERRORS, Whom

#: These never wait for QEMU.
QUICK = LookControl | LookState | LookProcess

#: One call instead of four; each of these groups costs one round trip to QEMU's monitor at most.
_STATISTICS = (
    libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_BLOCK
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
)


def ask(connection: Connection, uuid: str, look: Look, processes: Processes) -> Answer:
    """Put the question to libvirt. May block for ever, unless `look` is QUICK. Any thread.

    alive: is this domain's QEMU alive, as the host sees it?
    """
    try:
        return _put(connection, uuid, look, processes)
    except libvirt.libvirtError as error:
        if gone(error):
            connection.forget(uuid)
        return Unavailable(str(error))


def _put(connection: Connection, uuid: str, look: Look, processes: Processes) -> Answer:
    if isinstance(look, LookProcess):
        return process(uuid, processes)
    domain = connection.domain(uuid)
    match look:
        case LookControl():
            return control(*domain.controlInfo()[:3])
        case LookState():
            return State(*constants.state(*domain.state()[:2]), processes.alive(uuid))
        case LookJob():
            return job(domain.jobStats())
        case LookVitals():
            found = connection.raw.domainListGetStats([domain], _STATISTICS)
            return (
                vitals(found[0][1], time.time(), processes.throttled_seconds(uuid))
                if found
                else Unavailable("libvirt has no statistics of this domain")
            )
        case SetBalloonPeriod(seconds):
            domain.setMemoryStatsPeriod(seconds, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            return PeriodSet()


def process(uuid: str, processes: Processes) -> Process | Unavailable:
    """What its QEMU does, as the host sees it: libvirt is not asked."""
    seen = processes.look(uuid)
    return Unavailable(UNSEEN) if seen is None else Process(*seen)


def control(number: int, details: int, milliseconds: int) -> Control | Unavailable:
    """What virDomainGetControlInfo says. Of an error, whether it is QEMU's: libvirt has errors of its own, too."""
    state, reason = constants.control(number), constants.control_error(details)
    if state == "error" and CONTROL_ERRORS[reason] is not Whom.DOMAIN:
        return Unavailable(f"libvirt has an error of its own ({reason})")
    return Control(state, milliseconds / 1000)


def job(statistics: Mapping[str, Any]) -> Job:
    """What virDomainGetJobStats says."""
    if not constants.job_is_on(statistics.get("type", libvirt.VIR_DOMAIN_JOB_NONE)):
        return Job(None)
    return Job(constants.operation(statistics.get(libvirt.VIR_DOMAIN_JOB_OPERATION, -1)))


def vitals(statistics: Mapping[str, Any], read_at: float | None = None, throttled: float | str = "not read") -> Vitals:
    """What virDomainListGetStats says: the sums over all devices, None for a kind of which there is none.

    read_at: the wall clock's seconds. throttled: see `Vitals`. What the guest is sent (rx) is none of its doing: it
    arrives at a dead one, too.
    """
    return Vitals(
        balloon_updated=statistics.get("balloon.last-update"),
        vcpu_time=_sum(statistics, ("vcpu.",), (".time",)),
        io_requests=_sum(statistics, ("block.", "net."), (".rd.reqs", ".wr.reqs", ".fl.reqs", ".tx.pkts")),
        vcpus=tuple(_vcpus(statistics)),
        read_at=read_at,
        throttled=throttled,
    )


def _vcpus(statistics: Mapping[str, Any]) -> Iterator[Vcpu]:
    """Those that are plugged in, by their numbers, which need not be without gaps."""
    for number in range(statistics.get("vcpu.maximum", 0)):
        ran = statistics.get(f"vcpu.{number}.time")
        if ran is not None:
            yield Vcpu(ran, statistics.get(f"vcpu.{number}.delay"))


def _sum(statistics: Mapping[str, Any], beginnings: tuple[str, ...], endings: tuple[str, ...]) -> int | None:
    values = [value for name, value in statistics.items() if name.startswith(beginnings) and name.endswith(endings)]
    return sum(values) if values else None


def write_state(connection: Connection, uuid: str, element: str) -> None:
    """Put our state into the domain's metadata. May block for ever. Raises libvirtError, or ParseError."""
    try:
        domain = connection.domain(uuid)
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
        if domain.isPersistent():
            flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
        bare = without_namespace(element)
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, bare, "vmhbs", STATE_NAMESPACE, flags)
    except libvirt.libvirtError as error:
        if gone(error):
            connection.forget(uuid)
        raise


def without_namespace(element: str) -> str:
    """The element as virDomainSetMetadata wants it: libvirt declares prefix and namespace itself, and fails with
    "failed to create a new XML namespace" on an element that has done so already.
    """
    root = ElementTree.fromstring(element)  # noqa: S314 - our own writing
    for node in root.iter():
        node.tag = node.tag.removeprefix(f"{{{STATE_NAMESPACE}}}")
    return ElementTree.tostring(root, encoding="unicode")
