"""The engine, turned by hand: what is reported to it, and what it then stores, asks and looks at."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes import ClockInbox, KeptCommits, MovedClock, ScriptedChannels, ScriptedHost
from vmhb_common.model.policy import Channel
from vmhb_common.model.silences import LONG_SILENCE, MAX_SILENCE
from vmhb_worker.core.events import (
    Booted,
    DomainForgotten,
    DomainSeen,
    Exit,
    Happened,
    HypervisorDown,
    HypervisorHeard,
    HypervisorUp,
    Panicked,
    Paused,
    PortChanged,
    Resumed,
    SetBalloonPeriod,
    Stopped,
)
from vmhb_worker.core.evidence import Reading
from vmhb_worker.core.host_pressure import Counted
from vmhb_worker.core.questions import Asked
from vmhb_worker.engine.loop import Engine, Ports
from vmhb_worker.interfaces import InstanceRow, Saved
from vmhb_worker.settings import Settings, VerdictSettings

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
QUICK = "interval='1' timeout='1' threshold='3' action='recover'"


def domain(
    uuid: str, heartbeat: str | None = QUICK, *, boot: str = "b1", name: str = "vm", disk: str = "disk"
) -> DomainSeen:
    """A domain as libvirt shows it. heartbeat: the attributes of our element, None for no element."""
    ours = f"<vmhb:heartbeat xmlns:vmhb='urn:openstack:vmhb:1' {heartbeat}/>" if heartbeat is not None else ""
    xml = (
        f"<domain><name>{name}</name><uuid>{uuid}</uuid><metadata>{ours}</metadata><devices>"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>"
        f"<disk type='file'><source file='/var/lib/nova/instances/{uuid}/{disk}'/></disk>"
        "<memballoon model='virtio'><stats period='10'/></memballoon></devices></domain>"
    )
    state, reason = ("running", "booted") if boot else ("shutoff", "destroyed")
    return DomainSeen(uuid, xml, state, reason, boot)


class Bench:
    """An engine with its fakes."""

    def __init__(self, saved: Saved | None = None, **verdict: Any) -> None:
        self.clock = MovedClock()
        self.inbox = ClockInbox(self.clock)
        self.host = ScriptedHost(self.clock, self.inbox)
        self.store = KeptCommits()
        settings = Settings(host="node1", verdict=VerdictSettings(**verdict))
        self.channels = ScriptedChannels(self.clock, self.inbox)
        ports = Ports(self.host, self.host, self.channels, self.store, self.clock.clock, self.inbox)
        self.engine = Engine(settings, ports, saved or Saved())

    def up(self, *domains: DomainSeen) -> None:
        """libvirt is there, with these."""
        self.engine.post(HypervisorUp(domains))

    def run(self, seconds: float, until: Callable[[], object] = lambda: None) -> None:
        """Turn until the clock has moved so far, or `until` holds. libvirtd answers all the while."""
        end = heard = self.clock.now
        end += seconds
        while self.clock.now < end and not until():
            if self.clock.now >= heard:
                heard = self.clock.now + 0.25
                self.inbox.post_at(heard, HypervisorHeard(heard - 0.01))
            self.engine.turn()

    def ask(self, name: str, **arguments: Any) -> Any:
        """A call, answered by the next turn."""
        (kind,) = [kind for kind in typing.get_args(Asked) if kind.method == name]
        return self.engine._desk.answer(kind(**arguments), self.clock.now, self.clock.wall())

    def raised(self) -> list[dict[str, Any]]:
        return self.store.messages("vmhb.fault.raised")

    def cleared(self) -> list[dict[str, Any]]:
        return self.store.messages("vmhb.fault.cleared")


def well(bench: Bench, *uuids: str) -> None:
    """Let the instances acknowledge, and their balloons be known."""
    bench.run(6)
    assert [bench.ask("show", instance_uuid=uuid)["state"] for uuid in uuids] == ["alive"] * len(uuids)


def test_a_hang_is_one_fault_from_raise_to_clear() -> None:
    """A guest that falls silent has one fault; its rows and messages are committed together; an answer clears it."""
    bench = Bench()
    bench.up(domain(ONE), domain(TWO))
    well(bench, ONE, TWO)
    bench.host.dead.add(ONE)
    bench.run(10)
    (raised,) = bench.raised()
    assert (raised["instance_uuid"], raised["misses"], raised["host"]) == (ONE, 3, "node1")
    assert bench.store.messages("vmhb.fault.updated")[-1]["cause"] == "guest_hung"
    commit = next(c for c in bench.store.commits if any(m.event_type == "vmhb.fault.raised" for m in c.messages))
    assert [fault.fault_id for fault in commit.faults] == [raised["fault_id"]]
    bench.host.dead.clear()
    bench.run(20)
    (cleared,) = bench.cleared()
    assert (cleared["fault_id"], cleared["resolution"]) == (raised["fault_id"], "recovered")


def test_late_ourselves_is_not_the_guests_fault() -> None:
    """A worker that is stopped again and again finds beats unanswered; none of them counts, and its host is suspect."""
    bench = Bench()
    bench.up(domain(ONE))
    well(bench, ONE)
    for _ in range(20):
        bench.clock.now += 5.0
        bench.run(0.5)
    (raised,) = bench.raised()
    assert (raised["cause"], raised["instance_uuid"]) == ("host_suspect", None)
    assert "times in a row, at last: the worker was" in raised["reason"]
    bench.run(70)
    assert [fault["cause"] for fault in bench.cleared()] == ["host_suspect"]


def test_nonsense_costs_nobody_else() -> None:
    """A domain whose XML or policy makes no sense is not monitored and is told with its error; others are."""
    bench = Bench()
    broken = DomainSeen(TWO, "<domain", "running", "booted", "b1")
    bench.up(broken, domain(ONE))
    bench.run(5)
    assert bench.ask("show", instance_uuid=ONE)["state"] == "alive"
    assert "cannot be read" in bench.ask("show", instance_uuid=TWO)["error"]
    bench.engine.post(domain(TWO, "interval='soon'"))
    bench.run(1)
    assert "hw:heartbeat_interval is 'soon'" in bench.ask("show", instance_uuid=TWO)["error"]
    assert len(bench.ask("list")) == 2


def test_a_host_under_pressure_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Once in the log, in each sign of life and by `show`; its dead are told, later by three beats."""
    bench = Bench()
    bench.up(domain(ONE))
    well(bench, ONE)
    for number in range(40):
        at = bench.clock.now + 2.0 * number
        bench.inbox.post_at(at, Counted(at, memory=Reading(1.9 * number if number < 30 else 57.0, at)))
    bench.run(10)
    assert bench.ask("show", instance_uuid=ONE)["host_pressure"]["memory"]["value"] == 0.95
    (suspected,) = bench.raised()
    assert (suspected["cause"], suspected["instance_uuid"]) == ("host_suspect", None)
    bench.host.dead.add(ONE)
    bench.run(5.5)
    assert bench.raised() == [suspected]
    bench.run(2.5)
    (raised,) = bench.raised()[1:]
    assert raised["evidence"]["host"]["value"].startswith("memory 95%, io unavailable")
    assert raised["skipped"] == 3
    bench.run(65)
    first, last = bench.store.messages("vmhb.worker.alive")[:2]
    assert first["pressure"]["memory"] == {"value": "unavailable", "reason": "not looked at yet"}
    assert last["pressure"]["memory"]["value"] in (0.0, 0.95)
    said = [one.getMessage() for one in caplog.records if "under pressure" in one.getMessage()]
    assert said == [
        "the host is under pressure: 95% of the time everything stood still for want of memory",
        "the host is not under pressure any more",
    ]


