"""A thousand instances for an hour, with everything that may happen to them, through the lanes of one worker."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.conftest import Figure
from tests.unit.core.scenario import NEW, START, Guest, Host
from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Action
from vmhb_worker.core import events as ev
from vmhb_worker.core.instance_state import Timing
from vmhb_worker.core.transitions import State

INSTANCES = 1000
HOUR = 3600.0
#: Nothing new happens after this: every fault has time to be cleared.
LAST_BEGINNING = 3000.0
#: (interval, timeout, threshold), as flavors may have them.
ASKED = [(10.0, 5.0, 3), (20.0, 5.0, 3), (30.0, 5.0, 2), (30.0, 12.0, 2), (60.0, 5.0, 1)]
TIMING = Timing(exit_settle_time=120.0)
#: A tenth of the instances has trouble; one in so many of a kind.
FATES = {
    "agent stops": 20,
    "kernel dies": 20,
    "panics": 8,
    "qemu stops": 8,
    "qemu dies": 8,
    "agent exits": 16,
    "disk is gone": 8,
    "reboots": 60,
    "is paused": 40,
    "migrates away": 20,
    "is saved and restored": 20,
    "is slow": 60,
    "restarts its agent": 40,
    "is destroyed": 20,
}
#: What each of them is accused of in the end; the others are accused of nothing.
CAUSES = {
    "agent stops": Cause.AGENT_UNRESPONSIVE,
    "kernel dies": Cause.GUEST_HUNG,
    "panics": Cause.GUEST_PANICKED,
    "qemu stops": Cause.QEMU_HUNG,
    "qemu dies": Cause.QEMU_FAILED,
    "agent exits": Cause.AGENT_EXITED,
    "disk is gone": Cause.PAUSED_IO_ERROR,
}


@dataclass
class Life:
    """One instance: what happens to it, when it begins, and when it ends."""

    guest: Guest
    fate: str
    begins: float
    ends: float

    @property
    def latest(self) -> float:
        """The latest time of its fault: DESIGN 9, and each cause's own time."""
        asked = self.guest.monitor.policy
        hang = asked.threshold * asked.interval + asked.timeout
        takes = {
            "panics": min(hang, TIMING.panic_grace),
            "agent exits": TIMING.exit_settle_time + asked.interval,
            "qemu dies": 0.0,
            "disk is gone": 0.0,
        }.get(self.fate, hang)
        return self.begins + takes + max(0.5, 0.05 * takes)


def plan(host: Host, dice: random.Random) -> list[Life]:
    fates = [fate for fate, number in FATES.items() for _ in range(number)]
    fates += ["is well"] * (INSTANCES - len(fates))
    dice.shuffle(fates)
    lives = []
    for number, fate in enumerate(fates):
        interval, timeout, threshold = dice.choice(ASKED)
        guest = host.guest(
            f"vm-{number}",
            NEW,
            TIMING,
            interval=interval,
            timeout=timeout,
            threshold=threshold,
            action=Action.RECOVER,
        )
        guest.agent_goes_on(dice.choice((0.003, 0.01, 0.05, 0.2)))
        begins = dice.uniform(300.0, LAST_BEGINNING)
        life = Life(guest, fate, begins, begins + dice.uniform(200.0, 400.0))
        begin, end = DEEDS[fate]
        host.at(life.begins, partial(begin, guest))
        host.at(life.ends, partial(end, guest))
        lives.append(life)
    return lives


def reboots(guest: Guest) -> None:
    guest.agent_exits()
    guest.host.later(60.0, lambda: guest.boots(after=90.0))


def migrates_away(guest: Guest) -> None:
    guest.happens(ev.Silenced("job", "live migration", guest.host.now + 60.0))
    guest.host.later(50.0, lambda: guest.happens(ev.Paused("handed over to another host")))
    guest.host.later(51.0, guest.is_migrated_away)


