"""What waits for the broker, and in which order: collapse, and what goes first when there is too much. No I/O.

Not thread-safe: the outbox calls it under its lock.
"""

from __future__ import annotations

from collections import OrderedDict

from vmhb_common.model.fault import Change
from vmhb_worker.delivery.tables import Row

#: After so many attempts in a row that failed, others are tried beside; and when so many of those went, and it failed
#: right after each, it is this row that is not taken.
SUSPECTED, PROVEN = 3, 5


class Backlog:
    """The rows of one topic, oldest first. At most one of them, the oldest, is being sent."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        # OrderedDict, since the head of a plain dict gets expensive to find after many removals there.
        self._rows: OrderedDict[int, Row] = OrderedDict()
        self._sending: int | None = None
        self._words: dict[str, int] = {}
        self._by_fault: dict[str, set[int]] = {}
        self._unheard: set[str] = set()
        self._pairs: OrderedDict[str, None] = OrderedDict()
        self._blamed: tuple[int, int, int] = (0, 0, 0)  # the oldest that failed: its id, how often, and beside others

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> dict[int, Row]:
        """A copy, by id."""
        return dict(self._rows)

    @property
    def oldest(self) -> Row | None:
        """The next to be sent, or the one being sent."""
        return next(iter(self._rows.values()), None)

    def add(self, row: Row) -> Row | None:
        """Append a row. Returns the one that it replaced: unsent, not being sent, with the same collapse word."""
        replaced = None
        if row.collapse:
            before = self._words.get(row.collapse)
            if before is not None and before != self._sending:
                replaced = self.remove(before)
            self._words[row.collapse] = row.id
        self._rows[row.id] = row
        if row.fault_id:
            self._note_fault(row)
        return replaced

    def _note_fault(self, row: Row) -> None:
        self._by_fault.setdefault(row.fault_id, set()).add(row.id)
        if row.event_type == Change.RAISED:
            self._unheard.add(row.fault_id)
        elif row.event_type == Change.CLEARED and row.fault_id in self._unheard:
            self._pairs[row.fault_id] = None

    def take(self) -> Row | None:
        """The row to be sent now. From here on the topic may have heard of its fault, even if the attempt fails."""
        return self._taken(self.oldest)

    def take_beside(self) -> Row | None:
        """The first of another fault than the oldest row's, to be sent now: does the broker take anything at all?"""
        fault_id = None if self.oldest is None else self.oldest.fault_id
        return self._taken(next((row for row in self._rows.values() if row.fault_id != fault_id), None))

    def _taken(self, row: Row | None) -> Row | None:
        if row is not None:
            self._sending = row.id
            self._unheard.discard(row.fault_id)
            self._pairs.pop(row.fault_id, None)
        return row

    def failed(self, row_id: int) -> bool:
        """The oldest could not be sent. So often in a row that it may be its own fault?"""
        was, times, beside = self._blamed
        self._blamed = (row_id, times + 1, beside) if was == row_id else (row_id, 1, 0)
        return self._blamed[1] >= SUSPECTED

    def another_went(self, row_id: int) -> bool:
        """Since then another was: so often that this one never will be?"""
        was, times, beside = self._blamed
        self._blamed = (was, times, beside + int(was == row_id))
        return self._blamed[2] >= PROVEN

    def put_back(self) -> None:
        """The attempt failed: the row stays the oldest, and may be replaced."""
        self._sending = None

    def remove(self, row_id: int) -> Row | None:
        """Sent, replaced or dropped. None when it is gone already."""
        row = self._rows.pop(row_id, None)
        if row is None:
            return None
        if self._sending == row_id:
            self._sending = None
        if self._words.get(row.collapse) == row_id:
            del self._words[row.collapse]
        mates = self._by_fault.get(row.fault_id)
        if mates is not None:
            mates.discard(row_id)
            if not mates:
                del self._by_fault[row.fault_id]
                self._unheard.discard(row.fault_id)
                self._pairs.pop(row.fault_id, None)
        return row

    @property
    def has_pair(self) -> bool:
        """Is there a fault of which the topic would hear raise and clear, and has heard nothing yet?"""
        return bool(self._pairs)

    def drop_pair(self) -> list[Row]:
        """Give up the oldest such fault: all its rows. The topic then never hears of it, and misses nothing now."""
        fault_id = next(iter(self._pairs), None)
        if fault_id is None:
            return []
        dropped = [self.remove(row_id) for row_id in sorted(self._by_fault[fault_id])]
        return [row for row in dropped if row is not None]

    def drop_oldest(self) -> list[Row]:
        """Give up the oldest row that is not being sent. What is still true of its fault comes with the reminders."""
        for row_id in self._rows:
            if row_id != self._sending:
                dropped = self.remove(row_id)
                return [] if dropped is None else [dropped]
        return []


def drop_excess(backlogs: list[Backlog], cap: int) -> list[Row]:
    """Drop until no more than `cap` rows are left in all: the oldest closed pairs first, then the oldest rows."""
    dropped: list[Row] = []
    excess = sum(map(len, backlogs)) - cap
    while excess > len(dropped):
        longest_first = sorted(backlogs, key=len, reverse=True)
        with_pair = next((backlog for backlog in longest_first if backlog.has_pair), None)
        gone = with_pair.drop_pair() if with_pair else longest_first[0].drop_oldest()
        if not gone:
            break  # nothing is left but what is being sent
        dropped += gone
    return dropped