def test_a_short_delay_voids_the_beats_of_short_timeouts() -> None:
    """A guest with a time-out of a tenth of a second, of which we were away for most; and nobody else's."""
    bench = Bench()
    application = "channel='application' threshold='3' action='recover'"
    bench.up(domain(ONE, f"{application} interval='0.2' timeout='0.1'"), domain(TWO))
    bench.run(6)
    voided = bench.engine._doubt
    assert voided.at_bound(bench.clock.now) is None
    for _ in range(100):
        bench.clock.now += 0.08
        bench.run(0.02)
    assert bench.raised() == []
    assert voided.at_bound(bench.clock.now) is None


def test_a_report_that_cannot_be_taken_is_left_out() -> None:
    """A fault of ours in one report costs that report, not the worker."""
    bench = Bench()
    bench.engine.post(object())
    bench.up(domain(ONE))
    well(bench, ONE)


def test_opting_out_ends_everything() -> None:
    """An instance that is no longer to be monitored has its fault closed as that, and its end is told."""
    bench = Bench()
    bench.up(domain(ONE))
    well(bench, ONE)
    bench.host.dead.add(ONE)
    bench.run(10)
    bench.engine.post(domain(ONE, "heartbeat='false'"))
    bench.run(1)
    assert [c["resolution"] for c in bench.cleared()] == ["unmonitored"]
    assert [e["instance_uuid"] for e in bench.store.messages("vmhb.heartbeat.ended")] == [ONE]
    assert ONE in [uuid for commit in bench.store.commits for uuid in commit.forget]
    assert bench.ask("list") == []


