"""Are a guest's file systems frozen, and for how long? A snapshot or a backup freezes them; a thaw can be lost.

A guest in this state is alive: its kernel runs, and its agent acknowledges. Nothing that it writes gets to a disk,
though, so what runs in it comes to a standstill by and by. No event tells of it; only its agent does, when it is asked
(or refuses something else for that reason). Pure: belongs to an instance's monitor; times are monotonic seconds.
"""

from __future__ import annotations

import json
import math

from vmhb_worker.core.events import AgentCommand
from vmhb_worker.core.guest_exec import STEP_TIMEOUT
from vmhb_worker.core.verdict import FROZEN_TOO_LONG

#: The stock agent's command. It may be asked this while it is frozen.
STATUS = json.dumps({"execute": "guest-fsfreeze-status"})
#: It is asked this often (seconds), …
INTERVAL = 300.0
#: … and this often while it says that they are: so a backup that freezes them every few minutes is not taken for one
#: freeze.
WHILE_FROZEN = 60.0


class Freeze:
    """Of one instance. lasts: it is accused of that, by an earlier life of the worker."""

    __slots__ = ("_ask_at", "_since", "asking")

    def __init__(self, lasts: bool = False) -> None:
        self.asking = False
        self._ask_at: float | None = 0.0 if lasts else None
        self._since: float | None = -math.inf if lasts else None

    def question(self, now: float) -> AgentCommand | None:
        """The agent has just answered: what it is to be asked, if anything."""
        if self._ask_at is None:
            self._ask_at = now + INTERVAL
        if now < self._ask_at:
            return None
        self._ask_at = now + (INTERVAL if self._since is None else WHILE_FROZEN)
        self.asking = True
        return AgentCommand(STATUS, STEP_TIMEOUT)

    def answered(self, reply: str | None, refused: bool, now: float) -> None:
        """The question came to its end. What makes no sense, or did not come, says nothing either way.

        refused: by the agent, as one that cannot freeze does: it need not be asked again before its next boot.
        """
        self.asking = False
        status = None if reply is None else _status(reply)
        if status == "frozen":
            self.seen(now)
        elif status == "thawed":
            self._since = None
        elif refused:
            self._ask_at = math.inf

    def seen(self, now: float) -> None:
        """They are frozen: it says so, or refuses to run something for that reason."""
        if self._since is None:
            self._since = now
            self._ask_at = now + WHILE_FROZEN

    def rebooted(self) -> None:
        """They were mounted anew."""
        self._since = self._ask_at = None

    def too_long(self, now: float) -> bool:
        """Have they been frozen for so long that nobody can have meant it?"""
        return self._since is not None and now >= self._since + FROZEN_TOO_LONG

    def told(self, now: float) -> float | None:
        """For how many seconds, at least; None: they are not known to be frozen."""
        if self._since is None:
            return None
        return FROZEN_TOO_LONG if math.isinf(self._since) else round(now - self._since, 1)


def _status(reply: str) -> str | None:
    try:
        status = json.loads(reply)["return"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return status if isinstance(status, str) else None
