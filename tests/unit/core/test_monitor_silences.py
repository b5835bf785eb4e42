"""Silence is never a fault while it lasts, and every silence has an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.core.scenario import WELL, Guest, Host, lone, settled
from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Action, Channel, HeartbeatPolicy
from vmhb_worker.core import events as ev
from vmhb_worker.core import protocol
from vmhb_worker.core.domain_life import PASSAGE
from vmhb_worker.core.graces import ARRIVAL_GRACE
from vmhb_worker.core.instance_state import Memory, Timing
from vmhb_worker.core.lifecycle import JOBS, event_of, event_of_state
from vmhb_worker.core.suspicion import JOB_BELIEVED
from vmhb_worker.core.transitions import State

FAST: dict[str, Any] = {"interval": 1.0, "timeout": 1.0, "threshold": 3}


def paused(guest: Guest) -> None:
    guest.is_paused()


def being_saved(guest: Guest) -> None:
    guest.is_paused()
    guest.happens(ev.Silenced("job", "libvirt job: save", guest.host.now + 100.0))


def operated_on(guest: Guest) -> None:
    guest.happens(ev.Silenced("hint:req-1", "snapshot", guest.host.now + 200.0))
    guest.agent_stops()


def without_libvirt(guest: Guest) -> None:
    guest.happens(ev.Silenced("hypervisor", "libvirt is away"))
    guest.host.libvirtd_stops()


def just_connected(guest: Guest) -> None:
    guest.happens(ev.Silenced("hypervisor", "just connected", guest.host.now + 150.0, ask=True))
    guest.agent_stops()


def resumed(guest: Guest) -> None:
    guest.is_resumed()


def saved(guest: Guest) -> None:
    guest.happens(ev.Unsilenced("job"))
    guest.is_resumed()


def done(guest: Guest) -> None:
    guest.happens(ev.Unsilenced("hint:req-1"))
    guest.agent_goes_on()


def with_libvirt(guest: Guest) -> None:
    guest.host.libvirtd_goes_on()
    guest.happens(ev.Silenced("hypervisor", "just connected", guest.host.now + 1.0, ask=True))


def goes_on(guest: Guest) -> None:
    guest.agent_goes_on()


SILENCES: list[tuple[Callable[[Guest], None], Callable[[Guest], None]]] = [
    (paused, resumed),
    (being_saved, saved),
    (operated_on, done),
    (without_libvirt, with_libvirt),
    (just_connected, goes_on),
]
IDS = [begin.__name__ for begin, _ in SILENCES]


@pytest.mark.parametrize(("begin", "end"), SILENCES, ids=IDS)
def test_nobody_is_accused_during_a_silence_nor_for_it(
    begin: Callable[[Guest], None], end: Callable[[Guest], None]
) -> None:
    """However fast its policy."""
    guest = settled(interval=1.0, timeout=1.0, threshold=1)
    begin(guest)
    guest.run(199.0)
    assert guest.monitor.told(199.0)["silences"]
    end(guest)
    guest.run(400.0)
    assert guest.transcript == []
    assert guest.monitor.state is State.ALIVE
    assert guest.monitor.told(400.0)["silences"] == {}


@pytest.mark.parametrize(("begin", "end"), SILENCES, ids=IDS)
def test_a_silence_voids_suspicion_and_grants_a_full_threshold_after_it(
    begin: Callable[[Guest], None], end: Callable[[Guest], None]
) -> None:
    """Two misses before and one after are not three: whoever hangs on is found after a full threshold."""
    guest = settled(**FAST)
    guest.agent_stops()
    guest.run(102.5)
    assert guest.monitor.told(102.5)["state"] == "missing"
    begin(guest)
    assert guest.monitor.told(102.5)["state"] == "alive"
    guest.run(199.0)
    assert guest.transcript == []
    end(guest)
    guest.agent_stops()
    guest.run(300.0)
    assert len(guest.raised) == 1
    raised = float(guest.transcript[0].split()[0])
    # Until the request that is out by then ends, nobody can be asked anew; `just_connected` ends at 252.5 by itself.
    assert 199.0 + 2.9 <= raised <= 252.5 + 3 * 1.0 + 1.0
    assert guest.raised[0].misses == 3


@pytest.mark.parametrize(("begin", "end"), SILENCES, ids=IDS)
def test_a_silence_keeps_an_open_fault_open(begin: Callable[[Guest], None], end: Callable[[Guest], None]) -> None:
    """It was judged; only an answer acquits, and the answer comes soon after the silence."""
    guest = settled(**FAST)
    guest.agent_stops()
    guest.run(150.0)
    assert guest.fault is not None
    begin(guest)
    guest.run(199.0)
    assert guest.fault is not None
    end(guest)
    guest.agent_goes_on()
    guest.run(212.0)
    assert guest.fault is None
    assert len(guest.raised) == 1


@pytest.mark.parametrize(("begin", "_end"), SILENCES[:2], ids=IDS[:2])
def test_a_kernel_that_stands_still_is_not_called_dead(
    begin: Callable[[Guest], None], _end: Callable[[Guest], None]
) -> None:
    """Paused while its balloon is being probed: no answer then means nothing, and nobody is rebooted for it."""
    guest = settled(interval=1.0, timeout=1.0, threshold=1)
    guest.agent_stops()
    guest.run(101.8)
    assert [line.split(" ", 1)[1] for line in guest.transcript] == ["raised guest_silent, withheld: evidence"]
    begin(guest)
    guest.run(199.0)
    assert len(guest.transcript) == 1
    guest.is_resumed()
    guest.happens(ev.Unsilenced("job"))
    told = guest.run(300.0)
    assert told
    assert "guest_hung" not in "".join(told)
    assert told[-1].endswith("updated agent_unresponsive")


def test_a_silence_without_an_end_of_its_own_expires() -> None:
    """The end of an operation may never be told: whoever hangs is found all the same."""
    guest = settled(**FAST)
    guest.happens(ev.Silenced("hint:req-1", "reboot", 160.0))
    guest.agent_stops()
    assert guest.run(160.0) == []
    assert guest.run(170.0) == [
        "163.10 raised agent_unresponsive, withheld: evidence",
        "164.10 updated agent_unresponsive",
    ]


def test_silences_of_different_kinds_do_not_end_each_other() -> None:
    """Resumed in the middle of an operation: the operation still lasts."""
    guest = settled(**FAST)
    guest.happens(ev.Silenced("hint:req-1", "snapshot", 500.0))
    guest.is_paused()
    guest.run(150.0)
    guest.is_resumed()
    guest.agent_stops()
    assert guest.run(400.0) == []
    guest.happens(ev.Unsilenced("hint:req-1"))
    assert guest.run(410.0) == [
        "403.10 raised agent_unresponsive, withheld: evidence",
        "404.10 updated agent_unresponsive",
    ]


def test_an_end_without_a_beginning_is_nothing() -> None:
    """Resumed twice, ended twice."""
    guest = settled(**FAST)
    guest.happens(ev.Unsilenced("hint:req-9"))
    guest.is_resumed()
    assert guest.run(200.0) == []
    assert guest.monitor.state is State.ALIVE


def test_nobody_is_asked_while_nobody_may_be() -> None:
    """A request that still waits for its turn is taken back; after the silence it is asked soon."""
    host = Host(workers=0, slow_workers=0)
    guest = host.guest(memory=WELL, **FAST)
    guest.run(5.0)
    asked = len(guest.asks())
    assert host.lanes.waiting == 1
    guest.is_paused()
    assert host.lanes.waiting == 0
    guest.run(100.0)
    assert len(guest.asks()) == asked
    guest.is_resumed()
    guest.run(101.5)
    assert len(guest.asks()) == asked + 1


def test_a_silence_shifts_the_grace_of_a_booting_guest() -> None:
    """Three hundred seconds to answer, not counting those in which it could not."""
    guest = settled(timing=Timing(reboot_grace=300.0))
    guest.boots(after=0.0, port=False)
    guest.run(200.0)
    guest.is_paused()
    guest.run(1200.0)
    guest.is_resumed()
    assert guest.run(2000.0) == ["1400.00 raised not_established"]


def test_a_grace_that_began_within_a_silence_is_not_shifted_by_what_was_before() -> None:
    """An operation of Nova's: silenced at 100, rebooted at 400, done at 500."""
    guest = settled(timing=Timing(reboot_grace=300.0))
    guest.happens(ev.Silenced("hint:req-1", "reboot", 700.0))
    guest.run(400.0)
    guest.boots(after=0.0, port=False)
    guest.run(500.0)
    guest.happens(ev.Unsilenced("hint:req-1"))
    waited = guest.monitor.memory(500.0).waited
    assert waited is not None
    assert 0.0 <= waited <= 100.0
    assert guest.run(2000.0) == ["800.00 raised not_established"]


