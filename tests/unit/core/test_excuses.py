"""Who need not answer, and why: one witness's excuse is nobody else's, and the host is asked in its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.core.scenario import Guest, lone, settled, spins, told
from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Action, Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core import protocol
from vmhb_worker.core.absence import GOODBYE, MAINTENANCE
from vmhb_worker.core.doubt import AWAY, just_connected, we_were_late
from vmhb_worker.core.evidence import System, Witness
from vmhb_worker.core.excuses import FIRST_LOOK, NOBODY, OF_FAILURE, OF_SILENCE, Excused, of_silence
from vmhb_worker.core.reconcile import RESCUED
from vmhb_worker.core.suspicion import CONFIRM
from vmhb_worker.core.transitions import State

#: A probe, and what comes before it.
PROBE = 4.0
#: … of a guest whose port is closed, which may be asleep.
LONG_PROBE = 7.0
#: More than any policy has to spare.
LATE = 400.0


def at(guest: Guest, what: str) -> float:
    """When that was said first."""
    return next(float(line.split()[0]) for line in guest.transcript if what in line)


# -- the tables are total ----------------------------------------------------------------------------------------------


def test_every_end_of_a_request_has_a_row() -> None:
    """A failure that is new is to be somebody's: the agent's own silence, or an excuse of its."""
    assert set(OF_FAILURE) == set(ev.Failure)
    assert {failure for failure, excuse in OF_FAILURE.items() if excuse is None} == {
        ev.Failure.NO_ANSWER,
        ev.Failure.GARBLED,
    }
    assert {excuse.value.witness for excuse in OF_FAILURE.values() if excuse is not None} == {Witness.AGENT}


def test_every_silence_has_a_row() -> None:
    """Those that the worker begins by itself; all others are announced."""
    begun = {"paused", "passage", "postcopy", "job", GOODBYE, MAINTENANCE, RESCUED.key, AWAY.key}
    assert set(OF_SILENCE) == begun
    assert of_silence("hint:req-1") is Excused.ANNOUNCED


def test_whatever_excuses_says_whom_why_and_until_when() -> None:
    """An excuse without an end hides a death for ever."""
    for excuse in Excused:
        assert excuse.value.why
        assert excuse.value.ends
    used = {*OF_FAILURE.values(), *OF_SILENCE.values(), Excused.ANNOUNCED, Excused.NOT_CONNECTED, Excused.NO_PLACE}
    assert used - {None} == set(Excused)
    alone = {excuse for excuse in OF_SILENCE.values() if excuse.value.witness is not None}
    assert alone == {Excused.GOODBYE}  # what else is a silence excuses everybody


# -- a kernel that dies behind an excuse -------------------------------------------------------------------------------


def held(guest: Guest) -> None:
    guest.busy = True


def gives_up(guest: Guest) -> None:
    guest.given_up = True


def exits(guest: Guest) -> None:
    guest.agent_exits()


def says_goodbye(guest: Guest) -> None:
    guest.application.says(protocol.Goodbye("maintenance"))
    guest.application.hangs()


def loses_connection(guest: Guest) -> None:
    guest.happens(ev.ChannelDown("EOF"))


EXCUSES = {
    "held": (held, Channel.AGENT),
    "given up": (gives_up, Channel.AGENT),
    "exited": (exits, Channel.AGENT),
    "goodbye": (says_goodbye, Channel.APPLICATION),
    "not connected": (loses_connection, Channel.APPLICATION),
}
POLICIES = [(10.0, 5.0, 3), (5.0, 5.0, 3), (1.0, 1.0, 3), (60.0, 5.0, 3), (300.0, 5.0, 2)]


@pytest.mark.parametrize("excused", EXCUSES)
@pytest.mark.parametrize("after", [0.0, 20.0, 100.0, 700.0])
@pytest.mark.parametrize(("interval", "timeout", "threshold"), POLICIES)
def test_a_kernel_that_dies_behind_an_excuse(
    excused: str, after: float, interval: float, timeout: float, threshold: int
) -> None:
    """Found within probe_interval + 5 s, counted from when the excuse is known: an alarm, confirmed, then recovered.

    One that halts together with its agent looks asleep: that is an alarm, and told.
    """
    happens, channel = EXCUSES[excused]
    guest = settled(
        channel=channel, interval=interval, timeout=timeout, threshold=threshold, action=Action.RECOVER_UNRESPONSIVE
    )
    guest.monitor.has_other_channel(False)
    guest.run(700.0)
    happens(guest)
    guest.run(700.0 + after)
    guest.transcript.clear()
    guest.kernel_dies()
    guest.application.hangs()
    died = guest.host.now
    # When it is known at the latest that its agent is held, or was given up: at the next challenge's end.
    asked = {"held": interval + 30.0, "given up": interval}.get(excused, 0.0)
    guest.run(died + asked + 300.0)
    if excused == "exited" and after == 0.0:
        assert told(guest)[0] == "raised asleep"
        return
    found = at(guest, "guest_hung")
    assert found - died <= asked + 60.0 + LONG_PROBE, guest.transcript
    recover = at(guest, "guest_hung, recover")
    missed = excused == "held" and threshold * interval + timeout < 30.0  # it is found silent before it is excused
    assert recover - found <= CONFIRM + LONG_PROBE, guest.transcript
    assert missed or recover - found >= CONFIRM - 1.0, guest.transcript


def found_dead(excused: str, interval: float, timeout: float, threshold: int) -> Guest:
    """One whose kernel died behind an excuse, and spins; its recovery has long been asked for."""
    happens, channel = EXCUSES[excused]
    guest = settled(
        channel=channel, interval=interval, timeout=timeout, threshold=threshold, action=Action.RECOVER_UNRESPONSIVE
    )
    guest.monitor.has_other_channel(False)
    happens(guest)
    guest.run(200.0)
    guest.does, guest.delayed = spins, 0.0
    guest.kernel_dies()
    guest.application.hangs()
    guest.run(2 * (200.0 + interval) + 400.0)
    assert "updated guest_hung, recover" in told(guest) or "raised guest_hung, recover" in told(guest)
    return guest


@pytest.mark.parametrize("excused", EXCUSES)
@pytest.mark.parametrize(("interval", "timeout", "threshold"), POLICIES)
def test_who_was_found_dead_behind_an_excuse_is_not_alive_for_a_stall_of_ours(
    excused: str, interval: float, timeout: float, threshold: int
) -> None:
    """What was seen before it says nothing any more, and that is no sign of life: it is looked at anew."""
    guest = found_dead(excused, interval, timeout, threshold)
    said = told(guest)
    for pause in (17.0, 3.0):
        for _ in range(40):
            guest.host.hand(guest, we_were_late(LATE, guest.host.now).event)
            guest.run(guest.host.now + pause)
    assert [line for line in told(guest)[len(said) :] if not line.startswith("updated guest_hung")] == []
    stands = []
    for _ in range(100):
        guest.run(guest.host.now + 1.0)
        stands.append(guest.monitor.stands)
    assert any(stands), "it is not found anew"


@pytest.mark.parametrize("excused", EXCUSES)
@pytest.mark.parametrize(("interval", "timeout", "threshold"), POLICIES)
def test_who_was_found_dead_behind_an_excuse_is_not_alive_since_its_host_is_busy(
    excused: str, interval: float, timeout: float, threshold: int
) -> None:
    """Looked at again, it is not let run: what it does not do says nothing, least of all that it lives. Where it was
    found silent before it was excused, that may be why."""
    guest = found_dead(excused, interval, timeout, threshold)
    busy, said = guest.host.now, told(guest)
    ran = int(busy * 1e9)
    guest.does, guest.delayed = lambda now: (ran + int((now - busy) * 1e7), 0), 0.95
    states = set()
    for second in range(1000):
        guest.run(busy + second)
        states.add(guest.monitor.state)
    assert states == {State.SILENT}
    assert [line for line in told(guest)[len(said) :] if "guest_hung" not in line and line != "updated starved"] == []
    assert guest.fault is not None


@pytest.mark.parametrize("excused", EXCUSES)
def test_a_kernel_that_lives_behind_an_excuse_is_not_recovered(excused: str) -> None:
    """An alarm at most, of the cause that the excuse itself comes to."""
    happens, channel = EXCUSES[excused]
    guest = settled(channel=channel, action=Action.RECOVER_UNRESPONSIVE)
    guest.monitor.has_other_channel(False)
    happens(guest)
    guest.run(5000.0)
    assert [line for line in told(guest) if "recover" in line] == []
    assert {fault.cause for fault in guest.raised} <= {"agent_exited"}
    probes = [when for when, e in guest.effects if e == ev.LookAt(ev.SetBalloonPeriod(1)) and when > 100.0]
    assert len(probes) >= 60, "the host was not asked on"


def test_a_qemu_that_hangs_behind_a_closed_port() -> None:
    """libvirtd was restarted meanwhile, and calls the agent not connected: that is no word of the guest's."""
    guest = settled()
    guest.agent_exits()
    guest.run(110.0)
    guest.qemu_stops()
    guest.run(400.0)
    assert "updated qemu_hung, recover" in told(guest)
    guest.qemu_goes_on()
    guest.run(500.0)
    assert told(guest)[-1] == "updated agent_exited"


