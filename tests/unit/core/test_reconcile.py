"""What a domain must have been through while nobody looked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Channel
from vmhb_worker.core.domain_xml import Port, Travelled
from vmhb_worker.core.events import (
    Arriving,
    Booted,
    DomainSeen,
    Event,
    Exit,
    InPostcopy,
    Panicked,
    Paused,
    PortChanged,
    Restored,
    Resumed,
    ShuttingDown,
    Stopped,
    Stuck,
    Unsilenced,
)
from vmhb_worker.core.instance_state import Memory, Standing
from vmhb_worker.core.reconcile import (
    LIBVIRT_LAGS,
    READ_AGAIN,
    RESCUED,
    Remembered,
    begins_another_life,
    first_events,
    first_memory,
    has_witness,
    missed_events,
    port_events,
    read_again_at,
    rescue_events,
    socket_of,
    undefined_events,
)
from vmhb_worker.core.transitions import State

NOWHERE = Travelled()
UNEXPLAINED = Stopped(Exit.UNKNOWN, "shut off, and libvirt does not know why")
WELL = Remembered(established=True, boot="boot-1", balloon=True, waiting=None, running=True)
HUNG = Standing(Cause.GUEST_HUNG)


def seen(state: str = "running", reason: str = "booted", boot: str = "boot-1") -> DomainSeen:
    return DomainSeen("uuid-1", "<domain/>", state, reason, boot)


def test_an_instance_never_heard_of_is_waited_for() -> None:
    """It has its whole grace for the first acknowledgement."""
    assert first_memory(seen(), None, NOWHERE, None) == Memory(running=True, established=False, waited=0.0)
    assert first_memory(seen("shutoff", "shutdown", ""), None, NOWHERE, None).running is False


def test_an_instance_that_came_by_migration_goes_on_where_it_was() -> None:
    """It was established elsewhere: it is owed a full threshold, not a grace."""
    assert first_memory(seen(), None, Travelled(established=True), None) == Memory(True, True, None)


def test_after_a_restart_of_the_worker_the_same_boot_goes_on() -> None:
    """With its open fault, and with what its balloon was known to do."""
    assert first_memory(seen(), WELL, NOWHERE, HUNG) == Memory(True, True, None, True, HUNG)
    booting = Remembered(True, "boot-1", False, 120.0, True)
    assert first_memory(seen(), booting, NOWHERE, None).waited == 120.0


def test_another_boot_is_waited_for_anew() -> None:
    """It was started again while the worker was away; its open fault stays open until it answers."""
    assert first_memory(seen(boot="boot-2"), WELL, NOWHERE, HUNG) == Memory(True, True, 0.0, False, HUNG)


@pytest.mark.parametrize(
    ("state", "reason", "events"),
    [
        ("running", "booted", []),
        ("paused", "user", [Paused("paused", wish=True)]),
        ("paused", "ioerror", [Stuck(Cause.PAUSED_IO_ERROR)]),
        ("crashed", "panicked", [Panicked()]),
        ("shutoff", "shutdown", []),  # contradicts its boot: the state has changed since
    ],
)
def test_a_domain_that_runs_is_met_as_it_is(state: str, reason: str, events: list[Event]) -> None:
    """Silences and troubles of now are learnt from its state."""
    assert first_events(seen(state, reason), WELL) == events
    assert first_events(seen(state, reason), None) == events


def test_a_qemu_that_died_while_the_worker_was_away_is_accused() -> None:
    """If it ran when we last knew: the worker finds it running, and then hears of it."""
    dead = seen("shutoff", "crashed", boot="")
    assert first_memory(dead, WELL, NOWHERE, None) == Memory(True, True, None, True)
    assert first_events(dead, WELL) == [Stopped(Exit.FAILED, "crashed")]


@pytest.mark.parametrize(
    "remembered", [None, Remembered(established=True, boot="", balloon=False, waiting=None, running=False)]
)
def test_a_qemu_that_was_dead_before_is_not(remembered: Remembered | None) -> None:
    """Its fault is open, or it was never ours: a restart of the worker is no news."""
    dead = seen("shutoff", "crashed", boot="")
    assert first_memory(dead, remembered, NOWHERE, None).running is False
    assert first_events(dead, remembered) == []


RAN = Remembered(True, "boot-1", True, None, True, host_boot="monday")
LOST = Stopped(Exit.POWER, "its host went down while it ran")


@pytest.mark.parametrize(
    ("reason", "host_boot", "remembered", "heard"),
    [
        ("unknown", "tuesday", RAN, LOST),
        ("by_the_moon", "tuesday", RAN, LOST),
        ("failed", "tuesday", RAN, LOST),  # somebody has tried to start it since
        # The host is the one that it ran on: whose wish it was, libvirtd forgot, or lost with its state folder.
        ("unknown", "monday", RAN, UNEXPLAINED),
        ("failed", "monday", RAN, Stopped(Exit.UNKNOWN, "shut off, and could not be started")),
        # Which boot of the host it is, or was, cannot be told.
        ("unknown", "", RAN, UNEXPLAINED),
        ("unknown", "tuesday", replace(RAN, host_boot=""), UNEXPLAINED),
        ("unknown", "", replace(RAN, host_boot=""), UNEXPLAINED),
        # Somebody's wish, and what libvirt knows to be none.
        ("shutdown", "tuesday", RAN, None),
        ("destroyed", "tuesday", RAN, None),
        ("saved", "tuesday", RAN, None),
        ("from_snapshot", "tuesday", RAN, None),
        ("migrated", "tuesday", RAN, None),
        ("crashed", "tuesday", RAN, Stopped(Exit.FAILED, "crashed")),
        # It did not run, or was never seen.
        ("unknown", "tuesday", replace(RAN, running=False), None),
        ("unknown", "tuesday", None, None),
    ],
)
def test_how_one_ended_that_ran_when_we_last_knew(
    reason: str, host_boot: str, remembered: Remembered | None, heard: Stopped | None
) -> None:
    """What libvirt does not know is nobody's wish: the host's own boot explains it, or nothing does."""
    off = DomainSeen("uuid-1", "<domain/>", "shutoff", reason, "", host_boot)
    assert first_events(off, remembered) == ([] if heard is None else [heard])
    assert first_memory(off, remembered, NOWHERE, None).running is (heard is not None)


def test_one_that_has_no_state_any_more_is_unexplained() -> None:
    """Whatever libvirt means by that."""
    assert first_events(seen("nostate", "unknown", ""), RAN) == [Stopped(Exit.UNKNOWN, "shut off")]


def test_a_domain_that_was_stopped_on_purpose_meanwhile_is_gone() -> None:
    """Whoever stopped it wanted to."""
    off = seen("shutoff", "destroyed", boot="")
    assert first_memory(off, WELL, NOWHERE, None).running is False
    assert first_events(off, WELL) == []


@pytest.mark.parametrize(
    ("now", "state", "known", "paused", "events"),
    [
        # Nothing was missed.
        (seen(), State.ALIVE, "boot-1", False, []),
        (seen("paused", "user"), State.ALIVE, "boot-1", True, []),
        (seen("shutoff", "shutdown", ""), State.GONE, "", False, []),
        # It stopped, one way or another.
        (seen("shutoff", "crashed", ""), State.ALIVE, "boot-1", False, [Stopped(Exit.FAILED, "crashed")]),
        (seen("shutoff", "destroyed", ""), State.ALIVE, "boot-1", False, [Stopped(Exit.INTENT, "shut off")]),
        (seen("nostate", "unknown", ""), State.SILENT, "boot-1", False, [Stopped(Exit.UNKNOWN, "shut off")]),
        (seen("shutoff", "unknown", ""), State.ALIVE, "boot-1", False, [UNEXPLAINED]),
        # It powers off.
        (seen("shutdown", "user"), State.ALIVE, "boot-1", False, [ShuttingDown()]),
        # It was started again.
        (seen(boot="boot-2"), State.ALIVE, "boot-1", False, [Booted()]),
        (seen(), State.GONE, "", False, [Booted()]),
        (seen(boot="boot-2"), State.ALIVE, None, False, []),  # an event told already
        # It was paused, or went on.
        (seen("paused", "user"), State.ALIVE, "boot-1", False, [Paused("paused", wish=True)]),
        (seen(), State.ALIVE, "boot-1", True, [Resumed(arrived=True)]),
        # Started again and paused once more: the old pause ended with the old boot.
        (seen("paused", "user", "boot-2"), State.ALIVE, "boot-1", True, [Booted(), Paused("paused", wish=True)]),
        # QEMU is in trouble.
        (seen("paused", "ioerror"), State.ALIVE, "boot-1", False, [Stuck(Cause.PAUSED_IO_ERROR)]),
        (seen("paused", "ioerror"), State.ALIVE, "boot-1", True, [Stuck(Cause.PAUSED_IO_ERROR)]),
        (seen("shutoff", "shutdown"), State.ALIVE, "boot-1", False, []),
        (seen("paused", "unknown"), State.ALIVE, "boot-1", True, [Stuck(Cause.PAUSED_FAILED, settles=True)]),
        # Its memory comes from another host, and has come.
        (seen("running", "postcopy"), State.ALIVE, "boot-1", False, [InPostcopy()]),
        (seen("running", "postcopy"), State.ALIVE, "boot-1", True, []),
        (seen("running", "migrated"), State.ALIVE, "boot-1", True, [Resumed(arrived=True)]),
        # It has come back from another host, or comes: no boot, and no grace for one.
        (seen("paused", "migration"), State.GONE, "boot-0", False, [Arriving()]),
        (seen("running", "migrated"), State.GONE, "boot-0", False, [Arriving(), Resumed(arrived=True)]),
        (seen("running", "migrated"), State.ALIVE, "boot-0", False, [Arriving(), Resumed(arrived=True)]),
        (seen("running", "postcopy"), State.GONE, "boot-0", False, [Arriving(), InPostcopy()]),
        # Its QEMU starts, and whether that is a boot is told soon.
        (seen("paused", "starting_up"), State.GONE, "boot-0", False, []),
        (seen("paused", "starting_up"), State.ALIVE, "boot-1", False, [Paused("starting", wish=True)]),
    ],
)
def test_what_was_missed_of_a_domain_that_we_know(
    now: DomainSeen, state: State, known: str | None, paused: bool, events: list[Event]
) -> None:
    """After libvirtd was away, or an event was lost: the difference between what we knew and what is."""
    assert missed_events(now, state, known, paused) == events


def test_who_came_back_by_migration_while_the_worker_was_away_goes_on_where_it_was() -> None:
    """Another QEMU, and the same boot of its guest: it is owed a full threshold, not a boot's grace."""
    assert first_memory(seen("running", "migrated", "boot-2"), WELL, NOWHERE, None).waited is None
    assert first_memory(seen("running", "booted", "boot-2"), WELL, NOWHERE, None).waited == 0.0


