"""What comes of trying to tell a backend of a change: done, later, or refused. A reporter returns one of the three."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """The backend has it, or there was nothing to tell it.

    known: does the backend know of this fault now? Only then is it told of updates, and of the clear. memo: JSON,
    handed back with later changes of the same fault, also after a restart; None: as it was. over: the recovery that
    this was about has come to its end, however it ended: its place (`Case.permit`) is another's. Leave it False where
    it was only begun.
    """

    known: bool = True
    memo: Mapping[str, Any] | None = None
    over: bool = False


@dataclass(frozen=True, slots=True)
class Later:
    """Not yet: try again.

    retry_in: seconds until then; None: back off, 1 s doubling up to 60 s. why: for the log; said once per text, not
    once per try. memo: as in `Done`; with 0 s and a memo that is committed, and it comes back at once. known: the
    backend has heard of the fault all the same. over: no recovery is under way, for sure: its place, if it was given
    one, is another's meanwhile, and it is asked for again.
    """

    retry_in: float | None
    why: str
    memo: Mapping[str, Any] | None = None
    known: bool = False
    over: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Never, this change. The record of it is kept, and the fault's next change has its turn.

    why: what the backend answered, and what an operator should do. rightly: no failure: nobody wants it any more, or it
    would do harm. remind: another try with the fault's next reminder may help. memo, known: as in `Later`. A recovery
    that this was about is over: its place is another's.
    """

    why: str
    rightly: bool = False
    remind: bool = False
    memo: Mapping[str, Any] | None = None
    known: bool = False


Outcome = Done | Later | Refused