def test_a_silence_shifts_the_settle_time_of_a_closed_port() -> None:
    """It cannot be opened again while its guest stands still."""
    guest = settled(timing=Timing(exit_settle_time=20.0))
    guest.agent_exits()
    guest.run(110.0)
    guest.is_paused()
    guest.run(1000.0)
    guest.is_resumed()
    assert guest.run(1100.0) == ["1010.00 raised agent_exited"]


def test_a_silence_shifts_the_grace_after_a_panic() -> None:
    """A kernel that is dumping its memory may be paused meanwhile."""
    guest = settled(timing=Timing(panic_grace=10.0), interval=60.0)
    guest.kernel_dies(told=True)
    guest.run(105.0)
    guest.happens(ev.Silenced("hint:req-1", "dump", 1000.0))
    guest.run(200.0)
    guest.happens(ev.Unsilenced("hint:req-1"))
    assert guest.run(300.0) == ["205.00 updated guest_panicked, recover"]


# -- jobs that libvirt does --------------------------------------------------------------------------------------


def found_migrating() -> Guest:
    """Suspected, and then seen to be migrating."""
    guest = settled(**FAST)
    guest.job = "migration_out"
    guest.agent_stops()
    guest.run(105.0)
    return guest


def test_a_job_found_by_the_inquiry_is_a_silence_until_an_event_ends_it() -> None:
    """Nobody told of the migration: the first miss asks."""
    guest = found_migrating()
    assert guest.transcript == []
    assert guest.monitor.silences.told() == {"job": "libvirt job: migration_out"}
    guest.run(400.0)
    assert guest.transcript == []
    guest.job = None
    guest.happens(ev.Unsilenced("job"))
    assert guest.monitor.silences.told() == {}
    assert guest.run(420.0) == [
        "403.10 raised agent_unresponsive, withheld: evidence",
        "405.10 updated agent_unresponsive",  # libvirt resynchronised first
    ]


