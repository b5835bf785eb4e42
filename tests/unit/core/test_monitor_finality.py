"""When a verdict is final: not while what can change it is on its way, and soon after that."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.scenario import Guest, settled
from vmhb_common.model.policy import Action
from vmhb_worker.core import events as ev
from vmhb_worker.core.instance_state import Timing

FAST: dict[str, Any] = {"interval": 1.0, "timeout": 1.0, "threshold": 3}
EAGER = Action.RECOVER_UNRESPONSIVE


def somebody_asks(guest: Guest, seconds: float) -> None:
    """Somebody else's command holds the agent for so long; ours waits behind it."""
    guest._change(busy=True)
    guest.host.later(seconds, lambda: guest._change(busy=False))


# -- somebody else's command -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "transcript"),
    [
        (2.0, []),
        (
            6.0,
            [
                "103.10 raised agent_unresponsive, withheld: evidence",
                "106.01 cleared agent_unresponsive: recovered",
            ],
        ),
        (
            20.0,
            [
                "103.10 raised agent_unresponsive, withheld: evidence",
                "120.01 cleared agent_unresponsive: recovered",
            ],
        ),
        (
            40.0,  # libvirt gave up after 30 s: ours never left its queue
            [
                "103.10 raised agent_unresponsive, withheld: evidence",
                "140.01 cleared agent_unresponsive: recovered",
            ],
        ),
    ],
)
def test_nobody_is_recovered_for_somebody_elses_command(held: float, transcript: list[str]) -> None:
    """It holds the agent for longer than a fast policy waits: our challenge never reached it."""
    guest = settled(action=EAGER, **FAST)
    somebody_asks(guest, held)
    guest.run(300.0)
    assert guest.transcript == transcript


@pytest.mark.parametrize("held", [6.0, 20.0])
def test_nor_with_a_threshold_of_one(held: float) -> None:
    """The balloon's answer names the cause, and asks for nothing either."""
    guest = settled(action=EAGER, interval=1.0, timeout=1.0, threshold=1)
    somebody_asks(guest, held)
    guest.run(300.0)
    assert guest.transcript == [
        "101.10 raised guest_silent, withheld: evidence",
        "102.28 updated agent_unresponsive, withheld: evidence",
        f"{100.0 + held + 0.01:.2f} cleared agent_unresponsive: recovered",
    ]


def test_an_agent_that_hangs_behind_somebody_elses_command_is_found() -> None:
    """When our challenge is through to it, and is not answered either."""
    guest = settled(action=EAGER, **FAST)
    somebody_asks(guest, 20.0)
    guest.agent_stops()
    guest.run(300.0)
    assert guest.transcript == [
        "103.10 raised agent_unresponsive, withheld: evidence",
        "124.00 updated agent_unresponsive, recover",
    ]


def test_a_dead_kernel_needs_no_challenge() -> None:
    """Its balloon is silent as well, whoever holds the agent."""
    guest = settled(action=Action.RECOVER, **FAST)
    somebody_asks(guest, 20.0)
    guest.kernel_dies()
    guest.run(110.0)
    assert guest.transcript == [
        "103.10 raised guest_silent, withheld: evidence",
        "103.63 updated guest_hung, recover",
    ]


# -- what makes it final -----------------------------------------------------------------------------------------


def test_a_challenge_that_comes_back_without_an_answer_makes_it_final() -> None:
    """Not before it, and at once: it was with the agent, which had its time."""
    guest = settled(action=EAGER, **FAST)
    guest.agent_stops()
    guest.run(104.05)
    assert guest.transcript == ["103.10 raised agent_unresponsive, withheld: evidence"]
    assert guest.run(104.11) == ["104.10 updated agent_unresponsive, recover"]
    assert guest.fault is not None
    assert guest.fault.misses == 4
    assert guest.run(400.0) == []


def test_so_does_an_answer_that_is_none() -> None:
    """Somebody is there, and it is not our agent: that was no queue."""
    guest = settled(action=EAGER, **FAST)
    guest.garbled = True
    guest.run(300.0)
    assert guest.transcript == ["102.11 raised agent_unresponsive, recover"]


def test_one_that_came_back_before_the_last_answer_does_not_count() -> None:
    """Silent for once, then well, then held by somebody: that is another story."""
    guest = settled(action=EAGER, interval=1.0, timeout=1.0, threshold=12)
    guest.agent_stops()
    guest.run(111.0)  # libvirt gave up at 110.1
    guest.agent_goes_on()
    guest.run(170.0)
    somebody_asks(guest, 20.0)
    guest.run(300.0)
    assert guest.transcript == [
        "182.10 raised agent_unresponsive, withheld: evidence",
        "190.01 cleared agent_unresponsive: recovered",
    ]


ORDINARY = [
    *((1.0, 1.0, 1), (1.0, 1.0, 2), (1.0, 1.0, 3), (1.0, 5.0, 3), (1.0, 10.0, 3), (2.0, 1.0, 3), (2.0, 2.0, 3)),
    *((3.0, 3.0, 3), (3.3, 2.7, 2), (4.0, 4.0, 3), (5.0, 5.0, 2), (5.0, 5.0, 3), (10.0, 5.0, 1), (10.0, 5.0, 3)),
    *((10.0, 10.0, 1), (20.0, 10.0, 3), (30.0, 5.0, 2), (60.0, 5.0, 1), (60.0, 10.0, 1)),
]