def test_rescue_is_seen_in_the_domain() -> None:
    """Once when it begins, and once when it is over, whoever else announces it."""
    assert rescue_events(rescued=True, silenced=False) == [RESCUED]
    assert rescue_events(rescued=True, silenced=True) == []
    assert rescue_events(rescued=False, silenced=True) == [Unsilenced(RESCUED.key)]
    assert rescue_events(rescued=False, silenced=False) == []


def test_the_port_that_counts_is_the_one_that_it_is_judged_by() -> None:
    """A description says of it what is so by now, where it says anything: it was read after the last event."""
    ports = {Channel.AGENT: Port("/a", True, None), Channel.APPLICATION: Port("/b", False, None)}
    assert port_events(Channel.AGENT, ports, None) == [PortChanged(True, Channel.AGENT)]
    assert port_events(Channel.APPLICATION, ports, None) == [PortChanged(False, Channel.APPLICATION)]
    assert port_events(Channel.AGENT, ports, False, told_ago=0.0) == [PortChanged(True, Channel.AGENT)]
    assert port_events(Channel.AGENT, ports, True) == []
    assert port_events(Channel.AGENT, {}, None) == []
    assert port_events(Channel.AGENT, {Channel.AGENT: Port("/a", None, None)}, False) == []


def test_what_qemu_told_of_the_applications_port_is_newer_for_a_while() -> None:
    """libvirt writes it into the live XML once it has the domain to itself, which may take its 30 s."""
    ports = {Channel.APPLICATION: Port("/b", False, None)}
    assert port_events(Channel.APPLICATION, ports, True, told_ago=LIBVIRT_LAGS - 0.1) == []
    assert port_events(Channel.APPLICATION, ports, True, told_ago=LIBVIRT_LAGS) == [
        PortChanged(False, Channel.APPLICATION)
    ]