def test_a_kernel_that_is_replaced_is_not_recovered() -> None:
    """kexec: its agent ends, and no driver answers until the next kernel has booted its own."""
    guest = settled()
    guest.agent_exits()
    guest.run(101.0)
    guest.does = spins
    guest.kernel_dies()
    guest.run(112.0)
    guest.kernel_boots()
    guest.run(135.0)
    guest.agent_starts()
    guest.run(200.0)
    assert told(guest) == ["raised guest_hung, withheld: evidence", "cleared guest_hung: recovered"]
    assert guest.fault is None


def test_an_agent_that_exited_in_a_guest_that_dies_and_one_that_comes_back() -> None:
    """The cause becomes a harder one, and the softer again if its kernel answers after all."""
    guest = settled(action=Action.RECOVER)
    guest.agent_exits()
    guest.run(300.0)
    guest.kernel_dies()
    guest.run(390.0)
    guest.kernel_boots()
    guest.run(500.0)
    assert told(guest) == [
        "raised agent_exited",
        "updated guest_hung, withheld: evidence",
        "updated guest_hung, recover",
        "updated agent_exited",
    ]
    guest.agent_starts()
    guest.run(600.0)
    assert told(guest)[-1] == "cleared agent_exited: recovered"


@pytest.mark.parametrize("excused", ["exited", "not connected"])
def test_a_kernel_that_dies_behind_an_excuse_after_its_qemu_had_paused_it(excused: str) -> None:
    """Its disk was full meanwhile: who could not be asked before cannot be asked after that, and the host is."""
    happens, channel = EXCUSES[excused]
    guest = settled(channel=channel, action=Action.RECOVER)
    guest.monitor.has_other_channel(False)
    guest.run(300.0)
    happens(guest)
    guest.run(310.0)
    guest.gets_stuck(ev.Stuck(Cause.PAUSED_IO_ERROR))
    guest.run(400.0)
    guest.is_resumed()
    guest.run(500.0)
    guest.does = spins
    guest.kernel_dies()
    guest.application.hangs()
    died = guest.host.now
    guest.run(died + 200.0)
    assert at(guest, "guest_hung") - died <= 60.0 + LONG_PROBE, guest.transcript
    assert told(guest)[-1] == "updated guest_hung, recover"


