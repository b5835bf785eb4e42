"""The application channel: who must answer, what else it may say, and what that changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.core.scenario import KNOWN, NEW, USUAL, Guest, changed, lone
from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Action, Channel, HeartbeatPolicy
from vmhb_worker.core import events as ev
from vmhb_worker.core import protocol
from vmhb_worker.core.application_channel import WISH_EVERY
from vmhb_worker.core.codec import Objection
from vmhb_worker.core.instance_state import Absence, Memory, Spell, Standing, Timing
from vmhb_worker.core.protocol import Ack, Check, Error, Goodbye, Health, Hello, Maintenance, Notice, Status, Welcome
from vmhb_worker.core.transitions import State

BAD = Health(Status.UNHEALTHY, (Check("db", Status.UNHEALTHY, "no connection"), Check("web", Status.HEALTHY)))
GOOD = Health(Status.HEALTHY)


def spoken(memory: Memory = NEW, timing: Timing = USUAL, until: float = 20.0, **knobs: Any) -> Guest:
    """A guest whose application answers every second, well at 20.0."""
    asked = {"interval": 1.0, "timeout": 1.0, "threshold": 3, "action": Action.RECOVER_UNRESPONSIVE, **knobs}
    guest = lone(memory=memory, timing=timing, channel=Channel.APPLICATION, **asked)
    guest.run(until)
    assert guest.monitor.state is State.ALIVE
    guest.transcript.clear()
    return guest


def words(lines: list[str]) -> list[str]:
    return [line.split(" ", 1)[1] for line in lines]


def with_policy(guest: Guest, **knobs: Any) -> HeartbeatPolicy:
    return replace(guest.monitor.policy, **knobs)


# -- silence


def test_the_first_answer_arms_and_hello_does_not() -> None:
    """`hello` only introduces: it is welcomed with the times in force, and the guest is still waited for."""
    guest = lone(channel=Channel.APPLICATION, interval=1.0, timeout=1.0)
    guest.application.hangs()
    guest.application.says(Hello(3, "web"))
    assert Welcome(1, 1.0, 1.0) in guest.application.heard
    guest.run(5.0)
    assert guest.monitor.state is State.WAITING
    guest.application.goes_on()
    assert words(guest.run(6.0)) == ["established"]


def test_a_silent_application_in_a_guest_that_lives() -> None:
    """Exactly the threshold of misses; the agent's answer tells it from a dead guest; one answer clears it."""
    guest = spoken()
    guest.application.hangs()
    lines = guest.run(40.0)
    assert words(lines)[0].startswith("raised application_unresponsive")
    assert float(lines[0].split()[0]) <= 20.0 + 3 * 1.0 + 1.0
    assert guest.monitor.answers.misses == 3
    assert guest.raised[0].evidence["other_channel"]["value"] is True
    assert guest.raised[0].evidence["connection"]["value"] == "connected"
    guest.application.goes_on()
    assert words(guest.run(60.0)) == ["cleared application_unresponsive: recovered"]


def test_a_guest_in_which_nothing_answers_hangs() -> None:
    """The agent is asked, and silent; the balloon, which answered before, decides."""
    guest = spoken(memory=KNOWN)
    guest.application.hangs()
    guest.kernel_dies()
    lines = words(guest.run(40.0))
    assert lines[0] == "raised guest_silent, withheld: evidence"
    assert lines[-1] == "updated guest_hung, recover"
    assert guest.monitor.told(40.0)["evidence"]["other_channel"]["value"] is False


def test_an_agent_that_cannot_be_asked_is_not_waited_for() -> None:
    """Somebody else's command holds it for ever: unavailable, and no verdict waits any longer."""
    guest = spoken(memory=changed(KNOWN, balloon_seen=False))
    guest.monitor.balloon_period = None
    guest.busy = True
    guest.application.hangs()
    lines = words(guest.run(60.0))
    assert lines == ["raised guest_silent, withheld: evidence", "updated guest_silent, recover"]
    told = guest.monitor.told(60.0)["evidence"]
    assert told["other_channel"]["value"] == "unavailable"