def test_a_job_found_by_the_inquiry_is_a_silence_until_a_poll_finds_it_over() -> None:
    """Not every job ends with an event."""
    guest = found_migrating()
    guest.run(400.0)
    guest.job = None
    guest.agent_goes_on()
    guest.run(403.0)
    assert guest.monitor.silences.told() == {}
    guest.run(500.0)
    assert guest.transcript == []


def test_a_job_of_which_nothing_more_is_heard_is_not_believed_in_for_ever() -> None:
    """libvirt does not answer, or QEMU does not: then the silence ends by itself, and the guest is judged."""
    guest = found_migrating()
    guest.looks_fail = "LookJob"
    told = guest.run(105.0 + JOB_BELIEVED + 10.0)
    assert [line.split(" ", 1)[1] for line in told] == [
        "raised guest_silent, withheld: evidence",
        "updated guest_silent",
    ]
    stuck = found_migrating()
    stuck.qemu_stops()
    told = stuck.run(105.0 + JOB_BELIEVED + 20.0)
    assert [line.split(" ", 1)[1] for line in told] == [
        "raised guest_silent, withheld: evidence",
        "updated qemu_hung, withheld: evidence",
    ]


def test_a_job_found_after_the_verdict_withholds_what_is_to_come() -> None:
    """threshold=1: raised before anybody could look. The verdict waits, and is made when the job is over.

    That our challenge came back without an answer meanwhile is the job's doing: another one has to.
    """
    guest = settled(interval=1.0, timeout=1.0, threshold=1)
    guest.job = "save"
    guest.agent_stops()
    assert [line.split(" ", 1)[1] for line in guest.run(300.0)] == ["raised guest_silent, withheld: evidence"]
    guest.job = None
    told = guest.run(310.0)
    assert [line.split(" ", 1)[1] for line in told] == [
        "updated agent_unresponsive, withheld: evidence",
        "updated agent_unresponsive",
    ]


