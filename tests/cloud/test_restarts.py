"""Something of ours or of the cloud's is restarted while a guest is dead: it is recovered all the same, and once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from openstack.exceptions import BadRequestException

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
    story.assert_recovered(quiet=2 * QUIET)


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
        wait_until(lambda: server.node == "node2", PATIENCE, "Nova has it on node2", every=0.3)
        server.wait("SHUTOFF")  # from microversion 2.95 on, whoever evacuates decides when it runs again
        figure("cloud: node killed → evacuated", time.monotonic() - died, "s")
        started = server.do(stage.api.compute.start_server, then="ACTIVE")
        figure("cloud: evacuated, started → beats on the other node", server.wait_beats() - started, "s")
        assert server.node == "node2"
        assert server.faults(died) == []
    finally:
        for name in ("nova-compute-node1", "vmhb-worker-node1"):
            stage.holder.ask("boot", name=name)

        def forced_up() -> bool:
            try:
                stage.api.compute.update_service_forced_down(compute, forced=False)
            except BadRequestException:  # not before its nova-compute has seen to what was evacuated
                return False
            return True

        wait_until(forced_up, PATIENCE, "Nova takes node1 back", every=1.0)
    # The worker of node1 finds that its QEMU was killed, which is true, and says so. Nobody acts on it.
    time.sleep(20)
    assert not [said for said in stage.notifications.faults(server.uuid, died) if said.host != "node1"]
    assert server.reports() == []
    assert server.actions().count("start") == 1, "that of whoever evacuated it"

    def closed() -> bool:
        said = [one["vmhb_object.data"]["instance_uuid"] for one in stage.consumers.active_faults()]
        return server.uuid not in said

    wait_until(closed, 60, "the consumer closes the fault of a host that Nova has it on no more", every=1.0)
    assert server.node == "node2"
    assert server.beats()
