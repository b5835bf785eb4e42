"""The balloon's statistics periods that probes have changed, until they have been put back.

The one to be put back is on disk before it is changed, so that a worker that dies in between finds it. Belongs to the
engine's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from vmhb_common.app import crashpoint
from vmhb_worker.core.events import Look, Looked, PeriodSet, SetBalloonPeriod
from vmhb_worker.engine.unit_of_work import Changes
from vmhb_worker.interfaces import Hypervisor

#: Hands a look that may be taken now to the engine, from any thread.
Later = Callable[[str, SetBalloonPeriod], None]


class Periods:
    """uuid -> the period that the domain had before it was probed, seconds."""

    def __init__(self, saved: Mapping[str, int], hypervisor: Hypervisor, changes: Changes, later: Later) -> None:
        """later: called once the period to be put back is stored; it must lead to `stored`."""
        self._old = dict(saved)
        self._hypervisor = hypervisor
        self._changes = changes
        self._later = later

    def __iter__(self) -> Iterator[str]:
        return iter(self._old)

    def of(self, uuid: str, told: int | None) -> int | None:
        """The domain's own period; told: what its XML says, which a probe may have changed."""
        return self._old.get(uuid, told)

    def look(self, uuid: str, look: Look, period: int | None) -> None:
        """Take a look. One that changes the period waits until the old one is stored."""
        if isinstance(look, SetBalloonPeriod) and uuid not in self._old and period is not None:
            self._old[uuid] = period
            self._changes.probe(uuid, period, lambda: self._later(uuid, look))
        else:
            self._hypervisor.look(uuid, look)

    def stored(self, uuid: str, look: SetBalloonPeriod) -> None:
        """The old period is on disk: change it."""
        crashpoint.reach("probe.stored")
        self._hypervisor.look(uuid, look)

    def looked(self, uuid: str, looked: Looked) -> None:
        """Forget the old period once it has been put back."""
        if isinstance(looked.look, SetBalloonPeriod) and isinstance(looked.answer, PeriodSet):
            crashpoint.reach("probe.set")
            if looked.look.seconds == self._old.get(uuid):
                self.forget(uuid)

    def put_back(self, uuid: str) -> None:
        """Have the old period again, where a probe did not come to its end: the worker died, or the look failed."""
        if uuid in self._old:
            self._hypervisor.look(uuid, SetBalloonPeriod(self._old[uuid]))

    def forget(self, uuid: str) -> None:
        """Nothing is to be put back."""
        if self._old.pop(uuid, None) is not None:
            self._changes.probe(uuid, None)
