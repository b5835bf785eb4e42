"""Trouble of the host's own: the living are not accused of it, and the dead are found in spite of it."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.core.scenario import WELL, Guest, Host, Runs, settled
from vmhb_common.model.policy import Action, Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.beats import IN_A_ROW, Beats, Judged
from vmhb_worker.core.doubt import QUIET
from vmhb_worker.core.host_pressure import UNKNOWN, Strain

#: The shortest times that there are.
HASTY: dict[str, Any] = {
    "interval": 0.2,
    "timeout": 0.1,
    "threshold": 3,
    "channel": Channel.APPLICATION,
    "action": Action.RECOVER,
}


def stalls(spells: Sequence[tuple[float, float]], lag: float = 0.0) -> Runs:
    """Who does not run in these spells, from when until when, and for so long after each."""
    begins = [began for began, _ in spells]

    def runs(at: float) -> float:
        spell = bisect_right(begins, at) - 1
        return max(at, spells[spell][1] + lag) if spell >= 0 else at

    return runs


def by_turns(begin: float, turns: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spells: from then on, it runs for so long, and then does not for so long, and again."""
    spells = []
    for ran, stalled in turns:
        spells.append((begin + ran, begin + ran + stalled))
        begin += ran + stalled
    return spells


def quota(share: float, period: float, begin: float, end: float, seed: int) -> Runs:
    """This share of each period, at some place in it, as a scheduler gives it out."""
    chance = random.Random(seed)
    starts = itertools.takewhile(lambda at: at < end, (begin + number * period for number in itertools.count()))
    idle = (1 - share) * period
    return stalls([(at + late, at + late + idle) for at in starts for late in [chance.uniform(0.0, share * period)]])


def hasty(seed: int, period: float, rtt: float = 0.1) -> Guest:
    """Well until 10.0; then worker and guest have a fifth of a processor, each its own, until 40.0."""
    guest = Host().guest("vm", WELL, **HASTY)
    guest.run(10.0)
    guest.host.runs = quota(0.2, period, 10.0, 40.0, seed)
    guest.application.runs = quota(0.2, period, 10.0, 40.0, seed + 1000)
    guest.application.rtt = rtt
    return guest


@pytest.mark.parametrize("period", [0.1, 0.3, 0.5])
def test_whoever_is_throttled_with_its_worker_is_not_accused(period: float) -> None:
    """At the shortest times, with a fifth of a processor each for 30 s: no fault, however it is dealt out."""
    for seed in range(20):
        guest = hasty(seed, period)
        guest.run(60.0)
        assert guest.transcript == [], f"seed {seed}"


@pytest.mark.parametrize(("interval", "timeout"), [(0.2, 0.1), (1.0, 1.0)])
def test_stalls_explain_three_beats_more(interval: float, timeout: float) -> None:
    """A guest that its host gives nothing for six beats, while we have a fifth of a processor, is not accused; when we
    are there all the time, it is."""
    for seed in range(20):
        guests = [Host().guest("vm", WELL, **HASTY | {"interval": interval, "timeout": timeout}) for _ in range(2)]
        for guest in guests:
            guest.run(20.0)
            guest.application.runs = stalls([(20.05, 20.05 + 6 * interval)])
        guests[0].host.runs = quota(0.2, 1.5 * interval, 20.0, 40.0, seed)
        for guest in guests:
            guest.run(60.0)
        assert [len(guest.raised) for guest in guests] == [0, 1], f"seed {seed}"