def test_a_guest_without_an_agent_is_judged_by_its_balloon() -> None:
    """There is nobody else to ask, which the evidence says."""
    guest = spoken(memory=KNOWN)
    guest.monitor.has_other_channel(False)
    guest.application.hangs()
    assert words(guest.run(40.0))[-1].endswith("application_unresponsive, recover")
    assert guest.raised[0].evidence["other_channel"]["reason"] == "the instance has no other channel"


@pytest.mark.parametrize("rtt", [0.9, 1.2, 2.4])
def test_slow_is_not_dead(rtt: float) -> None:
    """A constant round trip over the time-out saves the beats in whose time its answers come."""
    guest = spoken()
    guest.application.goes_on(rtt)
    guest.run(200.0)
    assert guest.transcript == []
    assert guest.monitor.told(200.0)["application"]["mean_rtt"] == pytest.approx(rtt, abs=0.1)


def test_no_more_are_out_than_are_remembered() -> None:
    """Beats of a guest that does not read count against what is out; afterwards one now and then."""
    guest = spoken()
    before = len(guest.application.challenges())
    guest.application.hangs()
    guest.run(24.5)
    window = guest.monitor._application.window
    assert window.size == 4
    assert len(guest.application.challenges()) - before == 4
    guest.run(624.5)
    assert len(guest.application.challenges()) - before <= 4 + 600 / 10 + 8
    assert window.unanswered <= 4


def test_a_replayed_answer_saves_nothing() -> None:
    """Each nonce counts once; one that is unknown, or with another seq, counts never."""
    guest = spoken()
    old = guest.application.challenges()[-1]
    guest.application.hangs()
    guest.run(20.9)
    fresh = guest.application.challenges()[-1]
    for _ in range(60):
        guest.application.says(Ack(old.seq, old.nonce))
        guest.application.says(Ack(fresh.seq + 1, fresh.nonce))
        guest.run(guest.host.now + 0.1)
    told = guest.monitor.told(30.0)["application"]
    assert (told["stale"], told["forged"]) == (60, 60)
    assert words(guest.transcript)[0].startswith("raised application_unresponsive")


def test_an_answer_to_what_was_asked_before_the_boot_says_nothing() -> None:
    """Another boot: nonces of before are forgotten."""
    guest = spoken()
    guest.application.hangs()
    guest.run(21.5)
    old = guest.application.challenges()[-1]
    guest.boots(after=100.0)
    guest.application.says(Ack(old.seq, old.nonce))
    assert guest.monitor.state is State.WAITING
    guest.application.goes_on()
    assert words(guest.run(30.0)) == ["answers again after its boot"]


def test_a_lost_connection_is_no_miss() -> None:
    """Not connected, it cannot be asked: beats are skipped; connected again, it is asked at once."""
    guest = spoken()
    guest.happens(ev.ChannelDown("closed by QEMU"))
    guest.run(60.0)
    assert guest.transcript == []
    assert guest.monitor.answers.skipped > 30
    assert guest.monitor.told(60.0)["application"]["connected"] == "closed by QEMU"
    before = len(guest.application.challenges())
    guest.happens(ev.ChannelUp())
    assert len(guest.application.challenges()) == before + 1
    guest.application.hangs()
    guest.run(65.0)
    guest.happens(ev.ChannelDown("closed by QEMU"))
    guest.run(100.0)
    assert guest.monitor.state is State.SILENT
    guest.application.goes_on()
    guest.happens(ev.ChannelUp())
    assert words(guest.run(101.0)) == ["cleared application_unresponsive: recovered"]