def test_a_period_is_changed_only_once_the_old_one_is_stored() -> None:
    """The worker may die at any moment: the old period is on disk before it is changed, and until it is back."""
    bench = Bench()
    bench.store.hold = True
    bench.up(domain(ONE))
    bench.run(3)
    assert not any(isinstance(look, SetBalloonPeriod) for _, look in bench.host.looks)
    assert {ONE: 10} in [commit.probes for commit in bench.store.commits]
    bench.store.hold = False
    bench.store.held.pop()()
    bench.run(3)
    periods = [look.seconds for _, look in bench.host.looks if isinstance(look, SetBalloonPeriod)]
    assert periods == [1, 10]
    assert bench.store.commits[-1].probes == {ONE: None} or {ONE: None} in [c.probes for c in bench.store.commits]


def test_a_period_left_by_an_earlier_life_is_put_back() -> None:
    """What a worker that died had changed, the next one puts back as soon as it meets the domain."""
    bench = Bench(Saved(probes={ONE: 7}))
    bench.up(domain(ONE))
    bench.run(1)
    assert (ONE, SetBalloonPeriod(7)) in bench.host.looks
    assert {ONE: None} in [commit.probes for commit in bench.store.commits]


def test_a_worker_that_ends_amid_a_probe_puts_the_period_back() -> None:
    """What a probe has changed is not left until the next start, of which nobody knows when it comes."""
    bench = Bench()
    bench.up(domain(ONE))
    bench.run(10, until=lambda: (ONE, SetBalloonPeriod(1)) in bench.host.looks)
    assert (ONE, SetBalloonPeriod(10)) not in bench.host.looks
    bench.engine.stop()
    bench.engine.run()
    assert bench.host.looks[-1] == (ONE, SetBalloonPeriod(10))
    assert bench.store.commits[-1].probes == {ONE: None}


def test_libvirt_away_is_nobodys_fault() -> None:
    """While libvirt is away nobody is asked or judged; it takes a full threshold after it is back."""
    bench = Bench()
    bench.up(domain(ONE))
    well(bench, ONE)
    bench.host.dead.add(ONE)
    bench.engine.post(HypervisorDown("it was stopped"))
    bench.run(30)
    asked = len(bench.host.asks)
    bench.run(30)
    assert (bench.raised(), len(bench.host.asks)) == ([], asked)
    bench.up(domain(ONE))
    back = bench.clock.now
    bench.run(20, until=bench.raised)
    assert 3.0 <= bench.clock.now - back <= 6.0


def test_what_a_recovery_is_to_know_at_its_last_moment() -> None:
    """Whether it has answered since its last miss, which fault it is, and what is asked for; and it is asked for again
    while it stays as it is."""
    bench = Bench()
    bench.up(domain(ONE))
    well(bench, ONE)
    assert bench.ask("show", instance_uuid=ONE)["answered_since_miss"] is None
    bench.host.dead.add(ONE)
    bench.run(20, until=bench.raised)
    bench.run(10)
    shown = bench.ask("show", instance_uuid=ONE)
    (fault,) = bench.raised()
    assert (shown["answered_since_miss"], shown["fault"].pop("suspected_age") > 10) == (False, True)
    assert shown["fault"] == {
        **{"fault_id": fault["fault_id"], "cause": "guest_hung"},
        **{"recommended_action": "recover", "withheld": None},
    }
    bench.run(700)
    attempts = [told["recovery_attempt"] for told in bench.store.messages("vmhb.fault.updated")]
    assert attempts[-1] == 3
    bench.host.dead.clear()
    bench.run(60)
    shown = bench.ask("show", instance_uuid=ONE)
    assert (shown["fault"], shown["answered_since_miss"]) == (None, True)


def test_a_fault_outlives_the_worker() -> None:
    """A fault that was open before is open after, under the same id, raised once; an answer clears it."""
    first = Bench()
    first.up(domain(ONE))
    well(first, ONE)
    first.host.dead.add(ONE)
    first.run(10)
    faults = {f.fault_id: f for commit in first.store.commits for f in commit.faults}
    rows = {row.uuid: row for commit in first.store.commits for row in commit.instances}
    second = Bench(Saved(instances=tuple(rows.values()), faults=tuple(faults.values())))
    second.host.dead.add(ONE)
    second.up(domain(ONE))
    second.run(20)
    assert second.raised() == []
    assert second.ask("show", instance_uuid=ONE)["fault"]["fault_id"] in faults
    second.host.dead.clear()
    second.run(30)
    assert [c["fault_id"] for c in second.cleared()] == list(faults)


def test_qemu_that_died_unseen_is_found() -> None:
    """QEMU crashed while the worker was away: it is told when the worker is back."""
    row = InstanceRow(ONE, established=True, boot="b1", running=True)
    bench = Bench(Saved(instances=(row,)))
    seen = domain(ONE, boot="")
    bench.up(DomainSeen(ONE, seen.xml, "shutoff", "crashed", ""))
    bench.run(1)
    assert [r["cause"] for r in bench.raised()] == ["qemu_failed"]


