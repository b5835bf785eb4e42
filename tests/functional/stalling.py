"""All guests of a host stand still together and go on: what is said of each meanwhile, and whom Masakari is told of.

One run of one `Cell`, for the tests and for `benchmarks.stalls`. What is wrong with it is a list of sentences; nothing
but notifications on the wire and what came to Masakari is looked at.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.functional.acting import Acting, acting
from tests.lab import metadata
from tests.lab.broker import Broker
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.processes import wait_until
from tests.stage.crowd import mixed_crowd

#: From this many guests on, all silent together make their host a suspect: [verdict] brake_count.
BRAKE_COUNT = 3
#: The brake ends when its host was calm for so long (seconds), …
CALM = 60.0
#: … and that, a recovery or a POST may be told this much later (seconds): the machine is shared.
SLACK = 20.0
#: Nothing may follow for so long (seconds).
QUIET = 5.0
#: What a kernel that dies writes on its console.
PANIC = b"Kernel panic"

_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Policy:
    """interval/timeout/threshold."""

    interval: float
    timeout: float
    threshold: int

    @classmethod
    def of(cls, text: str) -> Policy:
        """`10/5/3`."""
        interval, timeout, threshold = text.split("/")
        return cls(float(interval), float(timeout), int(threshold))

    def __str__(self) -> str:
        return f"{self.interval:g}/{self.timeout:g}/{self.threshold}"

    @property
    def knobs(self) -> dict[str, str]:
        """As the domain's metadata has them."""
        return {"interval": f"{self.interval:g}", "timeout": f"{self.timeout:g}", "threshold": str(self.threshold)}

    @property
    def judged(self) -> float:
        """From the last acknowledgement to the fault, at most (seconds)."""
        return self.threshold * self.interval + self.timeout

    @property
    def healed(self) -> float:
        """From when a guest goes on until that is told, at most (seconds): three acks, or two intervals."""
        return 4 * self.interval + self.timeout


@dataclass(frozen=True)
class Cell:
    """What is done. dead: what one of them dies of in the same moment: `kernel`, or `qemu`, which never goes on."""

    guests: int
    seconds: float
    policy: Policy
    dead: str = ""

    def __str__(self) -> str:
        dead = f", one dead ({self.dead})" if self.dead else ""
        return f"{self.guests} guests, {self.seconds:g} s, {self.policy}{dead}"

    @property
    def brakes(self) -> bool:
        """Is its host to be called a suspect?"""
        return self.guests >= BRAKE_COUNT


@dataclass
class Outcome:
    """What came of it. Times are seconds since they were stopped; wrong: what must not have been."""

    cell: Cell
    raised: list[float] = field(default_factory=list)
    suspect: list[float] = field(default_factory=list)
    went_on: float = 0.0
    cleared: list[float] = field(default_factory=list)
    released: list[float] = field(default_factory=list)
    recover: list[float] = field(default_factory=list)  # recommended, of any of them
    posted: list[float] = field(default_factory=list)  # of any of them
    wrong: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)  # everything that was said

    def __str__(self) -> str:
        said = (
            f"{self.cell}: raised {_range(self.raised)}, host_suspect {_range(self.suspect)}, went on "
            f"{self.went_on:.1f}, cleared {_range(self.cleared)}, host_suspect cleared {_range(self.released)}, "
            f"recover {_range(self.recover)}, POST {_range(self.posted)}"
        )
        return said + "".join(f"\n    wrong: {sentence}" for sentence in self.wrong)


def _range(moments: Sequence[float]) -> str:
    if not moments:
        return "-"
    first, last = min(moments), max(moments)
    return f"{first:.1f}" if len(moments) == 1 else f"{first:.1f} … {last:.1f} ({len(moments)})"


@dataclass
class Host:
    """A node whose guests answer, every other one over the application channel."""

    broker: Broker
    node: Node
    guests: list[Guest]
    folder: Path
    _dead: list[Guest] = field(default_factory=list)

    @classmethod
    def boot(cls, broker: Broker, node: Node, images: tuple[Image, Image], number: int, folder: Path) -> Host:
        """So many guests. images: with the agent, and with applications."""
        return cls(broker, node, mixed_crowd(node, images, number), folder)

    def run(self, cell: Cell) -> Outcome:
        """One run, with a worker and a consumer that know of no other."""
        self._heal()
        guests = self.guests[: cell.guests]
        if cell.dead:
            self._dead.append(guests[-1])
        for guest in guests:
            _ask(guest, cell.policy)
        name = f"stall-{next(_NUMBERS)}"
        with acting(self.broker, self.node, f"{self.node.name}-{name}", self.folder / name) as host:
            host.know(guests)
            time.sleep(cell.policy.interval)
            return _Run(cell, host, guests).go()

    def _heal(self) -> None:
        """As Masakari would have done to the one that is dead from the last run."""
        while self._dead:
            dead = self._dead.pop()
            dead.continue_qemu()
            dead.destroy()
            dead.boot()


def _ask(guest: Guest, policy: Policy) -> None:
    """From now on it has this policy."""
    channel = "application" if guest.application else "agent"
    knobs = {"channel": channel, "action": "recover_unresponsive", **policy.knobs}
    attributes = " ".join(f"{name}='{value}'" for name, value in knobs.items())
    # Libvirt says itself what the prefix means.
    told = ("--uri", metadata.VMHB, "--key", "vmhb", "--set", f"<heartbeat version='1' heartbeat='true' {attributes}/>")
    for where in ("--live", "--config"):
        guest.node.virsh("metadata", guest.name, where, *told)


