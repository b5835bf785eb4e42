"""What the tables of a database are to this program: may it go on, and if not, what is to be done? Decides; no I/O.

Two marks are in a database. Its *revision* is the last of our steps that was done: alembic's. Its *generation* (the
row schema_version of vmhb_meta, which is older than alembic) is that of the oldest programs that can do with it: a step
that only adds leaves it as it is, one that takes away raises it. So a program that meets a revision that it does not
know still knows whether that concerns it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

#: What an operator runs.
SYNC = "nova-vmhb-manage db sync"


class Standing(enum.Enum):
    """Of a database's tables, to one program."""

    EMPTY = "has none of our tables"
    BEHIND = "older"
    CURRENT = "ours"
    AHEAD = "newer, by additions only"
    TOO_NEW = "newer, and not for us"


@dataclass(frozen=True, slots=True)
class Found:
    """What stands in a database. revision None: no step of alembic's was done; generation None: no consumer of ours
    ever filled it in."""

    revision: str | None = None
    generation: int | None = None

    @property
    def text(self) -> str:
        """For people."""
        if self.revision is not None:
            return f"tables of revision {self.revision}"
        if self.generation is not None:
            return f"tables of version {self.generation}, from before there were revisions"
        return "none of our tables"


@dataclass(frozen=True, slots=True)
class Known:
    """What a program knows: its steps, from the first to the last, and its own generation."""

    revisions: tuple[str, ...]
    generation: int

    @property
    def head(self) -> str:
        """The revision that it needs."""
        return self.revisions[-1]


def judge(found: Found, known: Known) -> Standing:
    """As above."""
    if found.generation is not None and found.generation > known.generation:
        return Standing.TOO_NEW
    if found.revision is None:
        return Standing.EMPTY if found.generation is None else Standing.BEHIND
    if found.revision not in known.revisions:
        return Standing.AHEAD
    return Standing.CURRENT if found.revision == known.head else Standing.BEHIND


def refusal(found: Found, known: Known, shown: str, server: bool) -> str | None:
    """Why this program must not use that database, and what to do; None: it may. server: it is one that is shared,
    which no service changes by itself."""
    own = f"run `{SYNC}` of this version" if server else f"start the consumer of this version, or run `{SYNC}`"
    match judge(found, known):
        case Standing.EMPTY:
            return (
                f"{shown} has none of our tables: {own}, which makes them; or is it another one than the consumers' "
                f"([database] connection, [DEFAULT] state_path)?"
            )
        case Standing.BEHIND:
            return f"{shown} has {found.text}, and this program needs {known.head}: {own}"
        case Standing.TOO_NEW:
            return (
                f"{shown} has {found.text}, for programs of generation {found.generation} and later, and this one is "
                f"of {known.generation}: upgrade nova-vmhb here, as it was where `{SYNC}` was run"
            )
    return None


def lacking(shown: str, what: list[str]) -> str | None:
    """The same of tables that say that they are ours, and are not; None: nothing lacks."""
    if not what:
        return None
    return (
        f"{shown} lacks {', '.join(what)}, which its revision has: somebody else has changed it, or it was restored in "
        f"part: restore the whole of a backup"
    )