@pytest.mark.parametrize(("interval", "timeout", "threshold"), ORDINARY)
@pytest.mark.parametrize("kernel", [False, True])
def test_the_final_cause_is_known_within_three_seconds(
    interval: float, timeout: float, threshold: int, kernel: bool
) -> None:
    """Whatever its policy and its phase: what is recommended follows the raise at once, or is in it."""
    for phase in (0.0, 0.03, 0.5, 0.97):
        guest = settled(action=EAGER, interval=interval, timeout=timeout, threshold=threshold)
        guest.run(100.0 + phase * interval)
        guest.kernel_dies() if kernel else guest.agent_stops()
        guest.run(100.0 + (threshold + 2) * (interval + timeout) + 10.0)
        first, last = guest.transcript[0], guest.transcript[-1]
        assert last.endswith(" guest_hung, recover" if kernel else " agent_unresponsive, recover"), phase
        assert float(last.split()[0]) - float(first.split()[0]) < 3.0, phase


# -- a second outage within probe_interval -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("happens", "final"),
    [
        (Guest.agent_stops, ["agent_unresponsive, withheld: evidence", "124.10 updated agent_unresponsive, recover"]),
        (Guest.kernel_dies, ["guest_silent, withheld: evidence", "123.63 updated guest_hung, recover"]),
    ],
)
def test_a_second_hang_has_a_probe_of_its_own(happens: Any, final: list[str]) -> None:
    """Its balloon was probed at 101.12 for the first; what it said then says nothing of the second."""
    guest = settled(action=EAGER, **FAST)
    guest.agent_stops()
    guest.run(110.0)
    guest.agent_goes_on()
    guest.run(120.0)
    happens(guest)
    assert guest.run(400.0)[-2:] == [f"123.10 raised {final[0]}", final[1]]
    probes = [at for at, effect in guest.effects if effect == ev.LookAt(ev.SetBalloonPeriod(1)) and at > 100.0]
    assert [round(at, 1) for at in probes[:2]] == [101.1, 121.1]


def test_a_kernel_is_asked_before_the_threshold_is_reached() -> None:
    """What the probe of its first miss found is old by then, and is found once more."""
    guest = settled(action=EAGER, interval=1.0, timeout=1.0, threshold=30, timing=Timing(probe_interval=20.0))
    guest.agent_stops()
    guest.run(105.0)
    guest.agent_goes_on()
    guest.run(106.0)
    guest.kernel_dies()
    guest.run(200.0)
    assert [line.split(" ", 1)[1] for line in guest.transcript] == [
        "raised guest_hung, withheld: evidence",
        "updated guest_hung, recover",
    ]
    raised, final = (float(line.split()[0]) for line in guest.transcript)
    assert final - raised < 3.0


# -- what was in the way -----------------------------------------------------------------------------------------


def test_no_verdict_is_made_final_during_a_silence() -> None:
    """A job found after the raise: our challenge's end is the job's doing. Whoever answers after it is well."""
    guest = settled(action=EAGER, interval=1.0, timeout=1.0, threshold=1)
    guest.job = "save"
    guest.agent_stops()
    assert guest.run(300.0) == ["101.10 raised guest_silent, withheld: evidence"]
    guest.job = None
    guest.agent_goes_on()
    told = guest.run(310.0)
    assert [line.split(" ", 1)[1] for line in told] == ["cleared guest_silent: recovered"]


@pytest.mark.parametrize(
    ("happens", "first", "final"),
    [
        (Guest.agent_stops, "agent_unresponsive", "agent_unresponsive"),
        (Guest.kernel_dies, "guest_silent", "guest_hung"),
    ],
)
def test_a_silence_before_the_verdict_costs_no_probe_interval(happens: Any, first: str, final: str) -> None:
    """libvirtd is restarted between the raise and the verdict: the kernel is asked anew at once, and once."""
    guest = settled(action=EAGER, **FAST)
    happens(guest)
    assert guest.run(103.2) == [f"103.10 raised {first}, withheld: evidence"]
    guest.happens(ev.Silenced("hypervisor", "libvirt is away", None))
    guest.run(105.0)
    guest.happens(ev.Unsilenced("hypervisor"))
    (told,) = guest.run(160.0)
    assert told.endswith(f"updated {final}, recover")
    assert float(told.split()[0]) < 111.0  # the challenge that was out comes back at 110.0
    probes = [at for at, effect in guest.effects if effect == ev.LookAt(ev.SetBalloonPeriod(1)) and at > 100.0]
    assert len(probes) == 2


def test_libvirtd_that_stood_still_answers_for_no_agent() -> None:
    """Its time-outs ran out while it was stopped: what comes back then says nothing about the guest."""
    guest = settled(action=EAGER, **FAST)
    guest.agent_stops()
    guest.run(103.5)
    guest.host.libvirtd_stops()
    guest.agent_goes_on()
    guest.run(112.0)
    guest.host.libvirtd_goes_on()
    guest.run(200.0)
    assert guest.transcript == [
        "103.10 raised agent_unresponsive, withheld: evidence",
        "114.01 cleared agent_unresponsive: recovered",
    ]


def test_a_worker_that_was_late_waits_for_a_challenge_in_full() -> None:
    """The one that was out then counts if its guest had a whole time-out after it; else the next one does."""
    for late_at, final in ((106.5, "107.61"), (107.3, "119.21")):
        guest = settled(action=EAGER, interval=3.3, timeout=0.5, threshold=2)
        guest.agent_stops()
        guest.run(late_at)
        guest.happens(ev.Voided("the worker was late"))
        guest.run(200.0)
        assert guest.transcript == [
            "106.41 raised agent_unresponsive, withheld: evidence",
            f"{final} updated agent_unresponsive, recover",
        ]