# -- nobody can be asked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("interval", "timeout", "threshold"), POLICIES)
def test_nobody_can_be_asked(interval: float, timeout: float, threshold: int) -> None:
    """No balloon, and somebody else's command holds the agent: an alarm of low confidence, and never more."""
    guest = settled(interval=interval, timeout=timeout, threshold=threshold, action=Action.RECOVER_UNRESPONSIVE)
    guest.run(1000.0)
    guest.monitor.balloon_period = None
    guest.busy = True
    last = guest.monitor.answers.last_ack
    assert last is not None
    guest.run(3000.0)
    (fault,) = guest.raised
    assert (fault.cause, fault.confidence, fault.recommended_action) == ("guest_silent", "low", "alarm")
    assert at(guest, "raised") - last <= threshold * interval + timeout + NOBODY + 1.0
    guest.busy = False
    guest.run(3400.0)
    assert [line for line in told(guest) if "evidence" not in line][-1] == "cleared guest_silent: recovered"
    assert [line for line in told(guest) if "recover" in line.split(":")[0]] == []


def test_who_can_be_asked_again_is_not_said_to_be_silent() -> None:
    """The alarm was about us: it ends when its balloon answers."""
    guest = settled()
    guest.busy = True
    guest.looks_fail = "LookVitals"
    guest.run(300.0)
    assert told(guest) == ["raised guest_silent"]
    guest.looks_fail = ""
    guest.run(500.0)
    assert told(guest) == ["raised guest_silent", "cleared guest_silent: recovered"]
    assert guest.monitor.state in (State.ALIVE, State.MISSING)


def test_a_libvirtd_that_is_mute_accuses_nobody() -> None:
    """It is connected, and answers nothing: that is told of the host."""
    guest = settled(interval=1.0, timeout=1.0)
    guest.busy = True
    guest.host.run(101.0)
    guest.host.libvirtd_stops()
    guest.run(1000.0)
    assert guest.transcript == []


