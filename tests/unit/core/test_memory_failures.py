"""Memory of the host's that is broken below a guest: what is raised, what is only counted, and what ends it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from tests.unit.core.scenario import KNOWN, WELL, Guest, changed, lone, settled, told
from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Action, Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.instance_state import Standing
from vmhb_worker.core.memory_failures import is_a_fault
from vmhb_worker.core.protocol import Health, Status
from vmhb_worker.core.spoken_of import MEMORY_FAILURES
from vmhb_worker.core.transitions import State

RESET = ev.MemoryFailed("guest", "reset", required=True, recursive=True)
FATAL = ev.MemoryFailed("guest", "fatal")
OF_QEMU = ev.MemoryFailed("hypervisor", "fatal", required=True)
INJECTED = ev.MemoryFailed("guest", "inject", required=True)
FAST: dict[str, Any] = {"interval": 1.0, "timeout": 1.0, "threshold": 3}


def reasons(guest: Guest) -> list[str]:
    """Of its fault, whenever that was told, in order."""
    return [effect.verdict.reason for _, effect in guest.effects if isinstance(effect, ev.RaiseFault)]


@pytest.mark.parametrize("failure", [RESET, FATAL, OF_QEMU, ev.MemoryFailed("hypervisor", "ignore")], ids=str)
@pytest.mark.parametrize("action", Action)
def test_it_is_raised_at_once_and_no_answer_ends_it(failure: ev.MemoryFailed, action: Action) -> None:
    """The guest answers every second, and works with what is broken: one fault, for as long as that is so."""
    guest = settled(action=action, **FAST)
    guest.happens(failure)
    assert guest.transcript == ["100.00 raised memory_failure"]
    assert guest.fault is not None
    assert (guest.fault.severity, guest.fault.confidence) == ("critical", "high")
    assert guest.fault.evidence["memory"] == {"value": str(failure), "age": 0.0}
    guest.happens(failure)
    guest.run(2000.0)
    assert guest.monitor.state is State.ALIVE and guest.monitor.stands
    assert [line for line in told(guest) if "reminder" not in line] == ["raised memory_failure"]
    assert guest.monitor.told(2000.0)["memory_failures"] == {str(failure): 2}


@pytest.mark.parametrize(
    "failure", [INJECTED, ev.MemoryFailed("guest", "ignore"), ev.MemoryFailed("*", "*"), ev.MemoryFailed("guest", "*")]
)
def test_what_the_guest_goes_on_without_is_counted(failure: ev.MemoryFailed) -> None:
    """Nobody is accused of what the guest was told of, what nobody used, or what we do not know."""
    guest = settled(**FAST)
    for _ in range(3):
        guest.happens(failure)
    guest.run(200.0)
    assert guest.transcript == []
    assert guest.monitor.told(200.0)["memory_failures"] == {str(failure): 3}
    guest.agent_stops()
    guest.run(300.0)
    assert guest.fault is not None and guest.fault.evidence["memory"] == {"value": False, "age": None}


def test_words_of_a_newer_libvirt_count_as_far_as_they_are_known() -> None:
    """A recipient or an action without a row is a fault only where every row that it may be is one."""
    words = ({who for who, _ in MEMORY_FAILURES} | {"*"}, {action for _, action in MEMORY_FAILURES} | {"*"})
    found = {pair for pair in product(*words) if is_a_fault(ev.MemoryFailed(*pair))}
    assert {pair for pair in found if "*" not in pair} == {pair for pair, fault in MEMORY_FAILURES.items() if fault}
    assert {pair for pair in found if "*" in pair} == {("hypervisor", "*"), ("*", "fatal"), ("*", "reset")}
    assert not is_a_fault(ev.MemoryFailed("*", "*"))


def test_the_first_answer_of_the_next_boot_ends_it() -> None:
    """QEMU resets a guest that cannot be told; as far as anybody knows, the next boot works with other memory."""
    guest = settled(**FAST)
    guest.happens(RESET)
    guest.boots(after=20.0)
    guest.run(110.0)
    assert told(guest) == ["raised memory_failure"]
    assert not guest.monitor.stands
    guest.run(130.0)
    assert told(guest)[-1] == "cleared memory_failure: recovered"


def test_one_that_moves_has_left_it_behind() -> None:
    """What is broken is the host's."""
    guest = settled(**FAST)
    guest.happens(FATAL)
    guest.is_migrated_away()
    assert told(guest)[-1] == "cleared memory_failure: moved"


def test_one_that_is_stopped_is_told_until_it_runs_again() -> None:
    """As any other fault; its first answer after that ends it."""
    guest = settled(**FAST)
    guest.happens(FATAL)
    guest.is_destroyed()
    guest.run(200.0)
    assert told(guest) == ["raised memory_failure"]
    guest.boots(after=10.0)
    guest.run(250.0)
    assert told(guest)[-1] == "cleared memory_failure: recovered"


