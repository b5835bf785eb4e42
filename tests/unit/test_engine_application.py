"""The engine and the application channel: who is connected to, what is asked, and what is stored and told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.test_engine import ONE, TWO, Bench, domain
from vmhb_worker.core.events import DomainSeen, Exit, Happened, HypervisorHeard, Stopped
from vmhb_worker.core.protocol import Challenge, Check, Goodbye, Health, Hello, Maintenance, Status
from vmhb_worker.interfaces import Saved

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
