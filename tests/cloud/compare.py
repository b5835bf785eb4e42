"""Side by side with what an operator would pick instead: masakari-introspectiveinstancemonitor, in our worker's place.

The same cloud, the same guests, interval, time-out and number of misses (1 s, 1 s, 3), and the same hang. For each of
the two, in turn: how long until Masakari has the notification, how long until the guest answers again, with no other
hung guest on the host, and with three; and what either reports while users do to their servers what users do.

The three others hang before whoever watches is started: so neither has them recovered, and both have them to wait for.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from openstack.exceptions import SDKException

from tests.cloud.deeds import Deed
from tests.cloud.stage import QUIET, Server, Stage
from tests.lab.processes import LabError, wait_until

NODE = "node1"
OURS, PEER = "nova-vmhb", "introspectiveinstancemonitor"
#: A cycle of the peer's with three hung guests: 5 s for each. It must have seen a new guest twice.
CYCLE = 16.0
#: Until Masakari has it; and until all is over.
PATIENCE = 300.0


@dataclass
class Seen:
    """Of one watcher. Times in seconds, from the hang. None: not within PATIENCE."""

    watcher: str
    detected: dict[int, float | None] = field(default_factory=dict)  # other hung guests -> Masakari has it
    answered: dict[int, float | None] = field(default_factory=dict)
    false: dict[str, int] = field(default_factory=dict)  # deed -> notifications to Masakari
    upset: list[str] = field(default_factory=list)  # deeds that did not come to their end


@contextlib.contextmanager
def watched_by(stage: Stage, watcher: str) -> Iterator[Callable[[], None]]:
    """On NODE there is nobody else. What it yields starts him; afterwards our worker is back."""
    stage.holder.ask("halt", name=f"vmhb-worker-{NODE}")
    name = f"{PEER}-{NODE}" if watcher == PEER else f"vmhb-worker-{NODE}"
    begun = False

    def begin() -> None:
        nonlocal begun
        stage.holder.ask("boot", name=name)
        begun = True

    try:
        yield begin
    finally:
        if begun:
            stage.holder.ask("halt", name=name)
        stage.holder.ask("boot", name=f"vmhb-worker-{NODE}")


def compare(stage: Stage, deeds: Mapping[str, Deed], tell: Callable[[str], None]) -> list[Seen]:
    """Both, one after the other. Takes some 20 minutes with all deeds."""
    found = []
    for watcher in (OURS, PEER):
        seen = Seen(watcher)
        for others in (0, 3):
            _hang(stage, seen, others)
            detected, answered = (_told(times[others]) for times in (seen.detected, seen.answered))
            tell(f"{watcher}: a hang beside {others} hung guests: Masakari has it after {detected}, answers {answered}")
        with watched_by(stage, watcher) as begin:
            begin()
            for name, deed in deeds.items():
                _do(stage, seen, name, deed)
                tell(f"{watcher}: {name}: {seen.false[name]} recoveries asked for")
        found.append(seen)
    return found


def table(found: list[Seen]) -> str:
    """As it stands in docs/cloud.rst."""
    rows = []
    for others in (0, 3):
        hang = f"a hang beside {others} other hung guests" if others else "a hang"
        rows.append((f"{hang}: Masakari has it after", [_told(seen.detected[others]) for seen in found]))
        rows.append((f"{hang}: the guest answers again after", [_told(seen.answered[others]) for seen in found]))
    rows.append(("operations that led to a false recovery", [_false(seen) for seen in found]))
    width = max(len(name) for name, _ in rows)
    lines = [
        f"{name:{width}}  {'  '.join(f'{value:>28}' for value in values)}"
        for name, values in [("", [seen.watcher for seen in found]), *rows]
    ]
    for seen in found:
        wrong = [f"{name} ({number})" for name, number in seen.false.items() if number]
        lines.append(f"{seen.watcher}: false recoveries: {', '.join(wrong) or 'none'}")
        if seen.upset:
            lines.append(f"{seen.watcher}: did not come to their end: {', '.join(seen.upset)}")
    return "\n".join(lines)


def _hang(stage: Stage, seen: Seen, others: int) -> None:
    """One guest's agent is stopped, beside so many that were stopped before."""
    with watched_by(stage, seen.watcher) as begin, contextlib.ExitStack() as stack:

        def boot(name: str, flavor: str) -> Server:
            server = stage.boot(name, flavor, node=NODE)
            stack.callback(server.delete)
            _wait_answers(server)
            return server

        for number in range(others):
            boot(f"hung-{number}", "watched").hang_agent()
        victim = boot("victim", "monitored")
        begin()
        time.sleep(CYCLE * 2 if others else 8)
        hung = victim.hang_agent()
        seen.detected[others] = _since(hung, lambda: bool(victim.reports()))
        if seen.detected[others] is None:
            seen.answered[others] = None
            return
        _since(hung, lambda: "start" in victim.actions() and victim.now.status == "ACTIVE")
        seen.answered[others] = _since(hung, lambda: _answers(victim))


def _do(stage: Stage, seen: Seen, name: str, deed: Deed) -> None:
    """What was reported meanwhile, and for as long afterwards as a guest takes to boot."""
    server = stage.boot("user", "monitored", node=NODE)
    try:
        _wait_answers(server)
        time.sleep(8)
        try:
            deed(stage, server, _wait_answers)
        except (LabError, SDKException, AssertionError) as error:
            seen.upset.append(f"{name} ({type(error).__name__})")
        time.sleep(3 * QUIET)
        seen.false[name] = len(server.reports())
        if seen.false[name]:  # Masakari is at it
            time.sleep(20)
    finally:
        server.delete()


def _wait_answers(server: Server) -> None:
    wait_until(lambda: _answers(server), 120, f"the guest of {server.name} answers", every=0.5)


def _answers(server: Server) -> bool:
    """Its agent, once."""
    ping = json.dumps({"execute": "guest-ping"})
    try:
        server.virsh("qemu-agent-command", "--timeout", "2", server.domain_id(), ping)
    except LabError:
        return False
    return True


def _since(began: float, condition: Callable[[], bool]) -> float | None:
    try:
        return wait_until(condition, PATIENCE, "it", every=0.2) - began
    except LabError:
        return None


def _told(seconds: float | None) -> str:
    return f"{seconds:.1f} s" if seconds is not None else "never"


def _false(seen: Seen) -> str:
    return f"{sum(bool(number) for number in seen.false.values())} of {len(seen.false)}"
