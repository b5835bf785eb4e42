"""A recovery, watched from all sides: what happened to a server after something was done to it, and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.cloud.stage import QUIET, Server
from tests.lab.processes import LabError

RAISED = "the fault is on RabbitMQ"
ASKED = "it asks for recovery"
POSTED = "Masakari has it"
ACTIVE = "Nova says ACTIVE again"
CLEARED = "the guest answers: the fault is cleared"
FINISHED = "Masakari has finished"
STEPS = (RAISED, ASKED, POSTED, ACTIVE, CLEARED, FINISHED)

#: Masakari stops and starts the server; a guest that hangs takes Nova shutdown_timeout (5 s here) to stop.
TIMEOUT = 120.0
EVERY = 0.2


@dataclass
class Story:
    """What was seen of `server` since `began` (monotonic seconds). tell: told of each step, for whoever watches."""

    server: Server
    began: float
    tell: Callable[[str], None] = lambda text: None
    at: dict[str, float] = field(default_factory=dict)
    causes: list[str] = field(default_factory=list)  #: as they were told, each once
    resolution: str | None = None
    _told: int = 0

    def follow(self, timeout: float = TIMEOUT, started: str = "start") -> None:
        """Until all steps were seen. started: Nova's word for what makes it run again. LabError: not in time; it says
        which were."""
        while len(self.at) < len(STEPS):
            self._look(started)
            if time.monotonic() > self.began + timeout:
                seen = ", ".join(f"{step} after {self.at[step] - self.began:.1f} s" for step in self.at) or "nothing"
                missing = [step for step in STEPS if step not in self.at]
                raise LabError(f"{self.server.name}: not within {timeout:g} s: {missing}; seen: {seen}")
            time.sleep(EVERY)

    def seconds(self, step: str) -> float:
        """Until that step, from the begin."""
        return self.at[step] - self.began

    def assert_recovered(self, started: str = "start", quiet: float = QUIET) -> None:
        """Once, and not twice; and for so many seconds afterwards nothing is said of it."""
        server = self.server
        assert self.resolution == "recovered"
        server.assert_quiet(self.at[CLEARED] + 0.01, quiet)
        assert server.beats(), server.show()
        assert len(server.reports()) == 1
        assert [one for one in server.actions() if one in ("start", "reboot")] == [started]

    def _look(self, started: str) -> None:
        self._look_at_faults()
        notifications = self.server.reports()
        if notifications:
            self._reach(POSTED)
            now = self.server.now
            if now.status == "ACTIVE" and now.task_state is None and started in self.server.actions():
                self._reach(ACTIVE)
            if notifications[0].status == "finished":
                self._reach(FINISHED)

    def _look_at_faults(self) -> None:
        faults = self.server.stage.notifications.faults(self.server.uuid, self.began)
        for fault in faults[self._told :]:
            self.tell(f">> RabbitMQ: {fault}")
            self._reach(RAISED, fault.at)
            if fault.cause not in self.causes:
                self.causes.append(fault.cause)
            if fault.recommended_action == "recover":
                self._reach(ASKED, fault.at)
            if fault.state == "cleared":
                self.resolution = fault.resolution
                self._reach(CLEARED, fault.at)
        self._told = len(faults)

    def _reach(self, step: str, at: float | None = None) -> None:
        if step not in self.at:
            self.at[step] = time.monotonic() if at is None else at
            self.tell(f"{step}")
