"""Whose an instance is, and where it is: Nova's word, never a worker's. Decides nothing.

An instance's project never changes, so it is kept once Nova has told it. Who does not answer is not asked again by the
next fault: each question may take seconds. Where there is no Nova to ask ([nova] is not configured), what the worker
says of its instance is all that is known of it.

Threads: any.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from vmhb_common.model.fault import Fault
from vmhb_consumer.doubt_rules import Place, Unknown, Whereabouts

#: For so long (seconds) a Nova that did not answer is not asked by others.
MUTE = 10.0
#: Of so many instances it is kept whose they are.
MOST = 20_000
#: What is said of it, the same for each instance: it is logged once.
NOT_KNOWN = "where it is, and whose, is not known"


class Whose:
    """As one consumer knows it."""

    def __init__(
        self, locate: Callable[[str], Place | Unknown] | None, now: Callable[[], float] = time.monotonic
    ) -> None:
        """locate: asks Nova about this instance, BLOCKS and raises nothing; None: there is none to ask."""
        self._locate = locate
        self._now = now
        self._lock = threading.Lock()
        self._projects: OrderedDict[str, str | None] = OrderedDict()
        self._mute: tuple[float, Unknown] = (-MUTE, Unknown(""))

    def place(self, fault: Fault) -> Whereabouts:
        """BLOCKS for some seconds: where it is now. None: there is no Nova, or it is no instance's."""
        if self._locate is None or fault.instance_uuid is None:
            return None
        with self._lock:
            at, mute = self._mute
        if self._now() - at < MUTE:
            return mute
        said = self._locate(fault.instance_uuid)
        with self._lock:
            if isinstance(said, Unknown):
                unknown = Unknown(f"{NOT_KNOWN}: {said.why}")
                self._mute = (self._now(), unknown)
                return unknown
            self._note(fault.instance_uuid, said.project_id)
            return said

    def named(self, fault: Fault) -> Fault | Unknown:
        """BLOCKS for some seconds where that is not known yet: the fault as one of the project that Nova says."""
        if fault.instance_uuid is None:
            return replace(fault, project_id=None)
        if self._locate is None:
            return fault
        with self._lock:
            known = fault.instance_uuid in self._projects
            project = self._projects.get(fault.instance_uuid)
        if known:
            return replace(fault, project_id=project)
        place = self.place(fault)
        return replace(fault, project_id=place.project_id) if isinstance(place, Place) else place or fault

    def _note(self, instance_uuid: str, project: str | None) -> None:
        if project is None:
            return  # it is gone, or this Nova does not tell: another time it may
        self._projects[instance_uuid] = project
        self._projects.move_to_end(instance_uuid)
        while len(self._projects) > MOST:
            self._projects.popitem(last=False)
