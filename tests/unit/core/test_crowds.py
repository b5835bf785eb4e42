"""Many fall silent at once: the last is told of as soon as the first, whatever their number, and nobody else is.

Fifty of sixty here; `benchmarks.crowds` has more, behind a real libvirtd."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.conftest import Figure
from tests.unit.core.scenario import KNOWN, Guest, Host
from vmhb_common.model.policy import Action, Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.ask_schedule import REQUEST_CEILING
from vmhb_worker.core.evidence import System

#: interval, timeout, threshold
POLICIES = [(10.0, 5.0, 3), (5.0, 5.0, 3), (1.0, 1.0, 3)]
#: Places that the agents have.
PLACES = 8
#: All have answered, and their balloons are known (seconds).
SETTLED = 30.0


def crowd(number: int, policy: tuple[float, float, int], channel: Channel) -> tuple[Host, list[Guest]]:
    """So many Linux guests that answer."""
    host = Host()
    interval, timeout, threshold = policy
    asked: dict[str, Any] = {"interval": interval, "timeout": timeout, "threshold": threshold, "channel": channel}
    guests = [host.guest(f"vm-{n:03}", KNOWN, action=Action.RECOVER, **asked) for n in range(number)]
    for guest in guests:
        guest.monitor.system.of_domain = System.LINUX
    host.run(SETTLED)
    return host, guests


def raised(guest: Guest) -> float:
    """When its fault was."""
    return next(float(line.split()[0]) for line in guest.transcript if " raised " in line)


def final(guest: Guest) -> float:
    """When its cause was found for good: nothing is awaited any more."""
    told = [effect for at, effect in guest.effects if isinstance(effect, ev.RaiseFault)]
    done = [e for e in told if not e.verdict.evidence.pending and str(e.verdict.cause) == guest.fault.cause]  # type: ignore[union-attr]
    return next(at for at, effect in guest.effects if effect is done[0])


@pytest.mark.parametrize("channel", list(Channel))
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: "/".join(f"{x:g}" for x in policy))
@pytest.mark.parametrize(("number", "dead"), [(12, 12), (60, 50)])
def test_dead_kernels_are_told_of_together(
    number: int, dead: int, policy: tuple[float, float, int], channel: Channel, figure: Figure
) -> None:
    """Threshold x interval + time-out + 2 s, the cause 3 s later; two intervals' worth of slack where the agent must be
    asked first."""
    host, guests = crowd(number, policy, channel)
    for guest in guests[:dead]:
        guest.kernel_dies()
        guest.application.hangs()
    interval, timeout, threshold = policy
    bound = threshold * interval + timeout + 2.0
    host.run(SETTLED + bound + 10.0)
    assert {guest.fault.cause if guest.fault else None for guest in guests[:dead]} == {"guest_hung"}
    assert [guest.uuid for guest in guests[dead:] if guest.raised] == []
    took = sorted(raised(guest) - SETTLED for guest in guests[:dead])
    settled = sorted(final(guest) - SETTLED for guest in guests[:dead])
    name = f"{dead} of {number} dead, {'/'.join(f'{x:g}' for x in policy)}, {channel}"
    skipped = max((guest.most_skipped for guest in guests[dead:]), default=0)
    figure(f"{name}: raised, the last", took[-1], "s")
    figure(f"{name}: final, the last", settled[-1], "s")
    figure(f"{name}: skipped of who lives", skipped, "beats")
    assert took[-1] <= max(bound, 8.0 if channel is Channel.AGENT else 6.0)
    assert settled[-1] <= max(bound, 8.0 if channel is Channel.AGENT else 6.0) + 3.0


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: "/".join(f"{x:g}" for x in policy))
@pytest.mark.parametrize(("number", "silent"), [(12, 12), (60, 50)])
def test_silent_agents_have_their_turn(
    number: int, silent: int, policy: tuple[float, float, int], figure: Figure
) -> None:
    """One request for each eight of them: whether the agent of a kernel that lives answers must be asked, and for no
    less time than at other times, or one that is slow would be accused for the others' silence."""
    host, guests = crowd(number, policy, Channel.AGENT)
    for guest in guests[:silent]:
        guest.agent_stops()
    interval, timeout, threshold = policy
    request = min(REQUEST_CEILING, math.ceil((threshold - 1) * interval + timeout) + 1)
    bound = threshold * interval + timeout + math.ceil(silent / PLACES) * request
    host.run(SETTLED + bound + 10.0)
    assert {guest.fault.cause if guest.fault else None for guest in guests[:silent]} == {"agent_unresponsive"}
    assert [guest.uuid for guest in guests[silent:] if guest.raised] == []
    took = sorted(raised(guest) - SETTLED for guest in guests[:silent])
    figure(f"{silent} of {number} silent, {'/'.join(f'{x:g}' for x in policy)}: raised, the last", took[-1], "s")
    assert took[-1] <= bound