def test_a_closed_port_is_silence() -> None:
    """An application that is gone without a word is a fault; opened again, whoever is there is asked at once."""
    guest = spoken()
    guest.application.hangs()
    guest.happens(ev.PortChanged(False, Channel.APPLICATION))
    assert words(guest.run(40.0))[0].startswith("raised application_unresponsive")
    guest.application._waiting.clear()  # the guest's driver drops what a closed port has not read
    guest.application.rtt = 0.01
    guest.happens(ev.PortChanged(True, Channel.APPLICATION))
    guest.run(41.0)
    assert words(guest.transcript)[-1] == "cleared application_unresponsive: recovered"


def test_a_stopped_guest_is_not_spoken_to() -> None:
    """Whatever still comes from it changes nothing."""
    guest = spoken()
    guest.is_destroyed()
    before = len(guest.application.challenges())
    guest.happens(ev.ChannelUp())
    guest.application.says(Goodbye("too late"))
    guest.application.says(Hello(1))
    guest.run(100.0)
    assert len(guest.application.challenges()) == before
    assert guest.transcript == []


# -- its wishes


def test_a_guest_may_be_asked_more_often_and_never_less() -> None:
    """Within the operator's bound, and the policy's own."""
    guest = spoken(interval=10.0, timeout=5.0, until=60.0)
    guest.application.says(Hello(1, "web", 2.0, 1.0))
    assert guest.application.heard[-2] == Welcome(1, 2.0, 1.0)
    before = len(guest.application.challenges())
    guest.run(100.0)
    assert 19 <= len(guest.application.challenges()) - before <= 22
    guest.run(200.0)
    guest.application.says(Hello(1, "web", 3600.0, 300.0))
    assert guest.application.heard[-2] == Welcome(1, 10.0, 5.0)
    guest.run(300.0)
    guest.application.says(Hello(1, "web", 2.0))
    assert guest.monitor.in_force.interval == 2.0
    guest.boots(after=1.0)
    assert guest.monitor.in_force.interval == 10.0


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ((0.001, 0.001), (1.0, 0.5)),
        ((0.999, 0.499), (1.0, 0.5)),
        ((1.0, 0.5), (1.0, 0.5)),
        ((1.001, 0.501), (1.001, 0.501)),
        ((9.999, 4.999), (9.999, 4.999)),
        ((10.0, 5.0), (10.0, 5.0)),
        ((10.001, 5.001), (10.0, 5.0)),
        ((None, 0.1), (10.0, 0.5)),
        ((0.1, None), (1.0, 5.0)),
    ],
)
def test_a_wish_is_bounded_by_a_tenth_of_the_policy(
    asked: tuple[float | None, float | None], granted: tuple[float, float]
) -> None:
    """What a guest can make of itself, challenges and faults, is at most ten times what its flavor was sold for."""
    guest = spoken(interval=10.0, timeout=5.0, until=60.0)
    guest.application.says(Hello(1, "web", *asked))
    assert Welcome(1, *granted) in guest.application.heard
    assert (guest.monitor.in_force.interval, guest.monitor.in_force.timeout) == granted


@pytest.mark.parametrize(("policy", "least"), [(1.0, 0.5), (4.0, 0.5), (5.0, 0.5), (6.0, 0.6), (0.3, 0.3)])
def test_the_operators_bound_holds_as_well(policy: float, least: float) -> None:
    """Whichever is longer; and the policy's own interval is no wish."""
    guest = spoken(timing=Timing(min_interval=0.5), interval=policy, timeout=policy, until=60.0)
    guest.application.says(Hello(1, "web", 0.01))
    assert guest.monitor.in_force.interval == pytest.approx(least)


def test_a_wish_is_granted_once_a_minute() -> None:
    """Whoever changes its mind more often is welcomed with the times in force, and may say so again later."""
    guest = spoken(interval=10.0, timeout=5.0, until=100.0)
    guest.application.says(Hello(1, "web", 2.0))
    guest.run(100.0 + WISH_EVERY - 0.01)
    for asked in (5.0, 1.0, 10.0, 2.0):
        guest.application.says(Hello(1, "web", asked))
        assert guest.application.heard[-2] == Welcome(1, 2.0, 5.0)
    guest.run(100.0 + WISH_EVERY)
    guest.application.says(Hello(1, "web", 5.0))
    assert guest.application.heard[-2] == Welcome(1, 5.0, 5.0)
    guest.application.says(Hello(1, "web", 2.0))
    assert guest.monitor.in_force.interval == 5.0


