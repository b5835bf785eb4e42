"""What a consumer must be able to rely on, whatever the worker, the broker or the disk went through."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from tests.stage.consumer import Notification

RAISED, UPDATED, CLEARED = "vmhb.fault.raised", "vmhb.fault.updated", "vmhb.fault.cleared"


def stories(read: Iterable[Notification]) -> dict[str, list[Notification]]:
    """The notifications of each fault, in the order in which they were read, duplicates dropped as receivers do."""
    told: dict[str, list[Notification]] = {}
    seen: dict[tuple[str, int], Notification] = {}
    for one in read:
        if not one.event_type.startswith("vmhb.fault."):
            continue
        key = (one.fault_id, one.sequence)
        if key in seen:
            assert one.data == seen[key].data, f"two different notifications are called {key}: {one} and {seen[key]}"
            assert one.message_id == seen[key].message_id
            continue
        seen[key] = one
        told.setdefault(one.fault_id, []).append(one)
    return told


def duplicates(read: Iterable[Notification]) -> int:
    """How many came more than once."""
    keys = [(one.fault_id, one.sequence) for one in read if one.event_type.startswith("vmhb.fault.")]
    return len(keys) - len(set(keys))


def assert_sound(read: Iterable[Notification], *, all_cleared: bool = True) -> None:
    """Of every fault: nothing is missing, it begins with its raise, and what follows its clear are reminders of that.

    No instance has a second fault while its first is open.
    """
    open_of: dict[str, str] = {}
    told = stories(read)
    for one in sorted(itertools.chain(*told.values()), key=lambda one: one.at):
        if one.event_type == RAISED:
            assert one.instance_uuid not in open_of, f"a second fault was raised beside an open one: {one}"
            open_of[one.instance_uuid] = one.fault_id
        elif one.event_type == CLEARED and open_of.get(one.instance_uuid) == one.fault_id:
            del open_of[one.instance_uuid]
    for fault_id, story in told.items():
        kinds = [one.event_type for one in story]
        numbers = [one.sequence for one in story]
        assert numbers == list(range(1, len(story) + 1)), (fault_id, list(zip(numbers, kinds, strict=True)))
        assert kinds[0] == RAISED and RAISED not in kinds[1:], (fault_id, kinds)
        if CLEARED in kinds:
            assert set(kinds[kinds.index(CLEARED) :]) == {CLEARED}, (fault_id, kinds)
        assert all_cleared is False or kinds[-1] == CLEARED, (fault_id, kinds)
