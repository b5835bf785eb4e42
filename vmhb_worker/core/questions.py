"""What can be asked of the engine, and what kind of answer there is: the calls of `worker_api`, checked and typed.

Plain values: what an answer is made of, JSON can carry. Must not know who asks, nor over what.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

A = TypeVar("A")


class Question(Generic[A]):
    """One that is answered by an A. method: its name in the RPC contract. Times are aware, in UTC."""

    __slots__ = ()
    method: ClassVar[str]


@dataclass(frozen=True, slots=True)
class List(Question[list[dict[str, Any]]]):
    """The instances that are watched, one dict each; and those that could not be."""

    method: ClassVar[str] = "list"


@dataclass(frozen=True, slots=True)
class Show(Question[dict[str, Any] | None]):
    """All that is known of one instance; None where it is not watched."""

    method: ClassVar[str] = "show"
    instance_uuid: str


@dataclass(frozen=True, slots=True)
class Configure(Question[bool]):
    """See to it that the instance is watched by this policy: knobs by their bare names, as text. Is it news?

    observed_at: when its flavor asked for that; None: just now.
    """

    method: ClassVar[str] = "configure"
    instance_uuid: str
    policy: dict[str, str]
    observed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExpectSilence(Question[bool]):
    """Expect no heartbeats, from observed_at on, for at most `timeout` seconds. Was it taken?"""

    method: ClassVar[str] = "expect_silence"
    instance_uuid: str
    key: str
    reason: str
    timeout: float
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class EndSilence(Question[bool]):
    """The silence of this key is over. Was there one?"""

    method: ClassVar[str] = "end_silence"
    instance_uuid: str
    key: str
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class ReleaseBrake(Question[bool]):
    """Hold back no recovery any more for the sake of those who are silent now. Was any held back?

    reason: why, for the log.
    """

    method: ClassVar[str] = "release_brake"
    reason: str


#: All of them: the table of answers is held against this, and this against the contract.
Asked = List | Show | Configure | ExpectSilence | EndSilence | ReleaseBrake
