"""What a part of a monitor wants done that is not its own: values, carried out by `course` in their order.

A part decides and says what follows; it calls nobody but the parts that it was made with. Effects, which leave the
monitor, stand among them: see `events`. To add one, add a class, also to the union, and a row in the table of `course`.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmhb_worker.core.events import Effect, Pace
from vmhb_worker.core.excuses import Excused
from vmhb_worker.core.silences import Silence
from vmhb_worker.core.transitions import Input
from vmhb_worker.core.verdict import Trigger, Verdict


@dataclass(frozen=True, slots=True)
class Begin:
    """A silence begins, or goes on for another reason or time."""

    key: str
    silence: Silence


@dataclass(frozen=True, slots=True)
class End:
    """Of these silences; if they were the last, the guest is watched again."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """These silences are none any more, and nothing follows: what comes next says what is so."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A fact, judged: an input of the table of transitions. trigger: what it would be accused for."""

    what: Input
    trigger: Trigger | None = None


@dataclass(frozen=True, slots=True)
class Excuse:
    """Whoever is to acknowledge cannot be expected to, from now on."""

    excuse: Excused


@dataclass(frozen=True, slots=True)
class ExcuseAnew:
    """What explained all of it is over. Has whoever is to acknowledge an excuse of its own?"""


@dataclass(frozen=True, slots=True)
class Reboot:
    """What runs is another boot, as far as anybody can tell."""


@dataclass(frozen=True, slots=True)
class Accuse:
    """A verdict, new or changed: to be told."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class MemoryIsBroken:
    """What it works with is, whatever it answers: to be told at once."""


@dataclass(frozen=True, slots=True)
class NewEvidence:
    """There is some that there was not before: what stands is to be looked at again."""


@dataclass(frozen=True, slots=True)
class AskSoon:
    """What is known of a silent guest is old: it is asked with the next turn, and often again."""


@dataclass(frozen=True, slots=True)
class AskNow:
    """Its answer would tell more than anything else does."""

    pace: Pace


@dataclass(frozen=True, slots=True)
class ChallengeAtOnce:
    """Somebody may be at the application channel's end who was not there before."""


@dataclass(frozen=True, slots=True)
class Quicken:
    """Shorter times are in force, or the policy's again."""


#: All that is the monitor's to carry out.
Own = (
    Begin
    | End
    | Drop
    | Found
    | Excuse
    | ExcuseAnew
    | Reboot
    | Accuse
    | MemoryIsBroken
    | NewEvidence
    | AskSoon
    | AskNow
    | ChallengeAtOnce
    | Quicken
)
Consequence = Own | Effect