@pytest.mark.parametrize("period", [0.1, 0.3, 0.5])
def test_whoever_dies_meanwhile_is_told(period: float) -> None:
    """After 7 beats at most, each as late as we are. Where its beats had to be judged in spite of doubt, no recovery is
    asked for until there was none for long enough."""
    held = 0
    for seed in range(20):
        guest = hasty(seed, period)
        guest.run(20.0)
        guest.application.hangs()
        guest.kernel_dies()
        guest.run(20.0 + 3 * 0.2 + 0.1 + 3 * (0.2 + 0.1) + 7 * period)
        assert len(guest.raised) == 1, f"seed {seed}"
        guest.run(40.0)
        held += guest.fault is not None and guest.fault.withheld == "hold"
        guest.run(40.0 + 2 * QUIET + 10.0)
        assert guest.transcript[-1].endswith("guest_hung, recover"), f"seed {seed}"
    assert held > 10 or period == 0.1


def test_judged_in_spite_of_doubt_it_is_an_alarm_until_the_host_is_quiet() -> None:
    """A host that is always in trouble still reports its dead, and has nobody recovered."""
    guest = settled(interval=1.0, timeout=1.0, threshold=3)
    guest.kernel_dies()
    died = guest.host.now
    while guest.host.now < died + 300.0:
        guest.happens(ev.Voided("the worker was late", lasted=0.6))
        guest.run(guest.host.now + 0.7)
    assert [line.split(" ", 1)[1] for line in guest.transcript] == [
        "raised guest_silent, withheld: evidence",
        "updated guest_hung, withheld: hold",
    ]
    assert guest.fault is not None
    assert guest.fault.reason.endswith("in spite of doubt in its host, which has not been over for long enough")
    guest.run(guest.host.now + 2 * QUIET + 5.0)
    assert guest.transcript[-1].endswith("updated guest_hung, recover")


def test_a_probe_is_not_put_off_by_what_is_short() -> None:
    """80 ms are no reason to wait for a balloon for another two seconds and a half; ten times a second, for ever."""
    guest = settled(**HASTY)
    guest.application.hangs()
    guest.kernel_dies()
    for _ in range(100):
        guest.happens(ev.Voided("the worker was late", lasted=0.08))
        guest.run(guest.host.now + 0.1)
    assert guest.fault is not None
    assert guest.fault.cause == "guest_hung"


# -- pressure ----------------------------------------------------------------------------------------------------------


def test_pressure_saves_the_beats_that_it_covers_three_in_a_row() -> None:
    """From the challenge to its end; then it is judged in spite of it. An answer begins anew."""
    beats = Beats(1.0, 0.5, first=10.0)

    def beat(at: float, pressed: float) -> Judged:
        assert beats.open_due(at)
        beats.asked(at)
        return beats.judge(at + 0.5, at + 0.4, pressed)

    assert beat(10.0, pressed=10.1) == Judged(missed=1)
    assert [beat(at, pressed=10.1) for at in (11.0, 12.0, 13.0)] == [Judged(skipped=1)] * IN_A_ROW
    assert beat(14.0, pressed=10.1) == Judged(missed=1, in_spite=True)
    assert beat(15.0, pressed=15.2) == Judged(missed=1)
    beats.acked()
    assert beat(16.0, pressed=10.1) == Judged(skipped=1)


def test_a_host_that_is_always_under_pressure_reports_its_dead() -> None:
    """Three beats later than others, as an alarm, and with the pressure in the evidence."""
    guest = settled(interval=1.0, timeout=1.0, threshold=3)
    guest.host.pressed = 0.9
    guest.host.is_looked_at()
    guest.run(120.0)
    assert guest.transcript == []
    guest.kernel_dies()
    guest.run(120.0 + 3 * 1.0 + 1.0)
    assert guest.transcript == []
    guest.run(120.0 + 3 * 1.0 + 1.0 + 3 * 1.0)
    assert [fault.misses for fault in guest.raised] == [3]
    assert guest.raised[0].skipped == IN_A_ROW
    assert guest.raised[0].evidence["host"]["value"].startswith("memory 90%, io unavailable (")
    guest.run(200.0)
    assert guest.transcript[-1].endswith("updated guest_hung, withheld: hold")
    assert guest.host.doubt.at_bound(200.0) is not None


