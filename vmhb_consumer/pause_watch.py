"""Says that all recoveries are paused: once when that begins, once when it ends, and to systemd. Decides nothing.

What obeys it are the permits, which read the same row whenever they are asked; this is for people. Threads: one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from vmhb_consumer import stop_button
from vmhb_consumer.stop_button import Pause

LOG = logging.getLogger(__name__)

#: What ends it.
RESUME = "nova-vmhb-manage recoveries resume"


class Watch:
    """Looks at the database every second."""

    def __init__(self, pause: Callable[[], Pause | None], tell: Callable[[str | None], Any]) -> None:
        """pause: the last that was asked for; raises Away. tell: systemd, how we are; may be told the same again. None:
        they are not paused."""
        self._pause = pause
        self._tell = tell
        self._said: Pause | None = None

    @property
    def paused(self) -> bool:
        """When it looked last."""
        return self._said is not None

    def look(self, now: float) -> None:
        """BLOCKS. Raises Away."""
        there = self._pause()
        pause = there if stop_button.in_force(there, now) else None
        if pause is not None:
            if pause != self._said:
                LOG.warning("recoveries are %s (said by %s; %s ends it)", pause.text, pause.by, RESUME)
            self._tell(f"recoveries are {pause.text}")
        elif self._said is not None:
            how = "its time is over" if there == self._said else "they were resumed"
            LOG.warning("recoveries are not paused any more: %s", how)
            self._tell(None)
        self._said = pause


def as_told(pause: Pause | None, now: float) -> dict[str, Any] | None:
    """For `about()`. None where none is in force."""
    if pause is None or not stop_button.in_force(pause, now):
        return None
    times = {"since": stop_button.utc(pause.since), "until": stop_button.utc(pause.until)}
    return {"reason": pause.reason, "by": pause.by, **times}