def a_pass(guest: Guest) -> None:
    """QEMU went through its memory once."""
    guest.happens(ev.Silenced("job", "libvirt copies its memory", guest.host.now + JOB_BELIEVED))


@pytest.mark.parametrize("job", ["migration_out", "save", "dump", "snapshot"])
def test_a_job_that_is_cancelled_ends_its_silence_though_nothing_tells(job: str) -> None:
    """libvirt sends no JOB_COMPLETED for it: it is asked every two seconds, and the guest is judged from then on."""
    guest = settled(**FAST)
    guest.job = job
    a_pass(guest)
    assert guest.run(160.0) == [] and guest.monitor.silences.told() == {"job": f"libvirt job: {job}"}
    guest.job = None
    guest.kernel_dies()
    assert guest.run(164.0) == [] and guest.monitor.silences.told() == {}
    told = [line.split(" ", 1)[1] for line in guest.run(175.0)]
    assert told[0].startswith("raised") and told[-1] == "updated guest_hung, recover"


def test_a_job_goes_on_for_as_long_as_libvirt_says_so() -> None:
    """However far apart its passes are."""
    guest = settled(**FAST)
    guest.job = "migration_out"
    a_pass(guest)
    guest.agent_stops()
    assert guest.run(900.0) == []
    assert 390 < sum(isinstance(look, ev.LookJob) for look in guest.looks()) <= 400


def test_a_pass_of_a_qemu_that_hangs_is_not_believed_in_for_ever() -> None:
    """The question about the job waits for QEMU as well: without an answer the silence ends, and QEMU is found hung."""
    guest = settled(**FAST)
    guest.job = "migration_out"
    a_pass(guest)
    guest.run(110.0)
    guest.qemu_stops()
    assert guest.run(110.0 + JOB_BELIEVED - 5.0) == []
    told = [line.split(" ", 1)[1] for line in guest.run(110.0 + JOB_BELIEVED + 20.0)]
    assert told == ["raised guest_silent, withheld: evidence", "updated qemu_hung, withheld: evidence"]


def test_a_job_that_has_ended_is_asked_about_no_more() -> None:
    """By its event, also while something else excuses the guest; the next pass begins anew."""
    guest = settled(**FAST)
    guest.happens(ev.Paused("paused", wish=True))
    guest.job = "save"
    a_pass(guest)
    guest.run(110.0)
    guest.happens(ev.Unsilenced("job"))
    looks = len(guest.looks())
    guest.run(200.0)
    assert len(guest.looks()) == looks
    a_pass(guest)
    guest.run(205.0)
    assert len(guest.looks()) > looks


def test_a_migration_that_tells_of_its_passes_is_a_silence() -> None:
    """Each pass renews it; the last one ends by its event."""
    guest = settled(**FAST)
    guest.job = "migration_out"
    for _ in range(20):
        guest.happens(ev.Silenced("job", "live migration", guest.host.now + 60.0))
        guest.run(guest.host.now + 30.0)
    guest.is_migrated_away()
    assert guest.run(2000.0) == []
    assert guest.monitor.state is State.GONE


# -- from host to host -------------------------------------------------------------------------------------------