def test_what_cannot_be_read_excuses_nobody() -> None:
    """It is no pressure, and no calm either: the evidence says why it is not known."""
    guest = settled(interval=1.0, timeout=1.0, threshold=3)
    guest.kernel_dies()
    guest.run(104.0)
    assert len(guest.raised) == 1
    assert guest.raised[0].evidence["host"] == {"value": "unavailable", "reason": "not looked at yet"}
    assert Strain().since == UNKNOWN.since


# -- whatever happens --------------------------------------------------------------------------------------------------

#: How long it runs, and then does not.
TURNS = st.lists(st.tuples(st.floats(0.03, 3.0), st.floats(0.0, 3.0)), min_size=1, max_size=8)
POLICIES = st.sampled_from(
    [
        *((0.2, 0.1, 3, Channel.APPLICATION), (1.0, 1.0, 3, Channel.APPLICATION), (10.0, 5.0, 3, Channel.APPLICATION)),
        *((1.0, 5.0, 3, Channel.APPLICATION), (1.0, 5.0, 3, Channel.AGENT)),
        *((1.0, 1.0, 3, Channel.AGENT), (1.0, 0.3, 2, Channel.AGENT), (10.0, 5.0, 3, Channel.AGENT)),
    ]
)


def troubled(asked: tuple[float, float, int, Channel], turns: list[tuple[float, float]], lag: float) -> Guest:
    """Well until 100.0; then the host is in trouble, over and over. lag: its guest goes on so much later than we."""
    interval, timeout, threshold, channel = asked
    guest = settled(interval=interval, timeout=timeout, threshold=threshold, channel=channel)
    spells = by_turns(100.0, turns * (2 + int(200.0 / sum(map(sum, turns)))))
    guest.host.runs = stalls(spells)
    guest.application.runs = stalls(spells, lag)
    return guest


@settings(derandomize=True, max_examples=100, deadline=None)
@given(asked=POLICIES, turns=TURNS, lag=st.sampled_from([0.0, 0.02]))
def test_whoever_answers_whenever_it_runs_is_never_accused(
    asked: tuple[float, float, int, Channel], turns: list[tuple[float, float]], lag: float
) -> None:
    """Whenever the host does not run, and however often."""
    guest = troubled(asked, turns, lag)
    guest.run(250.0)
    assert guest.raised == [], guest.transcript


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    asked=POLICIES,
    turns=TURNS,
    silences=st.lists(st.tuples(st.floats(0.3, 4.0), st.floats(0.0, 4.0)), max_size=4),
    pressed=st.sampled_from([0.0, 0.9]),
    phase=st.floats(0.0, 10.0),
)
@example((10.0, 5.0, 3, Channel.AGENT), [(0.5, 0.6)], [(0.5, 2.5)], 0.9, 0.0)
def test_whoever_is_dead_is_told_in_time(
    asked: tuple[float, float, int, Channel],
    turns: list[tuple[float, float]],
    silences: list[tuple[float, float]],
    pressed: float,
    phase: float,
) -> None:
    """Three beats later than elsewhere, and for each beat as late as the longest stall and the longest silence."""
    interval, timeout, threshold, _ = asked
    guest = troubled(asked, turns, 0.0)
    host = guest.host
    host.pressed = pressed
    host.is_looked_at()
    for began, ended in by_turns(100.0, silences * 40):
        host.at(began, host.libvirtd_stops)
        host.at(ended, host.libvirtd_goes_on)
    guest.run(100.0 + phase)
    assert guest.raised == []
    died = host.now
    guest.application.hangs()
    guest.kernel_dies()
    longest = max(stalled for _, stalled in turns) + max((lasted for _, lasted in silences), default=0.0)
    bound = threshold * interval + timeout + IN_A_ROW * (interval + timeout) + (threshold + IN_A_ROW + 1) * longest
    guest.run(died + bound + 0.5)
    assert len(guest.raised) == 1, guest.monitor.told(host.now)