def test_a_boot_costs_nobody_the_times_that_it_had() -> None:
    """The times are the policy's again, until the same agent says the same again: that is no change of mind."""
    guest = spoken(interval=10.0, timeout=5.0, until=100.0)
    guest.application.says(Hello(1, "web", 2.0))
    guest.boots(after=1.0)
    guest.run(110.0)
    guest.application.says(Hello(1, "web", 3.0))
    assert guest.monitor.in_force.interval == 10.0
    guest.application.says(Hello(1, "web", 2.0))
    assert guest.monitor.in_force.interval == 2.0


def test_no_wish_is_heard_under_suspicion() -> None:
    """Nor does any other word help: not to leave, not to rest."""
    guest = spoken()
    guest.application.hangs()
    guest.run(22.9)
    assert guest.monitor.state is State.MISSING
    guest.application.says(Hello(1, "web", 0.5))
    assert guest.monitor.in_force.interval == 1.0
    guest.application.says(Goodbye("I leave"))
    guest.application.says(Maintenance(600.0, "busy"))
    guest.run(40.0)
    guest.application.says(Goodbye("I leave"))
    assert words(guest.transcript)[0].startswith("raised")
    assert guest.fault is not None
    assert [error.code for error in guest.application.errors()] == ["refused"] * 3


# -- absences


def test_goodbye_disarms_and_is_told() -> None:
    """Whoever leaves in order is not missed, and not forgotten either; its first answer arms again."""
    guest = spoken()
    guest.application.says(Goodbye("upgrade\u202e"))
    guest.application.says(Goodbye("again"))
    guest.application.hangs()
    guest.run(5000.0)
    assert words(guest.transcript) == ["ended: the application said goodbye: 'upgrade\\u202e'"]
    guest.application.goes_on()
    guest.run(5100.0)
    assert words(guest.transcript)[-1] == "returned"
    guest.application.hangs()
    assert words(guest.run(5200.0))[0].startswith("raised application_unresponsive")


def test_goodbye_ends_with_the_boot() -> None:
    """Another life has said nothing yet: it is waited for as any other."""
    guest = spoken(timing=Timing(reboot_grace=30.0))
    guest.application.says(Goodbye("reboot"))
    guest.application.hangs()
    guest.boots(after=5.0)
    assert words(guest.run(100.0))[-1] == "raised not_established"


def test_a_goodbye_is_remembered() -> None:
    """A worker that is restarted knows who has left, and who is in maintenance."""
    gone = changed(KNOWN, absence=Absence("upgrade"))
    guest = lone(memory=gone, channel=Channel.APPLICATION, interval=1.0, timeout=1.0)
    assert guest.monitor.memory(0.0).absence.left == "upgrade"
    guest.application.hangs()
    guest.run(100.0)
    assert guest.transcript == []
    guest.application.goes_on()
    assert words(guest.run(200.0)) == ["returned"]
    resting = changed(KNOWN, absence=Absence(None, (Spell(-100.0, 50.0),)))
    guest = lone(memory=resting, channel=Channel.APPLICATION, interval=1.0, timeout=1.0)
    guest.application.hangs()
    guest.run(49.0)
    assert guest.transcript == []
    assert words(guest.run(70.0))[0].startswith("raised maintenance_overdue")


def test_maintenance_is_a_silence_with_an_end() -> None:
    """Told when it begins, whatever is answered meanwhile; told when it has come back."""
    guest = spoken()
    guest.application.says(Maintenance(60.0, "index"))
    assert guest.application.heard[-1] == Notice("maintenance", 60.0)
    guest.run(30.0)
    guest.application.hangs()
    guest.run(70.0)
    guest.application.goes_on()
    guest.run(100.0)
    assert words(guest.transcript) == ["ended: maintenance, asked for by the guest: 'index', for 60 s", "returned"]


