"""Answers the questions that come by RPC, and takes the hints: see `worker_api`. Belongs to the engine's thread."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from vmhb_worker.core import events as ev
from vmhb_worker.core.announced_silences import Hint, Hints
from vmhb_worker.core.fault_register import Ledger
from vmhb_worker.core.pending_policies import Wish
from vmhb_worker.engine.instance import Instance
from vmhb_worker.engine.provisioner import Provisioner
from vmhb_worker.engine.registry import Roster
from vmhb_worker.interfaces import Channels

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

    def answer(self, name: str, arguments: dict[str, Any], now: float, wall: datetime) -> Any:
        """The answer to a question of this name. Raises LookupError where there is no such question."""
        return _ANSWERS[name](self, now, wall, **arguments)

    def silences(self, uuid: str, now: float, wall: datetime) -> list[ev.Event]:
        """What was announced of an instance before it was here."""
        return [_silence(key, hint, now, wall) for key, hint in self._hints.of(uuid, wall.timestamp()).items()]

    def tidy(self, wall: datetime) -> None:
        """Drop the hints that are over."""
        self._hints.tidy(wall.timestamp())

    def _list(self, now: float, wall: datetime) -> list[dict[str, Any]]:
        watched = [self._brief(instance, now, wall) for instance in self._roster]
        refused = sorted(self._roster.refused.items())
        return watched + [{"instance_uuid": which, "error": why} for which, why in refused]

    def _brief(self, instance: Instance, now: float, wall: datetime) -> dict[str, Any]:
        try:
            return instance.brief(self._ledger.open.get(instance.uuid), now, wall)
        except Exception as error:  # a fault of ours about one is no reason not to tell of the others
            return {"instance_uuid": instance.uuid, "error": f"a fault of the worker's: {error!r:.200}"}

    def _show(self, now: float, wall: datetime, instance_uuid: str) -> dict[str, Any] | None:
        instance = self._roster.get(instance_uuid)
        if instance is not None:
            lines = self._channels.told(instance_uuid)
            told = instance.told(self._ledger.open.get(instance_uuid), now, wall)
            return told if lines is None else {**told, "channel_lines": lines}
        why = self._roster.refused.get(instance_uuid)
        return None if why is None else {"instance_uuid": instance_uuid, "error": why}

    def _configure(
        self,
        now: float,
        wall: datetime,
        instance_uuid: str,
        policy: dict[str, str],
        observed_at: datetime | None = None,
    ) -> bool:
        # Callers older than 1.1 send no time: use ours. A time in the future is cut to now, or no later policy could
        # replace this one.
        wish = Wish(policy, wall if observed_at is None else min(observed_at, wall))
        return self._provisioner.configure(instance_uuid, wish, now)

    def _expect_silence(  # noqa: PLR0913, PLR0917 - the contract's arguments
        self,
        now: float,
        wall: datetime,
        instance_uuid: str,
        key: str,
        reason: str,
        timeout: float,
        observed_at: datetime,
    ) -> bool:
        observed = observed_at.timestamp()
        # Whoever's clock is ahead: no silence is longer than it was meant to be.
        hint = Hint(reason, observed, min(observed, wall.timestamp()) + timeout)
        taken = self._hints.expect(instance_uuid, key, hint, wall.timestamp())
        instance = self._roster.get(instance_uuid)
        if taken and instance is not None:
            self._handle(instance, _silence(key, hint, now, wall), now)
        return taken

    def _end_silence(self, now: float, wall: datetime, instance_uuid: str, key: str, observed_at: datetime) -> bool:
        ended = self._hints.end(instance_uuid, key, observed_at.timestamp())
        instance = self._roster.get(instance_uuid)
        if ended and instance is not None:
            self._handle(instance, ev.Unsilenced(f"hint:{key}"), now)
        return ended


def _silence(key: str, hint: Hint, now: float, wall: datetime) -> ev.Silenced:
    return ev.Silenced(f"hint:{key}", hint.reason, now + hint.expires - wall.timestamp())


_ANSWERS: dict[str, Callable[..., Any]] = {
    "list": Desk._list,
    "show": Desk._show,
    "configure": Desk._configure,
    "expect_silence": Desk._expect_silence,
    "end_silence": Desk._end_silence,
}
