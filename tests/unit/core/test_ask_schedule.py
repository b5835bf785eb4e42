"""How urgently a guest is asked, by what its answers have told of its pace."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.scenario import KNOWN, Host, policy
from vmhb_common.model.policy import Action
from vmhb_worker.core.ask_schedule import QUICK_AGAIN, SLOW_RTT, TRUSTED, Challenges
from vmhb_worker.core.events import Pace
from vmhb_worker.core.transitions import State

FIRST, MOST = QUICK_AGAIN


def pace(challenges: Challenges) -> Pace:
    """Of the next one, which is taken back."""
    asked = challenges.ask(policy(), State.ALIVE)
    challenges.out = False
    assert asked is not None
    return asked.pace


def quick(challenges: Challenges, times: int) -> None:
    for _ in range(times):
        challenges.answered(SLOW_RTT)


def proof(challenges: Challenges) -> int:
    """It is slow: so many quick answers in a row make it quick again."""
    for count in range(1, 1000):
        quick(challenges, 1)
        if pace(challenges) is Pace.QUICK:
            return count
    return 0


@pytest.mark.parametrize("relapse", ["slow", "silent"])
def test_quick_again_only_after_several_quick_answers(relapse: str) -> None:
    """And after twice as many each time, so that its slow ones are ever fewer among the quick."""
    challenges = Challenges(0.0)
    assert pace(challenges) is Pace.QUICK
    found = []
    for _ in range(7):
        if relapse == "slow":
            challenges.answered(4.9)
        else:
            challenges.failed(silent=True)
        assert pace(challenges) is Pace.SLOW
        quick(challenges, 1)
        challenges.answered(4.9)  # in a row: these begin anew, and cost nothing more
        found.append(proof(challenges))
    assert found == [4, 8, 16, 32, 64, 64, 64]


def test_it_is_trusted_again_when_it_has_been_quick_for_long() -> None:
    """A host that stood still for a moment is no reason to doubt its guests for ever."""
    challenges = Challenges(0.0)
    challenges.answered(1.0)
    quick(challenges, TRUSTED * FIRST)
    challenges.answered(1.0)
    assert proof(challenges) == FIRST


def test_what_says_nothing_of_its_pace() -> None:
    """A challenge that nobody heard, or that another's command held up."""
    challenges = Challenges(0.0)
    challenges.failed(silent=False)
    assert pace(challenges) is Pace.QUICK


@pytest.mark.parametrize(("interval", "timeout", "dawdles"), [(10.0, 5.0, 4.9), (1.0, 1.0, 0.95)])
@pytest.mark.parametrize("hostile", [17, 80])
def test_guests_that_answer_at_once_and_slowly_in_turns_hold_up_nobody(
    hostile: int, interval: float, timeout: float, dawdles: float
) -> None:
    """They never miss, and are never known to be slow when they are asked: their neighbours are asked at each beat all
    the same, and one that dies is found in the time that it takes alone."""
    host = Host()
    knobs: dict[str, Any] = {"memory": KNOWN, "interval": interval, "timeout": timeout}
    good = [host.guest(f"good-{n}", action=Action.RECOVER, **knobs) for n in range(20)]
    for number in range(hostile):
        host.guest(f"evil-{number}", **knobs).dawdles = dawdles
    host.run(25 * interval)
    assert max(host.now - (guest.monitor.last_ack or 0.0) for guest in good) <= interval + timeout
    victim, died = good[0], host.now
    victim.kernel_dies()
    host.run(died + 3 * interval + timeout + 2.0)
    assert [line.split(" ", 1)[1].split(",")[0] for line in victim.transcript if "raised" in line][:1] != []
    assert sum(len(guest.raised) for guest in host.guests.values()) == 1
