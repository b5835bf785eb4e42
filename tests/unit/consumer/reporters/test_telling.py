"""What a reporter has been told of a fault decides as what it is handed the next change: the whole table."""

from __future__ import annotations

import itertools

import pytest

from vmhb_common.model.fault import Change
from vmhb_consumer.reporters.outcomes import Done, Later, Outcome, Refused
from vmhb_consumer.reporters.telling import NOTHING, Handed, Told, after, after_bug, handed, recipients

RAISED, UPDATED, CLEARED = Change.RAISED, Change.UPDATED, Change.CLEARED
REFUSED = Told(handed=True)
HAS = Told(handed=True, known=True)
LACKS = Told(handed=True, known=True, remind=True)
BEFORE = Told(handed=True, known=True, before=True)
CHANGES = {
    "raised": (RAISED, False),
    "updated": (UPDATED, False),
    "reminder": (UPDATED, True),
    "cleared": (CLEARED, False),
}

#: What it has been told, what is heard now: as what it is handed that.
TABLE: dict[tuple[Told, str], Handed | None] = {
    (NOTHING, "raised"): Handed(RAISED, False),
    (NOTHING, "updated"): Handed(RAISED, False),
    (NOTHING, "reminder"): Handed(RAISED, False),
    (NOTHING, "cleared"): None,
    (REFUSED, "raised"): Handed(RAISED, False),
    (REFUSED, "updated"): Handed(RAISED, False),
    (REFUSED, "reminder"): Handed(RAISED, True),
    (REFUSED, "cleared"): None,
    (HAS, "raised"): Handed(UPDATED, False),
    (HAS, "updated"): Handed(UPDATED, False),
    (HAS, "reminder"): None,
    (HAS, "cleared"): Handed(CLEARED, False),
    (LACKS, "raised"): Handed(UPDATED, False),
    (LACKS, "updated"): Handed(UPDATED, False),
    (LACKS, "reminder"): Handed(UPDATED, True),
    (LACKS, "cleared"): Handed(CLEARED, False),
    (BEFORE, "raised"): Handed(RAISED, False),
    (BEFORE, "updated"): Handed(UPDATED, False),
    (BEFORE, "reminder"): None,
    (BEFORE, "cleared"): Handed(CLEARED, False),
}


def test_the_table_is_total() -> None:
    """Each state meets each kind of change."""
    states = (NOTHING, REFUSED, HAS, LACKS, BEFORE)
    assert set(TABLE) == set(itertools.product(states, CHANGES))


@pytest.mark.parametrize(("told", "heard"), TABLE)
def test_as_what_it_is_handed(told: Told, heard: str) -> None:
    """A raise first, no clear of what it never had, no reminder of what it has."""
    assert handed(told, *CHANGES[heard]) == TABLE[told, heard]


@pytest.mark.parametrize(
    ("told", "outcome", "then"),
    [
        (NOTHING, Done(), HAS),
        (NOTHING, Done(known=False), REFUSED),
        (NOTHING, Later(None, "away"), NOTHING),
        (NOTHING, Later(0.0, "half of it", {}, known=True), Told(known=True)),
        (NOTHING, Refused("no"), REFUSED),
        (NOTHING, Refused("no", remind=True), Told(handed=True, remind=True)),
        (NOTHING, Refused("no", known=True), HAS),
        (HAS, Refused("no"), HAS),
        (HAS, Done(known=False), HAS),
        (HAS, Refused("no", remind=True), LACKS),
        (LACKS, Later(None, "away"), LACKS),
        (LACKS, Done(), HAS),
        (BEFORE, Done(), BEFORE),
        (after_bug(after_bug(HAS)), Later(None, "away"), HAS),
        (after_bug(NOTHING), Done(), HAS),
        (after_bug(NOTHING), Refused("no"), REFUSED),
    ],
)
def test_what_it_has_been_told_then(told: Told, outcome: Outcome, then: Told) -> None:
    """What a backend knows it does not forget; bugs count in a row."""
    assert after(told, outcome) == then


def test_bugs_are_counted() -> None:
    """And change nothing else."""
    assert after_bug(after_bug(LACKS)) == Told(handed=True, known=True, remind=True, bugs=2)


@pytest.mark.parametrize(
    ("change", "has", "names"),
    [
        (RAISED, [], ["first"]),
        (UPDATED, [], ["first"]),
        (UPDATED, ["always"], ["always", "first"]),
        (UPDATED, ["always", "first"], ["always"]),
        (CLEARED, [], []),
        (CLEARED, ["always", "first"], ["always"]),
    ],
)
def test_who_is_to_have_it(change: Change, has: list[str], names: list[str]) -> None:
    """Whoever has the fault is asked about the change as it is; whoever has not, about a raise, and about no clear."""
    assert recipients(change, ["always"], ["first"], has) == names
