"""The engine and the application channel: who is connected to, what is asked, and what is stored and told."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import KeptCommits, a_fault
from tests.unit.test_engine import ONE, TWO, Bench, domain
from vmhb_common.model.fault import FaultState, Finding, Identity, Resolution
from vmhb_common.model.policy import Channel, HeartbeatPolicy
from vmhb_worker.core.cleared_faults import KEPT
from vmhb_worker.core.events import (
    DomainSeen,
    Exit,
    Happened,
    HypervisorDown,
    HypervisorHeard,
    PortChanged,
    Stopped,
)
from vmhb_worker.core.fault_register import Ledger
from vmhb_worker.core.protocol import Challenge, Check, Goodbye, Health, Hello, Maintenance, Status
from vmhb_worker.delivery.durable_state import Journal
from vmhb_worker.delivery.sqlite import Database
from vmhb_worker.engine.instance import LINE_EVERY, LINES
from vmhb_worker.engine.unit_of_work import Changes
from vmhb_worker.interfaces import Commit, Saved

ASKED = "channel='application' interval='1' timeout='1' threshold='3' health_check='true' action='recover_unresponsive'"
PATH = "/run/libvirt/qemu/channel/7-vm/org.openstack.vmhb.0"
BAD = Health(Status.UNHEALTHY, (Check("db", Status.UNHEALTHY, "no connection"),))


def spoken(uuid: str, asked: str = ASKED, *, boot: str = "b1", path: str = PATH) -> DomainSeen:
    """A domain with an application channel beside its agent's."""
    seen = domain(uuid, asked, boot=boot)
    port = (
        f"<channel type='unix'><source mode='bind' path='{path}'/>"
        "<target type='virtio' name='org.openstack.vmhb.0' state='connected'/></channel>"
    )
    return replace(seen, xml=seen.xml.replace("</devices>", f"{port}</devices>"))


def well(bench: Bench, *uuids: str) -> None:
    bench.run(6)
    assert [bench.ask("show", instance_uuid=uuid)["state"] for uuid in uuids] == ["alive"] * len(uuids)


def ended(bench: Bench) -> list[dict[str, Any]]:
    return bench.store.messages("vmhb.heartbeat.ended")


def challenges(bench: Bench) -> int:
    return sum(isinstance(message, Challenge) for _, message in bench.channels.said)


def test_asked_over_its_own_channel_and_nowhere_else() -> None:
    """Connected to the path of its live description; not a word through libvirt per heartbeat."""
    bench = Bench()
    bench.up(spoken(ONE))
    well(bench, ONE)
    assert bench.channels.paths == {ONE: PATH}
    assert bench.host.asks == []
    assert challenges(bench) >= 5
    assert bench.ask("show", instance_uuid=ONE)["channel_lines"] == {"garbled": 0}
    (told,) = bench.store.messages("vmhb.heartbeat.established")
    assert told["channel"] == "application"


def test_what_qemu_told_of_its_port_is_newer_than_libvirts_xml() -> None:
    """libvirt writes it down once it has the domain to itself: for half a minute QEMU's word counts, then libvirt's,
    and after libvirt was away at once."""
    bench = Bench()
    bench.up(spoken(ONE))
    well(bench, ONE)
    bench.channels.silent.add(ONE)
    instance = bench.engine._roster.get(ONE)
    assert instance is not None
    closed = Happened(ONE, PortChanged(False, Channel.APPLICATION))
    bench.engine.post(closed)
    bench.engine.post(spoken(ONE))
    bench.run(1)
    assert instance.monitor.port_open is False
    bench.run(40)
    bench.engine.post(spoken(ONE))
    bench.run(1)
    assert instance.monitor.port_open is True
    bench.engine.post(closed)
    bench.engine.post(HypervisorDown("libvirtd is restarted"))
    bench.up(spoken(ONE))
    bench.run(1)
    assert instance.monitor.port_open is True


def test_nonces_are_none_that_a_guest_could_foresee() -> None:
    """Never the same twice."""
    bench = Bench()
    bench.up(spoken(ONE), spoken(TWO))
    well(bench, ONE, TWO)
    nonces = [message.nonce for _, message in bench.channels.said if isinstance(message, Challenge)]
    assert len(set(nonces)) == len(nonces)
    assert {len(nonce) for nonce in nonces} == {16}