def test_a_fault_of_an_instance_that_moved_is_closed_as_moved() -> None:
    """It goes on elsewhere, with whatever is wrong with it."""
    guest = settled(**FAST)
    guest.agent_stops()
    guest.run(150.0)
    guest.happens(ev.Paused("handed over to another host"))
    guest.is_migrated_away()
    guest.happens(ev.Stopped(ev.Exit.MOVED, "migrated"))
    guest.run(300.0)
    assert guest.transcript == [
        "103.10 raised agent_unresponsive, withheld: evidence",
        "104.10 updated agent_unresponsive",
        "150.00 cleared agent_unresponsive: moved",
    ]


def test_an_arriving_guest_goes_on_with_a_full_threshold() -> None:
    """It is asked once it runs here, however long its memory takes to arrive; its balloon is learnt anew."""
    guest = lone(memory=Memory(running=False, established=True, waited=None), **FAST)
    guest._change(paused=True)
    guest.happens(ev.Arriving())
    assert guest.run(5000.0) == []
    assert guest.asks() == []
    guest.is_resumed()
    guest.run(5010.0)
    assert guest.monitor.state is State.ALIVE
    assert guest.monitor.balloon_seen
    guest.kernel_dies()
    assert [line.split(" ", 1)[1] for line in guest.run(5020.0)][-1] == "updated guest_hung, recover"[:-9]


def test_an_arriving_guest_that_never_answered_anywhere_has_its_grace() -> None:
    """From when it was first waited for here, without the time of its arrival."""
    guest = lone(memory=Memory(running=False), grace=600.0)
    guest._change(paused=True, port=False)
    guest.happens(ev.Arriving())
    assert guest.run(5000.0) == []
    guest.is_resumed()
    assert guest.run(6000.0) == ["5600.00 raised not_established"]


def _arrives(**knobs: Any) -> Guest:
    """From another host, at 100, and runs here from 110 on."""
    guest = lone(memory=Memory(running=False, established=True, waited=None), **{**FAST, **knobs})
    guest._change(paused=True)
    guest.run(100.0)
    guest.happens(ev.Arriving())
    guest.run(110.0)
    return guest


def _said(guest: Guest) -> list[tuple[float, str]]:
    return [(float(line.split(" ", 1)[0]), line.split(" ", 1)[1]) for line in guest.transcript]


def _held(said: str) -> bool:
    return said == "updated guest_hung, withheld: hold"


def test_who_dies_soon_after_its_arrival_is_told_of_as_ever_and_recovered_after_a_minute() -> None:
    """Guests that lived were silent for 10 s after their migration to a host at load."""
    guest = _arrives(action=Action.RECOVER)
    guest.is_resumed()
    guest.run(125.0)
    guest.kernel_dies()
    guest.run(110.0 + ARRIVAL_GRACE - 1.0)
    assert _said(guest)[0][0] < 130.0
    assert _held(_said(guest)[-1][1])
    guest.run(110.0 + ARRIVAL_GRACE + 10.0)
    at, said = _said(guest)[-1]
    assert said == "updated guest_hung, recover"
    assert 110.0 + ARRIVAL_GRACE <= at <= 110.0 + ARRIVAL_GRACE + 5.0


def test_who_goes_on_soon_after_its_arrival_is_never_recovered() -> None:
    """However late that is, within the minute."""
    guest = _arrives(action=Action.RECOVER_UNRESPONSIVE)
    guest.is_resumed()
    guest.run(125.0)
    guest.agent_stops()
    guest.host.at(150.0, guest.agent_goes_on)
    guest.run(600.0)
    assert not [said for _, said in _said(guest) if said.endswith(", recover")]
    assert _said(guest)[-1][1].startswith("cleared")


def test_who_dies_later_is_recovered_as_ever() -> None:
    """Its arrival is long ago."""
    guest = _arrives(action=Action.RECOVER)
    guest.is_resumed()
    guest.run(110.0 + ARRIVAL_GRACE + 5.0)
    guest.kernel_dies()
    guest.run(110.0 + ARRIVAL_GRACE + 15.0)
    assert _said(guest)[-1][1] == "updated guest_hung, recover"


