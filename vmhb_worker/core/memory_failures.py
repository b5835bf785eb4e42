"""What the host's processor said of one instance's memory: what is a fault, and what is only counted.

A guest may go on answering on memory that is broken below it. So no answer ends this: a boot does, or its QEMU's end.
"""

from __future__ import annotations

from collections import Counter

from vmhb_worker.core.events import MemoryFailed
from vmhb_worker.core.evidence import Reading
from vmhb_worker.core.spoken_of import MEMORY_FAILURES

#: What a newer libvirt, or a newer QEMU, calls a recipient or an action that has no row.
_NEW = "*"
_EARLIER = "told before the worker was restarted"


def is_a_fault(failure: MemoryFailed) -> bool:
    """Has the instance, or its QEMU, lost what it worked with? Of what is half known, the half that is known counts; of
    what is not known at all, nobody knows, and nobody is accused."""
    named = failure.recipient, failure.action
    known = [fault for row, fault in MEMORY_FAILURES.items() if _fits(row, named)]
    return bool(known) and all(known) and named != (_NEW, _NEW)


def _fits(row: tuple[str, str], named: tuple[str, str]) -> bool:
    return all(name in (word, _NEW) for word, name in zip(row, named, strict=True))


class MemoryFailures:
    """Of one instance. `failed`: what its fault is; "": it has none."""

    __slots__ = ("_at", "_counts", "failed")

    def __init__(self) -> None:
        self.failed = ""
        self._at: float | None = None
        self._counts: Counter[str] = Counter()

    def heard(self, failure: MemoryFailed, now: float) -> bool:
        """Count it. Is it one to be accused of, and the first in this boot?"""
        self._counts[str(failure)] += 1  # of a handful of kinds: their words are ours
        if self.failed or not is_a_fault(failure):
            return False
        self.failed, self._at = str(failure), now
        return True

    def resume(self) -> None:
        """A fault is open for it, since before the worker was restarted, and it has not been booted since."""
        self.failed = _EARLIER

    def over(self) -> None:
        """It boots, or does not run any more: what it works with next is other memory, as far as anybody knows."""
        self.failed, self._at = "", None

    def reading(self) -> Reading:
        """As evidence."""
        return Reading(self.failed or False, self._at)

    def told(self) -> dict[str, int]:
        """How often each kind was told of, in this life of the worker: for people."""
        return dict(self._counts)