def test_silent_while_its_agent_answers() -> None:
    """The agent is asked once, as evidence."""
    bench = Bench()
    bench.up(spoken(ONE), spoken(TWO))
    well(bench, ONE, TWO)
    bench.channels.silent.add(ONE)
    bench.run(10)
    (raised,) = bench.raised()
    assert (raised["cause"], raised["channel"], raised["misses"]) == ("application_unresponsive", "application", 3)
    assert raised["evidence"]["other_channel"]["value"] is True
    assert bench.host.asks == [ONE]
    bench.channels.silent.clear()
    bench.run(20)
    assert bench.cleared()[0]["resolution"] == "recovered"


def test_silent_like_its_agent() -> None:
    """Nothing answers: the kernel's word decides."""
    bench = Bench()
    bench.up(spoken(ONE))
    well(bench, ONE)
    bench.channels.silent.add(ONE)
    bench.host.dead.add(ONE)
    bench.run(20)
    assert bench.store.messages("vmhb.fault.updated")[-1]["cause"] == "guest_hung"


def test_unhealthy_is_told_with_its_reasons() -> None:
    """In the notification, as it said it."""
    bench = Bench()
    bench.up(spoken(ONE))
    well(bench, ONE)
    bench.channels.health = BAD
    bench.run(6)
    (raised,) = bench.raised()
    assert raised["cause"] == "application_unhealthy"
    assert raised["health"] == BAD.told()
    assert raised["reason"].endswith("db: no connection")
    assert (raised["recommended_action"], raised["withheld"]) == ("alarm", "hold")
    bench.run(12)
    assert bench.store.messages("vmhb.fault.updated")[-1]["recommended_action"] == "recover"
    bench.channels.health = Health(Status.HEALTHY)
    bench.run(18)
    assert bench.cleared()[0]["resolution"] == "recovered"


def test_leaving_is_told_and_remembered() -> None:
    """`vmhb.heartbeat.ended`, and known after a restart; so is what was used up of its maintenance."""
    bench = Bench()
    bench.up(spoken(ONE), spoken(TWO))
    well(bench, ONE, TWO)
    bench.channels.hear(ONE, Goodbye("upgrade"))
    bench.channels.hear(TWO, Maintenance(600.0, "index"))
    bench.channels.silent |= {ONE, TWO}
    bench.run(60)
    assert {told["instance_uuid"]: told["reason"] for told in ended(bench)} == {
        ONE: "the application said goodbye: 'upgrade'",
        TWO: "maintenance, asked for by the guest: 'index', for 600 s",
    }
    rows = {row.uuid: row for commit in bench.store.commits for row in commit.instances}
    assert rows[ONE].left == "upgrade"
    ((began, until),) = rows[TWO].maintenance
    assert until - began == 600.0
    again = Bench(Saved(instances=tuple(rows.values())))
    again.clock.now = bench.clock.now
    again.channels.silent |= {ONE, TWO}
    again.up(spoken(ONE), spoken(TWO))
    again.run(60)
    assert again.raised() == []
    silences = {uuid: again.ask("show", instance_uuid=uuid)["silences"] for uuid in (ONE, TWO)}
    assert "goodbye" in silences[ONE]
    assert "maintenance" in silences[TWO]
    again.channels.silent.clear()
    again.run(10)
    (told,) = again.store.messages("vmhb.heartbeat.established")
    assert told["instance_uuid"] == ONE


def test_times_in_force_are_told() -> None:
    """The shorter ones that the guest asked for stand in its fault."""
    bench = Bench()
    bench.up(spoken(ONE))
    well(bench, ONE)
    bench.channels.hear(ONE, Hello(1, "web", 0.5, 0.5))
    bench.run(3)
    bench.channels.silent.add(ONE)
    bench.run(6)
    assert (bench.raised()[0]["interval"], bench.raised()[0]["timeout"]) == (0.5, 0.5)