def test_what_is_gone_is_remembered_for_a_while() -> None:
    """An undefined domain may come back (hard reboot); only after `gone_grace` its fault is closed as deleted."""
    bench = Bench(gone_grace=100.0)
    bench.up(domain(ONE))
    well(bench, ONE)
    bench.engine.post(Happened(ONE, Stopped(Exit.FAILED, "failed")))
    bench.engine.post(DomainForgotten(ONE))
    bench.run(90)
    assert (len(bench.raised()), bench.cleared()) == (1, [])
    bench.run(30)
    assert [c["resolution"] for c in bench.cleared()] == ["deleted"]
    assert bench.ask("list") == []


def test_an_orphaned_fault_is_closed_in_the_end() -> None:
    """A fault whose domain is not here when the worker starts is kept for `gone_grace`, then closed as deleted."""
    first = Bench()
    first.up(domain(ONE))
    well(first, ONE)
    first.host.dead.add(ONE)
    first.run(10)
    faults = {f.fault_id: f for commit in first.store.commits for f in commit.faults}
    bench = Bench(Saved(faults=tuple(faults.values())), gone_grace=100.0)
    bench.up()
    bench.run(90)
    assert bench.cleared() == []
    bench.run(30)
    assert [c["resolution"] for c in bench.cleared()] == ["deleted"]


def test_the_other_channels_port_is_not_ours() -> None:
    """A port that the policy does not use may open and close as it likes."""
    bench = Bench()
    bench.up(domain(ONE))
    well(bench, ONE)
    bench.engine.post(Happened(ONE, PortChanged(False, Channel.APPLICATION)))
    bench.run(1)
    assert bench.ask("show", instance_uuid=ONE)["state"] == "alive"


def test_what_travels_is_written_once_per_change() -> None:
    """`established` and the open fault go into the domain's metadata when they change, never per heartbeat."""
    bench = Bench()
    bench.up(domain(ONE))
    bench.run(300)
    assert [uuid for uuid, _ in bench.host.states] == [ONE]
    bench.host.dead.add(ONE)
    bench.run(60)
    (fault,) = bench.raised()
    assert fault["fault_id"] in bench.host.states[-1][1]
    assert len(bench.host.states) == 2


def test_announced_silences_hold_also_for_those_that_come_later() -> None:
    """A hint that came before its instance is kept, and an end ends it."""
    bench = Bench()
    wall = bench.clock.wall()
    assert bench.ask("expect_silence", instance_uuid=ONE, key="req-1", reason="resize", timeout=600.0, observed_at=wall)
    bench.up(domain(ONE))
    bench.run(30)
    shown = bench.ask("show", instance_uuid=ONE)
    assert shown["silences"] == {"hint:req-1": "resize"}
    assert bench.ask("end_silence", instance_uuid=ONE, key="req-1", observed_at=bench.clock.wall())
    well(bench, ONE)


