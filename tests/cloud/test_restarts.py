"""Something of ours or of the cloud's is restarted while a guest is dead: it is recovered all the same, and once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.cloud.conftest import Boot
from tests.cloud.stage import PATIENCE, QUIET, Server, Stage
from tests.cloud.story import CLEARED, Story
from tests.conftest import Figure
from tests.lab.processes import wait_until

pytestmark = pytest.mark.long


def _service(name: str, *, kill: bool = True) -> Callable[[Stage], None]:
    def restart(stage: Stage) -> None:
        stage.holder.ask("halt", name=name, kill=kill)
        stage.holder.ask("boot", name=name)

    return restart


RESTARTS: dict[str, Callable[[Stage], None]] = {
    "worker": _service("vmhb-worker-node1"),
    "consumer": _service("nova-vmhb-consumer"),
    "nova-compute": _service("nova-compute-node1", kill=False),
    "libvirtd": lambda stage: stage.holder.ask("libvirtd", node="node1"),
    "RabbitMQ": lambda stage: stage.holder.ask("broker"),
}


@pytest.mark.parametrize("what", RESTARTS)
def test_restarted_in_the_middle_of_a_fault(stage: Stage, boot: Boot, figure: Figure, what: str) -> None:
    """Between the fault and its recovery."""
    server = boot("monitored")
    server.wait_beats()
    hung = server.hang_agent()
    stage.notifications.wait_fault("raised", server.uuid, 30, since=hung)
    RESTARTS[what](stage)
    story = Story(server, hung)
    story.follow(timeout=300)
    figure(f"cloud: agent hangs, {what} restarted → cleared", story.seconds(CLEARED), "s")
    assert story.resolution == "recovered"
    server.assert_quiet(story.at[CLEARED] + 0.01, 2 * QUIET)
    assert server.actions().count("start") == 1
    assert len(story.masakari) == 1


def _kill_node(stage: Stage, server: Server) -> None:
    """All of the server's node that matters to it, as a power failure: nobody is left to tell of the others."""
    node = server.node
    for name in (f"vmhb-worker-{node}", f"nova-compute-{node}"):
        stage.holder.ask("halt", name=name, kill=True)
    server.kill_qemu()


def test_evacuated(stage: Stage, boot: Boot, figure: Figure) -> None:
    """Monitored on its new node; when the old one is back, nothing is said of what is not its any more."""
    server = boot("monitored", node="node1")
    server.wait_beats()
    died = time.monotonic()
    _kill_node(stage, server)
    (compute,) = stage.api.compute.services(binary="nova-compute", host="node1")
    stage.api.compute.update_service_forced_down(compute, forced=True)
    try:
        stage.api.compute.evacuate_server(server.uuid, host="node2")
        wait_until(lambda: server.node == "node2", PATIENCE, "Nova has it on node2", every=0.3)  # ACTIVE it always was
        active = server.wait("ACTIVE")
        figure("cloud: node killed → ACTIVE on the other", active - died, "s")
        figure("cloud: node killed → beats on the other", server.wait_beats() - died, "s")
        assert server.faults(died) == []
    finally:
        stage.api.compute.update_service_forced_down(compute, forced=False)
        for name in ("nova-compute-node1", "vmhb-worker-node1"):
            stage.holder.ask("boot", name=name)
    server.assert_quiet(died, 20)
    assert server.node == "node2"
    assert server.beats()
