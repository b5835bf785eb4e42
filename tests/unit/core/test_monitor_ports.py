"""A port that is closed, opened, or both for ever: a dead agent is not a dead VM, and not nothing either."""

from __future__ import annotations

import pytest

from tests.unit.core.scenario import WELL, Guest, lone, settled
from vmhb_common.model.policy import Action, Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core.instance_state import Memory, Timing
from vmhb_worker.core.transitions import State

#: exit_settle_time, in short.
SETTLE = Timing(exit_settle_time=20.0)


def flaps(guest: Guest, until: float, *, closed: float, opened: float) -> None:
    """Its port closes and opens for ever, and nobody answers."""
    while guest.host.now < until:
        guest.agent_exits()
        guest.run(guest.host.now + closed)
        guest.agent_starts(rtt=None)
        guest.run(guest.host.now + opened)


def test_an_agent_that_exited_is_told_after_the_settle_time() -> None:
    """A warning, never a recovery; no miss is counted against a guest whose port nobody holds."""
    guest = settled(action=Action.RECOVER_UNRESPONSIVE)
    guest.agent_exits()
    assert guest.run(300.0) == ["220.00 raised agent_exited"]
    assert [(fault.severity, fault.recommended_action, fault.misses) for fault in guest.raised] == [
        ("warning", "alarm", 0)
    ]
    guest.run(1000.0)
    guest.agent_starts()
    assert guest.run(1001.0) == ["1000.01 cleared agent_exited: recovered"]


def test_an_agent_that_is_restarted_in_time_is_no_fault() -> None:
    """A package upgrade closes the port for some seconds."""
    guest = settled()
    guest.agent_exits()
    guest.run(219.0)
    guest.agent_starts()
    assert guest.run(1000.0) == []
    assert guest.monitor.state is State.ALIVE


def test_an_agent_that_comes_back_and_does_not_answer_is_given_a_full_threshold() -> None:
    """It was opened again just before the settle time was over: it has its misses, and then the cause is another."""
    guest = settled(timing=SETTLE, interval=10.0, timeout=5.0)
    guest.agent_exits()
    guest.run(119.0)
    guest.agent_starts(rtt=None)
    assert guest.run(300.0) == ["144.00 raised agent_unresponsive"]


def test_an_agent_that_comes_back_long_before_is_judged_by_its_misses() -> None:
    """The settle time is for closed ports."""
    guest = settled(timing=SETTLE, interval=1.0, timeout=1.0)
    guest.agent_exits()
    guest.run(102.0)
    guest.agent_starts(rtt=None)
    assert guest.run(300.0) == [
        "105.00 raised agent_unresponsive, withheld: evidence",
        "106.00 updated agent_unresponsive",
    ]


@pytest.mark.parametrize(
    ("closed", "opened"),
    [(0.05, 0.05), (0.5, 0.5), (0.1, 2.9), (0.1, 5.0), (5.0, 0.1), (3.0, 3.0), (0.1, 30.0), (19.0, 1.0)],
)
def test_a_port_that_flaps_for_ever_is_reported(closed: float, opened: float) -> None:
    """However it opens and closes: within the settle time and a full threshold, unless somebody answers."""
    guest = settled(timing=SETTLE, interval=10.0, timeout=5.0)
    flaps(guest, 100.0 + 20.0 + 35.0 + 1.0, closed=closed, opened=opened)
    assert len(guest.raised) == 1, guest.transcript
    flaps(guest, 1000.0, closed=closed, opened=opened)
    assert len(guest.raised) == 1
    assert guest.fault is not None
    assert guest.fault.withheld is None  # though no challenge and no probe is ever left to its end
    assert len(guest.transcript) <= 3  # nor is it told again and again
    guest.agent_goes_on()
    guest.run(1070.0)  # a silent guest is asked once a minute
    assert guest.fault is None


def test_an_answer_now_and_then_excuses_flapping() -> None:
    """An agent that is restarted every ten seconds by something in the guest still acknowledges."""
    guest = settled(timing=SETTLE, interval=1.0, timeout=1.0)
    for _ in range(60):
        guest.agent_exits()
        guest.run(guest.host.now + 5.0)
        guest.agent_starts()
        guest.run(guest.host.now + 5.0)
    assert guest.transcript == []


def test_an_exit_during_suspicion_is_an_exit() -> None:
    """It missed two beats and then closed the port: the skips in between make it no third."""
    guest = settled(timing=SETTLE, interval=10.0, timeout=5.0, threshold=3)
    guest.agent_stops()
    guest.run(119.0)
    assert guest.monitor.answers.misses == 2
    guest.agent_exits()
    assert guest.run(400.0) == ["139.00 raised agent_exited"]