def _kill_kernel(guest: Guest) -> None:
    """Until it has really died, it may still answer what it was asked."""
    before = guest.console.read_bytes().count(PANIC)
    guest.panic()
    wait_until(
        lambda: guest.console.read_bytes().count(PANIC) > before, 30, f"{guest.name}'s kernel is dead", every=0.05
    )


class _Run:
    def __init__(self, cell: Cell, host: Acting, guests: list[Guest]) -> None:
        self._cell = cell
        self._host = host
        self._dead = guests[-1] if cell.dead else None
        self._others = [guest for guest in guests if guest is not self._dead]
        self._guests = guests
        self._outcome = Outcome(cell)
        self._stopped = 0.0
        self._went_on = 0.0

    def go(self) -> Outcome:
        self._stall()
        self._until_all_is_said()
        time.sleep(QUIET + self._cell.policy.interval)
        self._note_times()
        self._judge_the_living()
        self._judge_the_host()
        self._judge_the_dead()
        return self._outcome

    def _stall(self) -> None:
        if self._dead is not None and self._cell.dead == "kernel":
            _kill_kernel(self._dead)
        self._stopped = self._guests[0].stop_qemu()
        for guest in self._guests[1:]:
            guest.stop_qemu()
        try:
            time.sleep(max(0.0, self._stopped + self._cell.seconds - time.monotonic()))
        finally:
            for guest in self._guests:
                if guest is not self._dead or self._cell.dead != "qemu":
                    self._went_on = guest.continue_qemu()

    def _until_all_is_said(self) -> None:
        """Each step has its time; what has not come by then is judged as what it is: missing."""
        policy, host = self._cell.policy, self._host
        # Whoever was about to be judged has been by then, so that nothing open means that all is well.
        time.sleep(policy.interval + policy.timeout)
        _until(policy.healed + SLACK, lambda: not any(host.open(guest) for guest in self._others))
        if host.suspicions("raised"):
            _until(CALM + policy.healed + SLACK, lambda: bool(host.suspicions("cleared")))
        if self._dead is not None:
            host.masakari.wait(self._dead.uuid, policy.judged + SLACK)

    def _note_times(self) -> None:
        host, outcome = self._host, self._outcome
        told = [one for guest in self._guests for one in host.told(guest, self._stopped)]
        names = {guest.uuid: guest.name for guest in self._guests}

        def at(kind: str) -> list[float]:
            return [one.at - self._stopped for one in told if one.event_type == f"vmhb.fault.{kind}"]

        everything = [
            *((one.at, f"{names.get(one.instance_uuid, one.host)} {one}") for one in host.watch.faults()),
            *((one.at, f"{names[one.instance_uuid]} POST {one.event}") for one in host.masakari.posted()),
        ]
        outcome.story = [f"{at - self._stopped:7.2f} {said}" for at, said in sorted(everything)]
        outcome.went_on = self._went_on - self._stopped
        outcome.raised, outcome.cleared = at("raised"), at("cleared")
        outcome.suspect = [one.at - self._stopped for one in host.suspicions("raised")]
        outcome.released = [one.at - self._stopped for one in host.suspicions("cleared")]
        outcome.recover = [one.at - self._stopped for one in told if one.recommended_action == "recover"]
        outcome.posted = [one.at - self._stopped for one in host.masakari.posted()]

    def _judge_the_living(self) -> None:
        """Nobody who goes on is to be recovered, not even for a moment; and what was said of them is over."""
        for guest in self._others:
            name = f"{guest.name} ({'application' if guest.application else 'agent'})"
            for one in self._host.recoveries(guest):
                self._wrong(f"recover recommended for {name} at {one.at - self._stopped:.1f} s: {one}")
            for posted in self._host.posted(guest):
                self._wrong(f"Masakari was told of {name} at {posted.at - self._stopped:.1f} s")
            for one in self._host.open(guest):
                self._wrong(f"a fault of {name} is still open: {one}")
            if not self._host.told(guest, self._stopped):
                self._wrong(f"nothing was said of {name}, that stood still for {self._cell.seconds:g} s")

    def _judge_the_host(self) -> None:
        wanted = int(self._cell.brakes)
        for change in ("raised", "cleared"):
            told = len(self._host.suspicions(change))
            if told != wanted:
                self._wrong(f"host_suspect was {change} {told} times, not {wanted}")

    def _judge_the_dead(self) -> None:
        """Once, and not before the brake was off."""
        if self._dead is None:
            return
        name, posted = self._dead.name, self._host.posted(self._dead)
        if len(posted) != 1:
            self._wrong(f"Masakari was told {len(posted)} times of {name}, which is dead")
        released = self._host.suspicions("cleared")
        free = released[0].at if released else self._went_on
        for one in self._host.recoveries(self._dead):
            if one.at < free - 1.0:  # both are said in one turn of the worker, in either order
                self._wrong(f"{name} was to be recovered at {one.at - self._stopped:.1f} s, before the brake was off")

    def _wrong(self, sentence: str) -> None:
        self._outcome.wrong.append(sentence)


def _until(seconds: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not condition():
        time.sleep(0.1)