def test_maintenance_overrun_is_a_fault_of_its_own() -> None:
    """No recovery for who was expected to be away, unless it is dead; cleared by an answer."""
    guest = spoken()
    guest.application.says(Maintenance(60.0, "index"))
    guest.application.hangs()
    assert words(guest.run(79.0)) == []
    assert words(guest.run(100.0)) == ["raised maintenance_overdue"]
    guest.application.goes_on()
    assert words(guest.run(120.0)) == ["returned", "cleared maintenance_overdue: recovered"]


def test_maintenance_is_bounded_over_the_day() -> None:
    """What was used up counts for 24 hours; what is not needed is given back; 0 ends it."""
    guest = spoken(timing=Timing(max_maintenance=100.0))
    say, heard = guest.application.says, guest.application.heard
    say(Maintenance(0.0))
    say(Maintenance(40.0))
    guest.run(30.0)
    say(Maintenance(0.0))
    guest.run(31.0)
    assert guest.monitor.told(31.0)["application"]["maintenance_left"] == 90.0
    say(Maintenance(1000.0))
    assert heard[-1] == Notice("maintenance", 90.0)
    say(Maintenance(50.0))
    guest.run(130.0)
    say(Maintenance(1.0))
    guest.run(1000.0)
    say(Maintenance(2.0))
    say(Maintenance(1e5))
    guest.run(2000.0)
    say(Maintenance(1.0))
    assert "max_maintenance" in guest.application.errors()[-1].detail
    assert guest.monitor.memory(2000.0).absence.spells


def test_nobody_leaves_again_and_again() -> None:
    """Each time is told and stored, so there are only so many: whoever goes on with it must answer."""
    guest = spoken()
    for _ in range(100):
        guest.application.says(Goodbye("x"))
        guest.run(guest.host.now + 2.0)
        guest.application.says(Maintenance(0.5))
        guest.run(guest.host.now + 2.0)
        guest.application.says(Maintenance(0.0))
    assert len(guest.transcript) == 20
    assert "10 times" in guest.application.errors()[-1].detail
    assert len(guest.monitor.memory(guest.host.now).absence.spells) <= 10
    guest.application.says(Goodbye("x"))
    guest.run(4000.0)
    guest.application.says(Goodbye("x"))
    assert words(guest.transcript)[-1].startswith("ended")


def test_maintenance_survives_a_reboot() -> None:
    """An upgrade may reboot: the guest is not waited for meanwhile; other silences go on beside it."""
    guest = spoken(timing=Timing(reboot_grace=30.0))
    guest.application.says(Maintenance(600.0, "upgrade"))
    guest.application.hangs()
    guest.boots(after=5.0)
    guest.run(500.0)
    assert len(guest.transcript) == 1
    guest.happens(ev.Silenced("hint:1", "stop", None, ask=True))
    guest.application.says(Maintenance(0.0))
    assert "maintenance" not in guest.monitor.silences


# -- health


def test_unhealthy_for_long_enough_is_a_fault_with_its_reasons() -> None:
    """Threshold times in a row; told with the checks; cleared by as many that are well."""
    guest = spoken(health_check=True)
    guest.application.health = BAD
    guest.run(21.5)
    guest.application.health = GOOD
    guest.run(30.0)
    assert guest.transcript == []
    guest.application.health = BAD
    assert words(guest.run(40.0)) == ["raised application_unhealthy, recover"]
    (fault,) = guest.raised
    assert fault.reason == "the application says that it is unhealthy: db: no connection"
    assert fault.health == BAD.told() == guest.monitor.told(40.0)["health"]["report"]
    guest.application.health = Health(Status.UNHEALTHY, (Check("disk", Status.UNHEALTHY),))
    assert words(guest.run(100.0)) == ["updated application_unhealthy, recover"]
    guest.application.health = Health(Status.DEGRADED)
    assert words(guest.run(110.0)) == ["cleared application_unhealthy: recovered"]