def test_a_silence_is_cut_to_a_day_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever announced a year reads in the log what was made of it; a day, and what is stale, is not worth a line."""
    bench = Bench()
    bench.up(domain(ONE))
    well(bench, ONE)
    asked = {"instance_uuid": ONE, "key": "k", "reason": "upgrade", "observed_at": bench.clock.wall()}
    assert bench.ask("expect_silence", **asked, timeout=MAX_SILENCE)
    old = bench.clock.wall() - timedelta(days=400)
    assert not bench.ask("expect_silence", **{**asked, "observed_at": old}, timeout=365 * 86400.0)
    assert "is cut" not in caplog.text
    assert bench.ask("expect_silence", **asked, timeout=365 * 86400.0)
    assert "a silence (upgrade) was announced for 31536000 s, and is cut to 86400 s" in caplog.text
    bench.clock.now += MAX_SILENCE - 10.0
    bench.run(5)
    assert bench.ask("show", instance_uuid=ONE)["silences"]["hint:k"] == "upgrade"
    bench.run(15)
    assert bench.ask("show", instance_uuid=ONE)["silences"] == {}


def test_a_long_silence_is_told_and_its_end_also_after_a_restart() -> None:
    """`vmhb.heartbeat.ended` once, and `established` once it is watched again, though another worker saw it begin."""
    first = Bench()
    first.up(domain(ONE))
    well(first, ONE)
    first.engine.post(Happened(ONE, Paused("paused")))
    first.run(2 * LONG_SILENCE)
    (ended,) = first.store.messages("vmhb.heartbeat.ended")
    assert ended["reason"] == "not judged for 15 min by now: paused"
    rows = {row.uuid: row for commit in first.store.commits for row in commit.instances}
    assert rows[ONE].away
    second = Bench(Saved(instances=tuple(rows.values())))
    seen = domain(ONE)
    second.up(DomainSeen(ONE, seen.xml, "paused", "user", "b1"))
    second.run(2 * LONG_SILENCE)
    assert second.store.messages("vmhb.heartbeat.ended") == []
    second.engine.post(Happened(ONE, Resumed()))
    second.run(10)
    (back,) = second.store.messages("vmhb.heartbeat.established")
    assert back["instance_uuid"] == ONE
    assert not {row.uuid: row for commit in second.store.commits for row in commit.instances}[ONE].away


def test_rescue_mode_is_seen_in_the_domain() -> None:
    """A rescue image that does not answer is no fault as long as it runs, also to a worker that never heard of it.

    Afterwards the instance is watched as ever.
    """
    for told in (True, False):
        bench = Bench(reboot_grace=5.0)
        bench.up(domain(ONE, disk="disk" if told else "disk.rescue"))
        if told:
            well(bench, ONE)
        bench.host.dead.add(ONE)
        bench.engine.post(domain(ONE, boot="b2", disk="disk.rescue"))
        bench.run(4000)
        assert bench.raised() == []
        assert set(bench.ask("show", instance_uuid=ONE)["silences"]) == {"rescued"}
        bench.host.dead.clear()
        bench.engine.post(domain(ONE, boot="b3"))
        well(bench, ONE)
        bench.host.dead.add(ONE)
        bench.run(10)
        assert len(bench.raised()) == 1


def test_the_watchdog_is_fed_by_the_loop() -> None:
    """Each turn that is due feeds the watchdog, at its own pace and not more often."""
    bench, beats = Bench(), []
    ports = Ports(
        bench.host,
        bench.host,
        bench.channels,
        bench.store,
        bench.clock.clock,
        bench.inbox,
        beat=lambda: beats.append(bench.clock.now),
        watchdog=15.0,
    )
    bench.engine = Engine(Settings(host="node1"), ports, Saved())
    bench.run(100)
    assert len(beats) == 7


def test_the_sign_of_life_says_what_is_wrong() -> None:
    """`vmhb.worker.alive` comes every minute with counts, and with a sentence for each thing that does not work."""
    bench = Bench()
    bench.up(domain(ONE), domain(TWO, "threshold='many'"))
    bench.run(70)
    bench.engine.post(HypervisorDown("it was stopped"))
    bench.run(60)
    signs = bench.store.messages("vmhb.worker.alive")
    assert [sign["sequence"] for sign in signs] == [1, 2, 3]
    assert signs[1]["instances"] == 1
    assert any("hw:heartbeat_threshold" in sentence for sentence in signs[1]["degraded"])
    assert signs[2]["degraded"][0] == "libvirt is away: it was stopped"


def test_a_crash_dump_outlives_the_worker() -> None:
    """A guest that saves its dump was told of: the next life of the worker waits for the rest of its time."""
    first = Bench(crash_dump_grace=600.0)
    first.up(domain(ONE))
    well(first, ONE)
    first.host.dead.add(ONE)
    first.engine.post(Happened(ONE, Panicked(saves_dump=True)))
    first.run(100)
    faults = {f.fault_id: f for commit in first.store.commits for f in commit.faults}
    rows = {row.uuid: row for commit in first.store.commits for row in commit.instances}
    second = Bench(Saved(instances=tuple(rows.values()), faults=tuple(faults.values())), crash_dump_grace=600.0)
    second.clock.now = first.clock.now
    second.host.dead.add(ONE)
    second.up(domain(ONE))
    second.run(480)
    asked = [one["recommended_action"] for one in second.store.messages("vmhb.fault.updated")]
    assert "recover" not in asked
    second.run(60)
    assert second.store.messages("vmhb.fault.updated")[-1]["recommended_action"] == "recover"
    assert (first.raised()[0]["withheld"], second.raised()) == ("hold", [])


@pytest.mark.parametrize("changed", ["observe_only", "policy", "policy, live"])
def test_a_recovery_that_is_not_wanted_any_more_is_taken_back(changed: str) -> None:
    """The operator observes only, or the policy says alarm by now: at once, and it is never asked for a second time."""
    first = Bench()
    first.up(domain(ONE))
    well(first, ONE)
    first.host.dead.add(ONE)
    first.run(10)
    assert first.store.messages("vmhb.fault.updated")[-1]["recommended_action"] == "recover"
    bench, alarm = first, domain(ONE, QUICK.replace("recover", "alarm"))
    if changed != "policy, live":
        faults = {f.fault_id: f for commit in first.store.commits for f in commit.faults}
        rows = {row.uuid: row for commit in first.store.commits for row in commit.instances}
        saved = Saved(instances=tuple(rows.values()), faults=tuple(faults.values()))
        bench = Bench(saved, observe_only=changed == "observe_only")
        bench.host.dead.add(ONE)
        bench.up(domain(ONE) if changed == "observe_only" else alarm)
    else:
        bench.engine.post(alarm)
    bench.run(1)
    told = bench.store.messages("vmhb.fault.updated")[-1]
    assert (told["recommended_action"], told["withheld"]) == ("alarm", "observe" if changed == "observe_only" else None)
    before = len(bench.store.messages("vmhb.fault.updated"))
    bench.run(1000)
    since = bench.store.messages("vmhb.fault.updated")[before:]
    assert {one["recommended_action"] for one in since} == {"alarm"}
    assert {one["recovery_attempt"] for one in since} == {1}


def test_words_of_a_newer_worker_in_the_store() -> None:
    """It ran here before: the instance is watched, and its fault is cleared with the words that it came with."""
    first = Bench()
    first.up(domain(ONE))
    well(first, ONE)
    first.host.dead.add(ONE)
    first.run(10)
    fault = [f for commit in first.store.commits for f in commit.faults][-1]
    rows = {row.uuid: row for commit in first.store.commits for row in commit.instances}
    newer = replace(fault, cause="brand_new", severity="apocalyptic", evidence={"panic": 7})
    bench = Bench(Saved(instances=tuple(rows.values()), faults=(newer,)))
    bench.up(domain(ONE))
    bench.run(30)
    cleared = bench.cleared()[-1]
    assert (cleared["fault_id"], cleared["severity"], cleared["resolution"]) == (
        fault.fault_id,
        "apocalyptic",
        "recovered",
    )


def uuids(number: int) -> list[str]:
    """So many."""
    return [f"{n:08x}-1111-4111-8111-111111111111" for n in range(number)]


def test_a_host_whose_guests_fall_silent_together_is_suspected() -> None:
    """One fault of the host, in the store and on the wire; no recovery of a guest; all cleared when they answer."""
    bench = Bench()
    guests = uuids(4)
    bench.up(*(domain(uuid) for uuid in guests))
    well(bench, *guests)
    bench.host.dead.update(guests)
    bench.run(30)
    hosts = [raised for raised in bench.raised() if raised["cause"] == "host_suspect"]
    assert [(raised["instance_uuid"], raised["channel"], raised["host"]) for raised in hosts] == [(None, None, "node1")]
    told = bench.raised() + bench.store.messages("vmhb.fault.updated")
    assert {fault["recommended_action"] for fault in told} == {"alarm"}
    assert [fault["withheld"] for fault in told if fault["cause"] == "guest_hung"] == ["brake"] * 4
    bench.run(61)
    assert any("this host is suspect" in why for why in bench.store.messages("vmhb.worker.alive")[-1]["degraded"])
    bench.host.dead.clear()
    bench.run(150)
    assert sorted(fault["instance_uuid"] or "" for fault in bench.cleared()) == ["", *guests]


def test_the_dead_one_among_them_is_recovered_when_it_has_been_asked_anew() -> None:
    """After the brake, and it alone."""
    bench = Bench()
    guests = uuids(4)
    bench.up(*(domain(uuid) for uuid in guests))
    well(bench, *guests)
    bench.host.dead.update(guests)
    bench.run(30)
    bench.host.dead = {guests[0]}
    bench.run(200)
    recovered = [f for f in bench.store.messages("vmhb.fault.updated") if f["recommended_action"] == "recover"]
    assert {fault["instance_uuid"] for fault in recovered} == {guests[0]}


def test_a_suspect_host_is_suspect_still_after_a_restart() -> None:
    """Its fault comes from the store, under its own id, and is cleared by the worker that finds it over."""
    bench = Bench()
    guests = uuids(4)
    bench.up(*(domain(uuid) for uuid in guests))
    well(bench, *guests)
    bench.host.dead.update(guests)
    bench.run(30)
    faults = {fault.fault_id: fault for commit in bench.store.commits for fault in commit.faults}
    rows = {row.uuid: row for commit in bench.store.commits for row in commit.instances}
    again = Bench(Saved(tuple(rows.values()), tuple(faults.values()), {}, {}))
    again.up(*(domain(uuid) for uuid in guests))
    again.run(200)
    suspected = next(fault for fault in faults.values() if fault.cause == "host_suspect")
    assert suspected.fault_id in {fault["fault_id"] for fault in again.cleared()}
    assert len(again.cleared()) == 5


def test_few_suspects_are_no_crowd() -> None:
    """Nobody is counted for the sake of one guest that comes and goes."""
    bench = Bench(brake_count=2)
    bench.up(domain(ONE), domain(TWO))
    well(bench, ONE, TWO)
    bench.host.dead.update({ONE, TWO})
    bench.run(10)
    assert "host_suspect" in {fault["cause"] for fault in bench.raised()}


def test_an_operator_sets_the_brake_while_it_runs() -> None:
    """Those who are silent already trip it; and the rest is as it was."""
    bench = Bench(brake_count=100)
    guests = uuids(4)
    bench.up(*(domain(uuid) for uuid in guests))
    well(bench, *guests)
    bench.host.dead.update(guests)
    bench.run(3)
    bench.engine.take_settings(Settings(host="node1", verdict=VerdictSettings(brake_count=3)))
    bench.run(27)
    assert "host_suspect" in {fault["cause"] for fault in bench.raised()}
    told = bench.raised() + bench.store.messages("vmhb.fault.updated")
    assert {fault["recommended_action"] for fault in told} == {"alarm"}


def test_how_all_is_in_a_line() -> None:
    """Told when there is news, and now and then: how many are watched, who has a fault, and what is away."""
    bench = Bench()
    told: dict[str, None] = {}
    ports = Ports(
        *(bench.host, bench.host, bench.channels, bench.store, bench.clock.clock, bench.inbox),
        tell=told.setdefault,
    )
    bench.engine = Engine(Settings(host="node1"), ports, Saved())
    bench.run(1)
    assert [*told] == ["libvirt is away, no instance is judged: not connected yet"]
    bench.up(domain(ONE), domain(TWO))
    bench.run(30)
    assert [*told][1:] == ["instances: 2 watched, 0 with an open fault"]
    bench.host.dead.add(ONE)
    bench.run(30)
    assert [*told][2:] == ["instances: 2 watched, 1 with an open fault"]
    bench.engine.post(HypervisorDown("it was stopped"))
    bench.run(30)
    assert [*told][3:] == ["libvirt is away, no instance is judged: it was stopped"]


def test_an_operator_releases_the_brake() -> None:
    """Those who are silent are asked anew, and recovered; nobody trips it again for them."""
    bench = Bench()
    guests = uuids(4)
    bench.up(*(domain(uuid) for uuid in guests))
    well(bench, *guests)
    bench.host.dead.update(guests)
    bench.run(30)
    assert bench.ask("release_brake", reason="the storage is back") is True
    assert bench.ask("release_brake", reason="again") is False
    bench.run(30)
    assert [fault["cause"] for fault in bench.cleared()] == ["host_suspect"]
    recovered = [f for f in bench.store.messages("vmhb.fault.updated") if f["recommended_action"] == "recover"]
    assert {fault["instance_uuid"] for fault in recovered} == set(guests)
    assert len([fault for fault in bench.raised() if fault["cause"] == "host_suspect"]) == 1


# -- what libvirt says of itself -------------------------------------------------------------------------------------


def with_port(seen: DomainSeen, state: str) -> DomainSeen:
    """The same, with its agent's port as the live XML has it."""
    return replace(seen, xml=seen.xml.replace("state='connected'", f"state='{state}'"))