def test_the_minute_after_an_arrival_does_not_run_while_it_is_paused() -> None:
    """Nobody goes on while somebody keeps it from running."""
    guest = _arrives(action=Action.RECOVER)
    guest.is_resumed()
    guest.run(125.0)
    guest.kernel_dies()
    guest.run(140.0)
    guest.is_paused()
    guest.run(440.0)
    guest.is_resumed()
    guest.kernel_dies()
    guest.run(465.0)
    assert not [said for _, said in _said(guest) if said.endswith(", recover")]
    guest.run(510.0)
    assert _said(guest)[-1][1] == "updated guest_hung, recover"


def test_all_of_its_memory_must_have_arrived() -> None:
    """Its minute begins with the end of a post-copy migration."""
    guest = _arrives(action=Action.RECOVER)
    guest.happens(ev.InPostcopy())
    guest.run(200.0)
    guest.happens(ev.Resumed(arrived=True))
    guest._change(paused=False)
    guest.run(215.0)
    guest.kernel_dies()
    guest.run(200.0 + ARRIVAL_GRACE - 1.0)
    assert _held(_said(guest)[-1][1])
    guest.run(200.0 + ARRIVAL_GRACE + 10.0)
    assert _said(guest)[-1][1] == "updated guest_hung, recover"


def test_a_migration_that_fails_on_arrival_is_no_fault() -> None:
    """The guest goes on where it was; what stops here never ran."""
    guest = lone(memory=Memory(running=False, established=True, waited=None))
    guest.happens(ev.Arriving())
    guest.run(30.0)
    guest.qemu_dies()
    assert guest.run(1000.0) == []
    assert guest.monitor.state is State.GONE


def test_a_restored_guest_goes_on_where_it_was() -> None:
    """Managed save and start: no grace, no fault; restored paused, it stays silent until it is resumed."""
    guest = settled(**FAST)
    guest.is_saved()
    guest.run(1000.0)
    guest.is_restored(paused=True)
    guest.run(1800.0)
    guest.is_resumed()
    guest.run(3000.0)
    assert guest.transcript == []
    assert guest.monitor.state is State.ALIVE


def test_a_restored_guest_of_which_nothing_is_heard_is_judged_in_the_end() -> None:
    """The resumed event is lost: the passage has a time-out."""
    guest = settled(**FAST)
    guest.is_saved()
    guest.run(1000.0)
    guest.is_restored(rtt=None)
    assert guest.run(1000.0 + PASSAGE) == []
    assert guest.run(1000.0 + PASSAGE + 10.0) == [
        "1063.10 raised agent_unresponsive, withheld: evidence",
        "1064.10 updated agent_unresponsive",
    ]


def test_a_new_policy_takes_effect_with_a_full_threshold() -> None:
    """The same instance, watched differently from now on; what was counted under the old one is void."""
    guest = settled(**FAST)
    guest.agent_stops()
    guest.run(102.5)
    slower = HeartbeatPolicy(True, interval=20.0, timeout=5.0, threshold=2, action=Action.RECOVER)
    guest.happens(ev.PolicyChanged(slower))
    told = guest.run(300.0)
    assert 102.5 + 5.0 <= float(told[0].split()[0]) <= 102.5 + 2 * 20.0 + 5.0 + 20.0
    assert (guest.raised[0].threshold, guest.raised[0].misses) == (2, 2)


def test_a_new_policy_leaves_an_open_fault_alone() -> None:
    """It is cleared by an answer, not by a flavor."""
    guest = settled(**FAST)
    guest.agent_stops()
    guest.run(150.0)
    guest.happens(ev.PolicyChanged(HeartbeatPolicy(True, interval=20.0)))
    assert guest.run(300.0) == []
    assert guest.fault is not None
    assert guest.fault.cause == Cause.AGENT_UNRESPONSIVE


@pytest.mark.parametrize("operation", sorted(name for name, excuse in JOBS.items() if not excuse))
@pytest.mark.parametrize("policy", [FAST, {}])
def test_a_job_below_a_guest_that_runs_excuses_nothing(operation: str, policy: dict[str, Any]) -> None:
    """A backup's job may be there for weeks, and the guest runs all the while: found dead as without it."""
    guest = settled(**policy)
    guest.job = operation
    guest.run(105.0)
    guest.kernel_dies()
    guest.run(160.0)
    assert guest.fault is not None
    assert (guest.fault.cause, guest.fault.recommended_action) == ("guest_hung", "recover")


