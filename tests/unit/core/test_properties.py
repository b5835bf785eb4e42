"""What holds whatever happens, in any order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.scenario import NEW, USUAL, Guest, Host, lone, policy
from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Action, Channel, HeartbeatPolicy
from vmhb_worker.core import events as ev
from vmhb_worker.core.ask_schedule import RESYNC_TIME
from vmhb_worker.core.doubt import STALL, just_connected
from vmhb_worker.core.instance_state import Absence, Memory, Spell, Standing, Timing
from vmhb_worker.core.main_thread import MainThread
from vmhb_worker.core.monitor import Monitor
from vmhb_worker.core.protocol import Ack, Challenge, Check, Goodbye, Health, Hello, Maintenance, Status
from vmhb_worker.core.reconcile import READ_AGAIN
from vmhb_worker.core.transitions import State

POLICIES = st.builds(
    policy,
    interval=st.sampled_from([1.0, 2.5, 10.0, 60.0]),
    timeout=st.sampled_from([0.1, 1.0, 5.0, 12.0, 40.0]),
    threshold=st.sampled_from([1, 2, 3, 10]),
    grace=st.sampled_from([0.0, 1.0, 600.0]),
    action=st.sampled_from(Action),
    channel=st.sampled_from(Channel),
    health_check=st.booleans(),
)
MEMORIES = st.builds(
    Memory,
    running=st.booleans(),
    established=st.booleans(),
    waited=st.sampled_from([None, 0.0, 1000.0]),
    balloon_seen=st.booleans(),
    standing=st.none()
    | st.builds(
        Standing,
        st.sampled_from([Cause.GUEST_SILENT, Cause.AGENT_EXITED, Cause.APPLICATION_UNHEALTHY]),
        st.booleans(),
    ),
    absence=st.sampled_from([Absence(), Absence("left"), Absence(None, (Spell(-100.0, 50.0),))]),
)
REPORTS = st.none() | st.builds(Health, st.sampled_from(Status), st.just((Check("db", Status.UNHEALTHY),)))
LOOKS: st.SearchStrategy[ev.Look] = st.sampled_from(
    [
        *(ev.LookControl(), ev.LookState(), ev.LookProcess(), ev.LookJob(), ev.LookVitals()),
        *(ev.SetBalloonPeriod(1), ev.SetBalloonPeriod(10)),
    ]
)
ANSWERS: dict[type[Any], list[ev.Answer]] = {
    ev.LookControl: [ev.Control("ok", 0.0), ev.Control("occupied", 2.0), ev.Control("occupied", 9.0)],
    ev.LookState: [ev.State("running", "booted", True), ev.State("paused", "user", None)],
    ev.LookProcess: [ev.Process(9.0, MainThread(*main)) for main in (("R", 1), ("S", 1), ("D", 1), ("D", 2), ("T", 2))],
    ev.LookJob: [ev.Job(None), ev.Job("save"), ev.Refused("no place"), ev.Refused("stands", True)],
    ev.LookVitals: [
        ev.Refused("no place"),
        ev.Refused("stands", True),
        ev.Vitals(0, 0, 0),
        ev.Vitals(1000, 10**9, 5),
        ev.Vitals(None, None, None),
    ],
    ev.SetBalloonPeriod: [ev.PeriodSet()],
}


@dataclass(frozen=True)
class Answering:
    """Not an event, but what makes one: the newest challenge is answered, or the oldest that is known."""

    newest: bool
    health: Health | None


@st.composite
def looked(draw: st.DrawFn) -> ev.Looked:
    look = draw(LOOKS)
    return ev.Looked(look, draw(st.sampled_from([*ANSWERS[type(look)], ev.Unavailable("no")])))


EVENTS: st.SearchStrategy[Any] = st.one_of(
    st.just(ev.Asked()),
    st.builds(ev.Acked, st.sampled_from([0.01, 3.0])),
    st.builds(ev.AskFailed, st.sampled_from(ev.Failure)),
    st.builds(ev.PortChanged, st.booleans()),
    st.sampled_from([ev.Booted(), ev.Restored(), ev.Arriving(), ev.ShuttingDown(), ev.Panicked(), ev.Resumed()]),
    st.builds(ev.Stopped, st.sampled_from(ev.Exit), st.just("stopped")),
    st.just(ev.Paused("paused")),
    st.builds(ev.Stuck, st.sampled_from([Cause.PAUSED_IO_ERROR, Cause.PAUSED_FAILED, Cause.GUEST_HUNG])),
    st.sampled_from([ev.WatchdogFired("none"), ev.QemuEnded()]),
    st.builds(ev.MemoryFailed, st.sampled_from(["guest", "hypervisor"]), st.sampled_from(["inject", "reset"])),
    st.builds(
        ev.Silenced,
        st.sampled_from(["job", "hint:1"]),
        st.just("why"),
        st.sampled_from([None, 5.0, 1e4]),
        st.booleans(),
    ),
    st.builds(ev.Unsilenced, st.sampled_from(["job", "hint:1", "hint:2"])),
    st.just(ev.Voided("late")),
    st.builds(ev.PolicyChanged, POLICIES),
    looked(),
    st.sampled_from([ev.ChannelUp(), ev.ChannelDown("gone"), ev.PortChanged(True, Channel.APPLICATION)]),
    st.builds(ev.OtherAnswered, st.sampled_from([None, True, False])),
    st.builds(ev.Said, st.sampled_from([Goodbye("g"), Maintenance(0.0), Maintenance(60.0, "m"), Hello(9, "h", 0.5)])),
    st.builds(ev.Said, st.builds(Ack, st.integers(0, 9), st.sampled_from(["nonce-1", "nonce-2", "n"]), REPORTS)),
    st.builds(Answering, st.booleans(), REPORTS),
)
DELAYS = st.sampled_from([0.0, 0.01, 0.6, 1.0, 5.0, 20.0, 70.0, 400.0])


def new_nonces() -> Callable[[], str]:
    """One, two, three …"""
    numbers = itertools.count()
    return lambda: f"nonce-{next(numbers)}"


def _ask_nobody_through_a_closed_port(monitor: Monitor, effects: list[ev.Effect]) -> None:
    """libvirtd would write an error into its log for each."""
    assert monitor.port_open is not False or not any(isinstance(effect, ev.Ask) for effect in effects)


def tick_to(monitor: Monitor, now: float, until: float, heard: float) -> list[ev.Effect]:
    """Tick at every deadline up to then, at most a hundred times: what came out. No deadline may be hot."""
    out: list[ev.Effect] = []
    for _ in range(100):
        due = monitor.deadline()
        if due > until:
            break
        now = max(now, due)
        effects = monitor.handle(ev.Tick(now - heard), now)
        assert monitor.deadline() > now or effects, f"due again at once, and nothing done: {monitor.told(now)}"
        _ask_nobody_through_a_closed_port(monitor, effects)
        out += effects
    return out


@settings(derandomize=True, max_examples=250, deadline=None)
@given(
    asked=POLICIES,
    memory=MEMORIES,
    timing=st.sampled_from([USUAL, Timing(0.5, 10.0, 1.0, 5.0)]),
    balloon=st.sampled_from([None, 0, 10]),
    story=st.lists(st.tuples(DELAYS, EVENTS, st.sampled_from([0.2, 50.0])), max_size=40),
)
def test_any_story_is_taken(
    asked: HeartbeatPolicy,
    memory: Memory,
    timing: Timing,
    balloon: int | None,
    story: list[tuple[float, Any, float]],
) -> None:
    """No sequence of events raises, makes a deadline hot, acquits the innocent, or keeps nonsense in its books."""
    now = 0.0
    monitor = Monitor("uuid", asked, timing, memory, now, new_nonces())
    monitor.balloon_period = balloon
    accused = memory.standing is not None
    challenges: list[Challenge] = []
    for delay, event, heard in story:
        out = tick_to(monitor, now, now + delay, heard)
        now += delay
        if isinstance(event, Answering):
            if not challenges:
                continue
            asked_for = challenges[-1 if event.newest else 0]
            event = ev.Said(Ack(asked_for.seq, asked_for.nonce, event.health))  # noqa: PLW2901
        effects = monitor.handle(event, now)
        _ask_nobody_through_a_closed_port(monitor, effects)
        out += effects
        challenges += [one.message for one in out if isinstance(one, ev.Say) and isinstance(one.message, Challenge)]
        for effect in out:
            accused = accused or isinstance(effect, ev.RaiseFault)
            assert accused or not isinstance(effect, ev.ClearFault)
        remembered = monitor.memory(now)
        assert remembered.running == (monitor.state is not State.GONE)
        assert remembered.waited is None or remembered.waited >= 0.0
        assert monitor.told(now)["misses"] >= 0
        assert not math.isnan(monitor.deadline())
        assert monitor.state is not State.SILENT or monitor.case.standing is not None


#: Somebody else's command holds its agent.
BUSY = "agent busy"
BUSY_FOR = 40.0
#: What may happen to a guest that always answers in time, and what makes an end of it.
DEEDS: dict[str, Any] = {
    "voided": lambda guest: guest.happens(ev.Voided("late")),
    "paused": Guest.is_paused,
    "resumed": Guest.is_resumed,
    "snapshot": lambda guest: guest.happens(ev.Silenced("hint:1", "snapshot", guest.host.now + 50.0)),
    "snapshot done": lambda guest: guest.happens(ev.Unsilenced("hint:1")),
    "migration pass": lambda guest: guest.happens(ev.Silenced("job", "migration", guest.host.now + 60.0)),
    "migration done": lambda guest: guest.happens(ev.Unsilenced("job")),
    "just connected": lambda guest: guest.happens(just_connected(guest.monitor.policy, guest.host.now)),
    "rebooted": lambda guest: guest.boots(after=40.0),
    "saved and restored": lambda guest: (guest.is_saved(), guest.is_restored()),
    "agent restarted": lambda guest: (guest.agent_exits(), guest.host.later(3.0, guest.agent_starts)),
    "libvirtd stalls": lambda guest: (
        guest.host.libvirtd_stops(),
        guest.host.later(STALL + 8.0, guest.host.libvirtd_goes_on),
    ),
    "its port is wrongly taken for closed": lambda guest: (
        guest.happens(ev.PortChanged(False)),
        guest.host.later(READ_AGAIN, guest.is_read),
    ),
    "libvirt is not connected": lambda guest: (
        guest._change(unconnected=True),
        guest.host.later(45.0, lambda: guest._change(unconnected=False)),
    ),
    BUSY: lambda guest: (guest._change(busy=True), guest.host.later(BUSY_FOR, lambda: guest._change(busy=False))),
    # Not slower than libvirt's own resynchronisation allows: see `monitor.RESYNC_TIME`.
    "slower": lambda guest: guest.agent_goes_on(0.9 * min(guest.monitor.policy.timeout, RESYNC_TIME)),
    "another policy": lambda guest: guest.happens(
        ev.PolicyChanged(replace(guest.monitor.policy, interval=guest.monitor.policy.interval * 1.5))
    ),
    "watchdog": lambda guest: guest.happens(ev.WatchdogFired("none")),
}


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    asked=st.sampled_from([(1.0, 1.0, 2), (2.0, 5.0, 3), (10.0, 5.0, 1), (10.0, 5.0, 3), (60.0, 20.0, 2)]),
    story=st.lists(st.tuples(st.sampled_from(sorted(DEEDS)), st.floats(0.0, 60.0)), max_size=30),
)
def test_whoever_answers_in_time_is_never_accused(
    asked: tuple[float, float, int], story: list[tuple[str, float]]
) -> None:
    """Whatever silences, voids, jobs, reboots, and troubles of ours and of libvirtd's are mixed in."""
    interval, timeout, threshold = asked
    guest = lone(interval=interval, timeout=timeout, threshold=threshold)
    guest.run(100.0)
    for deed, then in story:
        # A request that queues behind somebody else's looks like any other for a while: one beat of it is no fault.
        if deed != BUSY or interval > BUSY_FOR:
            DEEDS[deed](guest)
        guest.run(guest.host.now + then)
    assert guest.raised == [], guest.transcript


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    interval=st.floats(1.0, 60.0),
    timeout=st.floats(0.1, 60.0),
    threshold=st.integers(1, 12),
    phase=st.floats(0.0, 60.0),
    rtt=st.floats(0.001, 1.0),
    kernel=st.booleans(),
    memory=st.sampled_from([NEW, Memory(established=True, waited=None), Memory(established=True, waited=100.0)]),
)
def test_whoever_hangs_for_ever_on_an_open_port_is_accused_in_time(
    interval: float,
    timeout: float,
    threshold: int,
    phase: float,
    rtt: float,
    kernel: bool,
    memory: Memory,
) -> None:
    """Whatever its policy, its phase and its pace were."""
    host = Host()
    guest = host.guest("vm", memory, interval=interval, timeout=timeout, threshold=threshold)
    guest.agent_goes_on(min(rtt, 0.9 * timeout))
    guest.run(3 * interval + 10.0 + phase)
    hung = host.now
    assert guest.raised == []
    if kernel:
        guest.kernel_dies()
    else:
        guest.agent_stops()
    guest.run(hung + threshold * interval + timeout + 0.05)
    assert len(guest.raised) == 1, guest.monitor.told(host.now)
    assert guest.raised[0].misses == threshold
    guest.run(host.now + 200.0)
    assert guest.fault is not None
    if memory is NEW:
        assert guest.fault.cause == ("guest_hung" if kernel else "agent_unresponsive")
    guest.agent_goes_on()
    guest.run(host.now + max(interval, 60.0) + 6.0)
    assert guest.fault is None
    assert len(guest.raised) == 1