def test_a_description_is_due_again_within_a_minute() -> None:
    """Looked for every ten seconds; and not of all in the same moment, since all are read when libvirt comes back."""
    due = [read_again_at(f"uuid-{number}", 100.0) for number in range(200)]
    assert all(130.0 <= at <= 100.0 + READ_AGAIN - 10.0 for at in due)
    assert max(due) - min(due) > 15.0


def test_powering_off_is_told_once() -> None:
    """It has a time of its own, which a description that is read again does not begin anew."""
    off = seen("shutdown", "user")
    told = [ShuttingDown()]
    assert missed_events(off, State.ALIVE, "boot-1", False, was=("running", "booted")) == told
    assert missed_events(off, State.ALIVE, "boot-1", False, was=("shutdown", "user")) == []
    assert missed_events(off, State.ALIVE, "boot-1", True, was=("shutdown", "user")) == []
    again = seen("shutdown", "user", "boot-2")
    assert missed_events(again, State.ALIVE, "boot-1", False, was=("shutdown", "user")) == [Booted(), *told]


def test_who_undefines_a_domain_has_stopped_it() -> None:
    """Of one that did not run, nothing is news."""
    assert undefined_events(State.ALIVE) == [Stopped(Exit.INTENT, "undefined")]
    assert undefined_events(State.GONE) == []


