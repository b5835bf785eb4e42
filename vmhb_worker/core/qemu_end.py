"""A QEMU whose process has ended, while libvirt has not said so: a suspicion, and told as an alarm if that lasts.

The host's kernel tells of the end at once; whether it was a wish, a move or a failure only libvirt knows, and says 1 to
2 s later. So the end alone is no fault. Whether it is still so is asked before anything is said: a new QEMU may run the
domain by then. Belongs to one domain's life; times are seconds of the monotonic clock.
"""

from __future__ import annotations

import math

from vmhb_worker.core.events import Answer, State
from vmhb_worker.core.evidence import Reading

#: libvirt has its own word for it within 2 s, as a rule. After this (seconds) that it has none is told, and looked for
#: again as often.
PATIENCE = 5.0
#: In these states libvirt knows: it ends what powered off by itself, one after the other, and its event is on its way.
_LIBVIRT_KNOWS = frozenset({"shutoff", "shutdown"})


class UntoldEnd:
    """Of one domain. due_at: when it is to be looked whether it is still so; infinite: nothing is suspected."""

    __slots__ = ("_since", "due_at")

    def __init__(self) -> None:
        self._since: float | None = None
        self.due_at = math.inf

    @property
    def suspected(self) -> bool:
        """Has its QEMU ended, as far as is known?"""
        return self._since is not None

    def heard(self, now: float) -> None:
        """The host's kernel says so."""
        if self._since is None:
            self._since, self.due_at = now, now + PATIENCE

    def over(self) -> None:
        """libvirt has said what became of it, or another QEMU runs it."""
        self._since, self.due_at = None, math.inf

    def due(self, now: float) -> bool:
        """Is it to be looked at now? True once in a while."""
        if now < self.due_at:
            return False
        self.due_at = now + PATIENCE
        return True

    def confirmed(self, answer: Answer, at_work: bool, now: float) -> bool:
        """Has libvirt had its time, and takes it for one that runs? True once. What cannot be seen is asked again.

        at_work: libvirt, or Nova, is at something with it that may end like this.
        """
        if self._since is None or not isinstance(answer, State):
            return False
        if answer.process_alive is not False:
            self.over()
            return False
        told = now < self._since + PATIENCE or math.isinf(self.due_at)
        if told or at_work or answer.state in _LIBVIRT_KNOWS:
            return False
        self.due_at = math.inf
        return True

    def reading(self, seen: Reading) -> Reading:
        """As evidence, in place of what was seen at the last look."""
        return seen if self._since is None else Reading(False, self._since)
