"""Answers the questions that come by RPC, and takes the hints: see `worker_api`. Belongs to the engine's thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from vmhb_common.model.silences import MAX_SILENCE
from vmhb_worker.core import events as ev
from vmhb_worker.core.announced_silences import Hint, Hints, hint_of
from vmhb_worker.core.fault_register import Ledger
from vmhb_worker.core.pending_policies import Wish
from vmhb_worker.core.questions import A, Configure, EndSilence, ExpectSilence, List, Question, ReleaseBrake, Show
from vmhb_worker.engine.instance import Instance
from vmhb_worker.engine.provisioner import Provisioner
from vmhb_worker.engine.registry import Roster
from vmhb_worker.interfaces import Channels

LOG = logging.getLogger(__name__)

#: `Engine._handle`: hands an event to an instance's monitor, now.
Handle = Callable[[Instance, ev.Event, float], None]


class Desk:
    """`now`: monotonic seconds; `wall`: aware, in UTC."""

    def __init__(
        self, roster: Roster, ledger: Ledger, provisioner: Provisioner, channels: Channels, handle: Handle
    ) -> None:
        self._channels = channels
        self._roster = roster
        self._ledger = ledger
        self._provisioner = provisioner
        self._handle = handle
        self._hints = Hints()

    def answer(self, question: Question[A], now: float, wall: datetime) -> A:
        """The answer to a question. Raises LookupError where there is none to one of its kind."""
        answer: A = _ANSWERS[type(question)](self, question, now, wall)
        return answer

    def silences(self, uuid: str, now: float, wall: datetime) -> list[ev.Event]:
        """What was announced of an instance before it was here."""
        return [_silence(key, hint, now, wall) for key, hint in self._hints.of(uuid, wall.timestamp()).items()]

    def tidy(self, wall: datetime) -> None:
        """Drop the hints that are over."""
        self._hints.tidy(wall.timestamp())

    def _list(self, _question: List, now: float, wall: datetime) -> list[dict[str, Any]]:
        watched = [self._brief(instance, now, wall) for instance in self._roster]
        refused = sorted(self._roster.refused.items())
        return watched + [{"instance_uuid": which, "error": why} for which, why in refused]

    def _brief(self, instance: Instance, now: float, wall: datetime) -> dict[str, Any]:
        try:
            return instance.brief(self._ledger.open.get(instance.uuid), now, wall)
        except Exception as error:  # a fault of ours about one is no reason not to tell of the others
            return {"instance_uuid": instance.uuid, "error": f"a fault of the worker's: {error!r:.200}"}

    def _show(self, question: Show, now: float, wall: datetime) -> dict[str, Any] | None:
        which = question.instance_uuid
        instance = self._roster.get(which)
        if instance is not None:
            lines = self._channels.told(which)
            told = instance.told(self._ledger.open.get(which), now, wall)
            return told if lines is None else {**told, "channel_lines": lines}
        why = self._roster.refused.get(which)
        return None if why is None else {"instance_uuid": which, "error": why}

    def _configure(self, asked: Configure, now: float, wall: datetime) -> bool:
        # Callers older than 1.1 send no time: use ours. A time in the future is cut to now, or no later policy could
        # replace this one.
        wish = Wish(asked.policy, wall if asked.observed_at is None else min(asked.observed_at, wall))
        return self._provisioner.configure(asked.instance_uuid, wish, now)

    def _expect_silence(self, asked: ExpectSilence, now: float, wall: datetime) -> bool:
        hint = hint_of(asked.reason, asked.timeout, asked.observed_at.timestamp(), wall.timestamp())
        taken = self._hints.expect(asked.instance_uuid, asked.key, hint, wall.timestamp())
        if taken and asked.timeout > MAX_SILENCE:
            LOG.warning(
                "instance %s: a silence (%s) was announced for %.0f s, and is cut to %.0f s, the most: announce it "
                "again before that is over",
                *(asked.instance_uuid, asked.reason, asked.timeout, MAX_SILENCE),
            )
        instance = self._roster.get(asked.instance_uuid)
        if taken and instance is not None:
            self._handle(instance, _silence(asked.key, hint, now, wall), now)
        return taken

    def _end_silence(self, asked: EndSilence, now: float, wall: datetime) -> bool:
        ended = self._hints.end(asked.instance_uuid, asked.key, asked.observed_at.timestamp())
        instance = self._roster.get(asked.instance_uuid)
        if ended and instance is not None:
            self._handle(instance, ev.Unsilenced(f"hint:{asked.key}"), now)
        return ended

    def _release_brake(self, asked: ReleaseBrake, now: float, wall: datetime) -> bool:
        was_on = self._ledger.release_brake(now)
        LOG.warning("the brake is released by an operator (%s); it was %s", asked.reason, "on" if was_on else "off")
        return was_on


def _silence(key: str, hint: Hint, now: float, wall: datetime) -> ev.Silenced:
    return ev.Silenced(f"hint:{key}", hint.reason, now + hint.expires - wall.timestamp())


_ANSWERS: dict[type[Any], Callable[[Desk, Any, float, datetime], Any]] = {
    List: Desk._list,
    Show: Desk._show,
    Configure: Desk._configure,
    ExpectSilence: Desk._expect_silence,
    EndSilence: Desk._end_silence,
    ReleaseBrake: Desk._release_brake,
}