def test_after_a_reconnect_the_live_xml_tells_of_the_port() -> None:
    """Whatever events had told before: it was closed, or opened, while nobody listened."""
    bench = Bench()
    bench.up(domain(ONE), domain(TWO))
    well(bench, ONE, TWO)
    bench.engine.post(Happened(TWO, PortChanged(False)))
    bench.run(2)
    bench.engine.post(HypervisorDown("libvirtd is restarted"))
    bench.run(5)
    bench.up(with_port(domain(ONE), "disconnected"), domain(TWO))
    bench.run(10)
    shown = [bench.ask("show", instance_uuid=which) for which in (ONE, TWO)]
    assert [one["not_asked"] for one in shown] == ["port closed", None]
    assert shown[1]["last_ack_age"] < 2.0
    assert bench.raised() == []


def test_libvirt_is_read_again_of_whoever_is_not_simply_alive() -> None:
    """Once a minute at least, and not of the many that are well. So what was lost is healed."""
    bench = Bench()
    bench.up(domain(ONE), domain(TWO))
    well(bench, ONE, TWO)
    bench.engine.post(Happened(ONE, PortChanged(False)))  # and that it was opened again is lost
    bench.run(65)
    assert set(bench.host.described) == {ONE}
    asked = bench.host.asks.count(ONE)
    bench.engine.post(domain(ONE))
    bench.run(2)
    assert bench.host.asks.count(ONE) > asked
    bench.host.described.clear()
    bench.run(300)
    assert bench.host.described == [] and bench.raised() == []


