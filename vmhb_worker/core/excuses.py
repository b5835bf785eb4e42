"""Why a witness cannot be expected to speak, and until when. An excuse is one witness's, and says nothing of others.

Two tables, both total, and a test for each: what a request's end excuses, and what a silence does. While whoever is to
acknowledge is excused, the host is asked instead: a kernel that is dead is found dead whatever its agent's excuse. Only
what excuses everybody is a silence in the full sense, and each of those has an end that needs nobody's good will.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

from vmhb_worker.core.events import Failure
from vmhb_worker.core.evidence import Balloon, Evidence, Reading, Witness

#: After so long (seconds) without whoever is to acknowledge, the host is asked: an agent that is restarted is back by
#: then. And again every `probe_interval`.
FIRST_LOOK = 5.0
#: Nobody at all can be asked, and for so long (seconds) beyond the time in which a silence would have been found: that
#: is told.
NOBODY = 60.0


@dataclass(frozen=True, slots=True)
class Excuse:
    """witness: whom it excuses, None: everybody. why, ends: for people. patience: after so long (seconds) the host is
    asked instead."""

    witness: Witness | None
    why: str
    ends: str
    patience: float = FIRST_LOOK


class Excused(enum.Enum):
    """All that there are."""

    PORT_CLOSED = Excuse(
        Witness.AGENT,
        "nothing in the guest holds the agent's port open",
        "when it is opened; is ``agent_exited`` after ``exit_settle_time``",
    )
    AGENT_HELD = Excuse(
        Witness.AGENT,
        "somebody else's command holds the agent (a freeze whose hook hangs, say)",
        "with the next answer or silence of the agent itself",
    )
    GIVEN_UP = Excuse(
        Witness.AGENT, "libvirt could not understand the agent, and talks to it no more", "when the agent connects anew"
    )
    NOT_ASKED = Excuse(
        Witness.AGENT, "libvirt could not put the question to the agent, and does not say that it is the agent's doing",
        "with the next answer or silence of the agent itself",
    )  # fmt: skip
    UNCONNECTED = Excuse(
        Witness.AGENT,
        "libvirt is not connected to the agent, whose port is not known to be closed: its own trouble, or QEMU's",
        "when libvirt is connected to it; its port is read anew every 60 s",
    )
    NO_PLACE = Excuse(
        Witness.AGENT,
        "its challenge waits for a place: too many guests are silent at a time",
        "with the next answer or silence of the agent itself",
        patience=0.0,
    )
    NOT_CONNECTED = Excuse(
        Witness.APPLICATION, "the worker's own connection to the channel's socket is lost", "when it is connected again"
    )
    GOODBYE = Excuse(Witness.APPLICATION, "the application said goodbye", "with its next answer, or the next boot")
    PAUSED = Excuse(
        None, "paused, saved, suspended or asleep: libvirt keeps its vCPUs from running",
        "when it runs again; its state is read anew every 60 s",
    )  # fmt: skip
    PASSAGE = Excuse(
        None, "it is being restored, or powers off; or it has not arrived yet from another host",
        "when it runs, or stops; after 60 s at the latest, where no migration is on",
    )  # fmt: skip
    POSTCOPY = Excuse(None, "a part of its memory is still on another host", "when all of it has come")
    JOB = Excuse(
        None, "a job of libvirt's that can stop its vCPUs: it is migrated, saved or dumped",
        "with the job, which is looked for every 2 s; or when libvirt has not confirmed it for 40 s",
    )  # fmt: skip
    MAINTENANCE = Excuse(
        None, "maintenance that the guest asked for", "with its time, which ``[policy] max_maintenance`` bounds"
    )
    RESCUED = Excuse(None, "Nova's rescue mode: it runs another image", "when it does not any more")
    LIBVIRT_AWAY = Excuse(
        None, "libvirt was away, or the worker has just started", "one interval after libvirt is connected"
    )
    ANNOUNCED = Excuse(
        None, "an operation that somebody has announced (``expect_silence``)",
        "when it is ended, or at the time that it was announced with; after 24 h at the latest",
    )  # fmt: skip


#: What the end of a request says of the agent's excuse; None: it was asked, and it is its own silence or answer.
OF_FAILURE: Mapping[Failure, Excused | None] = {
    Failure.NO_ANSWER: None,
    Failure.GARBLED: None,
    Failure.CLOSED: Excused.PORT_CLOSED,
    Failure.BUSY: Excused.AGENT_HELD,
    Failure.GIVEN_UP: Excused.GIVEN_UP,
    Failure.UNREACHABLE: Excused.NOT_ASKED,
    Failure.UNCONNECTED: Excused.UNCONNECTED,
    Failure.UNKNOWN: Excused.NOT_ASKED,
}

#: What is said once, until the guest answers, of that which somebody has to see to.
_REMARKS: Mapping[Failure, str] = {
    Failure.GIVEN_UP: (
        "its heartbeats are skipped: libvirt could not understand what its agent sent, or it was too long, and talks "
        "to it no more until it connects anew; restart the agent in the guest"
    ),
    Failure.UNKNOWN: (
        "its heartbeats are skipped: what libvirt says of its agent is not known here; where that is another language, "
        "have libvirtd (virtqemud) run with LC_ALL=C"
    ),
}


def remark(failure: Failure, detail: str) -> str | None:
    """Of a challenge's end that excuses its guest. detail: libvirt's words."""
    what = f" ({detail[:200]!r})" if failure is Failure.UNKNOWN else ""
    return _REMARKS[failure] + what if failure in _REMARKS else None


#: By a silence's key. Any other is the request id of an operation that was announced.
OF_SILENCE: Mapping[str, Excused] = {
    "paused": Excused.PAUSED,
    "passage": Excused.PASSAGE,
    "postcopy": Excused.POSTCOPY,
    "job": Excused.JOB,
    "goodbye": Excused.GOODBYE,
    "maintenance": Excused.MAINTENANCE,
    "rescued": Excused.RESCUED,
    "hypervisor": Excused.LIBVIRT_AWAY,
}


def of_silence(key: str) -> Excused:
    """What stands behind it."""
    return OF_SILENCE.get(key, Excused.ANNOUNCED)


#: Whoever left so has said it, or has a cause of its own: that nobody else can be asked about the guest is no news.
_HAS_SAID_SO = frozenset({Excused.PORT_CLOSED, Excused.GOODBYE})


class InPlace:
    """Of one instance: why whoever is to acknowledge is excused, and when the host is asked in its place.

    Belongs to a monitor; times are seconds of the monotonic clock.
    """

    __slots__ = (
        "_silent_at",
        "dead_at",
        "excuse",
        "gave_way",
        "look_at",
        "nobody_seen_at",
        "silent_probes",
        "since",
        "unasked",
    )

    def __init__(self) -> None:
        self.excuse: Excused | None = None
        self.since = self.look_at = math.inf
        self.dead_at = math.inf  # its host has found it dead, and it is told then
        self.gave_way = False  # and its challenge waits behind those of others
        self.unasked = 0  # beats that it could not be asked for want of a place, since it answered
        self.silent_probes = 0  # in a row: that its kernel did not answer
        self._silent_at: float | None = None  # the last of them
        self.nobody_seen_at = -math.inf  # when it was looked last whether nobody can be asked

    def begin(self, excuse: Excused, since: float, now: float) -> None:
        """It is excused, or for another reason by now."""
        if self.excuse is None:
            self.since = since
            self.look_at = max(now, since + excuse.value.patience)
            self.silent_probes, self._silent_at = 0, None
            # It may be known only late: the host is asked first.
            self.nobody_seen_at = max(self.nobody_seen_at, now + FIRST_LOOK - NOBODY)
        self.excuse = excuse

    def end(self) -> None:
        """It was asked: it is as silent as it is, or answers."""
        self.excuse, self.look_at, self.dead_at, self.gave_way = None, math.inf, math.inf, False

    def nobody_at(self, heard: float, full_threshold: float) -> float:
        """When it is to be told that nobody can be asked. heard: when it last answered, or began to be watched."""
        told = self.excuse is None or self.excuse in _HAS_SAID_SO
        return math.inf if told else max(heard + full_threshold, self.nobody_seen_at) + NOBODY

    @property
    def confirmed(self) -> bool:
        """Was its kernel found silent more than once? Whoever merely waits for a place is missed as others are."""
        return self.silent_probes > 1 or self.excuse is Excused.NO_PLACE

    def count(self, balloon: Reading) -> None:
        """What the last probe found."""
        if balloon.value is Balloon.ANSWERED:
            self.silent_probes = 0
        elif balloon.value is Balloon.NO_ANSWER and balloon.at != self._silent_at:
            self.silent_probes += 1
            self._silent_at = balloon.at


def nobody_tells(evidence: Evidence) -> bool:
    """Can nobody be asked how the guest is?"""
    return evidence.balloon.value is None and evidence.other_channel.value is None


def lives_since(evidence: Evidence, at: float) -> bool:
    """Has its kernel answered since then? What was seen before, and a guest that was not let run, say nothing."""
    balloon, other = evidence.balloon, evidence.other_channel
    answered = balloon.at if balloon.value is Balloon.ANSWERED else None, other.at if other.value else None
    return any(when is not None and when > at for when in answered)


def seen_since(evidence: Evidence, at: float) -> bool:
    """Has the host said since then how the guest, or its QEMU, is?"""
    seen = [
        reading.at for reading in (evidence.balloon, evidence.occupied, evidence.main_thread) if reading.at is not None
    ]
    return bool(seen) and max(seen) > at