def test_unhealthy_before_a_restart_and_silent_since() -> None:
    """It answers, and has not said yet how it is: it is as unhealthy as it was, and no words are put into its mouth."""
    unhealthy = changed(KNOWN, standing=Standing(Cause.APPLICATION_UNHEALTHY))
    guest = lone(
        memory=unhealthy, channel=Channel.APPLICATION, interval=1.0, timeout=1.0, threshold=3, health_check=True
    )
    guest.application.health = BAD
    guest.application.hangs()
    assert words(guest.run(20.0)) == ["raised application_unresponsive"]
    guest.application.goes_on()
    assert words(guest.run(20.5))[0] == "updated application_unhealthy"
    said = [effect.verdict.reason for _, effect in guest.effects if isinstance(effect, ev.RaiseFault)]
    assert said[1] == "the application says that it is unhealthy"


def test_an_answer_does_not_clear_what_it_says_of_itself() -> None:
    """Unhealthy, then silent: one fault, of which the cause changes; back, and still unhealthy."""
    guest = spoken(health_check=True)
    guest.application.health = BAD
    guest.run(30.0)
    guest.application.hangs()
    guest.run(50.0)
    guest.application.goes_on()
    lines = words(guest.run(60.0))
    assert lines == ["updated application_unhealthy, recover"]
    assert len(guest.raised) == 1
    guest.application.health = GOOD
    assert words(guest.run(80.0)) == ["cleared application_unhealthy: recovered"]


def test_health_that_is_not_told_accuses_nobody_and_keeps_nobody_accused() -> None:
    """No report is none; where it has been bad, so many without a word end that, though not as recovered."""
    guest = spoken(health_check=True)
    assert guest.monitor.told(20.0)["health"]["unavailable"] == "it answered without one"
    guest.application.health = BAD
    guest.run(30.0)
    guest.application.health = None
    assert words(guest.run(40.0)) == ["cleared application_unhealthy: unmonitored"]


def test_a_report_that_is_none_is_objected_to_and_the_answer_counts() -> None:
    """Whoever answers lives, whatever it says of itself."""
    guest = spoken(health_check=True)
    guest.application.rtt = None
    for _ in range(10):
        guest.run(guest.host.now + 1.0)
        for asked in guest.application.challenges()[-1:]:
            guest.application.says(Ack(asked.seq, asked.nonce, None, "status must be one of us"))
    assert guest.transcript == []
    assert guest.application.errors()[-1] == Error("bad_health", "status must be one of us")


def test_who_is_not_asked_for_health_is_not_judged_by_it() -> None:
    """And an open fault of it ends when health is no longer asked for, or was not when the worker started."""
    guest = spoken(health_check=True)
    guest.application.health = BAD
    guest.run(30.0)
    guest.happens(ev.PolicyChanged(with_policy(guest, health_check=False)))
    assert words(guest.transcript)[-1] == "cleared application_unhealthy: unmonitored"
    guest.run(60.0)
    guest.happens(ev.PolicyChanged(with_policy(guest, health_check=True)))
    guest.run(90.0)
    assert words(guest.transcript)[-1].startswith("raised application_unhealthy")
    guest.application.health = GOOD
    guest.run(95.0)
    guest.happens(ev.PolicyChanged(with_policy(guest, health_check=False)))
    assert guest.fault is None


@pytest.mark.parametrize("health_check", [True, False])
def test_an_unhealthy_fault_of_an_earlier_life_ends(health_check: bool) -> None:
    """Open when the worker starts: by reports that are well; by the first answer where none are asked for."""
    memory = changed(KNOWN, standing=Standing(Cause.APPLICATION_UNHEALTHY))
    guest = lone(memory=memory, channel=Channel.APPLICATION, interval=1.0, timeout=1.0, health_check=health_check)
    guest.application.health = GOOD
    acquitted = [effect for effect in _run(guest, 20.0) if isinstance(effect, ev.ClearFault)]
    assert acquitted == [ev.ClearFault("recovered" if health_check else "unmonitored")]