def test_a_pause_ends_by_the_state_that_is_read_again_and_never_by_time() -> None:
    """Its end was lost. Until libvirt says that it runs, however long that takes, it is a silence."""
    bench = Bench()
    bench.up(domain(ONE))
    well(bench, ONE)
    bench.engine.post(Happened(ONE, Paused("paused")))
    asleep = replace(domain(ONE), state="paused", reason="user")
    for _ in range(100):
        bench.host.described.clear()
        bench.run(65)
        assert set(bench.host.described) == {ONE}, "and it is looked at once a minute"
        bench.engine.post(asleep)
    assert bench.raised() == [] and bench.ask("show", instance_uuid=ONE)["silences"]
    bench.engine.post(domain(ONE))
    bench.run(5)
    shown = bench.ask("show", instance_uuid=ONE)
    assert (shown["state"], shown["silences"]) == ("alive", {})


@pytest.mark.parametrize("asked_for", ["recover", "alarm"])
def test_a_host_that_lost_power(asked_for: str) -> None:
    """libvirt knows of no reason, the store that it ran, and the host has booted since: raised at the worker's start,
    as an alarm; its recovery is asked for once Nova had its time, and also where the worker is restarted meanwhile."""
    first = Bench()
    ran = replace(domain(ONE, f"interval='1' timeout='1' action='{asked_for}'"), host_boot="monday")
    first.up(ran)
    well(first, ONE)
    rows = {row.uuid: row for commit in first.store.commits for row in commit.instances}
    assert (rows[ONE].host_boot, rows[ONE].running) == ("monday", True)

    off = replace(ran, state="shutoff", reason="unknown", boot="", host_boot="tuesday")
    second = Bench(Saved(instances=tuple(rows.values())))
    second.up(off)
    second.run(115)
    (raised,) = second.raised()
    assert (raised["cause"], raised["severity"], raised["confidence"]) == ("host_lost_power", "critical", "medium")
    assert raised["recommended_action"] == "alarm"
    assert raised["withheld"] == ("hold" if asked_for == "recover" else None)
    assert second.store.messages("vmhb.fault.updated") == []
    rows |= {row.uuid: row for commit in second.store.commits for row in commit.instances}
    faults = {f.fault_id: f for commit in second.store.commits for f in commit.faults}
    assert rows[ONE].running is False

    third = Bench(Saved(instances=tuple(rows.values()), faults=tuple(faults.values())))
    third.up(off)
    third.run(115)
    assert third.raised() == third.store.messages("vmhb.fault.updated") == []
    third.run(15)
    updates = [told["recommended_action"] for told in third.store.messages("vmhb.fault.updated")]
    assert updates == (["recover"] if asked_for == "recover" else [])
    shown = third.ask("show", instance_uuid=ONE)
    assert (shown["state"], shown["fault"]["cause"]) == ("gone", "host_lost_power")