#: The same for an application that always answers in time, and what else it may say.
SPOKEN: dict[str, Any] = {
    **{
        name: DEEDS[name] for name in ("voided", "paused", "resumed", "snapshot", "snapshot done", "saved and restored")
    },
    **{name: DEEDS[name] for name in ("rebooted", "libvirtd stalls", "another policy", "just connected")},
    "faster": lambda guest: guest.application.says(Hello(1, "app", guest.monitor.policy.interval / 3, 0.5)),
    "slower": lambda guest: guest.application.says(Hello(1, "app", 1e4, 300.0)),
    "goodbye": lambda guest: guest.application.says(Goodbye("for a while")),
    "maintenance": lambda guest: guest.application.says(Maintenance(40.0, "index")),
    "disconnected": lambda guest: guest.happens(ev.ChannelDown("closed by QEMU")),
    "connected": lambda guest: guest.happens(ev.ChannelUp()),
    "port": lambda guest: (guest.happens(ev.PortChanged(False)), guest.happens(ev.PortChanged(True))),
}


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    asked=st.sampled_from([(0.2, 0.2, 3), (1.0, 1.0, 2), (2.0, 5.0, 3), (10.0, 5.0, 1), (60.0, 20.0, 2)]),
    story=st.lists(st.tuples(st.sampled_from(sorted(SPOKEN)), st.floats(0.0, 30.0)), max_size=20),
)
def test_whichever_application_answers_in_time_is_never_accused(
    asked: tuple[float, float, int], story: list[tuple[str, float]]
) -> None:
    """Whatever is mixed in, and whatever it says beside."""
    interval, timeout, threshold = asked
    guest = lone(interval=interval, timeout=timeout, threshold=threshold, channel=Channel.APPLICATION)
    guest.run(100.0)
    for deed, then in story:
        SPOKEN[deed](guest)
        guest.run(guest.host.now + then)
    assert guest.raised == [], guest.transcript


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    interval=st.floats(0.2, 60.0),
    timeout=st.floats(0.1, 60.0),
    threshold=st.integers(1, 12),
    phase=st.floats(0.0, 60.0),
    rtt=st.floats(0.001, 1.0),
    kernel=st.booleans(),
)
def test_whichever_application_hangs_for_ever_is_accused_in_time(
    interval: float, timeout: float, threshold: int, phase: float, rtt: float, kernel: bool
) -> None:
    """Exactly the threshold of misses, whatever its policy, its phase and its pace were; back, it is acquitted."""
    guest = lone(channel=Channel.APPLICATION, interval=interval, timeout=timeout, threshold=threshold)
    guest.application.goes_on(min(rtt, 0.9 * timeout))
    guest.run(3 * interval + 10.0 + phase)
    hung = guest.host.now
    assert guest.raised == []
    guest.application.hangs()
    if kernel:
        guest.kernel_dies()
    guest.run(hung + threshold * interval + timeout + 0.05)
    assert len(guest.raised) == 1, guest.monitor.told(guest.host.now)
    assert guest.raised[0].misses == threshold
    guest.run(guest.host.now + 200.0)
    assert guest.fault is not None
    assert guest.fault.cause == ("guest_hung" if kernel else "application_unresponsive")
    guest.application.goes_on()
    guest.run(guest.host.now + 5.0)
    assert guest.fault is None