def _run(guest: Guest, until: float) -> list[ev.Effect]:
    """Without a book of faults, which knows nothing of that earlier life."""
    now, monitor = guest.host.now, guest.monitor
    out = monitor.handle(ev.ChannelUp(), now)
    while now < until:
        now = min(monitor.deadline(), until)
        effects = monitor.handle(ev.Tick(now), now)
        for effect in list(effects):
            if isinstance(effect, ev.Say) and isinstance(effect.message, protocol.Challenge):
                asked = effect.message
                report = guest.application.health if asked.health else None
                effects += monitor.handle(ev.Said(Ack(asked.seq, asked.nonce, report)), now)
        out += effects
    return out


# -- other policies


def test_another_channel_is_another_beginning() -> None:
    """From the agent to the application and back: asked at once on the new one, with nothing left of the old."""
    guest = lone(memory=KNOWN, interval=1.0, timeout=1.0, grace=30.0)
    guest.run(20.0)
    guest.agent_stops()
    guest.run(40.0)
    assert guest.fault is not None
    guest.happens(ev.PolicyChanged(with_policy(guest, channel=Channel.APPLICATION)))
    assert words(guest.transcript)[-1].endswith("unmonitored")
    guest.happens(ev.ChannelUp())
    guest.run(45.0)
    assert words(guest.transcript)[-1] == "established"
    guest.application.says(Goodbye("x"))
    guest.agent_goes_on()
    guest.happens(ev.PolicyChanged(with_policy(guest, channel=Channel.AGENT)))
    guest.happens(ev.ChannelUp())
    guest.happens(ev.ChannelDown("not wanted"))
    guest.application.says(Goodbye("to nobody"))
    guest.run(60.0)
    assert guest.monitor.told(60.0)["state"] == "alive"
    assert guest.monitor.told(60.0)["application"] is None
    guest.is_destroyed()
    guest.happens(ev.PolicyChanged(with_policy(guest, channel=Channel.APPLICATION)))
    assert guest.monitor.state is State.GONE


def test_a_channel_that_nobody_answers_is_told() -> None:
    """Its grace is that of the first answer."""
    guest = lone(memory=KNOWN, interval=1.0, timeout=1.0, grace=30.0)
    guest.run(20.0)
    guest.application.hangs()
    guest.happens(ev.PolicyChanged(with_policy(guest, channel=Channel.APPLICATION)))
    guest.happens(ev.ChannelUp())
    assert words(guest.run(100.0))[-1] == "raised not_established"


def test_objections_and_errors() -> None:
    """What is no message is objected to; an objection is not answered, nor is what only a host says."""
    guest = spoken()
    guest.happens(ev.Said(Objection(protocol.Code.UNKNOWN_TYPE, "type must be one of them")))
    assert guest.application.errors() == [Error("unknown_type", "type must be one of them")]
    heard = len(guest.application.heard)
    guest.application.says(Error("nonsense", "what?"))
    guest.application.says(Notice("of no host"))
    assert len(guest.application.heard) == heard


def test_a_suspect_that_is_silenced_or_stops_is_not_asked_on() -> None:
    """What its agent says then is no evidence of anything."""
    guest = spoken()
    guest.agent_stops()
    guest.application.hangs()
    guest.run(22.9)
    assert guest.monitor._witnesses.other.out
    guest.happens(ev.Silenced("hint:1", "stop"))
    guest.application.goes_on()
    guest.run(30.0)
    guest.is_destroyed()
    assert guest.transcript == []


def test_libvirtd_is_no_matter() -> None:
    """A silent libvirtd hides no application's silence: nothing of this goes through it."""
    guest = spoken()
    guest.host.libvirtd_stops()
    guest.application.hangs()
    guest.run(40.0)
    assert words(guest.transcript)[0].startswith("raised")