def test_a_silent_agent_that_exits_makes_the_cause_another() -> None:
    """What is known better is told: the fault stays one."""
    guest = settled(timing=SETTLE, interval=1.0, timeout=1.0)
    guest.agent_stops()
    guest.run(150.0)
    guest.agent_exits()
    guest.run(180.0)
    guest.agent_starts(rtt=None)
    guest.run(300.0)
    assert guest.transcript == [
        "103.10 raised agent_unresponsive, withheld: evidence",
        "104.10 updated agent_unresponsive",
        "170.00 updated agent_exited",
        # Silent at 183, but its kernel was asked less than a minute ago: not known better yet.
        "184.00 updated agent_unresponsive",
    ]


def test_a_port_that_flapped_says_nothing_of_a_guest_that_panicked() -> None:
    """Its settle time may be over later: what is known better stands."""
    guest = settled(timing=SETTLE, interval=10.0, timeout=5.0, action=Action.RECOVER)
    guest.agent_exits()
    guest.run(101.0)
    guest.agent_starts(rtt=None)
    guest.kernel_dies(told=True)
    assert guest.transcript[-1] == "101.00 raised guest_panicked, withheld: hold"
    assert guest.run(300.0) == ["111.00 updated guest_panicked, recover"]


def test_a_guest_that_closed_its_port_before_it_ever_answered_is_waited_for() -> None:
    """A booting guest has its grace; its port says nothing."""
    guest = lone(timing=SETTLE, grace=600.0)
    guest.agent_exits()
    assert guest.run(1000.0) == ["600.00 raised not_established"]
    guest.agent_starts()
    assert guest.run(1100.0) == ["1000.01 established", "1000.01 cleared not_established: recovered"]


def test_after_a_restart_of_the_worker_a_closed_port_is_found_closed() -> None:
    """It may have been closed while nobody looked: no event will tell."""
    guest = lone(memory=WELL, timing=SETTLE)
    guest.port = False
    guest.monitor.life.port_open = None
    guest.happens(ev.PortChanged(False))
    assert guest.run(100.0) == ["20.00 raised agent_exited"]


def test_a_request_tells_that_the_port_is_closed_where_no_event_did() -> None:
    """Older libvirts tell of no port but the agent's, and events get lost."""
    guest = settled(timing=SETTLE, interval=10.0)
    guest._change(port=False)
    told = guest.run(200.0)
    assert len(told) == 1
    assert told[0].endswith("raised agent_exited")
    assert float(told[0].split()[0]) <= 130.1


def test_the_port_is_part_of_the_evidence() -> None:
    """With its age; unknown until somebody told."""
    guest = lone(memory=Memory(established=True, waited=None), interval=1.0, timeout=1.0)
    guest.run(50.0)
    guest.agent_stops()
    guest.run(100.0)
    assert guest.raised[0].evidence["port"]["value"] is True
    monitor = lone(memory=WELL).monitor
    monitor.life.port_open = None
    assert monitor._witnesses.gathered(0.0).told(0.0)["port"] == {"value": "unavailable", "reason": "not told yet"}


# -- libvirt talks to the agent no more ------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [{"interval": 1.0, "timeout": 1.0}, {}, {"interval": 10.0, "timeout": 10.0}])
def test_nobody_missed_what_libvirt_did_not_ask(policy: dict[str, float]) -> None:
    """It could not read a line of the agent's, and closed its own end: skipped, said once, and no fault."""
    guest = settled(action=Action.RECOVER_UNRESPONSIVE, **policy)
    guest.given_up = True
    guest.run(600.0)
    assert [line.split(" ", 1)[1].partition(":")[0] for line in guest.transcript] == ["remark"]
    assert "restart the agent" in guest.transcript[0]
    shown = guest.monitor.told(600.0)
    assert (shown["not_asked"], shown["misses"]) == ("given up by libvirt", 0)
    assert shown["skipped"] > 10
    guest.given_up = False
    guest.run(700.0)
    assert guest.monitor.told(700.0)["not_asked"] is None
    guest.given_up = True
    guest.run(800.0)
    assert len(guest.transcript) == 2  # another outage is said as well


