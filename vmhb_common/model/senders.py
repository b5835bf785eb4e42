"""May this be said by whoever says it? What a node says concerns itself: a table. Pure: signatures are checked before.

With one login to the broker for all nodes, as kolla-ansible, OpenStack-Ansible and DevStack have it, nothing that the
broker tells of a sender proves anything. So each signs with a key of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmhb_common.model.words import StrEnum


class SenderCheck(StrEnum):
    """What is done with what is not signed, or not by whom it concerns."""

    OFF = "off"
    WARN = "warn"
    ENFORCE = "enforce"


#: By so much (seconds) the clocks of two hosts may differ, where it is reckoned with them.
CLOCKS = 600.0
#: Where worker and consumer find the keys of those whom they trust, and each its own.
SENDERS = "/etc/vmhb/senders"
WORKERS_KEY, CONSUMERS_KEY = "/etc/vmhb/worker.key", "/etc/vmhb/consumer.key"


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """What the operator decided. key: the file of one's own; trusted: of all others', or their folder."""

    key: Path
    check: SenderCheck = SenderCheck.WARN
    trusted: Path = Path(SENDERS)


class Role(StrEnum):
    """What a sender is: the first part of its name."""

    WORKER = "worker"
    CONSUMER = "consumer"


def name_of(role: Role, host: str) -> str:
    """As which it signs, and is trusted: `worker:compute-1`."""
    return f"{role}:{host}"


@dataclass(frozen=True, slots=True)
class Signed:
    """By this sender, whose key we hold. at: when, by its clock, seconds since the epoch."""

    name: str
    at: float


@dataclass(frozen=True, slots=True)
class Unsigned:
    """By nobody."""


@dataclass(frozen=True, slots=True)
class Forged:
    """It bears a signature that proves nothing. why: a part of a sentence, the same for each of its kind."""

    why: str


Signature = Signed | Unsigned | Forged


@dataclass(frozen=True, slots=True)
class Heard:
    """It is acted on. remark: what is to be said of it all the same."""

    remark: str | None = None


@dataclass(frozen=True, slots=True)
class NotHeard:
    """It is not."""

    why: str


UNSIGNED = "not signed"
#: A key of its own, and what another says: that is never a mistake.
ANOTHERS = "signed with another's key"


def judge(check: SenderCheck, signature: Signature, role: Role, host: str | None) -> Heard | NotHeard:
    """host: whom it concerns; None: any of this role may say it."""
    if check is SenderCheck.OFF:
        return Heard()
    if isinstance(signature, Signed):
        named, _, of = signature.name.partition(":")
        if named == role and host in (None, of):
            return Heard()
        return NotHeard(ANOTHERS)
    why = UNSIGNED if isinstance(signature, Unsigned) else signature.why
    return NotHeard(why) if check is SenderCheck.ENFORCE else Heard(why)