def test_a_backup_after_a_migration_excuses_nothing_any_more() -> None:
    """The job that began as a migration's is over, and another one has begun meanwhile."""
    guest = found_migrating()
    guest.job = "backup"
    guest.run(200.0)
    assert guest.monitor.silences.told() == {}
    assert guest.fault is not None


# -- post-copy -------------------------------------------------------------------------------------------------------


ARRIVED = ev.Resumed(arrived=True)


def in_postcopy(policy: dict[str, Any]) -> Guest:
    """It arrived here, and runs, at 20.0; a part of its memory is still elsewhere."""
    guest = lone(memory=WELL, action=Action.RECOVER_UNRESPONSIVE, **policy)
    guest.looks_fail = "LookJob"
    for kind, detail in (("started", "migrated"), ("resumed", "postcopy")):
        event = event_of(kind, detail)
        assert event is not None
        guest.happens(event)
        guest.run(guest.host.now + 10.0)
    return guest


@pytest.mark.parametrize("policy", [FAST, {}])
def test_the_target_of_a_post_copy_is_not_judged(policy: dict[str, Any]) -> None:
    """Whoever resets it destroys memory that only the source has: it may stand still until all of it is here."""
    guest = in_postcopy(policy)
    guest.kernel_dies()
    guest.run(900.0)
    assert guest.transcript == []
    guest.happens(ARRIVED)
    guest.run(960.0)
    assert guest.fault is not None
    assert guest.fault.cause != "paused_failed"


def test_a_post_copy_that_fails_is_told() -> None:
    """Paused or not: its memory is in two places. Never recovered, until it answers or is whole again."""
    for event in (event_of("suspended", "postcopy_failed"), event_of("resumed", "postcopy_failed")):
        guest = in_postcopy(FAST)
        guest.kernel_dies()
        assert event is not None
        guest.happens(event)
        guest.run(600.0)
        assert [line.split(" ", 1)[1] for line in guest.transcript] == ["raised paused_failed"]


def test_nothing_has_the_target_of_a_post_copy_recovered() -> None:
    """Its watchdog fires, or it panics, or its application says that it is ill, for want of its memory: an alarm,
    and no more, as long as a reset would destroy what only the source has."""
    guest = in_postcopy(FAST)
    guest.kernel_dies()
    guest.happens(ev.Stuck(Cause.GUEST_HUNG))
    guest.run(300.0)
    assert [line.split(" ", 1)[1] for line in guest.transcript] == ["raised guest_hung, withheld: hold"]
    for told in (ev.Panicked(), ev.Panicked(saves_dump=True)):
        guest = in_postcopy(FAST)
        guest.kernel_dies()
        guest.happens(told)
        guest.run(2000.0)
        assert not any("recover" in line for line in guest.transcript)
    guest = in_postcopy({**FAST, "health_check": True, "channel": Channel.APPLICATION})
    guest.application.health = protocol.Health(protocol.Status.UNHEALTHY, ())
    guest.run(300.0)
    assert guest.transcript == []
    guest.happens(ARRIVED)
    guest.run(310.0)
    assert [line.split(" ", 1)[1] for line in guest.transcript] == ["raised application_unhealthy, recover"]


@pytest.mark.parametrize(
    "pause", [ev.Paused("paused", wish=True), ev.Stuck(Cause.PAUSED_IO_ERROR), ev.Stuck(Cause.GUEST_HUNG)]
)
@pytest.mark.parametrize("policy", [FAST, {}])
def test_a_pause_in_the_middle_of_a_post_copy_does_not_end_it(pause: ev.Event, policy: dict[str, Any]) -> None:
    """It goes on after a pause, or is about to power off, and its memory is as far away as before."""
    guest = in_postcopy(policy)
    guest.kernel_dies()
    guest.happens(pause)
    guest.run(60.0)
    guest.happens(ev.Resumed())
    guest.run(900.0)
    guest.happens(ev.ShuttingDown())
    guest.run(1800.0)
    assert not any("recover" in line for line in guest.transcript)
    guest.happens(ARRIVED)
    guest.run(1900.0)
    assert guest.fault is not None
    assert guest.fault.cause in ("guest_silent", "guest_hung")