def test_another_life_begins_where_none_was() -> None:
    """A guest that reboots from inside keeps its QEMU."""
    assert begins_another_life(Booted(), State.GONE)
    assert begins_another_life(Restored(), State.GONE)
    assert not begins_another_life(Booted(), State.ALIVE)
    assert not begins_another_life(Resumed(), State.GONE)


def test_the_agent_is_a_witness_of_the_application_only() -> None:
    """And only where there is one."""
    ports = {Channel.AGENT: Port("/a", True, None)}
    assert has_witness(Channel.APPLICATION, ports)
    assert not has_witness(Channel.APPLICATION, {})
    assert not has_witness(Channel.AGENT, ports)


def test_the_application_is_connected_to_while_it_may_speak() -> None:
    """While its domain runs, where it is to acknowledge, and where its port is a socket."""
    ports = {Channel.APPLICATION: Port("/socket", False, None)}
    assert socket_of(State.SILENT, Channel.APPLICATION, ports) == "/socket"
    assert socket_of(State.GONE, Channel.APPLICATION, ports) is None
    assert socket_of(State.ALIVE, Channel.AGENT, ports) is None
    assert socket_of(State.ALIVE, Channel.APPLICATION, {}) is None


def test_the_reason_of_a_pause_that_had_none_is_news() -> None:
    """libvirt says whose wish it is, or that it goes on."""
    user, unknown = seen("paused", "user"), seen("paused", "unknown")
    assert missed_events(user, State.ALIVE, "boot-1", True, orphaned=True) == [Paused("paused", wish=True)]
    assert missed_events(unknown, State.ALIVE, "boot-1", True, orphaned=True) == [
        Stuck(Cause.PAUSED_FAILED, settles=True)
    ]
    assert missed_events(seen(), State.ALIVE, "boot-1", True, orphaned=True) == [Resumed(arrived=True)]
    assert missed_events(user, State.ALIVE, "boot-1", True) == []