def test_nova_starts_it_again_by_itself() -> None:
    """Within its time: nothing is ever asked for, and it is cleared as recovered when it answers."""
    row = InstanceRow(ONE, established=True, boot="b1", running=True, host_boot="monday")
    bench = Bench(Saved(instances=(row,)))
    off = replace(domain(ONE, boot=""), reason="unknown", host_boot="tuesday")
    bench.up(off)
    bench.run(60)
    bench.engine.post(DomainForgotten(ONE))  # Nova defines it anew
    bench.engine.post(off)
    bench.engine.post(Happened(ONE, Booted()))
    bench.engine.post(replace(domain(ONE, boot="b2"), host_boot="tuesday"))
    bench.run(300)
    assert [told["cause"] for told in bench.raised()] == ["host_lost_power"]
    assert all(told["recommended_action"] != "recover" for told in bench.store.messages("vmhb.fault.updated"))
    assert [told["resolution"] for told in bench.cleared()] == ["recovered"]


@pytest.mark.parametrize(
    ("reason", "host_boot", "causes"),
    [
        ("shutdown", "tuesday", []),
        ("destroyed", "tuesday", []),
        ("unknown", "monday", ["stopped_unexplained"]),
        ("unknown", "", ["stopped_unexplained"]),
    ],
)
def test_one_that_is_off_for_another_reason(reason: str, host_boot: str, causes: list[str]) -> None:
    """Somebody's wish is no fault, and what nobody knows is an alarm, for ever."""
    row = InstanceRow(ONE, established=True, boot="b1", running=True, host_boot="monday")
    bench = Bench(Saved(instances=(row,)))
    bench.up(replace(domain(ONE, boot=""), reason=reason, host_boot=host_boot))
    bench.run(1000)
    assert [told["cause"] for told in bench.raised()] == causes
    told = bench.raised() + bench.store.messages("vmhb.fault.updated")
    assert all((one["recommended_action"], one["withheld"]) == ("alarm", None) for one in told)


def test_one_that_is_evacuated_meanwhile_is_forgotten_with_its_fault() -> None:
    """nova-compute removes what runs elsewhere by now: nothing is asked for any more."""
    row = InstanceRow(ONE, established=True, boot="b1", running=True, host_boot="monday")
    bench = Bench(Saved(instances=(row,)), gone_grace=60.0)
    bench.up(replace(domain(ONE, boot=""), reason="unknown", host_boot="tuesday"))
    bench.run(30)
    bench.engine.post(DomainForgotten(ONE))
    bench.run(80)
    assert [told["resolution"] for told in bench.cleared()] == ["deleted"]
    assert all(told["recommended_action"] != "recover" for told in bench.store.messages("vmhb.fault.updated"))
