"""Does QEMU's main thread stand still? Told by the host's kernel, which costs neither libvirtd nor QEMU anything.

QEMU's monitor is served by its main thread: while that stands still, whoever asks QEMU anything waits, and holds one of
libvirtd's workers meanwhile. That it sleeps proves nothing: a main loop that has nothing to do sleeps for as long as
there is nothing, in `poll`.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Its letters in proc(5) that say by themselves that it does not go on: stopped, traced, dead.
_STOPPED = "TtZXx"
#: … and those that do not say that it is held up: it runs, or it sleeps.
_RUNS, _SLEEPS = "R", "SI"
#: What an idle main loop sleeps in: ppoll, poll, epoll.
_IDLE_IN = "poll"


@dataclass(frozen=True, slots=True)
class MainThread:
    """What it was seen to do. state: its letter in proc(5). slept: how often it has gone to sleep, or was stopped, so
    far (voluntary context switches): who stands still does not. waits_in: the kernel's function that it sleeps in, ""
    where that cannot be seen.
    """

    state: str
    slept: int
    waits_in: str = ""

    @property
    def stopped(self) -> bool:
        """Does it not go on, for sure?"""
        return self.state in _STOPPED

    @property
    def held_up(self) -> bool:
        """Does it not go on, if it is found like this again and has not slept a further time?"""
        if self.state in _SLEEPS:
            return bool(self.waits_in) and _IDLE_IN not in self.waits_in
        return self.state != _RUNS


class Standstill:
    """For how long one has stood still, look by look."""

    def __init__(self) -> None:
        self._last: MainThread | None = None
        self._since: float | None = None

    @property
    def stands(self) -> bool:
        """Did it stand still when it was seen last, as far as can be told?"""
        return self._since is not None

    def seen(self, main: MainThread, now: float) -> float:
        """For how many seconds it has stood still; 0.0 where it has not, or this is the first look that finds it so."""
        moved = self._last is not None and self._last.slept != main.slept
        self._last = main
        if not main.held_up or (moved and not main.stopped):
            self._since = None
        elif moved or self._since is None:
            self._since = now
        return 0.0 if self._since is None else now - self._since

    def unseen(self) -> None:
        """What it does cannot be seen any more."""
        self._last = self._since = None