# -- what people are told ----------------------------------------------------------------------------------------------


def test_show_never_calls_one_alive_that_has_not_been_heard() -> None:
    """Held for minutes: who asks is told why, and that it is missing."""
    guest = settled()
    guest.busy = True
    states = set()
    for second in range(101, 400):
        guest.run(float(second))
        told_of = guest.monitor.told(guest.host.now)
        if told_of["last_ack_age"] > 35.0:
            states.add(told_of["state"])
    assert states == {"missing"}
    assert guest.monitor.told(guest.host.now)["excused"] == Excused.AGENT_HELD.value.why


def test_the_first_look_waits_for_an_agent_that_is_restarted() -> None:
    """A port that is closed for a moment costs no probe."""
    guest = settled()
    guest.agent_exits()
    guest.run(100.0 + FIRST_LOOK - 1.0)
    guest.agent_starts()
    guest.run(200.0)
    baseline = [ev.SetBalloonPeriod(1)]
    assert [look for look in guest.looks() if look == ev.SetBalloonPeriod(1)] == baseline
    assert guest.transcript == []


def test_what_the_host_found_stands_until_it_is_asked_anew() -> None:
    """After libvirtd was away, a recovery of one that is excused rests on what the host says since then."""
    guest = settled(action=Action.RECOVER)
    guest.run(200.0)
    guest.agent_exits()
    guest.run(220.0)
    guest.does = spins
    guest.kernel_dies()
    guest.run(400.0)
    assert told(guest)[-1] == "updated guest_hung, recover"
    assert guest.monitor.stands
    guest.host.libvirtd_stops()
    guest.run(430.0)
    guest.host.libvirtd_goes_on()
    assert not guest.monitor.stands
    guest.run(560.0)
    assert guest.monitor.stands


def test_an_agent_that_is_asked_what_runs_there_is_asked_nothing_else() -> None:
    """Its health is asked for when that has come to its end."""
    guest = settled(health_check=True, interval=1.0, timeout=1.0)
    guest.monitor.system.rebooted()
    guest.monitor.handle(ev.Asked(), 100.0)
    first = guest.monitor.handle(ev.Acked(0.01), 100.1)
    again = guest.monitor.handle(ev.Acked(0.01), 101.1)
    assert [type(e) for e in first if isinstance(e, ev.AgentCommand)] == [ev.AgentCommand]
    assert [e for e in again if isinstance(e, ev.AgentCommand)] == []


# -- what is over when a guest is back ---------------------------------------------------------------------------------


def boots_anew(guest: Guest) -> None:
    guest.kernel_boots()


def goes_on(guest: Guest) -> None:
    guest.qemu_goes_on()


@pytest.mark.parametrize(("dies", "comes_back"), [(Guest.kernel_dies, boots_anew), (Guest.qemu_stops, goes_on)])
@pytest.mark.parametrize("excused", ["", "held", "given up", "unconnected"])
@pytest.mark.parametrize(("interval", "timeout", "threshold"), POLICIES)
def test_who_was_dead_is_asked_anew_before_its_agent_is_blamed(
    dies: Callable[[Guest], None],
    comes_back: Callable[[Guest], None],
    excused: str,
    interval: float,
    timeout: float,
    threshold: int,
) -> None:
    """Its kernel answers: that its agent was silent meanwhile, or has been held since, is no reason to recover."""
    knobs = {"interval": interval, "timeout": timeout, "threshold": threshold}
    guest = settled(action=Action.RECOVER_UNRESPONSIVE, **knobs)
    guest.run(1000.0)
    dies(guest)
    guest.run(2500.0)
    assert guest.fault is not None
    begun = len(guest.transcript)
    comes_back(guest)
    guest.busy, guest.given_up, guest.unconnected = (excused == what for what in ("held", "given up", "unconnected"))
    guest.agent_goes_on()
    guest.run(2500.0 + 700.0)
    since = [line.split(" ", 1)[1] for line in guest.transcript[begun:] if "remark" not in line]
    assert [line for line in since if "recover" in line.split(":")[0]] == []
    assert guest.fault is None or (excused and guest.fault.recommended_action == "alarm"), guest.transcript[-4:]
    guest.busy = guest.given_up = guest.unconnected = False
    guest.run(5000.0)
    assert guest.fault is None, guest.transcript[-4:]