def test_a_guest_that_comes_and_goes_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Its changes of state are logged at a bounded rate, and what was left out is counted. When it has come to rest,
    the log says how it is; and others have lines of their own."""
    bench = Bench()
    bench.up(spoken(ONE, "channel='application' interval='1' timeout='0.1' threshold='5'"), spoken(TWO))
    well(bench, ONE, TWO)
    caplog.set_level("INFO")
    caplog.clear()
    began, states = bench.clock.now, []
    for _ in range(100):
        bench.channels.silent.add(ONE)
        bench.run(5, until=lambda: bench.ask("show", instance_uuid=ONE)["state"] == "missing")
        bench.channels.silent.discard(ONE)
        bench.channels.hear(ONE, Hello(1, "evil"))
        bench.run(5, until=lambda: bench.ask("show", instance_uuid=ONE)["state"] == "alive")
        states.append(bench.ask("show", instance_uuid=ONE)["state"])
    took = bench.clock.now - began
    assert states == ["alive"] * 100
    lines = [line for line in caplog.messages if ONE in line]
    assert LINES / 2 < len(lines) <= LINES + took / LINE_EVERY < 30
    left_out = [re.search(r" \(([0-9]+) lines about it were left out before this one\)$", line) for line in lines]
    assert left_out[0] is None
    assert sum(int(found[1]) for found in left_out if found) > 50
    caplog.clear()
    bench.channels.hear(TWO, Goodbye("x"))
    bench.run(2 * LINE_EVERY + 20)
    (rest,) = [line for line in caplog.messages if ONE in line]
    assert re.search(r"it is alive by now \([0-9]+ lines about it were left out before this one\)$", rest)
    assert any(TWO in line and "silence" in line for line in caplog.messages)


def test_faults_are_logged_however_many_lines_there_were(caplog: pytest.LogCaptureFixture) -> None:
    """A guest cannot hide its fault behind its own noise."""
    bench = Bench()
    bench.up(spoken(ONE))
    well(bench, ONE)
    caplog.set_level("INFO")
    instance = bench.engine._roster.get(ONE)
    assert instance is not None
    for _ in range(2 * LINES):
        instance.lines.take(bench.clock.now)
    bench.channels.silent.add(ONE)
    bench.run(10, until=bench.raised)
    bench.run(1)
    assert [line for line in caplog.messages if " raised: application_unresponsive" in line]
    assert not [line for line in caplog.messages if " -> " in line]


def test_too_many_clears_of_before_leave_the_file() -> None:
    """An older worker kept all of a guest's: the first commit drops what is not told again, and the rest is told."""
    over = [
        replace(
            a_fault(str(uuid.UUID(int=number)), state=FaultState.CLEARED),
            cleared_at=datetime(2026, 1, 1, number, tzinfo=timezone.utc),
        )
        for number in range(KEPT + 2)
    ]
    journal = Journal(Path("/nowhere"), 1.0, Database)
    journal.remember(Commit(faults=over, announce={fault.fault_id: 3 for fault in over}))
    bench = Bench(Saved(faults=tuple(over), announce={fault.fault_id: 3 for fault in over}))
    bench.run(1)
    for commit in bench.store.commits:
        journal.remember(commit)
    assert (
        set(journal._state.announce)
        == set(journal._state.faults)
        == {str(uuid.UUID(int=number)) for number in (2, 3, 4)}
    )
    bench.run(1000)
    assert len(bench.cleared()) == 3 * KEPT


def test_a_fault_that_pushes_another_out_takes_it_from_the_file() -> None:
    """In one commit: the file never holds more of an instance's than are told again."""
    store, journal = KeptCommits(), Journal(Path("/nowhere"), 1.0, Database)
    changes = Changes("node1", store)
    ledger = Ledger("node1", 1e6, lambda: str(uuid.UUID(int=len(store.commits))))
    found = Finding("guest_silent", "critical", "low", "alarm", None, "it is silent", {}, 3, 0, None, None)
    for number in range(10):
        now, wall = number * 1000.0, datetime(2026, 1, 1, number, tzinfo=timezone.utc)
        changes.fault(ledger.accuse(Identity(ONE), HeartbeatPolicy(True), found, now=now, wall=wall))  # type: ignore[arg-type,unused-ignore]
        cleared = ledger.acquit(ONE, Resolution.DELETED, now=now, wall=wall)
        assert cleared is not None
        changes.fault(cleared)
        changes.flush()
        journal.remember(store.commits[-1])
        assert len(journal._state.faults) == len(journal._state.announce) == min(number + 1, KEPT)
    assert [len(commit.messages) for commit in store.commits] == [2] * 10, "each was told, and will be delivered"


