"""File systems that stay frozen."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.core.scenario import Guest, Host, settled, told
from vmhb_common.model.policy import Action, Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.freeze import INTERVAL, STATUS, WHILE_FROZEN, Freeze
from vmhb_worker.core.verdict import FROZEN_TOO_LONG

FROZEN, THAWED = json.dumps({"return": "frozen"}), json.dumps({"return": "thawed"})


def asked(freeze: Freeze, at: float, reply: str | None, refused: bool = False) -> bool:
    """It acknowledges at this time, and answers like this if it is asked. Was it?"""
    question = freeze.question(at)
    if question is None:
        return False
    assert question.command == STATUS
    assert freeze.asking
    freeze.answered(reply, refused, at + 0.1)
    assert not freeze.asking
    return True


def test_it_is_asked_now_and_then_and_more_often_while_frozen() -> None:
    """Five minutes; a minute."""
    freeze = Freeze()
    at = [second for second in range(0, 1000, 10) if asked(freeze, float(second), THAWED)]
    assert at == [300, 600, 900]
    at = [second for second in range(1000, 2000, 10) if asked(freeze, float(second), FROZEN)]
    assert at == [1200, *range(1270, 2000, 60)]  # a minute, with the next beat


def test_a_freeze_lasts_from_the_first_word_on() -> None:
    """The agent's answer, or its refusal to run something; a thaw ends it."""
    freeze = Freeze()
    freeze.seen(100.0)
    freeze.seen(500.0)
    assert not freeze.too_long(100.0 + FROZEN_TOO_LONG - 0.1)
    assert freeze.too_long(100.0 + FROZEN_TOO_LONG)
    assert freeze.told(400.0) == 300.0
    assert asked(freeze, 100.0 + FROZEN_TOO_LONG, THAWED)
    assert not freeze.too_long(1e9)
    assert freeze.told(1e9) is None


@pytest.mark.parametrize("reply", [None, "", "[]", "{", '{"return": 7}', '{"return": "error"}', '{"return": "?"}'])
def test_what_makes_no_sense_says_nothing_either_way(reply: str | None) -> None:
    """They stay as they were known to be."""
    freeze = Freeze()
    assert asked(freeze, 0.0, reply) is False
    assert asked(freeze, INTERVAL, reply)
    assert freeze.told(INTERVAL) is None
    freeze.seen(INTERVAL)
    assert asked(freeze, INTERVAL + WHILE_FROZEN, reply)
    assert freeze.too_long(INTERVAL + FROZEN_TOO_LONG)


def test_one_that_cannot_freeze_is_not_asked_again_in_this_boot() -> None:
    """A guest agent without the command, or one whose policy forbids it."""
    freeze = Freeze()
    freeze.question(0.0)
    assert asked(freeze, INTERVAL, None, refused=True)
    assert not asked(freeze, 1e6, THAWED)
    freeze.rebooted()
    assert not asked(freeze, 1e6, THAWED)
    assert asked(freeze, 1e6 + INTERVAL, THAWED)


def test_one_that_is_accused_of_it_is_asked_at_once() -> None:
    """By a worker that has been started since."""
    freeze = Freeze(lasts=True)
    assert freeze.too_long(0.0)
    assert freeze.told(0.0) == FROZEN_TOO_LONG
    assert asked(freeze, 5.0, FROZEN)
    assert freeze.too_long(5.0)
    assert asked(freeze, 5.0 + WHILE_FROZEN, THAWED)
    assert not freeze.too_long(1e9)


# -- what follows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [1.0, 10.0])
@pytest.mark.parametrize("knobs", [{}, {"health_check": True}, {"channel": Channel.APPLICATION}], ids=str)
def test_a_lost_thaw_is_told_and_ends_with_the_thaw(knobs: dict[str, Any], interval: float) -> None:
    """An alarm, whatever the policy; the guest acknowledges all the while, and nobody is recovered."""
    guest = settled(action=Action.RECOVER_UNRESPONSIVE, interval=interval, timeout=1.0, **knobs)
    guest.frozen = True
    guest.run(100.0 + FROZEN_TOO_LONG - 1.0)
    assert [line for line in told(guest) if "remark" not in line] == []
    guest.transcript.clear()
    guest.run(100.0 + INTERVAL + FROZEN_TOO_LONG + WHILE_FROZEN + interval)
    assert told(guest) == ["raised file_systems_frozen"]
    assert guest.monitor.state.value == "alive"
    since = guest.monitor.told(guest.host.now)["frozen_for"]
    assert since >= FROZEN_TOO_LONG
    guest.run(4000.0)
    guest.frozen = False
    guest.run(4000.0 + WHILE_FROZEN + 2 * interval)
    assert told(guest) == ["raised file_systems_frozen", "cleared file_systems_frozen: recovered"]
    assert guest.host.recommended == []


def test_a_backup_now_and_then_is_none() -> None:
    """Ten minutes frozen, one thawed, for hours."""
    guest = settled(interval=10.0)
    for hour in range(12):
        guest.frozen = True
        guest.run(100.0 + 660.0 * hour + 600.0)
        guest.frozen = False
        guest.run(100.0 + 660.0 * (hour + 1))
    assert told(guest) == []


def frozen() -> Guest:
    """It is accused of it."""
    guest = settled(action=Action.RECOVER, interval=1.0, timeout=1.0)
    guest.frozen = True
    guest.run(1500.0)
    assert told(guest) == ["raised file_systems_frozen"]
    return guest


def test_what_is_worse_takes_its_place_and_it_comes_back() -> None:
    """A kernel that dies frozen is dead; goes it on, it is frozen still."""
    guest = frozen()
    guest.kernel_dies()
    guest.run(1520.0)
    assert guest.fault is not None
    assert guest.fault.cause == "guest_hung"
    guest.kernel_boots()
    guest.agent_goes_on()
    guest.run(1540.0)
    assert told(guest)[-2:] == ["cleared guest_hung: recovered", "raised file_systems_frozen"]


def test_another_boot_ends_it() -> None:
    """They are mounted anew."""
    guest = frozen()
    guest.frozen = False
    guest.boots(after=5.0)
    guest.run(1560.0)
    assert told(guest)[-1] == "cleared file_systems_frozen: recovered"


def test_an_unhealthy_application_goes_first() -> None:
    """One fault of an instance is open at a time; when that is over, the other is told."""
    guest = frozen()
    guest.happens(ev.PolicyChanged(replace(guest.monitor.policy, health_check=True)))
    guest.check, guest.frozen = {"exited": True, "exitcode": 2}, False
    guest.run(1520.0)
    assert told(guest)[-1].startswith("raised application_unhealthy")


def test_a_worker_that_starts_anew_knows_it_still() -> None:
    """Nothing is told twice, and a thaw that it did not see ends it."""
    guest = frozen()
    standing = guest.monitor.case.standing
    host = Host(at=2000.0)
    again = host.guest("vm", replace(guest.monitor.memory(1500.0), standing=standing), interval=1.0, timeout=1.0)
    assert again.fault is None  # the book is another's
    again.frozen = True
    host.run(2400.0)
    assert told(again) == []
    assert again.monitor.case.frozen