def is_slow(guest: Guest) -> None:
    """Just over its time-out where one miss is no fault, just under it where it is or libvirt would give up."""
    asked = guest.monitor.policy
    guest.agent_goes_on(asked.timeout * (1.2 if asked.threshold > 1 and asked.timeout <= 5.0 else 0.8))


def restarts_its_agent(guest: Guest) -> None:
    guest.agent_exits()
    guest.host.later(15.0, guest.agent_starts)


def boots(guest: Guest) -> None:
    guest.boots(after=45.0)


def nothing(guest: Guest) -> None:
    pass


#: How each fate begins, and how it ends.
DEEDS: dict[str, tuple[Callable[[Guest], None], Callable[[Guest], None]]] = {
    "agent stops": (Guest.agent_stops, Guest.agent_goes_on),
    "kernel dies": (Guest.kernel_dies, boots),
    "panics": (lambda guest: guest.kernel_dies(told=True), boots),
    "qemu stops": (Guest.qemu_stops, Guest.qemu_goes_on),
    "qemu dies": (Guest.qemu_dies, boots),
    "agent exits": (Guest.agent_exits, Guest.agent_starts),
    "disk is gone": (lambda guest: guest.gets_stuck(ev.Stuck(Cause.PAUSED_IO_ERROR)), Guest.is_resumed),
    "reboots": (reboots, nothing),
    "is paused": (Guest.is_paused, Guest.is_resumed),
    "migrates away": (migrates_away, nothing),
    "is saved and restored": (Guest.is_saved, Guest.is_restored),
    "is slow": (is_slow, Guest.agent_goes_on),
    "restarts its agent": (restarts_its_agent, nothing),
    "is destroyed": (Guest.is_destroyed, boots),
    "is well": (nothing, nothing),
}


def wrongs(life: Life) -> list[str]:
    """What is not as it should be."""
    guest, cause = life.guest, CAUSES.get(life.fate)
    found = [f"still open: {guest.fault.cause}"] if guest.fault is not None else []
    if cause is None:
        return found + [f"accused: {line}" for line in guest.transcript if "raised" in line]
    if len(guest.raised) != 1:
        return [*found, f"raised {len(guest.raised)} times"]
    raised = (guest.raised[0].raised_at - START).total_seconds()
    if not life.begins - 0.001 <= raised <= life.latest:
        found.append(f"raised at {raised:.2f}, not within {life.begins:.2f} to {life.latest:.2f}")
    told = [line.split() for line in guest.transcript if "raised" in line or "updated" in line]
    last = [cause.rstrip(",") for at, _, cause, *_ in told if float(at) < life.ends][-1]
    if last != cause:
        found.append(f"accused of {last}, not of {cause}")
    return found


def test_a_thousand_instances_for_an_hour(figure: Figure) -> None:
    """Every hang is found in its time with the right cause, nobody else is accused, and every fault is cleared."""
    clock = time.process_time()
    host = Host()
    lives = plan(host, random.Random(20))
    host.run(HOUR)
    faults = Counter(life.fate for life in lives if life.guest.raised)

    assert {f"{life.fate} {life.guest.uuid}": wrongs(life) for life in lives if wrongs(life)} == {}
    assert faults == {fate: FATES[fate] for fate in CAUSES}
    assert host.most_in_flight <= 8
    gone = {life.fate for life in lives if life.guest.monitor.state is not State.ALIVE}
    assert gone == {"migrates away"}

    beats = sum(len(life.guest.asks()) for life in lives)
    figure("simulation: instances", INSTANCES, "instances")
    figure("simulation: challenges", beats, "challenges")
    figure("simulation: events", host.turns, "events")
    figure("simulation: faults raised, named and cleared", sum(faults.values()), "faults")
    figure("simulation: most requests in flight", host.most_in_flight, "requests", limit=8)
    figure("simulation: CPU time for an hour", time.process_time() - clock, "s")