def test_met_in_the_middle_of_a_post_copy() -> None:
    """A worker that starts then learns it from the domain's state; also of one that has failed since."""
    for reason, told in (("postcopy", []), ("postcopy_failed", ["0.00 raised paused_failed"])):
        guest = lone(memory=WELL, action=Action.RECOVER_UNRESPONSIVE, **FAST)
        event = event_of_state("running", reason)
        assert event is not None
        guest.happens(event)
        guest.kernel_dies()
        guest.run(600.0)
        assert guest.transcript == told


# -- paused by nobody ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["unknown", "api_error"])
@pytest.mark.parametrize("told_first", [True, False])
@pytest.mark.parametrize("policy", [FAST, {}])
def test_a_pause_that_is_nobodys_wish_is_told(reason: str, told_first: bool, policy: dict[str, Any]) -> None:
    """An alarm, never more, and no silence without an end; over when the guest goes on and answers."""
    guest = settled(action=Action.RECOVER_UNRESPONSIVE, **policy)
    guest.is_paused() if told_first else guest._change(paused=True)
    event = event_of_state("paused", reason)
    assert event is not None
    guest.happens(event)
    guest.run(1000.0)
    assert [line.split(" ", 1)[1] for line in guest.transcript] == ["raised paused_failed"]
    assert guest.monitor.silences.told() == {}
    guest.is_resumed()
    guest.run(1100.0)
    assert [line.split(" ", 1)[1] for line in guest.transcript][1:] == ["cleared paused_failed: recovered"]


def test_a_pause_at_the_end_of_a_job_is_libvirts() -> None:
    """QEMU stops the guest by itself when its memory has been copied, and libvirt lets it go on in a while."""
    guest = settled(**FAST)
    orphaned = event_of_state("paused", "unknown")
    assert orphaned is not None
    guest.is_paused()
    guest.happens(orphaned)
    guest.run(100.4)
    guest.is_resumed()
    guest.run(120.0)
    assert guest.transcript == []
    guest.job = "save"
    guest.happens(ev.Silenced("job", "libvirt copies its memory", 200.0))
    guest.is_paused()
    guest.happens(orphaned)
    guest.happens(orphaned)
    guest.run(150.0)
    guest.happens(ev.Unsilenced("job"))
    guest.is_resumed()
    guest.run(170.0)
    assert guest.transcript == []
    guest.looks_fail = "LookJob"
    guest.happens(ev.Silenced("job", "libvirt copies its memory", 200.0))
    guest.is_paused()
    guest.happens(orphaned)
    guest.run(300.0)
    assert [line.split(" ", 1)[1] for line in guest.transcript] == ["raised paused_failed"]
    assert 200.0 <= float(guest.transcript[0].split()[0]) <= 206.0


@pytest.mark.parametrize("then", ["boots", "is stopped", "is somebody's wish", "is an error"])
def test_a_pause_without_a_reason_that_becomes_something_else(then: str) -> None:
    """Before it has settled: that is what it is."""
    guest = settled(**FAST)
    orphaned = event_of_state("paused", "unknown")
    assert orphaned is not None
    guest.is_paused()
    guest.happens(orphaned)
    guest.run(101.0)
    if then == "boots":
        guest.boots(after=1.0)
    elif then == "is stopped":
        guest.is_destroyed()
    else:
        guest.happens(ev.Paused("paused", wish=True) if "wish" in then else ev.Stuck(Cause.PAUSED_IO_ERROR))
    guest.run(200.0)
    raised = [fault.cause for fault in guest.raised]
    assert raised == (["paused_io_error"] if then == "is an error" else [])
