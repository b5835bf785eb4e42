"""Faults that are over and told again: the newest few of each instance, whatever a guest does."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from tests.fakes import a_fault
from vmhb_common.model.fault import Fault, FaultState, Resolution
from vmhb_worker.core.cleared_faults import KEPT, ClearedFaults

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def over(name: str, minute: int, uuid: str | None = "vm") -> Fault:
    cleared = {"state": FaultState.CLEARED, "resolution": Resolution.RECOVERED}
    return replace(a_fault(name, **cleared), instance_uuid=uuid, cleared_at=NOON + timedelta(minutes=minute))


def test_the_oldest_goes_when_there_are_too_many() -> None:
    """It was told when it was cleared; what is told again are the newest of the instance."""
    book = ClearedFaults()
    assert [book.add(over(f"f{minute}", minute), 3) for minute in range(KEPT + 2)] == [(), (), (), ("f0",), ("f1",)]
    assert book.take("vm", "f0") is None
    assert book.take("vm", "f4") == (over("f4", 4), 2)
    assert len(book) == KEPT - 1


def test_the_order_in_which_they_come_is_no_matter() -> None:
    """A file has them in the order of their ids: the times that they were cleared at count."""
    book = ClearedFaults()
    minutes = (5, 1, 4, 2, 3, 0)
    dropped = [which for minute in minutes for which in book.add(over(f"f{minute}", minute), 3)]
    assert sorted(dropped) == ["f0", "f1", "f2"]


def test_of_those_cleared_at_once_the_last_stays() -> None:
    """A turn of the loop has one time for all of them."""
    book = ClearedFaults()
    for name in "zyxa":
        dropped = book.add(over(name, 0), 3)
    assert dropped == ("z",)


def test_instances_do_not_push_each_others_out() -> None:
    """Nor does one push out the host's own."""
    book = ClearedFaults()
    book.add(over("host", 0, None), 3)
    book.add(over("other", 0, "vm-2"), 3)
    for minute in range(100):
        book.add(over(f"f{minute}", minute), 3)
    assert len(book) == KEPT + 2
    assert book.take("", "host") == (over("host", 0, None), 2)
    assert book.take("vm-2", "other") is not None


def test_nothing_is_kept_of_who_has_nothing_left() -> None:
    """Told often enough: forgotten; and one that was never cleared counts from when it was raised."""
    book = ClearedFaults()
    strange = replace(over("f", 0), cleared_at=None)
    book.add(strange, 1)
    assert book.take("vm", "f") == (strange, 0)
    assert (len(book), book._of) == (0, {})
    assert book.take("vm", "f") is None
