"""What the tables of a database are to a program: a table."""

from __future__ import annotations

import pytest

from vmhb_consumer import standing
from vmhb_consumer.standing import Found, Known, Standing

OURS = Known(("0001", "0002", "0003"), 3)
SERVER, FILE = True, False


@pytest.mark.parametrize(
    ("found", "where"),
    [
        (Found(), Standing.EMPTY),
        (Found(None, 1), Standing.BEHIND),
        (Found(None, 3), Standing.BEHIND),
        (Found("0001", 1), Standing.BEHIND),
        (Found("0002", None), Standing.BEHIND),
        (Found("0003", 3), Standing.CURRENT),
        (Found("0003", 4), Standing.TOO_NEW),
        (Found("0004", 3), Standing.AHEAD),
        (Found("0004", 4), Standing.TOO_NEW),
        (Found(None, 4), Standing.TOO_NEW),
    ],
)
def test_judged(found: Found, where: Standing) -> None:
    """Behind is whoever lacks one of our steps. Ahead is for us as long as its generation is not above ours."""
    assert standing.judge(found, OURS) is where


@pytest.mark.parametrize(
    ("found", "server", "says"),
    [
        (Found("0003", 3), SERVER, None),
        (Found("0004", 3), SERVER, None),
        (
            Found(),
            SERVER,
            "db has none of our tables: run `nova-vmhb-manage db sync` of this version, which makes them",
        ),
        (Found(), FILE, "db has none of our tables: start the consumer of this version, or run `nova-vmhb-manage db"),
        (
            Found("0002", 2),
            SERVER,
            "db has tables of revision 0002, and this program needs 0003: run `nova-vmhb-manage db sync`",
        ),
        (Found(None, 2), SERVER, "db has tables of version 2, from before there were revisions, and this program"),
        (Found("0002", 2), FILE, "and this program needs 0003: start the consumer of this version, or run"),
        (
            Found("0005", 4),
            SERVER,
            "db has tables of revision 0005, for programs of generation 4 and later, and this one is of 3: upgrade",
        ),
        (Found(None, 4), FILE, "db has tables of version 4, from before there were revisions, for programs of"),
    ],
)
def test_refused(found: Found, server: bool, says: str | None) -> None:
    """The sentence names the database, what it has, what is needed, and what to run."""
    said = standing.refusal(found, OURS, "db", server)
    assert said is None if says is None else says in str(said)


def test_for_people() -> None:
    """What there is, in words; also where there is nothing."""
    assert Found().text == "none of our tables"


def test_lacking() -> None:
    """A revision that is not true is not believed."""
    assert standing.lacking("db", []) is None
    said = standing.lacking("db", ["the table vmhb_x", "the column vmhb_y.z"])
    assert said is not None and said.startswith("db lacks the table vmhb_x, the column vmhb_y.z, which its revision")
