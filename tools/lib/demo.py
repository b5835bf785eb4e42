"""The show: four guests, one agent stopped dead, one kernel panicked, one application unhealthy, one left alone; and a
host that stalls.

Knows nothing of where the guests come from: that is `demo_stages`. It fails (exit code 1) unless all went as it should.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.lab.processes import LabError, wait_until
from tests.stage.consumer import Notification
from tools.lib.demo_screen import Screen
from tools.lib.demo_stages import APPLICATION, HANGS, PANICS, SICK, STALL, WELL, RealStage, SimulatedStage, Stage

#: The policy of all, as flavor extra specs. Detection may take threshold x interval + timeout, and half a second.
EXTRA_SPECS = {
    "hw:heartbeat": "true",
    "hw:heartbeat_interval": "1",
    "hw:heartbeat_timeout": "1",
    "hw:heartbeat_threshold": "3",
    "hw:heartbeat_action": "recover",
}
IN_TIME = 3 * 1 + 1 + 0.5
#: The final cause may follow the fault by this (seconds).
FINAL = 3.0
#: Whoever is silent has this long to come back, before its recovery is asked for, and a second for the look at it.
HOLD = 5.0 + 1.5
#: A hung QEMU is called so after this long, and a second.
HUNG = IN_TIME + 5 + 2.5
#: The silent are asked again this often, at last.
ASKED_AGAIN = 10.0
#: What the application complains of.
REASON = "disk full"


@dataclass
class Outcome:
    """One line of the summary."""

    what: str
    found: str
    good: bool


class Show:
    """One performance."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self._stage = stage
        self._screen = screen
        self.outcomes: list[Outcome] = []

    def run(self) -> None:
        """From the first challenge to the summary."""
        stage, screen = self._stage, self._screen
        stage.consumer_tells(screen.notified)
        screen.say("waiting until the worker has heard of all four, and knows how they are when they are well")
        self._wait(stage.all_well, 90, "all four guests are well")
        screen.say(f"{HANGS}: its agent is stopped (SIGSTOP); the kernel goes on")
        hung_at = stage.stop_agent(HANGS)
        screen.say(f"{PANICS}: its kernel panics")
        panicked_at = stage.panic(PANICS)
        screen.say(f"{SICK}: its application says that it is unhealthy: {REASON}")
        sick_at = stage.say("unhealthy", REASON)
        self._verdict(HANGS, hung_at, "agent_unresponsive")
        self._verdict(PANICS, panicked_at, "guest_hung")
        self._complaint(SICK, sick_at)
        screen.say(f"{SICK}: its application says that it is healthy")
        self._recovery(SICK, stage.say("healthy"))
        screen.say(f"{HANGS}: its agent goes on (SIGCONT)")
        continued_at = stage.continue_agent(HANGS)
        self._recovery(HANGS, continued_at)
        self._asked_for(PANICS, panicked_at)
        self._untouched()
        screen.say(f"the host stalls: the QEMUs of {', '.join(STALL)} stand still together")
        self._bad_day(stage.stall())

    def _verdict(self, name: str, at: float, cause: str) -> None:
        """Raised in time, and with the right cause soon after."""
        raised = self._notification(name, at, 20, lambda n: n.event_type == "vmhb.fault.raised")
        if raised is None:
            self.outcomes.append(Outcome(f"{name}: fault raised", "never", False))
            return
        took = raised.at - at
        good = took <= IN_TIME and raised.misses == raised.threshold
        found = f"after {took:.1f} s, {raised.misses} misses of {raised.threshold} (at most {IN_TIME:g} s)"
        self.outcomes.append(Outcome(f"{name}: fault raised", found, good))
        final = self._notification(name, at, 10, lambda n: n.cause == cause and n.withheld != "evidence")
        if final is None:
            self.outcomes.append(Outcome(f"{name}: cause {cause}", f"called {raised.cause}", False))
            return
        later = final.at - raised.at
        asked = final.recommended_action
        found = f"{final.confidence} confidence, {later:.1f} s later (at most {FINAL:g} s); recommended: {asked}"
        self.outcomes.append(Outcome(f"{name}: cause {cause}", found, later <= FINAL))

    def _asked_for(self, name: str, at: float) -> None:
        """A recovery is asked for, after a hold; here nobody is there to do it."""
        held = self._notification(name, at, 20, lambda n: n.withheld == "hold")
        asked = self._notification(name, at, 20, lambda n: n.recommended_action == "recover")
        if held is None or asked is None:
            self.outcomes.append(Outcome(f"{name}: its recovery", "never asked for, or never held", False))
            return
        took = asked.at - held.at
        self.outcomes.append(Outcome(f"{name}: its recovery", f"asked for after {took:.1f} s of hold", took <= HOLD))

    def _bad_day(self, at: float) -> None:
        """Many fall silent together: the host is suspected, and no recovery asked for."""
        suspected = self._first(lambda n: n.cause == "host_suspect", at, 20)
        found = "never" if suspected is None else f"after {suspected.at - at:.1f} s: {suspected.reason}"
        self.outcomes.append(Outcome("the host is suspected", found, suspected is not None))
        for name in STALL:
            # A QEMU that hangs has a minute before the brake is asked: until then it is told as not proven.
            withheld = self._notification(name, at, HUNG + 10, lambda n: n.cause == "qemu_hung" and bool(n.withheld))
            said = "not said" if withheld is None else f"{withheld.cause}, recovery withheld: {withheld.withheld}"
            self.outcomes.append(Outcome(f"{name}: stands still", said, withheld is not None))
        self._screen.say("the host goes on")
        went_on = self._stage.go_on()
        for name in STALL:
            self._recovery(name, went_on, ASKED_AGAIN + 20)
        uuids = {self._stage.uuid(name) for name in STALL}
        asked = [n for n in self._stage.consumer.faults(since=at) if n.recommended_action == "recover"]
        wrongly = [n for n in asked if n.instance_uuid in uuids]
        self.outcomes.append(
            Outcome("recoveries asked for meanwhile", ", ".join(map(str, wrongly)) or "none", not wrongly)
        )

    def _complaint(self, name: str, at: float) -> None:
        """An application that is unhealthy is named, with what it said."""
        raised = self._notification(name, at, 20, lambda n: n.event_type == "vmhb.fault.raised")
        if raised is None:
            self.outcomes.append(Outcome(f"{name}: application unhealthy", "never said", False))
            return
        good = raised.cause == "application_unhealthy" and f"{APPLICATION}: {REASON}" in raised.reason
        found = f"after {raised.at - at:.1f} s, {raised.cause}: {raised.reason!r}"
        self.outcomes.append(Outcome(f"{name}: application unhealthy", found, good))

    def _recovery(self, name: str, at: float, timeout: float = 30) -> None:
        cleared = self._notification(name, at, timeout, lambda n: n.event_type == "vmhb.fault.cleared")
        if cleared is None:
            self.outcomes.append(Outcome(f"{name}: fault cleared", "never", False))
        else:
            found = f"after {cleared.at - at:.1f} s, as {cleared.resolution}"
            self.outcomes.append(Outcome(f"{name}: fault cleared", found, cleared.resolution == "recovered"))

    def _untouched(self) -> None:
        said = self._stage.consumer.faults(self._stage.uuid(WELL))
        found = "no fault" if not said else ", ".join(map(str, said))
        self.outcomes.append(Outcome(f"{WELL}: left alone", found, not said))
        still = self._stage.consumer.faults(self._stage.uuid(PANICS))
        open_still = bool(still) and still[-1].event_type != "vmhb.fault.cleared"
        found = "its fault is open: somebody has to reboot it" if open_still else "its fault is not open"
        self.outcomes.append(Outcome(f"{PANICS}: still dead", found, open_still))

    def _notification(
        self, name: str, since: float, timeout: float, found: Callable[[Notification], bool]
    ) -> Notification | None:
        uuid = self._stage.uuid(name)
        return self._first(lambda n: n.instance_uuid == uuid and found(n), since, timeout)

    def _first(self, found: Callable[[Notification], bool], since: float, timeout: float) -> Notification | None:
        def first() -> Notification | None:
            return next((n for n in self._stage.consumer.faults(since=since) if found(n)), None)

        try:
            self._wait(lambda: first() is not None, timeout, "")
        except LabError:
            return None
        return first()

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        drawn = 0.0

        def look() -> bool:
            nonlocal drawn
            if time.monotonic() - drawn > 0.5:
                drawn = time.monotonic()
                self._screen.table(self._stage.instances())
            return condition()

        wait_until(look, timeout, what)


def main() -> int:
    """Exit code 0 when all went as it should."""
    logging.disable(logging.CRITICAL)  # on the screen is the show; the worker's log is the worker's
    stage: Stage = SimulatedStage(EXTRA_SPECS) if sys.argv[1:] == ["simulated"] else RealStage(EXTRA_SPECS)
    screen = Screen(sys.stdout, stage.source)
    show = Show(stage, screen)
    began = time.monotonic()
    try:
        stage.up(screen.say)
        show.run()
    except LabError as error:
        show.outcomes.append(Outcome("the show", str(error), False))
    except KeyboardInterrupt:
        show.outcomes.append(Outcome("the show", "interrupted", False))
    finally:
        screen.say("everything down")
        left = stage.down()
    show.outcomes.append(Outcome("nothing left running", left or "nothing", not left))
    screen.summary([(o.what, o.found, o.good) for o in show.outcomes], time.monotonic() - began)
    return 0 if all(outcome.good for outcome in show.outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
