"""The mission: a guest that is dead runs again, nobody having touched it, and its heartbeat proves it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from openstack.exceptions import ConflictException

from tests.cloud.conftest import Boot
from tests.cloud.stage import Server, Stage
from tests.cloud.story import RAISED, STEPS, Story
from tests.conftest import Figure
from tests.lab.processes import wait_until


def _recovered(server: Server, began: float, figure: Figure, what: str, started: str = "start") -> Story:
    """Follow it to its end: once, and not twice. started: Nova's word for what makes it run again."""
    story = Story(server, began)
    story.follow(started=started)
    for step in STEPS:
        figure(f"cloud: {what} → {step}", story.seconds(step), "s")
    story.assert_recovered(started)
    return story


def test_agent_hangs(boot: Boot, figure: Figure) -> None:
    """Flavor, heartbeat, hang, fault, Masakari, ACTIVE, heartbeat, cleared as recovered."""
    server = boot("monitored")
    server.wait_beats()
    story = _recovered(server, server.hang_agent(), figure, "agent hangs")
    assert story.seconds(RAISED) <= 4.5


@pytest.mark.long
def test_kernel_panics(boot: Boot, figure: Figure) -> None:
    """Nova gives no panic device, so it is the balloon that tells."""
    server = boot("monitored")
    server.wait_beats()
    time.sleep(15)  # the balloon must have answered once
    _recovered(server, server.panic(), figure, "kernel panics")


@pytest.mark.long
def test_qemu_killed(boot: Boot, figure: Figure) -> None:
    """Nova notices too, and powers it off; Masakari starts it again, once."""
    server = boot("monitored")
    server.wait_beats()
    _recovered(server, server.kill_qemu(), figure, "QEMU killed")


@pytest.fixture
def instancemonitor(stage: Stage) -> Iterator[None]:
    """Masakari's own, beside our worker on node1."""
    stage.holder.ask("boot", name="instancemonitor-node1")
    yield
    stage.holder.ask("halt", name="instancemonitor-node1")


@pytest.mark.long
@pytest.mark.usefixtures("instancemonitor")
def test_qemu_killed_beside_instancemonitor(boot: Boot, figure: Figure) -> None:
    """Both report the same crash in the same words, so that Masakari has it once."""
    server = boot("monitored")
    server.wait_beats()
    time.sleep(5)  # the monitor has connected to libvirt
    _recovered(server, server.kill_qemu(), figure, "QEMU killed, beside instancemonitor")


@pytest.mark.long
def test_hangs_during_live_migration(boot: Boot, figure: Figure) -> None:
    """Nothing is said while it moves; then it is recovered where it is."""
    server = boot("monitored", node="node1")
    server.wait_beats()
    domain = server.domain_id()
    wait_until(
        lambda: "urn:openstack:vmhb:state:1" in server.virsh("dumpxml", domain), 5, "it is known on the way, too"
    )
    server.virsh("migrate-setspeed", domain, "2")
    began = server.hang_agent()
    server.stage.api.compute.live_migrate_server(server.uuid, host="node2")
    arrived = server.wait("ACTIVE", timeout=240)
    assert arrived - began > 2 * 4.5, "it did not take long enough to mean anything"
    assert server.node == "node2"
    assert [one for one in server.faults(began) if "node1" in one] == []
    story = _recovered(server, began, figure, "agent hangs during a live migration")
    assert story.at[RAISED] > arrived - 5, "nobody may be accused while he moves"
    assert server.node == "node2"


@pytest.fixture
def our_tasks(stage: Stage) -> Iterator[None]:
    """Masakari's engine has them."""
    stage.holder.ask("tasks", ours=True)
    yield
    stage.holder.ask("tasks", ours=False)


@pytest.mark.long
@pytest.mark.usefixtures("our_tasks")
def test_our_tasks_recover_a_dead_kernel(boot: Boot, figure: Figure) -> None:
    """By a hard reboot at once; and finished means that the guest answers."""
    server = boot("monitored")
    server.wait_beats()
    time.sleep(15)  # the balloon must have answered once
    _recovered(server, server.panic(), figure, "kernel panics, our tasks", started="reboot")
    assert "stop" not in server.actions()


@pytest.mark.long
@pytest.mark.usefixtures("our_tasks")
def test_its_user_stops_it_during_its_recovery(stage: Stage, boot: Boot) -> None:
    """As soon as Nova lets him. Whoever stops his machine finds it stopped, and nobody starts it again."""
    server = boot("monitored")
    server.wait_beats()
    server.hang_agent()
    wait_until(lambda: bool(server.reports()), 60, "Masakari has it", every=0.2)

    def stopped() -> bool:
        try:
            stage.api.compute.stop_server(server.uuid)
        except ConflictException:  # the recovery is at it: he tries again
            return False
        return True

    wait_until(stopped, 60, "Nova lets him stop it", every=1.0)
    server.wait("SHUTOFF")
    started = server.actions().count("start")
    until = time.monotonic() + 45  # the engine's second look at what went wrong comes every 15 s here
    while time.monotonic() < until:
        assert server.now.status == "SHUTOFF"
        time.sleep(1)
    assert server.actions().count("start") == started <= 1
    assert len(server.reports()) == 1
