"""The faults of this host itself, one of each cause at most: it is suspect, or it does not let its guests run.

Nobody is recovered for either. Pure: belongs to the worker's book of faults, which tells what is found here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from vmhb_common.model import fault as life
from vmhb_common.model.causes import Cause, Severity
from vmhb_common.model.fault import Change, Fault, Resolution

#: Guests that wait for processors come and go: none must have been found so for this long (seconds). A worker that has
#: just started gives them as long to be found again.
STARVED_SETTLES = 120.0
#: So many of the starved are named.
NAMED = 10


@dataclass(frozen=True, slots=True)
class Kind:
    """One row. said: while it is open, for people; over: and when it is not any more."""

    severity: Severity
    said: str
    over: str


#: All that a worker says of its host.
KINDS: Mapping[Cause, Kind] = {
    Cause.HOST_SUSPECT: Kind(Severity.CRITICAL, "this host is suspect", "it is not suspect any more"),
    Cause.STARVED: Kind(
        Severity.WARNING, "this host does not let all of its instances run", "its instances are let run again"
    ),
}


class HostFaults:
    """Belongs to one thread. `now`: monotonic seconds."""

    def __init__(self, host: str, new_id: Callable[[], str]) -> None:
        self._host = host
        self._new_id = new_id
        self.open: dict[Cause, Fault] = {}
        #: uuids of those that this host does not let run.
        self.starved: set[str] = set()
        self._starved_until = -math.inf  # the last of them was found so until then

    def load(self, fault: Fault, now: float) -> bool:
        """What an earlier life of the worker left open. False: it is none of a host's, as they are known here."""
        cause = next((cause for cause in KINDS if fault.instance_uuid is None and fault.cause == cause), None)
        if cause is None:
            return False
        self.open[cause] = fault
        self._starved_until = now
        return True

    def starves(self, uuid: str) -> None:
        """This instance is not let run, and that is the host's doing."""
        self.starved.add(uuid)

    def starves_no_more(self, uuid: str, now: float) -> None:
        """It answers, has a fault of its own, or is not watched any more."""
        if uuid in self.starved:
            self.starved.discard(uuid)
            self._starved_until = now

    def see(
        self, suspect: str | None, evidence: Mapping[str, Any], now: float, wall: datetime
    ) -> list[tuple[Change, Fault]]:
        """What has changed. suspect: why the host is, None: it is not; evidence: what that rests on."""
        changes = [self._become(Cause.HOST_SUSPECT, suspect, evidence, wall)]
        starved = sorted(self.starved)
        if starved or now >= self._starved_until + STARVED_SETTLES:
            named = ", ".join(starved[:NAMED]) + (" …" if starved[NAMED:] else "")
            why = f"{len(starved)} of its instances are to run, and wait for its processors: {named}"
            told = {"starved": {"value": len(starved), "age": 0.0}, "instances": {"value": named, "age": 0.0}}
            changes.append(self._become(Cause.STARVED, why if starved else None, told, wall))
        return [change for change in changes if change is not None]

    def told(self) -> list[str]:
        """For people: each that is open, in a sentence."""
        return [f"{KINDS[cause].said}: {fault.reason}" for cause, fault in self.open.items()]

    def reminded(self, fault_id: str, wall: datetime) -> Fault | None:
        """The open one of this id, told again; None: there is none."""
        for cause, fault in self.open.items():
            if fault.fault_id == fault_id:
                self.open[cause] = life.reminded(fault, wall)
                return self.open[cause]
        return None

    def _become(
        self, cause: Cause, why: str | None, evidence: Mapping[str, Any], wall: datetime
    ) -> tuple[Change, Fault] | None:
        was = self.open.get(cause)
        if was is None and why is not None:
            made = life.of_host(self._new_id(), self._host, cause, why, evidence, wall)
            self.open[cause] = replace(made, severity=str(KINDS[cause].severity))
            return Change.RAISED, self.open[cause]
        if was is not None and why is None:
            del self.open[cause]
            return Change.CLEARED, replace(life.cleared(was, Resolution.RECOVERED, wall), reason=KINDS[cause].over)
        return None