@pytest.mark.parametrize("interval", [1.0, 10.0])
def test_an_agent_that_is_held_when_it_has_its_port_again(interval: float) -> None:
    """It was restarted, and somebody's command holds the new one: nobody has asked it, and its kernel answers."""
    guest = settled(interval=interval, timeout=min(interval, 5.0), action=Action.RECOVER_UNRESPONSIVE)
    guest.agent_exits()
    guest.busy = True
    guest.agent_starts()
    guest.run(1000.0)
    assert [line for line in told(guest) if "recover" in line] == []


def test_a_libvirtd_that_is_mute_when_a_port_has_had_its_time() -> None:
    """The port was closed and is open: libvirtd asks nobody, and so nobody has been silent."""
    guest = settled(interval=1.0, timeout=1.0, action=Action.RECOVER_UNRESPONSIVE)
    guest.agent_exits()
    guest.run(105.0)
    guest.host.libvirtd_stops()
    guest.agent_starts()
    guest.run(1000.0)
    assert guest.transcript == []


@pytest.mark.parametrize("between", ["paused", "restarted", ""])
def test_a_goodbye_outlives_what_excuses_everybody(between: str) -> None:
    """It was paused since, or the worker was restarted: a kernel that dies behind the goodbye is found all the same."""
    guest = settled(channel=Channel.APPLICATION)
    guest.monitor.has_other_channel(False)
    says_goodbye(guest)
    guest.run(120.0)
    if between == "paused":
        guest.is_paused()
        guest.run(200.0)
        guest.is_resumed()
    elif between == "restarted":
        guest = lone(at=200.0, memory=guest.monitor.memory(120.0), channel=Channel.APPLICATION, action=Action.RECOVER)
        guest.application.hangs()
        guest.happens(just_connected(guest.monitor.policy, 200.0))
    guest.run(300.0)
    guest.kernel_dies()
    guest.run(300.0 + 60.0 + LONG_PROBE + CONFIRM + PROBE)
    assert told(guest)[-1] == "updated guest_hung, recover"


def test_a_goodbye_outlives_a_storage_stall() -> None:
    """Its QEMU stood still, and goes on: whoever left on purpose is no less gone, and nobody recovers its guest."""
    guest = settled(channel=Channel.APPLICATION, action=Action.RECOVER_UNRESPONSIVE)
    says_goodbye(guest)
    guest.run(150.0)
    guest.qemu_stops()
    guest.run(200.0)
    guest.qemu_goes_on()
    guest.run(2000.0)
    assert told(guest)[1:] == ["raised qemu_hung, withheld: evidence", "cleared qemu_hung: recovered"]
    assert guest.monitor.memory(2000.0).absence.left == "maintenance"


def test_one_that_is_asleep_is_not_said_to_have_no_agent() -> None:
    """Its agent hung before: when its port has had its time, nothing is new. One cause, until it wakes."""
    guest = settled(action=Action.RECOVER_UNRESPONSIVE, interval=1.0, timeout=1.0)
    guest.agent_stops()
    guest.run(300.0)
    guest.kernel_dies()
    guest.agent_exits()
    guest.run(1000.0)
    assert told(guest)[-1] == "updated asleep"
    assert "updated agent_exited" not in told(guest)


@pytest.mark.parametrize("after", [1.0, 4.0, 9.0, 14.0])
@pytest.mark.parametrize("excused", ["held", "given up", "unconnected"])
def test_an_excuse_that_ends_before_the_kernel_was_asked_once_more(excused: str, after: float) -> None:
    """It is asked, then, and is silent: that is no excuse any more, and it is recovered as any other is."""
    guest = settled(action=Action.RECOVER, interval=1.0, timeout=1.0)
    guest.monitor.system.of_domain = System.LINUX
    guest.busy, guest.given_up, guest.unconnected = (excused == what for what in ("held", "given up", "unconnected"))
    guest.run(140.0)
    guest.kernel_dies()
    guest.run(300.0)
    found = at(guest, "guest_hung")
    again = settled(action=Action.RECOVER, interval=1.0, timeout=1.0)
    again.monitor.system.of_domain = System.LINUX
    again.busy, again.given_up, again.unconnected = (excused == what for what in ("held", "given up", "unconnected"))
    again.run(140.0)
    again.kernel_dies()
    again.run(found + after)
    again.busy = again.given_up = again.unconnected = False
    again.run(found + after + 60.0)
    assert again.fault is not None
    assert (again.fault.cause, again.fault.recommended_action) == ("guest_hung", "recover")