def test_a_qemu_that_ends_of_it_is_not_started_again_here() -> None:
    """Of its own memory QEMU dies: a QEMU that has failed is recovered where it was, this one is not."""
    guest = settled(action=Action.RECOVER, **FAST)
    guest.happens(OF_QEMU)
    guest.qemu_dies()
    guest.run(1000.0)
    assert not any("recover" in line for line in told(guest))
    assert told(guest)[:2] == ["raised memory_failure", "updated memory_failure"]
    assert "does not run any more" in reasons(guest)[-1]


@pytest.mark.parametrize("panics", [False, True])
def test_what_else_becomes_of_it_is_told_once_and_asks_for_nothing(panics: bool) -> None:
    """It dies of it, and later answers again: the same fault says both, and none of it is a recovery on this host."""
    guest = settled(action=Action.RECOVER_UNRESPONSIVE, **FAST)
    guest.happens(FATAL)
    guest.kernel_dies(told=panics)
    guest.run(250.0)
    assert {line for line in told(guest) if "memory_failure" not in line} == set()
    assert not any("recover" in line for line in told(guest))
    assert "does not go on as it should" in reasons(guest)[-1]
    assert len(reasons(guest)) in (2, 3)
    guest.kernel_boots()
    guest.agent_goes_on()
    guest.run(400.0)
    assert "whether or not it still answers" in reasons(guest)[-1]
    assert guest.fault is not None and len(guest.raised) == 1


def test_one_that_is_found_dead_before_is_not_recovered_after() -> None:
    """What was found before is the same fault; its recovery is not asked for any more."""
    guest = settled(action=Action.RECOVER, **FAST)
    guest.kernel_dies()
    guest.run(120.0)
    assert told(guest)[-1] == "updated guest_hung, recover"
    guest.happens(FATAL)
    assert told(guest)[-1] == "updated memory_failure"
    assert len(guest.raised) == 1


def test_it_is_known_after_a_restart() -> None:
    """The open fault says so; an answer ends it no sooner than before. A boot meanwhile does."""
    standing = Standing(Cause.MEMORY_FAILURE)
    guest = lone(memory=changed(WELL, standing=standing), **FAST)
    guest.run(100.0)
    assert guest.monitor.case.standing == standing and guest.monitor.stands
    assert guest.monitor._witnesses.gathered(100.0).memory.value == "told before the worker was restarted"
    booted = lone(memory=changed(WELL, standing=standing, waited=3.0), **FAST)
    booted.host.ledger.of_host.starved.add(booted.uuid)  # so that it may be acquitted
    booted.run(100.0)
    assert booted.monitor.case.standing is None


def test_whoever_is_to_acknowledge_is_another_one_now() -> None:
    """A policy with another channel acquits of what was found on the old one, and not of this."""
    guest = settled(**FAST)
    guest.happens(FATAL)
    asked = guest.monitor.policy
    guest.happens(ev.PolicyChanged(replace(asked, channel=Channel.APPLICATION)))
    guest.run(130.0)
    assert guest.fault is not None and guest.fault.cause == "memory_failure"
    assert not any("cleared" in line for line in guest.transcript)


def test_health_is_said_beside_it() -> None:
    """An application that says that it is ill says why; that it is well again ends nothing."""
    guest = lone(memory=KNOWN, channel=Channel.APPLICATION, health_check=True, **FAST)
    guest.application.health = Health(Status.HEALTHY)
    guest.host.run(100.0)
    guest.happens(FATAL)
    guest.application.health = Health(Status.UNHEALTHY)
    guest.host.run(110.0)
    guest.application.health = Health(Status.HEALTHY)
    guest.host.run(130.0)
    assert guest.fault is not None and guest.fault.cause == "memory_failure"
    assert len(guest.raised) == 1


def test_nobody_who_is_excused_is_acquitted_of_it() -> None:
    """Its agent is held, and its kernel found dead, and alive again: that was never what it is accused of."""
    guest = settled(**FAST)
    guest.happens(FATAL)
    guest.busy = True
    guest.run(150.0)
    assert guest.monitor.told(150.0)["excused"]
    guest.kernel_dies()
    guest.run(400.0)
    guest.kernel_boots()
    guest.run(700.0)
    assert guest.fault is not None and guest.fault.cause == "memory_failure"
    assert {line for line in told(guest) if "memory_failure" not in line} == set()


def test_what_is_told_of_one_that_is_gone_is_counted() -> None:
    """It may come after the end: nobody is there to be accused."""
    guest = settled(**FAST)
    guest.is_destroyed()
    guest.happens(RESET)
    assert guest.transcript == []
    assert guest.monitor.told(100.0)["memory_failures"] == {str(RESET): 1}