def test_libvirt_gives_up_on_an_agent_that_is_missed() -> None:
    """What was missed before stands, and what was not asked adds nothing to it."""
    guest = settled(interval=10.0, timeout=5.0, threshold=5, action=Action.RECOVER_UNRESPONSIVE)
    guest.agent_stops()
    guest.run(126.0)
    misses = guest.monitor.answers.misses
    assert 0 < misses < 5
    guest.given_up = True
    guest.run(1000.0)
    assert guest.monitor.answers.misses == misses
    assert guest.raised == []


@pytest.mark.parametrize(("trouble", "remarks"), [("given_up", 1), ("unconnected", 0)])
def test_whoever_opens_the_port_and_is_not_asked_is_accused_of_nothing(trouble: str, remarks: int) -> None:
    """An agent that is replaced by one whose first line libvirt cannot read, or that libvirt is not connected to: its
    settle time ends without a word."""
    guest = settled(timing=SETTLE, action=Action.RECOVER_UNRESPONSIVE)
    guest.agent_exits()
    guest.run(101.0)
    setattr(guest, trouble, True)
    guest.agent_starts()
    said = guest.run(1000.0)
    assert [line for line in said if "remark" not in line] == []
    assert len(said) == remarks


def test_the_port_of_the_other_channel_is_no_matter() -> None:
    """Only the one that a guest is judged by counts, as evidence and as an end."""
    guest = settled(interval=10.0)
    guest.happens(ev.PortChanged(False, Channel.APPLICATION))
    assert guest.monitor.port_open is True
    guest.run(400.0)
    assert guest.transcript == []


# -- a port that is known to be closed is not asked ------------------------------------------------------------------


@pytest.mark.parametrize("interval", [1.0, 10.0])
def test_nobody_is_asked_through_a_closed_port(interval: float) -> None:
    """libvirt would only write an error into its log each interval, as long as it stays closed; beats are skipped."""
    guest = settled(interval=interval, timeout=1.0)
    guest.agent_exits()
    asked = len(guest.asks())
    assert guest.run(2000.0) == ["220.00 raised agent_exited"]
    assert len(guest.asks()) == asked
    shown = guest.monitor.told(2000.0)
    assert (shown["not_asked"], shown["misses"]) == ("port closed", 0)
    assert shown["skipped"] >= 100.0 / interval - 1


@pytest.mark.parametrize("closed_for", [5.0, 1000.0])
def test_whoever_opens_the_port_is_asked_at_once(closed_for: float) -> None:
    """Before and after it was judged."""
    guest = settled(interval=10.0)
    guest.agent_exits()
    guest.run(100.0 + closed_for)
    asked = len(guest.asks())
    guest.agent_starts()
    guest.run(guest.host.now + 0.1)
    assert len(guest.asks()) == asked + 1
    assert guest.monitor.answers.last_ack == pytest.approx(guest.host.now - 0.09)
    assert guest.monitor.told(guest.host.now)["not_asked"] is None


def test_a_port_of_which_nothing_is_known_is_asked() -> None:
    """After a boot, and where an old QEMU does not tell."""
    guest = lone(memory=WELL, interval=1.0)
    guest.monitor.life.port_open = None
    guest.run(10.0)
    assert guest.asks() and guest.monitor.port_open is True


def test_a_booting_guest_is_not_asked_before_it_opens_its_port() -> None:
    """And then at once, whatever its interval is."""
    guest = lone(interval=30.0, grace=600.0)
    guest.boots(after=47.0)
    asked = len(guest.asks())
    assert guest.run(46.0) == []
    assert len(guest.asks()) == asked
    assert guest.run(48.0) == ["47.01 established"]


def test_a_challenge_that_waits_for_its_turn_is_taken_back_when_the_port_closes() -> None:
    """It has not left yet."""
    guest = settled(interval=1.0)
    guest.monitor._asking.challenges.out = True
    assert ev.Withdraw() in guest.monitor.handle(ev.PortChanged(False), 100.5)
    assert ev.Withdraw() not in guest.monitor.handle(ev.PortChanged(False), 100.6)


def test_a_port_that_was_wrongly_taken_for_closed_is_healed_by_what_libvirt_knows() -> None:
    """Its opening was lost: the description that is read again tells of it, and so it is asked."""
    guest = settled(interval=10.0)
    guest.happens(ev.PortChanged(False))
    assert guest.monitor.unsettled
    guest.run(150.0)
    guest.is_read()
    guest.run(151.0)
    assert not guest.monitor.unsettled and guest.monitor.answers.last_ack == pytest.approx(150.0, abs=0.1)
    assert guest.run(1000.0) == []


