"""A consumer's database, in memory, and what stands on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fakes import a_fault
from tests.unit.consumer.fakes import SetTime
from vmhb_common.model.fault import Change, Fault
from vmhb_consumer.database import Database
from vmhb_consumer.outbox import Outbox, Row
from vmhb_consumer.repository import Records

#: When `a_fault` is raised.
THEN = a_fault().raised_at.timestamp()


@dataclass
class Desk:
    """Records and outbox of one consumer, on a clock that is set by hand. to: targets of every change."""

    database: Database
    clock: SetTime = field(default_factory=lambda: SetTime(THEN))
    to: list[str] = field(default_factory=lambda: ["one", "two"])

    def __post_init__(self) -> None:
        self.records = Records(self.database, lambda change, fault: self.to, ["topic:faults"], 300.0)
        self.outbox = Outbox(self.database, "me")
        self.outbox.live("here", self.clock())

    def take(self, *faults: Fault) -> list[str]:
        """Notifications; what became of each."""
        return [str(self.records.take(fault, self.clock())) for fault in faults]

    def next(self, target: str = "one") -> Row | None:
        """What this target is to have next."""
        return self.outbox.take(target, self.clock())

    def delivered(self, target: str = "one") -> list[str]:
        """All that is due, in the order in which it is handed out."""
        lines = []
        while (row := self.next(target)) is not None:
            self.outbox.done(row)
            lines.append(f"{row.fault.fault_id[0]}{row.fault.sequence} {row.change.name.lower()}")
        return lines

    def open(self) -> list[str]:
        """Faults that are open."""
        return [f"{fault.fault_id[0]}{fault.sequence}" for fault in self.records.active()]


def another(letter: str, **changed: Any) -> Fault:
    """A fault whose id begins with this letter."""
    return a_fault(letter * 8 + "-5b7d-4d4b-9a57-0c8f5b1f7c11", **changed)


__all__ = ["THEN", "Change", "Desk", "another"]


@pytest.fixture
def desk() -> Iterator[Desk]:
    """With an empty database."""
    database = Database("sqlite://")
    database.open()
    yield Desk(database)
    database.close()