def test_another_channel_while_it_runs() -> None:
    """The policy changes: challenged on the new channel at once, disconnected from the old."""
    bench = Bench()
    bench.up(spoken(ONE, "interval='1' timeout='1'"))
    well(bench, ONE)
    assert bench.channels.paths == {}
    bench.host.dead.add(ONE)
    bench.run(0.5)
    bench.engine.post(spoken(ONE))
    bench.run(3)
    asks = len(bench.host.asks)
    assert challenges(bench)
    bench.run(30)
    assert bench.ask("show", instance_uuid=ONE)["state"] == "alive"
    assert len(bench.host.asks) == asks
    bench.host.dead.clear()
    bench.engine.post(spoken(ONE, "interval='1' timeout='1'"))
    bench.run(3)
    said = challenges(bench)
    bench.run(30)
    assert bench.ask("show", instance_uuid=ONE)["state"] == "alive"
    assert challenges(bench) == said
    assert bench.channels.paths == {}


def test_connected_as_long_as_it_runs() -> None:
    """Not to one that is stopped, nor to one that has no such port, nor for one that is not monitored any more."""
    bench = Bench()
    bench.up(spoken(ONE), domain(TWO, ASKED))
    bench.run(61)
    assert bench.channels.paths == {ONE: PATH}
    sign = bench.store.messages("vmhb.worker.alive")[-1]
    assert sign["degraded"] == [f"instance {TWO}'s application channel cannot be reached: not connected yet"]
    bench.engine.post(Happened(ONE, Stopped(Exit.INTENT, "shutdown")))
    bench.run(1)
    assert bench.channels.paths == {}
    bench.engine.post(spoken(ONE, boot="b2", path="/another"))
    bench.run(1)
    assert bench.channels.paths == {ONE: "/another"}
    bench.engine.post(spoken(ONE, "heartbeat='false'", boot="b2"))
    bench.run(1)
    assert bench.channels.paths == {}


def test_what_libvirtd_does_is_no_matter() -> None:
    """A libvirtd that was silent voids nothing of a guest that is not asked through it."""
    bench = Bench()
    bench.up(spoken(ONE))
    well(bench, ONE)
    bench.channels.silent.add(ONE)
    end = bench.clock.now + 5.0
    while bench.clock.now < end:
        bench.engine.turn()
        bench.inbox.post_at(bench.clock.now + 0.2, None)
    bench.engine.post(HypervisorHeard(bench.clock.now))
    bench.run(1)
    assert [raised["cause"] for raised in bench.raised()] == ["application_unresponsive"]


def test_a_suspect_that_stops_is_asked_no_more() -> None:
    """What had not left for its agent is withdrawn."""
    bench = Bench()
    bench.up(spoken(ONE))
    well(bench, ONE)
    for number in range(8):
        bench.engine._lanes.finished(f"nobody-{number}")
    bench.channels.silent.add(ONE)
    bench.host.dead.add(ONE)
    bench.run(4, until=lambda: bench.host.asks)
    bench.engine.post(Happened(ONE, Stopped(Exit.INTENT, "destroyed")))
    bench.run(10)
    assert bench.raised() == []
    assert bench.ask("show", instance_uuid=ONE)["state"] == "gone"


def test_another_channel_ends_what_was_kept_open() -> None:
    """It answered, and whether that lasts was waited for: on a channel that nobody asks any more."""
    bench = Bench()
    bench.up(spoken(ONE))
    well(bench, ONE)
    bench.channels.health = BAD
    bench.run(20)
    assert bench.store.messages("vmhb.fault.updated")[-1]["recommended_action"] == "recover"
    bench.engine.post(domain(ONE))
    bench.run(1)
    assert [fault["resolution"] for fault in bench.cleared()] == ["unmonitored"]