def test_who_is_read_again_now_and_then() -> None:
    """Whoever is not simply alive; not one that does not run, nor the many that are well."""
    well = settled(interval=10.0)
    assert not well.monitor.unsettled
    silent = settled(interval=1.0, timeout=1.0)
    silent.agent_stops()
    for until, state in ((102.5, State.MISSING), (200.0, State.SILENT)):
        silent.run(until)
        assert silent.monitor.state is state and silent.monitor.unsettled
    silent.is_destroyed()
    assert not silent.monitor.unsettled
    for event in (ev.Paused("paused"), ev.Arriving(), ev.InPostcopy(), ev.Paused("asleep", wish=True)):
        quiet = settled(interval=10.0)
        quiet.happens(event)
        assert quiet.monitor.unsettled, event
    announced = settled(interval=10.0)
    announced.happens(ev.Silenced("hint:req-1", "resize", 500.0))
    assert not announced.monitor.unsettled


# -- libvirt speaks of itself ----------------------------------------------------------------------------------------


def test_libvirts_own_end_is_no_closed_port() -> None:
    """libvirtd was restarted, over a QEMU that hangs, say: it is not connected to the agent, whose port is open for all
    that it knows. Nobody is asked; the guest has closed nothing, and missed nothing.
    """
    guest = settled(timing=SETTLE, interval=1.0, timeout=1.0, action=Action.RECOVER_UNRESPONSIVE)
    guest.unconnected = True
    assert guest.run(1000.0) == []
    shown = guest.monitor.told(1000.0)
    assert (shown["not_asked"], shown["misses"]) == ("libvirt is not connected to it", 0)
    assert guest.monitor.port_open is True and guest.monitor.unsettled
    reads = [effect for _, effect in guest.effects if isinstance(effect, ev.ReadAgain)]
    assert len(reads) == 1, "and then once a minute, as long as it lasts"
    guest.unconnected = False
    guest.run(1002.0)
    assert guest.monitor.told(1002.0)["not_asked"] is None and not guest.monitor.unsettled


def test_what_is_not_understood_is_nobodys_act_and_said_once() -> None:
    """A libvirtd in another language, or of the future: skipped, no miss, no closed port, and what to do about it."""
    guest = settled(action=Action.RECOVER_UNRESPONSIVE)
    words = "Gast-Agent zur Zeit nicht verf\u00fcgbar\n"
    for number in range(100):
        guest.monitor._asking.challenges.out = True
        effects = guest.monitor.handle(ev.AskFailed(ev.Failure.UNKNOWN, words), 100.0 + number)
        remarks = [effect.text for effect in effects if isinstance(effect, ev.Remark)]
        assert len(remarks) == (number == 0)
        if remarks:
            assert "LC_ALL=C" in remarks[0] and "verf\u00fcgbar\\n" in remarks[0], "escaped"
    assert guest.monitor.answers.misses == 0 and guest.monitor.port_open is True
    assert guest.monitor.state is State.ALIVE
    assert guest.monitor.told(200.0)["not_asked"] == "not understood"


@pytest.mark.parametrize("failure", sorted(ev.Failure, key=str))
def test_only_the_agents_own_act_counts_against_it(failure: ev.Failure) -> None:
    """Whichever way a challenge ends: but for silence and nonsense it is a skip, and no reason to take a port for
    closed but that it is."""
    guest = settled(interval=1.0, timeout=1.0, threshold=3)
    for number in range(20):
        now = 100.0 + number
        guest.monitor.handle(ev.Tick(now), now)
        guest.monitor.handle(ev.Asked(), now)
        guest.monitor.handle(ev.AskFailed(failure), now + 0.99)
    accused = failure in (ev.Failure.NO_ANSWER, ev.Failure.GARBLED)
    assert (guest.monitor.answers.misses > 0) is accused
    assert (guest.monitor.port_open is False) is (failure is ev.Failure.CLOSED)


def test_a_recovery_of_one_whose_port_is_closed_need_not_wait_for_a_question() -> None:
    """Nobody holds the port open, so it was asked in vain."""
    guest = settled(interval=1.0, timeout=1.0, action=Action.RECOVER)
    guest.kernel_dies()
    guest.run(110.0)
    guest.agent_exits()
    guest.happens(ev.Verify())
    assert not guest.monitor.silent_since(guest.host.now, guest.host.now + 0.5)
    assert guest.monitor.silent_since(guest.host.now, guest.host.now + 1.0)
